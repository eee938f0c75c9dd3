package images

import (
	"maps"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
)

// announcer tells the engine's listeners what happened to images. Without events it is silent.
type announcer struct{ events Events }

// image announces what happened to an image, under its ID.
func (a announcer) image(action events.Action, id digest.Digest, labels map[string]string) {
	a.named(action, id, id.String(), labels)
}

// tagged announces a further name, in its familiar form.
func (a announcer) tagged(id digest.Digest, name string, labels map[string]string) {
	a.named(events.ActionTag, id, name, labels)
}

// pruned announces that unused images have gone; reclaimed is in bytes.
func (a announcer) pruned(reclaimed uint64) {
	a.send(events.ImageEventType, events.ActionPrune, events.Actor{Attributes: map[string]string{"reclaimed": strconv.FormatUint(reclaimed, 10)}})
}

// committed announces the image that was made of a container: of the container first, then of the image. ref is canonical or empty.
func (a announcer) committed(c Committable, id digest.Digest, ref, comment string) {
	attrs := attributes(c.Attributes)
	attrs["comment"], attrs["imageID"], attrs["imageRef"] = comment, id.String(), ref
	a.send(events.ContainerEventType, events.ActionCommit, events.Actor{ID: c.ID, Attributes: attrs})
	a.image(events.ActionCreate, id, nil)
}

func (a announcer) named(action events.Action, id digest.Digest, name string, labels map[string]string) {
	attrs := attributes(labels)
	attrs["name"] = name
	a.send(events.ImageEventType, action, events.Actor{ID: id.String(), Attributes: attrs})
}

func (a announcer) send(of events.Type, action events.Action, actor events.Actor) {
	if a.events == nil {
		return
	}
	now := time.Now()
	a.events.Publish(events.Message{Type: of, Action: action, Actor: actor, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano()})
}

// attributes copies what an event begins with: the caller's map is not the event's.
func attributes(from map[string]string) map[string]string {
	attrs := map[string]string{}
	maps.Copy(attrs, from)
	return attrs
}

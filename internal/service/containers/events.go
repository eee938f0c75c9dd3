package containers

import (
	"maps"
	"strconv"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
)

// publish tells of what happened to a container, with Docker's attributes: the
// labels, image and name, and what the action adds.
func (c *core) publish(rec *Container, action events.Action, extra map[string]string) {
	attrs := make(map[string]string, len(rec.Config.Labels)+len(extra)+2)
	maps.Copy(attrs, rec.Config.Labels)
	if rec.Config.Image != "" {
		attrs["image"] = rec.Config.Image
	}
	attrs["name"] = rec.Name
	maps.Copy(attrs, extra)
	now := c.now()
	c.Events.Publish(events.Message{
		Type: events.ContainerEventType, Action: action, Scope: "local",
		Actor: events.Actor{ID: rec.ID, Attributes: attrs},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	})
}

// publishMounts tells of the volumes that a run takes and gives back.
func (c *core) publishMounts(rec *Container, action events.Action) {
	for _, m := range rec.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		attrs := map[string]string{"container": rec.ID, "driver": m.Driver}
		if action == events.ActionMount {
			attrs["destination"], attrs["propagation"], attrs["read/write"] = m.Destination, string(m.Propagation), strconv.FormatBool(m.RW)
		}
		now := c.now()
		c.Events.Publish(events.Message{
			Type: events.VolumeEventType, Action: action, Scope: "local", Actor: events.Actor{ID: m.Name, Attributes: attrs},
			Time: now.Unix(), TimeNano: now.UnixNano(),
		})
	}
}

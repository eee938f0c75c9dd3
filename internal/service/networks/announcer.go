package networks

import (
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/spec"
)

// announcer tells the engine's listeners what happened to networks. Without events it is silent.
type announcer struct{ events Events }

// member announces that a container has come to a network, or left it.
func (a announcer) member(action events.Action, ep spec.Endpoint, container string) {
	if a.events == nil {
		return
	}
	now := time.Now()
	a.events.Publish(events.Message{
		Type: events.NetworkEventType, Action: action, Scope: "local",
		Actor: events.Actor{ID: ep.NetworkID, Attributes: map[string]string{"container": container, "name": ep.NetworkName, "type": ep.Driver}},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	})
}

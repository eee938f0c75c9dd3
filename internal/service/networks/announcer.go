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
	a.tell(action, events.Actor{ID: ep.NetworkID, Attributes: map[string]string{"container": container, "name": ep.NetworkName, "type": ep.Driver}})
}

// network announces that there is a new network, or one less.
func (a announcer) network(action events.Action, n *known) {
	a.tell(action, events.Actor{ID: n.ID, Attributes: map[string]string{"name": n.Name, "type": n.Driver}})
}

// pruned announces that unused networks were removed.
func (a announcer) pruned() {
	a.tell(events.ActionPrune, events.Actor{Attributes: map[string]string{"reclaimed": "0"}})
}

func (a announcer) tell(action events.Action, actor events.Actor) {
	if a.events == nil {
		return
	}
	now := time.Now()
	a.events.Publish(events.Message{Type: events.NetworkEventType, Action: action, Scope: "local", Actor: actor, Time: now.Unix(), TimeNano: now.UnixNano()})
}

package keeper

import (
	"sync"
	"testing"
)

// A client that has not answered an announcement yet is not announced the end. When the process is forgotten before the
// answer comes, nobody hears that any more: the last announcement is due then.
func TestAForgottenProcessIsAnnouncedOnceMore(t *testing.T) {
	c := &client{watches: map[uint32]*watch{}, grew: map[*watch]struct{}{}}
	c.cond = sync.NewCond(&c.mu)
	w := &watch{id: 7, c: c, asleep: true}
	c.addWatch(w)
	var a audience
	a.add(w)
	a.announce(10)
	delete(c.grew, w) // it was sent
	a.announce(10)    // the end
	if _, due := c.grew[w]; due {
		t.Fatal("a client that has not answered is told again: the test is of no use")
	}
	a.dismiss()
	if _, due := c.grew[w]; !due || len(a) != 0 || c.watched(7, false) != nil {
		t.Errorf("announced: %v; watches left: %d", due, len(a))
	}
}

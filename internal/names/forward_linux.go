package names

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// Bounds of what is asked upstream at one time. What exceeds them is answered at once: SERVFAIL.
const (
	waitingEach    = 256  // clients of a container that wait
	waitingAssured = 8    // of these, what a container has whatever the others do
	waitingAll     = 2048 // clients of all containers, but for the assured ones
	sameName       = 16   // different messages of a container about one name and type
	maxServers     = 6    // that a question is taken to
)

// pace is how long things take that go wrong.
type pace struct {
	patience time.Duration // after which a client is told that nobody answered
	stagger  time.Duration // which a server has before the next one is asked as well
	resend   time.Duration // after which a datagram is believed lost
}

// usual is shorter than what a client's resolver waits: five seconds, mostly.
var usual = pace{patience: 3 * time.Second, stagger: 300 * time.Millisecond, resend: time.Second}

// asker is a client that waits.
type asker interface {
	// tell gives it the answer, which is at most limit bytes and not to be kept.
	tell(said []byte)
	limit(q *question) int
	overTCP() bool
}

// forwarder takes questions to upstream servers.
//
// A message that is asked already is not asked once more: its client waits with the others. This, and the bound on
// messages about the same name, is what ends loops: a question that comes back from a server which asks us again meets
// itself, and all wait for one answer that never comes.
type forwarder struct {
	pace   pace
	opener *opener
	tcp    chan struct{} // one for each connection to a server

	running sync.WaitGroup

	mu      sync.Mutex
	waiting int // beyond the assured ones
}

// queue is what a container has upstream. The forwarder's lock guards it.
type queue struct {
	waiting int
	pending map[string]*pending // by message
	about   map[string]int      // how many messages, by name and type
}

func (q *queue) init() { q.pending, q.about = map[string]*pending{}, map[string]int{} }

// pending is a question that is being asked.
type pending struct {
	question *question
	key      string
	about    string
	waiters  []waiter
}

type waiter struct {
	number [2]byte // the message's, which tells a client which question is answered
	asker  asker
}

func newForwarder() *forwarder {
	return &forwarder{pace: usual, opener: newOpener(), tcp: make(chan struct{}, upstreamTCP)}
}

// close ends it. The containers' sockets are closed before, which ends what is being asked.
func (f *forwarder) close() {
	f.running.Wait()
	f.opener.close()
}

// ask has who told the answer to q by one of servers, or that there is none. false: too many wait already.
func (f *forwarder) ask(so *sockets, servers []netproto.Server, q *question, who asker) bool {
	key := messageKey(q, who)
	w := waiter{number: [2]byte(q.raw[:2]), asker: who}
	f.mu.Lock()
	defer f.mu.Unlock()
	if so.queue.waiting >= waitingEach || so.queue.waiting >= waitingAssured && f.waiting >= waitingAll {
		return false
	}
	p := so.queue.pending[key]
	if p == nil {
		about := string(q.name) + "\x00" + string([]byte{byte(q.kind >> 8), byte(q.kind)})
		if so.queue.about[about] >= sameName {
			return false
		}
		p = &pending{question: q.copy(), key: key, about: about}
		so.queue.pending[key] = p
		so.queue.about[about]++
		f.running.Go(func() { f.run(so, servers, p, who.overTCP()) })
	}
	p.waiters = append(p.waiters, w)
	f.count(so, 1)
	return true
}

// messageKey is what makes two messages the same question: all but their numbers.
func messageKey(q *question, who asker) string {
	if who.overTCP() {
		return "t" + string(q.raw[2:])
	}
	return "u" + string(q.raw[2:])
}

// count keeps the sums; the caller holds the lock.
func (f *forwarder) count(so *sockets, n int) {
	before := max(0, so.queue.waiting-waitingAssured)
	so.queue.waiting += n
	f.waiting += max(0, so.queue.waiting-waitingAssured) - before
}

func (f *forwarder) run(so *sockets, servers []netproto.Server, p *pending, overTCP bool) {
	ctx, cancel := context.WithTimeout(so.ctx, f.pace.patience)
	defer cancel()
	said := f.race(ctx, so, servers, p.question, overTCP)
	cancel()

	f.mu.Lock()
	delete(so.queue.pending, p.key)
	if so.queue.about[p.about]--; so.queue.about[p.about] == 0 {
		delete(so.queue.about, p.about)
	}
	waiters := p.waiters
	f.mu.Unlock()
	q := p.question.copy() // as an exchange that comes too late may still read the other one
	for _, w := range waiters {
		copy(q.raw, w.number[:])
		if said == nil {
			w.asker.tell(refuse(q, make([]byte, 0, len(q.raw)+optSize), rcodeServer))
		} else {
			w.asker.tell(relay(q, said, w.asker.limit(q)))
		}
	}
	f.mu.Lock()
	f.count(so, -len(waiters))
	f.mu.Unlock()
}

// race asks one server after the other, the next as soon as one has failed or let a while pass, and gives the first good
// answer; else the first one that is none; else nil.
func (f *forwarder) race(ctx context.Context, so *sockets, servers []netproto.Server, q *question, overTCP bool) []byte {
	servers = servers[:min(len(servers), maxServers)]
	answers := make(chan []byte, len(servers))
	next := time.NewTimer(0)
	defer next.Stop()
	var poor []byte
	asked, told := 0, 0
	for {
		select {
		case <-next.C:
			if asked < len(servers) {
				server := servers[asked]
				asked++
				f.running.Go(func() { answers <- f.exchange(ctx, so, server, q, overTCP) })
				next.Reset(f.pace.stagger)
			}
		case said := <-answers:
			told++
			if said != nil && good(said) {
				return said
			}
			if poor == nil {
				poor = said
			}
			if told == len(servers) {
				return poor
			}
			if told == asked {
				next.Reset(0)
			}
		case <-ctx.Done():
			return poor
		}
	}
}

// good tells an answer from a server's excuse.
func good(said []byte) bool {
	rcode := binary.BigEndian.Uint16(said[2:]) & rcodeMask
	return rcode == rcodeSuccess || rcode == rcodeName
}

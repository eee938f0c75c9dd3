package hooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
)

// Hook is somebody who wants to be told.
type Hook struct {
	URL          string
	SecretFile   string // events are signed with what is in it; empty: not signed
	Headers      map[string]string
	Actions      []Action         // none: all
	Repositories []naming.Pattern // none: all
	Timeout      time.Duration    // of one request; 0 means 5 s
	Queue        int              // events that may wait; 0 means 1000
	Attempts     int              // times that a request is tried; 0 means 8
}

// MediaType is what events are sent as: the envelope of Docker's registry.
const MediaType = "application/vnd.docker.distribution.events.v2+json"

// Signature is the header with sha256=HEX, the HMAC of the body.
const Signature = "X-Gantry-Signature"

// maxTogether bounds how many events go in one request.
const maxTogether = 100

// How long is waited before a request is tried again: doubled each time, with some chance in it.
const (
	firstPause = time.Second
	maxPause   = 2 * time.Minute
)

// Counter counts events by how they ended. Implemented by metrics.Metrics.
type Counter interface {
	Hook(result string)
}

// Sender sends events. Each hook has a queue of its own, so that a slow one holds up no other.
type Sender struct {
	targets  []*target
	counter  Counter
	log      *slog.Logger
	instance string
	stop     context.CancelFunc
	behind   sync.WaitGroup
}

// target is a hook with its queue.
type target struct {
	Hook
	secret []byte
	queue  chan Event
	client *http.Client
	pause  func(context.Context, time.Duration) error // tests do not wait
}

// New starts senders; nil if there is no hook. It has to be closed.
func New(list []Hook, c Counter, log *slog.Logger) (*Sender, error) {
	if len(list) == 0 {
		return nil, nil
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	s := &Sender{counter: c, log: log, instance: hex.EncodeToString(id)}
	for _, h := range list {
		t, err := newTarget(h)
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, t)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	for _, t := range s.targets {
		s.behind.Go(func() { s.run(ctx, t) })
	}
	return s, nil
}

func newTarget(h Hook) (*target, error) {
	if h.Timeout <= 0 {
		h.Timeout = 5 * time.Second
	}
	if h.Queue <= 0 {
		h.Queue = 1000
	}
	if h.Attempts <= 0 {
		h.Attempts = 8
	}
	t := &target{Hook: h, queue: make(chan Event, h.Queue), pause: sleep}
	t.client = &http.Client{Timeout: h.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if h.SecretFile == "" {
		return t, nil
	}
	b, err := os.ReadFile(h.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("the secret of the hook %s: %w", h.URL, err)
	}
	if t.secret = bytes.TrimSpace(b); len(t.secret) == 0 {
		return nil, fmt.Errorf("the secret of the hook %s: %s is empty", h.URL, h.SecretFile)
	}
	return t, nil
}

// Notify takes an event. It never waits: what does not fit into a queue is dropped, and counted.
func (s *Sender) Notify(e Event) {
	e.Source.InstanceID = s.instance
	for _, t := range s.targets {
		if !t.wants(e) {
			continue
		}
		select {
		case t.queue <- e:
		default:
			s.counter.Hook("dropped")
		}
	}
}

func (t *target) wants(e Event) bool {
	if len(t.Actions) > 0 && !slices.Contains(t.Actions, e.Action) {
		return false
	}
	return len(t.Repositories) == 0 || slices.ContainsFunc(t.Repositories, func(p naming.Pattern) bool { return p.Match(e.Target.Repository) })
}

// run sends a target's events, those that wait together.
func (s *Sender) run(ctx context.Context, t *target) {
	for {
		var batch []Event
		select {
		case <-ctx.Done():
			return
		case e := <-t.queue:
			batch = append(batch, e)
		}
	more:
		for len(batch) < maxTogether {
			select {
			case e := <-t.queue:
				batch = append(batch, e)
			default:
				break more
			}
		}
		result := "sent"
		if err := t.deliver(ctx, batch); err != nil {
			result = "failed"
			s.log.Error("events were not taken", "hook", t.URL, "events", len(batch), "error", err)
		}
		for range batch {
			s.counter.Hook(result)
		}
	}
}

// deliver tries until a batch is taken, refused for good, or tried often enough.
func (t *target) deliver(ctx context.Context, batch []Event) error {
	body, err := json.Marshal(map[string][]Event{"events": batch})
	if err != nil {
		return err
	}
	wait := firstPause
	for attempt := 1; ; attempt++ {
		again, err := t.post(ctx, body)
		if err == nil || !again || attempt >= t.Attempts {
			return err
		}
		if perr := t.pause(ctx, wait+mathrand.N(wait/4)); perr != nil {
			return fmt.Errorf("%w, and the registry ends", err)
		}
		wait = min(2*wait, maxPause)
	}
}

// post sends once, and tells whether it may help to send again.
func (t *target) post(ctx context.Context, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", MediaType)
	for k, v := range t.Headers {
		req.Header.Set(k, v)
	}
	if t.secret != nil {
		mac := hmac.New(sha256.New, t.secret)
		_, _ = mac.Write(body)
		req.Header.Set(Signature, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode < 300 {
		return false, nil
	}
	busy := resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
	return busy, fmt.Errorf("it answered %s", strings.TrimSpace(resp.Status))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drainTime is how long events may still be sent when the registry ends.
const drainTime = 2 * time.Second

// Close gives the queues a moment, and ends. What is left is dropped and counted.
func (s *Sender) Close() {
	until := time.Now().Add(drainTime)
	for time.Now().Before(until) && slices.ContainsFunc(s.targets, func(t *target) bool { return len(t.queue) > 0 }) {
		time.Sleep(20 * time.Millisecond)
	}
	s.stop()
	s.behind.Wait()
	for _, t := range s.targets {
		for range len(t.queue) {
			s.counter.Hook("dropped")
		}
	}
}

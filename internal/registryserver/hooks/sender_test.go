package hooks

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
)

type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) Hook(result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[result]++
}

func (c *tally) of(result string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[result]
}

// receiver takes events after it has answered with each of the statuses.
func receiver(t *testing.T, statuses ...int) (url string, got <-chan *http.Request, bodies <-chan []byte) {
	t.Helper()
	requests, content := make(chan *http.Request, 100), make(chan []byte, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		requests <- r
		content <- b
		if len(statuses) > 0 {
			w.WriteHeader(statuses[0])
			statuses = statuses[1:]
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, requests, content
}

func sender(t *testing.T, h Hook) (*Sender, *tally) {
	t.Helper()
	c := &tally{n: map[string]int{}}
	s, err := New([]Hook{h}, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, c
}

func event(a Action, repo string) Event { return Event{Action: a, Target: Target{Repository: repo}} }

func TestSigned(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, requests, bodies := receiver(t)
	s, _ := sender(t, Hook{URL: url, SecretFile: secret, Headers: map[string]string{"X-Own": "1"}})
	s.Notify(event(Push, "a"))
	r, body := <-requests, <-bodies
	mac := hmac.New(sha256.New, []byte("key"))
	_, _ = mac.Write(body)
	if got, want := r.Header.Get(Signature), "sha256="+hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
	var envelope struct{ Events []Event }
	if err := json.Unmarshal(body, &envelope); err != nil || envelope.Events[0].Target.Repository != "a" || envelope.Events[0].Source.InstanceID == "" {
		t.Errorf("%s %v", body, err)
	}
	if r.Header.Get("Content-Type") != MediaType || r.Header.Get("X-Own") != "1" {
		t.Errorf("%v", r.Header)
	}
}

func TestSelected(t *testing.T) {
	url, _, bodies := receiver(t)
	s, _ := sender(t, Hook{URL: url, Actions: []Action{Delete}, Repositories: []naming.Pattern{"team/*"}})
	s.Notify(event(Push, "team/a"))
	s.Notify(event(Delete, "other"))
	s.Notify(event(Delete, "team/b"))
	var envelope struct{ Events []Event }
	if err := json.Unmarshal(<-bodies, &envelope); err != nil || len(envelope.Events) != 1 || envelope.Events[0].Target.Repository != "team/b" {
		t.Errorf("%+v %v", envelope, err)
	}
}

// deliver is tried without the sender's goroutine, and without waiting.
func TestAgainWhereItHelps(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		posts    int
		fails    bool
	}{
		"taken":       {nil, 1, false},
		"busy":        {[]int{503, 429, 500}, 4, false},
		"refused":     {[]int{400}, 1, true},
		"always busy": {[]int{500, 500, 500, 500, 500}, 5, true},
	} {
		url, requests, _ := receiver(t, c.statuses...)
		target, err := newTarget(Hook{URL: url, Attempts: 5})
		if err != nil {
			t.Fatal(err)
		}
		var pauses []time.Duration
		target.pause = func(_ context.Context, d time.Duration) error {
			pauses = append(pauses, d)
			return nil
		}
		err = target.deliver(t.Context(), []Event{event(Push, "a")})
		if (err != nil) != c.fails || len(requests) != c.posts {
			t.Errorf("%s: %v after %d posts", name, err, len(requests))
		}
		for i := 1; i < len(pauses); i++ {
			if pauses[i] <= pauses[i-1] {
				t.Errorf("%s: pauses %v do not grow", name, pauses)
			}
		}
	}
}

// A hook that takes nothing holds nobody up, and its queue ends.
func TestQueueIsBounded(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer s.Close()
	defer close(hang)
	c := &tally{n: map[string]int{}}
	one, err := newTarget(Hook{URL: s.URL, Queue: 3})
	if err != nil {
		t.Fatal(err)
	}
	sender := &Sender{targets: []*target{one}, counter: c}
	for range 10 {
		sender.Notify(event(Push, "a"))
	}
	if got := c.of("dropped"); got != 7 {
		t.Errorf("%d events were dropped, want 7", got)
	}
}

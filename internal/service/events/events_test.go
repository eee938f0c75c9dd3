package events

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

func hub() *Service { return New(slog.New(slog.DiscardHandler)) }

func ev(kind events.Type, action events.Action, id string, attrs ...string) events.Message {
	m := events.Message{Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: map[string]string{}}}
	for i := 0; i+1 < len(attrs); i += 2 {
		m.Actor.Attributes[attrs[i]] = attrs[i+1]
	}
	return m
}

func drain(t *testing.T, s *Subscription) (ids []string) {
	t.Helper()
	for {
		m, err := s.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return ids
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.Actor.ID)
	}
}

func TestKeepsTheLast256InOrder(t *testing.T) {
	s := hub()
	for i := range 300 {
		s.Publish(ev("container", "start", strconv.Itoa(i)))
	}
	sub, err := s.Subscribe(Query{Until: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	ids := drain(t, sub)
	if len(ids) != Kept || ids[0] != "44" || ids[255] != "299" {
		t.Errorf("%d events from %s to %s", len(ids), ids[0], ids[len(ids)-1])
	}
	sub.Close()
	if s.Listeners() != 0 {
		t.Error("a closed subscription is still counted")
	}
}

func TestSinceIsExact(t *testing.T) {
	s := hub()
	fixed := time.Now()
	s.now = func() time.Time { return fixed }
	for i := range 3 {
		s.Publish(ev("container", "start", strconv.Itoa(i)))
	}
	sub, _ := s.Subscribe(Query{Since: fixed.Add(1), Until: time.Now()})
	if ids := drain(t, sub); len(ids) != 2 || ids[0] != "1" {
		t.Errorf("since the second of three: %v", ids)
	}
	if _, err := s.Subscribe(Query{Since: fixed, Until: fixed.Add(-1)}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("until before since: %v", err)
	}
}

func TestLiveEventsAndCancellation(t *testing.T) {
	s := hub()
	s.Publish(ev("container", "start", "before"))
	sub, err := s.Subscribe(Query{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	go s.Publish(ev("container", "die", "live"))
	m, err := sub.Next(context.Background())
	if err != nil || m.Actor.ID != "live" || m.Scope != "local" || m.Time == 0 || m.TimeNano/int64(time.Second) != m.Time {
		t.Errorf("%+v, %v", m, err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("gone"))
	if _, err := sub.Next(ctx); err == nil || err.Error() != "gone" {
		t.Errorf("after cancellation: %v", err)
	}
}

func TestSlowClientIsCutOffAndOthersAreNot(t *testing.T) {
	s := hub()
	slow, _ := s.Subscribe(Query{})
	for i := range maxBehind + 1 {
		s.Publish(ev("container", "start", strconv.Itoa(i)))
	}
	if s.Listeners() != 0 {
		t.Error("the slow client is still subscribed")
	}
	if _, err := slow.Next(context.Background()); err == nil {
		t.Error("the slow client sees a hole instead of an error")
	}
}

func TestFilters(t *testing.T) {
	c := ev("container", "exec_create: sh -c x", "abcdef", "name", "web", "image", "nginx:1.27", "tier", "front")
	c.Scope = "local"
	img := ev("image", "tag", "sha256:1", "name", "nginx:latest")
	img.Scope = "local"
	net := ev("network", "connect", "net1", "name", "bridge", "container", "abcdef")
	net.Scope = "swarm"
	for _, x := range []struct {
		f    filters.Args
		m    events.Message
		want bool
	}{
		{nil, c, true},
		{filters.Args{"type": {"container"}}, c, true},
		{filters.Args{"type": {"image"}}, c, false},
		{filters.Args{"event": {"exec_create"}}, c, true},
		{filters.Args{"event": {"exec_create: sh -c x"}}, c, true},
		{filters.Args{"event": {"exec"}}, c, false},
		{filters.Args{"container": {"abc"}}, c, true},
		{filters.Args{"container": {"/web"}}, c, true},
		{filters.Args{"container": {"bcd"}}, c, false},
		{filters.Args{"container": {"abc"}}, net, false},
		{filters.Args{"image": {"nginx"}}, c, true},
		{filters.Args{"image": {"nginx:1.27"}}, c, true},
		{filters.Args{"image": {"nginx:1.28"}}, c, false},
		{filters.Args{"image": {"nginx"}}, img, true},
		{filters.Args{"image": {"sha256:1"}}, img, true},
		{filters.Args{"label": {"tier=front"}}, c, true},
		{filters.Args{"label": {"tier", "none"}}, c, false},
		{filters.Args{"scope": {"swarm"}}, net, true},
		{filters.Args{"scope": {"swarm"}}, c, false},
		{filters.Args{"network": {"bridge"}}, net, true},
		{filters.Args{"volume": {"v"}}, c, false},
		{filters.Args{"container": {"abc"}, "event": {"die"}}, c, false},
	} {
		if got := matches(x.f, x.m); got != x.want {
			t.Errorf("%v on %s %s: %v", x.f, x.m.Type, x.m.Action, got)
		}
	}
	if _, err := hub().Subscribe(Query{Filters: filters.Args{"colour": {"red"}}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an unknown filter: %v", err)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Unix(1000, 0)
	for in, want := range map[string]time.Time{
		"": {}, "10": time.Unix(10, 0), "10.5": time.Unix(10, 500_000_000), "10.000000001": time.Unix(10, 1), "10s": time.Unix(990, 0),
		"2006-01-02T15:04:05Z": time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC), "2006-01-02T15:04:05.5+01:00": time.Date(2006, 1, 2, 14, 4, 5, 500_000_000, time.UTC),
		"2006-01-02": time.Date(2006, 1, 2, 0, 0, 0, 0, time.Local), "2006-01-02T15:04": time.Date(2006, 1, 2, 15, 4, 0, 0, time.Local),
	} {
		if got, err := ParseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"yesterday", "1.x", "1.0000000001", "99999999999999999999", "-"} {
		if got, err := ParseTime(in, now); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q became %v, %v", in, got, err)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("1.5")
	f.Add("2006-01-02T15:04:05Z")
	f.Fuzz(func(t *testing.T, s string) { _, _ = ParseTime(s, time.Unix(0, 0)) })
}

func FuzzFilters(f *testing.F) {
	f.Add(`{"image":{"a:b":true}}`, "a:b")
	f.Fuzz(func(_ *testing.T, s, id string) {
		if a, err := filters.Parse(s); err == nil {
			matches(a, ev("image", "tag", id, "name", id))
		}
	})
}

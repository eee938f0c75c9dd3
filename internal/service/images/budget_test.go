package images

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func entryOf(name string, names ...string) *entry {
	return &entry{target: ocispec.Descriptor{Digest: digest.FromString(name)}, names: names}
}

// Images go in this order: without a name first, then by their last use; what a container uses and what was just used stays.
func TestBudgetsOrder(t *testing.T) {
	now := time.Now()
	old, older, nameless, fresh, used := entryOf("old", "docker.io/library/old:1"), entryOf("older", "docker.io/library/older:1"), entryOf("nameless"), entryOf("fresh", "docker.io/library/fresh:1"), entryOf("used", "docker.io/library/used:1")
	l := newLastUse("", slog.New(slog.DiscardHandler))
	for e, ago := range map[*entry]time.Duration{old: time.Hour, older: 2 * time.Hour, nameless: time.Hour / 2, fresh: time.Minute, used: 100 * time.Hour} {
		l.at[e.target.Digest] = now.Add(-ago)
	}
	c := &catalog{uses: l}
	byID := map[digest.Digest]*entry{}
	for _, e := range []*entry{old, older, nameless, fresh, used} {
		byID[e.target.Digest] = e
	}
	c.replace(byID)
	b := &budget{catalog: c, uses: l, users: &users{running{used.target.Digest}}}
	var got []string
	for _, e := range b.unused(t.Context(), now) {
		got = append(got, e.title())
	}
	if want := []string{nameless.title(), "older:1", "old:1"}; !slices.Equal(got, want) {
		t.Errorf("they go in the order %v, want %v", got, want)
	}
}

type running struct{ id digest.Digest }

func (r running) Uses(context.Context) []ContainerUse { return []ContainerUse{{ID: "c", Image: r.id}} }
func (running) Snapshot(context.Context, string, bool, func(context.Context, Committable) error) error {
	return nil
}

func TestLastUseIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "used.json")
	log := slog.New(slog.DiscardHandler)
	e := entryOf("x")
	l := newLastUse(file, log)
	l.touch(e.target.Digest)
	l.save()
	was := l.of(e)
	if again := newLastUse(file, log).of(e); !again.Equal(was) || time.Since(was) > time.Minute {
		t.Errorf("used at %v, after a restart %v", was, again)
	}
	e.tagged = time.Now().Add(time.Hour)
	if got := l.of(e); !got.Equal(e.tagged) {
		t.Errorf("a name is a use: %v", got)
	}
}

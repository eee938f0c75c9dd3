package images

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

// lastUse is when each image was used last: pulled, loaded, made, tagged, or taken for a container. It is a hint: what a crash
// loses of it changes which image goes first, nothing else.
type lastUse struct {
	file string // "" keeps nothing
	log  *slog.Logger

	mu     sync.Mutex
	at     map[digest.Digest]time.Time
	saving bool
}

// lastUseDelay is how long a change may be unsaved.
const lastUseDelay = 30 * time.Second

func newLastUse(file string, log *slog.Logger) *lastUse {
	l := &lastUse{file: file, log: log, at: map[digest.Digest]time.Time{}}
	if file == "" {
		return l
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &l.at)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("when images were used last is not known any more", "error", err)
	}
	if l.at == nil {
		l.at = map[digest.Digest]time.Time{}
	}
	return l
}

// touch notes a use.
func (l *lastUse) touch(id digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at[id] = time.Now().UTC()
	if l.saving || l.file == "" {
		return
	}
	l.saving = true
	time.AfterFunc(lastUseDelay, l.save)
}

// of is when an image was used last; one that never was counts from when it got its name.
func (l *lastUse) of(e *entry) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.at[e.target.Digest]; t.After(e.tagged) {
		return t
	}
	return e.tagged
}

// keep forgets all images but some.
func (l *lastUse) keep(exists func(digest.Digest) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.at {
		if !exists(id) {
			delete(l.at, id)
		}
	}
}

func (l *lastUse) save() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saving = false
	if l.file == "" {
		return
	}
	b, err := json.Marshal(l.at)
	if err == nil {
		err = atomicfile.WriteVolatile(l.file, b, 0o600)
	}
	if err != nil {
		l.log.Warn("when images were used last could not be saved", "error", err)
	}
}

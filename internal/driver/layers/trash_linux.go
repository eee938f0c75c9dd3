package layers

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// trash takes directories out of sight at once, by a rename, and deletes them in the background. What a crash has left of it
// is deleted after the next Open.
type trash struct {
	dir      string
	queue    chan waste
	overflow atomic.Bool // the folder has more than the queue
	closed   chan struct{}
	once     sync.Once
}

// waste is a directory to be deleted.
type waste struct {
	dir   string
	chain string // not empty: a writable layer that may be used again
}

// trashDelay is how long a deletion waits, out of sight already: what waits for an answer
// comes first, and a container's last mount is gone by then.
const trashDelay = 30 * time.Millisecond

func newTrash(dir string) *trash {
	return &trash{dir: dir, queue: make(chan waste, 256), closed: make(chan struct{})}
}

// discard throws a directory away.
func (t *trash) discard(dir string) error { return t.away(dir, "") }

// away is discard for a container's directory, which may serve the next container of the same chain.
func (t *trash) away(dir, chain string) error {
	id := make([]byte, 12)
	_, _ = rand.Read(id)
	to := filepath.Join(t.dir, hex.EncodeToString(id))
	if err := os.Rename(dir, to); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	failpoint.Hit("gantryd.layer-away")
	t.add(waste{to, chain})
	return nil
}

// resume deletes what a former daemon has left.
func (t *trash) resume() error {
	entries, err := os.ReadDir(t.dir)
	for _, e := range entries {
		t.add(waste{dir: filepath.Join(t.dir, e.Name())})
	}
	return err
}

func (t *trash) add(w waste) {
	select {
	case t.queue <- w:
	default:
		t.overflow.Store(true) // empty reads the folder when it has caught up
	}
}

// empty deletes until close; reuse takes what it can use out of it, and tells whether it did.
func (t *trash) empty(reuse func(waste) bool) {
	for {
		var batch []waste
		select {
		case <-t.closed:
			return
		case w := <-t.queue:
			batch = append(batch, w)
		}
		select {
		case <-t.closed:
			return
		case <-time.After(trashDelay):
		}
		for range len(t.queue) {
			batch = append(batch, <-t.queue)
		}
		for _, w := range batch {
			if w.chain == "" || !reuse(w) {
				_ = os.RemoveAll(w.dir)
			}
			failpoint.Hit("gantryd.layer-deleted")
		}
		if len(t.queue) > 0 || !t.overflow.Swap(false) {
			continue
		}
		entries, _ := os.ReadDir(t.dir)
		for _, e := range entries {
			_ = os.RemoveAll(filepath.Join(t.dir, e.Name()))
		}
	}
}

// close stops the deletions.
func (t *trash) close() { t.once.Do(func() { close(t.closed) }) }

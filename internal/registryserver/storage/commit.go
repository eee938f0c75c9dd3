package storage

import (
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"
)

// maxBatch bounds how many changes share a commit.
const maxBatch = 256

var errClosed = errors.New("the registry's store is closed")

// txn is a transaction under way, with what it changes in the sums.
type txn struct {
	*bbolt.Tx
	s     *Store
	used  map[string]int64 // change of a repository's bytes
	total int64            // change of the store's
}

// change is one caller's part of a commit. apply may run more than once, and changes nothing but the transaction and gone.
type change struct {
	folder string // synced before the commit; empty for none
	apply  func(*txn) ([]digest.Digest, error)
	gone   []digest.Digest // content that lost its last link
	done   chan error
}

// committer is the only writer of the database. Changes that arrive while it commits share the next commit.
type committer struct {
	s      *Store
	queue  chan *change
	mu     sync.RWMutex // held for reading while something is put into the queue
	closed bool
	ended  chan struct{}
}

func startCommitter(s *Store) *committer {
	c := &committer{s: s, queue: make(chan *change, maxBatch), ended: make(chan struct{})}
	go c.run()
	return c
}

func (c *committer) stop() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
	}
	c.mu.Unlock()
	<-c.ended
}

func (c *committer) run() {
	defer close(c.ended)
	for first := range c.queue {
		batch := []*change{first}
	more:
		for len(batch) < maxBatch {
			select {
			case next, ok := <-c.queue:
				if !ok {
					break more
				}
				batch = append(batch, next)
			default:
				break more
			}
		}
		c.commit(c.synced(batch))
	}
}

// synced syncs the folders of a batch, each once, and gives the changes for which that worked.
func (c *committer) synced(batch []*change) []*change {
	results := map[string]error{"": nil}
	kept := batch[:0]
	for _, ch := range batch {
		err, known := results[ch.folder]
		if !known {
			err = syncDir(ch.folder)
			results[ch.folder] = err
		}
		if err != nil {
			ch.done <- explain("writing content to disk", err)
			continue
		}
		kept = append(kept, ch)
	}
	return kept
}

// commit makes the changes durable. One that fails is taken out, and the others are tried again.
func (c *committer) commit(batch []*change) {
	for len(batch) > 0 {
		failed := -1
		t := &txn{s: c.s, used: map[string]int64{}}
		err := c.s.db.Update(func(tx *bbolt.Tx) error {
			t.Tx = tx
			for i, ch := range batch {
				var err error
				if ch.gone, err = run(t, ch.apply); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed >= 0 {
			batch[failed].done <- err
			batch = append(batch[:failed], batch[failed+1:]...)
			continue
		}
		if err != nil {
			err = explain("recording what changed", err)
		} else {
			c.s.settle(t)
		}
		for _, ch := range batch {
			ch.done <- err
		}
		return
	}
}

// run keeps a change that panics from taking the others along.
func run(t *txn, apply func(*txn) ([]digest.Digest, error)) (gone []digest.Digest, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("recording a change: %v", r)
		}
	}()
	return apply(t)
}

// write makes a change durable, and then removes the files of what lost its last link.
func (s *Store) write(folder string, apply func(*txn) ([]digest.Digest, error)) (freed int64, err error) {
	ch := &change{folder: folder, apply: apply, done: make(chan error, 1)}
	c := s.commits
	c.mu.RLock()
	if c.closed {
		c.mu.RUnlock()
		return 0, errClosed
	}
	c.queue <- ch
	c.mu.RUnlock()
	if err := <-ch.done; err != nil {
		return 0, err
	}
	freed, err = s.drop(ch.gone)
	if err != nil { // what it leaves is found by the next sweep
		s.log.Warn("content that nothing refers to could not be removed", "error", err)
	}
	return freed, nil
}

// settle takes over what a transaction changed in the sums.
func (s *Store) settle(t *txn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += t.total
	for name, n := range t.used {
		if s.used[name] += n; s.used[name] == 0 {
			delete(s.used, name)
		}
	}
}

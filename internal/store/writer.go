package store

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

var errClosed = errors.New("the store is closed")

type key struct{ bucket, id string }

// op is one change. Changes of a batch are applied in the order of seq.
type op struct {
	key   key
	seq   uint64
	value []byte // nil deletes
	soon  bool
}

// writer commits changes, one batch at a time. Urgent changes wake it; soon
// ones ride along with the next commit or have one of their own after soonDelay.
type writer struct {
	store *Store

	mu      sync.Mutex
	seq     uint64
	urgent  []op
	soon    map[key]op // the latest per record: older ones need not reach the disk
	waiters []chan error
	closed  bool

	wake  chan struct{} // something urgent is there, or closing
	timer *time.Timer   // armed while soon is not empty
	due   time.Time     // when it fires
	done  chan struct{}
}

func (w *writer) start(s *Store) {
	w.store = s
	w.soon = map[key]op{}
	w.wake = make(chan struct{}, 1)
	w.timer = time.NewTimer(time.Hour)
	w.timer.Stop()
	w.done = make(chan struct{})
	go w.run()
}

// commit makes the change durable, and returns when it is.
func (w *writer) commit(k key, value []byte) error {
	return w.enqueue(&op{key: k, value: value})
}

// flush commits all that is pending.
func (w *writer) flush() error { return w.enqueue(nil) }

func (w *writer) enqueue(o *op) error {
	answer := make(chan error, 1)
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errClosed
	}
	if o != nil {
		w.seq++
		o.seq = w.seq
		w.urgent = append(w.urgent, *o)
	}
	w.waiters = append(w.waiters, answer)
	w.mu.Unlock()
	w.poke()
	return <-answer
}

// later records a change that may wait, and gives its number.
func (w *writer) later(k key, value []byte) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		w.store.log.Error("a record was saved after the store was closed", "bucket", k.bucket, "id", k.id)
		return 0
	}
	delay := soonDelay
	if value == nil {
		delay = goneDelay // until then a power cut brings it back
	}
	if due := time.Now().Add(delay); len(w.soon) == 0 || due.Before(w.due) {
		w.due = due
		w.timer.Reset(delay)
	}
	w.seq++
	w.soon[k] = op{key: k, seq: w.seq, value: value, soon: true}
	return w.seq
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) stop() error {
	err := w.flush()
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return err
	}
	w.closed = true
	w.mu.Unlock()
	w.poke()
	<-w.done
	return err
}

func (w *writer) run() {
	defer close(w.done)
	for {
		select {
		case <-w.wake:
		case <-w.timer.C:
		}
		w.mu.Lock()
		batch := w.urgent
		for _, o := range w.soon {
			batch = append(batch, o)
		}
		waiters, closed := w.waiters, w.closed
		w.urgent, w.waiters = nil, nil
		clear(w.soon)
		w.timer.Stop()
		w.mu.Unlock()

		err := w.write(batch)
		if err != nil {
			w.keep(batch, err)
		}
		for _, c := range waiters {
			c <- err
		}
		if err == nil {
			w.tell(batch)
		}
		if closed {
			return
		}
	}
}

func (w *writer) write(batch []op) error {
	if len(batch) == 0 {
		return nil
	}
	failpoint.Hit("gantryd.store-commit")
	slices.SortFunc(batch, func(a, b op) int { return cmp.Compare(a.seq, b.seq) })
	err := w.store.db.Update(func(tx *bbolt.Tx) error {
		for _, o := range batch {
			b, err := tx.CreateBucketIfNotExists([]byte(o.key.bucket))
			if err != nil {
				return err
			}
			if o.value == nil {
				err = b.Delete([]byte(o.key.id))
			} else {
				err = b.Put([]byte(o.key.id), o.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return explain("committing records to", w.store.path, err)
	}
	failpoint.Hit("gantryd.store-committed")
	return nil
}

// tell lets the buckets know what of their pending records is durable.
func (w *writer) tell(batch []op) {
	for _, o := range batch {
		if o.soon {
			w.store.durable(o.key, o.seq)
		}
	}
}

// keep puts those changes of a failed batch back that nobody waits for: they
// are tried again. Urgent ones were reported as failed and are forgotten.
func (w *writer) keep(batch []op, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := 0
	for _, o := range batch {
		if !o.soon {
			continue
		}
		if newer, ok := w.soon[o.key]; !ok || newer.seq < o.seq {
			w.soon[o.key] = o
		}
		kept++
	}
	if kept > 0 {
		w.store.log.Error("records could not be written and will be tried again", "records", kept, "error", err)
		w.due = time.Now().Add(soonDelay)
		w.timer.Reset(soonDelay)
	}
}

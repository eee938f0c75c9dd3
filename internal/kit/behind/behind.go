// Package behind runs work that goes on after its caller was answered.
package behind

import "sync"

// Work is what goes on behind. Its zero value is ready to use. Other than of a sync.WaitGroup, Go may be called
// while Wait waits, also by what it waits for.
type Work struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0 again; nil while nobody waits
}

// Go runs f in a goroutine of its own.
func (w *Work) Go(f func()) {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
	go func() {
		defer w.done()
		f()
	}()
}

func (w *Work) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.none != nil {
		close(w.none)
		w.none = nil
	}
}

// Wait waits until nothing is under way.
func (w *Work) Wait() {
	w.mu.Lock()
	if w.n == 0 {
		w.mu.Unlock()
		return
	}
	if w.none == nil {
		w.none = make(chan struct{})
	}
	none := w.none
	w.mu.Unlock()
	<-none
}

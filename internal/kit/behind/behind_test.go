package behind

import (
	"sync/atomic"
	"testing"
)

func TestWaitWaitsForWorkThatBeginsMeanwhile(t *testing.T) {
	var w Work
	w.Wait() // for nothing
	var done atomic.Int32
	gate, waited := make(chan struct{}), make(chan struct{})
	w.Go(func() {
		<-gate
		w.Go(func() { done.Add(1) })
		done.Add(1)
	})
	for range 2 { // any number may wait
		go func() { w.Wait(); waited <- struct{}{} }()
	}
	select {
	case <-waited:
		t.Fatal("waited for nothing")
	default:
	}
	close(gate)
	<-waited
	<-waited
	if n := done.Load(); n != 2 {
		t.Errorf("%d of 2 were done", n)
	}
}

package undo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestRunsBackwardsAndGoesOn(t *testing.T) {
	var order []string
	var s Stack
	s.Push("first", func(context.Context) error { order = append(order, "first"); return nil })
	s.Push("second", func(context.Context) error { order = append(order, "second"); return errors.New("stuck") })
	s.Push("third", func(ctx context.Context) error { order = append(order, "third"); return ctx.Err() })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := errors.New("the cause")
	s.OnError(ctx, &err)
	if want := []string{"third", "second", "first"}; !slices.Equal(order, want) {
		t.Fatalf("order %v, want %v", order, want)
	}
	if !strings.Contains(err.Error(), "the cause") || !strings.Contains(err.Error(), "undoing second: stuck") {
		t.Fatalf("error %q does not name the cause and the failed undo", err)
	}
	if strings.Contains(err.Error(), "third") {
		t.Fatalf("the request's cancellation reached an undo: %v", err)
	}
}

func TestSuccessKeeps(t *testing.T) {
	var s Stack
	s.Push("x", func(context.Context) error { t.Error("undone after success"); return nil })
	var err error
	s.OnError(context.Background(), &err)
	if err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

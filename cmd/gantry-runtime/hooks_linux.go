package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/runtime/program"
)

// runHook runs a hook in the runtime's namespaces with the state on its standard input. A hook
// without a timeout may take as long as it likes.
func runHook(ctx context.Context, h specs.Hook, state *specs.State) error {
	in, err := json.Marshal(state)
	if err != nil {
		return err
	}
	outer := ctx
	if h.Timeout != nil {
		if *h.Timeout <= 0 {
			return fmt.Errorf("hook %s: its timeout of %d seconds is not above zero", h.Path, *h.Timeout)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = h.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would be our own
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &out
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case outer.Err() != nil:
		return fmt.Errorf("hook %s: %w", h.Path, context.Cause(outer))
	case ctx.Err() != nil:
		return fmt.Errorf("hook %s did not end within %d seconds", h.Path, *h.Timeout)
	case errors.Is(err, exec.ErrWaitDelay): // it ended, a child of its own holds the output
		return nil
	case err != nil:
		return fmt.Errorf("hook %s: %w: %s", h.Path, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// poststop runs the hooks after a container is gone; their failures are warnings only.
func poststop(ctx context.Context, r *record) {
	if r.Hooks == nil {
		return
	}
	for _, h := range r.Hooks.Poststop {
		if err := runHook(ctx, h, r.at(specs.StateStopped)); err != nil {
			warn("poststop " + err.Error())
		}
	}
}

// hookPoint runs what belongs to a point of create, and gives the state for hooks that init runs.
func hookPoint(ctx context.Context, point int, hooks *specs.Hooks, r *record) ([]byte, error) {
	if point != program.HookCreateRuntime {
		return json.Marshal(r.at(specs.StateCreated))
	}
	// Prestart hooks are of a time when they ran at start: they read "created".
	//lint:ignore SA1019 deprecated, not gone
	for _, h := range hooks.Prestart {
		if err := runHook(ctx, h, r.at(specs.StateCreated)); err != nil {
			return nil, err
		}
	}
	for _, h := range hooks.CreateRuntime {
		if err := runHook(ctx, h, r.at(specs.StateCreating)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(r.at(specs.StateCreating))
}

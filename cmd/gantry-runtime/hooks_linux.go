package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// runHook runs a hook in the runtime's namespaces with the state on its standard input. A hook
// without a timeout may take as long as it likes.
func runHook(h specs.Hook, state *specs.State) error {
	in, err := json.Marshal(state)
	if err != nil {
		return err
	}
	ctx := context.Background()
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
func poststop(r *record) {
	if r.Hooks == nil {
		return
	}
	for _, h := range r.Hooks.Poststop {
		if err := runHook(h, r.at(specs.StateStopped)); err != nil {
			warn("poststop " + err.Error())
		}
	}
}

// awaitExec returns when the first process executes the user's program or is gone. There is
// nothing left to listen to, create's socket having ended with create; and only poststart
// hooks need to know.
func (r *record) awaitExec() {
	for r.alive() {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.Pid))
		if err != nil || !strings.HasPrefix(exe, "/memfd:gantry-init") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

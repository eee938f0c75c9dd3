package containers

import (
	"context"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

type waiter struct{ *core }

// Wait registers for a condition and returns at once; the channel yields one
// response and is then closed, or is closed empty when ctx ends. The caller sends
// its headers before it reads the channel: clients start the container only then.
func (w *waiter) Wait(ctx context.Context, ref string, cond container.WaitCondition) (<-chan container.WaitResponse, error) {
	switch cond {
	case "", container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, classed.Invalid("invalid condition: %q", cond)
	}
	e, err := w.reg.get(ref)
	if err != nil {
		return nil, err
	}
	out := make(chan container.WaitResponse, 1)
	r := e.current() // before the state is looked at: an exit in between is not missed
	rec := e.snapshot()
	if (cond == "" || cond == container.WaitConditionNotRunning) && !rec.Running() {
		out <- response(rec.State.ExitCode, rec.State.Error)
		close(out)
		return out, nil
	}
	go func() {
		defer close(out)
		if cond == container.WaitConditionRemoved {
			select {
			case <-e.removed:
				out <- lastWord(e)
			case <-ctx.Done():
			}
			return
		}
		if code, text, ok := awaitExit(ctx, e, r); ok {
			out <- response(code, text)
		}
	}()
	return out, nil
}

// awaitExit waits for the end of a run; a failed start is none. A removed
// container answers with its last exit.
func awaitExit(ctx context.Context, e *entry, r *run) (code int, text string, ok bool) {
	for {
		select {
		case <-r.ended:
			if !r.failed {
				return r.exit.code, r.exit.err, true
			}
			r = e.current()
		case <-e.removed:
			last := lastWord(e)
			text := ""
			if last.Error != nil {
				text = last.Error.Message
			}
			return int(last.StatusCode), text, true
		case <-ctx.Done():
			return 0, "", false
		}
	}
}

// lastWord is what a removed container answers. Why its start failed is the answer to the
// start; who waits for the removal would print it a second time.
func lastWord(e *entry) container.WaitResponse {
	st := e.snapshot().State
	if st.Error != unknownExit {
		st.Error = ""
	}
	return response(st.ExitCode, st.Error)
}

func response(code int, text string) container.WaitResponse {
	r := container.WaitResponse{StatusCode: int64(code)}
	if text != "" {
		r.Error = &container.WaitExitError{Message: text}
	}
	return r
}

// Resize sets the size of a container's terminal in characters.
func (w *waiter) Resize(ctx context.Context, ref string, height, width uint16) error {
	e, err := w.reg.get(ref)
	if err != nil {
		return err
	}
	rec := e.snapshot()
	if err := rec.may(EvResize); err != nil {
		return err
	}
	if err := w.Processes.Resize(ctx, rec.Key(), height, width); err != nil {
		return err
	}
	w.publish(rec, events.ActionResize, map[string]string{"height": strconv.Itoa(int(height)), "width": strconv.Itoa(int(width))})
	return nil
}

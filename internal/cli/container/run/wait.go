package run

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildWait is wait.
func BuildWait(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range args {
			resp, err := askWait(ctx, c, name, "")
			if err != nil {
				errs = append(errs, err)
				continue
			}
			code, err := decodeWait(resp)
			resp.Body.Close()
			if err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintln(a.Out, code)
		}
		return errors.Join(errs...)
	}
}

// askWait is answered at once, and its body when the condition is met.
func askWait(ctx context.Context, c *api.Client, name string, condition container.WaitCondition) (*api.Response, error) {
	q := url.Values{}
	if condition != "" {
		q.Set("condition", string(condition))
	}
	return c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/containers/" + url.PathEscape(name) + "/wait", Query: q})
}

func decodeWait(resp *api.Response) (int64, error) {
	var w container.WaitResponse
	if err := api.Decode(resp.Body, &w); err != nil {
		return 0, err
	}
	if w.Error != nil && w.Error.Message != "" {
		return 0, errors.New(strings.TrimSpace(w.Error.Message))
	}
	return w.StatusCode, nil
}

// exit is a container's end to come, or why it could not be asked for.
type exit struct {
	answer <-chan answer
	err    error
}

type answer struct {
	code int
	err  error // the engine went away meanwhile
}

// waitForNext asks for the exit of a container that is to be started.
func waitForNext(ctx context.Context, c *api.Client, id string, autoRemove bool) exit {
	if autoRemove {
		return waitFor(ctx, c, id, container.WaitConditionRemoved)
	}
	return waitFor(ctx, c, id, container.WaitConditionNextExit)
}

// waitFor asks for a container's exit. The engine has registered the request when waitFor returns.
func waitFor(ctx context.Context, c *api.Client, id string, condition container.WaitCondition) exit {
	resp, err := askWait(ctx, c, id, condition)
	if err != nil {
		return exit{err: err}
	}
	answers := make(chan answer, 1)
	go func() {
		defer resp.Body.Close()
		code, err := decodeWait(resp)
		answers <- answer{int(code), err}
	}()
	return exit{answer: answers}
}

// result waits for the container's status and makes it ours.
func (e exit) result() error {
	got := <-e.answer
	if got.err == nil && got.code != 0 {
		return &app.Exit{Code: got.code}
	}
	return got.err
}

// orUnknown is result for commands whose status is the container's: 125 when nobody can tell it.
func (e exit) orUnknown() error {
	err := e.result()
	var status *app.Exit
	if err == nil || errors.As(err, &status) {
		return err
	}
	return &app.Exit{Code: 125, Err: fmt.Errorf("Error waiting for container: %w", err)} // docker's text
}

package system

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// buildDialStdio joins standard input and output with the engine's socket: the far end of ssh:// connections.
func buildDialStdio(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, _ []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		conn, err := c.Dial(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		cw, ok := conn.(interface{ CloseWrite() error })
		if !ok {
			return errors.New("the engine's connection cannot be closed in one direction, as a byte stream needs")
		}
		in, out := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := io.Copy(conn, a.In)
			_ = cw.CloseWrite()
			in <- err
		}()
		go func() {
			_, err := io.Copy(a.Out, conn)
			out <- err
		}()
		select {
		case err := <-in:
			if err != nil {
				return err
			}
			return <-out
		case err := <-out:
			return err
		}
	}
}

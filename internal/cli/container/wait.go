package container

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

func buildWait(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range args {
			resp, err := c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/containers/" + url.PathEscape(name) + "/wait"})
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

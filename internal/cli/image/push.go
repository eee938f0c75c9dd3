package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/progress"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func buildPush(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var all, quiet bool
	var platform string
	f.BoolVarP(&all, "all-tags", "a", false, "Push all tags of the repository")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print nothing but the result")
	withTrust(f)
	f.StringVar(&platform, "platform", "", "Push this platform only (os[/arch[/variant]])")
	return func(ctx context.Context, args []string) error {
		r, err := ref.Parse(args[0])
		if err != nil {
			return err
		}
		q := url.Values{}
		if platform != "" {
			if err := addPlatforms(q, "platform", []string{platform}); err != nil {
				return err
			}
		}
		switch {
		case all && (r.Tag != "" || r.Digest != ""):
			return errors.New("tag can't be used with --all-tags/-a")
		case r.Digest != "":
			return errors.New("cannot push a digest reference")
		case !all && r.Tag == "":
			r = r.WithTag()
			if !quiet {
				fmt.Fprintf(a.Out, "Using default tag: %s\n", r.Tag)
			}
		}
		q.Set("tag", r.Tag)
		auth, err := AuthHeader(a, r.Domain)
		if err != nil {
			return err
		}
		if auth == nil { // the API wants the header even when it says nothing
			auth = map[string]string{registry.AuthHeader: base64.URLEncoding.EncodeToString([]byte("{}"))}
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		resp, err := c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/images/" + escape(r.FamiliarName()) + "/push", Query: q, Header: auth})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if quiet {
			if err := progress.Show(resp.Body, io.Discard, 0, nil); err != nil {
				return err
			}
			fmt.Fprintln(a.Out, r.String())
			return nil
		}
		return progress.Show(resp.Body, a.Out, a.Out.Columns(), nil)
	}
}

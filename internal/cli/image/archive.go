package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
	"github.com/gantry-engine/gantry/internal/cli/progress"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func buildSave(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var output string
	var platforms []string
	f.StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	f.StringSliceVar(&platforms, "platform", nil, "Save these platforms only (os[/arch[/variant]])")
	return func(ctx context.Context, args []string) error {
		if output == "" && a.Out.IsTerminal() {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		q := url.Values{"names": args}
		if err := addPlatforms(q, "platform", platforms); err != nil {
			return err
		}
		out, err := a.CreateOutput(output)
		if err != nil {
			return fmt.Errorf("failed to save image: %w", err)
		}
		defer out.Discard()
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		body, err := c.Stream(ctx, "/images/get", q)
		if err != nil {
			return err
		}
		defer body.Close()
		return out.Fill(body)
	}
}

func buildLoad(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var input string
	var quiet bool
	var platforms []string
	f.StringVarP(&input, "input", "i", "", "Read from a file, instead of STDIN")
	f.BoolVarP(&quiet, "quiet", "q", false, "No progress")
	f.StringSliceVar(&platforms, "platform", nil, "Load these platforms only (os[/arch[/variant]])")
	return func(ctx context.Context, _ []string) error {
		var in io.Reader = a.In
		switch input {
		case "":
			if a.In.IsTerminal() {
				return errors.New("requested load from stdin, but stdin is empty")
			}
		default:
			file, err := os.Open(input)
			if err != nil {
				return err
			}
			defer file.Close()
			in = file
		}
		quiet = quiet || !a.Out.IsTerminal()
		q := url.Values{"quiet": {"0"}}
		if quiet {
			q.Set("quiet", "1")
		}
		if err := addPlatforms(q, "platform", platforms); err != nil {
			return err
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		resp, err := c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/images/load", Query: q, Body: struct{ io.Reader }{in}, Header: map[string]string{"Content-Type": "application/x-tar"}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			columns := a.Out.Columns()
			if quiet {
				columns = 0
			}
			return progress.Show(resp.Body, a.Out, columns, nil)
		}
		_, err = io.Copy(a.Out, resp.Body)
		return err
	}
}

func buildImport(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var changes opts.List
	var message, platform string
	f.VarP(&changes, "change", "c", "Apply a Dockerfile instruction to the image")
	f.StringVarP(&message, "message", "m", "", "Commit message")
	f.StringVar(&platform, "platform", "", "Platform of the image")
	return func(ctx context.Context, args []string) error {
		q := url.Values{"changes": changes.Values}
		if message != "" {
			q.Set("message", message)
		}
		if platform != "" {
			q.Set("platform", platform)
		}
		if len(args) > 1 {
			if _, err := ref.Parse(args[1]); err != nil {
				return err
			}
			q.Set("repo", args[1])
		}
		var in any
		switch src := args[0]; {
		case src == "-":
			q.Set("fromSrc", "-")
			in = struct{ io.Reader }{a.In}
		case strings.HasPrefix(src, "http://"), strings.HasPrefix(src, "https://"):
			q.Set("fromSrc", src)
		default:
			q.Set("fromSrc", "-")
			file, err := os.Open(src)
			if err != nil {
				return err
			}
			defer file.Close()
			in = struct{ io.Reader }{file}
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		resp, err := c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/images/create", Query: q, Body: in, Header: map[string]string{"Content-Type": "text/plain"}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return progress.Show(resp.Body, a.Out, a.Out.Columns(), nil)
	}
}

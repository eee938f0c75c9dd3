package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/estargz"
	"github.com/gantry-engine/gantry/internal/cli/progress"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

const convertHelp = `Make an image of another kind of layer

With --estargz the layers can be read before they are here: an engine that pulls the image
lazily (gantry pull --lazy) runs it after some 100 kB. For all others it is an ordinary image
with the same files.

--prioritize names a file with the paths of the files that a start needs, one on a line ("-"
is STDIN). They come first in each layer, and are fetched first. Lines with # are comments.

All platforms of SOURCE that are here are converted, or those of --platform.`

func convert() *app.Command {
	return &app.Command{Name: "convert", Args: "[OPTIONS] SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Short: "Make an image of another kind of layer", Long: convertHelp,
		Check: app.ExactArgs(2), Build: buildConvert}
}

func buildConvert(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var lazy, quiet bool
	var first string
	var platforms []string
	var o estargz.Options
	f.BoolVar(&lazy, "estargz", false, "Make eStargz layers")
	f.StringVar(&first, "prioritize", "", "File with the paths of the files to come first, one on a line")
	f.IntVar(&o.ChunkSize, "chunk-size", estargz.DefaultChunkSize, "Bytes of a file that are fetched and verified by themselves")
	f.IntVar(&o.Level, "level", 0, "Level of gzip, 1 (fast) to 9 (small, the default)")
	f.StringSliceVar(&platforms, "platform", nil, "Convert these platforms only (os[/arch[/variant]])")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print nothing but the result")
	return func(ctx context.Context, args []string) error {
		switch {
		case !lazy:
			return errors.New("say what to convert to: --estargz is known")
		case o.Level < 0 || o.Level > 9:
			return fmt.Errorf("--level %d: 1 to 9 is needed", o.Level)
		case o.ChunkSize < 4096 || o.ChunkSize > 32<<20:
			return fmt.Errorf("--chunk-size %d: 4096 to %d is needed", o.ChunkSize, 32<<20)
		}
		to, err := ref.Parse(args[1])
		if err != nil {
			return err
		}
		if to.Digest != "" {
			return fmt.Errorf("%s: the new image has a digest of its own; give it a name and a tag", args[1])
		}
		if first != "" {
			if o.First, err = readPaths(a, first); err != nil {
				return err
			}
		}
		if !quiet {
			o.Progress = func(done, all int, l ocispec.Descriptor) {
				fmt.Fprintf(a.Err, "layer %d of %d: %s, %d bytes\n", done, all, l.Digest, l.Size)
			}
		}
		return convertImage(ctx, a, args[0], to.WithTag(), platforms, o)
	}
}

// readPaths reads a list of paths.
func readPaths(a *app.App, name string) (list []string, err error) {
	in := io.Reader(a.In)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if p := strings.TrimSpace(lines.Text()); p != "" && !strings.HasPrefix(p, "#") {
			list = append(list, p)
		}
	}
	return list, lines.Err()
}

// convertImage takes an image out of the engine, converts it, and puts the new one in.
func convertImage(ctx context.Context, a *app.App, from string, to ref.Ref, platforms []string, o estargz.Options) error {
	client, err := a.Engine.Client()
	if err != nil {
		return err
	}
	q := url.Values{"names": {from}}
	if err := addPlatforms(q, "platform", platforms); err != nil {
		return err
	}
	c, err := estargz.New("", o)
	if err != nil {
		return err
	}
	defer c.Close()
	archive, err := client.Stream(ctx, "/images/get", q)
	if err != nil {
		return err
	}
	index, err := c.Open(archive)
	if err := errors.Join(err, archive.Close()); err != nil {
		return err
	}
	d, err := c.Convert(index)
	if err != nil {
		return fmt.Errorf("converting %s: %w", from, err)
	}
	for _, p := range c.Missed() {
		fmt.Fprintf(a.Err, "--prioritize: %s is in no layer\n", p)
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(c.Write(w, d, to.String(), to.Tag)) }()
	resp, err := client.Do(ctx, api.Request{
		Method: http.MethodPost, Path: "/images/load", Query: url.Values{"quiet": {"1"}}, Body: struct{ io.Reader }{r}, Header: map[string]string{"Content-Type": "application/x-tar"},
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := progress.Show(resp.Body, io.Discard, 0, nil); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, to.Familiar())
	return nil
}

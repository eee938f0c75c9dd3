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
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	boot "github.com/gantry-engine/gantry/internal/cli/bootstrap"
	"github.com/gantry-engine/gantry/internal/cli/progress"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

const bootstrapHelp = `Make a minimal image straight from a distribution's signed package archive

DISTRO is debian or ubuntu; SUITE is a codename (bookworm), a release number (12) or an
alias (stable). The archive's signature is checked with the distribution's keys: what
is unsigned, expired, altered or signed by another key is refused. The same packages
give the same image, byte by byte, with the same digest.

Needed on this machine: Linux, the packages mmdebstrap and apt, the distribution's keyring,
and root (or the package uidmap, and subordinate IDs for the user). The engine may be another
machine's, and may be Docker's. The archive is the one that this machine's apt uses, or --mirror.

The image is called DISTRO:SUITE, so that FROM debian:bookworm finds it; -t says otherwise.`

// bootstrapping is what the flags say.
type bootstrapping struct {
	boot.Request
	tag, output, list    string
	noLoad, force, quiet bool
}

func bootstrap() *app.Command {
	return &app.Command{Name: "bootstrap", Args: "[OPTIONS] DISTRO[:SUITE]", Short: "Make a minimal image from a distribution's signed packages", Long: bootstrapHelp,
		Check: app.ExactArgs(1), Build: buildBootstrap}
}

func buildBootstrap(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var o bootstrapping
	f.StringVarP(&o.tag, "tag", "t", "", "Name of the image (default: DISTRO:SUITE)")
	f.StringVar(&o.Mirror, "mirror", "", "Archive to take packages from (default: what apt on this machine uses)")
	f.StringVar(&o.SecurityMirror, "security-mirror", "", "Archive of the security updates (default: apt's, or beside --mirror)")
	f.StringVar(&o.ImageMirror, "image-mirror", "", "Archive that apt in the image is to use (default: the one it was made from)")
	f.StringVar(&o.Keyring, "keyring", "", "File with the keys that may sign (default: the distribution's)")
	f.StringVar(&o.Variant, "variant", "minbase", `Set of packages ("`+strings.Join(boot.Variants, `", "`)+`")`)
	f.StringSliceVar(&o.Include, "include", nil, "Further packages")
	f.StringSliceVar(&o.Components, "components", []string{"main"}, "Components of the archive")
	f.StringSliceVar(&o.Pockets, "pocket", []string{"updates", "security"}, `Further parts of the suite ("updates", "security", or "none")`)
	f.StringVar(&o.Arch, "arch", "", "Architecture, in dpkg's words (default: this machine's)")
	f.StringVar(&o.Snapshot, "snapshot", "", "Time for {snapshot} in --mirror (20240131T000000Z)")
	f.StringVar(&o.Mode, "mode", "auto", `How mmdebstrap gets its rights ("auto", "root", "unshare", "fakechroot", "chrootless")`)
	f.StringVarP(&o.output, "output", "o", "", "Write the image to a file, too, as an archive for load")
	f.StringVar(&o.list, "list", "", "Write the packages with their versions to a file, one a line")
	f.BoolVar(&o.noLoad, "no-load", false, "Do not load the image into the engine")
	f.BoolVarP(&o.force, "force", "f", false, "Take the name of an image that was not bootstrapped")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Print nothing but the image's ID")
	return func(ctx context.Context, args []string) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM) // mmdebstrap cleans up before we end
		defer stop()
		err := o.run(ctx, a, args[0])
		if ctx.Err() != nil {
			return &app.Exit{Code: 130, Err: errors.New("interrupted: nothing was made")}
		}
		return err
	}
}

func (o *bootstrapping) run(ctx context.Context, a *app.App, name string) error {
	if o.noLoad && o.output == "" {
		return errors.New("--no-load leaves nothing to do: say with --output where the image goes")
	}
	if err := o.ParseName(name); err != nil {
		return err
	}
	if o.tag == "" {
		o.tag = o.Distribution + ":" + o.Suite
	}
	r, err := ref.Parse(o.tag)
	if err != nil {
		return fmt.Errorf("%q: %w", o.tag, err)
	}
	if r.Digest != "" {
		return fmt.Errorf("%q: an image cannot be named by a digest", o.tag)
	}
	r = r.WithTag()
	if err := boot.Find(); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return err
	}
	if err := o.vacant(ctx, a, r); err != nil {
		return err
	}
	img, layer, err := o.make(ctx, a, r)
	if err != nil {
		return err
	}
	defer layer.Close()
	if o.output != "" {
		body := stream(img)
		defer body.Close()
		if err := output(a, o.output, body); err != nil {
			return err
		}
	}
	id := img.Manifest.Digest.String()
	if !o.noLoad {
		if id, err = o.load(ctx, a, img); err != nil {
			return err
		}
	}
	if o.quiet {
		fmt.Fprintln(a.Out, id)
		return nil
	}
	fmt.Fprintf(a.Out, "Digest: %s\n", img.Manifest.Digest)
	if !o.noLoad {
		fmt.Fprintln(a.Out, r.Familiar())
	}
	return nil
}

// vacant refuses to take the name from an image that somebody else made.
func (o *bootstrapping) vacant(ctx context.Context, a *app.App, r ref.Ref) error {
	if o.noLoad || o.force {
		return nil
	}
	here, err := inspect(ctx, a, r)
	if api.IsNotFound(err) {
		return nil
	}
	if err == nil && (here.Config == nil || here.Config.Labels[boot.LabelSuite] == "") {
		return fmt.Errorf("%s is here already, and was not made by bootstrap: give the new image another name with -t, or let it take this one with --force", r.Familiar())
	}
	return err
}

func inspect(ctx context.Context, a *app.App, r ref.Ref) (image.InspectResponse, error) {
	var found image.InspectResponse
	c, err := a.Engine.Client()
	if err == nil {
		err = c.Get(ctx, "/images/"+r.Familiar()+"/json", nil, &found)
	}
	return found, err
}

// make installs the packages and makes the image of them. The layer is a file without a name, to be closed in the end.
func (o *bootstrapping) make(ctx context.Context, a *app.App, r ref.Ref) (*boot.Image, *os.File, error) {
	if o.Arch == "" {
		arch, err := boot.Architecture(ctx)
		if err != nil {
			return nil, nil, err
		}
		o.Arch = arch
	}
	sources, err := o.Sources(ctx)
	if err != nil {
		return nil, nil, err
	}
	say := func(step string) {
		if !o.quiet {
			fmt.Fprintf(a.Out, "%s:%s: %s\n", o.Distribution, o.Suite, step)
		}
	}
	raw, err := scratch()
	if err != nil {
		return nil, nil, err
	}
	defer raw.Close()
	started := time.Now().Truncate(time.Second)
	say("asking " + sources[0].URI)
	if err := o.Install(ctx, sources, started, raw, say); err != nil {
		return nil, nil, err
	}
	say("making the image")
	return o.compose(a, r, sources, raw, started)
}

func (o *bootstrapping) compose(a *app.App, r ref.Ref, sources []boot.Source, raw *os.File, started time.Time) (*boot.Image, *os.File, error) {
	rewound := func() (io.Reader, error) {
		_, err := raw.Seek(0, io.SeekStart)
		return bufio.NewReaderSize(raw, 1<<20), err
	}
	in, err := rewound()
	if err != nil {
		return nil, nil, err
	}
	s, err := boot.Examine(in, started)
	if err != nil {
		return nil, nil, err
	}
	epoch, err := boot.Epoch(s, a.Env)
	if err != nil {
		return nil, nil, err
	}
	extras, err := o.Extras(sources, s)
	if err != nil {
		return nil, nil, err
	}
	if in, err = rewound(); err != nil {
		return nil, nil, err
	}
	layer, err := scratch()
	if err != nil {
		return nil, nil, err
	}
	w := bufio.NewWriterSize(layer, 1<<20)
	if err = boot.Layer(w, in, epoch, extras); err == nil {
		err = w.Flush()
	}
	if err != nil {
		layer.Close()
		return nil, nil, err
	}
	img, err := boot.Compose(r, o.Blank(s, epoch), s.List(), layer)
	if err != nil {
		layer.Close()
		return nil, nil, err
	}
	if o.list != "" {
		if err := output(a, o.list, strings.NewReader(strings.ReplaceAll(s.List(), " ", "\n")+"\n")); err != nil {
			layer.Close()
			return nil, nil, err
		}
	}
	if !o.quiet {
		fmt.Fprintf(a.Out, "%s:%s: %d packages of %s, list %s\n", o.Distribution, o.Suite, len(s.Packages), epoch.Format(time.RFC3339), s.Digest())
	}
	return img, layer, nil
}

// scratch is a file that nobody has to remove: it has no name.
func scratch() (*os.File, error) {
	f, err := os.CreateTemp("", "gantry-bootstrap-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// output writes a file, which appears when it is complete.
func output(a *app.App, path string, r io.Reader) error {
	out, err := a.CreateOutput(path)
	if err != nil {
		return err
	}
	defer out.Discard()
	return out.Fill(r)
}

// stream is the image's archive as it is being written.
func stream(img *boot.Image) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 1<<20)
		err := img.Write(b)
		if err == nil {
			err = b.Flush()
		}
		w.CloseWithError(err)
	}()
	return r
}

// load gives the image to the engine and says what ID it has there.
func (o *bootstrapping) load(ctx context.Context, a *app.App, img *boot.Image) (string, error) {
	c, err := a.Engine.Client()
	if err != nil {
		return "", err
	}
	body := stream(img)
	defer body.Close()
	resp, err := c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/images/load", Query: url.Values{"quiet": {"1"}}, Body: body, Header: map[string]string{"Content-Type": "application/x-tar"}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if err := progress.Show(resp.Body, io.Discard, 0, nil); err != nil {
		return "", err
	}
	found, err := inspect(ctx, a, img.Name)
	return found.ID, err
}

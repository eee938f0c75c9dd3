// Package files has the verbs for what is in a container: cp, diff, export, commit.
package files

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

var (
	errCopyDir = errors.New("cannot copy directory")
	errNotDir  = errors.New("not a directory")
	errNoDir   = errors.New("no such directory")
)

type cpOptions struct {
	archive, follow, quiet bool
}

// BuildCp is cp.
func BuildCp(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &cpOptions{}
	f.BoolVarP(&o.archive, "archive", "a", false, "Keep owners and groups")
	f.BoolVarP(&o.follow, "follow-link", "L", false, "Follow a symbolic link in SRC_PATH")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "No progress; there is none anyway where no terminal is attached")
	return func(ctx context.Context, args []string) error {
		if args[0] == "" {
			return errors.New("source can not be empty")
		}
		if args[1] == "" {
			return errors.New("destination can not be empty")
		}
		if !f.Changed("quiet") {
			file, ok := a.Err.(*os.File)
			o.quiet = !ok || !term.IsTerminal(int(file.Fd()))
		}
		from, src := splitCopy(args[0])
		to, dst := splitCopy(args[1])
		switch {
		case from != "" && to != "":
			return errors.New("copying between containers is not supported")
		case from != "":
			return copyOut(ctx, a, o, from, src, dst)
		case to != "":
			return copyIn(ctx, a, o, src, to, dst)
		}
		return errors.New("must specify at least one container source")
	}
}

// splitCopy takes CONTAINER:PATH apart; a path that is absolute or starts with a dot is local.
func splitCopy(arg string) (name, p string) {
	if filepath.IsAbs(arg) {
		return "", arg
	}
	name, p, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(name, ".") {
		return "", arg
	}
	return name, p
}

// contentsOnly says whether a path means what is in a directory, not the directory: it ends in "/.".
func contentsOnly(p string) bool {
	return p == "." || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, string(filepath.Separator)+".")
}

func trailingSlash(p string) bool {
	return strings.HasSuffix(p, "/") || strings.HasSuffix(p, string(filepath.Separator))
}

func pathStat(ctx context.Context, c *api.Client, name, p string) (container.PathStat, error) {
	resp, err := c.Do(ctx, api.Request{Method: http.MethodHead, Path: "/containers/" + url.PathEscape(name) + "/archive", Query: url.Values{"path": {p}}})
	if err != nil {
		var e *api.Error
		if errors.As(err, &e) && e.Status == http.StatusNotFound { // an answer to HEAD has no text
			e.Message = fmt.Sprintf("Could not find the file %s in container %s", p, name)
		}
		return container.PathStat{}, err
	}
	resp.Body.Close()
	return decodeStat(resp.Header)
}

func decodeStat(h http.Header) (st container.PathStat, err error) {
	b, err := base64.StdEncoding.DecodeString(h.Get("X-Docker-Container-Path-Stat"))
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		err = fmt.Errorf("unable to decode container path stat header: %w", err)
	}
	return st, err
}

// absolute makes a container path absolute, keeping what its end says.
func absolute(p string) string {
	if p == "" {
		p = "/"
	}
	q := path.Join("/", p)
	switch {
	case contentsOnly(p):
		q = strings.TrimSuffix(q, "/") + "/."
	case trailingSlash(p) && q != "/":
		q += "/"
	}
	return q
}

// copyOut copies from a container to this machine.
func copyOut(ctx context.Context, a *app.App, o *cpOptions, name, src, dst string) error {
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	src = absolute(src)
	base := path.Base(path.Clean(src))
	if o.follow {
		if st, err := pathStat(ctx, c, name, src); err == nil && st.Mode&os.ModeSymlink != 0 {
			if path.IsAbs(st.LinkTarget) {
				src = st.LinkTarget
			} else {
				src = path.Join(path.Dir(src), st.LinkTarget)
			}
		}
	}
	resp, err := c.Do(ctx, api.Request{Method: http.MethodGet, Path: "/containers/" + url.PathEscape(name) + "/archive", Query: url.Values{"path": {src}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if dst == "-" {
		_, err := io.Copy(a.Out, resp.Body)
		return err
	}
	st, err := decodeStat(resp.Header)
	if err != nil {
		return err
	}
	whole := contentsOnly(src) || src == "/"
	target, err := localTarget(dst, base, st.Mode.IsDir(), whole)
	if err != nil {
		return err
	}
	counted := &counter{r: resp.Body}
	if err := unpack(counted, target, whole, o.archive); err != nil {
		return err
	}
	if !o.quiet {
		fmt.Fprintln(a.Err, "Successfully copied", units.HumanSizeWithPrecision(float64(counted.n), 3), "to", dst)
	}
	return nil
}

// localTarget decides what the source will be called here.
func localTarget(dst, base string, srcDir, whole bool) (string, error) {
	st, err := os.Stat(dst)
	if err != nil {
		abs, aerr := filepath.Abs(dst)
		if aerr != nil {
			return "", aerr
		}
		parent := filepath.Dir(abs)
		if p, perr := os.Stat(parent); perr != nil || !p.IsDir() {
			return "", fmt.Errorf("invalid output path: directory %q does not exist", parent)
		}
		if !srcDir && trailingSlash(dst) {
			return "", errNoDir
		}
		return filepath.Clean(dst), nil
	}
	switch {
	case st.IsDir() && whole:
		return filepath.Clean(dst), nil
	case st.IsDir():
		return filepath.Join(dst, base), nil
	case trailingSlash(dst):
		return "", errNotDir
	case srcDir:
		return "", errCopyDir
	}
	return filepath.Clean(dst), nil
}

// copyIn copies from this machine into a container.
func copyIn(ctx context.Context, a *app.App, o *cpOptions, src, name, dst string) error {
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	dst = absolute(dst)
	dir, exists, err := containerTarget(ctx, c, name, &dst)
	if err != nil {
		return err
	}
	q := url.Values{"noOverwriteDirNonDir": {"true"}}
	if o.archive {
		q.Set("copyUIDGID", "true")
	}
	put := func(p string, body io.Reader) error {
		q.Set("path", p)
		return c.JSON(ctx, api.Request{Method: http.MethodPut, Path: "/containers/" + url.PathEscape(name) + "/archive", Query: q, Body: struct{ io.Reader }{body}}, nil)
	}
	if src == "-" {
		if exists && !dir {
			return fmt.Errorf("destination \"%s:%s\" must be a directory", name, dst)
		}
		return put(dst, a.In)
	}
	shown, err := filepath.Abs(src)
	if err != nil {
		return err
	}
	if contentsOnly(src) {
		shown += string(filepath.Separator) + "."
	} else if trailingSlash(src) {
		shown += string(filepath.Separator)
	}
	local, err := statSource(shown, o.follow)
	if err != nil {
		return err
	}
	whole := local.IsDir() && contentsOnly(src)
	abs, err := filepath.Abs(src)
	if err != nil {
		return err
	}
	at, entry, err := insideTarget(dst, filepath.Base(abs), exists, dir, local.IsDir(), whole)
	if err != nil {
		return err
	}
	if o.follow || trailingSlash(src) || contentsOnly(src) {
		if abs, err = filepath.EvalSymlinks(abs); err != nil {
			return err
		}
	}
	pr, pw := io.Pipe()
	counted := &counter{r: pr}
	go func() { pw.CloseWithError(pack(pw, abs, entry)) }()
	err = put(at, counted)
	pr.Close()
	if err == nil && !o.quiet {
		fmt.Fprintln(a.Err, "Successfully copied", units.HumanSizeWithPrecision(float64(counted.n), 3), "to", name+":"+dst)
	}
	return err
}

func statSource(src string, follow bool) (os.FileInfo, error) {
	if follow || trailingSlash(src) || contentsOnly(src) {
		st, err := os.Stat(src)
		if err == nil && !st.IsDir() && (trailingSlash(src) || contentsOnly(src)) {
			return nil, errNotDir
		}
		return st, err
	}
	return os.Lstat(src)
}

// containerTarget looks at the destination, and follows it when it is a symbolic link. A destination that
// cannot be looked at counts as new: the engine says what is wrong when it unpacks.
func containerTarget(ctx context.Context, c *api.Client, name string, dst *string) (dir, exists bool, err error) {
	st, err := pathStat(ctx, c, name, *dst)
	if err == nil && st.Mode&os.ModeSymlink != 0 {
		target := st.LinkTarget
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(path.Clean(*dst)), target)
		}
		*dst = target
		st, err = pathStat(ctx, c, name, target)
	}
	var e *api.Error
	if err != nil && !errors.As(err, &e) {
		return false, false, err
	}
	if err != nil {
		return false, false, nil
	}
	return st.Mode.IsDir(), true, nil
}

// insideTarget decides into which directory of the container to unpack, and what the source is called there.
func insideTarget(dst, base string, exists, dir, srcDir, whole bool) (at, entry string, err error) {
	clean := path.Clean(dst)
	switch {
	case exists && dir && whole:
		return dst, ".", nil
	case exists && dir:
		return dst, base, nil
	case exists && srcDir:
		return "", "", errCopyDir
	case exists && trailingSlash(dst):
		return "", "", errNotDir
	case !exists && !srcDir && (trailingSlash(dst) || contentsOnly(dst)):
		return "", "", errNoDir
	}
	return path.Dir(clean), path.Base(clean), nil
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

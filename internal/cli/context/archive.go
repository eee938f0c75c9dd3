package context

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/config"
)

// maxArchive bounds what is read of an archive: contexts are small.
const maxArchive = 10 << 20

func buildExport(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(_ context.Context, args []string) error {
		name := args[0]
		if name != config.DefaultContext {
			if err := config.ValidContextName(name); err != nil {
				return err
			}
		}
		c, files, err := stored(a, name)
		if err != nil {
			return err
		}
		data, err := archive(c, files)
		if err != nil {
			return err
		}
		dest := name + ".dockercontext"
		if len(args) > 1 {
			dest = args[1]
		}
		if dest == "-" {
			if a.Out.IsTerminal() {
				return errors.New("cowardly refusing to export to a terminal, specify a file path")
			}
			_, err := a.Out.Write(data)
			return err
		}
		f, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			f.Close()
			return err
		}
		fmt.Fprintf(a.Err, "Written file %q\n", dest)
		return f.Close()
	}
}

// stored is a context with its certificates. The default one is what flags and environment make of it.
func stored(a *app.App, name string) (config.Context, map[string][]byte, error) {
	if name == config.DefaultContext {
		t, err := defaultTarget(a)
		return config.Context{Name: name, Metadata: map[string]any{}, Endpoints: map[string]config.Endpoint{"docker": {Host: t.Host, SkipTLSVerify: t.SkipTLS}}}, nil, err
	}
	c, err := a.Home.Contexts().Get(name)
	if err != nil {
		return c, nil, err
	}
	files, err := a.Home.Contexts().TLS(name)
	return c, files, err
}

func archive(c config.Context, files map[string][]byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(name string, b []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	meta, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if err := add("meta.json", meta); err != nil {
		return nil, err
	}
	for name, b := range files {
		if err := add("tls/docker/"+name, b); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}

func buildImport(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(_ context.Context, args []string) error {
		name := args[0]
		if err := config.ValidContextName(name); err != nil {
			return err
		}
		if a.Home.Contexts().Has(name) {
			return fmt.Errorf("context %q already exists", name)
		}
		var in io.Reader = a.In
		if args[1] != "-" {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		c, files, err := unarchive(io.LimitReader(in, maxArchive))
		if err != nil {
			return err
		}
		c.Name = name
		return save(a, c, files, "imported")
	}
}

func unarchive(r io.Reader) (c config.Context, files map[string][]byte, err error) {
	files = map[string][]byte{}
	seen := false
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			if !seen {
				return c, nil, errors.New("the archive holds no meta.json")
			}
			return c, files, nil
		}
		if err != nil {
			return c, nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return c, nil, err
		}
		name := path.Clean(h.Name)
		if name == "meta.json" {
			seen = true
			if err := json.Unmarshal(b, &c); err != nil {
				return c, nil, err
			}
		} else if f, ok := strings.CutPrefix(name, "tls/docker/"); ok && !strings.ContainsAny(f, `/\`) {
			files[f] = b
		}
	}
}

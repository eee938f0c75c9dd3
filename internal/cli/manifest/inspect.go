package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func inspect(v *verbs, f *pflag.FlagSet) app.RunFunc {
	var insecure, verbose bool
	f.BoolVar(&insecure, "insecure", false, "Talk to a registry of any certificate, or of none")
	f.BoolVarP(&verbose, "verbose", "v", false, "Show names, platforms and the manifests of a list too")
	return func(ctx context.Context, args []string) error {
		name, err := named(args[len(args)-1])
		if err != nil {
			return err
		}
		if len(args) == 2 {
			return v.inspectEntry(args[0], name, verbose)
		}
		entries, err := v.store.List(name)
		if err == nil {
			return v.showList(listOf(entries), entries, verbose)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return v.remote(func(ctx context.Context, _ []string) error { return v.inspectRemote(ctx, name, insecure, verbose) })(ctx, args)
	}
}

// inspectEntry shows an entry of a local list.
func (v *verbs) inspectEntry(inList string, name ref.Ref, verbose bool) error {
	list, err := named(inList)
	if err != nil {
		return err
	}
	e, err := v.store.Get(list, name)
	if errors.Is(err, fs.ErrNotExist) {
		return noSuch(name)
	}
	if err != nil {
		return err
	}
	return v.showOne(e, verbose)
}

// inspectRemote shows what a registry has under a name.
func (v *verbs) inspectRemote(ctx context.Context, name ref.Ref, insecure, verbose bool) error {
	r, err := v.repository(ctx, name, insecure)
	if err != nil {
		return err
	}
	defer r.Close()
	e, isIndex, err := fetch(ctx, r, name)
	if err != nil {
		return err
	}
	if !isIndex {
		return v.showOne(e, verbose)
	}
	var l list
	if err := json.Unmarshal(e.Raw, &l); err != nil {
		return fmt.Errorf("the manifest list %s is not as it should be: %w", name, err)
	}
	l.MediaType = e.Descriptor.MediaType
	if l.Manifests == nil {
		l.Manifests = []item{}
	}
	var entries []Entry
	if verbose {
		if entries, err = children(ctx, r, name, l); err != nil {
			return err
		}
	}
	return v.showList(l, entries, verbose)
}

// maxChildren bounds how many manifests of a list are fetched.
const maxChildren = 1000

// children gets the manifests of a list.
func children(ctx context.Context, r Repository, name ref.Ref, l list) (out []Entry, err error) {
	if len(l.Manifests) > maxChildren {
		return nil, fmt.Errorf("the manifest list %s has %d entries, more than %d: ask without --verbose: %w", name, len(l.Manifests), maxChildren, errdefs.ErrOutOfRange)
	}
	for _, m := range l.Manifests {
		child := name
		child.Digest = m.Digest.String()
		p := ocispec.Platform{Architecture: m.Platform.Architecture, OS: m.Platform.OS, OSVersion: m.Platform.OSVersion, OSFeatures: m.Platform.OSFeatures, Variant: m.Platform.Variant}
		d := ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, Platform: &p}
		b, err := blob(ctx, r, d, maxManifest)
		if err != nil {
			return nil, unknown(child, err)
		}
		e, err := single(child, d, b)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// showOne prints a manifest: its own bytes, indented, or all that is known of it.
func (v *verbs) showOne(e Entry, verbose bool) error {
	if verbose {
		return v.print(json.MarshalIndent(e, "", "\t"))
	}
	raw := e.Raw
	if raw == nil { // stored by an old client
		raw = e.SchemaV2Manifest
	}
	var out bytes.Buffer
	err := json.Indent(&out, raw, "", "\t")
	return v.print(out.Bytes(), err)
}

func (v *verbs) showList(l list, entries []Entry, verbose bool) error {
	if verbose {
		if entries == nil {
			entries = []Entry{}
		}
		return v.print(json.MarshalIndent(entries, "", "\t"))
	}
	return v.print(l.bytes())
}

func (v *verbs) print(b []byte, err error) error {
	if err == nil {
		_, err = fmt.Fprintf(v.a.Out, "%s\n", b)
	}
	return err
}

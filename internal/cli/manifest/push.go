package manifest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func push(v *verbs, f *pflag.FlagSet) app.RunFunc {
	var insecure, purge bool
	f.BoolVar(&insecure, "insecure", false, "Push to a registry of any certificate, or of none")
	f.BoolVarP(&purge, "purge", "p", false, "Remove the local manifest list afterwards")
	return v.remote(func(ctx context.Context, args []string) error {
		list, err := named(args[0])
		if err != nil {
			return err
		}
		entries, err := v.store.List(list)
		if errors.Is(err, fs.ErrNotExist) {
			return noSuch(list)
		}
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("%s not found", list)
		}
		d, err := v.push(ctx, list, entries, insecure)
		if err != nil {
			return err
		}
		fmt.Fprintln(v.a.Out, d)
		if purge {
			return v.store.Remove(list)
		}
		return nil
	})
}

// push sends a list, and before it the manifests that are in another repository of the registry.
func (v *verbs) push(ctx context.Context, list ref.Ref, entries []Entry, insecure bool) (digest.Digest, error) {
	names := make([]ref.Ref, len(entries))
	for i, e := range entries {
		p := e.Descriptor.Platform
		if p == nil || p.OS == "" || p.Architecture == "" {
			return "", fmt.Errorf("manifest %s must have an OS and Architecture to be pushed to a registry", e.Ref)
		}
		var err error
		if names[i], err = ref.Parse(e.Ref); err != nil {
			return "", fmt.Errorf("an entry of %s has no name: %w", list, err)
		}
		if names[i].Domain != list.Domain {
			return "", fmt.Errorf("cannot use source images from a different registry than the target image: %s != %s", names[i].Domain, list.Domain)
		}
	}
	body, err := listOf(entries).bytes()
	if err != nil {
		return "", err
	}
	to, err := v.repository(ctx, list, insecure)
	if err != nil {
		return "", err
	}
	defer to.Close()
	for i, e := range entries {
		if names[i].Path == list.Path {
			continue
		}
		if err := v.copyOne(ctx, to, names[i], e, insecure); err != nil {
			return "", err
		}
		fmt.Fprintf(v.a.Out, "Pushed ref %s@%s with digest: %s\n", list.Name(), e.Descriptor.Digest, e.Descriptor.Digest)
	}
	// A list whose local name has a digest instead of a tag is pushed under its own.
	return digest.FromBytes(body), to.Put(ctx, listOf(entries).MediaType, list.Tag, body)
}

// copyOne brings an image from another repository of the registry: its blobs are mounted, or sent on where that is not allowed.
func (v *verbs) copyOne(ctx context.Context, to Repository, from ref.Ref, e Entry, insecure bool) error {
	if digest.FromBytes(e.Raw) != e.Descriptor.Digest {
		return fmt.Errorf("the local entry %s does not have the bytes of its manifest: remove the manifest list and create it again", e.Ref)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(e.Raw, &m); err != nil {
		return fmt.Errorf("the manifest of %s is not as it should be: %w", e.Ref, err)
	}
	source, err := v.repository(ctx, from, insecure)
	if err != nil {
		return err
	}
	defer source.Close()
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if strings.Contains(d.MediaType, "foreign") || strings.Contains(d.MediaType, "nondistributable") {
			continue // they stay where their makers keep them
		}
		read := func(offset int64) (io.ReadCloser, error) { return source.Fetch(ctx, d, offset) }
		if _, err := to.Upload(ctx, d, []string{from.Path}, read); err != nil {
			return fmt.Errorf("bringing %s from %s: %w", d.Digest, from.Name(), err)
		}
	}
	return to.Put(ctx, e.Descriptor.MediaType, "", e.Raw)
}

package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func annotate(v *verbs, f *pflag.FlagSet) app.RunFunc {
	var p ocispec.Platform
	f.StringVar(&p.Architecture, "arch", "", "Architecture")
	f.StringVar(&p.OS, "os", "", "Operating system")
	f.StringSliceVar(&p.OSFeatures, "os-features", nil, "Features that the operating system needs to have")
	f.StringVar(&p.OSVersion, "os-version", "", "Version of the operating system")
	f.StringVar(&p.Variant, "variant", "", "Variant of the architecture")
	return func(_ context.Context, args []string) error {
		list, err := named(args[0])
		if err != nil {
			return fmt.Errorf("annotate: error parsing name for manifest list %s: %w", args[0], err)
		}
		name, err := named(args[1])
		if err != nil {
			return fmt.Errorf("annotate: error parsing name for manifest %s: %w", args[1], err)
		}
		e, err := v.store.Get(list, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("manifest for image %s does not exist in %s", args[1], args[0])
		case err != nil:
			return err
		}
		if err := mark(&e, p); err != nil {
			return err
		}
		return v.store.Save(list, map[ref.Ref]Entry{name: e})
	}
}

// mark changes what an entry is for, as far as something is said.
func mark(e *Entry, said ocispec.Platform) error {
	if e.Descriptor.Platform == nil {
		e.Descriptor.Platform = &ocispec.Platform{}
	}
	p := e.Descriptor.Platform
	for _, field := range []struct {
		of   *string
		said string
	}{{&p.OS, said.OS}, {&p.Architecture, said.Architecture}, {&p.OSVersion, said.OSVersion}, {&p.Variant, said.Variant}} {
		if field.said != "" {
			*field.of = field.said
		}
	}
	for _, feature := range said.OSFeatures {
		if !slices.Contains(p.OSFeatures, feature) {
			p.OSFeatures = append(p.OSFeatures, feature)
		}
	}
	if !made(p.OS, p.Architecture) {
		return fmt.Errorf("manifest entry for image has unsupported os/arch combination: %s/%s", p.OS, p.Architecture)
	}
	return nil
}

package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func create(v *verbs, f *pflag.FlagSet) app.RunFunc {
	var amend, insecure bool
	f.BoolVarP(&amend, "amend", "a", false, "Add to a manifest list that exists")
	f.BoolVar(&insecure, "insecure", false, "Talk to a registry of any certificate, or of none")
	return v.remote(func(ctx context.Context, args []string) error {
		list, err := named(args[0])
		if err != nil {
			return fmt.Errorf("error parsing name for manifest list %s: %w", args[0], err)
		}
		_, err = v.store.List(list)
		switch {
		case err == nil && !amend:
			return errors.New("refusing to amend an existing manifest list with no --amend flag")
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		entries := map[ref.Ref]Entry{}
		for _, arg := range args[1:] {
			name, err := named(arg)
			if err != nil {
				return err
			}
			if _, err := v.store.Get(list, name); err == nil {
				continue // with what was annotated
			}
			if entries[name], err = v.fetchOne(ctx, name, insecure); err != nil {
				return err
			}
		}
		if err := v.store.Save(list, entries); err != nil {
			return err
		}
		fmt.Fprintf(v.a.Out, "Created manifest list %s\n", list)
		return nil
	})
}

// fetchOne gets the manifest of one image.
func (v *verbs) fetchOne(ctx context.Context, name ref.Ref, insecure bool) (Entry, error) {
	r, err := v.repository(ctx, name, insecure)
	if err != nil {
		return Entry{}, err
	}
	defer r.Close()
	e, isIndex, err := fetch(ctx, r, name)
	if err == nil && isIndex {
		err = fmt.Errorf("%s is a manifest list", name)
	}
	return e, err
}

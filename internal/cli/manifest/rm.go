package manifest

import (
	"context"
	"errors"
	"io/fs"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

func rm(v *verbs, _ *pflag.FlagSet) app.RunFunc {
	return func(_ context.Context, args []string) error {
		var errs []error
		for _, arg := range args {
			list, err := named(arg)
			if err == nil {
				if err = v.store.Remove(list); errors.Is(err, fs.ErrNotExist) {
					err = noSuch(list)
				}
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

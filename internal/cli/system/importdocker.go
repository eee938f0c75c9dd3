package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/importdocker"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
)

// importer is the executable that does the work of import-docker.
const importer = "gantry-import"

// importDocker becomes the importer, with the command line as it was typed.
func importDocker(_ context.Context, _ *app.App, _ importdocker.Options) error {
	if runtime.GOOS != "linux" {
		return errors.New("import-docker reads the files of a Docker engine: run it on the Linux machine where they are")
	}
	path := sibling.Path(importer)
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not installed: it belongs beside gantry, or into libexec/gantry", importer)
	}
	return fmt.Errorf("executing %s: %w", path, become(path, append([]string{os.Args[0]}, os.Args[1:]...), os.Environ()))
}

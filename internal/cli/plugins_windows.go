package cli

import (
	"errors"
	"os"
	"os/exec"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// execPlugin runs the plugin and passes its exit status on.
func execPlugin(path string, args, env []string) error {
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, env
	err := cmd.Run()
	var e *exec.ExitError
	if errors.As(err, &e) {
		return &app.Exit{Code: e.ExitCode()}
	}
	return err
}

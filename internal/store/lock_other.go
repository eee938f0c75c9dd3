//go:build !unix

package store

import (
	"fmt"
	"os"

	"github.com/containerd/errdefs"
)

func lockRoot(string) (*os.File, error) {
	return nil, fmt.Errorf("the engine's store needs a UNIX system: %w", errdefs.ErrNotImplemented)
}

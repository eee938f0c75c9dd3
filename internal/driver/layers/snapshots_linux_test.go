package layers

import (
	"context"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestSnapshotterSuite(t *testing.T) {
	// The name tells the suite that, as with all of overlayfs, folders of lower layers are not renamed (EXDEV).
	testsuite.SnapshotterSuite(t, "overlayfs", func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		s, err := Open(ctx, root, Options{Driver: DriverOverlay})
		if err != nil {
			return nil, nil, err
		}
		n, err := s.Snapshots()
		if err != nil {
			return nil, nil, err
		}
		return n, func() error {
			if err := n.Close(); err != nil {
				return err
			}
			return s.Close()
		}, nil
	})
}

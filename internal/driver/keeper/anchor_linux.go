package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// keeperLives tells whether there is a keeper, though none may listen: one that executes another binary, or has just begun.
// A second anchor would start a second keeper.
func keeperLives(execRoot string) bool {
	f, err := os.Open(filepath.Join(execRoot, keeperproto.Dir, keeperproto.KeeperLock))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// startAnchor starts the anchor in a session of its own. When one runs already, the
// new one finds the lock taken and ends.
func startAnchor(cfg Config) error {
	cmd := exec.Command(cfg.AnchorPath, "--exec-root", cfg.ExecRoot, "--keeper", cfg.KeeperPath, "--init", cfg.InitPath)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	dir := filepath.Join(cfg.ExecRoot, keeperproto.Dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	failpoint.Hit("gantryd.keeper-starting")
	out, err := os.OpenFile(filepath.Join(dir, "anchor.err"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	defer out.Close()
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	failpoint.Hit("gantryd.keeper-started")
	go func() {
		if err := cmd.Wait(); err != nil {
			cfg.Logger.Debug("anchor ended", "error", err)
		}
	}()
	return nil
}

//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// lockRoot takes the data root for this process. The kernel gives the lock back
// whatever way the process ends; the file holds the PID for the message only.
func lockRoot(root string) (*os.File, error) {
	path := filepath.Join(root, "gantryd.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain("opening", path, err)
	}
	if err := flockPatiently(f); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, explain("locking", path, err)
		}
		who := "another process"
		if b, rerr := os.ReadFile(path); rerr == nil && len(b) > 0 {
			who = "process " + strings.TrimSpace(string(b))
		}
		return nil, fmt.Errorf("the data root %s is in use by %s: stop that daemon, or give this one another --data-root: %w", root, who, errdefs.ErrFailedPrecondition)
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, explain("writing", path, err)
	}
	return f, nil
}

// flockPatiently gives a daemon that was just killed half a second: a helper that it was
// starting then has the lock's descriptor too, until it executes its program.
func flockPatiently(f *os.File) error {
	for deadline := time.Now().Add(500 * time.Millisecond); ; time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

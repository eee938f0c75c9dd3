package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

const removeTries = 200 // 1 s: a killed process leaves its cgroup when it is reaped, not before

// Destroy kills every process inside and removes the directories, with their children.
func Destroy(dirs map[string]string) error {
	seen := map[string]bool{}
	var errs []error
	for _, dir := range dirs {
		if !seen[dir] {
			seen[dir] = true
			errs = append(errs, remove(dir))
		}
	}
	return errors.Join(errs...)
}

func remove(dir string) error {
	for try := 0; ; try++ {
		err := removeTree(dir)
		if err == nil {
			return nil
		}
		if try >= removeTries {
			return fmt.Errorf("removing the cgroup %s: %w", dir, err)
		}
		if try%8 == 0 { // again and again: what was forked while the list was read is not in it
			kill(dir)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	subs, rerr := os.ReadDir(dir)
	if rerr != nil {
		return err
	}
	for _, s := range subs {
		if s.IsDir() {
			if e := removeTree(filepath.Join(dir, s.Name())); e != nil {
				return e
			}
		}
	}
	if err = unix.Rmdir(dir); err == unix.ENOENT {
		return nil
	}
	return err
}

func kill(dir string) {
	if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	pids, _ := cgroups.GetAllPids(dir)
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

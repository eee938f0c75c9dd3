package store

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

const bootFile = ".boot"

// bootID tells boots apart; a variable so that tests can reboot.
var bootID = func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// prepareVolatile makes the folder of volatile records. Those of another boot
// are dropped: an exec root that is not on tmpfs would otherwise bring them back.
func (s *Store) prepareVolatile() error {
	if err := os.MkdirAll(filepath.Dir(s.volatile), 0o711); err != nil {
		return err
	}
	mark := filepath.Join(s.volatile, bootFile)
	boot := bootID()
	if old, err := os.ReadFile(mark); err == nil && string(old) == boot {
		return nil
	}
	if err := os.RemoveAll(s.volatile); err != nil {
		return err
	}
	if err := os.MkdirAll(s.volatile, 0o700); err != nil {
		return err
	}
	return atomicfile.WriteVolatile(mark, []byte(boot), 0o600)
}

func (s *Store) volatileIDs(bucket string) map[string]bool {
	ids := map[string]bool{}
	entries, err := os.ReadDir(filepath.Join(s.volatile, bucket))
	if err != nil {
		return ids // none was ever written
	}
	for _, e := range entries {
		// A name with a dot in front is a write that a crash cut short.
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			ids[e.Name()] = true
		}
	}
	return ids
}

//go:build linux && (amd64 || arm64)

package runtime

import (
	"os"

	"github.com/gantry-engine/gantry/runtime/spawn"
)

// Files are the descriptors of a process to be started.
type Files struct {
	Init                  *os.File // gantry-init, from spawn.MemFile
	Stdin, Stdout, Stderr *os.File // nil is /dev/null; ignored with a terminal
	Keep                  []*os.File
	Gate                  *os.File
	NetNS                 *os.File
}

// Start makes the process and returns once the user's program runs in it, or
// with an *spawn.Error. The caller reaps it (PID) and closes PIDFD.
func Start(p *Program, f Files, h spawn.Handler) (*spawn.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	fd := func(f *os.File) int {
		if f == nil {
			return int(null.Fd())
		}
		return int(f.Fd())
	}
	cfg := &spawn.Config{Program: p.Init, Facts: p.Facts, Init: f.Init, Gate: -1, NetNS: -1, TargetPIDFD: -1}
	cfg.Stdio = [3]int{fd(f.Stdin), fd(f.Stdout), fd(f.Stderr)}
	for _, k := range f.Keep {
		cfg.Keep = append(cfg.Keep, fd(k))
	}
	if f.Gate != nil {
		cfg.Gate = fd(f.Gate)
	}
	if f.NetNS != nil {
		cfg.NetNS = fd(f.NetNS)
	}
	proc, err := spawn.Start(cfg)
	if err != nil {
		return nil, err
	}
	return proc, proc.Run(h)
}

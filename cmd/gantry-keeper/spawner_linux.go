package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeper"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// runtimeSpawner makes processes with the runtime library.
type runtimeSpawner struct {
	init *os.File // sealed in memory
	null *os.File
	park *parking
}

// initName is in the name of gantry-init's executable, in memory or on disk.
const initName = "gantry-init"

func newSpawner(initPath, execRoot string) (keeper.Spawner, error) {
	if initPath == "" {
		return nil, errors.New("--init is needed: the path of gantry-init")
	}
	init, err := spawn.MemFile(initPath)
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	// Before the descriptors of any container: see Parker. The exec root says whose the parked are.
	parker, err := spawn.NewParker(init, null, execRoot)
	if err != nil {
		return nil, err
	}
	return &runtimeSpawner{init: init, null: null, park: newParking(parker)}, nil
}

// Close ends the parked inits.
func (s *runtimeSpawner) Close() { s.park.kept.Stop() }

// start takes a parked init where one fits, and clones one otherwise.
func (s *runtimeSpawner) start(cfg *spawn.Config) (*spawn.Process, error) {
	if ns, ok := spawn.ParkedNamespaces(cfg); ok {
		if p := s.park.take(ns); p != nil {
			return p.Adopt(cfg)
		}
	}
	return spawn.Start(cfg)
}

// Spawn clones gantry-init and lets it become the user's program.
func (s *runtimeSpawner) Spawn(r keeper.SpawnRequest) (keeper.Spawned, error) {
	none := keeper.Spawned{MountNS: -1}
	facts, err := spawn.DecodeFacts(r.Launch.Facts)
	if err != nil {
		return none, err
	}
	cfg := spawn.Config{
		Program: r.Launch.Program, Facts: facts, Init: s.init, Stdio: [3]int{r.Stdin, r.Stdout, r.Stderr},
		Gate: -1, NetNS: -1, TargetPIDFD: r.TargetPIDFD,
	}
	if len(r.Files) > 0 {
		cfg.NetNS = r.Files[0]
	}
	if r.Stdin < 0 && !r.Launch.Terminal {
		cfg.Stdio[0] = int(s.null.Fd())
	}
	for i, j := range r.Launch.Join {
		cfg.Joins = append(cfg.Joins, spawn.JoinFD{Flag: spawn.KindFlag(j.Kind), FD: r.Joins[i]})
	}
	p, err := s.start(&cfg)
	if err != nil {
		if p != nil {
			reap(p.PID, p.PIDFD)
		}
		return none, launchError(err)
	}
	if err := r.Created(p.PID, p.PIDFD); err != nil {
		p.Abort()
		reapOnly(p.PID)
		return none, err
	}
	if err := p.Run(spawn.Handler{Terminal: r.Terminal}); err != nil {
		_ = unix.Kill(p.PID, unix.SIGKILL) // our child, not reaped: the number is its own
		reapOnly(p.PID)
		return none, launchError(err)
	}
	started := time.Now()
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil || r.Launch.Key.Exec != "" {
		if err == nil {
			_ = unix.Close(ns)
		}
		ns = -1 // it has ended already, or the container's init has it
	}
	return keeper.Spawned{Started: started, MountNS: ns}, nil
}

// Ran looks at the process's executable. A gantry-init that stays as PID 1 has a child by then.
func (s *runtimeSpawner) Ran(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(dir + "/exe")
	if err != nil {
		return false
	}
	if strings.HasSuffix(strings.TrimSuffix(exe, " (deleted)"), "/gantry-keeper") {
		return false // a clone of the former keeper that had not become gantry-init yet
	}
	if !strings.Contains(exe, initName) {
		return true
	}
	children, err := os.ReadFile(dir + "/task/" + strconv.Itoa(pid) + "/children")
	return err == nil && len(children) > 0
}

func reapOnly(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WALL, nil)
		if err != unix.EINTR {
			return
		}
	}
}

func reap(pid, pidfd int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	reapOnly(pid)
	if pidfd >= 0 {
		_ = unix.Close(pidfd)
	}
}

// launchError translates the runtime's error to the house's.
func launchError(err error) error {
	var e *spawn.Error
	if !errors.As(err, &e) {
		return err
	}
	return &spec.LaunchError{Stage: e.Stage, Path: e.Path, Errno: int(e.Errno), Text: e.Text}
}

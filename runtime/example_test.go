package runtime_test

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// A shell in a folder that holds a root file system.
func Example() {
	prog, err := runtime.Compile(&specs.Spec{
		Root:     &specs.Root{Path: "/srv/rootfs"},
		Hostname: "box",
		Process:  &specs.Process{Args: []string{"/bin/sh"}, Cwd: "/", Env: []string{"PATH=/bin:/usr/bin"}},
		Mounts:   []specs.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/dev", Type: "tmpfs"}},
		Linux:    &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "mount"}, {Type: "pid"}, {Type: "uts"}, {Type: "ipc"}}},
	}, runtime.Options{SetHome: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	init, err := spawn.MemFile("/usr/libexec/gantry/gantry-init")
	if err != nil {
		fmt.Println(err)
		return
	}
	shell, err := runtime.Start(prog, runtime.Files{Init: init, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, spawn.Handler{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var status unix.WaitStatus
	_, _ = unix.Wait4(shell.PID, &status, 0, nil)
	os.Exit(status.ExitStatus())
}

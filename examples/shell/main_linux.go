// Command shell starts a program in a container whose root file system is a folder, with the runtime
// library alone: no daemon, no image.
//
//	go build -o /tmp/gantry-init ./cmd/gantry-init
//	sudo GANTRY_INIT=/tmp/gantry-init go run ./examples/shell /srv/rootfs /bin/sh
package main

import (
	"log"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: shell ROOTFS COMMAND [ARGUMENT…]")
	}
	program, err := runtime.Compile(&specs.Spec{
		Root:     &specs.Root{Path: os.Args[1]},
		Hostname: "box",
		Process:  &specs.Process{Args: os.Args[2:], Cwd: "/", Env: []string{"PATH=/bin:/usr/bin"}},
		Mounts:   []specs.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/dev", Type: "tmpfs"}},
		Linux:    &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "mount"}, {Type: "pid"}, {Type: "uts"}, {Type: "ipc"}, {Type: "network"}}},
	}, runtime.Options{SetHome: true})
	if err != nil {
		log.Fatal(err)
	}
	init, err := spawn.MemFile(os.Getenv("GANTRY_INIT"))
	if err != nil {
		log.Fatal(err)
	}
	shell, err := runtime.Start(program, runtime.Files{Init: init, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, spawn.Handler{})
	if err != nil {
		log.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(shell.PID, &status, 0, nil); err != nil {
		log.Fatal(err)
	}
	os.Exit(status.ExitStatus())
}

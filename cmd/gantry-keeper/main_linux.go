// Command gantry-keeper is the parent of every container process of an engine.
// gantry-anchor starts it; see internal/keeper.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/gantry-engine/gantry/internal/keeper"
	"github.com/gantry-engine/gantry/internal/kit/calm"
	"github.com/gantry-engine/gantry/internal/version"
)

func main() {
	calm.Monitor()
	execRoot := flag.String("exec-root", "", "the engine's exec root")
	anchorPath := flag.String("anchor", "", "path of gantry-anchor, to start another when it is gone")
	initPath := flag.String("init", "", "path of gantry-init")
	anchorFD := flag.Int("anchor-fd", -1, "socket to the anchor")
	flag.Parse()
	if *execRoot == "" {
		fmt.Fprintln(os.Stderr, "gantry-keeper: --exec-root is needed; gantry-anchor starts this program, there is no need to run it by hand")
		os.Exit(2)
	}
	if err := run(*execRoot, *anchorPath, *initPath, *anchorFD); err != nil {
		fmt.Fprintln(os.Stderr, "gantry-keeper:", err)
		os.Exit(1)
	}
}

func run(execRoot, anchorPath, initPath string, anchorFD int) error {
	// Containers end when gantryd says so, not because somebody signals their parent.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	spawner, err := newSpawner(initPath, execRoot)
	if err != nil {
		return err
	}
	k, err := keeper.Open(keeper.Config{
		ExecRoot: execRoot, AnchorFD: anchorFD, AnchorPath: anchorPath,
		AnchorArgs: []string{"--exec-root", execRoot, "--keeper", self, "--init", initPath},
		Spawner:    spawner, Build: version.Version,
	})
	if err != nil {
		return err
	}
	return k.Run()
}

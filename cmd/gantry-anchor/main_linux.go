// Command gantry-anchor holds what must not be lost when the keeper dies, and
// starts the keeper. gantryd starts it; see internal/anchor.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/gantry-engine/gantry/internal/anchor"
	"github.com/gantry-engine/gantry/internal/kit/calm"
)

func main() {
	calm.Monitor()
	execRoot := flag.String("exec-root", "", "the engine's exec root")
	keeper := flag.String("keeper", "", "path of gantry-keeper")
	init := flag.String("init", "", "path of gantry-init, for the keeper")
	adopt := flag.Int("adopt", -1, "socket of a keeper that runs already")
	flag.Parse()
	if *execRoot == "" || *keeper == "" {
		fmt.Fprintln(os.Stderr, "gantry-anchor: --exec-root and --keeper are needed; gantryd starts this program, there is no need to run it by hand")
		os.Exit(2)
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gantry-anchor:", err)
		os.Exit(1)
	}
	err = anchor.Run(anchor.Config{
		ExecRoot: *execRoot, Keeper: *keeper, Adopt: *adopt,
		KeeperArgs: []string{"--exec-root", *execRoot, "--anchor", self, "--init", *init},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "gantry-anchor:", err)
		os.Exit(1)
	}
}

// Gantry-runtime is the OCI runtime command line over package runtime: create,
// start, state, kill, delete, run, exec, list, ps, pause, resume, update, events,
// features and spec, each a container below its
// state directory. It needs no daemon.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

type globals struct {
	root, log, logFormat string
	debug, systemdCgroup bool
}

func main() {
	g := &globals{}
	cmd := &cobra.Command{Use: "gantry-runtime", Short: "Run OCI containers", SilenceUsage: true, SilenceErrors: true}
	f := cmd.PersistentFlags()
	f.StringVar(&g.root, "root", "/run/gantry-runtime", "Directory for the state of containers")
	f.StringVar(&g.log, "log", "", "File for errors, beside standard error")
	f.StringVar(&g.logFormat, "log-format", "text", "Format of that file: text or json")
	f.BoolVar(&g.debug, "debug", false, "Accepted for compatibility")
	f.BoolVar(&g.systemdCgroup, "systemd-cgroup", false, "Let systemd make the cgroup")
	cmd.AddCommand(createCommand(g), startCommand(g), runCommand(g), stateCommand(g), killCommand(g), deleteCommand(g), listCommand(g),
		execCommand(g), psCommand(g), pauseCommand(g), resumeCommand(g), updateCommand(g), eventsCommand(g), featuresCommand(), specCommand())
	if err := cmd.Execute(); err != nil {
		g.report(err)
		os.Exit(1)
	}
}

// report writes an error where runc's callers look for it.
func (g *globals) report(err error) {
	fmt.Fprintln(os.Stderr, "gantry-runtime:", err)
	if g.log == "" {
		return
	}
	f, ferr := os.OpenFile(g.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if ferr != nil {
		return
	}
	defer f.Close()
	if g.logFormat == "json" {
		fmt.Fprintf(f, "{\"level\":\"error\",\"msg\":%q}\n", err.Error())
		return
	}
	fmt.Fprintf(f, "level=error msg=%q\n", err.Error())
}

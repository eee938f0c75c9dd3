// Gantry-runtime is the OCI runtime command line over package runtime: create,
// start, state, kill, delete, run, exec, list, ps, pause, resume, update, events,
// features and spec, each a container below its
// state directory. It needs no daemon.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/gantry-engine/gantry/internal/version"
)

type globals struct {
	root, log, logFormat, rootless string
	debug, systemdCgroup           bool
}

func main() {
	g := &globals{}
	cmd := &cobra.Command{Use: "gantry-runtime", Short: "Run OCI containers", SilenceUsage: true, SilenceErrors: true,
		Version: fmt.Sprintf("%s\ncommit: %s\nspec: %s\ngo: %s", version.Version, version.Commit, specs.Version, version.Go())}
	f := cmd.PersistentFlags()
	f.StringVar(&g.root, "root", "/run/gantry-runtime", "Directory for the state of containers")
	f.StringVar(&g.log, "log", "", "File for errors, beside standard error")
	f.StringVar(&g.logFormat, "log-format", "text", "Format of that file: text or json")
	f.StringVar(&g.rootless, "rootless", "auto", "Accepted for compatibility: this runtime needs root")
	f.BoolVar(&g.debug, "debug", false, "Accepted for compatibility")
	f.BoolVar(&g.systemdCgroup, "systemd-cgroup", false, "Let systemd make the cgroup")
	cmd.Flags().BoolP("version", "v", false, "Print the version")
	cmd.AddCommand(createCommand(g), startCommand(g), runCommand(g), stateCommand(g), killCommand(g), deleteCommand(g), listCommand(g),
		execCommand(g), psCommand(g), pauseCommand(g), resumeCommand(g), updateCommand(g), eventsCommand(g), featuresCommand(), specCommand())
	err := cmd.Execute()
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	if err != nil {
		g.report(err)
		os.Exit(1)
	}
}

// report writes an error where runc's callers look for it: they show the last one of the log file.
func (g *globals) report(err error) {
	fmt.Fprintln(os.Stderr, "gantry-runtime:", err)
	g.logLine("error", err.Error())
}

func (g *globals) logLine(level, text string) {
	if g.log == "" {
		return
	}
	f, err := os.OpenFile(g.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	now := time.Now().Format(time.RFC3339)
	if g.logFormat == "json" {
		_ = json.NewEncoder(f).Encode(map[string]string{"level": level, "msg": text, "time": now})
		return
	}
	fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, text)
}

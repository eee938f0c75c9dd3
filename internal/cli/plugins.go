package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/config"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
)

// Plugins are executables called gantry-<name> or docker-<name> in the folders below. They get the command line as it was typed, the
// command's name included, which is what docker's plugins expect.

func pluginDirs(a *app.App) []string {
	dirs := append([]string(nil), a.Home.Config().CLIPluginsDirs...)
	dirs = append(dirs, filepath.Join(a.Home.Dir, "cli-plugins"))
	if runtime.GOOS == "windows" {
		return append(dirs, filepath.Join(os.Getenv("ProgramData"), "Docker", "cli-plugins"), filepath.Join(os.Getenv("ProgramFiles"), "Docker", "cli-plugins"))
	}
	for _, base := range []string{"/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"} {
		dirs = append(dirs, base+"/gantry/cli-plugins", base+"/docker/cli-plugins")
	}
	return dirs
}

func validPluginName(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// findPlugin gives the executable of a plugin, or nothing.
func findPlugin(a *app.App, name string) string {
	if !validPluginName(name) {
		return ""
	}
	suffix := ""
	if runtime.GOOS == "windows" {
		suffix = ".exe"
	}
	for _, dir := range pluginDirs(a) {
		for _, prefix := range []string{"gantry-", "docker-"} {
			path := filepath.Join(dir, prefix+name+suffix)
			if st, err := os.Stat(path); err == nil && !st.IsDir() && (runtime.GOOS == "windows" || st.Mode()&0o111 != 0) {
				return path
			}
		}
	}
	return ""
}

// runPlugin hands the whole command line to a plugin.
func runPlugin(_ context.Context, a *app.App, argv []string, name string) (bool, error) {
	path := findPlugin(a, name)
	if path == "" {
		return false, nil
	}
	return true, execPlugin(path, argv, pluginEnv(a))
}

// handOver hands the whole command line to one of our own front ends: the executable gantry-<name> beside this one, or
// among the plugins.
func handOver(a *app.App, argv []string, front string) error {
	path := sibling.Path("gantry-" + front)
	if !filepath.IsAbs(path) {
		if path = findPlugin(a, front); path == "" {
			return fmt.Errorf("the executable gantry-%s is needed for this, and is neither beside %s nor among its plugins: install the whole package", front, a.Name)
		}
	}
	return execPlugin(path, argv, pluginEnv(a))
}

// pluginEnv tells a plugin which program ran it and, when only we know it, where the engine is.
func pluginEnv(a *app.App) []string {
	env := append(os.Environ(), "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND="+os.Args[0])
	if !a.Engine.Named() && a.Engine.CurrentContext() == config.DefaultContext {
		if t, err := a.Engine.Target(); err == nil {
			env = append(env, "DOCKER_HOST="+t.Host)
		}
	}
	return env
}

// pluginTimeout bounds how long a plugin may take to describe itself for the help.
const pluginTimeout = 5 * time.Second

// pluginCommands lists the plugins found, for the help.
func pluginCommands(a *app.App, root *app.Command) []*app.Command {
	var list []*app.Command
	seen := map[string]bool{}
	for _, dir := range pluginDirs(a) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			name := strings.TrimSuffix(e.Name(), ".exe")
			name, ok := strings.CutPrefix(name, "gantry-")
			if !ok {
				if name, ok = strings.CutPrefix(name, "docker-"); !ok {
					continue
				}
			}
			if seen[name] || !validPluginName(name) || root.Find(name) != nil {
				continue
			}
			if meta, ok := describePlugin(filepath.Join(dir, e.Name())); ok {
				seen[name] = true
				list = append(list, &app.Command{Name: name + "*", Short: meta.ShortDescription, Group: "management"})
			}
		}
	}
	return list
}

type pluginMeta struct {
	SchemaVersion    string
	Vendor           string
	Version          string
	ShortDescription string
	Hidden           bool
}

func describePlugin(path string) (pluginMeta, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), pluginTimeout)
	defer cancel()
	var m pluginMeta
	out, err := exec.CommandContext(ctx, path, "docker-cli-plugin-metadata").Output()
	if err != nil || json.Unmarshal(bytes.TrimSpace(out), &m) != nil {
		return m, false
	}
	return m, m.SchemaVersion != "" && m.Vendor != "" && !m.Hidden
}

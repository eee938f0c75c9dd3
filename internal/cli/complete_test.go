package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

func completions(t *testing.T, host, line string) string {
	t.Helper()
	out, errs, status := invoke(t, host, append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)...)
	if status != 0 || errs != "" {
		t.Errorf("%q: status %d, %s", line, status, errs)
	}
	return strings.Join(strings.Fields(out), " ")
}

func TestCompletion(t *testing.T) {
	host := serve(t, &engine{answers: map[string]string{
		"GET /containers/json": `[{"Names":["/web"]},{"Names":["/worker"]}]`, "GET /images/json": `[{"RepoTags":["bb:latest"]}]`, "GET /networks": `[{"Name":"bridge"},{"Name":"mine"}]`,
		"GET /volumes": `{"Volumes":[{"Name":"data"}]}`, "GET /info": `{"Plugins":{"Log":["json-file","none"],"Volume":["local"],"Network":["bridge"]},"Runtimes":{"runc":{},"gantry":{}}}`,
	}})
	for line, want := range map[string]string{
		"container re":                  "rename restart :4",
		"run --net":                     "--network --network-alias :4",
		"run --name x ":                 "bb:latest :4", // the value of a flag is no argument
		"run -it --network ":            "bridge mine container: :4",
		"run --network=mi":              "--network=mine :4",
		"run --network container:w":     "container:web container:worker :4",
		"run --log-driver ":             "json-file none :4",
		"run --runtime ":                "gantry runc :4",
		"run --pull=":                   "--pull=always --pull=missing --pull=never :4",
		"run --env-file ":               ":0", // files
		"run bb ":                       ":0", // somebody else's command line
		"run bb --net":                  ":0",
		"exec -it wo":                   "worker :4",
		"stop web ":                     "worker :4", // not twice
		"network connect mine ":         "web worker :4",
		"network create -d ":            "bridge :4",
		"volume create --driver ":       "local :4",
		"cp w":                          "web: worker: :0",
		"inspect ":                      "web worker bb:latest bridge mine data :4",
		"manifest annotate --os ":       "darwin freebsd linux windows :4",
		"manifest annotate --variant v": "v5 v6 v7 v8 :4",
		"manifest create --a":           "--amend :4",
		"kill -s U":                     "URG USR1 USR2 :4",
		"ps --filter sta":               "status= :6", // no space: a value follows
		"volume ls --filter d":          "dangling= driver= :4",
		"run --cap-add NET_B":           "NET_BIND_SERVICE NET_BROADCAST :4",
		"image bootstrap debian:b":      "debian:bookworm debian:bullseye debian:buster :4",
		"image bootstrap --variant m":   "minbase :4",
		"--context ":                    "default :4",
		"--host " + host + " rmi ":      "bb:latest :4",
		"--host unix:///nowhere start ": ":4",
	} {
		if got := completions(t, host, line); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
	if out, _, _ := invoke(t, host, "__complete", "ps", "--no-t"); out != "--no-trunc\tShow everything in full\n:4\n" {
		t.Errorf("with descriptions: %q", out)
	}
}

// The scripts are read by the shells they are for, as far as those are here.
func TestCompletionScripts(t *testing.T) {
	for shell, call := range map[string]string{"bash": "__complete", "zsh": "__complete", "fish": "__complete", "powershell": "__complete"} {
		out, errs, status := invoke(t, "unix:///nowhere", "completion", shell)
		if status != 0 || !strings.Contains(out, call) || !strings.Contains(out, "gantry") {
			t.Errorf("%s: status %d, %s", shell, status, errs)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		file := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command(path, "-n", file).CombinedOutput(); err != nil {
			t.Errorf("%s does not read its script: %v\n%s", shell, err, msg)
		}
	}
}

// What --help prints is all there is: every flag of the table that is not kept quiet about, short name included.
func TestHelpShowsEveryFlag(t *testing.T) {
	a, root := app.New("gantry"), Root()
	checked := 0
	for _, row := range table(t) {
		c := find(root, strings.Fields(row.command))
		if outside(row.command) || c == nil || row.flag == "" {
			continue
		}
		f, _ := c.Flags(a)
		fl := f.Lookup(row.flag)
		if fl == nil || fl.Hidden || fl.Deprecated != "" {
			continue
		}
		out, _, _ := invoke(t, "unix:///nowhere", append(strings.Fields(row.command), "--help")...)
		want := "    --" + row.flag
		if row.short != "" {
			want = "  -" + row.short + ", --" + row.flag
		}
		if !strings.Contains(out, want) {
			t.Errorf("%s --help does not show %q", row.command, want)
		}
		checked++
	}
	if checked < 400 {
		t.Errorf("only %d flags checked", checked)
	}
}

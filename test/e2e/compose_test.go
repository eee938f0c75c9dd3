package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// Docker Compose, unchanged, brings up an application of three tiers: nginx in front, a program that it asks by an alias,
// and Redis on a network that leads nowhere. It scales, comes up again with its data, and goes without leaving anything. The
// same on both engines.
func TestCompose(t *testing.T) {
	for _, docker := range []bool{true, false} {
		t.Run(map[bool]string{true: "dockerd", false: "gantryd"}[docker], func(t *testing.T) { compose(t, docker) })
	}
}

func compose(t *testing.T, docker bool) {
	e := testkit.Start(t, testkit.Options{Docker: docker, OwnNamespaces: true})
	serverImages(t, e)
	dir := filepath.Join(e.Dir, "shop")
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "test/e2e/testdata/compose"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "srv/cgi-bin/visits"), 0o755); err != nil {
		t.Fatal(err)
	}
	inside := func(name string, args ...string) (string, error) {
		cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(e.PID()), "-n", name}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "DOCKER_HOST=unix://"+e.Socket, "DOCKER_API_VERSION=1.41", "COMPOSE_API_VERSION=1.41")
		var both bytes.Buffer
		cmd.Stdout, cmd.Stderr = &both, &both
		err := cmd.Run()
		return both.String(), err
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := inside("docker-compose", args...)
		if err != nil {
			t.Fatalf("docker-compose %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	before := objects(t, e)
	visits := func(want string) {
		t.Helper()
		var out string
		var err error
		for range 100 {
			if out, err = inside("curl", "-sf", "-m", "3", "http://127.0.0.1:8181/cgi-bin/visits"); err == nil && strings.TrimSpace(out) != "" {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if strings.TrimSpace(out) != want {
			logs, _ := inside("docker-compose", "logs", "--no-color")
			t.Fatalf("the page says %q, %v; want %s\n%s", out, err, want, logs)
		}
	}

	run("up", "-d")
	visits("1")
	visits("2")
	if ps := run("ps"); strings.Count(ps, "Up") != 3 || !strings.Contains(ps, "127.0.0.1:8181->80/tcp") {
		t.Errorf("ps shows\n%s", ps)
	}
	if out := run("up", "-d"); !strings.Contains(out, "up-to-date") || strings.Contains(out, "Recreating") {
		t.Errorf("nothing has changed, and it says\n%s", out)
	}
	if out, err := inside("docker", "exec", "shop_web_1", "busybox", "nslookup", "store"); err == nil {
		t.Errorf("the web server finds the database, which is on another network:\n%s", out)
	}
	if out, err := inside("docker", "exec", "shop_db_1", "busybox", "ip", "route"); err != nil || !docker && strings.Contains(out, "default") {
		t.Errorf("the database's network leads outside: %v\n%s", err, out)
	}
	run("up", "-d", "--scale", "app=1", "--force-recreate", "app")
	visits("3")
	run("restart", "-t", "1")
	visits("4")
	run("down", "-t", "1")
	run("up", "-d")
	visits("5") // the volume has stayed
	run("down", "-t", "1", "-v")
	if after := objects(t, e); !slices.Equal(before, after) {
		t.Errorf("left behind: %v, before it was %v", after, before)
	}
}

// objects are the engine's networks and volumes.
func objects(t *testing.T, e *testkit.Engine) []string {
	t.Helper()
	all := strings.Fields(e.Must(t, "network", "ls", "--format", "{{.Name}}") + " " + e.Must(t, "volume", "ls", "-q") + " " + e.Must(t, "ps", "-aq"))
	slices.Sort(all)
	return all
}

// serverImages loads images of this host's own nginx and Redis, with the libraries that they need.
func serverImages(t *testing.T, e *testkit.Engine) {
	t.Helper()
	var images []imagemaker.Image
	busybox, err := imagemaker.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	images = append(images, busybox.Named("bb:latest"))
	for name, programs := range map[string][]string{"web": {"nginx"}, "db": {"redis-server", "redis-cli"}} {
		images = append(images, busybox.Named(name+":latest").Add(hostPrograms(t, programs...)))
	}
	var archive bytes.Buffer
	if _, err := imagemaker.Write(&archive, imagemaker.Archive{Images: images}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(e.Dir, "servers.tar")
	if err := os.WriteFile(file, archive.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	e.Must(t, "load", "-q", "-i", file)
}

// hostPrograms is a layer of programs of this host, and of what they are linked with.
func hostPrograms(t *testing.T, names ...string) (layer imagemaker.Layer) {
	t.Helper()
	have := map[string]bool{}
	add := func(path string, mode fs.FileMode) {
		if have[path] {
			return
		}
		have[path] = true
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		layer = append(layer, imagemaker.File(strings.TrimPrefix(path, "/"), string(data)).Mode(int64(mode)))
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("%v: it is installed by the Makefile's deps-test", err)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range strings.Fields(string(out)) {
			if strings.HasPrefix(f, "/") {
				add(f, 0o755)
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		layer = append(layer, imagemaker.File("bin/"+name, string(data)).Mode(0o755))
	}
	layer = append(layer, imagemaker.File("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"), imagemaker.File("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
		imagemaker.Dir("var/log/nginx"), imagemaker.Dir("tmp").Mode(0o1777), imagemaker.Dir("data"))
	return layer
}

package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// peer is the same box served by the installed runc, whose flags and outputs callers know.
func (b *box) peer() *box {
	b.t.Helper()
	runc, err := exec.LookPath("runc")
	if err != nil {
		b.t.Skip("runc, the reference, is not installed")
	}
	p := *b
	p.bin, p.state = runc, b.t.TempDir()
	return &p
}

// keys lists the paths of all members, those of lists without their places.
func keys(v any, at string, out map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			out[at+"."+k] = true
			keys(sub, at+"."+k, out)
		}
	case []any:
		for _, sub := range v {
			keys(sub, at+"[]", out)
		}
	}
}

func keysOf(t *testing.T, text string) map[string]bool {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	out := map[string]bool{}
	keys(v, "", out)
	return out
}

// TestFlagsOfRunc: whoever calls runc can call gantry-runtime.
func TestFlagsOfRunc(t *testing.T) {
	b := newBox(t, "true")
	p := b.peer()
	flag := regexp.MustCompile(`(?m)^\s+(?:-\w, )?(--[a-z0-9-]+)(?: (?:value|strings?|ints?|uint\d*|int\d*|duration|stringArray|int64Slice))?(?:, (-\w))?`)
	refused := map[string]string{"--criu": "checkpoints are not part of this runtime"}
	for _, verb := range []string{"", "create", "start", "run", "state", "kill", "delete", "exec", "ps", "pause", "resume", "update", "list", "events", "features", "spec"} {
		args := []string{"--help"}
		if verb != "" {
			args = []string{verb, "--help"}
		}
		ours := b.must(args...)
		theirs := p.must(args...)
		if i := strings.Index(theirs, "OPTIONS:"); i >= 0 {
			theirs = theirs[strings.LastIndex(theirs, "OPTIONS:"):]
		} else {
			continue
		}
		for _, m := range flag.FindAllStringSubmatch(theirs, -1) {
			long, short := m[1], m[2]
			if !regexp.MustCompile(regexp.QuoteMeta(long)+`\b`).MatchString(ours) && refused[long] == "" {
				t.Errorf("%s: runc has %s", verb, long)
			}
			if short != "" && !strings.Contains(ours, short+", "+long) {
				t.Errorf("%s: runc has %s for %s", verb, short, long)
			}
		}
	}
}

// TestOutputsOfRunc compares the members of what is printed as JSON. Counters come and go with
// the kernel's, so both look at the same time at containers that do the same.
func TestOutputsOfRunc(t *testing.T) {
	b := newBox(t, "sh", "-c", "while :; do sleep 0.1; done")
	p := b.peer()
	b.up(name(t))
	id := name(t) + "-peer"
	t.Cleanup(func() { p.run("delete", "--force", id) })
	p.must("run", "-d", "-b", b.bundle, id)
	extra := map[string][]string{ // members of ours that Debian's runc is too old for
		"features": {".linux.cgroup.rdma", ".linux.intelRdt", ".linux.intelRdt.enabled", ".linux.mountExtensions", ".linux.mountExtensions.idmap",
			".linux.mountExtensions.idmap.enabled", ".linux.netDevices", ".linux.netDevices.enabled"},
	}
	for name, args := range map[string][]string{"features": {"features"}, "list": {"list", "-f", "json"}, "state": {"state", "ID"}, "ps": {"ps", "-f", "json", "ID"}, "events": {"events", "--stats", "ID"}} {
		with := func(box *box, id string) map[string]bool {
			a := slices.Clone(args)
			for i := range a {
				a[i] = strings.ReplaceAll(a[i], "ID", id)
			}
			return keysOf(t, box.must(a...))
		}
		ours, theirs := with(b, b.id()), with(p, id)
		for k := range theirs {
			if !ours[k] && !strings.HasPrefix(k, ".annotations.") && !strings.HasPrefix(k, ".data.blkio.") {
				t.Errorf("%s: runc prints %s", name, k)
			}
		}
		for k := range ours {
			if !theirs[k] && !slices.Contains(extra[name], k) && !strings.HasPrefix(k, ".annotations.") && !strings.HasPrefix(k, ".data.blkio.") {
				t.Errorf("%s: only gantry-runtime prints %s", name, k)
			}
		}
	}
	for _, table := range [][]string{{"list"}, {"ps", "ID"}} {
		head := func(box *box, id string) []string {
			a := slices.Clone(table)
			a[len(a)-1] = strings.ReplaceAll(a[len(a)-1], "ID", id)
			line, _, _ := strings.Cut(box.must(a...), "\n")
			return strings.Fields(line)
		}
		if ours, theirs := head(b, b.id()), head(p, id); !slices.Equal(ours, theirs) {
			t.Errorf("%v: columns %v, runc's %v", table, ours, theirs)
		}
	}
}

// id is the container that up made.
func (b *box) id() string { return name(b.t) }

func TestListSkipsNothing(t *testing.T) {
	b := newBox(t, "true")
	if out := b.must("list", "-f", "json"); strings.TrimSpace(out) != "[]" && strings.TrimSpace(out) != "null" {
		t.Errorf("no container: %q", out)
	}
	b.write()
	id := name(t)
	t.Cleanup(func() { b.run("delete", "--force", id) })
	b.must("create", "-b", b.bundle, id)
	var all []shown
	if err := json.Unmarshal([]byte(b.must("list", "-f", "json")), &all); err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if s := all[0]; s.ID != id || s.Status != specs.StateCreated || s.Rootfs != filepath.Join(b.bundle, "rootfs") || s.Owner != "root" || time.Since(s.Created) > time.Minute {
		t.Errorf("%+v", s)
	}
}

func TestUpdate(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	id := name(t)
	b.up(id)
	read := func(controller, file string) string {
		out, err := exec.Command("cat", filepath.Join("/sys/fs/cgroup", controller, "gantry", id, file)).Output()
		if err != nil {
			t.Skipf("no cgroup v1 here: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
	for _, c := range []struct {
		args                   []string
		controller, file, want string
	}{
		{[]string{"--memory", "67108864"}, "memory", "memory.limit_in_bytes", "67108864"},
		{[]string{"--memory-reservation", "33554432"}, "memory", "memory.soft_limit_in_bytes", "33554432"},
		{[]string{"--cpu-quota", "50000", "--cpu-period", "100000"}, "cpu", "cpu.cfs_quota_us", "50000"},
		{[]string{"--cpu-share", "512"}, "cpu", "cpu.shares", "512"},
		{[]string{"--pids-limit", "77"}, "pids", "pids.max", "77"},
		{[]string{"--cpuset-cpus", "0"}, "cpuset", "cpuset.cpus", "0"},
	} {
		b.must(append(append([]string{"update"}, c.args...), id)...)
		if got := read(c.controller, c.file); got != c.want {
			t.Errorf("update %v: %s is %s", c.args, c.file, got)
		}
	}
	devices := read("devices", "devices.list")
	cmd := b.command("update", "-r", "-", id)
	cmd.Stdin = strings.NewReader(`{"pids":{"limit":88},"devices":[{"allow":true,"access":"rwm"}]}`)
	if out, code := b.finish(cmd); code != 0 || read("pids", "pids.max") != "88" || read("memory", "memory.limit_in_bytes") != "67108864" {
		t.Errorf("update -r -: code %d, %q", code, out)
	}
	if now := read("devices", "devices.list"); now != devices {
		t.Errorf("update changed what the container may open: %q, before %q", now, devices)
	}
	for _, args := range [][]string{{"--mem-bw-schema", "x"}, {"--cpuset-cpus", "4095"}, {"-r", "/nowhere"}} {
		if out, code := b.run(append(append([]string{"update"}, args...), id)...); code != 1 {
			t.Errorf("update %v: code %d, %q", args, code, out)
		}
	}
}

// TestEvents follows a container that is killed for want of memory, to its end.
func TestEvents(t *testing.T) {
	b := newBox(t, "sh", "-c", `while [ ! -e /go ]; do sleep 0.05; done; sh -c 'x=12345678; while :; do x=$x$x; done'; sleep 0.6`)
	limit := int64(32 << 20)
	b.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	id := name(t)
	b.up(id)
	cmd := b.command("events", "--interval", "100ms", id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for d := json.NewDecoder(out); ; {
		var e struct{ Type, ID string }
		if d.Decode(&e) != nil {
			break
		}
		if e.ID != id {
			t.Errorf("%+v", e)
		}
		if seen[e.Type]++; seen["stats"] == 2 && e.Type == "stats" {
			b.must("exec", id, "touch", "/go")
		}
	}
	if err := cmd.Wait(); err != nil || seen["stats"] < 3 || seen["oom"] == 0 {
		t.Errorf("events: %v, %v", seen, err)
	}
}

func TestSpec(t *testing.T) {
	b := newBox(t)
	config := filepath.Join(b.bundle, "config.json")
	b.must("spec", "-b", b.bundle)
	if out, code := b.run("spec", "-b", b.bundle); code != 1 || !strings.Contains(out, "exists") {
		t.Errorf("a second one: code %d, %q", code, out)
	}
	for _, change := range []string{"", "--rootless"} {
		if change != "" {
			if err := exec.Command("rm", config).Run(); err != nil {
				t.Fatal(err)
			}
			b.must("spec", change, "-b", b.bundle)
		}
		script := fmt.Sprintf(`s=$(cat %[1]s); echo "$s" | sed 's/"sh"/"id"/; s/"terminal": true/"terminal": false/' >%[1]s`, config)
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if out, code := b.run("run", "-b", b.bundle, name(t)); code != 0 || !strings.HasPrefix(out, "uid=0 gid=0") {
			t.Errorf("spec %s: code %d, %q", change, code, out)
		}
	}
}

func TestVersion(t *testing.T) {
	b := newBox(t)
	for _, flag := range []string{"--version", "-v"} {
		if out := b.must(flag); !strings.HasPrefix(out, "gantry-runtime version ") || !strings.Contains(out, "\nspec: "+specs.Version+"\n") {
			t.Errorf("%s: %q", flag, out)
		}
	}
}

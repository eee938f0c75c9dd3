package cgroup_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	lib "github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func host(t *testing.T) *cgroup.Host {
	t.Helper()
	h, err := cgroup.Discover()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// made makes a cgroup below one of the test's own, and removes both at the end.
func made(t *testing.T, path string) map[string]string {
	t.Helper()
	h := host(t)
	top := "/gantry-test-" + strings.ToLower(t.Name())
	dirs, err := h.Make(top + path)
	t.Cleanup(func() {
		all := map[string]string{}
		for _, hier := range h.Hierarchies {
			all[hier.Mount] = filepath.Join(hier.Mount, top)
		}
		if err := cgroup.Destroy(all); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// inside runs a shell in the cgroup and gives its output.
func inside(t *testing.T, dirs map[string]string, script string) string {
	t.Helper()
	var enter strings.Builder
	for _, d := range dirs {
		enter.WriteString("echo $$ >" + d + "/cgroup.procs || exit 9; ")
	}
	out, err := exec.Command("/bin/sh", "-c", enter.String()+script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func limits(t *testing.T, r *specs.LinuxResources) *lib.Resources {
	t.Helper()
	res, err := cgroup.Resources(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func set(t *testing.T, dirs map[string]string, res *lib.Resources) {
	t.Helper()
	m, err := cgroup.Manager("/x", dirs, false, res)
	if err == nil {
		err = m.Set(res)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDiscover(t *testing.T) {
	h := host(t)
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		t.Fatal(err)
	}
	if v2 := st.Type == unix.CGROUP2_SUPER_MAGIC; h.V2 != v2 {
		t.Errorf("v2: %v, /sys/fs/cgroup says %v", h.V2, v2)
	}
	seen := map[string]bool{}
	for _, hier := range h.Hierarchies {
		if _, err := os.Stat(filepath.Join(hier.Mount, "cgroup.procs")); err != nil {
			t.Error(err)
		}
		if h.V2 == (len(hier.Names) > 0) {
			t.Errorf("%s has the names %q", hier.Mount, hier.Names)
		}
		for _, n := range hier.Names {
			if seen[n] {
				t.Errorf("%s is there twice", n)
			}
			seen[n] = true
		}
		// What it calls our own cgroup has us in it.
		procs, err := os.ReadFile(filepath.Join(hier.Mount, hier.Own, "cgroup.procs"))
		if err != nil || !slices.Contains(strings.Fields(string(procs)), strconv.Itoa(os.Getpid())) {
			t.Errorf("%s below %s: %v, this process is not inside", hier.Own, hier.Mount, err)
		}
	}
}

func TestMakeAndDestroy(t *testing.T) {
	h := host(t)
	dirs := made(t, "/a/b/c")
	for name, d := range dirs {
		if fi, err := os.Stat(d); err != nil || !fi.IsDir() {
			t.Errorf("%q: %s: %v", name, d, err)
		}
	}
	if h.V2 {
		top, _ := os.ReadFile(filepath.Join(h.Hierarchies[0].Mount, "cgroup.controllers"))
		leaf, err := os.ReadFile(filepath.Join(dirs[""], "cgroup.controllers"))
		if err != nil || !bytes.Equal(top, leaf) {
			t.Errorf("controllers at the top %q, three levels below %q (%v)", top, leaf, err)
		}
	} else {
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			if b, err := os.ReadFile(filepath.Join(dirs["cpuset"], f)); err != nil || strings.TrimSpace(string(b)) == "" {
				t.Errorf("%s is not taken over: %q %v", f, b, err)
			}
		}
	}
	again, err := h.Make("/gantry-test-" + strings.ToLower(t.Name()) + "/a/b/c")
	if err != nil || !maps.Equal(again, dirs) {
		t.Errorf("made again: %v, %v before: %v", again, dirs, err)
	}
}

// A process with a child in a sub-cgroup of its own, as systemd in a container makes one.
// A parent that somebody else has made a moment ago, and not set up yet, is no hindrance.
func TestMakeInUnfinishedParent(t *testing.T) {
	h, err := cgroup.Discover()
	if err != nil {
		t.Fatal(err)
	}
	if h.V2 {
		t.Skip("cgroup v2 hands processors on by itself")
	}
	parent := fmt.Sprintf("/gantry-unfinished-%d", os.Getpid())
	for _, hier := range h.Hierarchies {
		dir := filepath.Join(hier.Mount, parent)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
	}
	dirs, err := h.Make(parent + "/child")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range dirs {
			_ = os.Remove(d)
		}
	})
	if dirs["cpuset"] == "" {
		t.Skip("this host has no cpuset controller")
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if b, err := os.ReadFile(filepath.Join(dirs["cpuset"], file)); err != nil || strings.TrimSpace(string(b)) == "" {
			t.Errorf("%s is %q, %v: nothing can run there", file, b, err)
		}
	}
}

func TestDestroyKillsAll(t *testing.T) {
	dirs := made(t, "/c")
	any := dirs["pids"] // a child of a cpuset takes nobody in before it has processors
	if any == "" {
		any = dirs[""]
	}
	sub := filepath.Join(any, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	var procs []*exec.Cmd
	for _, d := range []string{any, sub} {
		c := exec.Command("/bin/sleep", "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, c)
		if err := os.WriteFile(filepath.Join(d, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, len(procs))
	for _, c := range procs {
		go func() { ended <- c.Wait() }()
	}
	if err := cgroup.Destroy(dirs); err != nil {
		t.Fatal(err)
	}
	for range procs {
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("a process ended by %v", err)
		}
	}
	for _, d := range dirs {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", d, err)
		}
	}
	if err := cgroup.Destroy(dirs); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestFailedMakeLeavesNothing(t *testing.T) {
	h := host(t)
	if _, err := h.Make("/gantry-test-x\nx"); err == nil || !strings.Contains(err.Error(), "making the cgroup") {
		t.Errorf("a name that the kernel refuses: %v", err)
	}
	for _, hier := range h.Hierarchies {
		if left, _ := filepath.Glob(filepath.Join(hier.Mount, "gantry-test-x*")); len(left) > 0 {
			t.Errorf("left behind: %s", left)
		}
	}
}

// Devices: a list on v1, a program on v2; what counts is what a process may open.
func TestDeviceRules(t *testing.T) {
	dirs := made(t, "/d")
	major, kmsg := int64(1), int64(11)
	res := limits(t, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}})
	set(t, dirs, res)
	const try = `for f in /dev/null /dev/kmsg; do if head -c0 <$f; then echo may $f; fi 2>/dev/null; done; true`
	if out := inside(t, dirs, try); !strings.Contains(out, "may /dev/null") || strings.Contains(out, "may /dev/kmsg") {
		t.Errorf("with nothing allowed but what all may: %q", out)
	}
	if d := dirs["devices"]; d != "" {
		list, _ := os.ReadFile(filepath.Join(d, "devices.list"))
		if !strings.Contains(string(list), "c 1:3 rwm") || strings.Contains(string(list), "a *:*") {
			t.Errorf("devices.list:\n%s", list)
		}
	}
	res = limits(t, &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Major: &major, Minor: &kmsg, Access: "r"}}})
	set(t, dirs, res)
	if out := inside(t, dirs, try); !strings.Contains(out, "may /dev/kmsg") {
		t.Errorf("with /dev/kmsg allowed: %q", out)
	}
	if out := inside(t, dirs, `( : >/dev/kmsg ) 2>/dev/null && echo written; true`); strings.Contains(out, "written") {
		t.Error("written to what may be read only")
	}
}

func TestResources(t *testing.T) {
	n := func(i int64) *int64 { return &i }
	shares := uint64(1024)
	for name, c := range map[string]struct {
		in   *specs.LinuxResources
		want func(*lib.Resources) bool
		err  string
	}{
		"nothing":     {nil, func(r *lib.Resources) bool { return r.SkipDevices && r.Memory == 0 }, ""},
		"tiny memory": {&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(4096)}}, nil, "too small"},
		"no limit":    {&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(-1)}}, func(r *lib.Resources) bool { return r.Memory == -1 }, ""},
		"weight":      {&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}, func(r *lib.Resources) bool { return r.CpuShares == 1024 && r.CpuWeight > 1 }, ""},
		"device kind": {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "x"}}}, nil, "not known"},
		"default rule": {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{}}}, func(r *lib.Resources) bool {
			return !r.SkipDevices && len(r.Devices) > 5 && string(r.Devices[0].Permissions) == "rwm"
		}, ""},
		"huge pages": {&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 9}}},
			func(r *lib.Resources) bool { return len(r.HugetlbLimit) == 1 && r.HugetlbLimit[0].Limit == 9 }, ""},
	} {
		r, err := cgroup.Resources(c.in)
		switch {
		case c.err != "":
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || !c.want(r):
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

func TestMissingController(t *testing.T) {
	dirs := made(t, "/m")
	limit := int64(64 << 20)
	asked := limits(t, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &limit}})
	if err := cgroup.Check(dirs, asked); err != nil {
		t.Errorf("with everything there: %v", err)
	}
	lacking := map[string]string{}
	if host(t).V2 {
		// Below a cgroup to which only the pids controller was delegated.
		parent := filepath.Join(dirs[""], "pids-only")
		lacking[""] = filepath.Join(parent, "leaf")
		if err := errors.Join(os.Mkdir(parent, 0o755), os.WriteFile(filepath.Join(dirs[""], "cgroup.subtree_control"), []byte("+pids"), 0), os.Mkdir(lacking[""], 0o755),
			os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+pids"), 0)); err != nil {
			t.Fatal(err)
		}
	} else {
		for name, d := range dirs {
			if name != "memory" {
				lacking[name] = d
			}
		}
	}
	err := cgroup.Check(lacking, asked)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), `memory limit (controller "memory")`) || strings.Contains(err.Error(), "process limit") {
		t.Errorf("a memory limit without the controller: %v", err)
	}
	none := int64(-1)
	for name, r := range map[string]*specs.LinuxResources{"nothing": nil, "no limit": {Memory: &specs.LinuxMemory{Limit: &none, Swap: &none}, CPU: &specs.LinuxCPU{}}} {
		if err := cgroup.Check(lacking, limits(t, r)); err != nil {
			t.Errorf("%s asked for: %v", name, err)
		}
	}
}

// Unified resources are files of cgroup v2; a hybrid host's v2 hierarchy has no controllers for them.
func TestUnified(t *testing.T) {
	dirs := made(t, "/u")
	res := limits(t, &specs.LinuxResources{Unified: map[string]string{"pids.max": "33"}})
	err := cgroup.Check(dirs, res)
	if !host(t).V2 {
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "cgroup v2") {
			t.Errorf("on v1: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	set(t, dirs, res)
	if b, err := os.ReadFile(filepath.Join(dirs[""], "pids.max")); err != nil || string(b) != "33\n" {
		t.Errorf("pids.max %q %v", b, err)
	}
	if err := cgroup.Check(dirs, limits(t, &specs.LinuxResources{Unified: map[string]string{"nosuch.max": "1"}})); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("a controller that does not exist: %v", err)
	}
}

func TestScopeNames(t *testing.T) {
	for text, want := range map[string]string{
		"system.slice:gantry:abc": "/system.slice/gantry-abc.scope",
		":cri-containerd:x":       "/system.slice/cri-containerd-x.scope",
		"a-b.slice:p:n":           "/a.slice/a-b.slice/p-n.scope",
		"-.slice:p:n":             "/p-n.scope",
	} {
		s, err := cgroup.ParseScope(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if at, err := s.Path(); err != nil || at != want {
			t.Errorf("%s is %s, %v", text, at, err)
		}
	}
	for _, text := range []string{"/a/path", "a.slice:p", "a.slice:p:", "noslice:p:n", "a--b.slice:p:n", "a/b.slice:p:n", "a.slice:p:../n"} {
		if _, err := cgroup.ParseScope(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Scopes by systemd itself, where it is PID 1 and has cgroup v2.
func TestScope(t *testing.T) {
	if err := cgroup.CheckSystemd(); err != nil {
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "native.cgroupdriver=cgroupfs") {
			t.Errorf("the reason: %v", err)
		}
		t.Skip(err) // test/vm has one
	}
	s := cgroup.Scope{Slice: "gantrytest-a.slice", Prefix: "gantry", Name: "scope" + strconv.Itoa(os.Getpid())}
	path, err := s.Path()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the same name again at once
		dirs, release, err := s.Make([]string{"/bin/cat"})
		if err != nil {
			t.Fatal(err)
		}
		limit, pids := int64(64<<20), int64(20)
		res := limits(t, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids}})
		m, err := cgroup.Manager(path, dirs, true, res)
		if err == nil {
			err = errors.Join(cgroup.Check(dirs, res), m.Set(res))
		}
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("/bin/sh", "-c", "echo $$ >"+dirs[""]+"/cgroup.procs; exec sleep 1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for !slices.Equal(pidsOf(t, dirs[""]), []int{c.Process.Pid}) {
			if len(pidsOf(t, dirs[""])) == 2 {
				release()
			}
		}
		if b, err := os.ReadFile(filepath.Join(dirs[""], "memory.max")); err != nil || string(b) != "67108864\n" {
			t.Errorf("memory.max %q %v", b, err)
		}
		out, err := exec.Command("systemctl", "show", "-P", "Slice", "-P", "Delegate", "-P", "TasksMax", s.Unit()).Output()
		if err != nil || !strings.Contains(string(out), "gantrytest-a.slice") || !strings.Contains(string(out), "yes") || !strings.Contains(string(out), "20") {
			t.Errorf("systemd knows %q, %v", out, err)
		}
		go func() { _ = c.Wait() }()
		if err := cgroup.DestroyScope(path, dirs); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dirs[""]); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the scope's cgroup is left: %v", err)
		}
	}
}

func pidsOf(t *testing.T, dir string) []int {
	t.Helper()
	pids, err := lib.GetPids(dir)
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

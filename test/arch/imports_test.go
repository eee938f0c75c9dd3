package arch

import (
	"strings"
	"testing"
)

// rule forbids imports. From and Banned are folders of this module, or whole
// import paths of others; Except are folders below From that may all the same.
type rule struct {
	from   string
	banned []string
	allow  []string // packages below banned that are fine
	except []string // importers below from that are exempt
	why    string
}

var rules = []rule{
	{from: "", banned: []string{"github.com/docker/docker", "github.com/moby/moby/v2"},
		why: "the peer's daemon is no dependency"},
	{from: "internal/spec", banned: []string{"internal", "runtime", "cmd"},
		why: "plain values stand at the bottom"},
	{from: "internal/kit", banned: []string{"internal", "runtime", "cmd"}, allow: []string{"internal/kit"},
		why: "tiny helpers know nothing of the house"},
	{from: "internal/cli", banned: []string{"internal/service", "internal/driver", "internal/server", "internal/store", "internal/sys", "internal/keeper", "internal/keeperproto", "internal/config", "runtime"},
		why: "the command line talks to the API and works on every platform"},
	{from: "cmd/gantry", banned: []string{"internal/service", "internal/driver", "internal/server", "internal/store", "internal/sys", "internal/keeper", "internal/keeperproto", "internal/config", "runtime"},
		why: "the command line talks to the API and works on every platform"},
	{from: "internal/server", banned: []string{"internal/driver", "internal/sys", "internal/store", "internal/keeper", "internal/keeperproto", "runtime"},
		why: "the server decodes and encodes; drivers are behind the services"},
	{from: "internal/service", banned: []string{"internal/driver", "internal/sys", "internal/server", "internal/store", "internal/keeper", "internal/keeperproto", "runtime"},
		why: "services decide; their ports are filled in cmd/gantryd/wire_linux.go"},
	{from: "internal/driver", banned: []string{"internal/service", "internal/server", "internal/cli", "internal/config"},
		allow: []string{"internal/service/containers", "internal/service/networks", "internal/service/volumes", "internal/service/images"},
		why:   "drivers implement ports; of services they may name only the packages that declare those ports' value types"},
	{from: "internal/sys", banned: []string{"internal", "cmd"}, allow: []string{"internal/sys", "internal/kit", "internal/spec", "internal/testkit"},
		why: "system calls carry no policy"},
	{from: "internal/keeper", banned: []string{"net/http", "encoding/json", "internal/service", "internal/driver", "internal/server", "internal/store", "go.etcd.io/bbolt", "github.com/containerd/containerd/v2", "github.com/opencontainers/cgroups"},
		why: "the keeper is small enough to be believed correct"},
	{from: "internal/anchor", banned: []string{"net/http", "encoding/json", "internal/service", "internal/driver", "internal/server", "internal/store"},
		why: "the anchor is never upgraded while containers run: it holds, gives back, and reaps"},
	{from: "cmd/gantry-init", banned: []string{"fmt", "net", "net/http", "os", "encoding/json", "reflect", "internal/service", "internal/driver", "internal/server"},
		why: "init's start-up time is on every container's bill"},
	{from: "internal", banned: []string{"github.com/sigstore", "internal/trust/sigstore"}, except: []string{"internal/trust/sigstore"},
		why: "what reads strangers' signatures runs in gantry-trust, without rights"},
	{from: "cmd", banned: []string{"github.com/sigstore", "internal/trust/sigstore"}, except: []string{"cmd/gantry-trust"},
		why: "what reads strangers' signatures runs in gantry-trust, without rights"},
	{from: "internal/cli", banned: []string{"internal/registryserver"}, allow: []string{"internal/registryserver/flags"},
		why: "the registry is an executable of its own; the command line knows its flags only"},
	{from: "internal/registryserver", banned: []string{"internal/service", "internal/driver", "internal/server", "internal/cli", "internal/store", "internal/sys", "internal/config", "internal/keeper", "internal/keeperproto", "runtime"},
		why: "the registry stands alone: it is a server for engines, not a part of one; its way to other registries is wired in cmd/gantry-registry"},
	{from: "internal/lazy", banned: []string{"internal/service", "internal/driver", "internal/server", "internal/cli", "internal/store", "internal/config", "internal/keeper", "internal/keeperproto", "runtime"},
		why: "what serves layers stands alone; its way to registries is wired in cmd/gantry-lazy"},
	{from: "internal/names", banned: []string{"internal/service", "internal/driver", "internal/server", "internal/cli", "internal/store", "internal/sys", "internal/spec", "internal/config", "internal/keeper", "internal/keeperproto", "runtime", "net/http"},
		why: "what answers containers' questions about names is small and outlives the daemon that feeds it"},
	{from: "internal/registryserver/flags", banned: []string{"internal", "net/http", "go.yaml.in/yaml/v3"},
		why: "the command line links the flags for its help"},
	{from: "internal/registryserver/storage", banned: []string{"net/http"},
		why: "storage knows content, links and sums; requests are protocol's"},
	{from: "runtime", banned: []string{"net/http", "internal/service", "internal/driver", "internal/server", "internal/store", "internal/keeper", "internal/keeperproto", "internal/cli"},
		why: "the kernel library is public and stands alone"},
}

func TestImportRules(t *testing.T) {
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		for _, imp := range f.imports {
			for _, r := range rules {
				if r.breaks(f.pkg, imp) {
					t.Errorf("%s imports %s: %s", f.path, imp, r.why)
				}
			}
		}
	}
}

// Drivers of one kind never import drivers of another, services never their siblings.
func TestSiblingsStayApart(t *testing.T) {
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		for _, layer := range []string{"internal/service", "internal/driver", "internal/server/route"} {
			own, ok := sibling(f.pkg, layer)
			if !ok {
				continue
			}
			for _, imp := range f.imports {
				other, ok := sibling(strings.TrimPrefix(imp, module+"/"), layer)
				if ok && other != own {
					t.Errorf("%s imports %s: siblings in %s never import each other", f.path, imp, layer)
				}
			}
		}
	}
}

// Only tests use the test kit, and only wiring code names concrete drivers.
func TestTestkitStaysInTests(t *testing.T) {
	for _, f := range tree(t) {
		if f.test || within(f.pkg, "internal/testkit") || within(f.pkg, "test") {
			continue
		}
		for _, imp := range f.imports {
			if within(strings.TrimPrefix(imp, module+"/"), "internal/testkit") {
				t.Errorf("%s imports %s: only tests may", f.path, imp)
			}
			if strings.HasPrefix(imp, module+"/internal/driver/") && !within(f.pkg, "internal/driver") && !within(f.pkg, "cmd/gantryd") && !within(f.pkg, "cmd/gantry-registry") && !within(f.pkg, "cmd/gantry-manifest") && !within(f.pkg, "cmd/gantry-lazy") {
				t.Errorf("%s imports %s: only cmd/gantryd, cmd/gantry-lazy, cmd/gantry-registry and cmd/gantry-manifest wire drivers", f.path, imp)
			}
		}
	}
}

// Only sys, runtime and what is linked into the small processes call the kernel directly.
func TestOnlySysCallsTheKernel(t *testing.T) {
	kernel := []string{"golang.org/x/sys/unix", "github.com/vishvananda/netlink", "github.com/vishvananda/netns"}
	mayNot := []string{"internal/service", "internal/server", "internal/cli", "internal/spec", "internal/kit", "internal/store", "internal/config"}
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		for _, dir := range mayNot {
			if !within(f.pkg, dir) {
				continue
			}
			for _, imp := range f.imports {
				for _, k := range kernel {
					if within(imp, k) {
						t.Errorf("%s imports %s: system calls are made in internal/sys and runtime", f.path, imp)
					}
				}
			}
		}
	}
}

func (r rule) breaks(pkg, imp string) bool {
	if !within(pkg, r.from) && r.from != "" {
		return false
	}
	for _, e := range r.except {
		if within(pkg, e) {
			return false
		}
	}
	local, inside := strings.CutPrefix(imp, module+"/")
	for _, a := range r.allow {
		if inside && within(local, a) {
			return false
		}
	}
	for _, b := range r.banned {
		if inside && within(local, b) && !within(local, r.from) {
			return true
		}
		if !inside && b != "runtime" && (imp == b || strings.Contains(b, ".") && within(imp, b)) { // "runtime" is ours, not Go's
			return true
		}
	}
	return false
}

func sibling(pkg, layer string) (string, bool) {
	rest, ok := strings.CutPrefix(pkg, layer+"/")
	if !ok {
		return "", false
	}
	name, _, _ := strings.Cut(rest, "/")
	return name, true
}

// The rules themselves are tried: a rule that can never fire protects nothing.
func TestRulesFire(t *testing.T) {
	for _, c := range []struct {
		pkg, imp string
		want     bool
	}{
		{"internal/service/images", module + "/internal/driver/layers", true},
		{"internal/service/images", module + "/internal/spec", false},
		{"internal/driver/keeper", module + "/internal/service/containers", false},
		{"internal/driver/keeper", module + "/internal/service/events", true},
		{"internal/cli/run", module + "/internal/service/containers", true},
		{"internal/keeper", "net/http", true},
		{"internal/keeper", "github.com/containerd/containerd/v2/core/content", true},
		{"cmd/gantry-init", "fmt", true},
		{"internal/cli/registry", module + "/internal/registryserver/flags", false},
		{"internal/cli/registry", module + "/internal/registryserver/storage", true},
		{"internal/registryserver/cache", module + "/internal/driver/registry", true},
		{"internal/registryserver/cache", module + "/internal/registryserver/storage", false},
		{"runtime", "github.com/docker/docker/api/types", true},
		{"cmd/gantryd", module + "/internal/trust/sigstore", true},
		{"internal/service/images", "github.com/sigstore/sigstore-go/pkg/verify", true},
		{"cmd/gantry-trust", module + "/internal/trust/sigstore", false},
		{"internal/kit/undo", module + "/internal/spec", true},
		{"internal/sys/mount", module + "/internal/kit/undo", false},
	} {
		got := false
		for _, r := range rules {
			got = got || r.breaks(c.pkg, c.imp)
		}
		if got != c.want {
			t.Errorf("%s importing %s: forbidden %v, want %v", c.pkg, c.imp, got, c.want)
		}
	}
}

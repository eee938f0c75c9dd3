package network

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit"
)

// victim is an engine in a process of its own, which can be killed.
type victim struct {
	cmd *exec.Cmd
	out *json.Decoder
	cfg Config
}

const victimEnv = "GANTRY_TEST_VICTIM"

// attached is what the victim tells of a container.
type attached struct {
	Sandbox spec.Sandbox
	Fd      int // of its namespace, in the victim
}

// TestVictim is the engine that others kill; it does nothing by itself.
func TestVictim(t *testing.T) {
	if os.Getenv(victimEnv) == "" {
		return
	}
	var cfg Config
	if err := json.Unmarshal([]byte(os.Getenv(victimEnv)), &cfg); err != nil {
		t.Fatal(err)
	}
	e := open(t, cfg)
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for id, ports := range map[string][]spec.Port{"web": {{Proto: "tcp", ContainerPort: 80, HostPort: 8080}}, "forgotten": nil} {
		sb, err := e.Attach(ctx, spec.SandboxRequest{Container: id, Name: id, Ports: ports})
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Encode(map[string]attached{id: {sb, int(sb.NetNS.Fd())}}); err != nil {
			t.Fatal(err)
		}
	}
	select {}
}

func startVictim(t *testing.T, cfg Config) *victim {
	t.Helper()
	env, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestVictim$")
	cmd.Env = append(os.Environ(), victimEnv+"="+string(env))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &victim{cmd: cmd, out: json.NewDecoder(out), cfg: cfg}
	t.Cleanup(v.kill)
	return v
}

func (v *victim) kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// containers reads what the victim attached, and holds the namespaces as processes would.
func (v *victim) containers(t *testing.T) map[string]spec.Sandbox {
	t.Helper()
	all := map[string]spec.Sandbox{}
	for len(all) < 2 {
		var one map[string]attached
		if err := v.out.Decode(&one); err != nil {
			t.Fatal(err)
		}
		for id, a := range one {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/fd/%d", v.cmd.Process.Pid, a.Fd))
			if err != nil {
				t.Fatal(err)
			}
			a.Sandbox.NetNS = ns
			all[id] = a.Sandbox
		}
	}
	return all
}

func TestKilledDaemon(t *testing.T) {
	cfg := testConfig()
	cfg.ExecRoot, cfg.GantryNet = testkit.ShortTempDir(t), gantryNet(t)
	v := startVictim(t, cfg)
	all := v.containers(t)
	web, forgotten := all["web"], all["forgotten"]
	l := serve(t, web.NetNS, 80)
	wait(t, "the pool to fill", func() bool { return strings.Count(links(t), web.Endpoints[0].HostVeth[:6]) >= 2+cfg.PoolSize })
	v.kill()
	if _, err := ask(nil, "127.0.0.1:8080"); err != nil {
		t.Errorf("with the daemon dead: %v", err)
	}

	e := open(t, cfg)
	e.prefix = web.Endpoints[0].HostVeth[:6]
	gone := spec.Sandbox{ID: "gone", Endpoints: []spec.Endpoint{{NetworkID: web.Endpoints[0].NetworkID, HostVeth: "gv0000none", IPv4: web.Endpoints[0].IPv4}}}
	if err := e.Restore(ctx, "web", web, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if err := e.Restore(ctx, "gone", gone, 1<<22+1); err == nil { // the address is web's
		t.Error("two containers have one address, and nobody says so")
	}
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	// The namespace of the forgotten one is held, so that only the sweep can take its interface.
	wait(t, "the orphans to go", func() bool { return !strings.Contains(links(t), forgotten.Endpoints[0].HostVeth) })
	if !strings.Contains(links(t), web.Endpoints[0].HostVeth) {
		t.Error("a living container's interface was swept")
	}
	if _, err := ask(nil, "127.0.0.1:8080"); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	third := e.attach(t, "third")
	if a := third.Endpoints[0].IPv4; a == web.Endpoints[0].IPv4 {
		t.Errorf("the living container's address %s was given out again", a)
	}
	_ = l.Close()
	_, _ = forgotten.NetNS.Close(), web.NetNS.Close()
	for id, sb := range map[string]spec.Sandbox{"web": web, "gone": gone, "third": third} {
		if err := e.Release(ctx, id, sb); err != nil {
			t.Errorf("releasing %s: %v", id, err)
		}
	}
	e.stop(t)
}

// helper is the PID of the gantry-net of an exec root, or 0.
func helper(execRoot string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		b, _ := os.ReadFile(f)
		if args := strings.Split(string(b), "\x00"); len(args) > 1 && args[1] == filepath.Join(execRoot, "gantry-net.sock") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	return 0
}

func killHelper(t *testing.T, execRoot string) {
	t.Helper()
	pid := helper(execRoot)
	if pid == 0 {
		t.Fatal("no gantry-net runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, "gantry-net to die", func() bool { p := helper(execRoot); return p != pid })
}

func TestKilledGantryNet(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"with packet rules": func(*Config) {},
		"--iptables=false":  func(c *Config) { c.NoIPTables = true },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			change(&cfg)
			e := start(t, cfg)
			web := e.attach(t, "web", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080})
			more := e.attach(t, "more", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8090})
			l := serve(t, web.NetNS, 80)
			if _, err := ask(nil, "[::1]:8080"); err != nil {
				t.Fatal(err)
			}
			killHelper(t, e.cfg.ExecRoot)
			wait(t, "the IPv6 forward to come back", func() bool { _, err := askFor(nil, "[::1]:8080", time.Second); return err == nil })
			for _, port := range []string{":8080", ":8090"} {
				if h, err := net.Listen("tcp4", port); err == nil {
					_ = h.Close()
					t.Errorf("port %s is not reserved any more", port)
				}
			}
			killHelper(t, e.cfg.ExecRoot) // and at once somebody wants what is taken
			if _, err := e.Attach(ctx, spec.SandboxRequest{Container: "x", Name: "x", Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80, HostPort: 8090}}}); err == nil || !strings.Contains(err.Error(), "port is already allocated (by container name-more)") {
				t.Errorf("a running container's port was had: %v", err)
			}
			_ = l.Close()
			for id, sb := range map[string]spec.Sandbox{"web": web, "more": more} {
				if err := e.Release(ctx, id, sb); err != nil {
					t.Error(err)
				}
			}
			e.stop(t)
		})
	}
}

func TestStartsAlthoughAPortIsGone(t *testing.T) {
	cfg := testConfig()
	e := start(t, cfg)
	cfg = e.cfg
	web := e.attach(t, "web", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080}, spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8081})
	other := e.attach(t, "other", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8082})
	l := serve(t, web.NetNS, 80)
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	killHelper(t, cfg.ExecRoot)
	thief, err := net.Listen("tcp4", ":8081")
	if err != nil {
		t.Fatal(err)
	}
	next := open(t, cfg)
	next.prefix = e.prefix
	for id, sb := range map[string]spec.Sandbox{"web": web, "other": other} {
		if err := next.Restore(ctx, id, sb, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := next.Start(ctx); err != nil {
		t.Fatalf("one lost port kept the networks from starting: %v", err)
	}
	if _, err := ask(nil, "127.0.0.1:8080"); err != nil {
		t.Errorf("the container's port: %v", err)
	}
	for _, port := range []string{":8080", ":8082"} {
		if h, err := net.Listen("tcp4", port); err == nil {
			_ = h.Close()
			t.Errorf("port %s, which nobody has taken, was not reserved", port)
		}
	}
	_ = thief.Close()
	wait(t, "the port to be had again", func() bool {
		h, err := net.Listen("tcp4", ":8081")
		if err == nil {
			_ = h.Close()
		}
		return err != nil
	})
	_ = l.Close()
	_, _ = web.NetNS.Close(), other.NetNS.Close()
	for id, sb := range map[string]spec.Sandbox{"web": web, "other": other} {
		if err := next.Release(ctx, id, sb); err != nil {
			t.Error(err)
		}
	}
	next.stop(t)
}

func TestOurRulesComeBack(t *testing.T) {
	e := start(t, testConfig())
	web := e.attach(t, "web", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080})
	l := serve(t, web.NetNS, 80)
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	more := e.attach(t, "more", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8081}) // before anybody has noticed
	if _, err := ask(nil, "127.0.0.1:8080"); err != nil {
		t.Errorf("after somebody published a port: %v", err)
	}
	if err := e.Release(ctx, "more", more); err != nil {
		t.Error(err)
	}
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wait(t, "the rules to come back", func() bool { _, err := askFor(nil, "127.0.0.1:8080", time.Second); return err == nil })
	_ = l.Close()
	if err := e.Release(ctx, "web", web); err != nil {
		t.Error(err)
	}
	e.stop(t)
}

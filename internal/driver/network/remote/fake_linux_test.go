package remote

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/plugin"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/networkkind"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fake is a plugin of both kinds: its networks are bridges, its addresses 10.88.0.0/16.
type fake struct {
	t      *testing.T
	dir    string // of sockets
	server *http.Server

	mu        sync.Mutex
	networks  map[string]string // ID: bridge
	gateways  map[string]object // of a network, as a join tells them
	endpoints map[string]string // ID: the host's end
	ports     map[string]string // published, by endpoint
	pools     int
	addresses map[string]bool
	calls     []string
	lies      map[string]any  // by method: said instead of the truth
	hangs     map[string]bool // methods that never answer
	stop      chan struct{}
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, dir: testkit.ShortTempDir(t), networks: map[string]string{}, gateways: map[string]object{}, endpoints: map[string]string{}, ports: map[string]string{}, addresses: map[string]bool{}, lies: map[string]any{}, hangs: map[string]bool{}, stop: make(chan struct{})}
	f.listen()
	t.Cleanup(func() {
		close(f.stop)
		_ = f.server.Close()
	})
	return f
}

func (f *fake) listen() {
	f.t.Helper()
	path := filepath.Join(f.dir, "weaver.sock")
	l, err := net.Listen("unix", path+"~") // at no moment there is none; and closing it takes nothing away
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		f.t.Fatal(err)
	}
	f.server = &http.Server{Handler: f}
	go func() { _ = f.server.Serve(l) }()
}

// finder is that of a daemon; all of one state folder are one engine's.
func (f *fake) finder(state string) *Finder {
	return NewFinder(plugin.Folders{Sockets: []string{f.dir}}, plugin.Bounds{Call: 5 * time.Second, Connect: time.Second, Answer: 64 << 10}, state)
}

func (f *fake) lie(method string, says any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies[method] = says
}

func (f *fake) hang(method string, so bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hangs[method] = so
}

// left is what the plugin still has.
func (f *fake) left() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d networks, %d endpoints, %d pools, %d addresses", len(f.networks), len(f.endpoints), f.pools, len(f.addresses))
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/")
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	f.mu.Lock()
	lie, lies, hangs := f.lies[method], f.lies[method] != nil, f.hangs[method]
	f.calls = append(f.calls, method)
	f.mu.Unlock()
	if hangs {
		<-f.stop
		return
	}
	var out any
	var err error
	if lies {
		out = lie
	} else if out, err = f.do(method, in); err != nil {
		out = map[string]string{"Err": err.Error()}
	}
	if raw, ok := out.(string); ok {
		if raw == "404" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(raw))
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

type object = map[string]any

func (f *fake) do(method string, in object) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, _ := in["NetworkID"].(string)
	ep, _ := in["EndpointID"].(string)
	ip := func(args string) { networkkind.IP(f.t, nil, args) }
	switch method {
	case "Plugin.Activate":
		return object{"Implements": []string{"NetworkDriver", "IpamDriver"}}, nil
	case "NetworkDriver.GetCapabilities":
		return object{"Scope": "local"}, nil
	case "NetworkDriver.CreateNetwork":
		if f.networks[id] != "" {
			return nil, fmt.Errorf("network %s exists already", id)
		}
		name := "weave" + id[:8]
		f.networks[id] = name
		ip("link add " + name + " type bridge")
		ip("link set " + name + " up")
		f.gateways[id] = object{}
		for family, key := range map[string]string{"IPv4Data": "Gateway", "IPv6Data": "GatewayIPv6"} {
			for _, d := range in[family].([]any) {
				f.gateways[id][key], _, _ = strings.Cut(d.(object)["Gateway"].(string), "/")
				ip("addr add " + d.(object)["Gateway"].(string) + " dev " + name + map[bool]string{true: " nodad"}[family == "IPv6Data"])
			}
		}
	case "NetworkDriver.DeleteNetwork":
		if f.networks[id] == "" {
			return nil, fmt.Errorf("network %s is not known", id)
		}
		ip("link del " + f.networks[id])
		delete(f.networks, id)
	case "NetworkDriver.CreateEndpoint":
		f.endpoints[ep] = "h" + ep[:10]
		ip("link add " + f.endpoints[ep] + " type veth peer name c" + ep[:10])
		ip("link set " + f.endpoints[ep] + " up master " + f.networks[id])
		said := object{}
		if in["Interface"].(object)["MacAddress"] == "" {
			said["MacAddress"] = "02:77:" + ep[0:2] + ":" + ep[2:4] + ":" + ep[4:6] + ":" + ep[6:8]
		}
		return object{"Interface": said}, nil
	case "NetworkDriver.DeleteEndpoint":
		name, ok := f.endpoints[ep]
		if !ok {
			return nil, fmt.Errorf("endpoint %s is not known", ep)
		}
		_ = exec.Command("ip", "link", "del", name).Run() // or the kernel has, with the container's namespace
		delete(f.endpoints, ep)
	case "NetworkDriver.Join":
		if _, err := os.Stat(in["SandboxKey"].(string)); err != nil {
			return nil, err
		}
		said := object{"InterfaceName": object{"SrcName": "c" + ep[:10], "DstPrefix": "eth"}}
		maps.Copy(said, f.gateways[id])
		return said, nil
	case "NetworkDriver.ProgramExternalConnectivity":
		for _, b := range in["Options"].(object)["com.docker.network.portmap"].([]any) {
			f.ports[ep] = fmt.Sprintf("%s %v:%v", f.ports[ep], b.(object)["HostPort"], b.(object)["Port"])
		}
	case "NetworkDriver.RevokeExternalConnectivity":
		delete(f.ports, ep)
	case "NetworkDriver.Leave":
	case "IpamDriver.GetDefaultAddressSpaces":
		return object{"LocalDefaultAddressSpace": "here"}, nil
	case "IpamDriver.RequestPool":
		f.pools++
		if in["Pool"] == "" {
			in["Pool"] = "10.88.0.0/16"
		}
		return object{"PoolID": "p", "Pool": in["Pool"]}, nil
	case "IpamDriver.ReleasePool":
		f.pools--
	case "IpamDriver.RequestAddress":
		a, _ := netip.ParseAddr(in["Address"].(string))
		if !a.IsValid() {
			for a = netip.MustParseAddr("10.88.0.1"); f.addresses[a.String()]; a = a.Next() {
			}
		}
		if f.addresses[a.String()] {
			return nil, fmt.Errorf("address %s is taken", a)
		}
		f.addresses[a.String()] = true
		return object{"Address": a.String() + "/16"}, nil
	case "IpamDriver.ReleaseAddress":
		delete(f.addresses, in["Address"].(string))
	default:
		return "404", nil
	}
	return object{}, nil
}

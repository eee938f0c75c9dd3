package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/names"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
	"github.com/gantry-engine/gantry/internal/spec"
)

// world is an honest fake of everything around the service: it keeps what it is
// told, notes the order of what is done, and complains about misuse.
type world struct {
	recovered func(*Service) // called between Recover and Resume

	t  *testing.T
	mu sync.Mutex

	steps      []string         // what was done, in order
	fail       map[string]error // step → error instead of doing it
	forgotten  []string         // by the keeper, while there was a record
	records    map[string][]byte
	saves      map[string]int // "durable", "soon", "volatile", "remove"
	layers     map[string]bool
	nets       map[string]bool
	cgroups    map[string]bool
	volumes    map[string]map[string]bool // name → holders
	procs      map[spec.ProcessKey]*fakeProc
	dead       map[spec.ProcessKey]bool // ended, not yet forgotten
	ended      map[spec.ProcessKey]spec.Running
	exits      chan spec.Exit
	events     []events.Message
	destroying chan struct{}              // cgroups are not gone before it is closed; nil: they are
	onSig      func(p *fakeProc, sig int) // what a process does with a signal; nil: 9 and 15 end it
	image      spec.Image
	ooms       sync.Map // cgroup path → *fakeOOM
}

type fakeProc struct {
	w       *world
	key     spec.ProcessKey
	launch  spec.Launch
	out     chan spec.Chunk
	stdin   *pipe
	started time.Time
}

type pipe struct {
	io.Reader
	io.Writer
}

func (p *pipe) Close() error { return nil }

func newWorld(t *testing.T) *world {
	return &world{t: t, fail: map[string]error{}, records: map[string][]byte{}, saves: map[string]int{}, layers: map[string]bool{}, nets: map[string]bool{},
		cgroups: map[string]bool{}, volumes: map[string]map[string]bool{}, procs: map[spec.ProcessKey]*fakeProc{}, dead: map[spec.ProcessKey]bool{},
		exits: make(chan spec.Exit, 1000),
		image: spec.Image{ID: digest.FromString("image"), Manifest: digest.FromString("manifest"), Name: "busybox",
			Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}}
}

// service makes a recovered service over the world.
func (w *world) service(edit ...func(*Config)) *Service {
	w.t.Helper()
	cfg := Config{DataRoot: filepath.Join(w.t.TempDir(), "data"), ExecRoot: filepath.Join(w.t.TempDir(), "exec"), BootID: "boot1",
		Host: facts.Full(), Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	for _, e := range edit {
		e(&cfg)
	}
	s := New(Deps{Records: w, Images: w, Layers: fakeLayers{w}, Processes: w, Lifetimes: w, Outputs: w, Logs: fakeLogs{}, Cgroups: fakeCgroups{w}, OOMs: fakeOOMs{w},
		Networks: fakeNets{w}, Volumes: fakeVolumes{w}, HostMounts: fakeMounts{w}, Events: w, Config: cfg})
	if err := s.Recover(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	if w.recovered != nil {
		w.recovered(s)
	}
	s.Resume()
	w.t.Cleanup(func() { s.core.stop(errShutdown); s.core.behind.Wait() })
	return s
}

// step notes a step and fails it if the test wants that.
func (w *world) step(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail[name]; err != nil {
		return err
	}
	w.steps = append(w.steps, name)
	return nil
}

func (w *world) taken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.steps
	w.steps = nil
	return s
}

func (w *world) actions() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, m := range w.events {
		out = append(out, string(m.Action))
	}
	return out
}

// end makes a process end, as the keeper would tell it.
func (w *world) end(key spec.ProcessKey, x spec.Exit) {
	w.mu.Lock()
	p := w.procs[key]
	if p != nil {
		delete(w.procs, key)
		w.dead[key] = true
	}
	w.mu.Unlock()
	if p == nil {
		return
	}
	close(p.out)
	x.Key = key
	if x.Time.IsZero() {
		x.Time = time.Now()
	}
	w.exits <- x
}

// Records

func (w *world) Save(_ context.Context, id string, r []byte) error { return w.put("durable", id, r) }
func (w *world) SaveSoon(id string, r []byte)                      { _ = w.put("soon", id, r) }
func (w *world) SaveVolatile(_ context.Context, id string, r []byte) error {
	return w.put("volatile", id, r)
}

func (w *world) put(kind, id string, r []byte) error {
	if err := w.step("save " + kind); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !json.Valid(r) {
		w.t.Errorf("record of %s is no JSON", id)
	}
	w.saves[kind]++
	w.records[id] = r
	return nil
}

func (w *world) RemoveSoon(_ context.Context, id string) error {
	if err := w.step("remove record"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saves["remove"]++
	delete(w.records, id)
	return nil
}

func (w *world) All(context.Context) iter.Seq2[string, []byte] {
	w.mu.Lock()
	defer w.mu.Unlock()
	recs := maps.Clone(w.records)
	return func(yield func(string, []byte) bool) {
		for _, id := range slices.Sorted(maps.Keys(recs)) {
			if !yield(id, recs[id]) {
				return
			}
		}
	}
}

// Images

func (w *world) Resolve(_ context.Context, ref string, _ *ocispec.Platform) (spec.Image, error) {
	if ref != "busybox" {
		return spec.Image{}, classed.Errorf(errdefs.ErrNotFound, "No such image: %s", ref)
	}
	return w.image, nil
}
func (w *world) Exists(context.Context, string) bool { return true }

// Processes, Lifetimes, Outputs

func (w *world) Launch(_ context.Context, l spec.Launch) (spec.Running, error) {
	if err := w.step("launch"); err != nil {
		return spec.Running{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.procs[l.Key] != nil || w.dead[l.Key] {
		return spec.Running{}, fmt.Errorf("%s is launched twice", l.Key)
	}
	p := &fakeProc{w: w, key: l.Key, launch: l, out: make(chan spec.Chunk, 100), started: time.Now()}
	w.procs[l.Key] = p
	return p.running(), nil
}

func (p *fakeProc) running() spec.Running {
	return spec.Running{PID: 4242, Started: p.started, Note: p.launch.Note}
}

func (w *world) Signal(_ context.Context, key spec.ProcessKey, sig int) error {
	w.mu.Lock()
	p, on := w.procs[key], w.onSig
	w.mu.Unlock()
	if p == nil {
		return errdefs.ErrNotFound
	}
	switch {
	case on != nil:
		on(p, sig)
	case sig == 9 || sig == 15:
		go w.end(key, spec.Exit{Code: 128 + sig, Signal: sig})
	}
	return nil
}

func (w *world) Handle(_ context.Context, key spec.ProcessKey, _ spec.Handle) (io.ReadWriteCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.procs[key]
	if p == nil || p.stdin == nil {
		return nil, errdefs.ErrNotFound
	}
	return p.stdin, nil
}

func (w *world) CloseStdin(_ context.Context, key spec.ProcessKey) error {
	return w.step("close stdin")
}
func (w *world) Resize(_ context.Context, key spec.ProcessKey, h, wd uint16) error {
	return w.step(fmt.Sprintf("resize %dx%d", h, wd))
}

func (w *world) Exits(ctx context.Context) <-chan spec.Exit {
	out := make(chan spec.Exit)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case x := <-w.exits:
				if ctx.Err() != nil {
					w.exits <- x // for the next daemon
					return
				}
				select {
				case out <- x:
				case <-ctx.Done():
					w.exits <- x // for the next daemon
					return
				}
			}
		}
	}()
	return out
}

func (w *world) Alive(context.Context) (map[spec.ProcessKey]spec.Running, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[spec.ProcessKey]spec.Running{}
	for k, p := range w.procs {
		out[k] = p.running()
	}
	return out, nil
}

func (w *world) Ended(context.Context) (map[spec.ProcessKey]spec.Running, error) { return w.ended, nil }

func (w *world) Forget(_ context.Context, key spec.ProcessKey) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.dead, key)
	if _, ok := w.records[key.Container]; ok {
		w.forgotten = append(w.forgotten, key.Container)
	}
	return nil
}

func (w *world) Follow(_ context.Context, key spec.ProcessKey) (OutputReader, error) {
	return &fakeOutput{w: w, key: key}, nil
}

type fakeOutput struct {
	w   *world
	key spec.ProcessKey
	src chan spec.Chunk
}

func (o *fakeOutput) Next(ctx context.Context) (spec.Chunk, error) {
	for o.src == nil {
		o.w.mu.Lock()
		if p := o.w.procs[o.key]; p != nil {
			o.src = p.out
		}
		o.w.mu.Unlock()
		select {
		case <-ctx.Done():
			return spec.Chunk{}, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case c, ok := <-o.src:
		if !ok {
			return c, io.EOF
		}
		return c, nil
	case <-ctx.Done():
		return spec.Chunk{}, ctx.Err()
	}
}
func (o *fakeOutput) Close() error { return nil }

// Events

func (w *world) Publish(m events.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, m)
}

type fakeLayers struct{ w *world }

func (l fakeLayers) Create(_ context.Context, id string, _ spec.Image, _ LayerOptions) (spec.Rootfs, error) {
	if err := l.w.step("layer"); err != nil {
		return spec.Rootfs{}, err
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.layers[id] = true
	return spec.Rootfs{Path: "/root"}, nil
}
func (l fakeLayers) Rootfs(context.Context, string) (spec.Rootfs, error) {
	return spec.Rootfs{Path: "/root"}, l.w.step("rootfs")
}
func (l fakeLayers) Remove(_ context.Context, id string) error {
	l.w.mu.Lock()
	delete(l.w.layers, id)
	l.w.mu.Unlock()
	return l.w.step("remove layer")
}
func (l fakeLayers) Usage(context.Context, string) (int64, int64, error) { return 1, 2, nil }
func (l fakeLayers) Changes(context.Context, string) ([]Change, error)   { return nil, nil }

type fakeCgroups struct{ w *world }

func (c fakeCgroups) Create(_ context.Context, id, parent string, _ *specs.LinuxResources) (spec.Cgroup, error) {
	if err := c.w.step("cgroup"); err != nil {
		return spec.Cgroup{}, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.cgroups[id] = true
	return spec.Cgroup{Path: "/gantry/" + id}, nil
}
func (c fakeCgroups) Update(context.Context, spec.Cgroup, *specs.LinuxResources) error {
	return c.w.step("update")
}
func (c fakeCgroups) Freeze(_ context.Context, _ spec.Cgroup, on bool) error {
	return c.w.step(fmt.Sprint("freeze ", on))
}
func (c fakeCgroups) Destroy(_ context.Context, cg spec.Cgroup) error {
	c.w.mu.Lock()
	if gate := c.w.destroying; gate != nil {
		c.w.mu.Unlock()
		<-gate
		c.w.mu.Lock()
	}
	delete(c.w.cgroups, filepath.Base(cg.Path))
	c.w.mu.Unlock()
	return c.w.step("destroy cgroup")
}
func (c fakeCgroups) Pids(context.Context, spec.Cgroup) ([]int, error) { return []int{4242}, nil }

type fakeNets struct{ w *world }

func (n fakeNets) Check(context.Context, spec.SandboxRequest) error { return n.w.step("check net") }
func (n fakeNets) Attach(_ context.Context, r spec.SandboxRequest) (spec.Sandbox, error) {
	if err := n.w.step("attach net"); err != nil {
		return spec.Sandbox{}, err
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.w.nets[r.Container] {
		return spec.Sandbox{}, errors.New("attached twice")
	}
	n.w.nets[r.Container] = true
	return spec.Sandbox{ID: r.Container}, nil
}
func (n fakeNets) Restore(context.Context, string, spec.Sandbox, int) error {
	return n.w.step("restore net")
}
func (n fakeNets) Release(_ context.Context, id string, _ spec.Sandbox) error {
	n.w.mu.Lock()
	delete(n.w.nets, id)
	n.w.mu.Unlock()
	return n.w.step("release net")
}
func (n fakeNets) Connect(context.Context, spec.SandboxRequest, spec.EndpointRequest) (spec.Sandbox, error) {
	return spec.Sandbox{}, errors.ErrUnsupported
}
func (n fakeNets) Disconnect(context.Context, spec.SandboxRequest, string, bool) (spec.Sandbox, error) {
	return spec.Sandbox{}, errors.ErrUnsupported
}
func (n fakeNets) Rename(context.Context, spec.SandboxRequest) (spec.Sandbox, error) {
	return spec.Sandbox{}, nil
}
func (n fakeNets) Name(_ context.Context, ref string) (string, error) { return ref, nil }
func (n fakeNets) Resolver(context.Context, []spec.Endpoint) (a, b, c []string, err error) {
	return []string{"192.0.2.53"}, nil, nil, n.w.step("resolver")
}

type fakeVolumes struct{ w *world }

func (v fakeVolumes) Ensure(_ context.Context, name, driver string, _, _ map[string]string) (spec.Volume, error) {
	if err := v.w.step("volume"); err != nil {
		return spec.Volume{}, err
	}
	if name == "" {
		name = names.NewID()
	}
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	if v.w.volumes[name] == nil {
		v.w.volumes[name] = map[string]bool{}
	}
	return spec.Volume{Name: name, Driver: driver, Mountpoint: "/volumes/" + name}, nil
}
func (v fakeVolumes) Acquire(_ context.Context, name, id string) (spec.Volume, error) {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	v.w.volumes[name][id] = true
	return spec.Volume{Name: name, Mountpoint: "/volumes/" + name}, nil
}
func (v fakeVolumes) Release(_ context.Context, name, id string) error {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	delete(v.w.volumes[name], id)
	return nil
}
func (v fakeVolumes) Remove(_ context.Context, name string, _ bool) error {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	if len(v.w.volumes[name]) > 0 {
		return errdefs.ErrConflict
	}
	delete(v.w.volumes, name)
	return nil
}
func (v fakeVolumes) Populate(context.Context, string, spec.Rootfs, string) error {
	return v.w.step("populate")
}

type fakeLogs struct{}

func (fakeLogs) Read(context.Context, spec.LogConfig, LogOptions, <-chan struct{}) iter.Seq2[[]LogEntry, error] {
	return func(func([]LogEntry, error) bool) {}
}
func (fakeLogs) Readable(string) error { return nil }
func (fakeLogs) Validate(driver string, _ map[string]string) error {
	if driver != "json-file" && driver != "local" && driver != "none" {
		return classed.Invalid("logger: no log driver named '%s' is registered", driver)
	}
	return nil
}

// create makes a container or fails the test.
func create(t *testing.T, s *Service, edit ...func(*CreateRequest)) string {
	t.Helper()
	req := CreateRequest{Config: &container.Config{Image: "busybox", Cmd: []string{"true"}}, HostConfig: &container.HostConfig{}}
	for _, e := range edit {
		e(&req)
	}
	resp, err := s.Create(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.ID
}

// settled waits until nothing is under way behind answers.
func settled(t *testing.T, s *Service) {
	t.Helper()
	s.core.behind.Wait()
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

// fakeMounts notes what is mounted on the host.
type fakeMounts struct{ w *world }

func (m fakeMounts) SharedMemory(path string, size int64, _ string) error {
	return m.w.step(fmt.Sprintf("shm %s %d", filepath.Base(path), size))
}

func (m fakeMounts) Unmount(path string) error { return m.w.step("unmount " + filepath.Base(path)) }

func (m fakeMounts) Inside(dir, subpath string) (string, func(), error) {
	if err := m.w.step("look up " + subpath); err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, subpath), func() { _ = m.w.step("let go of " + subpath) }, nil
}

func (m fakeMounts) Propagates(path string, slave bool) error {
	return m.w.step(fmt.Sprintf("propagates %s %v", filepath.Base(path), slave))
}

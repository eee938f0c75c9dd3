package trust_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/driver/content"
	"github.com/gantry-engine/gantry/internal/service/images/trust"
	"github.com/gantry-engine/gantry/internal/trust/policy"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

// verifier finds a signature good that has the text "good"; the rest of the text is the name it is for.
type verifier struct {
	mu            sync.Mutex
	asked, at, to int // questions; at once; most at once
	wait          chan struct{}
	err           error
}

// atOnce is how many examinations run side by side.
const atOnce = 2

func (v *verifier) now() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at
}

func (v *verifier) Verify(_ context.Context, q program.Verify) (out program.Verdicts, err error) {
	v.mu.Lock()
	v.asked++
	v.at++
	v.to = max(v.to, v.at)
	v.mu.Unlock()
	if v.wait != nil {
		<-v.wait
	}
	v.mu.Lock()
	v.at--
	v.mu.Unlock()
	for _, s := range q.Signatures {
		var b struct{ Good string }
		if json.Unmarshal(s.Content, &b) == nil && b.Good != "" {
			out.Verdicts = append(out.Verdicts, program.Verdict{Good: true, By: "k", Names: []string{b.Good}})
		} else {
			out.Verdicts = append(out.Verdicts, program.Verdict{Why: "it is bad"})
		}
	}
	return out, v.err
}

// remote is a repository with some proofs.
type remote struct {
	proofs []*trust.Proof
	err    error
	asked  int
}

func (r *remote) Referrers(context.Context, digest.Digest) (list []ocispec.Descriptor, err error) {
	r.asked++
	for _, p := range r.proofs {
		list = append(list, p.Manifest)
	}
	return list, r.err
}

func (r *remote) Refer(context.Context, digest.Digest, ocispec.Descriptor, []byte) error {
	return errors.New("not here")
}

func (r *remote) Resolve(context.Context, string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errdefs.ErrNotFound
}

func (r *remote) Fetch(_ context.Context, d ocispec.Descriptor, _ int64) (io.ReadCloser, error) {
	for _, p := range r.proofs {
		if p.Manifest.Digest == d.Digest {
			return io.NopCloser(bytes.NewReader(p.Body)), nil
		}
		for _, x := range p.Parts {
			if x.Digest == d.Digest {
				return io.NopCloser(bytes.NewReader(x.Body)), nil
			}
		}
	}
	return nil, errdefs.ErrNotFound
}

func (r *remote) Close() {}

// bench is a guard with all that it stands on.
type bench struct {
	*trust.Guard
	t       *testing.T
	v       *verifier
	store   *content.Store
	remote  *remote
	image   ocispec.Descriptor
	held    context.Context
	release func()
}

func newBench(t *testing.T) *bench {
	t.Helper()
	store, err := content.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, v: &verifier{}, store: store, remote: &remote{}}
	if b.held, b.release, err = store.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.release()
		_ = store.Close()
	})
	data := []byte(`{"an":"image"}`)
	b.image = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := ccontent.WriteBlob(b.held, store.Blobs(), "image", bytes.NewReader(data), b.image); err != nil {
		t.Fatal(err)
	}
	b.Guard = trust.New(b.v, store, func(context.Context, reference.Named) (trust.Repository, error) { return b.remote, b.remote.err })
	return b
}

// signedBy is a policy that demands a signature of a.io's images, and nothing of b.io's; others are rejected.
func signedBy(t testing.TB) *policy.Policy {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	data := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	p, err := policy.Parse([]byte(`{"default":[{"type":"reject"}],"transports":{"docker":{"a.io":[{"type":"sigstoreSigned","keyData":"`+data+`"}],"b.io":[{"type":"insecureAcceptAnything"}]}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bench) proof(good string) *trust.Proof {
	b.t.Helper()
	p, err := trust.NewProof(b.image, []byte(`{"mediaType":"`+trust.BundleType+`","Good":"`+good+`"}`), time.Unix(1, 0))
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bench) use(name string) trust.Use {
	b.t.Helper()
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return trust.Use{Named: n, Target: b.image}
}

// wants is a refusal that says all of some texts.
func wants(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) || !errdefs.IsPermissionDenied(err) {
			t.Errorf("%v, want a refusal with %q", err, text)
		}
	}
}

func TestWithoutAPolicyNothingIsAsked(t *testing.T) {
	b := newBench(t)
	if p, err := b.Check(t.Context(), b.use("a.io/x:1")); p != nil || err != nil || b.Active() {
		t.Error(p, err)
	}
	if err := b.Fresh(b.use("a.io/x:1").Named); err != nil {
		t.Error(err)
	}
	b.Enforce(signedBy(t))
	if _, err := b.Check(t.Context(), b.use("b.io/x:1")); err != nil {
		t.Error(err)
	}
	if b.v.asked+b.remote.asked != 0 {
		t.Errorf("%d questions, %d to the registry", b.v.asked, b.remote.asked)
	}
	b.Enforce(nil)
	if b.Active() {
		t.Error("the policy is still there")
	}
}

// The first use asks; while the policy is in force nobody is asked again, and what is kept does in the place of the registry.
func TestVerdictsAreRemembered(t *testing.T) {
	b := newBench(t)
	b.remote.proofs = []*trust.Proof{b.proof("z.io/z:1"), b.proof("a.io/x:1")}
	b.Enforce(signedBy(t))
	proofs, err := b.Check(t.Context(), b.use("a.io/x:1"))
	if err != nil || len(proofs) != 1 || proofs[0].Manifest.Digest != b.remote.proofs[1].Manifest.Digest {
		t.Fatal(proofs, err)
	}
	for range 3 {
		if p, err := b.Check(t.Context(), b.use("a.io/x:1")); err != nil || p != nil {
			t.Error(p, err)
		}
	}
	if b.v.asked != 1 || b.remote.asked != 1 {
		t.Errorf("%d questions, %d to the registry", b.v.asked, b.remote.asked)
	}
	// Whoever brings the image wants the proof again, as long as it is not kept.
	u := b.use("a.io/x:1")
	u.Repo = b.remote
	if p, err := b.Check(t.Context(), u); err != nil || len(p) != 1 {
		t.Error(p, err)
	}
	if err := b.Keep(b.held, b.image.Digest, proofs); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Check(t.Context(), u); err != nil || p != nil {
		t.Error(p, err)
	}
	asked := b.v.asked
	b.remote.err = errors.New("the registry is gone")
	b.Enforce(signedBy(t))
	if p, err := b.Check(t.Context(), b.use("a.io/x:1")); err != nil || p != nil || b.v.asked != asked+1 {
		t.Error(p, err, b.v.asked)
	}
	_, err = b.Check(t.Context(), b.use("a.io/x:2"))
	wants(t, err, "it is for a.io/x:1, not for a.io/x:2", "the registry is gone")
}

// A refusal is not remembered, and says what was found.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	b.Enforce(signedBy(t))
	_, err := b.Check(t.Context(), b.use("a.io/x:1"))
	wants(t, err, "a.io/x:1 ("+b.image.Digest.String()+")", `the rule for "a.io" demands a signature by the key`, "Found: there is no signature", "gantry image sign --key KEY a.io/x:1")
	b.remote.proofs = []*trust.Proof{b.proof("")}
	_, err = b.Check(t.Context(), b.use("a.io/x:1"))
	wants(t, err, "it is bad")
	_, err = b.Check(t.Context(), b.use("c.io/x:1"))
	wants(t, err, "the rule default allows no image", "have the policy changed")
	_, err = b.Check(t.Context(), trust.Use{Target: b.image})
	wants(t, err, "the image ("+b.image.Digest.String()+")", "allows no image")
	wants(t, b.Fresh(b.use("a.io/x:1").Named), "a new image has no signature", "Give it another name")
	b.v.err = errors.New("gantry-trust is not there")
	if _, err := b.Check(t.Context(), b.use("a.io/x:1")); err == nil || !strings.Contains(err.Error(), "gantry-trust is not there") {
		t.Errorf("nobody examined it: %v", err)
	}
	b.v.err = nil
	b.remote.proofs = []*trust.Proof{b.proof("a.io/x:1")}
	if _, err := b.Check(t.Context(), b.use("a.io/x:1")); err != nil {
		t.Error(err)
	}
}

// Many that come at once do not start as many examinations.
func TestExaminationsAreBounded(t *testing.T) {
	b := newBench(t)
	b.v.wait = make(chan struct{})
	b.remote.proofs = []*trust.Proof{b.proof("a.io/x:1")}
	b.Enforce(signedBy(t))
	if err := b.Keep(b.held, b.image.Digest, b.remote.proofs); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := b.Check(t.Context(), b.use("a.io/x:1")); err != nil {
				t.Error(err)
			}
		})
	}
	for b.v.now() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(b.v.wait)
	wg.Wait()
	if b.v.to > atOnce || b.v.asked > atOnce {
		t.Errorf("%d questions, %d at once", b.v.asked, b.v.to)
	}
}

// One who leaves while the others are examined is let go.
func TestOneLeaves(t *testing.T) {
	b := newBench(t)
	b.v.wait = make(chan struct{})
	b.Enforce(signedBy(t))
	if err := b.Keep(b.held, b.image.Digest, []*trust.Proof{b.proof("a.io/x:1")}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() { _, _ = b.Check(t.Context(), b.use("a.io/x:1")) })
	}
	for b.v.now() < atOnce {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Check(ctx, b.use("a.io/x:2")); !errors.Is(err, context.Canceled) {
		t.Errorf("one who left: %v", err)
	}
	close(b.v.wait)
	wg.Wait()
}

// What is kept lives as long as the image, and no longer.
func TestKept(t *testing.T) {
	b := newBench(t)
	p := b.proof("a.io/x:1")
	if err := b.Keep(b.held, b.image.Digest, []*trust.Proof{p, b.proof("a.io/x:2")}); err != nil {
		t.Fatal(err)
	}
	if list := b.Kept(t.Context(), b.image.Digest); len(list) != 2 {
		t.Errorf("%d are kept", len(list))
	}
	if _, err := b.Here(t.Context(), digest.FromString("another"), p.Manifest.Digest); err == nil {
		t.Error("a signature is one of another image")
	}
	if err := b.store.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := b.Kept(t.Context(), b.image.Digest); len(list) != 2 {
		t.Errorf("%d are kept after a collection", len(list))
	}
	b.release()
	if err := b.store.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := b.store.Blobs().Walk(b.store.Context(t.Context()), func(ccontent.Info) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("%d blobs are left, %v", n, err)
	}
}

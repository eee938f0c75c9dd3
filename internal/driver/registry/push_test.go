package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

// content is a blob to be sent, which notes from where it was read.
type content struct {
	bytes  []byte
	opened []int64
}

func (c *content) open(offset int64) (io.ReadCloser, error) {
	c.opened = append(c.opened, offset)
	return io.NopCloser(bytes.NewReader(c.bytes[offset:])), nil
}

func (c *content) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(c.bytes), Size: int64(len(c.bytes))}
}

// arrived checks that the registry has the content.
func arrived(t *testing.T, reg *fake.Registry, c *content) {
	t.Helper()
	got, ok := reg.Blob("app", c.descriptor().Digest)
	if !ok {
		t.Fatal("the registry does not have the blob")
	}
	same(t, got, c.bytes)
}

func TestABlobIsUploadedInOneGo(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 20} {
		reg := fake.New(t)
		c := &content{bytes: noise(size)}
		r, _ := app(t, reg)
		if ok, err := r.Has(t.Context(), c.descriptor()); ok || err != nil {
			t.Errorf("before: %v, %v", ok, err)
		}
		if mounted, err := r.Upload(t.Context(), c.descriptor(), nil, c.open); mounted != "" || err != nil {
			t.Fatalf("%q, %v", mounted, err)
		}
		arrived(t, reg, c)
		if ok, err := r.Has(t.Context(), c.descriptor()); !ok || err != nil {
			t.Errorf("after: %v, %v", ok, err)
		}
		count(t, reg, "POST", "", 1)
		count(t, reg, "PATCH", "", 1)
		count(t, reg, "PUT", "", 1)
	}
}

func TestABlobOfAnotherRepositoryIsMounted(t *testing.T) {
	for _, scheme := range []string{"", "basic", "bearer"} {
		reg := fake.New(t)
		reg.Require(fake.Auth{Scheme: scheme, User: "u", Password: "p"})
		c := &content{bytes: noise(100)}
		reg.AddBlob("base/lib", c.bytes)
		cl, _ := client(t, Config{})
		r := repository(t, cl, reg.Host+"/app", registry.AuthConfig{Username: "u", Password: "p"})
		mounted, err := r.Upload(t.Context(), c.descriptor(), []string{"base/lib", "other"}, c.open)
		if mounted != "base/lib" || err != nil || len(c.opened) > 0 {
			t.Errorf("%s: %q, %v, opened %v", scheme, mounted, err, c.opened)
		}
		arrived(t, reg, c)
		count(t, reg, "PATCH", "", 0)
	}
}

func TestABlobThatCannotBeMountedIsUploaded(t *testing.T) {
	for name, fault := range map[string]fake.Fault{"not there": {}, "refused": {Method: "POST", Path: "/uploads/", Status: 403, Times: 2}} {
		t.Run(name, func(t *testing.T) {
			reg := fake.New(t)
			c := &content{bytes: noise(100)}
			if fault.Status != 0 {
				reg.Break(fault)
			}
			r, _ := app(t, reg)
			if mounted, err := r.Upload(t.Context(), c.descriptor(), []string{"lib", "base"}, c.open); mounted != "" || err != nil {
				t.Errorf("%q, %v", mounted, err)
			}
			arrived(t, reg, c)
			count(t, reg, "POST", "", 1+fault.Times)
		})
	}
}

func TestAnUploadThatBreaksOffGoesOnWhereTheRegistryStands(t *testing.T) {
	reg := fake.New(t)
	c := &content{bytes: noise(1 << 20)}
	reg.Break(fake.Fault{Method: "PATCH", Cut: 300_000, Times: 2}, fake.Fault{Method: "PATCH", Cut: -1, Times: 1}, fake.Fault{Method: "PATCH", Status: 503, Times: 1})
	r, _ := app(t, reg)
	if _, err := r.Upload(t.Context(), c.descriptor(), nil, c.open); err != nil {
		t.Fatal(err)
	}
	arrived(t, reg, c)
	requests := count(t, reg, "PATCH", "", 5)
	once(t, requests)
	for i, rg := range []string{"", "300000-1048575", "600000-1048575", "600000-1048575", "600000-1048575"} {
		if got := requests[i].Header.Get("Content-Range"); got != rg {
			t.Errorf("request %d is for %q, want %q", i, got, rg)
		}
	}
	if want := []int64{0, 300_000, 600_000, 600_000, 600_000}; !slices.Equal(c.opened, want) {
		t.Errorf("opened at %v, want %v", c.opened, want)
	}
	count(t, reg, "POST", "", 1)
}

func TestAnUploadThatBrokeOffAfterItsFirstByteIsWhole(t *testing.T) {
	for _, size := range []int{1, 2, 100_000} {
		reg := fake.New(t)
		c := &content{bytes: noise(size)}
		reg.Break(fake.Fault{Method: "PATCH", Cut: 1, Times: 1})
		r, _ := app(t, reg)
		if _, err := r.Upload(t.Context(), c.descriptor(), nil, c.open); err != nil {
			t.Fatal(err)
		}
		arrived(t, reg, c)
	}
}

func TestAnUploadWhoseSessionIsLostBeginsAnew(t *testing.T) {
	for name, faults := range map[string][]fake.Fault{
		"after it broke off":  {{Method: "PATCH", Cut: 50, Times: 1}, {Method: "GET", Path: "/uploads/", Forget: true, Times: 1}},
		"before the content":  {{Method: "PATCH", Forget: true, Times: 1}},
		"before it was ended": {{Method: "PUT", Forget: true, Times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			reg := fake.New(t)
			c := &content{bytes: noise(100_000)}
			reg.Break(faults...)
			r, _ := app(t, reg)
			if _, err := r.Upload(t.Context(), c.descriptor(), nil, c.open); err != nil {
				t.Fatal(err)
			}
			arrived(t, reg, c)
			count(t, reg, "POST", "", 2)
			count(t, reg, "PATCH", "", 2)
		})
	}
}

func TestAnUploadThatCannotBeReadIsCancelled(t *testing.T) {
	reg := fake.New(t)
	r, _ := app(t, reg)
	c := &content{bytes: noise(100)}
	gone := errors.New("gone")
	_, err := r.Upload(t.Context(), c.descriptor(), nil, func(int64) (io.ReadCloser, error) { return nil, gone })
	if !errors.Is(err, gone) {
		t.Errorf("told %v", err)
	}
	count(t, reg, "PATCH", "", 0)
	count(t, reg, "DELETE", "/uploads/", 1)
	if cancelled := reg.Requests("DELETE", "/uploads/"); len(cancelled) == 1 && cancelled[0].Status != 204 {
		t.Errorf("cancelled with %d", cancelled[0].Status)
	}
}

func TestAnUploadNeedsToKnowWhereToGo(t *testing.T) {
	for location, text := range map[string]string{"": "does not say where to send", "http://example.com/x": "without encryption at example.com"} {
		reg := fake.NewTLS(t)
		reg.Break(fake.Fault{Method: "POST", Header: map[string]string{"Location": location}})
		c := &content{bytes: noise(100)}
		r, _ := app(t, reg)
		_, err := r.Upload(t.Context(), c.descriptor(), nil, c.open)
		wants(t, err, errdefs.ErrInvalidArgument, text)
		count(t, reg, "PATCH", "", 0)
	}
}

func TestAnUploadMayGoToAnotherHostWhichDoesNotSeeTheToken(t *testing.T) {
	reg, store := fake.NewTLS(t), fake.NewTLS(t)
	c := &content{bytes: noise(100)}
	resp, err := insecureClient.Post(store.URL+"/v2/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	reg.Break(fake.Fault{Method: "POST", Header: map[string]string{"Location": store.URL + resp.Header.Get("Location")}})
	cl, _ := client(t, Config{})
	r := repository(t, cl, reg.Host+"/app", registry.AuthConfig{RegistryToken: "secret"})
	if _, err := r.Upload(t.Context(), c.descriptor(), nil, c.open); err != nil {
		t.Fatal(err)
	}
	arrived(t, store, c)
	for _, e := range store.Requests("", "/uploads/") {
		if a := e.Header.Get("Authorization"); a != "" {
			t.Errorf("the other host was shown %q", a)
		}
	}
}

// insecureClient takes any certificate.
var insecureClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // of a test's server

func TestAnUploadWithoutAnyProgressIsGivenUp(t *testing.T) {
	for name, fault := range map[string]fake.Fault{"cut off": {Method: "PATCH", Cut: -1}, "refused": {Method: "PATCH", Status: 500}, "lost": {Method: "PATCH", Forget: true}, "never ended": {Method: "PUT", Forget: true}} {
		t.Run(name, func(t *testing.T) {
			reg := fake.New(t)
			c := &content{bytes: noise(100)}
			reg.Break(fault)
			cl, p := client(t, Config{Attempts: 3})
			r := repository(t, cl, reg.Host+"/app", registry.AuthConfig{})
			_, err := r.Upload(t.Context(), c.descriptor(), nil, c.open)
			wants(t, err, errdefs.ErrUnavailable, "broke off 3 times without a byte more", "of 100 bytes")
			count(t, reg, "PATCH", "", 3)
			if len(p.all) != 2 {
				t.Errorf("the pauses are %v", p.all)
			}
		})
	}
}

func TestAnAnswerToTheEndOfAnUploadMayBeLost(t *testing.T) {
	reg := fake.New(t)
	c := &content{bytes: noise(100)}
	reg.AddBlob("app", c.bytes) // as if the first PUT had arrived
	reg.Break(fake.Fault{Method: "PUT", Forget: true, Times: 1})
	r, _ := app(t, reg)
	if _, err := r.Upload(t.Context(), c.descriptor(), nil, c.open); err != nil {
		t.Error(err)
	}
	count(t, reg, "POST", "", 1)
}

func TestABlobThatIsNotWhatItsDigestSaysIsRefused(t *testing.T) {
	reg := fake.New(t)
	c := &content{bytes: noise(100)}
	d := c.descriptor()
	d.Digest = digest.FromString("another")
	r, _ := app(t, reg)
	_, err := r.Upload(t.Context(), d, nil, c.open)
	wants(t, err, errdefs.ErrInvalidArgument, "digest invalid: provided digest did not match uploaded content")
}

func TestAFailureToReadTheBlobEndsItsUpload(t *testing.T) {
	broken := errors.New("the disk is broken")
	for name, open := range map[string]func(int64) (io.ReadCloser, error){
		"open": func(int64) (io.ReadCloser, error) { return nil, broken },
		"read": func(int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(noise(50)), iotest.ErrReader(broken))), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg := fake.New(t)
			r, p := app(t, reg)
			_, err := r.Upload(t.Context(), (&content{bytes: noise(100)}).descriptor(), nil, open)
			wants(t, err, broken)
			if len(p.all) > 0 {
				t.Errorf("it was tried again after %v", p.all)
			}
		})
	}
}

func TestCancellingEndsAnUploadThatHangs(t *testing.T) {
	stop := errors.New("the user has had enough")
	reg := fake.New(t)
	c := &content{bytes: noise(100)}
	reg.Break(fake.Fault{Method: "PATCH", Hang: true})
	r, _ := app(t, reg)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		for len(reg.Requests("PATCH", "")) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel(stop)
	}()
	_, err := r.Upload(ctx, c.descriptor(), nil, c.open)
	wants(t, err, stop)
}

func TestManifestsAreStoredUnderTagsAndDigests(t *testing.T) {
	reg := fake.New(t)
	body := []byte(`{"schemaVersion":2}`)
	r, _ := app(t, reg)
	for _, tag := range []string{"1", ""} {
		if err := r.Put(t.Context(), ocispec.MediaTypeImageManifest, tag, body); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range []string{"1", digest.FromBytes(body).String()} {
		mediaType, got, ok := reg.Manifest("app", ref)
		if !ok || mediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%s is there: %v, its type %s", ref, ok, mediaType)
		}
		same(t, got, body)
	}
}

func TestABusyRegistryIsToldAManifestAgain(t *testing.T) {
	reg := fake.New(t)
	reg.Break(fake.Fault{Status: 502, Times: 2}, fake.Fault{Status: 429, Header: map[string]string{"Retry-After": "3"}, Times: 1})
	r, p := app(t, reg)
	if err := r.Put(t.Context(), ocispec.MediaTypeImageManifest, "1", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := reg.Manifest("app", "1"); string(got) != "{}" || len(p.all) != 3 || p.all[2] != 3*time.Second {
		t.Errorf("%q after %v", got, p.all)
	}
}

func TestAManifestThatTheRegistryStoresAsAnotherOneIsAnError(t *testing.T) {
	reg := fake.New(t)
	reg.Break(fake.Fault{Header: map[string]string{"Docker-Content-Digest": digest.FromString("x").String()}})
	r, _ := app(t, reg)
	wants(t, r.Put(t.Context(), ocispec.MediaTypeImageManifest, "1", []byte("{}")), errdefs.ErrDataLoss, "as "+digest.FromString("x").String())
}

func TestPushingWithoutPermissionIsDenied(t *testing.T) {
	reg := fake.New(t)
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	cl, _ := client(t, Config{})
	c := &content{bytes: noise(100)}
	r := repository(t, cl, reg.Host+"/app", registry.AuthConfig{Username: "u", Password: "wrong"})
	_, err := r.Upload(t.Context(), c.descriptor(), nil, c.open)
	wants(t, err, errdefs.ErrPermissionDenied, "push access denied for "+reg.Host+"/app")
	wants(t, r.Put(t.Context(), ocispec.MediaTypeImageManifest, "1", []byte("{}")), errdefs.ErrPermissionDenied, "push access denied for ")
	count(t, reg, "PATCH", "", 0)
}

func TestStrangersMayPullButNotPush(t *testing.T) {
	reg := fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p", Anonymous: true})
	r, _ := app(t, reg)
	if _, err := r.Resolve(t.Context(), "1"); err != nil {
		t.Error(err)
	}
	c := &content{bytes: noise(100)}
	_, err := r.Upload(t.Context(), c.descriptor(), nil, c.open)
	wants(t, err, errdefs.ErrUnauthenticated, "unauthorized: authentication required")
}

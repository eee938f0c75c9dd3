package registry

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

// read fetches all from an offset on.
func read(t *testing.T, r *Repository, d ocispec.Descriptor, offset int64) ([]byte, error) {
	t.Helper()
	rc, err := r.Fetch(t.Context(), d, offset)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func TestBlobsAndManifestsAreFetched(t *testing.T) {
	reg := fake.New(t)
	blob, content := reg.AddBlob("app", noise(70_000)), noise(70_000)
	image := reg.AddImage("app", "1", fake.Image{})
	empty := reg.AddBlob("app", nil)
	_, manifest, _ := reg.Manifest("app", "1")
	r, _ := app(t, reg)
	for _, c := range []struct {
		d      ocispec.Descriptor
		offset int64
		want   []byte
	}{
		{blob, 0, content}, {blob, 69_999, content[69_999:]}, {blob, 70_000, nil}, {image, 0, manifest}, {image, 5, manifest[5:]}, {empty, 0, nil},
	} {
		got, err := read(t, r, c.d, c.offset)
		if err != nil {
			t.Error(err)
		}
		same(t, got, c.want)
	}
}

func TestATransferThatBreaksOffGoesOnWhereItBroke(t *testing.T) {
	reg := fake.New(t)
	want := noise(1 << 20)
	d := reg.AddBlob("app", want)
	reg.Break(fake.Fault{Method: "GET", Path: "/blobs/", Cut: 200_001, Times: 3}, fake.Fault{Method: "GET", Cut: -1, Times: 3})
	r, _ := app(t, reg)
	got, err := read(t, r, d, 100)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want[100:])
	requests := count(t, reg, "GET", "/blobs/", 7)
	once(t, requests)
	for i, rg := range []string{"bytes=100-", "bytes=200101-", "bytes=400102-", "bytes=600103-"} {
		if requests[i].Header.Get("Range") != rg {
			t.Errorf("request %d asks for %q, want %q", i, requests[i].Header.Get("Range"), rg)
		}
	}
}

func TestATransferWithoutAnyProgressIsGivenUp(t *testing.T) {
	reg := fake.New(t)
	d := reg.AddBlob("app", noise(1000))
	reg.Break(fake.Fault{Cut: 10, Times: 1}, fake.Fault{Cut: -1})
	c, p := client(t, Config{Attempts: 3})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{})
	rc, err := r.Fetch(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	wants(t, err, errdefs.ErrUnavailable, "broke off sending "+d.Digest.String()+" 3 times without a byte more, last after 10 of 1000 bytes: the connection was closed")
	same(t, got, noise(1000)[:10])
	if len(p.all) != 2 || p.all[1] <= p.all[0] {
		t.Errorf("the pauses are %v", p.all)
	}
	if _, again := rc.Read(make([]byte, 1)); again != err { //nolint:errorlint // the same one is meant
		t.Errorf("reading on gives %v", again)
	}
}

func TestAHostThatIgnoresRangesGivesTheRightBytes(t *testing.T) {
	reg := fake.New(t)
	want := noise(100_000)
	d := reg.AddBlob("app", want)
	reg.Break(fake.Fault{Cut: 50_000, Times: 1}, fake.Fault{NoRange: true, Cut: 20_000, Times: 2}, fake.Fault{NoRange: true, Cut: 60_000, Times: 1}, fake.Fault{NoRange: true})
	r, _ := app(t, reg)
	got, err := read(t, r, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	if got, err = read(t, r, d, 99_000); err != nil {
		t.Error(err)
	}
	same(t, got, want[99_000:])
}

func TestAHostThatLiesAboutABlobIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset int64
		fault  fake.Fault
		text   string
	}{
		{"fewer bytes", 0, fake.Fault{Header: map[string]string{"Content-Length": "5"}}, "sends 5 bytes for "},
		{"more bytes", 0, fake.Fault{More: 1}, "sends 101 bytes for "},
		{"more bytes than it says", 0, fake.Fault{More: 1, Header: map[string]string{"Content-Length": ""}}, "sends more than the 100 bytes that "},
		{"more bytes of a part", 10, fake.Fault{More: 1}, "sends more than the 100 bytes that "},
		{"another part", 10, fake.Fault{Header: map[string]string{"Content-Range": "bytes 0-99/100"}}, `sent "bytes 0-99/100"`},
		{"a part of nothing", 10, fake.Fault{Header: map[string]string{"Content-Range": ""}}, `sent ""`},
		{"a part of another size", 10, fake.Fault{Header: map[string]string{"Content-Range": "bytes 10-99/1000"}}, `sent "bytes 10-99/1000"`},
		{"compressed again", 0, fake.Fault{Header: map[string]string{"Content-Encoding": "gzip"}}, `in the encoding "gzip"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := fake.New(t)
			d := reg.AddBlob("app", noise(100))
			reg.Break(c.fault)
			r, _ := app(t, reg)
			_, err := read(t, r, d, c.offset)
			wants(t, err, errdefs.ErrInvalidArgument, c.text, d.Digest.String())
			count(t, reg, "GET", "/blobs/", 1)
		})
	}
}

func TestAMissingPartOfAnImageIsNamed(t *testing.T) {
	reg := fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	r, _ := app(t, reg)
	_, err := r.Fetch(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("x"), Size: 1}, 0)
	wants(t, err, errdefs.ErrNotFound, "does not have "+digest.FromString("x").String(), reg.Host+"/app")
	_, err = r.Fetch(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}, 0)
	wants(t, err, errdefs.ErrNotFound, "manifest for "+reg.Host+"/app@"+digest.FromString("x").String()+" not found")
}

func TestForeignLayersComeFromTheirMakersWithoutCredentials(t *testing.T) {
	reg, maker := fake.New(t), fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	reg.Require(fake.Auth{Scheme: "bearer", User: "u", Password: "p"})
	d := maker.AddBlob("windows", noise(100))
	d.URLs = []string{"file:///etc/passwd", maker.URL + "/v2/windows/blobs/" + d.Digest.String()}
	c, _ := client(t, Config{})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{Username: "u", Password: "p"})

	d.MediaType = ocispec.MediaTypeImageLayerGzip
	_, err := read(t, r, d, 0)
	wants(t, err, errdefs.ErrNotFound)
	count(t, maker, "", "", 0) // of other layers it is not believed

	d.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	got, err := read(t, r, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, noise(100))
	if a := count(t, maker, "GET", "", 1)[0].Header.Get("Authorization"); a != "" {
		t.Errorf("the maker was shown %q", a)
	}
}

func TestCancellingEndsATransferThatHangs(t *testing.T) {
	stop := errors.New("the user has had enough")
	for name, fault := range map[string]fake.Fault{"before the answer": {Hang: true}, "in its middle": {Hang: true, Cut: 50}} {
		t.Run(name, func(t *testing.T) {
			reg := fake.New(t)
			d := reg.AddBlob("app", noise(100))
			reg.Break(fault)
			r, _ := app(t, reg)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			go func() {
				for len(reg.Requests("GET", "/blobs/")) == 0 {
					time.Sleep(time.Millisecond)
				}
				cancel(stop)
			}()
			rc, err := r.Fetch(ctx, d, 0)
			if err == nil {
				_, err = io.ReadAll(rc)
				_ = rc.Close()
			}
			wants(t, err, stop)
			count(t, reg, "GET", "/blobs/", 1)
		})
	}
}

func TestAClosedTransferGivesAnError(t *testing.T) {
	reg := fake.New(t)
	d := reg.AddBlob("app", noise(100))
	r, _ := app(t, reg)
	rc, err := r.Fetch(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(rc.Close(), rc.Close()); err != nil {
		t.Error(err)
	}
	if _, err := rc.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("reading gives %v", err)
	}
}

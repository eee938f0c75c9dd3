package registry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

func TestTagsAndDigestsAreResolved(t *testing.T) {
	reg := fake.New(t)
	amd := reg.AddImage("app", "1", fake.Image{Layers: [][]byte{[]byte("one")}})
	arm := reg.AddImage("app", "", fake.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}})
	index := reg.AddIndex("app", "all", amd, arm)
	r, _ := app(t, reg)
	for name, want := range map[string]ocispec.Descriptor{"1": amd, amd.Digest.String(): amd, "all": index, arm.Digest.String(): arm} {
		d, err := r.Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
			t.Errorf("%s is %v, want %v", name, d, want)
		}
	}
	count(t, reg, "GET", "/manifests/", 0)
}

func TestWhatAHeadRequestDoesNotSayIsReadFromTheManifest(t *testing.T) {
	for name, fault := range map[string]fake.Fault{
		"no digest":       {Header: map[string]string{"Docker-Content-Digest": ""}},
		"a bad digest":    {Header: map[string]string{"Docker-Content-Digest": "sha256:12"}},
		"no length":       {Header: map[string]string{"Content-Length": ""}},
		"no type":         {Header: map[string]string{"Content-Type": ";"}},
		"no HEAD at all":  {Status: 405},
		"refused to HEAD": {Status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			reg := fake.New(t)
			want := reg.AddImage("app", "1", fake.Image{})
			fault.Method = "HEAD"
			reg.Break(fault)
			r, _ := app(t, reg)
			d, err := r.Resolve(t.Context(), "1")
			if err != nil || d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
				t.Errorf("%v, %v", d, err)
			}
			count(t, reg, "GET", "/manifests/1$", 1)
		})
	}
}

func TestAnImageThatIsNotThereOrMayNotBeSeenIsNotFound(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	denied := "pull access denied for %s/app, repository does not exist or may require 'docker login'"
	for _, c := range []struct {
		name  string
		tag   string
		fault fake.Fault
		auth  fake.Auth
		empty bool // there is no repository
		text  string
	}{
		{name: "tag", tag: "2", text: "manifest for %s/app:2 not found: manifest unknown: manifest unknown"},
		{name: "digest", tag: digest, text: "manifest for %s/app@" + digest + " not found"},
		{name: "no words", tag: "2", fault: fake.Fault{Status: 404}, text: "manifest for %s/app:2 not found"},
		{name: "no repository", tag: "1", empty: true, text: denied},
		{name: "denied", tag: "1", fault: fake.Fault{Status: 403, Body: `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`}, text: denied},
		{name: "forbidden", tag: "1", fault: fake.Fault{Status: 403}, text: denied},
		{name: "401 without a challenge", tag: "1", fault: fake.Fault{Status: 401}, text: denied},
		{name: "401 with an unknown challenge", tag: "1", fault: fake.Fault{Status: 401, Header: map[string]string{"Www-Authenticate": "Negotiate"}}, text: denied},
		{name: "401 to no password", tag: "1", auth: fake.Auth{Scheme: "basic", User: "u", Password: "p"}, text: denied},
		{name: "no token for strangers", tag: "1", auth: fake.Auth{Scheme: "bearer", User: "u", Password: "p"}, text: denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := fake.New(t)
			if !c.empty {
				reg.AddImage("app", "1", fake.Image{})
			}
			if c.fault.Status != 0 {
				reg.Break(c.fault)
			}
			reg.Require(c.auth)
			r, p := app(t, reg)
			_, err := r.Resolve(t.Context(), c.tag)
			wants(t, err, errdefs.ErrNotFound, fmt.Sprintf(c.text, reg.Host))
			if len(p.all) > 0 {
				t.Errorf("it was waited for: %v", p.all)
			}
		})
	}
}

func TestManifestsOfOtherTimesAreRefused(t *testing.T) {
	for mediaType, class := range map[string]error{
		"application/vnd.docker.distribution.manifest.v1+prettyjws": errdefs.ErrNotImplemented,
		"application/vnd.docker.distribution.manifest.v1+json":      errdefs.ErrNotImplemented,
		"application/json": errdefs.ErrNotImplemented,
		"text/html":        errdefs.ErrInvalidArgument,
	} {
		for _, head := range []int{200, 405} {
			reg := fake.New(t)
			reg.AddManifest("app", "1", mediaType, []byte("{}"))
			if head != 200 {
				reg.Break(fake.Fault{Method: "HEAD", Status: head})
			}
			r, _ := app(t, reg)
			_, err := r.Resolve(t.Context(), "1")
			wants(t, err, class, mediaType)
		}
	}
}

func TestAManifestThatIsTooLargeIsNotRead(t *testing.T) {
	reg := fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	reg.Break(fake.Fault{Method: "HEAD", Skip: 1, Status: 405}, fake.Fault{More: 100 << 20, Header: map[string]string{"Content-Length": ""}, Method: "GET"}, fake.Fault{More: 100 << 20})
	r, _ := app(t, reg)
	for range 2 { // off the head of the answer, and off its body
		_, err := r.Resolve(t.Context(), "1")
		wants(t, err, errdefs.ErrInvalidArgument, "has more than 4194304 bytes")
	}
	if sent := count(t, reg, "GET", "/manifests/", 1)[0].Bytes; sent > 50<<20 {
		t.Errorf("%d bytes were sent", sent)
	}
}

func TestAnotherManifestThanTheDigestSaysIsRefused(t *testing.T) {
	reg := fake.New(t)
	d := reg.AddImage("app", "1", fake.Image{})
	reg.Break(fake.Fault{Method: "HEAD", Header: map[string]string{"Content-Length": ""}}, fake.Fault{Method: "GET", Wrong: true})
	r, _ := app(t, reg)
	_, err := r.Resolve(t.Context(), d.Digest.String())
	wants(t, err, errdefs.ErrInvalidArgument, "answered with a manifest whose digest is", d.Digest.String())
}

func TestABusyRegistryIsLeftAloneAsLongAsItAsks(t *testing.T) {
	reg := fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	reg.Break(fake.Fault{Status: 429, Header: map[string]string{"Retry-After": "7"}, Times: 1}, fake.Fault{Status: 503, Header: map[string]string{"Retry-After": "0"}, Times: 1})
	r, p := app(t, reg)
	if _, err := r.Resolve(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{7 * time.Second, 0}; !slices.Equal(p.all, want) {
		t.Errorf("the pauses are %v, want %v", p.all, want)
	}
	count(t, reg, "", "", 3)
}

func TestARegistryThatWantsToBeLeftAloneForLongIsNotWaitedFor(t *testing.T) {
	reg := fake.New(t)
	reg.Break(fake.Fault{Status: 429, Header: map[string]string{"Retry-After": "3600"}, Body: `{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}`})
	r, p := app(t, reg)
	_, err := r.Resolve(t.Context(), "1")
	wants(t, err, errdefs.ErrUnavailable, "toomanyrequests: pull rate limit")
	if len(p.all) > 0 {
		t.Errorf("it was waited for: %v", p.all)
	}
}

func TestABrokenRegistryIsAskedAgainButNotForEver(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		reg := fake.New(t)
		b := reg.AddBlob("app", []byte("hello"))
		reg.Break(fake.Fault{Method: "GET", Status: status, Body: "out of order"})
		c, p := client(t, Config{Attempts: 3})
		r := repository(t, c, reg.Host+"/app", registry.AuthConfig{})
		_, err := r.Fetch(t.Context(), b, 0)
		wants(t, err, errdefs.ErrUnavailable, reg.Host, fmt.Sprint(status), "out of order")
		count(t, reg, "GET", "/blobs/", 3)
		if len(p.all) != 2 || p.all[1] <= p.all[0] {
			t.Errorf("the pauses are %v", p.all)
		}
		reg.Mend()
		reg.Break(fake.Fault{Status: status, Times: 2})
		if _, err := r.Fetch(t.Context(), b, 0); err != nil {
			t.Error(err)
		}
	}
}

func TestAHeadRequestThatWasAskedOftenEnoughIsFollowedByOneGet(t *testing.T) {
	reg := fake.New(t)
	reg.Break(fake.Fault{Status: 500})
	c, _ := client(t, Config{Attempts: 3})
	_, err := repository(t, c, reg.Host+"/app", registry.AuthConfig{}).Resolve(t.Context(), "1")
	wants(t, err, errdefs.ErrUnavailable, "500")
	count(t, reg, "HEAD", "", 3)
	count(t, reg, "GET", "", 1)
}

func TestRedirectsInACircleEnd(t *testing.T) {
	reg := fake.New(t)
	reg.Break(fake.Fault{Redirect: true})
	r, _ := app(t, reg)
	_, err := r.Resolve(t.Context(), "1")
	wants(t, err, nil, reg.Host+" redirects again and again")
	count(t, reg, "", "", 10)
}

func TestTagsAreListedPageByPage(t *testing.T) {
	reg := fake.New(t)
	var want []string
	for i := range 2500 {
		tag := fmt.Sprintf("v%04d", i)
		reg.AddManifest("app", tag, ocispec.MediaTypeImageManifest, []byte("{}"))
		want = append(want, tag)
	}
	r, _ := app(t, reg)
	tags, err := r.Tags(t.Context())
	if err != nil || !slices.Equal(tags, want) {
		t.Errorf("%d tags, %v", len(tags), err)
	}
	count(t, reg, "GET", "/tags/list$", 3)
}

func TestAListOfTagsThatLeadsToItselfEnds(t *testing.T) {
	reg := fake.New(t)
	reg.AddImage("app", "1", fake.Image{})
	reg.Break(fake.Fault{Header: map[string]string{"Link": `</v2/app/tags/list?n=1>; rel="next"`}})
	r, _ := app(t, reg)
	if _, err := r.Tags(t.Context()); err != nil {
		t.Error(err)
	}
	count(t, reg, "GET", "/tags/list$", 2)
}

func TestTagsOfARepositoryThatIsNotThereAreDenied(t *testing.T) {
	reg := fake.New(t)
	reg.Break(fake.Fault{Status: 404, Times: 1})
	r, _ := app(t, reg)
	for range 2 {
		_, err := r.Tags(t.Context())
		wants(t, err, errdefs.ErrNotFound, "pull access denied for "+reg.Host+"/app, repository does not exist")
	}
}

package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

func open(t *testing.T, dir string, l Limits) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, Limits: l, Spare: func(r string) bool { return strings.HasPrefix(r, "cached/") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// upload stores a blob.
func upload(t *testing.T, s *Store, repo, text string) digest.Digest {
	t.Helper()
	d, err := tryUpload(s, repo, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tryUpload(s *Store, repo, text string) (digest.Digest, error) {
	d := digest.FromString(text)
	u, err := s.Begin(repo, digest.SHA256)
	if err != nil {
		return d, err
	}
	_, release, err := u.Hold(context.Background())
	if err != nil {
		return d, err
	}
	defer release()
	if _, err := u.Append(strings.NewReader(text)); err != nil {
		return d, err
	}
	_, err = u.Commit(d)
	return d, err
}

// image stores a manifest of blobs; the first is the configuration.
func image(t *testing.T, s *Store, repo, tag string, subject digest.Digest, blobs ...digest.Digest) digest.Digest {
	t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for i, d := range blobs {
		b, err := s.Blob(repo, d)
		if err != nil {
			t.Fatal(err)
		}
		desc := ocispec.Descriptor{MediaType: "application/x", Digest: d, Size: b.Size}
		if i == 0 {
			m.Config = desc
		} else {
			m.Layers = append(m.Layers, desc)
		}
	}
	if subject != "" {
		m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 1}
	}
	return put(t, s, repo, tag, m)
}

func put(t *testing.T, s *Store, repo, tag string, v any) digest.Digest {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	p, err := manifest.Parse("", body)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(body)
	if err := s.PutManifest(Put{Repository: repo, Tag: tag, Digest: d, Body: body, Parsed: p}); err != nil {
		t.Fatal(err)
	}
	return d
}

func index(children ...digest.Digest) ocispec.Index {
	i := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	i.SchemaVersion = 2
	for _, c := range children {
		i.Manifests = append(i.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: c, Size: 1})
	}
	return i
}

// files are the names of all content on disk.
func files(t *testing.T, s *Store) (names []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "blobs/*/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		names = append(names, filepath.Base(f))
	}
	return names
}

// sound checks that sums and links are what counting anew gives, and that all content is what its name says.
func sound(t *testing.T, s *Store) {
	t.Helper()
	if problems, err := s.Collector().Check(context.Background()); err != nil || len(problems) > 0 {
		t.Errorf("the store is not sound: %v %v", problems, err)
	}
	before := s.Totals()
	used := s.used
	s.used, s.total = map[string]int64{}, 0
	if err := s.count(); err != nil {
		t.Fatal(err)
	}
	if s.total != before.Bytes {
		t.Errorf("%d bytes are on record, %d were counted along", s.total, before.Bytes)
	}
	for name, n := range s.used {
		if used[name] != n {
			t.Errorf("%s has %d bytes on record, %d were counted along", name, n, used[name])
		}
	}
	var disk int64
	for _, f := range files(t, s) {
		st, err := os.Stat(s.path(digest.NewDigestFromEncoded("sha256", f)))
		if err != nil {
			t.Fatal(err)
		}
		disk += st.Size()
	}
	if disk != s.total {
		t.Errorf("%d bytes on disk, %d on record", disk, s.total)
	}
}

func TestBlobsBelongToRepositories(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	d := upload(t, s, "a", "hello")
	if _, err := s.Blob("b", d); !refusal.BlobUnknown.Is(err) {
		t.Errorf("a blob of another repository: %v", err)
	}
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	if _, err := s.Mount("b", "a", d, none); !refusal.BlobUnknown.Is(err) {
		t.Errorf("mounted from where nothing may be read: %v", err)
	}
	if _, err := s.Mount("b", "", d, all); err != nil {
		t.Fatal(err)
	}
	upload(t, s, "c", "hello") // the same content once more
	if n := len(files(t, s)); n != 1 {
		t.Errorf("%d files for one content", n)
	}
	for _, repo := range []string{"a", "b", "c"} {
		f, b, err := s.Open(repo, d)
		if err != nil || b.Size != 5 {
			t.Fatalf("%s: %+v, %v", repo, b, err)
		}
		_ = f.Close()
		sound(t, s)
		if err := s.DeleteBlob(repo, d); err != nil {
			t.Fatal(err)
		}
	}
	if left := files(t, s); len(left) > 0 {
		t.Errorf("left on disk: %v", left)
	}
	sound(t, s)
	if names := s.names(); len(names) > 0 {
		t.Errorf("empty repositories are left: %v", names)
	}
}

func TestUploadOutlivesTheProcess(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		dir := t.TempDir()
		s := open(t, dir, Limits{})
		u, err := s.Begin("a/b", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		_, release, err := u.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Append(strings.NewReader("one ")); err != nil {
			t.Fatal(err)
		}
		release()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Limits{})
		if _, err := s.Resume("a/c", u.ID()); !refusal.BlobUploadUnknown.Is(err) {
			t.Errorf("another repository's upload: %v", err)
		}
		again, err := s.Resume("a/b", u.ID())
		if err != nil || again.Size() != 4 {
			t.Fatalf("%v, %v", again, err)
		}
		_, release, err = again.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Append(strings.NewReader("two")); err != nil {
			t.Fatal(err)
		}
		d := alg.FromString("one two")
		if _, err := again.Commit(d); err != nil {
			t.Fatal(err)
		}
		release()
		if _, err := s.Blob("a/b", d); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(filepath.Join(dir, "uploads")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if n := s.Totals(); n.Uploads != 0 || n.Coming != 0 {
			t.Errorf("%+v", n)
		}
	}
}

func TestWrongDigestLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	u, err := s.Begin("a", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	_, release, _ := u.Hold(t.Context())
	_, _ = u.Append(strings.NewReader("x"))
	if _, err := u.Commit(digest.FromString("y")); !refusal.DigestInvalid.Is(err) {
		t.Errorf("%v", err)
	}
	release()
	if _, _, err := u.Hold(t.Context()); !refusal.BlobUploadUnknown.Is(err) {
		t.Errorf("the upload can be held still: %v", err)
	}
	left, _ := os.ReadDir(filepath.Join(s.dir, "uploads"))
	if len(left)+len(files(t, s)) > 0 {
		t.Errorf("left: %v %v", left, files(t, s))
	}
}

func TestManifestNeedsItsParts(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	config, layer := upload(t, s, "a", "{}"), upload(t, s, "a", "layer")
	d := image(t, s, "a", "v1", "", config, layer)
	if err := s.DeleteBlob("a", layer); !refusal.Unsupported.Is(err) {
		t.Errorf("a layer in use was deleted: %v", err)
	}
	i := put(t, s, "a", "", index(d))
	if _, err := s.DeleteManifest("a", d); !refusal.Unsupported.Is(err) {
		t.Errorf("a manifest in use was deleted: %v", err)
	}
	missing, _ := json.Marshal(index(digest.FromString("nowhere")))
	p, _ := manifest.Parse("", missing)
	err := s.PutManifest(Put{Repository: "a", Digest: digest.FromBytes(missing), Body: missing, Parsed: p})
	if !refusal.ManifestBlobUnknown.Is(err) {
		t.Errorf("an index of nothing: %v", err)
	}
	sound(t, s) // the refused manifest left no file
	if _, err := s.DeleteManifest("a", i); err != nil {
		t.Fatal(err)
	}
	if tags, err := s.DeleteManifest("a", d); err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("%v %v", tags, err)
	}
	sound(t, s)
}

// Collect keeps what a tag leads to, over indexes and subjects, and what is young.
func TestCollect(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	config := upload(t, s, "a", "{}")
	tagged := image(t, s, "a", "tagged", "", config, upload(t, s, "a", "l1"))
	child := image(t, s, "a", "", "", config, upload(t, s, "a", "l2"))
	top := put(t, s, "a", "multi", index(child))
	signature := image(t, s, "a", "", top, config, upload(t, s, "a", "signature"))
	loose := image(t, s, "a", "", "", config, upload(t, s, "a", "l3"))
	orphan := upload(t, s, "a", "orphan")
	image(t, s, "cached/x", "v", "", upload(t, s, "cached/x", "{}"))
	cachedOrphan := upload(t, s, "cached/x", "not collected")

	all := []digest.Digest{tagged, child, top, signature, loose}
	have := func(want ...digest.Digest) {
		t.Helper()
		for _, d := range all {
			_, err := s.Manifest("a", d.String())
			if got := err == nil; got != slices.Contains(want, d) {
				t.Errorf("manifest %s is here: %v (%v)", d, got, err)
			}
		}
		sound(t, s)
	}
	c, err := s.Collector().Collect(t.Context(), Policy{Grace: time.Hour, Untagged: true})
	if err != nil || len(c.Manifests)+len(c.Blobs) > 0 {
		t.Errorf("what is young was collected: %+v %v", c, err)
	}
	s.touched = newTouched()
	dry := Policy{Grace: -time.Minute, DryRun: true}
	if c, err = s.Collector().Collect(t.Context(), dry); err != nil || len(c.Manifests) != 0 || !slices.Equal(c.Blobs, []string{"a@" + orphan.String()}) || c.Bytes != 6 {
		t.Errorf("dry run: %+v %v", c, err)
	}
	have(all...)
	s.touched = newTouched()
	if c, err = s.Collector().Collect(t.Context(), Policy{Grace: -time.Minute}); err != nil || len(c.Blobs) != 1 {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := s.Blob("a", orphan); !refusal.BlobUnknown.Is(err) {
		t.Errorf("%v", err)
	}
	have(all...)
	s.touched = newTouched()
	if c, err = s.Collector().Collect(t.Context(), Policy{Grace: -time.Minute, Untagged: true}); err != nil || !slices.Equal(c.Manifests, []string{"a@" + loose.String()}) {
		t.Errorf("%+v %v", c, err)
	}
	have(tagged, child, top, signature)
	if _, err := s.Blob("cached/x", cachedOrphan); err != nil {
		t.Errorf("a cached blob was collected: %v", err)
	}
	if err := s.DeleteTag("a", "multi"); err != nil {
		t.Fatal(err)
	}
	s.touched = newTouched()
	if _, err = s.Collector().Collect(t.Context(), Policy{Grace: -time.Minute, Untagged: true}); err != nil {
		t.Fatal(err)
	}
	have(tagged)
}

// Whoever was told that something is here finds it here.
func TestCollectSparesWhatWasAskedFor(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	d := upload(t, s, "a", "blob")
	s.touched = newTouched()
	p := Policy{Grace: 0}
	time.Sleep(1100 * time.Millisecond) // links have times in seconds
	if _, err := s.Blob("a", d); err != nil {
		t.Fatal(err)
	}
	p.Grace = 500 * time.Millisecond
	if c, err := s.Collector().Collect(t.Context(), p); err != nil || len(c.Blobs) != 0 {
		t.Errorf("%+v %v", c, err)
	}
	s.touched = newTouched()
	if c, err := s.Collector().Collect(t.Context(), p); err != nil || len(c.Blobs) != 1 {
		t.Errorf("%+v %v", c, err)
	}
}

// Pushes and collections at a time: every manifest that was taken is whole.
func TestCollectBesidePushes(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	var collector sync.WaitGroup
	collector.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Collector().Collect(ctx, Policy{Grace: time.Minute, Untagged: true}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var pushers sync.WaitGroup
	for n := range 4 {
		pushers.Go(func() {
			for i := range 15 {
				repo := fmt.Sprint("r", n%2)
				config, layer := upload(t, s, repo, "{}"), upload(t, s, repo, fmt.Sprint("layer ", i%5))
				image(t, s, repo, fmt.Sprint("t", i), "", config, layer)
				if i%3 == 0 {
					_ = s.DeleteTag(repo, fmt.Sprint("t", i))
				}
			}
		})
	}
	pushers.Wait()
	cancel()
	collector.Wait()
	for _, repo := range []string{"r0", "r1"} {
		tags, _, err := s.Tags(repo, "", 100)
		if err != nil || len(tags) == 0 {
			t.Fatalf("%v %v", tags, err)
		}
		for _, tag := range tags {
			m, err := s.Detail(repo, tag.Digest)
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range m.References {
				if _, err := s.Blob(repo, ref.Digest); err != nil {
					t.Error(err)
				}
			}
		}
	}
	sound(t, s)
}

// What a kill leaves: a file without a row. The sweep takes it, and nothing else.
func TestSweep(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	d := upload(t, s, "a", "kept")
	left := digest.FromString("left")
	if _, err := s.writeContent(left, []byte("left")); err != nil {
		t.Fatal(err)
	}
	n, bytes, err := s.Collector().Sweep(t.Context())
	if err != nil || n != 1 || bytes != 4 {
		t.Errorf("%d files, %d bytes, %v", n, bytes, err)
	}
	if got := files(t, s); !slices.Equal(got, []string{d.Encoded()}) {
		t.Errorf("%v", got)
	}
}

func TestUploadsAreGivenUp(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	u, err := s.Begin("a", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := s.GiveUp(time.Now().Add(-time.Minute)); n != 0 {
		t.Error("a young upload was given up")
	}
	_, release, _ := u.Hold(t.Context())
	if n, _ := s.GiveUp(time.Now().Add(time.Minute)); n != 0 {
		t.Error("an upload under way was given up")
	}
	release()
	if n, _ := s.GiveUp(time.Now().Add(time.Minute)); n != 1 {
		t.Error("an old upload was not given up")
	}
	if _, err := s.Resume("a", u.ID()); !refusal.BlobUploadUnknown.Is(err) {
		t.Errorf("%v", err)
	}
}

// Uploads that nobody goes on with take no descriptor, and there is an end to them.
func TestUploadsAreCheap(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for range 200 {
		u, err := s.Begin("a", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		_, release, err := u.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Append(strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		release()
	}
	if n := count(); n > before+20 {
		t.Errorf("%d descriptors more are open", n-before)
	}
	for i := len(s.uploads); i < maxUploads; i++ {
		s.uploads[fmt.Sprint(i)] = &Upload{}
	}
	if _, err := s.Begin("a", digest.SHA256); !refusal.TooManyRequests.Is(err) {
		t.Errorf("%v", err)
	}
}

// A client that comes back over another connection gets its upload.
func TestHoldCutsOff(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	u, _ := s.Begin("a", digest.SHA256)
	first, release, err := u.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-first.Done()
		release()
	}()
	_, release2, err := u.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release2()
	if !refusal.BlobUploadInvalid.Is(context.Cause(first)) {
		t.Errorf("%v", context.Cause(first))
	}
}

func TestLimits(t *testing.T) {
	s := open(t, t.TempDir(), Limits{Total: 100, Rules: []LimitRule{{Repositories: "team/*", Each: 20, Together: 30}}})
	upload(t, s, "team/a", strings.Repeat("a", 15))
	for name, text := range map[string]string{"team/a": strings.Repeat("b", 10), "team/c": strings.Repeat("c", 16), "free": strings.Repeat("d", 90)} {
		_, err := tryUpload(s, name, text)
		if !refusal.Denied.Is(err) || !strings.Contains(err.Error(), "may take") {
			t.Errorf("%s: %v", name, err)
		}
	}
	upload(t, s, "team/c", strings.Repeat("c", 15))
	// What is here already takes nothing of the total, and something of the repository.
	upload(t, s, "free", strings.Repeat("a", 15))
	if _, err := s.Mount("team/d", "free", digest.FromString(strings.Repeat("a", 15)), func(string) bool { return true }); !refusal.Denied.Is(err) {
		t.Errorf("a mount over the quota: %v", err)
	}
	sound(t, s)
	if got := s.Usage("team/a"); got != 15 {
		t.Errorf("team/a has %d bytes", got)
	}
}

func TestEvictTakesTheOldest(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	kept := upload(t, s, "own", strings.Repeat("o", 50))
	old, young := upload(t, s, "cached/a", strings.Repeat("x", 50)), upload(t, s, "cached/b", strings.Repeat("y", 50))
	if _, err := s.Blob("cached/b", young); err != nil { // asked for
		t.Fatal(err)
	}
	if freed, err := s.Collector().Evict(60); err != nil || freed != 50 {
		t.Errorf("%d %v", freed, err)
	}
	for d, want := range map[digest.Digest]bool{kept: true, old: false, young: true} {
		if got := slices.Contains(files(t, s), d.Encoded()); got != want {
			t.Errorf("%s is here: %v", d, got)
		}
	}
	sound(t, s)
}

func TestLists(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	config := upload(t, s, "a", "{}")
	d := image(t, s, "a", "B", "", config)
	for _, tag := range []string{"a", "c", "D"} {
		image(t, s, "a", tag, "", config)
	}
	var got []string
	for last := ""; ; {
		tags, more, err := s.Tags("a", last, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range tags {
			got = append(got, tag.Name)
			last = tag.Name
		}
		if !more {
			break
		}
	}
	if !slices.Equal(got, []string{"a", "B", "c", "D"}) {
		t.Errorf("%v", got)
	}
	upload(t, s, "nothing-yet", "x")
	names, _, err := s.Repositories("", 10, func(string) bool { return true })
	if err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("%v %v", names, err)
	}
	for i := range 5 {
		image(t, s, "a", "", d, config, upload(t, s, "a", fmt.Sprint(i)))
	}
	first, more, err := s.Referrers("a", d, "", "", 3)
	if err != nil || !more || len(first) != 3 {
		t.Fatalf("%v %v %v", first, more, err)
	}
	rest, more, err := s.Referrers("a", d, "application/x", first[2].Digest, 3)
	if err != nil || more || len(rest) != 2 {
		t.Errorf("%v %v %v", rest, more, err)
	}
	if none, _, err := s.Referrers("a", d, "other", "", 3); err != nil || len(none) > 0 {
		t.Errorf("%v %v", none, err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Limits{})
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v", err)
	}
}

func TestDamageIsTold(t *testing.T) {
	s := open(t, t.TempDir(), Limits{})
	d := image(t, s, "a", "v", "", upload(t, s, "a", "{}"))
	if err := os.WriteFile(s.path(d), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Manifest("a", "v"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
	if problems, _ := s.Collector().Check(t.Context()); len(problems) != 1 {
		t.Errorf("%v", problems)
	}
	// Pushing it again heals it.
	image(t, s, "a", "v", "", upload(t, s, "a", "{}"))
	m, err := s.Manifest("a", "v")
	if err != nil || !bytes.Contains(m.Body, []byte("schemaVersion")) {
		t.Errorf("%s %v", m.Body, err)
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		p, name string
		want    bool
	}{
		{"a/*", "a/b", true}, {"a/*", "a/b/c", false}, {"a/**", "a/b/c", true}, {"a/**", "a", true}, {"**", "x/y", true}, {"**/z", "x/y/z", true},
		{"a*", "abc", true}, {"a", "b", false}, {"*/x", "y/x", true}, {"a/?", "a/bb", false},
	} {
		if got := naming.Pattern(c.p).Match(c.name); got != c.want {
			t.Errorf("%s matches %s: %v", c.p, c.name, got)
		}
	}
}

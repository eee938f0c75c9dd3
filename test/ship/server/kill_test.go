package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// kills is how often the registry dies in the test.
const kills = 12

// Killed at any time, in the middle of pushes, deletions and collections: what was answered with 201 is there, whole; what is on
// disk is what is on record, and nothing else.
func TestKills(t *testing.T) {
	r := testkit.StartOwnRegistry(t, false, nil, "--gc-interval", "20ms", "--gc-grace", "1s", "--gc-untagged")
	var mu sync.Mutex
	taken := map[string]string{} // tag → digest, as answered
	var n atomic.Int64
	for round := range kills {
		stop, answered := make(chan struct{}), make(chan struct{}, 100)
		var pushers sync.WaitGroup
		for p := range 4 {
			pushers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					i := n.Add(1)
					tag := fmt.Sprint("t", i)
					d, ok := pushSmall(of(r), fmt.Sprint("repo", p%2), tag, i)
					if !ok {
						continue
					}
					select {
					case answered <- struct{}{}:
					default:
					}
					if i%4 == 0 { // some go again: garbage for the collector
						if resp, _, err := of(r).do("DELETE", "/v2/"+fmt.Sprint("repo", p%2)+"/manifests/"+tag, nil); err != nil || resp.StatusCode != 202 {
							continue // killed in between: here or gone
						}
						continue
					}
					mu.Lock()
					taken[fmt.Sprint("repo", p%2)+"/manifests/"+tag] = d
					mu.Unlock()
				}
			})
		}
		for until := time.Now().Add(20 * time.Second); len(answered) <= rand.IntN(8) && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		r.Kill()
		close(stop)
		pushers.Wait()
		if round%2 == 0 {
			r.Start(t)
		} else { // and killed while it starts
			r.Start(t)
			r.Kill()
			r.Start(t)
		}
	}
	if len(taken) < kills {
		t.Fatalf("only %d pushes were answered: nothing was tried", len(taken))
	}
	c := of(r)
	for path, d := range taken {
		resp, _ := c.want(t, 200, "HEAD", "/v2/"+path, nil)
		if got := resp.Header.Get("Docker-Content-Digest"); got != d {
			t.Errorf("%s is %s, not %s", path, got, d)
		}
		pullable(t, c, path[:5], d)
	}
	clean(t, r)
}

// clean checks that in the end the garbage is gone, and that all that is on disk belongs to something.
func clean(t *testing.T, r *testkit.OwnRegistry) {
	t.Helper()
	c := of(r)
	time.Sleep(1100 * time.Millisecond)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, code := gantry(t, "registry", "gc", "--data", r.Dir, "--grace", "0s", "--untagged", "-q"); code != 0 {
		t.Fatalf("gc: %d %s", code, out)
	}
	r.Start(t)
	var want int
	for _, repo := range []string{"repo0", "repo1"} {
		_, body := c.want(t, 200, "GET", "/v2/"+repo+"/tags/list", nil)
		var list struct{ Tags []string }
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		for _, tag := range list.Tags {
			pullable(t, c, repo, tag)
		}
		want += len(list.Tags)
	}
	files, err := filepath.Glob(filepath.Join(r.Dir, "blobs/*/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2*want+1 { // a manifest and a layer each, and the configuration of all
		t.Errorf("%d files for %d images", len(files), want)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || digest.FromBytes(b).Encoded() != filepath.Base(f) {
			t.Errorf("%s has other content than its name says: %v", f, err)
		}
	}
}

// pushSmall pushes an image of one layer of its own, and tells whether all of it was taken.
func pushSmall(c *client, repo, tag string, i int64) (string, bool) {
	layer := bytes.Repeat(binary.BigEndian.AppendUint64(nil, uint64(i)), 3000)
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config, err := c.tryBlob(repo, []byte("{}"))
	if err != nil {
		return "", false
	}
	l, err := c.tryBlob(repo, layer)
	if err != nil {
		return "", false
	}
	m.Config, m.Layers = config, []ocispec.Descriptor{l}
	body, err := json.Marshal(m)
	if err != nil {
		return "", false
	}
	resp, _, err := c.do("PUT", "/v2/"+repo+"/manifests/"+tag, body, "Content-Type", m.MediaType)
	return digest.FromBytes(body).String(), err == nil && resp.StatusCode == 201
}

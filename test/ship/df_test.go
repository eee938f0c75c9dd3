package ship

import (
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// diskOf asks an engine what its data root takes.
func diskOf(t *testing.T, e *testkit.Engine) (u spec.DiskUse) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://gantry/system/disk", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := e.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&u); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return u
}

func du(t *testing.T, p string) int64 {
	t.Helper()
	out, _ := exec.Command("du", "-sx", "--block-size=1", p).Output() // files may vanish meanwhile
	n, err := strconv.ParseInt(strings.Fields(string(out) + " none")[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What system df tells of the data root is what du finds there: with hard links, holes, output, and a pull under way.
func TestDiskIsWhatDuSays(t *testing.T) {
	e, r := engine(t), registry.New(t)
	e.Must(t, "volume", "create", "vol")
	e.Must(t, "run", "--name", "made", "-v", "vol:/v", "bb", "sh", "-c",
		"dd if=/dev/urandom of=/v/a bs=1M count=4 2>/dev/null; ln /v/a /v/b; truncate -s 1G /v/hole; dd if=/dev/urandom of=/here bs=1M count=3 2>/dev/null; ln /here /there; seq 100000")
	done, _ := addImage(r, "whole", layer("x", 3*mega))
	e.Must(t, "pull", "-q", done)
	settles(t, e)
	name, d := addImage(r, "app", layer("a", 8*mega), layer("b", mega))
	r.Break(registry.Fault{Method: "GET", Path: "/blobs/" + d[0], Cut: 6 * mega, Hang: true, Times: 1})
	stop := pulls(t, e, name)
	arrived(t, e, d[0], 6*mega)
	want := int64(-1)
	for now := int64(0); now != want; time.Sleep(50 * time.Millisecond) { // until what came is unpacked
		if out, err := exec.Command("sync", "-f", e.DataRoot).CombinedOutput(); err != nil {
			t.Fatalf("sync: %v: %s", err, out)
		}
		want, now = du(t, e.DataRoot), want
	}
	u := diskOf(t, e)
	_ = stop()
	if diff := u.Total - want; diff < -want/50 || diff > want/50 {
		t.Errorf("system df explains %d bytes, du finds %d: %+v", u.Total, want, u.Parts)
	}
	least := map[string]int64{"layers of images": 4 * mega, "volumes": 4 * mega, "writable layers of containers": 3 * mega, "logs of containers": 500_000, "downloads that are not whole yet": 6 * mega}
	for _, p := range u.Parts {
		if p.Bytes >= least[p.What] {
			delete(least, p.What)
		}
		if p.What == "volumes" && p.Bytes > 5*mega {
			t.Errorf("the hole or the hard link of the volume count: %d bytes", p.Bytes)
		}
		if p.What == "other" {
			t.Errorf("not explained: %+v", p)
		}
	}
	if len(least) > 0 {
		t.Errorf("too little is told of %v: %+v", least, u.Parts)
	}
	if u.Spared < 3*mega {
		t.Errorf("spared are %d bytes", u.Spared)
	}
	out, _, code := e.Gantry("system", "df", "-v")
	if code != 0 || !strings.Contains(out, "Disk space of "+e.DataRoot) || !strings.Contains(out, "layers of images") || !strings.Contains(out, "not kept a second time") {
		t.Errorf("exit %d\n%s", code, out)
	}
	e.Must(t, "rm", "made")
}

package dockerroot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"go.etcd.io/bbolt"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// fake is a data root with one image of one layer, as a driver keeps it. It gives the paths of both.
func fake(t *testing.T, driver string) (root, record, files string, archive []byte) {
	t.Helper()
	root = t.TempDir()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct{ name, data string }{{"dir/", ""}, {"dir/file", "content"}, {".wh.gone", ""}, {"top", strings.Repeat("x", 3000)}} {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, f.data)
		must(t, err)
	}
	must(t, w.Close())
	diff := digest.FromBytes(b.Bytes())
	chain := identity.ChainID([]digest.Digest{diff})
	record = filepath.Join(root, "image", driver, "layerdb/sha256", chain.Encoded())
	files = filepath.Join(root, fmt.Sprintf(drivers[driver], "cache1"))
	put(t, filepath.Join(files, "dir/file"), "content")
	put(t, filepath.Join(files, "top"), strings.Repeat("x", 3000))
	put(t, filepath.Join(record, "diff"), diff.String())
	put(t, filepath.Join(record, "cache-id"), "cache1")
	var split bytes.Buffer
	z := gzip.NewWriter(&split)
	r, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(b.Bytes()), storage.NewJSONPacker(z), storage.NewDiscardFilePutter())
	must(t, err)
	_, err = io.Copy(io.Discard, r)
	must(t, err)
	must(t, <-done)
	must(t, z.Close())
	put(t, filepath.Join(record, "tar-split.json.gz"), split.String())
	config, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{diff}}})
	must(t, err)
	id := digest.FromBytes(config)
	put(t, filepath.Join(root, "image", driver, "imagedb/content/sha256", id.Encoded()), string(config))
	put(t, filepath.Join(root, "image", driver, "repositories.json"), fmt.Sprintf(`{"Repositories":{"a":{"a:1":%q,"a@sha256:%064d":%q},"b":{"b:2":"sha256:%064d"}}}`, id, 1, id, 2))
	return root, record, files, b.Bytes()
}

// Every driver that keeps layers as files gives the archive that the layer came as.
func TestLayersOfEveryDriver(t *testing.T) {
	for driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			root, _, _, archive := fake(t, driver)
			r, err := Open(root, "")
			must(t, err)
			list, problems := r.Images()
			if len(list) != 1 || list[0].Title() != "a:1" || len(list[0].Digests) != 1 || len(list[0].Layers) != 1 {
				t.Fatalf("%+v %v", list, problems)
			}
			if len(problems) != 1 || problems[0].Name != "b:2" {
				t.Errorf("problems %v", problems)
			}
			n, err := list[0].Layers[0].Size()
			if err != nil || n != int64(len(archive)) {
				t.Errorf("size %d, %v; want %d", n, err, len(archive))
			}
			var got bytes.Buffer
			if err := list[0].Layers[0].WriteTo(t.Context(), &got); err != nil || !bytes.Equal(got.Bytes(), archive) {
				t.Errorf("%d bytes of %d, %v", got.Len(), len(archive), err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := list[0].Layers[0].WriteTo(ctx, io.Discard); err == nil {
				t.Error("a cancelled copy went on")
			}
		})
	}
}

func TestDamagedLayers(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "content")
	put(t, outside, "content")
	for name, c := range map[string]struct {
		spoil func(record, files string) error
		want  string
	}{
		"another diff ID":  {func(r, _ string) error { return os.WriteFile(r+"/diff", []byte("sha256:x"), 0o600) }, "is damaged"},
		"no cache ID":      {func(r, _ string) error { return os.Remove(r + "/cache-id") }, "no such file"},
		"climbing ID":      {func(r, _ string) error { return os.WriteFile(r+"/cache-id", []byte("../../x"), 0o600) }, "names the folder"},
		"no files":         {func(_, f string) error { return os.RemoveAll(f) }, "no such file"},
		"a file gone":      {func(_, f string) error { return os.Remove(f + "/top") }, "no such file"},
		"a file altered":   {func(_, f string) error { return os.WriteFile(f+"/top", bytes.Repeat([]byte("y"), 3000), 0o600) }, "checksum"},
		"a file shorter":   {func(_, f string) error { return os.WriteFile(f+"/top", []byte("x"), 0o600) }, "checksum"},
		"a link to others": {func(_, f string) error { _ = os.Remove(f + "/dir/file"); return os.Symlink(outside, f+"/dir/file") }, "is not a file"},
		"a folder outside": {func(_, f string) error {
			_ = os.RemoveAll(f + "/dir")
			_ = os.Link(outside, filepath.Dir(outside)+"/file")
			return os.Symlink(filepath.Dir(outside), f+"/dir")
		}, "escapes"},
		"a truncated record": {func(r, _ string) error { return os.Truncate(r+"/tar-split.json.gz", 60) }, "EOF"},
		"a record of noise":  {func(r, _ string) error { return os.WriteFile(r+"/tar-split.json.gz", []byte("noise"), 0o600) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			root, record, files, _ := fake(t, "overlay2")
			must(t, c.spoil(record, files))
			r, err := Open(root, "overlay2")
			must(t, err)
			list, problems := r.Images()
			var text string
			for _, p := range problems {
				text += p.Error() + "\n"
			}
			for _, i := range list {
				_, err := i.Layers[0].Size()
				if err == nil {
					err = i.Layers[0].WriteTo(t.Context(), io.Discard)
				}
				if err != nil {
					text += err.Error()
				}
			}
			if !strings.Contains(text, c.want) {
				t.Errorf("%q is not in %q", c.want, text)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	both, _, _, _ := fake(t, "vfs")
	put(t, both+"/image/overlay2/imagedb/content/x", "")
	if _, err := Open(both, ""); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "--storage-driver") {
		t.Errorf("two drivers: %v", err)
	}
	if r, err := Open(both, "vfs"); err != nil || r.Driver != "vfs" {
		t.Errorf("one of two: %v", err)
	}
	remapped := filepath.Join(t.TempDir(), "100000.200000")
	put(t, remapped+"/volumes/v/_data/x", "")
	if r, err := Open(remapped, ""); err != nil || r.FirstUID != 100000 || r.FirstGID != 200000 {
		t.Errorf("with a user namespace: %+v, %v", r, err)
	}
	if _, err := Open(both, "zfs"); !errdefs.IsNotFound(err) {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := Open(filepath.Join(both, "image/vfs/repositories.json"), ""); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a file: %v", err)
	}
}

func database(t *testing.T, path, bucket string, pairs map[string]string) *bbolt.DB {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	must(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		for k, v := range pairs {
			if err == nil {
				err = b.Put([]byte(k), []byte(v))
			}
		}
		return err
	}))
	return db
}

// The databases are read while somebody else has them locked; records that are noise are told.
func TestVolumesAndNetworks(t *testing.T) {
	root := t.TempDir()
	for _, v := range []string{"one", "quota", "nfs", "noise"} {
		must(t, os.MkdirAll(filepath.Join(root, "volumes", v, "_data"), 0o755))
	}
	put(t, root+"/volumes/empty/x", "")
	put(t, root+"/volumes/nfs/opts.json", `{"MountType":"nfs","MountOpts":"addr=1.2.3.4","MountDevice":":/x"}`)
	put(t, root+"/volumes/quota/opts.json", `{"Quota":{"Size":1000}}`)
	put(t, root+"/volumes/noise/opts.json", `{`)
	database(t, root+"/volumes/metadata.db", "volumes", map[string]string{"one": `{"Name":"one","Driver":"local","Labels":{"a":"b"},"Data":"/etc"}`, "far": `{"Name":"far","Driver":"plug"}`, "lost": `{"Name":"lost","Driver":"local"}`, "bad": "{"})
	const id = "docker/network/v1.0/network/"
	database(t, root+"/network/files/local-kv.db", "libnetwork", map[string]string{
		id + "1/": "\x00\x01" + `{"name":"own","id":"1","networkType":"bridge","scope":"local","internal":true,"labels":{"l":"1"},"generic":{"com.docker.network.generic":{"com.docker.network.driver.mtu":"1400"}},"ipamV4Config":"[{\"PreferredPool\":\"10.1.0.0/24\",\"Gateway\":\"10.1.0.9\"}]","ipamV6Config":"[{\"PreferredPool\":\"\"}]"}`,
		id + "2/": `{"name":"bridge","networkType":"bridge"}`, id + "3/": `{"name":"going","inDelete":true}`, id + "4/": "noise", "docker/network/v1.0/endpoint/5/": "{}",
	})
	r, err := Open(root, "")
	must(t, err)
	volumes, problems := r.Volumes()
	got := map[string]Volume{}
	for _, v := range volumes {
		got[v.Name] = v
	}
	if len(got) != 4 || got["one"].Labels["a"] != "b" || got["one"].Data != root+"/volumes/one/_data" || got["nfs"].Data != "" || got["nfs"].Options["device"] != ":/x" || got["quota"].Options["size"] != "1000" || got["far"].Driver != "plug" {
		t.Errorf("volumes %+v", got)
	}
	told := map[string]bool{}
	for _, p := range problems {
		told[p.Name] = true
	}
	if len(told) != 4 || !told["lost"] || !told["bad"] || !told["noise"] || !told["empty"] {
		t.Errorf("problems %v", problems)
	}
	networks, problems := r.Networks()
	if len(networks) != 1 || networks[0].Name != "own" || !networks[0].Internal || networks[0].Options["com.docker.network.driver.mtu"] != "1400" || len(networks[0].Pools) != 1 || networks[0].Pools[0].Gateway != "10.1.0.9" {
		t.Errorf("networks %+v", networks)
	}
	if len(problems) != 1 || problems[0].Name != "4" {
		t.Errorf("problems %v", problems)
	}
}

func TestDamagedDatabase(t *testing.T) {
	root := t.TempDir()
	path := root + "/volumes/metadata.db"
	db := database(t, path, "volumes", map[string]string{"one": `{"Name":"one"}`})
	must(t, db.Close())
	b, err := os.ReadFile(path)
	must(t, err)
	for at := 2 * 4096; at < len(b); at++ { // all but the two heads
		b[at] ^= 0xa5
	}
	must(t, os.WriteFile(path, b, 0o600))
	r, err := Open(root, "")
	must(t, err)
	if _, problems := r.Volumes(); len(problems) != 1 || !strings.Contains(problems[0].Error(), "metadata.db") {
		t.Errorf("problems %v", problems)
	}
}

package crash

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// ship pulls an image, looks into it, and pushes it under another name: a client asks again until it is told of success.
func (c *trial) ship() error {
	from, to := c.registry.Host+"/from-"+c.name, c.registry.Host+"/to-"+c.name
	want := strings.Repeat(c.name, 9000)
	made := c.registry.AddImage("from-"+c.name, "1", registry.Image{Layers: [][]byte{tarOf("a", want), tarOf("b", "of "+c.name)}})
	if err := c.moved("/images/create?tag=1&fromImage="+url.QueryEscape(from), nil); err != nil {
		return err
	}
	if err := c.shows(from+":1", want); err != nil {
		return err
	}
	if err := c.done("POST", "/images/"+from+":1/tag?tag=2&repo="+url.QueryEscape(to), http.StatusCreated); err != nil {
		return err
	}
	if err := c.moved("/images/"+to+"/push?tag=2", nil); err != nil {
		return err
	}
	if _, body, ok := c.registry.Manifest("to-"+c.name, "2"); !ok || !bytes.Contains(body, []byte(`"layers"`)) {
		return fmt.Errorf("the manifest of %s did not arrive", to)
	}
	if _, _, ok := c.registry.Manifest("to-"+c.name, made.Digest.String()); !ok {
		return fmt.Errorf("%s arrived as another image than it was", to)
	}
	if err := c.done("POST", "/system/fsck?repair=1", http.StatusOK); err != nil {
		return err
	}
	return c.drop(from+":1", to+":2")
}

// load takes an image in from an archive, and looks into it.
func (c *trial) load() error {
	name, want := "loaded-"+strings.ToLower(c.name)+":1", strings.Repeat(c.name, 9000)
	var archive bytes.Buffer
	img := imagemaker.Image{}.Named(name).Add(imagemaker.Layer{imagemaker.File("a", want)}, imagemaker.Layer{imagemaker.File("b", "of "+c.name)})
	if _, err := imagemaker.Write(&archive, imagemaker.Archive{Images: []imagemaker.Image{img}, Layers: "gzip"}); err != nil {
		return err
	}
	if err := c.moved("/images/load?quiet=1", archive.Bytes()); err != nil {
		return err
	}
	if err := c.shows(name, want); err != nil {
		return err
	}
	return c.drop(name)
}

// mend pulls an image, damages a file of its layer and a blob, and has both repaired.
func (c *trial) mend() error {
	repo, want := "mend-"+c.name, strings.Repeat(c.name, 9000)
	name := c.registry.Host + "/" + repo
	c.registry.AddImage(repo, "1", registry.Image{Layers: [][]byte{tarOf("a", want)}})
	if err := c.moved("/images/create?tag=1&fromImage="+url.QueryEscape(name), nil); err != nil {
		return err
	}
	diff := digest.FromBytes(tarOf("a", want))
	if err := os.WriteFile(filepath.Join(c.e.DataRoot, "layers/layers", diff.Encoded(), "fs/a"), []byte("damaged"), 0o644); err != nil {
		return err
	}
	if err := c.done("POST", "/system/fsck?repair=1", http.StatusOK); err != nil {
		return err
	}
	if err := c.shows(name+":1", want); err != nil {
		return err
	}
	return c.drop(name + ":1")
}

// shows looks into an image whose file a should have contents.
func (c *trial) shows(image, contents string) error {
	id, err := c.create(c.name, map[string]any{"Image": image, "Cmd": []string{"none"}})
	if err != nil {
		return err
	}
	if err := c.holds(id, "a", contents); err != nil {
		return err
	}
	return c.remove(id)
}

// drop removes images.
func (c *trial) drop(images ...string) error {
	for _, n := range images {
		if err := c.done("DELETE", "/images/"+n, http.StatusOK, http.StatusNotFound); err != nil {
			return err
		}
	}
	return nil
}

func tarOf(name, data string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))})
	_, _ = io.WriteString(w, data)
	_ = w.Close()
	return b.Bytes()
}

// moved pulls, pushes or loads until it worked.
func (c *trial) moved(path string, body any) error {
	return insist(path, func() (bool, string, error) {
		st, b, err := c.do("POST", path, body)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		if err != nil {
			return false, "", err
		}
		if st != http.StatusOK || bytes.Contains(b, []byte("errorDetail")) {
			return false, "", fmt.Errorf("%s: %d %s", path, st, b)
		}
		return true, "", nil
	})
}

// done asks until the answer is one of those that are wanted.
func (c *trial) done(method, path string, wanted ...int) error {
	return insist(path, func() (bool, string, error) {
		st, b, err := c.do(method, path, nil)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		for _, w := range wanted {
			if st == w {
				return true, "", err
			}
		}
		return false, fmt.Sprintf("%d %s", st, b), err
	})
}

// holds looks at a file of a container that has not run.
func (c *trial) holds(id, file, want string) error {
	return insist("reading "+file, func() (bool, string, error) {
		st, b, err := c.do("GET", "/containers/"+id+"/archive?path=/"+file, nil)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		if err != nil || st != http.StatusOK {
			return false, fmt.Sprintf("%d %s", st, b), err
		}
		r := tar.NewReader(bytes.NewReader(b))
		if _, err := r.Next(); err != nil {
			return false, "", err
		}
		got, err := io.ReadAll(r)
		if err == nil && string(got) != want {
			err = fmt.Errorf("%s has %d bytes that are not those of the image", file, len(got))
		}
		return true, "", err
	})
}

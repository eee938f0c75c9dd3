package movein

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/cli/ref"
	"github.com/gantry-engine/gantry/internal/dockerroot"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// writtenTo is the repository of the images that have what containers wrote.
const writtenTo = "imported/"

// writable makes an image of a container's image and of what it wrote, and gives its name. The layer is written to a file without a
// name first: its digest has to be known before it is sent, and a running container changes it meanwhile.
func (m *movers) writable(ctx context.Context, c *dockerroot.Container) (string, error) {
	name, err := ref.Parse(writtenTo + strings.ToLower(c.Name))
	if err != nil {
		if name, err = ref.Parse(writtenTo + c.ID[:12]); err != nil {
			return "", err
		}
	}
	name = name.WithTag()
	base := m.images.byID(c.Image)
	if base == nil {
		return "", fmt.Errorf("its image %s cannot be read", c.Image)
	}
	layers, err := blobs(base)
	if err != nil {
		return "", err
	}
	dir, err := m.root.Writable(c)
	if err != nil {
		return "", err
	}
	written, file, err := pack(ctx, dir, func(n int64) { m.progress(c.Name, "Reading what it wrote", n, 0) })
	if err != nil {
		return "", err
	}
	defer file.Close()
	config, err := extend(base.Config, written.digest, c)
	if err != nil {
		return "", err
	}
	a, err := newArchive(config, append(layers, written), []ref.Ref{name})
	if err != nil {
		return "", err
	}
	item := Item{Kind: "writable layer", Name: c.Name, Result: Taken, Note: "as the image " + name.Familiar()}
	owner, err := m.images.find(ctx, name.Familiar())
	switch {
	case err != nil:
		return "", err
	case owner == a.id().String():
		item.Result = Present
	case owner != "" && !m.o.Force:
		return "", fmt.Errorf("the image %s is here, and another one: --force replaces it", name.Familiar())
	default:
		if item.Size, err = m.images.load(ctx, a, name.Familiar()); err != nil {
			return "", err
		}
	}
	return name.Familiar(), m.add(ctx, item)
}

// byID finds one of Docker's images.
func (m *images) byID(id digest.Digest) *dockerroot.Image {
	if m.list == nil {
		m.list, _ = m.root.Images()
	}
	for _, i := range m.list {
		if i.ID == id {
			return i
		}
	}
	return nil
}

// pack writes what is in an upper directory as a layer to a file without a name.
func pack(ctx context.Context, dir string, tell func(int64)) (b blob, file *os.File, err error) {
	file, err = os.CreateTemp("", "gantry-import-")
	if err != nil {
		return b, nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err = os.Remove(file.Name()); err != nil {
		return b, nil, err
	}
	root, err := tarfs.OpenRoot(dir)
	if err != nil {
		return b, nil, err
	}
	defer root.Close()
	hash := digest.SHA256.Digester()
	buffer := bufio.NewWriterSize(file, 1<<20)
	size := int64(0)
	tw := tar.NewWriter(&counted{io.MultiWriter(buffer, hash.Hash()), func(n int64) { size += n; tell(size) }})
	if err = tarfs.Pack(ctx, int(root.Fd()), "", tw, tarfs.PackOptions{Overlay: true}); err != nil {
		return b, nil, err
	}
	if err = tw.Close(); err != nil {
		return b, nil, err
	}
	if err = buffer.Flush(); err != nil {
		return b, nil, err
	}
	return blob{hash.Digest(), size, func(_ context.Context, w io.Writer) error {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := io.Copy(w, file)
		return err
	}}, file, nil
}

// extend adds a layer to an image's configuration. The time is that of the container, so that the same content is the same image.
func extend(config []byte, layer digest.Digest, c *dockerroot.Container) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	var rootfs struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	}
	var history []json.RawMessage
	if err := json.Unmarshal(fields["rootfs"], &rootfs); err != nil {
		return nil, err
	}
	if raw := fields["history"]; raw != nil {
		if err := json.Unmarshal(raw, &history); err != nil {
			return nil, err
		}
	}
	rootfs.DiffIDs = append(rootfs.DiffIDs, layer)
	created := c.Created.UTC().Format(time.RFC3339Nano)
	step, err := json.Marshal(map[string]any{"created": created, "created_by": "gantry system import-docker --writable", "comment": "what the container " + c.Name + " wrote"})
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]any{"rootfs": rootfs, "history": append(history, step), "created": created} {
		if fields[k], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

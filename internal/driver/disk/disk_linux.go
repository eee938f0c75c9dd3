// Package disk accounts for every byte of the data root: what it is, where it lies, how much it takes.
package disk

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/diskusage"
)

// kinds says what lies where, below the data root: "*" stands for one name, each of which is counted. What is named nowhere is told as
// "other", so that the parts always add up to the whole.
var kinds = []struct{ where, what string }{
	{"content/blobs/sha256/*", "blobs: manifests, configurations, layers that are not unpacked"},
	{"content/incoming/*/*", "downloads that are not whole yet"},
	{"content/ingest/*", "blobs being written"},
	{"layers/layers/*", "layers of images"},
	{"layers/snapshots/d/*", "layers of builds"},
	{"layers/containers/*", "writable layers of containers"},
	{"layers/volatile/*/*", "writable layers of auto-remove containers"},
	{"layers/spare/*", "prepared for containers to come"},
	{"layers/tmp/*", "layers being unpacked"},
	{"layers/trash/*", "being deleted"},
	{"lazy/*", "layers that come while they are used"},
	{"containers/.spare", "prepared for containers to come"}, {"containers/*", "logs of containers"},
	{"volumes/*", "volumes"},
	{"layers/chains", "records"}, {"layers/stubs", "records"}, {"layers/empty", "records"}, {"layers/driver", "records"},
	{"layers/snapshots/metadata.db", "records"}, {"content/meta.db", "records"}, {"store.db", "records"},
	{"engine-id", "records"}, {"images-used.json", "records"}, {"gantryd.lock", "records"},
}

// Ledger measures a data root.
type Ledger struct {
	Root string
	// Layer gives what a layer's directory takes, by its name, if that was measured when it was unpacked. It may be nil.
	Layer func(name string) (bytes int64, ok bool)
	// Spared gives what blobs without a file would take. It may be nil.
	Spared func() int64
}

// Measure accounts for everything below the root, at this moment.
func (l Ledger) Measure(ctx context.Context) (spec.DiskUse, error) {
	u := spec.DiskUse{Root: l.Root}
	m := &measuring{Ledger: l, ctx: ctx, parts: map[string]*spec.DiskPart{}}
	if err := m.dir(""); err != nil {
		return u, fmt.Errorf("measuring the data root: %w", err)
	}
	for _, p := range m.parts {
		u.Parts = append(u.Parts, *p)
		u.Total += p.Bytes
	}
	slices.SortFunc(u.Parts, func(a, b spec.DiskPart) int {
		if a.Bytes != b.Bytes {
			return int(max(-1, min(1, b.Bytes-a.Bytes)))
		}
		return strings.Compare(a.Where, b.Where)
	})
	if l.Spared != nil {
		u.Spared = l.Spared()
	}
	free, err := Free(l.Root)
	u.Free = free
	return u, err
}

// OfContainers lists the folders that belong to one container each.
func (l Ledger) OfContainers() (list []spec.Leftover, err error) {
	for dir, kind := range map[string]string{"layers/containers": "container", "containers": "log"} {
		entries, err := os.ReadDir(filepath.Join(l.Root, dir))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				continue // prepared for containers to come
			}
			list = append(list, spec.Leftover{Kind: kind, Container: e.Name(), Path: path.Join(dir, e.Name())})
		}
	}
	return list, nil
}

// Free is what the file system of p has left, in bytes.
func Free(p string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(p, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: p, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // a file system is smaller than 8 EiB
}

type measuring struct {
	Ledger
	ctx   context.Context //nolint:containedctx // of one call of Measure
	count diskusage.Counter
	parts map[string]*spec.DiskPart
}

func (m *measuring) add(what, where string, things int, bytes int64) {
	p := m.parts[what]
	if p == nil {
		p = &spec.DiskPart{What: what, Where: where}
		m.parts[what] = p
	}
	p.Count += things
	p.Bytes += bytes
	if what == "records" || what == "other" {
		p.Where = "" // in many places
	}
}

// dir measures what lies in a folder that is no thing of its own.
func (m *measuring) dir(rel string) error {
	own, err := m.count.Own(filepath.Join(m.Root, rel))
	if err != nil {
		return err
	}
	m.add("records", "", 0, own)
	entries, err := os.ReadDir(filepath.Join(m.Root, rel))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := m.entry(path.Join(rel, e.Name()), e.IsDir()); err != nil {
			return err
		}
	}
	return nil
}

func (m *measuring) entry(rel string, dir bool) error {
	above := false
	for _, k := range kinds {
		switch matches(k.where, rel) {
		case whole:
			n, err := m.thing(k.where, rel)
			m.add(k.what, strings.TrimSuffix(k.where, "/*"), 1, n)
			return err
		case part:
			above = true
		}
	}
	if above && dir {
		return m.dir(rel)
	}
	n, err := m.count.Of(m.ctx, filepath.Join(m.Root, rel))
	m.add("other", rel, 1, n)
	return err
}

// thing measures one thing. Layers do not change, so what they take is known.
func (m *measuring) thing(where, rel string) (int64, error) {
	if where == "layers/layers/*" && m.Layer != nil {
		if n, ok := m.Layer(path.Base(rel)); ok {
			return n, nil
		}
	}
	return m.count.Of(m.ctx, filepath.Join(m.Root, rel))
}

type match uint8

const (
	none match = iota
	part       // rel is a folder above
	whole
)

func matches(pattern, rel string) match {
	p, r := strings.Split(pattern, "/"), strings.Split(rel, "/")
	if len(r) > len(p) {
		return none
	}
	for i := range r {
		if p[i] != "*" && p[i] != r[i] {
			return none
		}
	}
	if len(r) < len(p) {
		return part
	}
	return whole
}

package movein

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/dockerroot"
	"github.com/gantry-engine/gantry/internal/sys/treecopy"
)

const kindVolume = "volume"

// unfinished marks, inside a volume here, a copy that is being made: one that was interrupted is made again.
const unfinished = ".gantry-import-unfinished"

// volumes takes volumes over.
type volumes struct{ *job }

func (m *volumes) run(ctx context.Context) error {
	list, problems := m.root.Volumes()
	for _, v := range list {
		if err := m.add(ctx, m.take(ctx, v)); err != nil {
			return err
		}
	}
	return m.problems(ctx, problems)
}

func (m *volumes) take(ctx context.Context, v dockerroot.Volume) Item {
	if v.Driver != "local" {
		return Item{Kind: kindVolume, Name: v.Name, Result: LeftOut, Note: fmt.Sprintf("it belongs to the plugin %s: make it with that, under this name", v.Driver)}
	}
	if v.Data != "" && !strings.HasPrefix(m.engine.Host(), "unix://") {
		return failed(kindVolume, v.Name, fmt.Errorf("the engine at %s is not on this machine, and contents are copied from folder to folder: run this where the engine is", m.engine.Host()))
	}
	var here volume.Volume
	err := m.engine.Get(ctx, "/volumes/"+url.PathEscape(v.Name), nil, &here)
	if err != nil && !api.IsNotFound(err) {
		return failed(kindVolume, v.Name, err)
	}
	var item Item
	if err == nil {
		item, err = m.again(ctx, v, here)
	} else {
		item, err = m.create(ctx, v)
	}
	if err != nil {
		return failed(kindVolume, v.Name, err)
	}
	return item
}

// create makes a volume that is not here, and takes it away again when its content cannot be copied.
func (m *volumes) create(ctx context.Context, v dockerroot.Volume) (Item, error) {
	item := Item{Kind: kindVolume, Name: v.Name, Result: Taken}
	if m.o.DryRun {
		item.Result = Planned
		return m.sized(ctx, item, v)
	}
	var made volume.Volume
	if err := m.engine.Post(ctx, "/volumes/create", nil, &volume.CreateRequest{Name: v.Name, Driver: v.Driver, DriverOpts: v.Options, Labels: v.Labels}, &made); err != nil {
		return item, err
	}
	if v.Data == "" {
		item.Note = "its content is where its options say: " + options(v.Options)
		return item, nil
	}
	item, err := m.fill(ctx, item, v, made.Mountpoint)
	if err != nil {
		err = errors.Join(err, m.engine.Delete(context.WithoutCancel(ctx), "/volumes/"+url.PathEscape(v.Name), nil, nil))
	}
	return item, err
}

func options(o map[string]string) string {
	b, _ := json.Marshal(o) // a map of strings
	return string(b)
}

// again looks at a volume that is here: is it the same, one whose copy was interrupted, or another one?
func (m *volumes) again(ctx context.Context, v dockerroot.Volume, here volume.Volume) (Item, error) {
	item := Item{Kind: kindVolume, Name: v.Name, Result: Present}
	if here.Driver != v.Driver || !maps.Equal(here.Options, v.Options) {
		return conflict(kindVolume, v.Name, "here it has the driver %s and the options %s: remove it first, if it is not needed", here.Driver, options(here.Options)), nil
	}
	if v.Data == "" {
		return item, nil
	}
	difference, resume, err := m.compare(ctx, v.Data, here.Mountpoint)
	if err != nil || difference == "" && !resume {
		return item, err
	}
	if !resume && !m.o.Force {
		return conflict(kindVolume, v.Name, "here it has another content, as in %q: --force replaces it", difference), nil
	}
	if m.o.DryRun {
		item.Result = Planned
		return m.sized(ctx, item, v)
	}
	if err := m.idle(ctx, v.Name); err != nil {
		return item, err
	}
	item.Result = Taken
	return m.fill(ctx, item, v, here.Mountpoint)
}

// compare looks for a difference between the content and its copy; resume says that the copy was never finished.
func (m *volumes) compare(ctx context.Context, from, to string) (difference string, resume bool, err error) {
	a, err := os.Open(from)
	if err != nil {
		return "", false, err
	}
	defer a.Close()
	b, err := os.Open(to)
	if err != nil {
		return "", false, fmt.Errorf("the volume's folder here: %w", err)
	}
	defer b.Close()
	if _, err := os.Lstat(filepath.Join(to, unfinished)); err == nil {
		return "", true, nil
	}
	difference, err = treecopy.Difference(ctx, a, b, treecopy.Options{Skip: unfinished, Shift: m.shift()})
	if err != nil || difference == "" {
		return "", false, err
	}
	names, err := b.Readdirnames(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	return difference, len(names) == 0, nil // empty: interrupted between making it and marking it
}

// idle refuses a volume that runs with a container here.
func (m *volumes) idle(ctx context.Context, name string) error {
	filters, err := json.Marshal(map[string][]string{"volume": {name}, "status": {"running", "paused", "restarting"}})
	if err != nil {
		return err
	}
	var list []container.Summary
	if err := m.engine.Get(ctx, "/containers/json", url.Values{"all": {"1"}, "filters": {string(filters)}}, &list); err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("the container %s uses it here: stop that first", strings.TrimPrefix(strings.Join(list[0].Names, " "), "/"))
	}
	return nil
}

func (m *volumes) sized(ctx context.Context, item Item, v dockerroot.Volume) (Item, error) {
	if v.Data == "" {
		return item, nil
	}
	dir, err := os.Open(v.Data)
	if err != nil {
		return item, err
	}
	defer dir.Close()
	item.Size, err = treecopy.Size(ctx, dir)
	return item, err
}

// fill copies the content into a volume's folder, emptied before. The mark is there until the copy is on disk.
func (m *volumes) fill(ctx context.Context, item Item, v dockerroot.Volume, to string) (Item, error) {
	item, err := m.sized(ctx, item, v)
	if err != nil {
		return item, err
	}
	from, err := os.Open(v.Data)
	if err != nil {
		return item, err
	}
	defer from.Close()
	dir, err := os.Open(to)
	if err != nil {
		return item, fmt.Errorf("the volume's folder here: %w", err)
	}
	defer dir.Close()
	mark := filepath.Join(to, unfinished)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return item, err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return item, err
	}
	for _, n := range names {
		if n == unfinished {
			continue
		}
		if err := os.RemoveAll(filepath.Join(to, n)); err != nil {
			return item, err
		}
	}
	all := item.Size
	m.progress(v.Name, "Copying volume", 0, all)
	st, err := treecopy.Copy(ctx, from, dir, treecopy.Options{Shift: m.shift(), Progress: func(n int64) { m.progress(v.Name, "Copying volume", n, all) }})
	if err != nil {
		return item, err
	}
	item.Size = st.Bytes
	if len(st.Left) > 0 {
		item.Note = fmt.Sprintf("%d left out: %s", len(st.Left), strings.Join(st.Left[:min(3, len(st.Left))], ", "))
	}
	m.progress(v.Name, "Taken", 0, 0)
	return item, settle(from, dir, mark)
}

// shift is what owners are higher by in the root of an engine with a user namespace.
func (m *volumes) shift() treecopy.Shift {
	return treecopy.Shift{UID: m.root.FirstUID, GID: m.root.FirstGID}
}

// settle brings a finished copy to disk and takes the mark away.
func settle(from, dir *os.File, mark string) error {
	if err := treecopy.Sync(dir); err != nil {
		return err
	}
	if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	st, err := from.Stat()
	if err != nil {
		return err
	}
	if err := os.Chtimes(dir.Name(), time.Time{}, st.ModTime()); err != nil {
		return err
	}
	return dir.Sync()
}

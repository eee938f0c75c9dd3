package files

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// pack writes a file or tree as a tar archive, its root being called entry.
func pack(w io.Writer, src, entry string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSocket != 0 {
			return nil // tar has no word for it
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		return packOne(tw, p, path.Join(entry, filepath.ToSlash(rel)), st)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func packOne(tw *tar.Writer, p, name string, st fs.FileInfo) error {
	link := ""
	if st.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return err
	}
	h.Name, h.Format = name, tar.FormatPAX
	h.Uname, h.Gname = "", ""
	if st.IsDir() {
		h.Name += "/"
	}
	if runtime.GOOS == "windows" {
		h.Mode |= 0o111
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return nil
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(tw, f, h.Size); err != nil {
		return fmt.Errorf("%s: %w (did it shrink while being copied?)", p, err)
	}
	return nil
}

// unpack writes an archive of one file or tree to target. The archive comes out of a container, which may not be trusted: nothing
// is written outside target's directory, whatever the names and links in it say.
func unpack(r io.Reader, target string, whole, owners bool) error {
	parent := filepath.Dir(target)
	root, err := os.OpenRoot(parent)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, base: filepath.Base(target), whole: whole, owners: owners}
	if whole {
		if err := root.Mkdir(u.base, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		sub, err := root.OpenRoot(u.base)
		if err != nil {
			return err
		}
		defer sub.Close()
		u.root, u.base = sub, "."
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return u.times()
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

type unpacker struct {
	root          *os.Root
	base          string
	whole, owners bool
	dirs          []*tar.Header
}

// name is where an entry goes: its first component, the source's own name, becomes base.
func (u *unpacker) name(n string) string {
	clean := strings.TrimPrefix(path.Clean("/"+n), "/")
	if u.whole && (strings.HasPrefix(n, "./") || strings.HasPrefix(n, "/") || n == ".") {
		return clean
	}
	_, rest, _ := strings.Cut(clean, "/")
	return path.Join(u.base, rest)
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name := u.name(h.Name)
	if name == "" || name == "." {
		return nil
	}
	if u.whole {
		name = path.Clean(name)
	}
	mode := fs.FileMode(h.Mode).Perm() | h.FileInfo().Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	if st, err := u.root.Lstat(name); err == nil && (h.Typeflag != tar.TypeDir || !st.IsDir()) {
		if st.IsDir() {
			return fmt.Errorf("cannot overwrite directory %q with non-directory", name)
		}
		if h.Typeflag == tar.TypeDir {
			return fmt.Errorf("cannot overwrite non-directory %q with directory", name)
		}
		if err := u.root.Remove(name); err != nil {
			return err
		}
	}
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		if err = u.root.Mkdir(name, 0o755); errors.Is(err, fs.ErrExist) {
			err = nil
		}
		c := *h
		c.Name = name
		u.dirs = append(u.dirs, &c)
		return u.owner(name, h, err)
	case tar.TypeReg:
		err = u.file(name, mode, r)
	case tar.TypeSymlink:
		return u.owner(name, h, u.root.Symlink(h.Linkname, name))
	case tar.TypeLink:
		return u.root.Link(u.name(h.Linkname), name)
	default:
		return nil // devices and pipes stay in the container
	}
	if err = u.owner(name, h, err); err != nil {
		return err
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}

func (u *unpacker) file(name string, mode fs.FileMode, r io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return u.root.Chmod(name, mode)
}

func (u *unpacker) owner(name string, h *tar.Header, err error) error {
	if err != nil || !u.owners || runtime.GOOS == "windows" {
		return err
	}
	return u.root.Lchown(name, h.Uid, h.Gid)
}

// times sets modes and times of directories, which writing into them would have changed or been hindered by.
func (u *unpacker) times() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		if err := u.root.Chmod(d.Name, d.FileInfo().Mode().Perm()); err != nil {
			return err
		}
		if err := u.root.Chtimes(d.Name, d.ModTime, d.ModTime); err != nil {
			return err
		}
	}
	return nil
}

package bootstrap

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Package is an installed package.
type Package struct{ Name, Version, Arch string }

// Survey is what is read from a tree before the image is made of it.
type Survey struct {
	Packages []Package         // by name
	Epoch    time.Time         // of the newest file that a package brought
	Release  map[string]string // os-release
	paths    map[string]bool   // files there are
}

// maxMember bounds the files that are read into memory, in bytes.
const maxMember = 64 << 20

// clean is a member's name without what tar puts around it; empty is the root.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// Examine reads a tree's tar archive. started is when its installation began: what is newer was not in any package.
func Examine(r io.Reader, started time.Time) (*Survey, error) {
	s := &Survey{Release: map[string]string{}, paths: map[string]bool{}}
	times, owned := map[string]time.Time{}, map[string]bool{}
	tr := tar.NewReader(bufio.NewReaderSize(r, 1<<20))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading what %s made: %w", Tool, err)
		}
		name := clean(h.Name)
		s.paths[name] = true
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if h.ModTime.Before(started) {
			times[name] = h.ModTime
		}
		if err := s.member(tr, name, owned); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
	}
	for name := range owned {
		if t := times[name]; t.After(s.Epoch) {
			s.Epoch = t
		}
	}
	if len(s.Packages) == 0 || s.Epoch.IsZero() {
		return nil, errors.New("what was made holds no package: dpkg's records are missing or empty")
	}
	slices.SortFunc(s.Packages, func(a, b Package) int { return strings.Compare(a.Name+"\x00"+a.Arch, b.Name+"\x00"+b.Arch) })
	return s, nil
}

// member reads the files that say something about the tree: dpkg's records and os-release.
func (s *Survey) member(r io.Reader, name string, owned map[string]bool) error {
	r = io.LimitReader(r, maxMember)
	switch {
	case name == "var/lib/dpkg/status", path.Dir(name) == "var/lib/dpkg/status.d":
		return s.status(r)
	case path.Dir(name) == "var/lib/dpkg/info" && strings.HasSuffix(name, ".list"):
		return lines(r, func(l string) { own(owned, clean(l)) })
	case name == "usr/lib/os-release", name == "etc/os-release":
		return lines(r, func(l string) {
			if k, v, ok := strings.Cut(l, "="); ok {
				s.Release[k] = strings.Trim(v, `"'`)
			}
		})
	}
	return nil
}

// own notes a file that a package brought; before /usr was merged, some called theirs by a path that is a link now.
func own(owned map[string]bool, name string) {
	owned[name] = true
	if top, _, _ := strings.Cut(name, "/"); top == "bin" || top == "sbin" || strings.HasPrefix(top, "lib") {
		owned["usr/"+name] = true
	}
}

func (s *Survey) status(r io.Reader) error {
	var p Package
	installed := false
	end := func() {
		if p.Name != "" && installed {
			s.Packages = append(s.Packages, p)
		}
		p, installed = Package{}, false
	}
	err := lines(r, func(l string) {
		k, v, _ := strings.Cut(l, ": ")
		switch {
		case l == "":
			end()
		case k == "Package":
			p.Name = v
		case k == "Version":
			p.Version = v
		case k == "Architecture":
			p.Arch = v
		case k == "Status":
			installed = strings.HasSuffix(v, " installed")
		}
	})
	end()
	return err
}

func lines(r io.Reader, f func(string)) error {
	b := bufio.NewScanner(r)
	b.Buffer(nil, 1<<20)
	for b.Scan() {
		f(b.Text())
	}
	return b.Err()
}

// List is the packages with their versions, as an argument for apt-get install: name=version.
func (s *Survey) List() string {
	words := make([]string, len(s.Packages))
	for i, p := range s.Packages {
		words[i] = p.Name + ":" + p.Arch + "=" + p.Version
	}
	return strings.Join(words, " ")
}

// Digest is of List.
func (s *Survey) Digest() digest.Digest { return digest.FromString(s.List()) }

// has says whether the tree has a path.
func (s *Survey) has(name string) bool { return s.paths[name] }

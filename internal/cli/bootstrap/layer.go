package bootstrap

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Added is a file that the image has and no package brought.
type Added struct {
	Name string
	Data []byte
}

// folders are emptied: the engine fills them, or what they hold differs from run to run.
var folders = []string{"dev", "proc", "sys", "run", "tmp", "var/tmp", "var/log", "var/cache/apt", "var/lib/apt/lists"}

// keepFolders are those of them whose folders stay, with their modes.
var keepFolders = []string{"var/log", "var/cache/apt", "var/lib/apt/lists"}

// dropped are files that belong to one machine, or to the moment of installation.
var dropped = []string{
	"etc/hostname", "etc/resolv.conf", "etc/hosts", "etc/apt/sources.list", "etc/apt/sources.list.d/*",
	"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "etc/ssh/ssh_host_*",
	"var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/systemd/credential.secret",
	"var/lib/dpkg/*-old", "var/cache/debconf/*-old", "var/cache/ldconfig/aux-cache",
}

// emptied are files whose presence means something, and whose content belongs to one machine.
var emptied = []string{"etc/machine-id"}

// drops says whether a member is left out.
func drops(name string, dir bool) bool {
	for _, f := range folders {
		if !strings.HasPrefix(name, f+"/") {
			continue
		}
		kept := false
		for _, k := range keepFolders {
			kept = kept || k == f && dir
		}
		return !kept
	}
	return !dir && matches(dropped, name)
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// Layer writes a tree's tar archive again: without what belongs to one machine or one moment, nothing newer than epoch, and with
// some files added. Members keep their order, which is mmdebstrap's: by name.
func Layer(w io.Writer, r io.Reader, epoch time.Time, added []Added) error {
	tr, tw := tar.NewReader(r), tar.NewWriter(w)
	gone := map[string]bool{}
	replaced := map[string]bool{}
	for _, a := range added {
		replaced[a.Name] = true
	}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("reading what %s made: %w", Tool, err)
		}
		name := clean(h.Name)
		if name == "" {
			continue
		}
		if drops(name, h.Typeflag == tar.TypeDir) || replaced[name] {
			gone[name] = true
			continue
		}
		if h.Typeflag == tar.TypeLink && gone[clean(h.Linkname)] {
			return fmt.Errorf("%s is a hard link to %s, which is left out of images", name, clean(h.Linkname))
		}
		if err := member(tw, tr, h, name, epoch); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, a := range added {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: a.Name, Mode: 0o644, Size: int64(len(a.Data)), ModTime: epoch}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(a.Data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// member writes one member.
func member(tw *tar.Writer, r io.Reader, h *tar.Header, name string, epoch time.Time) error {
	out := &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime.Truncate(time.Second),
		Devmajor: h.Devmajor, Devminor: h.Devminor}
	if out.ModTime.After(epoch) {
		out.ModTime = epoch
	}
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			if out.PAXRecords == nil {
				out.PAXRecords = map[string]string{}
			}
			out.PAXRecords[k] = v
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeLink:
		out.Linkname = clean(h.Linkname)
	case tar.TypeReg:
		switch {
		case matches(emptied, name):
			out.Size, r = 0, bytes.NewReader(nil)
		case name == "etc/shadow":
			b, err := io.ReadAll(io.LimitReader(r, maxMember))
			if err != nil {
				return err
			}
			b = agedPasswords(b, epoch)
			out.Size, r = int64(len(b)), bytes.NewReader(b)
		}
	}
	if err := tw.WriteHeader(out); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	n, err := io.Copy(tw, r)
	if err == nil && n != out.Size {
		err = errors.New("is shorter than its header says")
	}
	return err
}

// agedPasswords makes the day of the last change no later than epoch's: accounts are made at the day of the installation.
func agedPasswords(shadow []byte, epoch time.Time) []byte {
	last := epoch.Unix() / (24 * 60 * 60)
	lines := strings.Split(string(shadow), "\n")
	for i, l := range lines {
		f := strings.Split(l, ":")
		if len(f) < 3 {
			continue
		}
		if day, err := strconv.ParseInt(f[2], 10, 64); err == nil && day > last {
			f[2] = strconv.FormatInt(last, 10)
			lines[i] = strings.Join(f, ":")
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// Extras are the files that tell the image's apt where it came from, and whose signature to ask for.
func (r *Request) Extras(sources []Source, s *Survey) ([]Added, error) {
	if !s.has("etc/apt") {
		return nil, nil
	}
	d := distributions[r.Distribution]
	key, added := clean(r.Keyring), []Added(nil)
	if r.Keyring != d.keyring || !s.has(key) {
		b, err := os.ReadFile(r.Keyring)
		if err != nil {
			return nil, err
		}
		key = "etc/apt/" + r.Distribution + "-bootstrap.gpg"
		if bytes.HasPrefix(b, []byte(armored)) {
			key = strings.TrimSuffix(key, ".gpg") + ".asc"
		}
		added = append(added, Added{key, b})
	}
	var text strings.Builder
	for i, src := range sources {
		if r.ImageMirror != "" {
			src.URI = r.ImageMirror
			if strings.HasSuffix(src.Suite, "-"+securityPocket) {
				if uri, ok := d.security(r.ImageMirror); ok {
					src.URI = uri
				}
			}
		}
		if i > 0 {
			text.WriteByte('\n')
		}
		fmt.Fprintf(&text, "Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: /%s\n", src.URI, src.Suite, strings.Join(src.Components, " "), key)
		if r.Snapshot != "" {
			text.WriteString("Check-Valid-Until: no\n")
		}
	}
	return append(added, Added{"etc/apt/sources.list.d/" + r.Distribution + ".sources", []byte(text.String())}), nil
}

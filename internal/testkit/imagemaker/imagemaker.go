// Package imagemaker makes small images from what a program says, without any
// registry or builder: layers from lists of files, a configuration, and archives in the
// formats that docker load knows. Equal input gives equal bytes.
//
//	base := imagemaker.Busybox()
//	img := base.Named("app:1").Add(imagemaker.Layer{imagemaker.File("/etc/motd", "hi\n"), imagemaker.Whiteout("/bin/vi")})
//	err := imagemaker.Write(w, imagemaker.Archive{Images: []imagemaker.Image{img}, OCI: true, Docker: true, Compress: "gzip"})
package imagemaker

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Epoch is the time of everything that has no other.
var Epoch = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

// Entry is one member of a layer's tar.
type Entry struct {
	Header tar.Header
	Data   []byte
}

// Layer is a layer's tar, in order.
type Layer []Entry

// Image is an image to be made.
type Image struct {
	Names    []string // "busybox:latest"
	Platform ocispec.Platform
	Config   dockerspec.DockerOCIImageConfig
	Layers   []Layer
	History  []string // "created by", one per layer; missing ones are filled in
	Created  time.Time
	Author   string
}

func entry(flag byte, name string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: flag, Name: path.Clean("/" + name)[1:], Mode: mode, ModTime: Epoch}}
}

// File is a regular file, mode 0644, owned by root.
func File(name, data string) Entry {
	e := entry(tar.TypeReg, name, 0o644)
	e.Data, e.Header.Size = []byte(data), int64(len(data))
	return e
}

// Dir is a directory, mode 0755.
func Dir(name string) Entry {
	e := entry(tar.TypeDir, name, 0o755)
	e.Header.Name += "/"
	return e
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	e := entry(tar.TypeSymlink, name, 0o777)
	e.Header.Linkname = target
	return e
}

// Link is a hard link to a path of the image.
func Link(name, target string) Entry {
	e := entry(tar.TypeLink, name, 0o644)
	e.Header.Linkname = path.Clean("/" + target)[1:]
	return e
}

// Device is a character (flag 'c') or block (flag 'b') device.
func Device(name string, flag byte, major, minor int64) Entry {
	kind := byte(tar.TypeChar)
	if flag == 'b' {
		kind = tar.TypeBlock
	}
	e := entry(kind, name, 0o600)
	e.Header.Devmajor, e.Header.Devminor = major, minor
	return e
}

// Whiteout deletes a path of the layers below.
func Whiteout(name string) Entry {
	d, b := path.Split(path.Clean("/" + name))
	return entry(tar.TypeReg, d+".wh."+b, 0o600)
}

// Opaque hides everything that the layers below have in a directory.
func Opaque(dir string) Entry { return entry(tar.TypeReg, path.Join(dir, ".wh..wh..opq"), 0o600) }

// Mode changes an entry's mode.
func (e Entry) Mode(mode int64) Entry { e.Header.Mode = mode; return e }

// Owner changes an entry's owner.
func (e Entry) Owner(uid, gid int) Entry { e.Header.Uid, e.Header.Gid = uid, gid; return e }

// Time changes an entry's time.
func (e Entry) Time(t time.Time) Entry { e.Header.ModTime = t; return e }

// Xattr adds an extended attribute.
func (e Entry) Xattr(name, value string) Entry {
	m := map[string]string{"SCHILY.xattr." + name: value}
	for k, v := range e.Header.PAXRecords {
		m[k] = v
	}
	e.Header.PAXRecords = m
	return e
}

// Tar writes the layer.
func (l Layer) Tar(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, e := range l {
		h := e.Header
		if err := tw.WriteHeader(&h); err != nil {
			return fmt.Errorf("layer entry %q: %w", h.Name, err)
		}
		if _, err := tw.Write(e.Data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// Bytes is the layer's tar.
func (l Layer) Bytes() ([]byte, error) {
	var b bytes.Buffer
	err := l.Tar(&b)
	return b.Bytes(), err
}

// Named gives a copy of the image other names.
func (i Image) Named(names ...string) Image { i.Names = names; return i }

// Add gives a copy of the image further layers.
func (i Image) Add(layers ...Layer) Image {
	i.Layers = append(slices.Clone(i.Layers), layers...)
	return i
}

// With gives a copy of the image whose configuration f has changed.
func (i Image) With(f func(*dockerspec.DockerOCIImageConfig)) Image {
	i.Config.Env, i.Config.Cmd, i.Config.Entrypoint = slices.Clone(i.Config.Env), slices.Clone(i.Config.Cmd), slices.Clone(i.Config.Entrypoint)
	f(&i.Config)
	return i
}

// BusyboxPath is where Debian's package busybox-static puts its program.
const BusyboxPath = "/bin/busybox"

// Busybox is an image of one layer made from the host's static busybox: the program, a link per
// applet, /etc/passwd and /etc/group, /tmp, /root. Its command is "sh".
func Busybox() (Image, error) {
	program, err := os.ReadFile(BusyboxPath)
	if err != nil {
		return Image{}, fmt.Errorf("the package busybox-static is needed: %w", err)
	}
	l := Layer{
		Dir("bin"), Dir("dev"), Dir("etc"), Dir("home"), Dir("proc"), Dir("root").Mode(0o700), Dir("sys"), Dir("tmp").Mode(0o1777),
		Dir("usr"), Dir("usr/bin"), Dir("usr/sbin"), Dir("var"), Dir("var/www"), Dir("sbin"),
		File("bin/busybox", string(program)).Mode(0o755),
		File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
		File("etc/group", "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n"),
	}
	for _, a := range applets(program) {
		if a == "busybox" { // the program itself is an applet, too
			continue
		}
		l = append(l, Symlink("bin/"+a, "busybox"))
	}
	return Image{
		Names: []string{"busybox:latest"}, Layers: []Layer{l}, History: []string{"ADD busybox in /"}, Created: Epoch,
		Config: dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
			Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		}},
	}, nil
}

// applets reads the applets' names out of the program: a run of null-terminated, sorted words.
func applets(program []byte) []string {
	start := bytes.Index(program, []byte("\x00[\x00[[\x00"))
	if start < 0 {
		return []string{"sh", "true", "false", "cat", "ls", "echo", "sleep"}
	}
	var names []string
	for _, w := range bytes.Split(program[start+1:], []byte{0}) {
		if len(w) == 0 || len(w) > 32 || bytes.ContainsFunc(w, notName) {
			break
		}
		names = append(names, string(w))
	}
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

func notName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '[' || r == '-' || r == '_' || r == '.')
}

package imagemaker

import (
	"errors"
	"os"
)

// WriteBusybox writes the busybox image under name to a file, as an archive that
// every engine loads: docker archive and OCI layout in one.
func WriteBusybox(file, name string) (err error) {
	img, err := Busybox()
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = Write(f, Archive{Images: []Image{img.Named(name)}, Docker: true, OCI: true})
	return err
}

package imagemaker

import (
	"bytes"
	"slices"
	"testing"
)

func TestBusyboxHasItsApplets(t *testing.T) {
	img, err := Busybox()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range img.Layers[0] {
		names = append(names, e.Header.Name)
	}
	for _, want := range []string{"bin/busybox", "bin/sh", "bin/true", "bin/httpd", "bin/wget", "bin/sleep", "bin/[", "etc/passwd"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if len(names) < 150 {
		t.Errorf("only %d entries", len(names))
	}
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	img := Image{Names: []string{"a:1"}, Layers: []Layer{{Dir("d"), File("d/f", "x"), Whiteout("/d/g")}}}
	for _, how := range []string{"", "gzip", "zstd"} {
		var a, b bytes.Buffer
		m, err := Write(&a, Archive{Images: []Image{img}, Layers: how, Compress: how})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Write(&b, Archive{Images: []Image{img}, Layers: how, Compress: how}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) || len(m) != 1 || len(m[0].DiffIDs) != 1 {
			t.Errorf("%q: archives differ or are wrong: %v", how, m)
		}
	}
}

package lazy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// Limits of what a layer may ask of the process. What goes beyond is pulled the ordinary way.
const (
	maxTable   = 64 << 20 // bytes of the TOC, as JSON
	maxEntries = 500_000
	maxChunk   = 32 << 20 // bytes, unpacked
	maxName    = 4096     // of a path (PATH_MAX)
	maxBase    = 255      // of its last part (NAME_MAX)
)

// ErrUnfit is a layer that cannot be served before it is here, for what it is: it is to be pulled the ordinary way.
var ErrUnfit = fmt.Errorf("the layer cannot be served lazily: %w", errdefs.ErrNotImplemented)

func unfit(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnfit}, args...)...)
}

// tocOffset reads where the TOC begins off a blob's last bytes.
func tocOffset(footer []byte, size int64) (int64, error) {
	_, at, _, err := (&estargz.GzipDecompressor{}).ParseFooter(footer)
	if err != nil {
		return 0, unfit("it does not end as an eStargz layer does: %v", err)
	}
	if at <= 0 || at >= size-estargz.FooterSize {
		return 0, unfit("its table of contents would begin at byte %d of %d", at, size)
	}
	return at, nil
}

// readTable unpacks a TOC (a gzip member with a tar of one file) and compares it with the digest that the manifest has.
func readTable(r io.Reader, want digest.Digest) (*estargz.JTOC, int64, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, 0, unfit("its table of contents: %v", err)
	}
	defer z.Close()
	z.Multistream(false)
	tr := tar.NewReader(z)
	h, err := tr.Next()
	if err != nil {
		return nil, 0, unfit("its table of contents: %v", err)
	}
	if h.Name != estargz.TOCTarName {
		return nil, 0, unfit("where its table of contents should be is %q", h.Name)
	}
	if h.Size > maxTable {
		return nil, 0, unfit("its table of contents has %d bytes, more than %d", h.Size, maxTable)
	}
	b := make([]byte, h.Size)
	if _, err := io.ReadFull(tr, b); err != nil {
		return nil, 0, unfit("its table of contents: %v", err)
	}
	if got := digest.FromBytes(b); got != want {
		return nil, 0, fmt.Errorf("the layer's table of contents has the digest %s, the manifest says %s: %w", got, want, errdefs.ErrFailedPrecondition)
	}
	toc := &estargz.JTOC{}
	if err := decodeTable(b, toc); err != nil {
		return nil, 0, err
	}
	return toc, h.Size, nil
}

// decodeTable decodes entry by entry, so that their number is bounded before memory is.
func decodeTable(b []byte, toc *estargz.JTOC) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return unfit("its table of contents is no JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return unfit("its table of contents: %v", err)
		}
		switch key {
		case "version":
			err = d.Decode(&toc.Version)
		case "entries":
			err = decodeEntries(d, toc)
		default:
			var skipped json.RawMessage
			err = d.Decode(&skipped)
		}
		if err != nil && !errors.Is(err, ErrUnfit) {
			err = unfit("its table of contents: %v", err)
		}
		if err != nil {
			return err
		}
	}
	if toc.Version != 1 {
		return unfit("its table of contents has version %d, 1 is known", toc.Version)
	}
	return nil
}

func decodeEntries(d *json.Decoder, toc *estargz.JTOC) error {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return unfit("the entries of its table of contents are no list")
	}
	for d.More() {
		if len(toc.Entries) >= maxEntries {
			return unfit("it has more than %d entries", maxEntries)
		}
		e := &estargz.TOCEntry{}
		if err := d.Decode(e); err != nil {
			return err
		}
		toc.Entries = append(toc.Entries, e)
	}
	_, err := d.Token()
	return err
}

package protocol

import (
	"bytes"
	"net/http"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/hooks"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
)

// getBlob answers GET and HEAD of a blob, whole or in part. net/http does ranges and conditions; a file goes from the page
// cache to the socket by sendfile.
func (x *exchange) getBlob() error {
	d, err := naming.Digest(x.reference)
	if err != nil {
		return err
	}
	h := x.w.Header()
	if x.r.Method == http.MethodHead && x.r.Header.Get("Range") == "" {
		b, err := x.Source.Stat(x.r.Context(), x.repo, d)
		if err != nil {
			return err
		}
		describe(h, d.String(), "application/octet-stream")
		http.ServeContent(x.w, x.r, "", time.Time{}, sized(b.Size))
		return nil
	}
	content, _, err := x.Source.Open(x.r.Context(), x.repo, d)
	if err != nil {
		return err
	}
	defer content.Close()
	describe(h, d.String(), "application/octet-stream")
	http.ServeContent(x.w, x.r, "", time.Time{}, content)
	return nil
}

// describe sets what is said of content: it never changes under its digest.
func describe(h http.Header, digest, mediaType string) {
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", digest)
	h.Set("Etag", `"`+digest+`"`)
	h.Set("Cache-Control", "max-age=31536000")
}

// sized seeks in content that is not read: an answer to HEAD has none.
type sized int64

func (s sized) Read([]byte) (int, error) { return 0, http.ErrBodyNotAllowed }

func (s sized) Seek(offset int64, whence int) (int64, error) {
	if whence == 2 {
		return int64(s) + offset, nil
	}
	return offset, nil
}

// getManifest answers GET and HEAD of a manifest.
func (x *exchange) getManifest() error {
	if err := x.checkReference(); err != nil {
		return err
	}
	m, err := x.Source.Manifest(x.r.Context(), x.repo, x.reference)
	if err != nil {
		return err
	}
	h := x.w.Header()
	describe(h, m.Digest.String(), m.MediaType)
	if !naming.IsDigest(x.reference) {
		h.Set("Cache-Control", "no-cache") // a tag moves
	}
	http.ServeContent(x.w, x.r, "", time.Time{}, bytes.NewReader(m.Body))
	if x.r.Method == http.MethodGet {
		t := hooks.Target{MediaType: m.MediaType, Digest: m.Digest.String(), Size: int64(len(m.Body))}
		if !naming.IsDigest(x.reference) {
			t.Tag = x.reference
		}
		x.notify(hooks.Pull, t)
	}
	return nil
}

// checkReference refuses what is neither tag nor digest.
func (x *exchange) checkReference() error {
	if naming.IsDigest(x.reference) {
		_, err := naming.Digest(x.reference)
		return err
	}
	return naming.Tag(x.reference)
}

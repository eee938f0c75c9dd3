package containers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

type files struct{ svc Files }

func pathOf(r *http.Request) (string, error) {
	if p := r.FormValue("path"); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("bad parameter: 'path' cannot be empty: %w", errdefs.ErrInvalidArgument)
}

func setStat(w http.ResponseWriter, st containers.PathStat) error {
	b, err := json.Marshal(container.PathStat{Name: st.Name, Size: st.Size, Mode: os.FileMode(st.Mode), Mtime: st.ModTime, LinkTarget: st.LinkTarget})
	if err != nil {
		return err
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
	return nil
}

func (f files) head(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	p, err := pathOf(r)
	if err != nil {
		return err
	}
	st, err := f.svc.StatPath(ctx, vars["id"], p)
	if err != nil {
		return err
	}
	if err := setStat(w, st); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// send copies a stream to the client. Once bytes are out a failure cuts the
// connection, so that the client does not take half an archive for a whole one.
func send(w http.ResponseWriter, media string, rc io.ReadCloser) error {
	defer rc.Close()
	buf := make([]byte, 64<<10)
	n, err := io.ReadAtLeast(rc, buf, 1)
	if err != nil && err != io.EOF {
		return err
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(buf[:n]); err != nil {
		return nil
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{rc}, buf); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (f files) get(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	p, err := pathOf(r)
	if err != nil {
		return err
	}
	rc, st, err := f.svc.Archive(ctx, vars["id"], p)
	if err != nil {
		return err
	}
	if err := setStat(w, st); err != nil {
		_ = rc.Close()
		return err
	}
	return send(w, "application/x-tar", rc)
}

func (f files) put(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	q := r.URL.Query() // not FormValue: the body is the archive
	p := q.Get("path")
	if p == "" {
		return fmt.Errorf("bad parameter: 'path' cannot be empty: %w", errdefs.ErrInvalidArgument)
	}
	opts := containers.TarInOptions{NoOverwriteDirNonDir: truth(q.Get("noOverwriteDirNonDir")), CopyUIDGID: truth(q.Get("copyUIDGID"))}
	if err := f.svc.Extract(ctx, vars["id"], p, r.Body, opts); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func truth(s string) bool { return s == "1" || s == "true" || s == "True" || s == "TRUE" }

func (f files) export(ctx context.Context, w http.ResponseWriter, _ *http.Request, vars httpapi.Vars) error {
	rc, err := f.svc.Export(ctx, vars["id"])
	if err != nil {
		return err
	}
	return send(w, "application/octet-stream", rc)
}

func (f files) changes(ctx context.Context, w http.ResponseWriter, _ *http.Request, vars httpapi.Vars) error {
	list, err := f.svc.Changes(ctx, vars["id"])
	if err != nil {
		return err
	}
	if len(list) == 0 && older(ctx, "1.42") {
		list = nil
	}
	return httpapi.WriteJSON(w, http.StatusOK, list)
}

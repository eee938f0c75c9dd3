// Package protocol is the registry's side of the OCI distribution specification v1.1: requests decoded, the store called,
// answers encoded. All four of its categories are here: pull (pull.go), push (upload.go, put.go), discovery (lists.go)
// and management (delete.go).
package protocol

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/hooks"
	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Handler answers everything below /v2/.
type Handler struct {
	Source   Source
	Uploads  Uploads
	Changes  Changes
	Lists    Lists
	Guard    Guard
	Observer Observer // may be nil
	// ReadOnly says why nothing may be pushed to or deleted from a repository; empty where it may. May be nil.
	ReadOnly func(repository string) string
	// Rename gives the repository that a reader means who takes this registry for a mirror of ns; empty if it is none. May be nil.
	Rename func(repository, ns string) string
	// Idle is how long an upload may stand still before its connection is cut.
	Idle time.Duration
	Log  *slog.Logger
}

// exchange is one request with what is known of it.
type exchange struct {
	*Handler
	call
	w  http.ResponseWriter
	r  *http.Request
	id access.Identity
}

// method is what a method of a route needs and does.
type method struct {
	needs []access.Action
	do    func(*exchange) error
}

// table is every operation of the protocol.
var table = map[Route]map[string]method{
	Base:      {"GET": {nil, (*exchange).base}, "HEAD": {nil, (*exchange).base}},
	Catalog:   {"GET": {nil, (*exchange).catalog}},
	Blob:      {"GET": {pulls, (*exchange).getBlob}, "HEAD": {pulls, (*exchange).getBlob}, "DELETE": {deletes, (*exchange).deleteBlob}},
	Begin:     {"POST": {pushes, (*exchange).beginUpload}},
	Upload:    {"GET": {pushes, (*exchange).uploadStatus}, "HEAD": {pushes, (*exchange).uploadStatus}, "PATCH": {pushes, (*exchange).patchUpload}, "PUT": {pushes, (*exchange).putUpload}, "DELETE": {pushes, (*exchange).cancelUpload}},
	Manifest:  {"GET": {pulls, (*exchange).getManifest}, "HEAD": {pulls, (*exchange).getManifest}, "PUT": {pushes, (*exchange).putManifest}, "DELETE": {deletes, (*exchange).deleteManifest}},
	Tags:      {"GET": {pulls, (*exchange).tags}},
	Referrers: {"GET": {pulls, (*exchange).referrers}},
}

var (
	pulls   = []access.Action{access.Pull}
	pushes  = []access.Action{access.Pull, access.Push}
	deletes = []access.Action{access.Delete}
)

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Handler: h, call: parse(r.URL.Path), w: w, r: r}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if err := x.serve(); err != nil {
		x.refuse(err)
	}
}

func (x *exchange) serve() error {
	methods := table[x.route]
	if methods == nil {
		return refusal.NameUnknown.New("%s is no path of the registry's", clip(x.r.URL.Path))
	}
	m, ok := methods[x.r.Method]
	if !ok {
		x.w.Header().Set("Allow", allowed(methods))
		return refusal.Unsupported.New("%s is not a method for this: %s are", clip(x.r.Method), allowed(methods))
	}
	if x.repo != "" {
		if err := naming.Repository(x.repo); err != nil {
			return err
		}
		if x.Rename != nil && (x.r.Method == http.MethodGet || x.r.Method == http.MethodHead) && x.route != Upload {
			x.repo = x.Rename(x.repo, x.r.URL.Query().Get("ns"))
			if x.repo == "" {
				return refusal.NameUnknown.New("this registry is no mirror of %q", clip(x.r.URL.Query().Get("ns")))
			}
		}
	} else if x.route != Base && x.route != Catalog {
		return refusal.NameInvalid.New("the path names no repository")
	}
	var err error
	if x.id, err = x.Guard.Identify(x.r); err != nil {
		return err
	}
	if n, ok := x.w.(interface{ SetUser(name string) }); ok {
		n.SetUser(x.id.Name)
	}
	if len(m.needs) == 0 {
		if err := x.Guard.AdmitUser(x.r, x.id); err != nil {
			return err
		}
	} else if err := x.Guard.Admit(x.r, x.id, x.repo, m.needs...); err != nil {
		return err
	}
	if changes := len(m.needs) > 0 && m.needs[len(m.needs)-1] != access.Pull; changes && x.ReadOnly != nil {
		if why := x.ReadOnly(x.repo); why != "" {
			return refusal.Unsupported.New("nothing can be changed in %s: %s", x.repo, why)
		}
	}
	return m.do(x)
}

func allowed(methods map[string]method) string {
	var names []string
	for _, n := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		if _, ok := methods[n]; ok {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

// clip bounds what a stranger's words take in an answer.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// base says that the protocol is spoken here.
func (x *exchange) base() error {
	x.json([]byte("{}"))
	return nil
}

func (x *exchange) json(b []byte) {
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(b)
}

// refuse answers with an error.
func (x *exchange) refuse(err error) {
	if errors.Is(err, context.Canceled) && x.r.Context().Err() != nil {
		return // nobody is there to be told
	}
	e := refusal.Of(err)
	if e.Code.Status >= http.StatusInternalServerError {
		x.Log.Error("a request failed", "method", x.r.Method, "path", clip(x.r.URL.Path), "error", err)
	}
	h := x.w.Header()
	for _, k := range []string{"Etag", "Cache-Control", "Docker-Content-Digest", "Content-Length"} {
		h.Del(k)
	}
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	h.Set("Content-Type", "application/json")
	x.w.WriteHeader(e.Code.Status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(e.Body())
	}
}

// notify tells what was done.
func (x *exchange) notify(a hooks.Action, t hooks.Target) {
	if x.Observer == nil {
		return
	}
	id := make([]byte, 12)
	_, _ = rand.Read(id)
	t.Repository, t.Length = x.repo, t.Size
	x.Observer.Notify(hooks.Event{
		ID: hex.EncodeToString(id), Timestamp: time.Now().UTC(), Action: a, Target: t, Actor: hooks.Actor{Name: x.id.Name},
		Request: hooks.Request{Addr: x.r.RemoteAddr, Host: x.r.Host, Method: x.r.Method, UserAgent: clip(x.r.UserAgent())},
	})
}

package registry

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Registry is a registry that runs until its test ends.
type Registry struct {
	URL  string // "http://127.0.0.1:1234"
	Host string // "127.0.0.1:1234", the domain in the names of its images

	server  *httptest.Server
	closing chan struct{}
	open    atomic.Int64 // connections

	mu      sync.Mutex
	repos   map[string]*repository
	uploads map[string]*session
	made    int // upload sessions and tokens so far
	faults  []*Fault
	log     []*Request
	auth    Auth
	tokens  map[string][]string // scopes by token
}

type repository struct {
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
}

type manifest struct {
	mediaType string
	body      []byte
}

// session is an upload under way.
type session struct {
	repo string
	data []byte
	turn int // part of the location, so that an old one is noticed
}

// New starts a registry that speaks plain HTTP.
func New(t testing.TB) *Registry {
	t.Helper()
	return start(t, (*httptest.Server).Start)
}

// NewTLS starts a registry with a certificate for 127.0.0.1 and example.com.
func NewTLS(t testing.TB) *Registry {
	t.Helper()
	return start(t, (*httptest.Server).StartTLS)
}

func start(t testing.TB, run func(*httptest.Server)) *Registry {
	r := &Registry{closing: make(chan struct{}), repos: map[string]*repository{}, uploads: map[string]*session{}, tokens: map[string][]string{}}
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust the certificate are a part of tests
	r.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			r.open.Add(1)
		case http.StateClosed:
			r.open.Add(-1)
		}
	}
	run(r.server)
	r.URL = r.server.URL
	_, r.Host, _ = strings.Cut(r.URL, "://")
	t.Cleanup(func() {
		close(r.closing)
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// Connections are how many clients have open, idle ones included.
func (r *Registry) Connections() int { return int(r.open.Load()) }

// CA is the certificate that signs the server's, as PEM.
func (r *Registry) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
}

// repo gives a repository, and makes it. The lock is held.
func (r *Registry) repo(name string) *repository {
	if r.repos[name] == nil {
		r.repos[name] = &repository{blobs: map[digest.Digest][]byte{}, manifests: map[digest.Digest]manifest{}, tags: map[string]digest.Digest{}}
	}
	return r.repos[name]
}

// The protocol's paths. A repository's name can have slashes.
var (
	manifestPath  = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	blobPath      = regexp.MustCompile(`^/v2/(.+)/blobs/([a-z0-9]+:[0-9a-f]+)$`)
	uploadPath    = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([^/]*)$`)
	tagsPath      = regexp.MustCompile(`^/v2/(.+)/tags/list$`)
	referrersPath = regexp.MustCompile(`^/v2/(.+)/referrers/([^/]+)$`)
	name          = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tag           = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// ServeHTTP answers a request, as the faults want it.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a := &answer{ResponseWriter: w, r: r, req: req, fault: r.faultFor(req), entry: r.note(req)}
	if a.misbehaves() {
		return
	}
	path := req.URL.Path
	if path == "/token" {
		r.serveToken(a)
		return
	}
	if !r.allowed(a) {
		return
	}
	switch {
	case path == "/v2/":
		a.send(http.StatusOK, []byte("{}"))
	case manifestPath.MatchString(path):
		m := manifestPath.FindStringSubmatch(path)
		r.serveManifest(a, m[1], m[2])
	case blobPath.MatchString(path):
		m := blobPath.FindStringSubmatch(path)
		r.serveBlob(a, m[1], digest.Digest(m[2]))
	case uploadPath.MatchString(path):
		m := uploadPath.FindStringSubmatch(path)
		if m[2] == "" {
			r.beginUpload(a, m[1])
		} else {
			r.serveUpload(a, m[1], m[2])
		}
	case tagsPath.MatchString(path):
		r.serveTags(a, tagsPath.FindStringSubmatch(path)[1])
	case referrersPath.MatchString(path):
		m := referrersPath.FindStringSubmatch(path)
		r.serveReferrers(a, m[1], digest.Digest(m[2]))
	default:
		a.refuse(http.StatusNotFound, "UNSUPPORTED", "there is no such path")
	}
}

func (r *Registry) serveBlob(a *answer, name string, d digest.Digest) {
	b, ok := r.Blob(name, d)
	switch {
	case !ok:
		a.refuse(http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
	case a.req.Method == http.MethodDelete:
		r.mu.Lock()
		delete(r.repos[name].blobs, d)
		r.mu.Unlock()
		a.send(http.StatusAccepted, nil)
	case a.reads():
		a.content("application/octet-stream", d, b)
	}
}

// beginUpload mounts a blob, or opens a session.
func (r *Registry) beginUpload(a *answer, repo string) {
	if !name.MatchString(repo) {
		a.refuse(http.StatusBadRequest, "NAME_INVALID", "invalid repository name")
		return
	}
	q := a.req.URL.Query()
	d, from := digest.Digest(q.Get("mount")), q.Get("from")
	if b, ok := r.Blob(from, d); ok && r.may(a.req, "repository:"+from+":pull") {
		r.AddBlob(repo, b)
		a.Header().Set("Location", "/v2/"+repo+"/blobs/"+d.String())
		a.Header().Set("Docker-Content-Digest", d.String())
		a.send(http.StatusCreated, nil)
		return
	}
	r.mu.Lock()
	r.made++
	id := fmt.Sprintf("upload-%d", r.made)
	s := &session{repo: repo}
	r.uploads[id] = s
	r.where(a, id, s)
	r.mu.Unlock()
	a.send(http.StatusAccepted, nil)
}

// where says where a session goes on and how far it is. The lock is held.
func (r *Registry) where(a *answer, id string, s *session) {
	s.turn++
	a.Header().Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s?turn=%d", s.repo, id, s.turn))
	a.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(s.data)-1)))
}

func (r *Registry) serveUpload(a *answer, name, id string) {
	r.mu.Lock()
	if a.fault.Forget {
		delete(r.uploads, id)
	}
	s := r.uploads[id]
	// Any location is good for asking how far an upload is.
	ok := s != nil && s.repo == name && (a.req.Method == http.MethodGet || a.req.URL.Query().Get("turn") == strconv.Itoa(s.turn))
	r.mu.Unlock()
	if !ok {
		a.refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		return
	}
	switch a.req.Method {
	case http.MethodGet:
		r.mu.Lock()
		r.where(a, id, s)
		r.mu.Unlock()
		a.send(http.StatusNoContent, nil)
	case http.MethodPatch:
		if !r.take(a, s) {
			return
		}
		r.mu.Lock()
		r.where(a, id, s)
		r.mu.Unlock()
		a.send(http.StatusAccepted, nil)
	case http.MethodPut:
		if r.take(a, s) {
			r.finish(a, id, s)
		}
	case http.MethodDelete:
		r.mu.Lock()
		delete(r.uploads, id)
		r.mu.Unlock()
		a.send(http.StatusNoContent, nil)
	default:
		a.unsupported()
	}
}

// take adds a request's body to a session; what arrived before the connection broke stays.
func (r *Registry) take(a *answer, s *session) bool {
	r.mu.Lock()
	at := int64(len(s.data))
	a.entry.Offset = at
	r.mu.Unlock()
	whole := a.req.ContentLength < 0 || a.req.Header.Get("Content-Range") == fmt.Sprintf("%d-%d", at, at+a.req.ContentLength-1)
	if cr := a.req.Header.Get("Content-Range"); cr != "" && (!strings.HasPrefix(cr, fmt.Sprintf("%d-", at)) || !whole) {
		a.Header().Set("Range", fmt.Sprintf("0-%d", max(0, at-1)))
		a.refuse(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "the upload does not go on there")
		return false
	}
	body, cut := io.Reader(a.req.Body), a.req.Method == http.MethodPatch && a.fault.Cut != 0
	if cut {
		body = io.LimitReader(body, max(0, a.fault.Cut))
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		r.mu.Lock()
		s.data = append(s.data, buf[:n]...)
		a.entry.Bytes += int64(n)
		r.mu.Unlock()
		if err == io.EOF {
			break
		}
		if err != nil {
			return false
		}
	}
	if cut {
		a.breakOff()
	}
	return true
}

func (r *Registry) finish(a *answer, id string, s *session) {
	want := digest.Digest(a.req.URL.Query().Get("digest"))
	r.mu.Lock()
	delete(r.uploads, id)
	got := digest.FromBytes(s.data)
	if got == want {
		r.repo(s.repo).blobs[got] = s.data
	}
	r.mu.Unlock()
	if got != want {
		a.refuse(http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	a.Header().Set("Location", "/v2/"+s.repo+"/blobs/"+want.String())
	a.Header().Set("Docker-Content-Digest", want.String())
	a.send(http.StatusCreated, nil)
}

// CloseConnections breaks off all that is under way.
func (r *Registry) CloseConnections() { r.server.CloseClientConnections() }

package registry

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
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
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/([a-z0-9]+:[0-9a-f]+)$`)
	uploadPath   = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([^/]*)$`)
	tagsPath     = regexp.MustCompile(`^/v2/(.+)/tags/list$`)
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
	default:
		a.refuse(http.StatusNotFound, "UNSUPPORTED", "there is no such path")
	}
}

func (r *Registry) serveManifest(a *answer, name, ref string) {
	r.mu.Lock()
	if a.req.Method == http.MethodPut {
		r.mu.Unlock()
		r.putManifest(a, name, ref)
		return
	}
	repo := r.repos[name]
	if repo == nil {
		r.mu.Unlock()
		a.refuse(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	d := digest.Digest(ref)
	if !strings.Contains(ref, ":") {
		d = repo.tags[ref]
	}
	m, ok := repo.manifests[d]
	r.mu.Unlock()
	if !ok {
		a.refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	a.content(m.mediaType, d, m.body)
}

func (r *Registry) putManifest(a *answer, name, ref string) {
	body, err := io.ReadAll(a.req.Body)
	if err != nil {
		return
	}
	d := digest.FromBytes(body)
	if strings.Contains(ref, ":") && ref != d.String() {
		a.refuse(http.StatusBadRequest, "DIGEST_INVALID", "the digest is not that of the manifest")
		return
	}
	r.mu.Lock()
	repo := r.repo(name)
	repo.manifests[d] = manifest{a.req.Header.Get("Content-Type"), body}
	if ref != d.String() {
		repo.tags[ref] = d
	}
	r.mu.Unlock()
	a.Header().Set("Docker-Content-Digest", d.String())
	a.Header().Set("Location", "/v2/"+name+"/manifests/"+d.String())
	a.send(http.StatusCreated, nil)
}

func (r *Registry) serveBlob(a *answer, name string, d digest.Digest) {
	b, ok := r.Blob(name, d)
	if !ok {
		a.refuse(http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	a.content("application/octet-stream", d, b)
}

// serveTags lists at most n tags that come after last.
func (r *Registry) serveTags(a *answer, name string) {
	r.mu.Lock()
	repo := r.repos[name]
	var tags []string
	if repo != nil {
		for tag := range repo.tags {
			tags = append(tags, tag)
		}
	}
	r.mu.Unlock()
	if repo == nil {
		a.refuse(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	slices.Sort(tags)
	q := a.req.URL.Query()
	if last := q.Get("last"); last != "" {
		at, found := slices.BinarySearch(tags, last)
		if found {
			at++
		}
		tags = tags[at:]
	}
	if n, err := strconv.Atoi(q.Get("n")); err == nil && n > 0 && n < len(tags) {
		tags = tags[:n]
		next := url.Values{"n": {q.Get("n")}, "last": {tags[n-1]}}
		a.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", a.req.URL.Path, next.Encode()))
	}
	body, _ := json.Marshal(map[string]any{"name": name, "tags": tags})
	a.Header().Set("Content-Type", "application/json")
	a.send(http.StatusOK, body)
}

// beginUpload mounts a blob, or opens a session.
func (r *Registry) beginUpload(a *answer, name string) {
	q := a.req.URL.Query()
	d, from := digest.Digest(q.Get("mount")), q.Get("from")
	if b, ok := r.Blob(from, d); ok && r.may(a.req, "repository:"+from+":pull") {
		r.AddBlob(name, b)
		a.Header().Set("Location", "/v2/"+name+"/blobs/"+d.String())
		a.Header().Set("Docker-Content-Digest", d.String())
		a.send(http.StatusCreated, nil)
		return
	}
	r.mu.Lock()
	r.made++
	id := fmt.Sprintf("upload-%d", r.made)
	s := &session{repo: name}
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
	ok := s != nil && s.repo == name && a.req.URL.Query().Get("turn") == strconv.Itoa(s.turn)
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
	default:
		a.refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
	}
}

// take adds a request's body to a session; what arrived before the connection broke stays.
func (r *Registry) take(a *answer, s *session) bool {
	r.mu.Lock()
	at := int64(len(s.data))
	a.entry.Offset = at
	r.mu.Unlock()
	if cr := a.req.Header.Get("Content-Range"); cr != "" && !strings.HasPrefix(cr, fmt.Sprintf("%d-", at)) {
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

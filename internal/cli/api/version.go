package api

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// MaxVersion is the newest API version this client asks for.
const MaxVersion = "1.56"

// MinVersion is the oldest API version this client works with.
const MinVersion = "1.24"

// negotiation finds the API version that both sides speak, out of what the engine says of itself.
type negotiation struct {
	mu      sync.Mutex
	version string
	settled bool // fixed by the user, or by an answer of the engine
	osType  string
}

// Version is the API version in use: fixed, negotiated, or the highest known here.
func (n *negotiation) Version() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version
}

// OSType is the engine's operating system once an answer was seen, else empty.
func (n *negotiation) OSType() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.osType
}

// done says whether the version is settled.
func (n *negotiation) done() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.settled
}

// learn remembers what the engine says about itself in every answer.
func (n *negotiation) learn(h http.Header) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v := h.Get("Ostype"); v != "" {
		n.osType = v
	}
	if v := h.Get("Api-Version"); v != "" && !n.settled && !LessThan(v, n.version) {
		n.settled = true
	}
}

// tooNew is what an engine answers to a version above its own.
var tooNew = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)client version [0-9.]+ is too new\. Maximum supported API version is ([0-9]+\.[0-9]+)`)
})

// downgrade takes the version an engine names when it refuses ours, and says whether a retry makes sense.
func (n *negotiation) downgrade(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusBadRequest {
		return false
	}
	m := tooNew().FindStringSubmatch(e.Message)
	n.mu.Lock()
	defer n.mu.Unlock()
	if m != nil && n.version == m[1] {
		return true // a request sent at the same time was answered first
	}
	if m == nil || n.settled || !LessThan(m[1], n.version) || LessThan(m[1], MinVersion) {
		return false
	}
	n.version, n.settled = m[1], true
	return true
}

// accept takes the version that an engine was asked for, unless it is settled.
func (n *negotiation) accept(version string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.settled || version == "" {
		return
	}
	if LessThan(version, n.version) && !LessThan(version, MinVersion) {
		n.version = version
	}
	n.settled = true
}

// LessThan compares API versions such as 1.41 and 1.9 number by number.
func LessThan(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) || i < len(bs); i++ {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x < y
		}
	}
	return false
}

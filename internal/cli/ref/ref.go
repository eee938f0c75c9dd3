// Package ref normalizes image names as docker does (docker.io/library/… in front of short ones). It is the grammar of
// github.com/distribution/reference without that package's regular expressions, whose compilation every
// start of the program would pay for.
package ref

import (
	"errors"
	"fmt"
	"strings"
)

// ErrFormat is the error for a name outside the grammar.
var ErrFormat = errors.New("invalid reference format")

// Ref is a normalized image reference.
type Ref struct {
	Domain, Path string // docker.io, library/busybox
	Tag          string
	Digest       string
}

const (
	defaultDomain = "docker.io"
	officialRepo  = "library/"
	maxName       = 255
)

// Parse reads a reference as a person writes it.
func Parse(s string) (Ref, error) {
	if len(s) == 64 && isHex(s) {
		return Ref{}, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	domain, rest := splitDomain(s)
	remote, _, _ := strings.Cut(rest, "@")
	if i := strings.LastIndexByte(remote, ':'); i > strings.LastIndexByte(remote, '/') {
		remote = remote[:i]
	}
	if strings.ToLower(remote) != remote {
		return Ref{}, fmt.Errorf("invalid reference format: repository name (%s) must be lowercase", remote)
	}
	r := Ref{Domain: domain}
	name, digest, hasDigest := strings.Cut(rest, "@")
	if hasDigest {
		if !validDigest(digest) {
			return Ref{}, ErrFormat
		}
		r.Digest = digest
	}
	r.Path = name
	if i := strings.IndexByte(name, ':'); i >= 0 {
		r.Path, r.Tag = name[:i], name[i+1:]
		if !validTag(r.Tag) {
			return Ref{}, ErrFormat
		}
	}
	if !validDomain(domain) || !validPath(r.Path) {
		return Ref{}, ErrFormat
	}
	if len(r.Domain)+1+len(r.Path) > maxName {
		return Ref{}, errors.New("repository name must not be more than 255 characters")
	}
	return r, nil
}

func splitDomain(s string) (domain, rest string) {
	i := strings.IndexByte(s, '/')
	if i < 0 || !strings.ContainsAny(s[:i], ".:") && s[:i] != "localhost" && strings.ToLower(s[:i]) == s[:i] {
		domain, rest = defaultDomain, s
	} else {
		domain, rest = s[:i], s[i+1:]
	}
	if domain == "index.docker.io" {
		domain = defaultDomain
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = officialRepo + rest
	}
	return domain, rest
}

// WithTag adds the tag latest when there is neither tag nor digest.
func (r Ref) WithTag() Ref {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r
}

// Name is domain and path in full.
func (r Ref) Name() string { return r.Domain + "/" + r.Path }

// FamiliarName is the name as docker shows it.
func (r Ref) FamiliarName() string {
	if r.Domain == defaultDomain {
		if p, ok := strings.CutPrefix(r.Path, officialRepo); ok && !strings.Contains(p, "/") {
			return p
		}
		return r.Path
	}
	return r.Name()
}

func (r Ref) suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// Familiar is the reference as docker shows it.
func (r Ref) Familiar() string { return r.FamiliarName() + r.suffix() }

func (r Ref) String() string { return r.Name() + r.suffix() }

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

func validDigest(s string) bool {
	alg, hex, ok := strings.Cut(s, ":")
	if !ok || alg == "" {
		return false
	}
	switch alg {
	case "sha256":
		return len(hex) == 64 && isHex(hex)
	case "sha512":
		return len(hex) == 128 && isHex(hex)
	case "sha384":
		return len(hex) == 96 && isHex(hex)
	}
	return false
}

func word(r byte) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

func validTag(s string) bool {
	for i := range len(s) {
		if !word(s[i]) && s[i] != '_' && (i == 0 || s[i] != '.' && s[i] != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

func validDomain(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:") != "" {
			return false
		}
		host, port = "v6", strings.TrimPrefix(s[end+1:], ":")
	} else if h, p, ok := strings.Cut(s, ":"); ok {
		if p == "" {
			return false
		}
		host, port = h, p
	}
	if strings.Trim(port, "0123456789") != "" {
		return false
	}
	for _, l := range strings.Split(host, ".") {
		if l == "" || !word(l[0]) || !word(l[len(l)-1]) {
			return false
		}
		for i := range len(l) {
			if !word(l[i]) && l[i] != '-' {
				return false
			}
		}
	}
	return true
}

func validPath(s string) bool {
	for _, c := range strings.Split(s, "/") {
		if !validComponent(c) {
			return false
		}
	}
	return true
}

// validComponent: runs of small letters and digits, joined by one of . _ __ or any number of -.
func validComponent(c string) bool {
	alnum := func(b byte) bool { return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' }
	if c == "" || !alnum(c[0]) || !alnum(c[len(c)-1]) {
		return false
	}
	for i := 0; i < len(c); {
		if alnum(c[i]) {
			i++
			continue
		}
		j := i
		for !alnum(c[j]) {
			j++
		}
		sep := c[i:j]
		if sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
			return false
		}
		i = j
	}
	return true
}

// Package naming knows what names of repositories, tags and digests look like, and patterns of names.
package naming

import (
	_ "crypto/sha256" // the two algorithms that are taken
	_ "crypto/sha512"
	"path"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// maxName bounds a repository's name, in bytes.
const maxName = 255

var (
	repository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tag        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Repository refuses what is no repository's name.
func Repository(name string) error {
	if len(name) > maxName {
		return refusal.NameInvalid.New("the repository name has %d characters, more than %d", len(name), maxName)
	}
	if !repository.MatchString(name) {
		return refusal.NameInvalid.New("invalid repository name %q: parts of a-z, 0-9 and single separators (. _ __ -), joined by /, are needed", name)
	}
	return nil
}

// Tag refuses what is no tag.
func Tag(s string) error {
	if !tag.MatchString(s) {
		return refusal.TagInvalid.New("invalid tag %q: up to 128 of A-Z, a-z, 0-9, _, . and -, not beginning with . or -, are needed", s)
	}
	return nil
}

// Digest reads a digest; sha256 and sha512 are taken.
func Digest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if err := d.Validate(); err != nil {
		return "", refusal.DigestInvalid.New("invalid digest %q: %w", s, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return "", refusal.DigestInvalid.New("digest %q: the algorithm %s is not supported; sha256 and sha512 are", s, a)
	}
	return d, nil
}

// IsDigest tells a digest from a tag: tags have no colon.
func IsDigest(reference string) bool { return strings.Contains(reference, ":") }

// Pattern is a pattern of repository names: * stands for anything but a slash, ** at the end or as a part of its own for any
// number of parts, [ab] and ? are as in path.Match.
type Pattern string

// Check refuses a pattern that can never be read.
func (p Pattern) Check() error {
	_, err := path.Match(string(p), "")
	return err
}

// Match tells whether a name is meant.
func (p Pattern) Match(name string) bool {
	return match(strings.Split(string(p), "/"), strings.Split(name, "/"))
}

func match(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for i := range len(name) + 1 {
				if match(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); err != nil || !ok {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}

package policy

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// Kind is what a requirement asks for.
type Kind string

// The kinds, as the file calls them.
const (
	Accept Kind = "insecureAcceptAnything"
	Reject Kind = "reject"
	Signed Kind = "sigstoreSigned"
)

// Requirement is one thing that an image has to satisfy.
type Requirement struct {
	Kind     Kind
	Keys     []Key    // of Signed: a signature by one of them is needed
	Keyless  *Keyless // of Signed, instead of keys
	Identity Identity // of Signed: what name the signature has to be for
}

// Keyless is a signature by a certificate that was given to an identity for a moment, proved by a log: what Fulcio and Rekor do.
type Keyless struct {
	RootName  string // of the file
	Root      []byte // trusted root, as sigstore's clients keep it
	Issuer    string // of the identity: the address of an OpenID provider
	Subject   string // exactly: an e-mail address or a URI
	SubjectRE string // or a regular expression that fits the whole of it
}

// Rule is what the policy says of a name.
type Rule struct {
	// Scope is the file's word for it; "default" where no scope fits.
	Scope        string
	Requirements []Requirement
}

// Open tells whether anything is accepted.
func (r Rule) Open() bool {
	return !slices.ContainsFunc(r.Requirements, func(q Requirement) bool { return q.Kind != Accept })
}

// Closed tells whether nothing is.
func (r Rule) Closed() bool {
	return slices.ContainsFunc(r.Requirements, func(q Requirement) bool { return q.Kind == Reject })
}

// Policy is a file that was understood. It never changes.
type Policy struct {
	File  string
	Notes []string // what is in the file and has no effect here

	fallback []Requirement
	scopes   map[string][]Requirement
}

// Load reads a policy with its keys.
func Load(path string) (*Policy, error) {
	b, err := readLimited(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("the image policy cannot be read: %w", err)
	}
	p, err := Parse(b, func(path string) ([]byte, error) { return readLimited(path, maxKeyFile) })
	if err != nil {
		return nil, fmt.Errorf("the image policy %s: %w", path, err)
	}
	p.File = path
	return p, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, st.Size(), limit)
	}
	return os.ReadFile(path)
}

// Default is the rule for what has no name.
func (p *Policy) Default() Rule { return Rule{"default", p.fallback} }

// For finds the rule for a name, the most specific one: of the name with its tag or digest, of its repository, of what is
// above it, of the registry, of registries by wildcard, of all ("").
func (p *Policy) For(named reference.Named) Rule {
	for _, scope := range scopesOf(named) {
		if q, ok := p.scopes[scope]; ok {
			return Rule{cmp.Or(scope, `""`), q}
		}
	}
	return p.Default()
}

// Rules lists all rules, the scopes in the order of their names, the default last.
func (p *Policy) Rules() []Rule {
	var out []Rule
	for scope, q := range p.scopes {
		out = append(out, Rule{cmp.Or(scope, `""`), q})
	}
	slices.SortFunc(out, func(a, b Rule) int { return strings.Compare(a.Scope, b.Scope) })
	return append(out, p.Default())
}

// scopesOf are the scopes that a name is in, the most specific first.
func scopesOf(named reference.Named) []string {
	var out []string
	switch n := named.(type) {
	case reference.Canonical:
		out = append(out, n.Name()+"@"+n.Digest().String())
	case reference.Tagged:
		out = append(out, n.String())
	}
	for name := named.Name(); ; {
		out = append(out, name)
		at := strings.LastIndexByte(name, '/')
		if at < 0 {
			break
		}
		name = name[:at]
	}
	for host := reference.Domain(named); ; {
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			break
		}
		out = append(out, "*."+rest)
		host = rest
	}
	return append(out, "")
}

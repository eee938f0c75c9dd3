package policy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// transports are those of containers-policy.json(5). Only "docker" is about what this engine does.
var transports = []string{"docker", "atomic", "containers-storage", "dir", "docker-archive", "docker-daemon", "oci", "oci-archive", "sif", "tarball", "ostree"}

// parser reads a policy off its nodes.
type parser struct {
	*reader
	load func(path string) ([]byte, error)
	p    *Policy
	used bool // what is read now has an effect; else files are not opened
}

// Parse reads a policy; load reads the files that it names.
func Parse(data []byte, load func(path string) ([]byte, error)) (*Policy, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(data), maxFile)
	}
	n, r, err := read(data)
	if err != nil {
		return nil, err
	}
	z := &parser{reader: r, load: load, used: true, p: &Policy{scopes: map[string][]Requirement{}}}
	return z.p, z.policy(n)
}

func (z *parser) policy(n *node) error {
	f, err := z.object(n, "default", "transports")
	if err != nil {
		return err
	}
	if f["default"] == nil {
		return z.wrong(n.at, "", `the field "default" is missing: it says what becomes of all that no scope is for, e.g. [{"type": "reject"}]`)
	}
	if z.p.fallback, err = z.requirements(f["default"]); err != nil || f["transports"] == nil {
		return err
	}
	all, err := z.object(f["transports"], transports...)
	if err != nil {
		return err
	}
	for _, name := range transports {
		scopes := all[name]
		if scopes == nil {
			continue
		}
		if name != "docker" {
			z.p.Notes = append(z.p.Notes, fmt.Sprintf("the rules for the transport %q have no effect here: this engine's images are all of the transport \"docker\"", name))
		}
		if err := z.scopes(name, scopes); err != nil {
			return err
		}
	}
	return nil
}

func (z *parser) scopes(transport string, n *node) error {
	if n.kind != object {
		return z.wrong(n.at, n.path, "an object of scopes is needed, not %s", n.kind)
	}
	z.used = transport == "docker"
	defer func() { z.used = true }()
	for _, f := range n.fields {
		if z.used {
			if err := checkScope(f.name); err != nil {
				return z.wrong(f.at, n.path, "the scope %q %w", f.name, err)
			}
		}
		q, err := z.requirements(f.node)
		if err != nil {
			return err
		}
		if z.used {
			z.p.scopes[f.name] = q
		}
	}
	return nil
}

// checkScope tells what cannot be a scope, and so would never count.
func checkScope(scope string) error {
	if scope == "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(scope, "*."); ok {
		if rest == "" || strings.ContainsAny(rest, "/*@ ") {
			return fmt.Errorf("is no wildcard: *.example.com stands for all registries below example.com, without a path")
		}
		return nil
	}
	host, rest, path := strings.Cut(scope, "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return fmt.Errorf("does not begin with a registry: Docker Hub's images are docker.io/library/name or docker.io/user/name")
	}
	if !path {
		rest = "x"
	}
	named, err := reference.ParseNormalizedNamed(host + "/" + rest)
	if err != nil || reference.Domain(named) != host && host != "docker.io" {
		return fmt.Errorf("is neither a registry, nor a repository or what is above it, nor an image with its tag or digest")
	}
	return nil
}

func (z *parser) requirements(n *node) ([]Requirement, error) {
	if n.kind != list || len(n.items) == 0 {
		return nil, z.wrong(n.at, n.path, `a list of one or more requirements is needed, e.g. [{"type": "reject"}]`)
	}
	var out []Requirement
	for _, i := range n.items {
		q, err := z.requirement(i)
		if err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	return out, nil
}

// The fields of sigstoreSigned. Those in unsupported are the format's, and are refused with the reason.
var (
	signedFields = []string{"type", "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "signedIdentity"}
	unsupported  = []string{"rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas", "pki"}
)

func (z *parser) requirement(n *node) (q Requirement, err error) {
	if n.kind != object {
		return q, z.wrong(n.at, n.path, "a requirement is an object, not %s", n.kind)
	}
	for _, f := range n.fields {
		if f.name == "type" {
			s, err := z.text(f.node)
			if err != nil {
				return q, err
			}
			q.Kind = Kind(s)
		}
	}
	switch q.Kind {
	case Accept, Reject:
		_, err = z.object(n, "type")
		return q, err
	case Signed:
		return z.signed(n, q)
	case "signedBy":
		if !z.used {
			return q, nil
		}
		return q, z.wrong(n.at, n.path, `signatures by GPG keys ("signedBy") are not supported: sign with 'gantry image sign' or cosign, and demand "sigstoreSigned"`)
	case "":
		return q, z.wrong(n.at, n.path, `the field "type" is missing: %s, %s or %s`, Accept, Reject, Signed)
	}
	return q, z.wrong(n.at, n.path, "the type %q is not known: %s, %s and %s are", q.Kind, Accept, Reject, Signed)
}

func (z *parser) signed(n *node, q Requirement) (Requirement, error) {
	f, err := z.object(n, append(slices.Clone(signedFields), unsupported...)...)
	if err != nil {
		return q, err
	}
	for _, name := range unsupported {
		if f[name] != nil && z.used {
			return q, z.wrong(f[name].at, f[name].path, `this is not supported: use keys ("keyPath"), or "fulcio" with "trustedRootPath", which names the logs, too`)
		}
	}
	q.Identity = Identity{Type: MatchRepoDigestExact}
	if f["signedIdentity"] != nil {
		if q.Identity, err = z.identity(f["signedIdentity"]); err != nil {
			return q, err
		}
	}
	given := 0
	for _, name := range []string{"keyPath", "keyPaths", "keyData", "keyDatas", "fulcio"} {
		if f[name] != nil {
			given++
		}
	}
	if given != 1 {
		return q, z.wrong(n.at, n.path, `exactly one of "keyPath", "keyPaths", "keyData", "keyDatas" and "fulcio" is needed, not %d`, given)
	}
	if f["fulcio"] != nil {
		q.Keyless, err = z.keyless(f["fulcio"])
		return q, err
	}
	for _, name := range []string{"keyPath", "keyPaths", "keyData", "keyDatas"} {
		if f[name] == nil {
			continue
		}
		if q.Keys, err = z.keys(f[name], strings.HasPrefix(name, "keyData")); err != nil {
			return q, err
		}
	}
	return q, nil
}

// keys reads one key or a list of them: files, or base64 of what would be in them.
func (z *parser) keys(n *node, data bool) (keys []Key, err error) {
	items := []*node{n}
	if strings.HasSuffix(n.path, "s") {
		if items = n.items; n.kind != list || len(items) == 0 {
			return nil, z.wrong(n.at, n.path, "a list of one or more is needed")
		}
	}
	for _, i := range items {
		b, name, err := z.content(i, data)
		if err != nil {
			return nil, err
		}
		if !z.used {
			continue
		}
		more, err := ParseKeys(b, name)
		if err != nil {
			return nil, z.wrong(i.at, i.path, "%w", err)
		}
		if keys = append(keys, more...); len(keys) > maxKeys {
			return nil, z.wrong(i.at, i.path, "one requirement has more than %d keys", maxKeys)
		}
	}
	return keys, nil
}

// content reads the file that a node names, or what is in the node itself.
func (z *parser) content(n *node, data bool) (b []byte, name string, err error) {
	s, err := z.text(n)
	if err != nil {
		return nil, "", err
	}
	if data {
		if b, err = base64.StdEncoding.DecodeString(s); err != nil {
			return nil, "", z.wrong(n.at, n.path, "base64 of the file's content is needed: %w", err)
		}
		return b, n.path, nil
	}
	if !filepath.IsAbs(s) {
		return nil, "", z.wrong(n.at, n.path, "%q is no absolute path", s)
	}
	if !z.used {
		return nil, s, nil
	}
	if b, err = z.load(s); err != nil {
		return nil, "", z.wrong(n.at, n.path, "%w", err)
	}
	return b, s, nil
}

func (z *parser) keyless(n *node) (*Keyless, error) {
	f, err := z.object(n, "trustedRootPath", "trustedRootData", "oidcIssuer", "subjectEmail", "subject", "subjectRegExp", "caPath", "caData")
	if err != nil {
		return nil, err
	}
	if !z.used {
		return &Keyless{}, nil
	}
	k := &Keyless{}
	root, data := f["trustedRootPath"], false
	if root == nil {
		root, data = f["trustedRootData"], true
	}
	if f["caPath"] != nil || f["caData"] != nil || root == nil || f["trustedRootPath"] != nil && f["trustedRootData"] != nil {
		return nil, z.wrong(n.at, n.path, `one of "trustedRootPath" and "trustedRootData" is needed ("caPath" and "caData" are not supported): a trusted root, as sigstore's clients keep it, has the certificates of Fulcio and the keys of the logs`)
	}
	if k.Root, k.RootName, err = z.content(root, data); err != nil {
		return nil, err
	}
	if !json.Valid(k.Root) {
		return nil, z.wrong(root.at, root.path, "%s is no trusted root: it is not JSON", k.RootName)
	}
	for name, to := range map[string]*string{"oidcIssuer": &k.Issuer, "subjectEmail": &k.Subject, "subject": &k.Subject, "subjectRegExp": &k.SubjectRE} {
		if f[name] == nil {
			continue
		}
		if *to != "" {
			return nil, z.wrong(f[name].at, f[name].path, `only one of "subjectEmail", "subject" and "subjectRegExp" is needed`)
		}
		if *to, err = z.text(f[name]); err != nil {
			return nil, err
		}
	}
	if k.Issuer == "" || (k.Subject == "") == (k.SubjectRE == "") {
		return nil, z.wrong(n.at, n.path, `"oidcIssuer" and one of "subjectEmail", "subject" and "subjectRegExp" are needed: without them anybody could sign`)
	}
	if k.SubjectRE != "" {
		if _, err := regexp.Compile(k.SubjectRE); err != nil {
			return nil, z.wrong(f["subjectRegExp"].at, f["subjectRegExp"].path, "%w", err)
		}
	}
	return k, nil
}

func (z *parser) identity(n *node) (i Identity, err error) {
	f, err := z.object(n, "type", "dockerReference", "dockerRepository", "prefix", "signedPrefix")
	if err != nil {
		return i, err
	}
	if f["type"] == nil {
		return i, z.wrong(n.at, n.path, `the field "type" is missing: one of %s`, strings.Join(identityTypes, ", "))
	}
	if i.Type, err = z.text(f["type"]); err != nil {
		return i, err
	}
	wants := []string{"type"}
	switch i.Type {
	case ExactReference:
		wants = append(wants, "dockerReference")
	case ExactRepository:
		wants = append(wants, "dockerRepository")
	case RemapIdentity:
		wants = append(wants, "prefix", "signedPrefix")
	default:
		if !slices.Contains(identityTypes, i.Type) {
			return i, z.wrong(n.at, n.path, "the type %q is not known: one of %s is needed", i.Type, strings.Join(identityTypes, ", "))
		}
	}
	if _, err := z.object(n, wants...); err != nil {
		return i, err
	}
	for _, name := range wants[1:] {
		if f[name] == nil {
			return i, z.wrong(n.at, n.path, "the type %s needs the field %q", i.Type, name)
		}
		s, err := z.text(f[name])
		if err != nil {
			return i, err
		}
		if err := checkIdentity(name, s); err != nil {
			return i, z.wrong(f[name].at, f[name].path, "%w", err)
		}
		switch name {
		case "prefix":
			i.Prefix = s
		case "signedPrefix":
			i.SignedPrefix = s
		default:
			i.Name = s
		}
	}
	return i, nil
}

func checkIdentity(name, s string) error {
	if strings.HasSuffix(name, "refix") {
		if err := checkScope(s); err != nil || s == "" || strings.HasPrefix(s, "*") {
			return fmt.Errorf("%q is neither a registry, nor a repository or what is above it", s)
		}
		return nil
	}
	named, err := reference.ParseNormalizedNamed(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q: %w", s, err)
	case name == "dockerReference" && reference.IsNameOnly(named):
		return fmt.Errorf("%q has neither a tag nor a digest", s)
	case name == "dockerRepository" && !reference.IsNameOnly(named):
		return fmt.Errorf("%q has a tag or a digest", s)
	}
	return nil
}

// object gives the fields of an object, which may have no others than those that are known.
func (z *parser) object(n *node, known ...string) (map[string]*node, error) {
	if n.kind != object {
		return nil, z.wrong(n.at, n.path, "an object is needed, not %s", n.kind)
	}
	out := map[string]*node{}
	for _, f := range n.fields {
		if !slices.Contains(known, f.name) {
			return nil, z.wrong(f.at, n.path, "the field %q is not known here: there are %s", f.name, strings.Join(known, ", "))
		}
		out[f.name] = f.node
	}
	return out, nil
}

func (z *parser) text(n *node) (string, error) {
	s, ok := n.value.(string)
	if !ok || s == "" {
		return "", z.wrong(n.at, n.path, "a text that is not empty is needed")
	}
	return s, nil
}

package bootstrap

import (
	"context"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// Source is a part of an archive that packages come from.
type Source struct {
	URI        string
	Suite      string
	Components []string
}

// line is the source as apt reads it: nobody's signature counts but that of the keyring.
func (s Source) line(keyring string) string {
	uri := s.URI
	if path, ok := strings.CutPrefix(uri, "file:"); ok { // dpkg, in the tree, would not find the file
		uri = "copy:" + path
	}
	return fmt.Sprintf("deb [signed-by=%q] %s %s %s", keyring, uri, s.Suite, strings.Join(s.Components, " "))
}

// debianSecurity derives where security updates are from where the archive is: beside it.
func debianSecurity(mirror string) (string, bool) {
	m := strings.TrimRight(mirror, "/")
	if before, after, ok := strings.Cut(m, "/debian/"); ok { // a snapshot's
		return before + "/debian-security/" + after, true
	}
	if before, ok := strings.CutSuffix(m, "/debian"); ok {
		return before + "/debian-security", true
	}
	return "", false
}

// Sources says where the packages come from: the archive that is asked for, else the one this machine's apt uses.
func (r *Request) Sources(ctx context.Context) ([]Source, error) {
	d := distributions[r.Distribution]
	var configured []target
	if r.Mirror == "" || r.SecurityMirror == "" {
		configured = machine(ctx)
	}
	archive := r.Mirror
	if archive == "" {
		archive = choose(configured, d, r.Distribution, r.Suite)
	}
	if archive == "" {
		return nil, fmt.Errorf("no archive of %s is known: apt on this machine uses none; say where one is with --mirror", r.Distribution)
	}
	list := []Source{{archive, r.Suite, r.Components}}
	for _, p := range r.Pockets {
		if p != securityPocket {
			list = append(list, Source{archive, r.Suite + "-" + p, r.Components})
			continue
		}
		uri := r.SecurityMirror
		if uri == "" && r.Mirror == "" {
			uri = chooseSecurity(configured, d, r.Suite)
		}
		if uri == "" {
			var ok bool
			if uri, ok = d.security(archive); !ok {
				return nil, fmt.Errorf("where the security updates of %s are cannot be derived from %s: say where with --security-mirror, or do without them with --pocket updates", r.Suite, archive)
			}
		}
		list = append(list, Source{uri, r.Suite + "-" + securityPocket, r.Components})
	}
	return list, nil
}

// target is an index that this machine's apt is configured for. Origin is known once apt has been there.
type target struct{ uri, suite, component, origin string }

// machine asks this machine's apt for its sources; a machine without apt has none.
func machine(ctx context.Context) (list []target) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)", "Created-By: Packages").Output()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 {
			continue
		}
		if strings.HasPrefix(f[3], "$(") {
			f[3] = ""
		}
		list = append(list, target{strings.TrimRight(f[0], "/"), f[1], f[2], f[3]})
	}
	return list
}

// choose picks the archive among what apt is configured for: the one that has the suite, else one of the same distribution's.
// What it is does not matter for trust: the signature does.
func choose(configured []target, d distribution, name, suite string) string {
	candidates := slices.DeleteFunc(slices.Clone(configured), func(t target) bool {
		return t.component != "main" || t.origin != "" && t.origin != d.origin || t.origin == "" && !strings.Contains(path.Base(t.uri), name) || strings.HasSuffix(t.suite, "-"+securityPocket)
	})
	for _, t := range candidates {
		if t.suite == suite {
			return t.uri
		}
	}
	if len(candidates) > 0 {
		return candidates[0].uri
	}
	return ""
}

func chooseSecurity(configured []target, d distribution, suite string) string {
	for _, t := range configured {
		if t.suite == suite+"-"+securityPocket && (t.origin == "" || t.origin == d.origin) {
			return t.uri
		}
	}
	return ""
}

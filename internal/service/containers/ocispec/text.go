package ocispec

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// CheckText refuses zero bytes: the kernel would end a path or an argument there. Mounts are
// looked at where they are planned.
func CheckText(s *specs.Spec) error {
	for _, list := range []struct {
		what  string
		texts []string
	}{
		{"command", s.Process.Args}, {"environment", s.Process.Env}, {"working directory", []string{s.Process.Cwd}},
		{"user", []string{s.Process.User.Username, s.Annotations[AnnotationGroups]}}, {"host name", []string{s.Hostname, s.Domainname}},
		{"list of masked paths", s.Linux.MaskedPaths}, {"list of read-only paths", s.Linux.ReadonlyPaths},
	} {
		for _, t := range list.texts {
			if zero(t) {
				return classed.Invalid("invalid %s: %q has a zero byte", list.what, t)
			}
		}
	}
	for k, v := range s.Linux.Sysctl {
		if zero(k) || zero(v) {
			return classed.Invalid("invalid sysctl: %q has a zero byte", k+"="+v)
		}
	}
	for _, d := range s.Linux.Devices {
		if zero(d.Path) {
			return classed.Invalid("invalid device: %q has a zero byte", d.Path)
		}
	}
	return nil
}

func zero(text string) bool { return strings.IndexByte(text, 0) >= 0 }

package ocispec

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// profiles caches expanded profiles by text and capabilities: expanding the
// default one for every start would cost more than the rest of Build.
var profiles sync.Map // profileKey → *specs.LinuxSeccomp

type profileKey struct {
	body [sha256.Size]byte
	caps string
}

// maxProfiles bounds the cache; beyond it, odd profiles are expanded every time.
const maxProfiles = 256

var profileCount struct {
	sync.Mutex
	n int
}

// ValidSeccomp tells whether text is a profile that can be used.
func ValidSeccomp(text string) error {
	var p seccomp.Seccomp
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fail("Decoding seccomp profile failed: %v", err)
	}
	return nil
}

// seccompOf picks and expands the profile: the container's own, else the daemon's.
// The result is shared and must not be changed.
func seccompOf(own, fallback string, privileged, hostHas bool, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	body := own
	if body == "" {
		if privileged {
			return nil, nil
		}
		body = fallback
	}
	if body == "unconfined" {
		return nil, nil
	}
	builtin := body == "" || body == "builtin"
	if !hostHas {
		if !builtin {
			return nil, fail("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
		}
		return nil, nil
	}
	caps := slices.Sorted(slices.Values(s.Process.Capabilities.Bounding))
	key := profileKey{caps: strings.Join(caps, " ")}
	if !builtin {
		key.body = sha256.Sum256([]byte(body))
	}
	if p, ok := profiles.Load(key); ok {
		return p.(*specs.LinuxSeccomp), nil
	}
	var p *specs.LinuxSeccomp
	var err error
	if builtin {
		p, err = seccomp.GetDefaultProfile(s)
	} else {
		p, err = seccomp.LoadProfile(body, s)
	}
	if err != nil {
		return nil, fail("%v", err)
	}
	profileCount.Lock()
	defer profileCount.Unlock()
	if profileCount.n < maxProfiles {
		profileCount.n++
		profiles.Store(key, p)
	}
	return p, nil
}

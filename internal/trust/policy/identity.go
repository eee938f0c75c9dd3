package policy

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Identity says how the name that was signed has to fit the name an image is used under.
type Identity struct {
	Type string
	// Name is what is compared with instead of the image's name: a reference or a repository.
	Name string
	// Prefix of the image's name is read as SignedPrefix.
	Prefix, SignedPrefix string
}

// The types, as the file calls them. MatchDigest is ours: the digest is all that counts.
const (
	MatchExact           = "matchExact"
	MatchRepoDigestExact = "matchRepoDigestOrExact"
	MatchRepository      = "matchRepository"
	ExactReference       = "exactReference"
	ExactRepository      = "exactRepository"
	RemapIdentity        = "remapIdentity"
	MatchDigest          = "matchDigest"
)

var identityTypes = []string{MatchExact, MatchRepoDigestExact, MatchRepository, ExactReference, ExactRepository, RemapIdentity, MatchDigest}

// Fits tells whether a signature that names a reference (empty: none) is one for an image that is used under a name. The
// error says what was expected.
func (i Identity) Fits(image reference.Named, signed string) error {
	if i.Type == MatchDigest {
		return nil
	}
	if signed == "" {
		return fmt.Errorf(`it names no image, only a digest, and signedIdentity %s wants a name`, i.Type)
	}
	got, err := reference.ParseNormalizedNamed(signed)
	if err != nil {
		return fmt.Errorf("it names the image %q, which is no reference", clip(signed))
	}
	want := image
	switch i.Type {
	case ExactReference, ExactRepository:
		if want, err = reference.ParseNormalizedNamed(i.Name); err != nil {
			return err
		}
	case RemapIdentity:
		if want, err = i.remap(image); err != nil {
			return err
		}
	}
	if i.Type == MatchRepository || i.Type == ExactRepository {
		if got.Name() != want.Name() {
			return fmt.Errorf("it is for the repository %s, not for %s", reference.FamiliarName(got), reference.FamiliarName(want))
		}
		return nil
	}
	if _, digested := want.(reference.Digested); digested && (i.Type == MatchRepoDigestExact || i.Type == RemapIdentity) {
		if got.Name() != want.Name() {
			return fmt.Errorf("it is for the repository %s, not for %s", reference.FamiliarName(got), reference.FamiliarName(want))
		}
		return nil
	}
	if reference.IsNameOnly(got) || reference.IsNameOnly(want) || got.String() != want.String() {
		return fmt.Errorf("it is for %s, not for %s", reference.FamiliarString(got), reference.FamiliarString(want))
	}
	return nil
}

// remap gives the name under which an image was signed that is used under another prefix.
func (i Identity) remap(image reference.Named) (reference.Named, error) {
	rest, ok := strings.CutPrefix(image.String(), i.Prefix)
	if !ok || rest != "" && !strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, ":") && !strings.HasPrefix(rest, "@") {
		return image, nil
	}
	named, err := reference.ParseNormalizedNamed(i.SignedPrefix + rest)
	if err != nil {
		return nil, fmt.Errorf("the policy reads %s as %s%s, which is no reference", image, i.SignedPrefix, rest)
	}
	return named, nil
}

// clip bounds what a signature says, for messages.
func clip(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

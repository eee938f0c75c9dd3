package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"

	"github.com/gantry-engine/gantry/internal/trust/program"
)

// Question is what a requirement asks of a digest's signatures.
func (q Requirement) Question(digest string, signatures []program.Signature) program.Verify {
	ask := program.Verify{Digest: digest, Signatures: signatures}
	for _, k := range q.Keys {
		ask.Keys = append(ask.Keys, k.PEM)
	}
	if k := q.Keyless; k != nil {
		ask.Keyless = &program.Keyless{Root: k.Root, Issuer: k.Issuer, Subject: k.Subject, SubjectRE: k.SubjectRE}
	}
	return ask
}

// Satisfied tells whether a verdict satisfies a requirement for an image of this name; the error says why not.
func (q Requirement) Satisfied(named reference.Named, v program.Verdict) error {
	if !v.Good {
		return errors.New(v.Why)
	}
	if len(v.Names) == 0 {
		return q.Identity.Fits(named, "")
	}
	var err error
	for _, n := range v.Names {
		if err = q.Identity.Fits(named, n); err == nil {
			return nil
		}
	}
	return err
}

// Demand says what a rule asks for, as the end of a sentence that begins with the rule.
func (r Rule) Demand() string {
	var parts []string
	for _, q := range r.Requirements {
		switch {
		case q.Kind == Reject:
			return "allows no image"
		case q.Keyless != nil:
			who := q.Keyless.Subject
			if who == "" {
				who = q.Keyless.SubjectRE
			}
			parts = append(parts, fmt.Sprintf("a signature by %s of %s", who, q.Keyless.Issuer))
		case q.Kind == Signed:
			var keys []string
			for _, k := range q.Keys {
				keys = append(keys, fmt.Sprintf("%s (%s…)", k.Name, k.ID[:12]))
			}
			if len(keys) == 1 {
				parts = append(parts, "a signature by the key "+keys[0])
			} else {
				parts = append(parts, "a signature by one of the keys "+strings.Join(keys, ", "))
			}
		}
	}
	if len(parts) == 0 {
		return "allows any image"
	}
	return "demands " + strings.Join(parts, ", and ")
}

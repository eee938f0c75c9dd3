package trust

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/trust/policy"
)

// maxReasons bounds how many signatures a refusal tells of.
const maxReasons = 5

// refusal is a use that the policy does not allow.
type refusal struct {
	regime *regime
	rule   policy.Rule
	use    Use
	found  []string
}

// error names the image, the rule, what was found, and what would help.
func (r refusal) error() error {
	what := "the image"
	if r.use.Named != nil {
		what = reference.FamiliarString(r.use.Named)
	}
	if r.use.Target.Digest != "" {
		what += " (" + r.use.Target.Digest.String() + ")"
	}
	rule := fmt.Sprintf("the rule for %q", r.rule.Scope)
	if r.rule.Scope == "default" || r.rule.Scope == `""` {
		rule = "the rule " + r.rule.Scope
	}
	text := fmt.Sprintf("%s is refused by the image policy %s: %s %s", what, r.regime.File, rule, r.rule.Demand())
	if r.rule.Closed() {
		return classed.Errorf(errdefs.ErrPermissionDenied, "%s. Use an image of a repository that the policy allows, or have the policy changed", text)
	}
	found := r.found
	if len(found) > maxReasons {
		found = append(found[:maxReasons:maxReasons], fmt.Sprintf("and %d more", len(found)-maxReasons))
	}
	return classed.Errorf(errdefs.ErrPermissionDenied, "%s. Found: %s. %s", text, strings.Join(found, "; "), r.help())
}

func (r refusal) help() string {
	if r.use.Named == nil {
		return "Use it by a name"
	}
	name := reference.FamiliarString(r.use.Named)
	if r.use.Target.Digest == "" {
		return "Give it another name, push it, and have it signed"
	}
	return fmt.Sprintf("Sign it: gantry image sign --key KEY %s; a signature that is in the registry already comes with 'gantry pull %s'", name, name)
}

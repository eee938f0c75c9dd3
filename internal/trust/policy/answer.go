package policy

import (
	"fmt"

	"github.com/distribution/reference"

	"github.com/gantry-engine/gantry/internal/trust/program"
)

// Look answers what a policy says, of one image if a name is given.
func Look(q program.Look) (out program.Policy, err error) {
	p, err := Load(q.File)
	if err != nil {
		return out, err
	}
	out.Notes = p.Notes
	rules := p.Rules()
	if q.Name != "" {
		named, err := reference.ParseNormalizedNamed(q.Name)
		if err != nil {
			return out, fmt.Errorf("%q: %w", q.Name, err)
		}
		rules = []Rule{p.For(reference.TagNameOnly(named))}
	}
	for _, r := range rules {
		x := program.Rule{Scope: r.Scope, Demand: r.Demand()}
		for _, q := range r.Requirements {
			if q.Kind == Signed {
				x.Identity = q.Identity.Type
			}
		}
		out.Rules = append(out.Rules, x)
	}
	return out, nil
}

// Judge answers whether the policy allows an image, by the signatures that were found; verify examines them.
func (p *Policy) Judge(q program.Judge, verify func(program.Verify) (program.Verdicts, error)) (out program.Judgement, err error) {
	named, err := reference.ParseNormalizedNamed(q.Name)
	if err != nil {
		return out, fmt.Errorf("%q: %w", q.Name, err)
	}
	named = reference.TagNameOnly(named)
	rule := p.For(named)
	out = program.Judgement{Allowed: !rule.Closed(), Rule: program.Rule{Scope: rule.Scope, Demand: rule.Demand()}}
	for _, r := range rule.Requirements {
		if r.Kind != Signed {
			continue
		}
		verdicts, err := verify(r.Question(q.Digest, q.Signatures))
		if err != nil {
			return out, err
		}
		satisfied := false
		for i, v := range verdicts.Verdicts {
			if err := r.Satisfied(named, v); err != nil {
				out.Why = append(out.Why, fmt.Sprintf("signature %d: %v", i+1, err))
				continue
			}
			satisfied = true
			out.By = append(out.By, v.By)
			break
		}
		if !satisfied {
			out.Allowed = false
		}
	}
	return out, nil
}

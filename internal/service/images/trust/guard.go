// Package trust keeps images away that the operator's policy does not allow: it finds the rule for the name that an image is
// used under, the signatures that there are, and has them examined.
//
//	name, digest ──► rule ──► kept signatures ──► good? ─yes─► used
//	                            └─no─► the registry's ──► good? ─yes─► kept with the image, used
//	                                                       └─no─► refused, with what was found
//
// The digest is the one that the name points to: where that is an index, the index has to be signed. What is good for a
// name, a digest and a policy is remembered while the policy is in force.
package trust

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/trust/policy"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

// How long a registry is asked for signatures: on a pull, which needs it anyway, and otherwise.
const (
	pullPatience = 2 * time.Minute
	elsePatience = 20 * time.Second
)

// maxKnown bounds how many verdicts are remembered, atOnce how many examinations run side by side.
const (
	maxKnown = 4096
	atOnce   = 2
)

// Guard decides. Without a policy everything passes, at the cost of a look at a pointer.
type Guard struct {
	verifier Verifier
	content  Content
	open     Open
	regime   atomic.Pointer[regime]
	slots    chan struct{}
}

// regime is a policy in force, with what it was found to allow.
type regime struct {
	*policy.Policy
	mu    sync.Mutex
	known map[string]bool
}

// New makes a guard without a policy. verifier and open may be nil while there is none.
func New(v Verifier, c Content, open Open) *Guard {
	return &Guard{verifier: v, content: c, open: open, slots: make(chan struct{}, atOnce)}
}

// Enforce puts a policy in force, or none (nil). What is under way is judged by the one it began with.
func (g *Guard) Enforce(p *policy.Policy) {
	if p == nil {
		g.regime.Store(nil)
		return
	}
	g.regime.Store(&regime{Policy: p, known: map[string]bool{}})
}

// Use is an image that somebody wants to use.
type Use struct {
	Named  reference.Named // what it is used under; nil for an image without a name
	Target ocispec.Descriptor
	// Repo is asked for signatures; nil has the repository of the name opened for a stranger.
	Repo Repository
}

// Active tells whether there is a policy.
func (g *Guard) Active() bool { return g.regime.Load() != nil }

// Check tells whether a use is allowed, and gives the proofs that say so and are not kept yet. The error of a refusal is
// errdefs.ErrPermissionDenied.
func (g *Guard) Check(ctx context.Context, u Use) ([]*Proof, error) {
	r := g.regime.Load()
	if r == nil {
		return nil, nil
	}
	rule := r.rule(u.Named)
	if rule.Open() {
		return nil, nil
	}
	if rule.Closed() {
		return nil, refusal{r, rule, u, nil}.error()
	}
	if u.Named == nil {
		return nil, refusal{r, rule, u, []string{"the image has no name here that a signature could be for"}}.error()
	}
	key := u.Named.String() + " " + u.Target.Digest.String()
	// Who has a repository at hand brings the image: what is known then helps only if its proof is kept.
	if u.Repo == nil && r.has(key) {
		return nil, nil
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	kept := g.Kept(ctx, u.Target.Digest)
	if r.has(key) && (u.Repo == nil || len(kept) > 0) {
		return nil, nil
	}
	found, err := g.examine(ctx, rule, u, kept)
	if err == nil && found.satisfied {
		r.add(key)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	more, notes := g.more(ctx, u)
	found, err = g.examine(ctx, rule, u, append(kept, more...))
	if err != nil {
		return nil, err
	}
	if !found.satisfied {
		return nil, refusal{r, rule, u, append(found.why, notes...)}.error()
	}
	r.add(key)
	return found.good, nil
}

// Fresh tells whether a name may be given to an image that is about to be made: it has no signature yet.
func (g *Guard) Fresh(named reference.Named) error {
	r := g.regime.Load()
	if r == nil || named == nil {
		return nil
	}
	if rule := r.rule(named); !rule.Open() {
		return refusal{r, rule, Use{Named: named}, []string{"a new image has no signature"}}.error()
	}
	return nil
}

func (r *regime) rule(named reference.Named) policy.Rule {
	if named == nil {
		return r.Default()
	}
	return r.For(named)
}

func (r *regime) has(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[key]
}

func (r *regime) add(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[key] = true
}

// more asks the registry for signatures; notes say what was in the way.
func (g *Guard) more(ctx context.Context, u Use) (found []*Proof, notes []string) {
	patience := pullPatience
	repo := u.Repo
	if repo == nil {
		patience = elsePatience
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it did not answer within %s", patience))
	defer cancel()
	if repo == nil {
		var err error
		if repo, err = g.open(ctx, u.Named); err != nil {
			return nil, []string{"the registry cannot be asked for signatures: " + clip(err.Error())}
		}
		defer repo.Close()
	}
	found, notes, err := Find(ctx, repo, u.Target.Digest)
	if err != nil {
		return nil, []string{"the registry cannot be asked for signatures: " + clip(err.Error())}
	}
	return found, notes
}

// findings is what an examination found.
type findings struct {
	satisfied bool
	good      []*Proof // those that were needed
	why       []string // the others are not
}

// examine has proofs judged by each requirement of a rule.
func (g *Guard) examine(ctx context.Context, rule policy.Rule, u Use, proofs []*Proof) (f findings, err error) {
	seen := map[digest.Digest]bool{}
	var list []*Proof
	for _, p := range proofs {
		if !seen[p.Manifest.Digest] {
			seen[p.Manifest.Digest] = true
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return findings{why: []string{"there is no signature"}}, nil
	}
	f.satisfied = true
	for _, q := range rule.Requirements {
		if q.Kind != policy.Signed {
			continue
		}
		good, why, err := g.require(ctx, q, u, list)
		if err != nil {
			return f, fmt.Errorf("examining the signatures of %s: %w", u.Target.Digest, err)
		}
		if good == nil {
			f.satisfied = false
			f.why = append(f.why, why...)
			continue
		}
		f.good = append(f.good, good)
	}
	return f, nil
}

// require finds a proof that satisfies one requirement.
func (g *Guard) require(ctx context.Context, q policy.Requirement, u Use, proofs []*Proof) (good *Proof, why []string, err error) {
	var of []*Proof
	var signatures []program.Signature
	for _, p := range proofs {
		for _, s := range p.signatures {
			signatures = append(signatures, s)
			of = append(of, p)
		}
	}
	answer, err := g.verifier.Verify(ctx, q.Question(u.Target.Digest.String(), signatures))
	if err != nil {
		return nil, nil, err
	}
	for i, v := range answer.Verdicts {
		err := q.Satisfied(u.Named, v)
		if err == nil {
			return of[i], nil, nil
		}
		why = append(why, fmt.Sprintf("the signature %s: %s", short(of[i].Manifest.Digest), clip(err.Error())))
	}
	return nil, why, nil
}

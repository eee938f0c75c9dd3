// Package access says who asks and what he may do with a repository.
//
//	Authorization ── Guard.Identify ──► Identity ── May(repository, action) ──► yes or no
//
// A user is known by a password (htpasswd with bcrypt) or by a token, of this registry's own issuer (issuer.go) or of
// another one (tokens.go). A password's rights are the rules'; a token carries its rights.
package access

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// Action is what somebody wants to do.
type Action string

// The actions. Catalog is the list of all repositories, of which everybody sees what he may pull.
const (
	Pull   Action = "pull"
	Push   Action = "push"
	Delete Action = "delete"
)

// ParseAction reads an action.
func ParseAction(s string) (Action, error) {
	if a := Action(s); a == Pull || a == Push || a == Delete {
		return a, nil
	}
	return "", fmt.Errorf("%q is no right: pull, push and delete are", s)
}

// Names with a meaning in a rule's users.
const (
	Everybody = "anonymous" // with or without a name
	AnyUser   = "*"         // with a name
)

// Rule gives rights.
type Rule struct {
	Repositories  []naming.Pattern
	Users, Groups []string
	Allow         []Action
}

// Rights are all rules together. Without a rule every user may do everything.
type Rights struct {
	Rules     []Rule
	Groups    map[string][]string // group → users
	Anonymous bool                // everybody may pull everything
}

// May tells whether a user may do something; the empty name is nobody in particular.
func (r *Rights) May(user, repository string, a Action) bool {
	if r.Anonymous && a == Pull {
		return true
	}
	if len(r.Rules) == 0 {
		return user != ""
	}
	for _, rule := range r.Rules {
		if slices.Contains(rule.Allow, a) && r.means(rule, user) && slices.ContainsFunc(rule.Repositories, func(p naming.Pattern) bool { return p.Match(repository) }) {
			return true
		}
	}
	return false
}

func (r *Rights) means(rule Rule, user string) bool {
	if slices.Contains(rule.Users, Everybody) {
		return true
	}
	if user == "" {
		return false
	}
	if slices.Contains(rule.Users, AnyUser) || slices.Contains(rule.Users, user) {
		return true
	}
	return slices.ContainsFunc(rule.Groups, func(g string) bool { return slices.Contains(r.Groups[g], user) })
}

// Identity is who asks.
type Identity struct {
	Name string // empty: nobody in particular
	may  func(repository string, a Action) bool
	sees func(repository string) bool // which repositories are listed for him; nil: those that he may pull
	// wider tells that other credentials of the same user could allow more: he has a token for something else.
	wider bool
}

// May tells whether he may do something.
func (i Identity) May(repository string, a Action) bool { return i.may(repository, a) }

// Sees tells whether a repository is listed for him.
func (i Identity) Sees(repository string) bool {
	if i.sees != nil {
		return i.sees(repository)
	}
	return i.may(repository, Pull)
}

// Guard knows users. Its zero value lets everybody do everything.
type Guard struct {
	Realm     string     // what a client asks the password for
	Passwords *Passwords // nil: none
	Tokens    *Verifier  // nil: none
	Issuer    *Issuer    // nil: none of its own
	Rights    Rights
}

// Open tells that nobody has to say who he is.
func (g *Guard) Open() bool { return g.Passwords == nil && g.Tokens == nil }

// Identify tells who asks. Credentials that are wrong are refused; none are nobody's.
func (g *Guard) Identify(r *http.Request) (Identity, error) {
	if g.Open() {
		return Identity{may: func(string, Action) bool { return true }}, nil
	}
	header := r.Header.Get("Authorization")
	scheme, rest, _ := strings.Cut(header, " ")
	switch {
	case header == "":
		return g.user(""), nil
	case strings.EqualFold(scheme, "basic") && g.Passwords != nil:
		name, password, ok := r.BasicAuth()
		if !ok || !g.Passwords.Check(r.Context(), name, password) {
			return Identity{}, g.refuse(r, "", "", refusal.Unauthorized.New("the user name or the password is wrong"))
		}
		return g.user(name), nil
	case strings.EqualFold(scheme, "bearer") && g.Tokens != nil:
		id, err := g.Tokens.Verify(strings.TrimSpace(rest))
		if err != nil {
			return id, g.refuse(r, "", "invalid_token", refusal.Unauthorized.New("the token is not accepted: %w", err))
		}
		if g.Issuer != nil { // the user is ours, and what he may see is known
			id.sees = func(repo string) bool { return g.Rights.May(id.Name, repo, Pull) }
		}
		return id, nil
	}
	return Identity{}, g.refuse(r, "", "", refusal.Unauthorized.New("this registry does not know the authorization scheme %q", scheme))
}

func (g *Guard) user(name string) Identity {
	return Identity{Name: name, may: func(repo string, a Action) bool { return g.Rights.May(name, repo, a) }}
}

// Admit refuses what an identity may not do.
func (g *Guard) Admit(r *http.Request, id Identity, repository string, actions ...Action) error {
	for _, a := range actions {
		if id.May(repository, a) {
			continue
		}
		scope := "repository:" + repository + ":" + join(actions)
		switch {
		case id.Name == "" && !id.wider:
			return g.refuse(r, scope, "", refusal.Unauthorized.New("to %s %s one has to log in", a, repository))
		case id.wider:
			return g.refuse(r, scope, "insufficient_scope", refusal.Unauthorized.New("the token does not allow to %s %s", a, repository))
		}
		return refusal.Denied.New("%s may not %s %s", id.Name, a, repository)
	}
	return nil
}

// AdmitUser refuses who has not said who he is, where that can be said.
func (g *Guard) AdmitUser(r *http.Request, id Identity) error {
	if g.Open() || id.Name != "" || id.wider {
		return nil
	}
	return g.refuse(r, "", "", refusal.Unauthorized.New("authentication required"))
}

// refuse adds how to say who one is: a token where tokens are known, else a password.
func (g *Guard) refuse(r *http.Request, scope, why string, err *refusal.Error) error {
	if g.Tokens == nil {
		err.Challenge = fmt.Sprintf("Basic realm=%q", g.Realm)
		return err
	}
	err.Challenge = fmt.Sprintf("Bearer realm=%q,service=%q", g.tokenRealm(r), g.Tokens.Service)
	if scope != "" {
		err.Challenge += fmt.Sprintf(",scope=%q", scope)
	}
	if why != "" {
		err.Challenge += fmt.Sprintf(",error=%q", why)
	}
	return err
}

// tokenRealm is where tokens are to be had: as configured, or here under the name that the client used.
func (g *Guard) tokenRealm(r *http.Request) string {
	if g.Tokens.Realm != "" {
		return g.Tokens.Realm
	}
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host + "/token"
}

func join(actions []Action) string {
	words := make([]string, len(actions))
	for i, a := range actions {
		words[i] = string(a)
	}
	return strings.Join(words, ",")
}

// Check refuses rules that cannot be meant.
func (r *Rights) Check() error {
	var errs []error
	for i, rule := range r.Rules {
		if len(rule.Repositories) == 0 || len(rule.Allow) == 0 || len(rule.Users)+len(rule.Groups) == 0 {
			errs = append(errs, fmt.Errorf("rule %d of the rights needs repositories, users or groups, and what is allowed", i+1))
		}
		for _, p := range rule.Repositories {
			if err := p.Check(); err != nil {
				errs = append(errs, fmt.Errorf("rule %d of the rights: the pattern %q: %w", i+1, p, err))
			}
		}
		for _, g := range rule.Groups {
			if _, ok := r.Groups[g]; !ok {
				errs = append(errs, fmt.Errorf("rule %d of the rights: there is no group %q", i+1, g))
			}
		}
	}
	return errors.Join(errs...)
}

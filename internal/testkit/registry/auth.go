package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Auth is what the registry wants to see before it answers. The zero value wants nothing.
type Auth struct {
	Scheme    string // "basic", or "bearer" with a token of /token
	User      string
	Password  string
	Identity  string // an identity token that does in the place of user and password; whoever asks for one gets it
	Anonymous bool   // strangers get tokens to pull with
	GetOnly   bool   // the token endpoint has no POST
}

// Service is what the token endpoint knows the registry as.
const Service = "registry.test"

// Require sets what clients have to show from now on.
func (r *Registry) Require(a Auth) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = a
}

// Expire makes all tokens void that were given out.
func (r *Registry) Expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.tokens)
}

// needed is the scope that a request needs.
func needed(req *http.Request) string {
	for _, re := range []interface{ FindStringSubmatch(string) []string }{manifestPath, blobPath, uploadPath, tagsPath, referrersPath} {
		if m := re.FindStringSubmatch(req.URL.Path); m != nil {
			action := ":pull"
			if req.Method != http.MethodGet && req.Method != http.MethodHead || len(m) == 3 && uploadPath.MatchString(req.URL.Path) {
				action = ":push"
			}
			return "repository:" + m[1] + action
		}
	}
	return ""
}

// may tells whether a request comes with what gives it a scope; "" is any.
func (r *Registry) may(req *http.Request, scope string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.auth.Scheme {
	case "":
		return true
	case "basic":
		user, password, ok := req.BasicAuth()
		return ok && user == r.auth.User && password == r.auth.Password
	}
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	scopes, ok := r.tokens[token]
	return ok && (scope == "" || slices.Contains(scopes, scope))
}

// allowed refuses a request that does not show what is required.
func (r *Registry) allowed(a *answer) bool {
	scope := needed(a.req)
	if r.may(a.req, scope) {
		return true
	}
	r.mu.Lock()
	scheme := r.auth.Scheme
	r.mu.Unlock()
	challenge := `Basic realm="test"`
	if scheme == "bearer" {
		challenge = fmt.Sprintf(`Bearer realm="%s/token",service="%s"`, r.URL, Service)
		if scope != "" {
			challenge += fmt.Sprintf(`,scope="%s"`, scope)
		}
		if a.req.Header.Get("Authorization") != "" {
			challenge += `,error="invalid_token"`
		}
	}
	a.Header().Set("Www-Authenticate", challenge)
	a.refuse(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// serveToken gives a token for what is asked: with GET and basic authorization, or with POST as OAuth 2 has it.
func (r *Registry) serveToken(a *answer) {
	_ = a.req.ParseForm()
	form := a.req.Form
	r.mu.Lock()
	a.entry.Form = form
	auth := r.auth
	r.mu.Unlock()

	var known, stranger, offline bool
	switch {
	case a.req.Method == http.MethodPost && !auth.GetOnly:
		offline = form.Get("access_type") == "offline"
		if form.Get("grant_type") == "refresh_token" {
			known = auth.Identity != "" && form.Get("refresh_token") == auth.Identity
		} else {
			known = form.Get("grant_type") == "password" && form.Get("username") == auth.User && form.Get("password") == auth.Password
		}
	case a.req.Method == http.MethodGet:
		offline = form.Get("offline_token") == "true"
		user, password, ok := a.req.BasicAuth()
		known = ok && user == auth.User && password == auth.Password
		stranger = !ok && auth.Anonymous
	default:
		a.refuse(http.StatusNotFound, "UNSUPPORTED", "the operation is unsupported")
		return
	}
	if !known && !stranger || form.Get("service") != Service {
		a.refuse(http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	var granted []string
	for _, scope := range strings.Fields(strings.Join(form["scope"], " ")) {
		i := strings.LastIndex(scope, ":")
		for _, action := range strings.Split(scope[i+1:], ",") {
			if known || action == "pull" {
				granted = append(granted, scope[:i]+":"+action)
			}
		}
	}
	r.mu.Lock()
	r.made++
	token := fmt.Sprintf("token-%d", r.made)
	r.tokens[token] = granted
	r.mu.Unlock()
	out := map[string]any{"token": token, "access_token": token, "expires_in": 300}
	if offline && auth.Identity != "" {
		out["refresh_token"] = auth.Identity
	}
	body, _ := json.Marshal(out)
	a.Header().Set("Content-Type", "application/json")
	a.send(http.StatusOK, body)
}

package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/image"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// accepted are the types of manifests that are asked for.
var accepted = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// remote is a registry as the command line sees it: without an engine, by its URL.
type remote struct {
	base  url.URL
	http  *http.Client
	auth  registry.AuthConfig
	token string // Authorization header, once the registry has said what it wants
}

// place is a registry, and what is below it.
type place struct {
	host, repo, reference string // reference is :tag, @digest or empty
	scheme                string
}

// parsePlace reads HOST[:PORT][/REPOSITORY[:TAG|@DIGEST]], with or without a scheme.
func parsePlace(s string) (p place, err error) {
	rest := s
	for _, scheme := range []string{"https", "http"} {
		if r, ok := strings.CutPrefix(rest, scheme+"://"); ok {
			p.scheme, rest = scheme, r
		}
	}
	p.host, p.repo, _ = strings.Cut(strings.TrimRight(rest, "/"), "/")
	if p.host == "" || p.scheme == "" && !strings.ContainsAny(p.host, ".:") && p.host != "localhost" {
		return p, fmt.Errorf("%q names no registry: a host comes first, as in registry.example.com/team/app", s)
	}
	if at := strings.IndexByte(p.repo, '@'); at >= 0 {
		p.repo, p.reference = p.repo[:at], p.repo[at:]
	} else if at := strings.LastIndexByte(p.repo, ':'); at >= 0 {
		p.repo, p.reference = p.repo[:at], p.repo[at:]
	}
	return p, nil
}

// dial finds out how a registry is spoken to, and who we are there.
func dial(ctx context.Context, a *app.App, p place, insecure bool) (*remote, error) {
	auth, err := image.Credential(a, p.host)
	if err != nil {
		return nil, err
	}
	return reach(ctx, p, insecure, auth)
}

// reach is dial with credentials that are at hand.
func reach(ctx context.Context, p place, insecure bool, auth registry.AuthConfig) (r *remote, err error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if insecure {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for by the user
	}
	r = &remote{http: &http.Client{Transport: t, Timeout: time.Minute}, auth: auth}
	schemes := []string{"https"}
	if p.scheme != "" {
		schemes = []string{p.scheme}
	} else if insecure || local(p.host) {
		schemes = append(schemes, "http")
	}
	for _, s := range schemes {
		r.base = url.URL{Scheme: s, Host: p.host}
		if err = r.ping(ctx); err == nil {
			return r, nil
		}
	}
	return nil, err
}

// local tells whether a host is this machine: it may speak plain HTTP.
func local(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func (r *remote) ping(ctx context.Context) error {
	resp, err := r.send(ctx, http.MethodGet, "/v2/", nil, "")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// send asks, and asks again with what the registry wants to see. An answer that is no success is an error.
func (r *remote) send(ctx context.Context, method, path string, q url.Values, scope string) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		u := r.base
		u.Path, u.RawQuery = path, q.Encode()
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", accepted)
		if r.token != "" {
			req.Header.Set("Authorization", r.token)
		}
		resp, err := r.http.Do(req)
		if err != nil {
			return nil, fmt.Errorf("asking the registry: %w", err)
		}
		if resp.StatusCode == http.StatusUnauthorized && attempt == 0 {
			challenge := resp.Header.Get("Www-Authenticate")
			_ = resp.Body.Close()
			if err := r.answer(ctx, challenge, scope); err != nil {
				return nil, err
			}
			continue
		}
		if resp.StatusCode >= http.StatusMultipleChoices {
			defer resp.Body.Close()
			return nil, refused(resp)
		}
		return resp, nil
	}
}

// refusal is what a registry said no with.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refused(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var body struct {
		Errors []struct{ Code, Message string }
	}
	f := &refusal{resp.StatusCode, fmt.Sprintf("%s answered %s to %s %s", resp.Request.URL.Host, resp.Status, resp.Request.Method, resp.Request.URL.Path)}
	if json.Unmarshal(b, &body) == nil && len(body.Errors) > 0 {
		f.text = printable(strings.ToLower(strings.ReplaceAll(body.Errors[0].Code, "_", " ")) + ": " + body.Errors[0].Message)
	}
	return f
}

// printable keeps a registry's words from moving the terminal's cursor.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
}

// answer finds out what a challenge wants: the password itself, or a token that is had for it.
func (r *remote) answer(ctx context.Context, challenge, scope string) error {
	scheme, rest, _ := strings.Cut(challenge, " ")
	switch {
	case strings.EqualFold(scheme, "basic"):
		if r.auth.Username == "" {
			return fmt.Errorf("%s wants a password: 'login %s' stores one", r.base.Host, r.base.Host)
		}
		req := &http.Request{Header: http.Header{}}
		req.SetBasicAuth(r.auth.Username, r.auth.Password)
		r.token = req.Header.Get("Authorization")
		return nil
	case strings.EqualFold(scheme, "bearer"):
		if r.auth.RegistryToken != "" {
			r.token = "Bearer " + r.auth.RegistryToken
			return nil
		}
		return r.fetchToken(ctx, parameters(rest), scope)
	}
	return fmt.Errorf("%s wants an authorization that is not known here: %q", r.base.Host, printable(challenge))
}

// parameters reads key="value" pairs.
func parameters(s string) map[string]string {
	p := map[string]string{}
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		value := ""
		if strings.HasPrefix(rest, `"`) {
			value, rest, _ = strings.Cut(rest[1:], `"`)
			rest = strings.TrimPrefix(strings.TrimSpace(rest), ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		p[strings.ToLower(strings.TrimSpace(key))] = value
		s = strings.TrimSpace(rest)
	}
	return p
}

func (r *remote) fetchToken(ctx context.Context, p map[string]string, scope string) error {
	realm, err := url.Parse(p["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "http" && realm.Scheme != "https" {
		return fmt.Errorf("%s says that tokens are to be had at %q, which is no URL", r.base.Host, printable(p["realm"]))
	}
	if realm.Scheme == "http" && r.base.Scheme == "https" {
		return fmt.Errorf("%s wants the password to be sent to %s, without TLS: refused", r.base.Host, realm.Host)
	}
	q := realm.Query()
	q.Set("service", p["service"])
	if s := p["scope"]; s != "" {
		q.Set("scope", s)
	} else if scope != "" {
		q.Set("scope", scope)
	}
	var req *http.Request
	if r.auth.IdentityToken != "" {
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", r.auth.IdentityToken)
		q.Set("client_id", "gantry")
		if req, err = http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(q.Encode())); err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else {
		realm.RawQuery = q.Encode()
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
		if err == nil && r.auth.Username != "" {
			req.SetBasicAuth(r.auth.Username, r.auth.Password)
		}
	}
	if err != nil {
		return err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking for a token: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	var out struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return fmt.Errorf("the token of %s cannot be read: %w", realm.Host, err)
	}
	if out.Token == "" {
		out.Token = out.AccessToken
	}
	if out.Token == "" {
		return fmt.Errorf("%s gave no token", realm.Host)
	}
	r.token = "Bearer " + out.Token
	return nil
}

// pages walks a list to its end, page by page.
func (r *remote) pages(ctx context.Context, path, scope string, page any, each func() int) error {
	q := url.Values{"n": {"1000"}}
	for {
		resp, err := r.send(ctx, http.MethodGet, path, q, scope)
		if err != nil {
			return err
		}
		err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(page)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("%s answered %s with no list: %w", r.base.Host, path, err)
		}
		n := each()
		next, ok := nextPage(resp)
		if !ok || n == 0 {
			return nil
		}
		if next.Encode() == q.Encode() {
			return errors.New("the registry's list goes in circles")
		}
		q = next
	}
}

// nextPage is the query with which a list goes on (RFC 5988).
func nextPage(resp *http.Response) (url.Values, bool) {
	target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(resp.Header.Get("Link")), "<"), ">")
	if !ok || !strings.Contains(rest, "next") {
		return nil, false
	}
	u, err := resp.Request.URL.Parse(target)
	if err != nil {
		return nil, false
	}
	return u.Query(), true
}

package registry

import (
	"net/http"
	"net/url"
	"testing"
)

func TestParsePlace(t *testing.T) {
	for in, want := range map[string]place{
		"localhost:5000":                {host: "localhost:5000"},
		"http://reg.example.com/":       {host: "reg.example.com", scheme: "http"},
		"https://r:1/team/app:v1":       {host: "r:1", repo: "team/app", reference: ":v1", scheme: "https"},
		"r.example.com/app@sha256:abcd": {host: "r.example.com", repo: "app", reference: "@sha256:abcd"},
	} {
		if got, err := parsePlace(in); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "app", "team/app:1", "https://"} {
		if got, err := parsePlace(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func TestParameters(t *testing.T) {
	got := parameters(`realm="https://a/token?x=1,2", service=svc,scope="repository:a:pull,push"`)
	if got["realm"] != "https://a/token?x=1,2" || got["service"] != "svc" || got["scope"] != "repository:a:pull,push" || len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// A password goes nowhere without TLS that a registry with TLS names.
func TestTokenRealmKeepsTLS(t *testing.T) {
	r := &remote{base: url.URL{Scheme: "https", Host: "r"}, http: http.DefaultClient}
	for _, realm := range []string{"http://other/token", "ftp://x", "token"} {
		if err := r.fetchToken(t.Context(), map[string]string{"realm": realm}, ""); err == nil {
			t.Errorf("%s was taken", realm)
		}
	}
}

func TestNextPage(t *testing.T) {
	u, _ := url.Parse("http://r/v2/_catalog?n=1")
	resp := &http.Response{Header: http.Header{"Link": {`</v2/_catalog?n=1&last=a%2Fb>; rel="next"`}}, Request: &http.Request{URL: u}}
	if q, ok := nextPage(resp); !ok || q.Get("last") != "a/b" {
		t.Errorf("%v %v", q, ok)
	}
	resp.Header = http.Header{}
	if _, ok := nextPage(resp); ok {
		t.Error("a last page has a next one")
	}
}

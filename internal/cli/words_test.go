package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

// What is wrong with a command line is told in docker's words, before an engine is asked.
func TestWrongInput(t *testing.T) {
	const sum = "@sha256:4618bb940eb47ac6667417fd45b799ea8c9f3b0f9e7be08352ddd5d8b853702b"
	for line, want := range map[string]string{
		"push a" + sum:                       "cannot push a digest reference\n",
		"push -a a:1":                        "tag can't be used with --all-tags/-a\n",
		"pull -a a:1":                        "tag can't be used with --all-tags/-a\n",
		"push --platform x/y/z/w a":          `invalid platform "x/y/z/w"`,
		"tag Bad b":                          `Error parsing reference: "Bad" is not a valid repository/tag: invalid reference format: repository name (library/Bad) must be lowercase` + "\n",
		"tag a Bad":                          `Error parsing reference: "Bad" is not a valid repository/tag: invalid reference format: repository name (library/Bad) must be lowercase` + "\n",
		"tag a b" + sum:                      "refusing to create a tag with a digest reference\n",
		"login --password-stdin":             "the --password-stdin option requires --username to be set\n",
		"login -u a -p b --password-stdin":   "conflicting options: cannot specify both --password and --password-stdin\n",
		"images --tree --digests --no-trunc": "--no-trunc is not yet supported with --tree\n",
	} {
		out, errs, status := invoke(t, "unix:///nowhere", strings.Fields(line)...)
		if status != 1 || out != "" || !strings.HasPrefix(errs, want) {
			t.Errorf("%s: status %d, %q, %q, want %q", line, status, out, errs, want)
		}
	}
	// An ID is no name, and a flag of older scripts is no mistake: these go on to the engine.
	for _, line := range []string{"tag " + strings.Repeat("0a", 32) + " b", "tag sha256:" + strings.Repeat("0a", 32) + " b", "pull -q --disable-content-trust a", "push -q --disable-content-trust=false a"} {
		if _, errs, _ := invoke(t, "unix:///nowhere", strings.Fields(line)...); !strings.Contains(errs, "does not exist") {
			t.Errorf("%s: %s", line, errs)
		}
	}
}

// Logging out says the same whether or not there was a login, and asks the helper of that registry.
func TestLogout(t *testing.T) {
	bin, told := t.TempDir(), filepath.Join(t.TempDir(), "told")
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-box"), []byte("#!/bin/sh\nread server\necho $1 $server >>"+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for config, helped := range map[string]bool{
		`{}`: false, `{"auths":{"reg.test":{"auth":"YTpi"}}}`: false, `{"credHelpers":{"reg.test":"box"}}`: true, `{"credsStore":"box"}`: true, `{"credHelpers":{"other.test":"box"}}`: false,
	} {
		_ = os.Remove(told)
		out, errs, status := configured(t, config, "unix:///nowhere", "logout", "reg.test")
		if out != "Removing login credentials for reg.test\n" || errs != "" || status != 0 {
			t.Errorf("%s: status %d, %q, %q", config, status, out, errs)
		}
		if b, _ := os.ReadFile(told); (string(b) == "erase reg.test\n") != helped {
			t.Errorf("%s: the helper was told %q", config, b)
		}
	}
}

// In JSON a result of a search says whether it is official, in a table it is marked.
func TestSearchFormats(t *testing.T) {
	host := serve(t, &engine{answers: map[string]string{"GET /images/search": `[{"name":"a","star_count":3,"is_official":true},{"name":"b"}]`}})
	for format, want := range map[string]string{
		"json":                            `{"Description":"","IsOfficial":"true","Name":"a","StarCount":"3"}` + "\n" + `{"Description":"","IsOfficial":"false","Name":"b","StarCount":"0"}` + "\n",
		"{{.Name}} {{.IsOfficial}}":       "a [OK]\nb \n",
		"table {{.Name}}\t{{.StarCount}}": "NAME      STARS\na         3\nb         0\n",
	} {
		if out, errs, _ := invoke(t, host, "search", "--format", format, "a"); out != want || errs != "" {
			t.Errorf("%s: %q %s, want %q", format, out, errs, want)
		}
	}
}

// Without an engine the client shows the credentials to the registry itself; wrong ones are not kept.
func TestLoginWithoutAnEngine(t *testing.T) {
	for _, scheme := range []string{"basic", "bearer"} {
		reg := fake.New(t)
		reg.Require(fake.Auth{Scheme: scheme, User: "ann", Password: "secret"})
		dir := t.TempDir()
		login := func(password string) (string, string, int) {
			return invoke(t, "unix:///nowhere", "--config", dir, "login", "-u", "ann", "-p", password, reg.Host)
		}
		if out, errs, status := login("wrong"); status != 1 || out != "" || !strings.Contains(errs, "no engine answers, and logging in without one failed: unauthorized: ") {
			t.Errorf("%s, a wrong password: status %d, %q, %q", scheme, status, out, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, "config.json")); err == nil {
			t.Errorf("%s: a wrong password was kept", scheme)
		}
		if out, errs, status := login("secret"); status != 0 || out != "Login Succeeded\n" {
			t.Errorf("%s: status %d, %q, %q", scheme, status, out, errs)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "config.json")); !strings.Contains(string(b), reg.Host) || !strings.Contains(string(b), "YW5uOnNlY3JldA==") {
			t.Errorf("%s: the configuration is %s", scheme, b)
		}
	}
}

package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Keys, signatures and policies at the command line: what is made, what is said, what is refused.
func TestCommandLine(t *testing.T) {
	l := newLab(t)
	name, digest := l.made("prod/app:1")
	prefix := filepath.Join(l.dir, "made")
	private, public := prefix+".key", prefix+".pub"
	l.fails(l.ci, []string{"a password for the private key is needed"}, "image", "keygen", prefix)
	t.Setenv("GANTRY_KEY_PASSWORD", "secret")
	if out := l.must(l.ci, "image", "keygen", prefix); !strings.Contains(out, public) {
		t.Errorf("keygen says %s", out)
	}
	l.fails(l.ci, []string{private + " exists"}, "image", "keygen", prefix)
	if st, err := os.Stat(private); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", st.Mode(), err)
	}
	if b, err := os.ReadFile(private); err != nil || !strings.Contains(string(b), "BEGIN ENCRYPTED SIGSTORE PRIVATE KEY") {
		t.Errorf("the private key is %s, %v", b, err)
	}

	l.fails(l.ci, []string{"a private key is needed"}, "image", "sign", name)
	l.fails(l.ci, []string{"this is a public key: the private one signs"}, "image", "sign", "--key", public, name)
	l.fails(l.ci, []string{"no such file"}, "image", "sign", "--key", prefix, name)
	l.fails(l.ci, []string{"not found"}, "image", "sign", "--key", private, name+"x")
	l.fails(l.ci, []string{"No such image"}, "image", "sign", "--local", "--key", private, name)
	l.fails(l.ci, []string{"--as NAME"}, "image", "sign", "--local", "--key", private, l.ci.Must(t, "image", "inspect", "-f", "{{.Id}}", "bb"))
	t.Setenv("GANTRY_KEY_PASSWORD", "wrong")
	l.fails(l.ci, []string{"is the password right?"}, "image", "sign", "--key", private, name)
	t.Setenv("GANTRY_KEY_PASSWORD", "")
	l.fails(l.ci, []string{private + " is encrypted: its password is needed in the variable GANTRY_KEY_PASSWORD"}, "image", "sign", "--key", private, name)
	t.Setenv("COSIGN_PASSWORD", "secret")
	l.fails(l.ci, []string{"has no signature"}, "image", "verify", "--key", public, name)
	if out := l.must(l.ci, "image", "sign", "--key", private, name); !strings.Contains(out, "Signed "+digest+"\n  as "+name) {
		t.Errorf("sign says %s", out)
	}

	if out := l.must(l.ci, "image", "verify", "--key", l.key.public, "--key", public, name); !strings.Contains(out, "is signed as "+name) || !strings.Contains(out, "(at the registry)") {
		t.Errorf("verify says %s", out)
	}
	if out := l.must(l.ci, "image", "verify", "-q", "--key", public, name); out != "" {
		t.Errorf("verify -q says %s", out)
	}
	l.fails(l.ci, []string{"has no signature by these keys", "it is not by the key"}, "image", "verify", "--key", l.key.public, name)
	l.fails(l.ci, []string{"either --key FILE or --policy FILE"}, "image", "verify", name)

	l.write(`"default": [{"type": "reject"}], "transports": {"docker": {"` + l.reg.Host + `/prod": [` + signed(pair{public: public}) + `]}, "docker-daemon": {"": [{"type": "reject"}]}}`)
	if out := l.must(l.ci, "image", "verify", "--policy", l.policy, name); !strings.Contains(out, "is allowed: the rule for") {
		t.Errorf("verify says %s", out)
	}
	l.fails(l.ci, []string{`is refused: the rule for "default" allows no image`}, "image", "verify", "--local", "--policy", l.policy, "bb")
	if out := l.must(l.ci, "image", "policy", "check", l.policy); !strings.Contains(out, "2 rules, no mistakes") {
		t.Errorf("check says %s", out)
	}
	if out := l.must(l.ci, "image", "policy", "show", l.policy, name); !strings.Contains(out, l.reg.Host+"/prod") || strings.Contains(out, "default") {
		t.Errorf("show says %s", out)
	}
	if out := l.must(l.ci, "image", "policy", "show", "--json", l.policy); !strings.Contains(out, `"Identity": "matchRepoDigestOrExact"`) {
		t.Errorf("show --json says %s", out)
	}
}

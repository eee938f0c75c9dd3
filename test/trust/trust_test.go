package trust

import (
	"strings"
	"testing"
)

// An image that is signed is pulled and run; one that is not is refused before any of its layers comes.
func TestSignedAndNot(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	name, digest := l.push("prod/app:1")
	bad, badDigest := l.push("prod/bad:1")
	l.sign(l.key, name)
	l.enforce(map[string]string{"/prod": signed(l.key)})
	l.must(l.prod, "pull", name)
	if got := l.prod.Must(t, "run", "--rm", name, "cat", "/name"); got != name {
		t.Errorf("the image says %s", got)
	}
	l.fails(l.prod, []string{bad + " (" + badDigest + ") is refused by the image policy " + l.policy, `the rule for "` + l.reg.Host + `/prod" demands a signature by the key ` + l.key.public,
		"Found: there is no signature", "gantry image sign"}, "pull", bad)
	l.fails(l.prod, []string{"is refused by the image policy"}, "run", "--rm", bad, "true")
	l.nothing("prod/bad")
	if n := l.reg.Requests("GET", "/v2/prod/bad/blobs/"); len(n) > 0 {
		t.Errorf("%d blobs of a refused image were fetched", len(n))
	}
	l.must(l.prod, "pull", l.reg.Host+"/prod/app@"+digest)
	l.must(l.prod, "system", "fsck")
	if out := l.must(l.ci, "image", "verify", "--key", l.key.public, name); !strings.Contains(out, digest) || !strings.Contains(out, name) {
		t.Errorf("verify says %s", out)
	}
}

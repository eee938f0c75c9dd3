package names

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestWhatIsMadeIsGood(t *testing.T) {
	seen := map[string]bool{}
	for attempt := range 5 {
		id, name := NewID(), Random(attempt)
		if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || seen[id] {
			t.Errorf("ID %q", id)
		}
		seen[id] = true
		if err := Check(name); err != nil {
			t.Error(err)
		}
		if digits := strings.ContainsAny(name, "0123456789"); digits != (attempt >= 3) {
			t.Errorf("attempt %d: %s", attempt, name)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, good := range map[string]bool{"web": true, "a.b-c_1": true, "1a": true, "": false, "a": false, "-a": false, "a b": false, "/web": false} {
		if err := Check(name); (err == nil) != good || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

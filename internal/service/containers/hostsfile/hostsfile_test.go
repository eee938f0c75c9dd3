package hostsfile

import "testing"

func TestReplace(t *testing.T) {
	const base = "127.0.0.1\tlocalhost\n"
	for _, c := range []struct {
		what, text, want string
		old, now         []string
	}{
		{"one more", base + "10.0.0.2\tweb\n", base + "10.0.0.2\tweb\n10.1.0.2\tweb\n", []string{"10.0.0.2\tweb"}, []string{"10.0.0.2\tweb", "10.1.0.2\tweb"}},
		{"one less", base + "10.0.0.2\tweb\n10.1.0.2\tweb\n", base + "10.1.0.2\tweb\n", []string{"10.0.0.2\tweb", "10.1.0.2\tweb"}, []string{"10.1.0.2\tweb"}},
		{"the user's lines stay", "10.0.0.2\tweb\n1.2.3.4\tmine\n", "10.1.0.2\tweb\n1.2.3.4\tmine\n", []string{"10.0.0.2\tweb"}, []string{"10.1.0.2\tweb"}},
		{"nothing was there", base, base + "10.1.0.2\tweb\n", nil, []string{"10.1.0.2\tweb"}},
		{"the user took it out", base, base, []string{"10.0.0.2\tweb"}, nil},
		{"an empty file", "", "10.1.0.2\tweb\n", nil, []string{"10.1.0.2\tweb"}},
		{"nothing is left", "10.1.0.2\tweb\n", "", []string{"10.1.0.2\tweb"}, nil},
	} {
		if got := Replace(c.text, c.old, c.now); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestReplaceNamed(t *testing.T) {
	const text = "127.0.0.1\tlocalhost\n10.0.0.2\tdb abc\n10.0.0.3\tother\n"
	if got, want := ReplaceNamed(text, []string{"10.0.0.9\tdb def"}), "127.0.0.1\tlocalhost\n10.0.0.9\tdb def\n10.0.0.3\tother\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := ReplaceNamed(text, []string{"10.0.0.9\tnobody"}); got != text {
		t.Errorf("a name that is not there: %q", got)
	}
}

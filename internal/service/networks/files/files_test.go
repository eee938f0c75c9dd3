package files

import (
	"net/netip"
	"slices"
	"testing"
)

func TestHosts(t *testing.T) {
	got, err := Hosts(HostsInput{
		Hostname: "web", Domainname: "example.org", Addresses: []netip.Addr{netip.MustParseAddr("172.17.0.2")},
		Extra: []string{"db:10.0.0.1", "up=host-gateway"}, Gateway: netip.MustParseAddr("172.17.0.1"), NoIPv6: true,
	})
	want := "127.0.0.1\tlocalhost\n10.0.0.1\tdb\n172.17.0.1\tup\n172.17.0.2\tweb.example.org web\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"x", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a\n1.1.1.1 b:1.2.3.4"} {
		if CheckExtraHost(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestResolv(t *testing.T) {
	r := ParseResolv([]byte("# x\nnameserver 127.0.0.53\nnameserver 10.0.0.9 # y\nnameserver ::1\nsearch a\nsearch b c\noptions ndots:2\n"))
	if u := Usable(r.Servers, false); !slices.Equal(u, []string{"10.0.0.9"}) {
		t.Errorf("usable: %v", u)
	}
	if u := Usable([]string{"127.0.0.1"}, false); len(u) != 2 {
		t.Errorf("no fall-back: %v", u)
	}
	if got := string(ResolvConf(r)); got != "nameserver 127.0.0.53\nnameserver 10.0.0.9\nnameserver ::1\nsearch b c\noptions ndots:2\n" {
		t.Errorf("%q", got)
	}
}

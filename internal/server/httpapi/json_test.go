package httpapi

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// A null in a list of objects is refused by its name; where null means "not given" it is taken.
func TestReadJSONNulls(t *testing.T) {
	for body, want := range map[string]string{
		`{"HostConfig":{"Ulimits":[null]}}`:                                                            "HostConfig.Ulimits[0] is null",
		`{"HostConfig":{"Ulimits":[{"Name":"nofile"},null]}}`:                                          "HostConfig.Ulimits[1] is null",
		`{"HostConfig":{"BlkioDeviceReadBps":[null]}}`:                                                 "HostConfig.BlkioDeviceReadBps[0] is null",
		`{"HostConfig":null,"NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}`:                   "",
		`{"HostConfig":{"Ulimits":null,"Mounts":[null],"Binds":[null],"LogConfig":null},"Cmd":[null]}`: "",
		`{"HostConfig":{"PortBindings":{"80/tcp":[null]},"PidsLimit":null,"Init":null}}`:               "",
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		var v container.CreateRequest
		err := ReadJSON(r, &v, false)
		if want == "" && err != nil || want != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
	nested := struct {
		A map[string][]*struct{ B []any }
	}{}
	if err := ReadJSON(httptest.NewRequest("POST", "/", strings.NewReader(`{"A":{"x":[{"B":[null]},{"B":null}],"y":[null]}}`)), &nested, false); err == nil || !strings.Contains(err.Error(), "A.y[0] is null") {
		t.Error(err)
	}
}

func BenchmarkReadJSON(b *testing.B) {
	body := `{"Image":"bb","Cmd":["true"],"Env":["A=b"],"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"PortBindings":{"80/tcp":[{"HostPort":"8080"}]}},"NetworkingConfig":{"EndpointsConfig":{"bridge":{}}}}`
	for b.Loop() {
		var v container.CreateRequest
		if err := ReadJSON(httptest.NewRequest("POST", "/", strings.NewReader(body)), &v, false); err != nil {
			b.Fatal(err)
		}
	}
}

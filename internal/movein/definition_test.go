package movein

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/dockerroot"
)

func fields(t *testing.T, s string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func defined(t *testing.T, c *dockerroot.Container, others ...*dockerroot.Container) (*definition, string) {
	t.Helper()
	d := &definition{c: c, containers: append(others, c), networks: []dockerroot.Network{{Name: "own", ID: strings.Repeat("e", 64)}}, body: map[string]any{}, host: map[string]any{}}
	for k, v := range c.Config {
		d.body[k] = v
	}
	for k, v := range c.HostConfig {
		d.host[k] = v
	}
	for _, f := range []func() error{d.others, d.volumes, d.endpoints} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	d.defaults()
	b, err := json.Marshal(map[string]any{"body": d.body, "host": d.host})
	if err != nil {
		t.Fatal(err)
	}
	return d, string(b)
}

// What refers to others by ID refers to them by name; volumes without a name are bound; what nobody chose is left out; what is not known comes along.
func TestDefinition(t *testing.T) {
	db := &dockerroot.Container{ID: strings.Repeat("d", 64), Name: "db"}
	c := &dockerroot.Container{ID: strings.Repeat("c", 64), Name: "web",
		Config: fields(t, `{"Hostname":"h","MacAddress":"02:00:00:00:00:01","Future":{"x":1}}`),
		HostConfig: fields(t, `{"NetworkMode":"`+strings.Repeat("e", 64)+`","IpcMode":"container:`+strings.Repeat("d", 64)+`","PidMode":"container:dddddddddddd","VolumesFrom":["dddddddddddddd:ro","other"],"Binds":["v:/told:ro","/host:/h"],
			"Mounts":[{"Type":"volume","Target":"/m"},{"Type":"tmpfs","Target":"/t"}],"Runtime":"runc","KernelMemory":5,"Future":1}`),
		Networks: map[string]json.RawMessage{"own": json.RawMessage(`{"IPAMConfig":{"IPv4Address":"10.1.0.5"},"Aliases":["a","cccccccccccc"],"IPAddress":"10.1.0.5","EndpointID":"x"}`), "bridge": json.RawMessage(`{"IPAMConfig":null,"Gateway":"g"}`)},
		Mounts: []dockerroot.Mount{{Type: "volume", Name: "anon", Destination: "/a", RW: true}, {Type: "volume", Name: "anon2", Destination: "/b"}, {Type: "volume", Name: "anon3", Destination: "/m", RW: true},
			{Type: "volume", Name: "v", Destination: "/told"}, {Type: "bind", Source: "/host", Destination: "/h"}},
	}
	d, got := defined(t, c, db)
	want := `{"body":{"Future":{"x":1},"Hostname":"h","NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:00:00:00:00:01"},"own":{"Aliases":["a"],"IPAMConfig":{"IPv4Address":"10.1.0.5"},"MacAddress":"02:00:00:00:00:01"}}}},` +
		`"host":{"Binds":["v:/told:ro","/host:/h","anon:/a","anon2:/b:ro"],"Future":1,"IpcMode":"container:db","Mounts":[{"Source":"anon3","Target":"/m","Type":"volume"},{"Target":"/t","Type":"tmpfs"}],"NetworkMode":"own","PidMode":"container:db","VolumesFrom":["db:ro","other"]}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(d.needs) != 1 || d.needs[0] != "own" {
		t.Errorf("needs %v", d.needs)
	}
	_, got = defined(t, &dockerroot.Container{ID: strings.Repeat("c", 64), Config: fields(t, `{}`), HostConfig: fields(t, `{"NetworkMode":"default","Runtime":"kata"}`), Networks: map[string]json.RawMessage{"bridge": json.RawMessage(`{}`)}})
	if got != `{"body":{},"host":{"NetworkMode":"default","Runtime":"kata"}}` {
		t.Errorf("a plain one: %s", got)
	}
	bad := &definition{c: &dockerroot.Container{ID: strings.Repeat("c", 64), Networks: map[string]json.RawMessage{"x": json.RawMessage(`[]`)}}, body: map[string]any{}, host: map[string]any{"Binds": json.RawMessage(`{}`), "VolumesFrom": json.RawMessage(`1`)}}
	for what, f := range map[string]func() error{"binds": bad.volumes, "volumes from": bad.others, "networks": bad.endpoints} {
		if f() == nil {
			t.Errorf("%s that are something else were taken", what)
		}
	}
}

func TestSameContainer(t *testing.T) {
	here := map[string]any{"Hostname": "h", "Cmd": []any{"a"}, "Env": nil, "Labels": map[string]any{}, "Tty": false, "Image": "x"}
	for body, want := range map[string]bool{`{"Hostname":"h","Cmd":["a"],"Env":[]}`: true, `{"Hostname":"h","Cmd":["a"],"Labels":null,"User":"","Image":"y"}`: true, `{"Hostname":"h","Cmd":["b"]}`: false, `{"Hostname":"i","Cmd":["a"]}`: false, `{"Hostname":"h","Cmd":["a"],"Tty":true}`: false} {
		asked := map[string]any{}
		for k, v := range fields(t, body) {
			asked[k] = v
		}
		if got := sameContainer(here, asked); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}

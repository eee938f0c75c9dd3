package features

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/config"
)

// inventory is every row that the page must have, in its order.
func inventory() ([]string, error) {
	var ids []string
	for _, read := range []func() ([]string, error){endpoints, commands, daemonFlags} {
		list, err := read()
		if err != nil {
			return nil, err
		}
		ids = append(ids, list...)
	}
	return ids, nil
}

func table(name string) ([][]string, error) {
	data, err := files.ReadFile("testdata/" + name)
	if err != nil {
		return nil, err
	}
	var out [][]string
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if i > 0 {
			out = append(out, append(strings.Split(line, "\t"), "", "", "", ""))
		}
	}
	return out, nil
}

// bodies are the requests whose fields are rows of their own.
var bodies = map[string][]any{
	"POST /containers/create":      {container.Config{}},
	"POST /containers/{id}/exec":   {container.ExecCreateRequest{}},
	"POST /exec/{id}/start":        {container.ExecStartRequest{}},
	"POST /containers/{id}/update": {container.UpdateConfig{}},
	"POST /volumes/create":         {volume.CreateRequest{}},
}

// endpoints are the API: "GET /path", its parameters "GET /path ?name", their
// filters "GET /path ?filters.name", and fields of bodies "POST /path .Name".
func endpoints() ([]string, error) {
	rows, err := table("endpoints.tsv")
	if err != nil {
		return nil, err
	}
	filters, err := table("filters.tsv")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range rows {
		id := f[1] + " " + f[2]
		ids = append(ids, id)
		for _, q := range strings.Split(f[3], ",") {
			switch q {
			case "":
			case "filters":
				for _, line := range filters {
					if line[0] == id {
						for _, name := range strings.Split(line[1], ",") {
							ids = append(ids, id+" ?filters."+name)
						}
					}
				}
			default:
				ids = append(ids, id+" ?"+q)
			}
		}
		for _, v := range bodies[id] {
			ids = append(ids, fields(id+" .", reflect.TypeOf(v))...)
		}
		if id == "POST /containers/create" {
			ids = append(ids, fields(id+" .HostConfig.", reflect.TypeFor[container.HostConfig]())...)
			ids = append(ids, fields(id+" .NetworkingConfig.EndpointsConfig.", reflect.TypeFor[network.EndpointSettings]())...)
		}
	}
	return ids, nil
}

// answers are fields that the engine fills in and requests share the type of.
var answers = []string{"NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames", "ContainerIDFile"}

// fields are the leaves of a JSON object: "Memory", "RestartPolicy.Name", "Mounts.Source".
func fields(prefix string, t reflect.Type) []string {
	var ids []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			ids = append(ids, fields(prefix, f.Type)...)
			continue
		}
		if name == "-" || !f.IsExported() || slices.Contains(answers, f.Name) {
			continue
		}
		name = cmp.Or(name, f.Name)
		ft := f.Type
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct && (strings.Contains(ft.PkgPath(), "/api/types/") || ft.Name() == "HealthcheckConfig") && ft.NumField() > 1 && !isText(ft) && hasJSON(ft) {
			ids = append(ids, fields(prefix+name+".", ft)...)
			continue
		}
		ids = append(ids, prefix+name)
	}
	return ids
}

func isText(t reflect.Type) bool {
	_, ok := reflect.PointerTo(t).MethodByName("UnmarshalText")
	return ok
}

// hasJSON tells whether an object's fields are rows of their own; lists of plain pairs are one option.
func hasJSON(t reflect.Type) bool {
	return !slices.Contains([]string{"WeightDevice", "ThrottleDevice", "DeviceRequest", "Ulimit", "ClusterVolumeSpec"}, t.Name())
}

// commands are the command line: "ps", "ps --all", global flags "--host". A command's
// shortest path names it.
func commands() ([]string, error) {
	rows, err := table("cli.tsv")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range rows {
		if shorter(f[0], f[4]) {
			continue
		}
		path, _ := strings.CutPrefix(f[0], "docker")
		path = strings.TrimSpace(path)
		if path != "" && !slices.Contains(ids, path) {
			ids = append(ids, path)
		}
		if f[1] != "" {
			ids = append(ids, strings.TrimSpace(path+" "+f[1]))
		}
	}
	return ids, nil
}

// shorter tells whether one of the aliases is the command's proper name.
func shorter(path, aliases string) bool {
	for a := range strings.SplitSeq(aliases, "|") {
		if a == "docker ps" || a == "docker images" {
			return path != a
		}
		if a != "" && len(strings.Fields(a)) < len(strings.Fields(path)) {
			return true
		}
	}
	return path == "docker container ls" || path == "docker image ls"
}

// daemonFlags are dockerd's flags and our own; keys of daemon.json without a flag by their key.
func daemonFlags() ([]string, error) {
	rows, err := table("dockerd.tsv")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range rows {
		ids = append(ids, "gantryd "+f[0])
	}
	for _, o := range config.Options {
		id := "gantryd --" + o.Flag
		if o.Flag == "" {
			id = "gantryd " + o.Key
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

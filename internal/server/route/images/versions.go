package images

import (
	"encoding/json"

	"github.com/moby/moby/api/types/image"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// What answers lose and gain by API version (version history of the Engine API):
// before 1.43 untagged images have <none> names, before 1.44 there is VirtualSize, before 1.45
// Container and ContainerConfig, before 1.48 no Descriptor, before 1.50 the configuration has the container's
// fields, before 1.52 empty fields are present.

func listFor(v string, list []image.Summary) any {
	if httpapi.VersionLess(v, "1.51") {
		for i := range list {
			list[i].Containers = -1 // it was not counted
		}
	}
	if !httpapi.VersionLess(v, "1.48") {
		return list
	}
	type withVirtual struct {
		image.Summary
		VirtualSize int64 `json:"VirtualSize"`
	}
	out := make([]withVirtual, 0, len(list))
	for _, s := range list {
		s.Descriptor = nil
		if httpapi.VersionLess(v, "1.43") && len(s.RepoTags) == 0 {
			s.RepoTags = []string{"<none>:<none>"}
			if len(s.RepoDigests) == 0 {
				s.RepoDigests = []string{"<none>@<none>"}
			}
		}
		out = append(out, withVirtual{s, s.Size})
	}
	if httpapi.VersionLess(v, "1.44") {
		return out
	}
	plain := make([]image.Summary, 0, len(out))
	for _, s := range out {
		plain = append(plain, s.Summary)
	}
	return plain
}

// inspectFor shapes an image as clients of version v expect it.
func inspectFor(v string, i *image.InspectResponse) (any, error) {
	if !httpapi.VersionLess(v, "1.52") {
		return i, nil
	}
	b, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	m["Size"] = i.Size // JSON numbers lose digits in a map
	for _, k := range []string{"Comment", "Author"} {
		setDefault(m, k, "")
	}
	for _, k := range []string{"Parent", "DockerVersion"} {
		m[k] = ""
	}
	setDefault(m, "GraphDriver", map[string]any{"Name": "overlayfs", "Data": nil})
	for field, since := range map[string]string{"Metadata": "1.31", "Descriptor": "1.48", "Manifests": "1.48", "Identity": "1.53"} {
		if httpapi.VersionLess(v, since) {
			delete(m, field)
		}
	}
	if config, ok := m["Config"].(map[string]any); ok {
		emptyConfig(config)
		if httpapi.VersionLess(v, "1.50") {
			legacyConfig(config)
		}
	}
	if httpapi.VersionLess(v, "1.45") {
		m["Container"] = ""
		empty := map[string]any{}
		emptyConfig(empty)
		legacyConfig(empty)
		m["ContainerConfig"] = empty
	}
	if httpapi.VersionLess(v, "1.44") {
		m["VirtualSize"] = i.Size
		setDefault(m, "Created", "0001-01-01T00:00:00Z")
	}
	return m, nil
}

func setDefault(m map[string]any, key string, value any) {
	if _, ok := m[key]; !ok {
		m[key] = value
	}
}

// emptyConfig adds the fields that were there even when they say nothing, up to 1.51.
func emptyConfig(c map[string]any) {
	for _, k := range []string{"User", "WorkingDir"} {
		setDefault(c, k, "")
	}
	for _, k := range []string{"Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"} {
		setDefault(c, k, nil)
	}
}

// legacyConfig adds the fields of a container's configuration that images never use, up to 1.49.
func legacyConfig(c map[string]any) {
	for _, k := range []string{"Hostname", "Domainname", "Image"} {
		setDefault(c, k, "")
	}
	for _, k := range []string{"AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"} {
		setDefault(c, k, false)
	}
}

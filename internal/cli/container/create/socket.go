package create

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// socketInside is where a container expects the engine's socket.
const socketInside = "/var/run/docker.sock"

// shareSocket gives the container the engine's socket, and returns the credentials it shall find beside it.
func shareSocket(a *app.App, req *container.CreateRequest) ([]byte, error) {
	source := socketInside
	if t, err := a.Target(); err == nil {
		if p, ok := strings.CutPrefix(t.Host, "unix://"); ok {
			source = p
		}
	}
	req.HostConfig.Binds = append(req.HostConfig.Binds, source+":"+socketInside)
	b, err := os.ReadFile(filepath.Join(a.Home.Dir, "config.json"))
	if err != nil {
		return nil, nil
	}
	req.Env = append(req.Env, "DOCKER_CONFIG=/run/secrets/docker")
	return onlyAuths(b)
}

// onlyAuths reduces a configuration to its registry credentials.
func onlyAuths(config []byte) ([]byte, error) {
	var in struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	if err := json.Unmarshal(config, &in); err != nil || len(in.Auths) == 0 {
		return nil, nil
	}
	return json.Marshal(in)
}

// putCredentials writes them into the container, readable for its root only.
func putCredentials(ctx context.Context, c *api.Client, id string, creds []byte) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{"run", "run/secrets", "run/secrets/docker"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "run/secrets/docker/config.json", Mode: 0o600, Size: int64(len(creds))}); err != nil {
		return err
	}
	if _, err := w.Write(creds); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.JSON(ctx, api.Request{Method: http.MethodPut, Path: "/containers/" + id + "/archive", Query: url.Values{"path": {"/"}}, Body: &buf}, nil)
}

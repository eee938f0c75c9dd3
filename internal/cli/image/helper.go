package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"

	"github.com/moby/moby/api/types/registry"
)

// fromHelper asks docker-credential-<name>, the protocol of docker's credential helpers.
func fromHelper(name, key string) (registry.AuthConfig, error) {
	cmd := exec.Command("docker-credential-"+name, "get")
	cmd.Stdin = strings.NewReader(key)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if strings.Contains(out.String(), "credentials not found") {
			return registry.AuthConfig{}, nil
		}
		return registry.AuthConfig{}, fmt.Errorf("error getting credentials - err: %w, out: `%s`", err, strings.TrimSpace(out.String()))
	}
	var c struct{ ServerURL, Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		return registry.AuthConfig{}, fmt.Errorf("credential helper %s answered with no credentials: %w", name, err)
	}
	a := registry.AuthConfig{Username: c.Username, Password: c.Secret, ServerAddress: c.ServerURL}
	if c.Username == "<token>" {
		a.Username, a.Password, a.IdentityToken = "", "", c.Secret
	}
	return a, nil
}

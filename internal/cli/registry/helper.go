package registry

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"

	"github.com/moby/moby/api/types/registry"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

func helper(a *app.App, key string) string {
	if h := a.Home.Config().CredentialHelpers[key]; h != "" {
		return h
	}
	return a.Home.Config().CredentialsStore
}

// store hands a credential to the credential helper.
func store(a *app.App, cred registry.AuthConfig, token string) error {
	c := map[string]string{"ServerURL": cred.ServerAddress, "Username": cred.Username, "Secret": cred.Password}
	if token != "" {
		c["Username"], c["Secret"] = "<token>", token
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return run(helper(a, cred.ServerAddress), "store", string(b))
}

// erase removes a credential from the credential helper.
func erase(a *app.App, server string) error { return run(helper(a, server), "erase", server) }

func run(name, verb, input string) error {
	cmd := exec.Command("docker-credential-"+name, verb)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("credential helper docker-credential-%s: %s: %w, out: `%s`", name, verb, err, strings.TrimSpace(string(out)))
	}
	return nil
}

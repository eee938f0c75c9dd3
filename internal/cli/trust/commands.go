// Package trust has the verbs for signatures and image policies. What is signed and judged is left to gantry-trust, an
// executable of its own; the engine carries signatures to registries and from them. A private key never leaves this machine.
package trust

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

// Credentials gives the header with what is stored for a registry.
type Credentials func(a *app.App, domain string) (map[string]string, error)

// Commands are the verbs, to be hung into `image`.
func Commands(auth Credentials) []*app.Command {
	return []*app.Command{
		{Name: "keygen", Args: "[OPTIONS] [PREFIX]", Short: "Make a pair of keys to sign images with", Check: app.MaxArgs(1), Build: buildKeygen},
		{Name: "policy", Args: "COMMAND", Short: "Look at files that say which images need whose signature", Sub: func() []*app.Command {
			return []*app.Command{
				{Name: "check", Args: "FILE", Short: "Check an image policy for mistakes", Check: app.ExactArgs(1), Build: buildCheck},
				{Name: "show", Args: "[OPTIONS] FILE [IMAGE]", Short: "Show the rules of an image policy, or the one for an image", Check: app.RangeArgs(1, 2), Build: buildShow},
			}
		}},
		{Name: "sign", Args: "[OPTIONS] IMAGE", Short: "Sign an image", Check: app.ExactArgs(1), Build: func(a *app.App, f *pflag.FlagSet) app.RunFunc { return buildSign(a, f, auth) }},
		{Name: "verify", Args: "[OPTIONS] IMAGE", Short: "Verify the signatures of an image", Check: app.ExactArgs(1), Build: func(a *app.App, f *pflag.FlagSet) app.RunFunc { return buildVerify(a, f, auth) }},
	}
}

func helper() program.Program { return program.Program{Path: sibling.Path(program.Name)} }

// maxKey bounds a key file, in bytes.
const maxKey = 1 << 20

func readKey(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxKey {
		return nil, fmt.Errorf("%s has %d bytes: it is no key", path, st.Size())
	}
	return os.ReadFile(path)
}

// signatures is what the engine knows of an image's signatures.
type signatures struct {
	Name       string
	Digest     string
	Here       string
	Signatures []struct {
		Manifest     string
		Here, Remote bool
		program.Signature
	}
	Notes []string
}

func (s signatures) all() (list []program.Signature) {
	for _, x := range s.Signatures {
		list = append(list, x.Signature)
	}
	return list
}

// call is a request about an image's signatures.
type call struct {
	a      *app.App
	auth   Credentials
	image  string
	domain string // of the registry
	local  bool
}

// ask sends the request; a body makes it a POST.
func (c call) ask(ctx context.Context, body, into any) error {
	cl, err := c.a.Engine.Client()
	if err != nil {
		return err
	}
	req := api.Request{Method: http.MethodGet, Path: "/images/" + escape(c.image) + "/signatures", Body: body}
	if body != nil {
		req.Method = http.MethodPost
	}
	if c.local {
		req.Query = url.Values{"local": {"1"}}
	} else if req.Header, err = c.auth(c.a, c.domain); err != nil {
		return err
	}
	return cl.JSON(ctx, req, into)
}

// about begins calls about an image. What is here may be named by its ID, too.
func about(a *app.App, auth Credentials, image string, local bool) (call, error) {
	if local {
		return call{a: a, image: image, local: true}, nil
	}
	r, err := parse(image)
	return call{a: a, auth: auth, image: r.String(), domain: r.Domain}, err
}

// parse reads a name; without tag and digest it means latest.
func parse(s string) (ref.Ref, error) {
	r, err := ref.Parse(s)
	if err == nil && r.Tag == "" && r.Digest == "" {
		r = r.WithTag()
	}
	return r, err
}

// escape writes an image's name as part of a path: its slashes stay.
func escape(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

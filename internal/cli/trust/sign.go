package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

func buildSign(a *app.App, f *pflag.FlagSet, auth Credentials) app.RunFunc {
	var key, as string
	var local, quiet bool
	f.StringVar(&key, "key", "", "File with the private key")
	f.StringVar(&as, "as", "", "Name that the signature is for, instead of IMAGE")
	f.BoolVar(&local, "local", false, "Sign what IMAGE is here, and keep the signature with it until it is pushed")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print nothing but the signature's digest")
	return func(ctx context.Context, args []string) error {
		if key == "" {
			return errors.New("a private key is needed: --key FILE ('gantry image keygen' makes one)")
		}
		private, err := readKey(key)
		if err != nil {
			return fmt.Errorf("reading the key: %w", err)
		}
		c, err := about(a, auth, args[0], local)
		if err != nil {
			return err
		}
		var known signatures
		if err := c.ask(ctx, nil, &known); err != nil {
			return err
		}
		name, err := signedName(as, known)
		if err != nil {
			return err
		}
		if !local && known.Here != "" && known.Here != known.Digest {
			fmt.Fprintf(a.Err, "WARNING: %s is %s at its registry, and %s here; the registry's is signed\n", args[0], known.Digest, known.Here)
		}
		password, err := passwordFor(a, private, key)
		if err != nil {
			return err
		}
		signed, err := helper().Sign(ctx, program.Sign{Digest: known.Digest, Name: name, Key: private, Password: password})
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		var out struct{ Manifest string }
		if err := c.ask(ctx, map[string]any{"Digest": known.Digest, "Bundle": json.RawMessage(signed.Bundle)}, &out); err != nil {
			return err
		}
		if quiet {
			fmt.Fprintln(a.Out, out.Manifest)
			return nil
		}
		where := "pushed to the registry"
		if local {
			where = "kept with the image; 'gantry push' takes it along"
		}
		fmt.Fprintf(a.Out, "Signed %s\n  as %s\n  by the key %s\nThe signature %s is %s\n", known.Digest, name, signed.By, out.Manifest, where)
		return nil
	}
}

// signedName is the name that a signature is for: what the user wants, or what the image was asked for by, without its digest.
func signedName(as string, known signatures) (string, error) {
	if as == "" {
		if as = known.Name; strings.HasPrefix(as, "sha256:") {
			return "", errors.New("an image that is named by its ID has to be signed for a name: --as NAME")
		}
		as, _, _ = strings.Cut(as, "@")
	}
	r, err := ref.Parse(as)
	if err != nil {
		return "", fmt.Errorf("%s: %w", as, err)
	}
	if r.Digest != "" {
		return "", errors.New("the name that a signature is for has no digest: the signature is of the image's anyway")
	}
	if r.Tag != "" {
		return r.Name() + ":" + r.Tag, nil
	}
	return r.Name(), nil
}

// passwordFor gives the password of a key that is encrypted: of the environment, or of whoever sits at the terminal.
func passwordFor(a *app.App, key []byte, name string) ([]byte, error) {
	if !bytes.Contains(key, []byte("BEGIN ENCRYPTED ")) {
		return nil, nil
	}
	for _, env := range []string{"GANTRY_KEY_PASSWORD", "COSIGN_PASSWORD"} {
		if v := a.Env(env); v != "" {
			return []byte(v), nil
		}
	}
	if !a.In.IsTerminal() {
		return nil, fmt.Errorf("%s is encrypted: its password is needed in the variable GANTRY_KEY_PASSWORD, or at a terminal", name)
	}
	fmt.Fprintf(a.Err, "Password of %s: ", name)
	p, err := a.In.ReadPassword()
	fmt.Fprintln(a.Err)
	return []byte(p), err
}

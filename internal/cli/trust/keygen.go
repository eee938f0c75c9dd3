package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

func buildKeygen(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var stdin bool
	f.BoolVar(&stdin, "password-stdin", false, "Read the password from standard input")
	return func(ctx context.Context, args []string) error {
		prefix := "gantry"
		if len(args) > 0 {
			prefix = args[0]
		}
		private, public := prefix+".key", prefix+".pub"
		for _, name := range []string{private, public} { // before somebody types a password
			if _, err := os.Lstat(name); err == nil {
				return fmt.Errorf("%s exists: a key that is overwritten is gone; give another PREFIX", name)
			}
		}
		password, err := newPassword(a, stdin)
		if err != nil {
			return err
		}
		pair, err := helper().Keygen(ctx, program.Keygen{Password: password})
		if err != nil {
			return err
		}
		if err := create(private, pair.Private, 0o600); err != nil {
			return err
		}
		if err := create(public, pair.Public, 0o644); err != nil {
			return errors.Join(err, os.Remove(private))
		}
		fmt.Fprintf(a.Out, "Private key, encrypted: %s\nPublic key, for policies: %s\nIts SHA-256: %s\n", private, public, pair.ID)
		return nil
	}
}

// create writes a file that is not there yet, and has it on disk before it says so.
func create(name string, data []byte, mode os.FileMode) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(name))
		}
	}()
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// newPassword gives the password of a new key.
func newPassword(a *app.App, stdin bool) ([]byte, error) {
	if stdin {
		b, err := io.ReadAll(io.LimitReader(a.In, 64<<10))
		if err != nil {
			return nil, err
		}
		return []byte(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")), nil
	}
	for _, env := range []string{"GANTRY_KEY_PASSWORD", "COSIGN_PASSWORD"} {
		if v := a.Env(env); v != "" {
			return []byte(v), nil
		}
	}
	if !a.In.IsTerminal() {
		return nil, errors.New("a password for the private key is needed: in the variable GANTRY_KEY_PASSWORD, with --password-stdin, or at a terminal")
	}
	fmt.Fprint(a.Err, "Password for the private key: ")
	one, err := a.In.ReadPassword()
	if err != nil {
		return nil, err
	}
	fmt.Fprint(a.Err, "\nAgain: ")
	two, err := a.In.ReadPassword()
	fmt.Fprintln(a.Err)
	if err == nil && one != two {
		err = errors.New("the two passwords differ")
	}
	return []byte(one), err
}

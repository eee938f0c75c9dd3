package trust

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

func buildVerify(a *app.App, f *pflag.FlagSet, auth Credentials) app.RunFunc {
	var keys opts.List
	var policy string
	var local, quiet bool
	f.Var(&keys, "key", "File with a public key; with several, a signature by one of them is needed")
	f.StringVar(&policy, "policy", "", "File with the image policy that decides")
	f.BoolVar(&local, "local", false, "Verify what IMAGE is here, by the signatures that are kept with it")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print nothing: the exit status tells")
	return func(ctx context.Context, args []string) error {
		if (len(keys.Values) == 0) == (policy == "") {
			return errors.New("either --key FILE or --policy FILE is needed: somebody has to be trusted")
		}
		c, err := about(a, auth, args[0], local)
		if err != nil {
			return err
		}
		var known signatures
		if err := c.ask(ctx, nil, &known); err != nil {
			return err
		}
		v := verification{a: a, quiet: quiet, image: c.image, known: known}
		if policy != "" {
			return v.byPolicy(ctx, policy)
		}
		return v.byKeys(ctx, keys.Values)
	}
}

// verification is of one image.
type verification struct {
	a     *app.App
	quiet bool
	image string
	known signatures
}

func (v verification) say(format string, args ...any) {
	if !v.quiet {
		fmt.Fprintf(v.a.Out, format+"\n", args...)
	}
}

// failed says that an image is not to be trusted, and why.
func (v verification) failed(format string, args ...any) error {
	text := fmt.Sprintf("%s (%s) %s", v.image, v.known.Digest, fmt.Sprintf(format, args...))
	for _, n := range v.known.Notes {
		text += "\n  " + n
	}
	return errors.New(text)
}

func (v verification) byKeys(ctx context.Context, files []string) error {
	q := program.Verify{Digest: v.known.Digest, Signatures: v.known.all()}
	for _, f := range files {
		b, err := readKey(f)
		if err != nil {
			return fmt.Errorf("reading the key: %w", err)
		}
		q.Keys = append(q.Keys, b)
	}
	if len(q.Signatures) == 0 {
		return v.failed("has no signature")
	}
	answer, err := helper().Verify(ctx, q)
	if err != nil {
		return err
	}
	var why []string
	good := 0
	for i, x := range answer.Verdicts {
		sig := v.known.Signatures[i].Manifest
		if !x.Good {
			why = append(why, "signature "+sig+": "+x.Why)
			continue
		}
		good++
		as := "no name, the digest only"
		if len(x.Names) > 0 {
			as = strings.Join(x.Names, ", ")
		}
		v.say("%s\n  is signed as %s\n  by the key %s\n  signature %s (%s)", v.known.Digest, as, x.By, sig, place(v.known.Signatures[i].Here, v.known.Signatures[i].Remote))
	}
	if good == 0 {
		return v.failed("has no signature by these keys:\n  %s", strings.Join(why, "\n  "))
	}
	return nil
}

func place(here, remote bool) string {
	switch {
	case here && remote:
		return "here and at the registry"
	case here:
		return "here"
	}
	return "at the registry"
}

func (v verification) byPolicy(ctx context.Context, file string) error {
	if strings.HasPrefix(v.known.Name, "sha256:") {
		return errors.New("a policy is about names: give the image's name instead of its ID")
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	j, err := helper().Judge(ctx, program.Judge{File: abs, Name: v.known.Name, Digest: v.known.Digest, Signatures: v.known.all()})
	if err != nil {
		return err
	}
	rule := fmt.Sprintf("the rule for %q %s", j.Rule.Scope, j.Rule.Demand)
	if !j.Allowed {
		found := j.Why
		if len(found) == 0 && len(v.known.Signatures) == 0 {
			found = []string{"there is no signature"}
		}
		return v.failed("is refused: %s\n  %s", rule, strings.Join(found, "\n  "))
	}
	v.say("%s (%s) is allowed: %s", v.image, v.known.Digest, rule)
	for _, by := range j.By {
		v.say("  signed by %s", by)
	}
	return nil
}

// Command gantry-trust makes and checks signatures of images. The engine and the command line run it, for one question at a
// time: package internal/trust/program says how.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/gantry-engine/gantry/internal/trust/policy"
	"github.com/gantry-engine/gantry/internal/trust/program"
	"github.com/gantry-engine/gantry/internal/trust/sigstore"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: %s verify|sign|keygen|policy|judge: the engine and 'gantry image' run this program", program.Name)
	}
	switch args[0] {
	case "verify":
		return answer(in, out, confined(sigstore.Verify))
	case "sign":
		return answer(in, out, confined(sigstore.Sign))
	case "keygen":
		return answer(in, out, confined(sigstore.Keygen))
	case "policy": // of whoever asks: files of its own
		return answer(in, out, policy.Look)
	case "judge":
		return answer(in, out, judge)
	}
	return fmt.Errorf("%q is none of verify, sign, keygen, policy and judge", args[0])
}

// confined gives up all rights before what a stranger wrote is looked at.
func confined[Q, A any](f func(Q) (A, error)) func(Q) (A, error) {
	return func(q Q) (a A, err error) {
		if err := confine(); err != nil {
			return a, fmt.Errorf("giving up rights: %w", err)
		}
		return f(q)
	}
}

// judge reads the policy with the rights of whoever asks, and what strangers wrote without.
func judge(q program.Judge) (a program.Judgement, err error) {
	p, err := policy.Load(q.File)
	if err != nil {
		return a, err
	}
	return confined(func(q program.Judge) (program.Judgement, error) { return p.Judge(q, sigstore.Verify) })(q)
}

func answer[Q, A any](in io.Reader, out io.Writer, f func(Q) (A, error)) error {
	var q Q
	if err := json.NewDecoder(io.LimitReader(in, program.MaxQuestion)).Decode(&q); err != nil {
		return fmt.Errorf("the question is not the JSON it should be: %w", err)
	}
	a, err := f(q)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(a)
}

// Command gantry-trust makes and checks signatures of images. The engine and the command line run it, for one question at a
// time: package internal/trust/program says how.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

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
		return fmt.Errorf("usage: %s verify|sign|keygen: the engine and 'gantry image' run this program", program.Name)
	}
	if err := confine(); err != nil {
		return fmt.Errorf("giving up rights: %w", err)
	}
	switch args[0] {
	case "verify":
		return answer(in, out, sigstore.Verify)
	case "sign":
		return answer(in, out, sigstore.Sign)
	case "keygen":
		return answer(in, out, sigstore.Keygen)
	}
	return fmt.Errorf("%q is neither verify nor sign nor keygen", args[0])
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

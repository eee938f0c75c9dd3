// Package program is the executable gantry-trust as seen by those who run it: what it is asked, what it answers.
//
// The libraries that make and check signatures cost some 13 MB of memory and 6 ms at start, and they read what strangers
// wrote. So they are in a program of its own, which runs for one question and gives up all rights before it reads it:
//
//	gantry-trust verify|sign|keygen|policy|judge   question as JSON on standard input ──► answer as JSON on standard output
//
// A question that cannot be answered ends it with status 1 and the reason on standard error.
package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Name is the executable's.
const Name = "gantry-trust"

// Limits of a question and of an answer, in bytes, and of the time between them.
const (
	MaxQuestion = 32 << 20
	maxAnswer   = 4 << 20
	patience    = time.Minute
)

// Kinds of signatures.
const (
	Bundle = "bundle" // a sigstore bundle
	Simple = "simple" // cosign's older form: a payload and a signature of it
)

// Signature is what was found of one.
type Signature struct {
	Kind    string
	Content []byte // the bundle, or the payload
	Sig     string `json:",omitempty"` // of the payload: base64
}

// Keyless is who may have signed with a certificate of a moment, and the trusted root that says which authorities and logs count.
type Keyless struct {
	Root               []byte
	Issuer             string
	Subject, SubjectRE string
}

// Verify asks whether signatures are of a digest, by one of some keys or by an identity.
type Verify struct {
	Digest     string // "sha256:…"
	Signatures []Signature
	Keys       [][]byte `json:",omitempty"` // public, PEM
	Keyless    *Keyless `json:",omitempty"`
}

// Verdict is what there is to say of a signature.
type Verdict struct {
	Good  bool
	By    string   `json:",omitempty"` // the key's SHA-256 in hexadecimal digits, or the identity
	Names []string `json:",omitempty"` // that it says the image has; none: it is of the digest only
	Why   string   `json:",omitempty"` // it is not good
}

// Verdicts answers Verify, one for each signature.
type Verdicts struct{ Verdicts []Verdict }

// Sign asks for a signature.
type Sign struct {
	Digest   string // "sha256:…"
	Name     string // of the image
	Key      []byte // private, PEM
	Password []byte `json:",omitempty"`
}

// Signed answers Sign.
type Signed struct {
	Bundle []byte
	By     string // the public key's SHA-256
}

// Keygen asks for a pair of keys.
type Keygen struct{ Password []byte }

// Pair answers Keygen: PEM files, the private one encrypted.
type Pair struct {
	Private, Public []byte
	ID              string // the public key's SHA-256
}

// Look asks what a policy file says: of all, or of one image.
type Look struct {
	File string
	Name string `json:",omitempty"`
}

// Policy answers Look.
type Policy struct {
	Rules []Rule
	Notes []string `json:",omitempty"` // what has no effect here
}

// Rule is one of a policy.
type Rule struct {
	Scope    string
	Demand   string // the end of a sentence: "demands …", "allows …"
	Identity string `json:",omitempty"` // how the name that was signed has to fit
}

// Judge asks whether a policy file allows an image, by the signatures there are of it.
type Judge struct {
	File, Name, Digest string
	Signatures         []Signature
}

// Judgement answers Judge.
type Judgement struct {
	Allowed bool
	Rule    Rule
	By      []string `json:",omitempty"` // whose signatures satisfy it
	Why     []string `json:",omitempty"` // what the others lack
}

// Program is the executable.
type Program struct {
	Path string
	// Alone runs it in a network namespace of its own, which needs root's rights.
	Alone bool
}

// Verify examines signatures.
func (p Program) Verify(ctx context.Context, q Verify) (Verdicts, error) {
	a, err := ask[Verdicts](ctx, p, "verify", q)
	if err == nil && len(a.Verdicts) != len(q.Signatures) {
		err = fmt.Errorf("%s was asked for %d signatures and answered for %d", Name, len(q.Signatures), len(a.Verdicts))
	}
	return a, err
}

// Sign makes a signature.
func (p Program) Sign(ctx context.Context, q Sign) (Signed, error) {
	return ask[Signed](ctx, p, "sign", q)
}

// Keygen makes a pair of keys.
func (p Program) Keygen(ctx context.Context, q Keygen) (Pair, error) {
	return ask[Pair](ctx, p, "keygen", q)
}

// Look reads a policy.
func (p Program) Look(ctx context.Context, q Look) (Policy, error) {
	return ask[Policy](ctx, p, "policy", q)
}

// Judge has a policy decide.
func (p Program) Judge(ctx context.Context, q Judge) (Judgement, error) {
	return ask[Judgement](ctx, p, "judge", q)
}

func ask[A any](ctx context.Context, p Program, verb string, question any) (answer A, err error) {
	b, err := json.Marshal(question)
	if err != nil {
		return answer, err
	}
	if len(b) > MaxQuestion {
		return answer, fmt.Errorf("the question for %s has %d bytes, more than %d", Name, len(b), MaxQuestion)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s did not answer within %s", Name, patience))
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Path, verb)
	cmd.Stdin = bytes.NewReader(b)
	cmd.Env = []string{}
	out, errs := &bounded{limit: maxAnswer}, &bounded{limit: 64 << 10}
	cmd.Stdout, cmd.Stderr = out, errs
	p.confine(cmd)
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(errs.b.String())
		switch {
		case ctx.Err() != nil:
			return answer, context.Cause(ctx)
		case errors.As(err, new(*exec.ExitError)) && cmd.ProcessState.ExitCode() == 1 && text != "":
			return answer, errors.New(text)
		case text != "":
			return answer, fmt.Errorf("%s ended with %w: %s", Name, err, text)
		}
		return answer, fmt.Errorf("running %s, which is installed beside this program: %w", Name, err)
	}
	if err := json.Unmarshal(out.b.Bytes(), &answer); err != nil {
		return answer, fmt.Errorf("%s answered something else than it should: %w", Name, err)
	}
	return answer, nil
}

// bounded is a buffer that does not grow for ever. It is no io.ReaderFrom: that would pass its Write by.
type bounded struct {
	b     bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.b.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("%s says more than %d bytes", Name, b.limit)
	}
	return b.b.Write(p)
}

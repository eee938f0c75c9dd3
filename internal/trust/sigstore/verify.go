package sigstore

import (
	"cmp"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/gantry-engine/gantry/internal/trust/program"
)

// trusted is who may have signed: a key, or an identity.
type trusted struct {
	by       string
	material root.TrustedMaterial
	options  []verify.VerifierOption
	who      verify.PolicyOption
	key      signature.Verifier // nil for an identity
}

// Verify examines signatures one by one.
func Verify(q program.Verify) (out program.Verdicts, err error) {
	_, sum, err := hexOf(q.Digest)
	if err != nil {
		return out, err
	}
	trust, err := trustedBy(q)
	if err != nil {
		return out, err
	}
	for _, s := range q.Signatures {
		out.Verdicts = append(out.Verdicts, judge(s, sum, trust))
	}
	return out, nil
}

func trustedBy(q program.Verify) (list []trusted, err error) {
	for _, data := range q.Keys {
		t, err := byKey(data)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if q.Keyless != nil {
		t, err := byIdentity(*q.Keyless)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if len(list) == 0 {
		return nil, errors.New("neither a key nor an identity was given")
	}
	return list, nil
}

func byKey(data []byte) (t trusted, err error) {
	public, err := cryptoutils.UnmarshalPEMToPublicKey(data)
	if err != nil {
		return t, fmt.Errorf("a public key cannot be read: %w", err)
	}
	if t.key, err = signature.LoadDefaultVerifier(public); err != nil {
		return t, fmt.Errorf("keys of this kind are not supported: %w", err)
	}
	if _, t.by, err = marshalPublic(public); err != nil {
		return t, err
	}
	t.material = root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(t.key, time.Time{}, time.Time{}), nil
	})
	t.options, t.who = []verify.VerifierOption{verify.WithNoObserverTimestamps()}, verify.WithKey()
	return t, nil
}

func byIdentity(k program.Keyless) (t trusted, err error) {
	tr, err := root.NewTrustedRootFromJSON(k.Root)
	if err != nil {
		return t, fmt.Errorf("the trusted root cannot be read: %w", err)
	}
	return byIdentityOf(tr, k)
}

// byIdentityOf trusts an identity whose certificate, log entry and time are proved by the root's authorities. Certificates
// have to be in a log of certificates where the root knows one.
func byIdentityOf(m root.TrustedMaterial, k program.Keyless) (t trusted, err error) {
	t.by, t.material = k.Subject, m
	re := ""
	if k.SubjectRE != "" {
		t.by, re = k.SubjectRE, "^(?:"+k.SubjectRE+")$"
	}
	t.by += " of " + k.Issuer
	id, err := verify.NewShortCertificateIdentity(k.Issuer, "", k.Subject, re)
	if err != nil {
		return t, err
	}
	t.who = verify.WithCertificateIdentity(id)
	t.options = []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
	if len(m.CTLogs()) > 0 {
		t.options = append(t.options, verify.WithSignedCertificateTimestamps(1))
	}
	return t, nil
}

// judge looks at one signature. A library that gives up on what a stranger wrote is no reason to give up on the others.
func judge(s program.Signature, sum []byte, trust []trusted) (v program.Verdict) {
	defer func() {
		if r := recover(); r != nil {
			v = program.Verdict{Why: fmt.Sprint("it cannot be read: ", r)}
		}
	}()
	var err error
	switch s.Kind {
	case program.Bundle:
		v, err = judgeBundle(s.Content, sum, trust)
	case program.Simple:
		v, err = judgeSimple(s, sum, trust)
	default:
		err = fmt.Errorf("its kind %q is not known", s.Kind)
	}
	if err != nil {
		v = program.Verdict{Why: oneLine(err.Error())}
	}
	return v
}

func judgeBundle(content, sum []byte, trust []trusted) (v program.Verdict, err error) {
	var b bundle.Bundle
	if err := b.UnmarshalJSON(content); err != nil {
		return v, fmt.Errorf("it is no sigstore bundle: %w", err)
	}
	return judgeEntity(&b, sum, trust)
}

func judgeEntity(b verify.SignedEntity, sum []byte, trust []trusted) (v program.Verdict, err error) {
	var reasons []error
	for _, t := range trust {
		ver, err := verify.NewVerifier(t.material, append(t.options, verify.WithoutStatementPredicate())...)
		if err != nil {
			return v, err
		}
		r, err := ver.Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), t.who))
		if err != nil {
			reasons = append(reasons, explain(ver, b, t, err))
			continue
		}
		if r.Statement != nil && r.Statement.PredicateType != predicate {
			return v, fmt.Errorf("it is an attestation of the type %q, no signature of the image", clip(r.Statement.PredicateType))
		}
		v = program.Verdict{Good: true, By: t.by}
		for _, s := range r.Statement.GetSubject() {
			if s.GetDigest()["sha256"] == hex.EncodeToString(sum) && s.GetName() != "" {
				v.Names = append(v.Names, s.GetName())
			}
		}
		return v, nil
	}
	return v, reasons[bestReason(reasons)]
}

// Reasons that say more than that a signature is not good.
var errOtherDigest = errors.New("it is of another image")

// explain finds out whether a signature by the right hand is one of something else.
func explain(ver *verify.Verifier, b verify.SignedEntity, t trusted, err error) error {
	r, other := ver.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), t.who))
	if other == nil && r.Statement != nil {
		var of []string
		for _, s := range r.Statement.GetSubject() {
			of = append(of, "sha256:"+clip(s.GetDigest()["sha256"]))
		}
		return fmt.Errorf("%w: %s", errOtherDigest, clip(strings.Join(of, ", ")))
	}
	if t.key != nil {
		return fmt.Errorf("it is not by the key %s… (%w)", t.by[:12], err)
	}
	return fmt.Errorf("it is not by %s (%w)", t.by, err)
}

func bestReason(reasons []error) int {
	return max(0, slices.IndexFunc(reasons, func(err error) bool { return errors.Is(err, errOtherDigest) }))
}

// simplePayload is what cosign's older signatures sign.
type simplePayload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
}

func judgeSimple(s program.Signature, sum []byte, trust []trusted) (v program.Verdict, err error) {
	sig, err := base64.StdEncoding.DecodeString(s.Sig)
	if err != nil {
		return v, fmt.Errorf("it is not base64: %w", err)
	}
	first := ""
	for _, t := range trust {
		if t.key == nil {
			continue
		}
		first = cmp.Or(first, t.by)
		if !verifies(t.key, sig, s.Content) {
			continue
		}
		var p simplePayload
		if err := json.Unmarshal(s.Content, &p); err != nil {
			return v, fmt.Errorf("what it signs is not what it should be: %w", err)
		}
		if p.Critical.Type != "cosign container image signature" && p.Critical.Type != "atomic container signature" {
			return v, fmt.Errorf("it is of the type %q, no signature of an image", clip(p.Critical.Type))
		}
		if p.Critical.Image.Digest != "sha256:"+hex.EncodeToString(sum) {
			return v, fmt.Errorf("%w: %s", errOtherDigest, clip(p.Critical.Image.Digest))
		}
		v = program.Verdict{Good: true, By: t.by}
		if name := p.Critical.Identity.Reference; name != "" {
			v.Names = []string{name}
		}
		return v, nil
	}
	if first == "" {
		return v, errors.New("it is of cosign's older form, which is verified by keys only")
	}
	return v, fmt.Errorf("it is not by the key %s…", first[:12])
}

// verifies tries a key, also with the hash that older versions of cosign took for all curves.
func verifies(key signature.Verifier, sig, message []byte) bool {
	if key.VerifySignature(newReader(sig), newReader(message)) == nil {
		return true
	}
	public, err := key.PublicKey()
	if err != nil {
		return false
	}
	old, err := signature.LoadVerifier(public, crypto.SHA256)
	return err == nil && old.VerifySignature(newReader(sig), newReader(message)) == nil
}

// clip bounds what a stranger wrote.
func clip(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// oneLine keeps a stranger's text from looking like ours.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if len(s) > 1000 {
		s = strings.ToValidUTF8(s[:1000], "") + "…"
	}
	return s
}

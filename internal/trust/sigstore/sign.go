// Package sigstore makes and checks signatures of images with sigstore's library. Only gantry-trust links it.
//
// What is signed is an in-toto statement of cosign's type: the subject is the image's digest, and its name is the reference
// that the signature is for. Signatures without a name, as cosign makes them, are of the digest only.
package sigstore

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gantry-engine/gantry/internal/trust/program"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
	// predicate tells a signature from an attestation: that somebody signed what a scanner found does not say that the image
	// may be used.
	predicate = "https://sigstore.dev/cosign/sign/v1"
)

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }

// statement is what is signed.
type statement struct {
	Type          string         `json:"_type"`
	Subject       []subject      `json:"subject"`
	PredicateType string         `json:"predicateType"`
	Predicate     map[string]any `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// hexOf reads a digest.
func hexOf(digest string) (text string, raw []byte, err error) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	raw, err = hex.DecodeString(text)
	if !ok || err != nil || len(raw) != 32 {
		return "", nil, fmt.Errorf("%q is no SHA-256 digest", digest)
	}
	return text, raw, nil
}

// Sign makes a bundle.
func Sign(q program.Sign) (s program.Signed, err error) {
	sum, _, err := hexOf(q.Digest)
	if err != nil {
		return s, err
	}
	key, err := parsePrivate(q.Key, q.Password)
	if err != nil {
		return s, err
	}
	p, err := newPair(key)
	if err != nil {
		return s, err
	}
	payload, err := json.Marshal(statement{statementType, []subject{{q.Name, map[string]string{"sha256": sum}}}, predicate, map[string]any{}})
	if err != nil {
		return s, err
	}
	b, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: payloadType}, p, sign.BundleOptions{})
	if err != nil {
		return s, fmt.Errorf("signing: %w", err)
	}
	out, err := protojson.Marshal(b)
	return program.Signed{Bundle: out, By: p.id}, err
}

package sigstore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/gantry-engine/gantry/internal/trust/program"
)

// Types of PEM blocks. Those that are encrypted are as cosign makes them: scrypt and NaCl's secretbox.
const (
	encryptedType    = "ENCRYPTED SIGSTORE PRIVATE KEY"
	encryptedOldType = "ENCRYPTED COSIGN PRIVATE KEY"
	publicType       = "PUBLIC KEY"
)

// Keygen makes an ECDSA key on P-256 and encrypts it.
func Keygen(q program.Keygen) (p program.Pair, err error) {
	if len(q.Password) == 0 {
		return p, errors.New("a password is needed: the private key is written encrypted")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return p, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return p, err
	}
	box, err := encrypted.Encrypt(der, q.Password)
	if err != nil {
		return p, fmt.Errorf("encrypting the private key: %w", err)
	}
	public, id, err := marshalPublic(key.Public())
	return program.Pair{Private: pem.EncodeToMemory(&pem.Block{Type: encryptedType, Bytes: box}), Public: public, ID: id}, err
}

func marshalPublic(key crypto.PublicKey) (block []byte, id string, err error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(der)
	return pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: der}), hex.EncodeToString(sum[:]), nil
}

// parsePrivate reads a private key: encrypted as cosign's, or plain PKCS #8, SEC 1 or PKCS #1.
func parsePrivate(data, password []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the key is not in PEM (-----BEGIN …-----)")
	}
	var key any
	var err error
	switch block.Type {
	case encryptedType, encryptedOldType:
		der, derr := encrypted.Decrypt(block.Bytes, password)
		if derr != nil {
			return nil, fmt.Errorf("the private key cannot be decrypted: is the password right? (%w)", derr)
		}
		key, err = x509.ParsePKCS8PrivateKey(der)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case publicType:
		return nil, errors.New("this is a public key: the private one signs")
	default:
		return nil, fmt.Errorf("a PEM block of the type %q is no private key that is known: make one with 'gantry image keygen' or 'cosign generate-key-pair'", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the private key cannot be read: %w", err)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of the type %T cannot sign", key)
	}
	return s, nil
}

// pair is a private key as the library takes it.
type pair struct {
	signer  signature.Signer
	details signature.AlgorithmDetails
	public  crypto.PublicKey
	pem     []byte
	id      string
}

func newPair(key crypto.Signer) (*pair, error) {
	p := &pair{public: key.Public()}
	var err error
	if p.details, err = signature.GetDefaultAlgorithmDetails(p.public); err != nil {
		return nil, fmt.Errorf("keys of this kind are not supported: ECDSA on P-256 is what 'gantry image keygen' makes (%w)", err)
	}
	if p.signer, err = signature.LoadDefaultSigner(key); err != nil {
		return nil, err
	}
	p.pem, p.id, err = marshalPublic(p.public)
	return p, err
}

func (p *pair) GetHashAlgorithm() common.HashAlgorithm { return p.details.GetProtoHashType() }
func (p *pair) GetSigningAlgorithm() common.PublicKeyDetails {
	return p.details.GetSignatureAlgorithm()
}
func (p *pair) GetPublicKey() crypto.PublicKey   { return p.public }
func (p *pair) GetPublicKeyPem() (string, error) { return string(p.pem), nil }

// GetKeyAlgorithm is asked for by certificate authorities only.
func (p *pair) GetKeyAlgorithm() string { return fmt.Sprint(p.details.GetKeyType()) }

// GetHint is what others call the key: base64 of its SHA-256.
func (p *pair) GetHint() []byte {
	sum, _ := hex.DecodeString(p.id)
	return []byte(base64.StdEncoding.EncodeToString(sum))
}

// SignData signs; the digest is for bundles of plain data, which we do not make.
func (p *pair) SignData(_ context.Context, data []byte) (sig, sum []byte, err error) {
	sum = data
	if h := p.details.GetHashType(); h != 0 {
		w := h.New()
		w.Write(data)
		sum = w.Sum(nil)
	}
	sig, err = p.signer.SignMessage(newReader(data))
	return sig, sum, err
}

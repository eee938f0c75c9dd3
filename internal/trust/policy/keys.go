package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Limits of the files that a policy names.
const (
	maxKeyFile = 1 << 20 // bytes; trusted roots are the largest
	maxKeys    = 64      // in one requirement
)

// Key is a public key.
type Key struct {
	Name string // the file it is from
	ID   string // SHA-256 of the key, in hexadecimal digits
	PEM  []byte // PKIX
}

// ParseKeys reads public keys in PEM; name is for messages.
func ParseKeys(data []byte, name string) ([]Key, error) {
	var keys []Key
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		switch block.Type {
		case "PUBLIC KEY":
		case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("%s is a private key: a policy needs the public one, and the private one belongs to whoever signs", name)
		default:
			return nil, fmt.Errorf(`%s has a PEM block of the type %q: "PUBLIC KEY" is needed`, name, block.Type)
		}
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s is no public key: %w", name, err)
		}
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("%s has more than %d keys", name, maxKeys)
		}
		sum := sha256.Sum256(block.Bytes)
		keys = append(keys, Key{name, hex.EncodeToString(sum[:]), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: block.Bytes})})
	}
	if len(keys) == 0 {
		return nil, errors.New(name + " has no public key in PEM (-----BEGIN PUBLIC KEY-----)")
	}
	return keys, nil
}

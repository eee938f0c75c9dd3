package engine

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

func (g flags) tlsConfig() (*tls.Config, error) {
	read := func(path, given string) ([]byte, error) {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && given == "" {
			return nil, nil
		}
		return b, err
	}
	ca, err := read(g.tlsCACert, g.originalCA)
	if err != nil {
		return nil, fmt.Errorf("could not read CA certificate %q: %w", g.tlsCACert, err)
	}
	cert, err := read(g.tlsCert, g.originalCert)
	if err != nil {
		return nil, fmt.Errorf("could not read certificate %q: %w", g.tlsCert, err)
	}
	key, err := read(g.tlsKey, g.originalKey)
	if err != nil {
		return nil, fmt.Errorf("could not read key %q: %w", g.tlsKey, err)
	}
	return tlsFrom(ca, cert, key, !g.tlsVerify)
}

func tlsFrom(ca, cert, key []byte, skip bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip}
	if len(ca) > 0 && !skip {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(ca) {
			return nil, errors.New("the certificate authority's file holds no certificate in PEM form")
		}
		c.RootCAs = pool
	}
	if len(cert) > 0 || len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("could not load X509 key pair: %w. Make sure the key is not encrypted", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// CheckTLS says what is wrong with the certificates of a context: files by name, ca.pem, cert.pem, key.pem.
func CheckTLS(files map[string][]byte, skip bool) error {
	if ca := files["ca.pem"]; len(ca) > 0 && !x509.NewCertPool().AppendCertsFromPEM(ca) {
		return errors.New("ca.pem seems invalid")
	}
	_, err := tlsFrom(nil, files["cert.pem"], files["key.pem"], skip)
	return err
}

package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/gantry-engine/gantry/internal/registryserver/settings"
)

// certificate is the server's certificate, which is read again on demand.
type certificate struct {
	files settings.TLS
	pair  atomic.Pointer[tls.Certificate]
}

// configuration reads the certificate and makes the listener's configuration; nil without a certificate.
func (c *certificate) configuration() (*tls.Config, error) {
	if c.files.Cert == "" {
		return nil, nil
	}
	if err := c.reload(); err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
	}
	if c.files.ClientCA != "" {
		b, err := os.ReadFile(c.files.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("authorities of clients: %w", err)
		}
		cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !cfg.ClientCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("authorities of clients: %s has no certificate", c.files.ClientCA)
		}
	}
	return cfg, nil
}

// reload reads the certificate again. One that cannot be read changes nothing.
func (c *certificate) reload() error {
	if c.files.Cert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	c.pair.Store(&pair)
	return nil
}

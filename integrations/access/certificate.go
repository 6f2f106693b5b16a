package access

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often the files are looked at, at most: at a handshake, so
// that a server that nobody calls does nothing.
const certificateCheck = time.Second

// certificates serves TLS from files that may be replaced while it serves.
type certificates struct {
	cfg TLSConfig
	now func() time.Time
	log *slog.Logger

	mu      sync.Mutex
	checked time.Time
	digest  [sha256.Size]byte // of the files that were read last, good or not
	current *tls.Config
}

func newCertificates(cfg TLSConfig, now func() time.Time, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, now: now, log: log, checked: now()}
	raw, err := c.read()
	if err != nil {
		return nil, err
	}
	c.digest = raw.digest()
	if c.current, err = raw.config(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// config is what the server takes: each handshake asks for the newest.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.newest(), nil },
	}
}

// newest gives the configuration of the files as they are. Files that cannot be used,
// which half-replaced ones are for a moment, leave the one before in place.
func (c *certificates) newest() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.checked) < certificateCheck {
		return c.current
	}
	c.checked = now
	raw, err := c.read()
	if err != nil {
		c.log.Error("the server's certificate cannot be read again; the one before stays", "error", err)
		return c.current
	}
	d := raw.digest()
	if d == c.digest {
		return c.current
	}
	c.digest = d
	next, err := raw.config(c.cfg)
	if err != nil {
		c.log.Error("the server's certificate was replaced by one that cannot be used; the one before stays", "error", err)
		return c.current
	}
	c.log.Info("the server's certificate was replaced", "file", c.cfg.CertFile)
	c.current = next
	return c.current
}

// pemFiles are the contents of the files.
type pemFiles struct{ cert, key, clients []byte }

func (c *certificates) read() (pemFiles, error) {
	var f pemFiles
	for _, want := range []struct {
		field, file string
		into        *[]byte
	}{
		{"certFile", c.cfg.CertFile, &f.cert},
		{"keyFile", c.cfg.KeyFile, &f.key},
		{"clientCAFile", c.cfg.ClientCAFile, &f.clients},
	} {
		if want.file == "" {
			continue
		}
		raw, err := os.ReadFile(want.file)
		if err != nil {
			return f, fmt.Errorf("server.tls.%s: %w", want.field, err)
		}
		*want.into = raw
	}
	return f, nil
}

func (f pemFiles) digest() [sha256.Size]byte {
	return sha256.Sum256(bytes.Join([][]byte{f.cert, f.key, f.clients}, []byte{0}))
}

func (f pemFiles) config(cfg TLSConfig) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("server.tls: %s and %s are no pair of certificate and key: %w", cfg.CertFile, cfg.KeyFile, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{pair}}
	if cfg.ClientCAFile == "" {
		return out, nil
	}
	out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	// A ticket would let a client in whose authority has been taken away since.
	out.SessionTicketsDisabled = true
	if !out.ClientCAs.AppendCertsFromPEM(f.clients) {
		return nil, fmt.Errorf("server.tls.clientCAFile %s holds no certificate", cfg.ClientCAFile)
	}
	return out, nil
}

package alertmanager

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// ClientConfig says how a server is reached; its fields are those of the section
// prometheus.
type ClientConfig struct {
	Headers         map[string]string `json:"headers,omitempty"`
	BearerTokenFile string            `json:"bearerTokenFile,omitempty"`
	Username        string            `json:"username,omitempty"`
	PasswordFile    string            `json:"passwordFile,omitempty"`
	TLS             TLSConfig         `json:"tls,omitzero"`
}

// TLSConfig of a client; files are PEM.
type TLSConfig struct {
	CAFile             string `json:"caFile,omitempty"`
	CertFile           string `json:"certFile,omitempty"`
	KeyFile            string `json:"keyFile,omitempty"`
	ServerName         string `json:"serverName,omitempty"`
	InsecureSkipVerify bool   `json:"insecureSkipVerify,omitempty"`
}

// Validate names the field that is wrong.
func (c ClientConfig) Validate() error {
	switch {
	case (c.Username == "") != (c.PasswordFile == ""):
		return errors.New("username and passwordFile go together")
	case c.PasswordFile != "" && c.BearerTokenFile != "":
		return errors.New("bearerTokenFile and passwordFile exclude each other")
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("tls.certFile and tls.keyFile go together")
	}
	return nil
}

const (
	// requestTime bounds one request to another server.
	requestTime = 15 * time.Second
	// maxAnswer is the largest answer that is read, in bytes.
	maxAnswer = 64 << 20
)

// client talks HTTP to one server with its credentials.
type client struct {
	cfg  ClientConfig
	base string
	http *http.Client
}

// newClient makes a client of the server at base. Its certificate files are read now.
func newClient(base string, cfg ClientConfig) (*client, error) {
	if _, err := baseURL(base); err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.TLS.ServerName, InsecureSkipVerify: cfg.TLS.InsecureSkipVerify}
	if cfg.TLS.CAFile != "" {
		raw, err := os.ReadFile(cfg.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.caFile: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("tls.caFile: %s holds no certificate in PEM", cfg.TLS.CAFile)
		}
	}
	if cfg.TLS.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.certFile: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return &client{cfg: cfg, base: strings.TrimRight(base, "/"), http: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second},
		// Credentials and signatures are for this server, not for where it points to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// close drops idle connections.
func (c *client) close() { c.http.CloseIdleConnections() }

// do sends a request; a body is JSON. The answer is decoded into into unless that is nil.
// Errors are *tool.Error with a sentence that names the server and not its secrets.
func (c *client) do(ctx context.Context, method, path string, q url.Values, body []byte, header http.Header, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	address := c.base + path
	if len(q) > 0 {
		address += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return &tool.Error{Kind: tool.Invalid, User: "the address " + c.base + " cannot be used", Err: err}
	}
	for k, v := range c.cfg.Headers {
		req.Header.Set(k, v)
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gumshoe")
	if err := c.authorize(req); err != nil {
		return &tool.Error{Kind: tool.Invalid, User: "the credentials for " + c.base + " cannot be read", Fix: "check the files of bearerTokenFile and passwordFile", Err: err}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return &tool.Error{Kind: tool.Unreachable, User: c.base + " cannot be reached", Fix: "check the address and the network", Err: err}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &tool.Error{Kind: tool.Unreachable, User: "the answer of " + c.base + " was cut off", Err: err}
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return &tool.Error{Kind: tool.Forbidden, User: fmt.Sprintf("%s refuses the credentials (%s)", c.base, res.Status)}
	case res.StatusCode/100 != 2:
		return &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("%s answers %s: %s", c.base, res.Status, clip(strings.Join(strings.Fields(strings.ToValidUTF8(string(raw), "?")), " "), 200))}
	case len(raw) > maxAnswer:
		return &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("%s answers with more than %d bytes", c.base, maxAnswer), Fix: "narrow the request"}
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return &tool.Error{Kind: tool.Unreachable, User: c.base + " answers what is not the API of an Alertmanager", Fix: "check the address", Err: err}
	}
	return nil
}

func (c *client) authorize(req *http.Request) error {
	switch {
	case c.cfg.BearerTokenFile != "":
		token, err := secret(c.cfg.BearerTokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
	case c.cfg.PasswordFile != "":
		password, err := secret(c.cfg.PasswordFile)
		if err != nil {
			return err
		}
		req.SetBasicAuth(c.cfg.Username, string(password))
	}
	return nil
}

package app

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/alertmanager"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/mcpserver"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/web"
)

// ServerConfig says how gumshoe serves. Every surface has its own section.
type ServerConfig struct {
	// Listen is HOST:PORT; DefaultListen when empty.
	Listen string `json:"listen,omitempty"`
	// MetricsListen serves metrics and health alone, without authentication, for a
	// scraper and a kubelet; empty leaves them on Listen.
	MetricsListen string `json:"metricsListen,omitempty"`
	// BaseURL is where people reach the web pages, for links in messages.
	BaseURL string `json:"baseURL,omitempty"`
	// Execute lets approved plans be executed by this server. It needs an executor.
	Execute bool             `json:"execute,omitempty"`
	Auth    access.Config    `json:"auth,omitzero"`
	TLS     access.TLSConfig `json:"tls,omitzero"`
	NATS    NATSConfig       `json:"nats,omitzero"`
	Queue   QueueConfig      `json:"queue,omitzero"`
	Tracing TracingConfig    `json:"tracing,omitzero"`
	API     api.Config       `json:"api,omitzero"`
	// Slack and Alertmanager are off without their sections.
	Slack        *slack.Config        `json:"slack,omitempty"`
	Alertmanager *alertmanager.Config `json:"alertmanager,omitempty"`
	MCP          mcpserver.Config     `json:"mcp,omitzero"`
	Web          web.Config           `json:"web,omitzero"`
	// LogFormat is text or json; LogLevel is debug, info, warn or error.
	LogFormat string `json:"logFormat,omitempty"`
	LogLevel  string `json:"logLevel,omitempty"`
}

// NATSConfig says where the server keeps its state. Without URLs a NATS server runs
// in the process and keeps it in the store's directory: no open port, and no second
// replica.
type NATSConfig struct {
	URLs []string `json:"urls,omitempty"`
	// CredentialsFile is a NATS .creds file.
	CredentialsFile string `json:"credentialsFile,omitempty"`
	CAFile          string `json:"caFile,omitempty"`
	CertFile        string `json:"certFile,omitempty"`
	KeyFile         string `json:"keyFile,omitempty"`
	// Replicas of every stream; 0 is 1, three in a cluster of three.
	Replicas int `json:"replicas,omitempty"`
}

// TracingConfig sends traces by OTLP over HTTP.
type TracingConfig struct {
	// Endpoint is a URL such as http://collector:4318; empty sends nothing.
	Endpoint string `json:"endpoint,omitempty"`
	// HeadersFile holds "name: value" a line, for a collector that asks who sends.
	HeadersFile string `json:"headersFile,omitempty"`
	// Content adds what was asked and answered, redacted.
	Content bool `json:"content,omitempty"`
}

// DefaultListen is where a server listens when nothing else is said.
const DefaultListen = "127.0.0.1:7456"

func (c ServerConfig) validate() error {
	for name, addr := range map[string]string{"listen": c.Listen, "metricsListen": c.MetricsListen} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("server.%s %q is not HOST:PORT, for example 127.0.0.1:7456: %w", name, addr, err)
		}
	}
	for name, raw := range map[string]string{"baseURL": c.BaseURL, "tracing.endpoint": c.Tracing.Endpoint} {
		if raw == "" {
			continue
		}
		if u, err := url.Parse(raw); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("server.%s %q is not an http or https URL", name, raw)
		}
	}
	switch c.LogFormat {
	case "", "text", "json":
	default:
		return fmt.Errorf("server.logFormat %q is neither text nor json", c.LogFormat)
	}
	switch c.LogLevel {
	case "", "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("server.logLevel %q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.NATS.Replicas < 0 || c.NATS.Replicas > 5 {
		return fmt.Errorf("server.nats.replicas %d: 1 to 5", c.NATS.Replicas)
	}
	if len(c.NATS.URLs) == 0 && (c.NATS.CredentialsFile != "" || c.NATS.Replicas > 1) {
		return errors.New("server.nats: credentialsFile and replicas are for a NATS of your own, which server.nats.urls names")
	}
	if err := c.Queue.validate(); err != nil {
		return err
	}
	sections := []interface{ Validate() error }{c.API, c.MCP, c.Web}
	if c.Slack != nil {
		sections = append(sections, c.Slack)
	}
	if c.Alertmanager != nil {
		sections = append(sections, c.Alertmanager)
	}
	for _, one := range sections {
		if err := one.Validate(); err != nil {
			return err
		}
	}
	auth := c.Auth
	auth.TLS = c.TLS
	return auth.Validate()
}

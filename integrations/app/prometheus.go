package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/prometheus"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

// PrometheusConfig says where metrics and alerts are read. What is not named is
// looked for among the cluster's Services. A bundle brings its own metrics.
type PrometheusConfig struct {
	// URL is the base of a Prometheus HTTP API, without /api/v1.
	URL string `json:"url,omitempty"`
	// AlertmanagerURL is the base of an Alertmanager API, without /api/v2.
	AlertmanagerURL string `json:"alertmanagerURL,omitempty"`
	// Headers are sent to both, for example X-Scope-OrgID.
	Headers         map[string]string `json:"headers,omitempty"`
	BearerTokenFile string            `json:"bearerTokenFile,omitempty"`
	Username        string            `json:"username,omitempty"`
	PasswordFile    string            `json:"passwordFile,omitempty"`
	TLS             TLSConfig         `json:"tls,omitzero"`
	// NoDiscovery reads only what is named here.
	NoDiscovery bool `json:"noDiscovery,omitempty"`
}

// TLSConfig of a client; files are PEM.
type TLSConfig struct {
	CAFile             string `json:"caFile,omitempty"`
	CertFile           string `json:"certFile,omitempty"`
	KeyFile            string `json:"keyFile,omitempty"`
	ServerName         string `json:"serverName,omitempty"`
	InsecureSkipVerify bool   `json:"insecureSkipVerify,omitempty"`
}

// secrets are the values that must not be shown.
func (c PrometheusConfig) secrets() []string {
	var out []string
	for name, value := range c.Headers {
		// A tenant's name is none, and stands in many places.
		low := strings.ToLower(name)
		if slices.ContainsFunc([]string{"auth", "token", "key", "secret", "cookie", "password"}, func(s string) bool { return strings.Contains(low, s) }) {
			out = append(out, strings.TrimPrefix(strings.TrimPrefix(value, "Bearer "), "Basic "))
		}
	}
	for _, f := range []string{c.BearerTokenFile, c.PasswordFile} {
		if raw, err := os.ReadFile(f); f != "" && err == nil {
			out = append(out, strings.TrimSpace(string(raw)))
		}
	}
	return out
}

// validate names the field that is wrong.
func (c PrometheusConfig) validate() error {
	if (c.Username == "") != (c.PasswordFile == "") {
		return errors.New("prometheus: username and passwordFile go together")
	}
	if c.PasswordFile != "" && c.BearerTokenFile != "" {
		return errors.New("prometheus: bearerTokenFile and passwordFile exclude each other")
	}
	_, err := c.found()
	return err
}

// found makes the configured endpoints.
func (c PrometheusConfig) found() (prom.Found, error) {
	creds := prom.Credentials{Headers: c.Headers, BearerTokenFile: c.BearerTokenFile, Username: c.Username, PasswordFile: c.PasswordFile,
		CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ServerName: c.TLS.ServerName, InsecureSkipVerify: c.TLS.InsecureSkipVerify}
	var f prom.Found
	var err error
	if c.URL != "" {
		if f.Prometheus, err = prom.NewEndpoint(c.URL, creds); err != nil {
			return f, fmt.Errorf("prometheus: %w", err)
		}
	}
	if c.AlertmanagerURL != "" {
		if f.Alertmanager, err = prom.NewEndpoint(c.AlertmanagerURL, creds); err != nil {
			return f, fmt.Errorf("prometheus.alertmanagerURL: %w", err)
		}
	}
	return f, nil
}

// liveMetrics reads the configured servers, or those that the cluster runs.
func liveMetrics(c PrometheusConfig, src *source, inCluster bool) (prom.ClientConfig, error) {
	f, err := c.found()
	if err != nil {
		return prom.ClientConfig{}, err
	}
	out := prom.ClientConfig{Found: f, Now: src.now}
	if !c.NoDiscovery {
		out.Discover = func(ctx context.Context) (prom.Found, error) { return discoverMetrics(ctx, src, inCluster) }
	}
	return out, nil
}

// servicePage is how many Services are listed at once.
const servicePage = 500

// discoverMetrics looks for the servers of metrics among the cluster's Services.
// Out of the cluster they are reached through the API server's proxy.
func discoverMetrics(ctx context.Context, src *source, inCluster bool) (prom.Found, error) {
	cfg := src.rest
	list := src.services
	if list == nil {
		list = func(ctx context.Context) ([]*corev1.Service, error) { return listServices(ctx, cfg) }
	}
	services, err := list(ctx)
	if err != nil {
		return prom.Found{}, &tool.Error{Kind: tool.NotServed, User: "Prometheus not configured, and looking for one failed: " + tool.UserText(err), Fix: "set prometheus.url in the configuration", Err: err}
	}
	var all []prom.Service
	for _, s := range services {
		one := prom.Service{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels}
		for _, p := range s.Spec.Ports {
			one.Ports = append(one.Ports, prom.Port{Name: p.Name, Number: p.Port})
		}
		all = append(all, one)
	}
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return prom.Found{}, fmt.Errorf("kubernetes client: %w", err)
	}
	places, managers := prom.Discover(all)
	return prom.Reach(ctx, places, managers, func(p prom.Place) prom.Endpoint { return dial(p, cfg.Host, httpClient, inCluster) }), nil
}

// listServices lists the Services of a cluster that no toolset reads.
func listServices(ctx context.Context, cfg *rest.Config) ([]*corev1.Service, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	var all []*corev1.Service
	opts := metav1.ListOptions{Limit: servicePage}
	for {
		l, err := client.CoreV1().Services("").List(ctx, opts)
		if err != nil {
			return nil, err
		}
		for i := range l.Items {
			all = append(all, &l.Items[i])
		}
		if opts.Continue = l.Continue; opts.Continue == "" {
			return all, nil
		}
	}
}

// dial gives the address of a Service: its own within the cluster, that of the
// API server's proxy from without.
func dial(p prom.Place, host string, client *http.Client, inCluster bool) prom.Endpoint {
	scheme := "http"
	if p.TLS {
		scheme = "https"
	}
	origin := fmt.Sprintf("%s, service %s/%s", p.What, p.Namespace, p.Name)
	if inCluster {
		return prom.Endpoint{URL: fmt.Sprintf("%s://%s.%s.svc:%d%s", scheme, p.Name, p.Namespace, p.Port.Number, p.Path), Origin: origin}
	}
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	return prom.Endpoint{Client: client, Origin: origin + " through the API server",
		URL: fmt.Sprintf("%s/api/v1/namespaces/%s/services/%s:%s:%d/proxy%s", strings.TrimSuffix(host, "/"), p.Namespace, scheme, p.Name, p.Port.Number, p.Path)}
}

// recordedMetrics replays the metrics of a bundle; one without any has none. The
// configured server is not asked: it speaks of another time or cluster.
func recordedMetrics(b *bundle.Bundle) (prom.ClientConfig, error) {
	out := prom.ClientConfig{Now: b.Clock}
	metrics, alerts := prometheus.Holds(b.FS())
	if !metrics && !alerts {
		return out, nil
	}
	s, err := prometheus.Open(b.FS(), b.Clock(), prometheus.DefaultLimits())
	if err != nil {
		return out, &tool.Error{Kind: tool.Unreachable, User: "bundle: " + err.Error(), Err: err}
	}
	ep := prom.Endpoint{URL: prometheus.BaseURL, Client: s.Client(), Origin: "bundle"}
	if metrics {
		out.Found.Prometheus = ep
	}
	if alerts {
		out.Found.Alertmanager = ep
	}
	return out, nil
}

// existence tells whether an object is there. What cannot be read is an error,
// never "no".
func existence(k *kube.Toolset) func(context.Context, incident.Ref) (bool, error) {
	return func(ctx context.Context, r incident.Ref) (bool, error) {
		var err error
		switch r.Kind {
		case "Pod":
			_, err = k.Source().Pod(ctx, r.Namespace, r.Name)
		case "Node":
			_, err = k.Source().Node(ctx, r.Name)
		default:
			_, err = k.Source().Get(ctx, r)
		}
		if err == nil || tool.KindOf(err) != tool.NotFound {
			return err == nil, err
		}
		return false, nil
	}
}

// captureMetrics records the metrics of the configured or discovered servers.
// No server is no failure: the bundle then holds none.
func captureMetrics(ctx context.Context, src *source, namespaces []string, redact func(string) string) []bundle.Source {
	found, err := prom.NewClient(src.metrics).Endpoints(ctx)
	if err != nil || found.Prometheus.URL == "" && found.Alertmanager.URL == "" {
		return []bundle.Source{noMetrics{err}}
	}
	return []bundle.Source{prometheus.NewCapture(prometheus.CaptureOptions{URL: found.Prometheus.URL, Client: found.Prometheus.Client,
		AlertmanagerURL: found.Alertmanager.URL, AlertmanagerClient: found.Alertmanager.Client, Now: src.now, Namespaces: namespaces, Redact: redact})}
}

// noMetrics says why a bundle holds no metrics.
type noMetrics struct{ err error }

var _ bundle.Source = noMetrics{}

// Record implements bundle.Source.
func (n noMetrics) Record(context.Context, func(string, []byte) error) ([]bundle.LeftOut, error) {
	why := "Prometheus not configured"
	if n.err != nil {
		why = tool.UserText(n.err)
	}
	return []bundle.LeftOut{{What: "metrics and alerts", Why: why}}, nil
}

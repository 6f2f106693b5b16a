package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs/loki"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

// LokiConfig says where a store of logs is read. What is not named is looked for
// among the cluster's Services.
type LokiConfig struct {
	// URL is the base of Loki's HTTP API, without /loki/api/v1.
	URL string `json:"url,omitempty"`
	// Tenant is sent as X-Scope-OrgID.
	Tenant          string            `json:"tenant,omitempty"`
	Headers         map[string]string `json:"headers,omitempty"`
	BearerTokenFile string            `json:"bearerTokenFile,omitempty"`
	Username        string            `json:"username,omitempty"`
	PasswordFile    string            `json:"passwordFile,omitempty"`
	TLS             TLSConfig         `json:"tls,omitzero"`
	// NoDiscovery reads only what is named here.
	NoDiscovery bool `json:"noDiscovery,omitempty"`
}

// access is the part that a server of metrics has too.
func (c LokiConfig) access() PrometheusConfig {
	return PrometheusConfig{URL: c.URL, Headers: c.Headers, BearerTokenFile: c.BearerTokenFile, Username: c.Username, PasswordFile: c.PasswordFile, TLS: c.TLS}
}

func (c LokiConfig) secrets() []string { return c.access().secrets() }

// validate names the field that is wrong.
func (c LokiConfig) validate() error {
	if c.URL == "" && (c.BearerTokenFile != "" || c.PasswordFile != "" || len(c.Headers) > 0) {
		return errors.New("loki: credentials without url: they are sent to no server that was only found")
	}
	if err := c.access().validate(); err != nil {
		return fmt.Errorf("loki%s", strings.TrimPrefix(err.Error(), "prometheus"))
	}
	return nil
}

// newLogs wires the comparison of logs to what the Kubernetes toolset reads and to
// the log store, if there is one.
func newLogs(src *source, k *kube.Toolset) (*logs.Toolset, error) {
	eyes := logEyes{src: k.Source()}
	reach := func(ctx context.Context) error {
		_, err := k.Source().ServerVersion(ctx)
		return err
	}
	c := logs.Config{Pods: eyes, Objects: eyes, Logs: eyes, Reach: reach, Cluster: src.cluster, Now: src.now}
	client, err := lokiClient(src, k)
	if err != nil {
		return nil, err
	}
	if client != nil {
		c.Store = client
	}
	return logs.New(c)
}

// newLoki wires the log store; a recording holds its logs itself and has none.
func newLoki(src *source, k *kube.Toolset) (tool.Toolset, error) {
	client, err := lokiClient(src, k)
	if err != nil || client == nil {
		return nil, err
	}
	return loki.New(client)
}

// lokiClient reads the configured Loki, or one that the cluster runs; nil where the
// source is a recording.
func lokiClient(src *source, k *kube.Toolset) (*loki.Client, error) {
	if src.recorded || src.loki != nil {
		return src.loki, nil
	}
	c := src.cfg.Loki
	out := loki.ClientConfig{Tenant: c.Tenant, Now: src.now}
	f, err := c.access().found()
	if err != nil {
		return nil, fmt.Errorf("loki%s", strings.TrimPrefix(err.Error(), "prometheus"))
	}
	if c.URL != "" {
		out.Endpoint = loki.Endpoint{URL: f.Prometheus.URL, Client: f.Prometheus.Client, Origin: "configured"}
	}
	if src.live && !c.NoDiscovery {
		out.Discover = func(ctx context.Context) (loki.Endpoint, error) { return discoverLoki(ctx, src, k) }
	}
	src.loki = loki.NewClient(out)
	return src.loki, nil
}

// discoverLoki looks for a Loki among the Services, which the Kubernetes toolset
// lists once for all. Out of the cluster it is reached through the API server's proxy.
func discoverLoki(ctx context.Context, src *source, k *kube.Toolset) (loki.Endpoint, error) {
	services, err := k.Source().Services(ctx, "")
	if err != nil {
		return loki.Endpoint{}, &tool.Error{Kind: tool.NotServed, User: "no Loki is configured, and looking for one failed: " + tool.UserText(err), Fix: "set loki.url in the configuration", Err: err}
	}
	var all []loki.Service
	for _, s := range services {
		one := loki.Service{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels}
		for _, p := range s.Spec.Ports {
			one.Ports = append(one.Ports, loki.Port{Name: p.Name, Number: p.Port})
		}
		all = append(all, one)
	}
	candidates := loki.Candidates(all)
	if len(candidates) == 0 {
		return loki.Endpoint{}, nil
	}
	proxy, err := rest.HTTPClientFor(src.rest)
	if err != nil {
		return loki.Endpoint{}, fmt.Errorf("kubernetes client: %w", err)
	}
	var first error
	for _, c := range candidates {
		at := dial(prom.Place{Namespace: c.Namespace, Name: c.Name, Port: prom.Port{Name: c.Port.Name, Number: c.Port.Number}, What: "Loki"}, src.rest.Host, proxy, src.inCluster)
		ep := loki.Endpoint{URL: at.URL, Client: at.Client, Origin: at.Origin}
		err := loki.NewClient(loki.ClientConfig{Endpoint: ep, Tenant: src.cfg.Loki.Tenant, Now: src.now}).Reach(ctx)
		if err == nil {
			return ep, nil
		}
		if first == nil {
			first = err
		}
	}
	return loki.Endpoint{}, first
}

// logEyes is what the comparison of logs sees of a cluster.
type logEyes struct{ src *kubesource.Source }

var (
	_ logs.Pods    = logEyes{}
	_ logs.Objects = logEyes{}
	_ logs.Tailer  = logEyes{}
)

// logBytes bounds one log that is read for comparison.
const logBytes = 256 << 10

// Pod implements logs.Pods.
func (e logEyes) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return e.src.Pod(ctx, namespace, name)
}

// PodsMatching implements logs.Pods.
func (e logEyes) PodsMatching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error) {
	return e.src.PodsMatching(ctx, namespace, sel)
}

// Get implements logs.Objects.
func (e logEyes) Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error) {
	return e.src.Get(ctx, ref)
}

// Tail implements logs.Tailer.
func (e logEyes) Tail(ctx context.Context, c logs.Container, lines int) (string, bool, error) {
	l, err := e.src.Logs(ctx, c.Namespace, c.Pod, kubesource.LogQuery{Container: c.Name, Previous: c.Previous, Tail: lines, Limit: logBytes})
	return l.Text, l.Cut, err
}

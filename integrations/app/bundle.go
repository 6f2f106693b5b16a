package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/gumshoe-ai/gumshoe/agent/redact"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	bundlehubble "github.com/gumshoe-ai/gumshoe/evals/bundle/hubble"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/prometheus"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// CaptureBundle records the configured cluster at out, redacted.
func CaptureBundle(ctx context.Context, cfg Config, out string, namespaces []string) (*bundle.Summary, error) {
	src, err := openSource(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.close() }()
	return capture(ctx, cfg, src, out, namespaces)
}

// Record writes what the cluster of this service says of namespaces now into a bundle
// at out, redacted, and says how many objects it holds.
func (s *Service) Record(ctx context.Context, out string, namespaces []string) (objects int, err error) {
	sum, err := capture(ctx, s.app.cfg, s.app.src, out, namespaces)
	if err != nil {
		return 0, err
	}
	return sum.Objects, nil
}

// capture records a source at out.
func capture(ctx context.Context, cfg Config, src *source, out string, namespaces []string) (*bundle.Summary, error) {
	r := redact.New()
	r.AddKnown(src.rest.BearerToken, "credential")
	r.AddKnown(src.rest.Password, "credential")
	for _, secret := range cfg.Prometheus.secrets() {
		r.AddKnown(secret, "credential")
	}
	flows, hangUp := captureFlows(ctx, src, namespaces, r.String)
	defer func() { _ = hangUp() }()
	var clouds []bundle.Source
	if !src.recorded { // the clouds of the configuration are not those of a recording
		var err error
		if clouds, err = captureClouds(cfg, r.String); err != nil {
			return nil, err
		}
	}
	sum, err := bundle.Capture(ctx, src.rest, out, bundle.CaptureOptions{Namespaces: namespaces, Redactor: r, Cluster: src.cluster, Version: Version(), Now: src.now,
		Sources: slices.Concat(captureMetrics(ctx, src, namespaces, r.String), []bundle.Source{flows, nvmlCapture{src.nvml}}, clouds)})
	if err != nil {
		return nil, captureError(err)
	}
	return sum, nil
}

// captureError tells a cluster that cannot be read from a recording that cannot be
// written, in the words of the toolset that reads clusters.
func captureError(err error) error {
	te := kubesource.Classify(err)
	switch te.Kind {
	case tool.Unreachable, tool.TimedOut, tool.Forbidden:
		return &tool.Error{Kind: te.Kind, User: "nothing was recorded: " + te.User, Fix: te.Fix, Err: err}
	}
	return err
}

// openBundle opens a recording; one that cannot be read is a source that cannot be
// reached.
func openBundle(name string) (*bundle.Bundle, func() error, error) {
	b, closer, err := bundle.OpenPath(name, bundle.DefaultLimits())
	if err != nil {
		return nil, closer, &tool.Error{Kind: tool.Unreachable, User: err.Error(), Err: err}
	}
	return b, closer, nil
}

// InspectBundle summarises a bundle.
func InspectBundle(name string) (bundle.Summary, error) {
	b, closer, err := openBundle(name)
	if err != nil {
		return bundle.Summary{}, err
	}
	defer func() { _ = closer() }()
	return bundle.Inspect(b), nil
}

// Served are the addresses of a bundle that is served.
type Served struct {
	// Kubernetes is the address of the API server.
	Kubernetes string
	// Metrics is the base of Prometheus' and Alertmanager's APIs, empty when the
	// bundle holds neither.
	Metrics string
	// Hubble is host:port of a Hubble Observer, empty when the bundle has no flows.
	Hubble string
}

// ServeBundle puts a bundle behind the Kubernetes API, and its metrics behind
// Prometheus' and Alertmanager's, on loopback until ctx ends. ready is told the
// addresses once clients can connect; kubeconfig, if not empty, is written before
// that and removed at the end.
func ServeBundle(ctx context.Context, name, addr, kubeconfig string, ready func(Served) error) error {
	b, closer, err := openBundle(name)
	if err != nil {
		return err
	}
	defer func() { _ = closer() }()
	s, err := apiserver.New(b)
	if err != nil {
		return err
	}
	url, stop, err := apiserver.Serve(ctx, s, addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer stop()
	if kubeconfig != "" {
		if err := writeKubeconfig(kubeconfig, first(b.Manifest.Cluster, "bundle"), url); err != nil {
			return err
		}
		defer func() { _ = os.Remove(kubeconfig) }()
	}
	served := Served{Kubernetes: url}
	if metrics, alerts := prometheus.Holds(b.FS()); metrics || alerts {
		m, err := prometheus.Open(b.FS(), b.Clock(), prometheus.DefaultLimits())
		if err != nil {
			return fmt.Errorf("bundle %s: %w", name, err)
		}
		var stop func()
		if served.Metrics, stop, err = m.Serve(ctx); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer stop()
	}
	if bundlehubble.Holds(b.FS()) {
		h, err := bundlehubble.Open(b.FS(), b.Clock(), bundlehubble.DefaultLimits())
		if err != nil {
			return fmt.Errorf("bundle %s: %w", name, err)
		}
		var stop func()
		if served.Hubble, stop, err = h.Serve(ctx); err != nil {
			return err
		}
		defer stop()
	}
	if err := ready(served); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// writeKubeconfig writes a kubeconfig of its own; it never touches an existing file.
func writeKubeconfig(path, cluster, url string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("--kubeconfig-out %s exists already; name a new file", path)
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[cluster] = &clientcmdapi.Cluster{Server: url}
	cfg.AuthInfos["bundle-reader"] = &clientcmdapi.AuthInfo{}
	cfg.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: "bundle-reader"}
	cfg.CurrentContext = cluster
	tmp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), time.Now().UnixNano()))
	if err := clientcmd.WriteToFile(*cfg, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

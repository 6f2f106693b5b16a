package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/oci"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs/loki"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

// source is where the facts come from: a live cluster or a bundle.
type source struct {
	rest *rest.Config
	// cluster is the name facts are labelled with.
	cluster   string
	namespace string
	now       func() time.Time
	close     func() error
	// protobuf says that the server speaks it.
	protobuf bool
	// cfg is the whole configuration, for the parts that only one room reads.
	cfg Config
	// inCluster says that Services are reached by their own names. live and recorded
	// tell a cluster from a bundle; a list of what ships has neither.
	inCluster, live, recorded bool
	// oci is what a bundle holds of registries, nil when it holds nothing.
	oci *oci.Server
	// loki is made by the first toolset that reads it.
	loki *loki.Client
	// metrics says where metrics and alerts are read; prom is the one client of it,
	// which finds its servers once for all toolsets.
	metrics prom.ClientConfig
	prom    *prom.Client
	// services lists the cluster's Services through the cache of the Kubernetes
	// toolset; nil where there is none, as while a bundle is captured.
	services func(context.Context) ([]*corev1.Service, error)
	// nvml holds the reports of gumshoe-nvml; nil means that there are none.
	nvml *nvml.Dir
	// flows says where network flows are read.
	flows flowSource
	// clouds are the providers' APIs that are configured or recorded.
	clouds []nodepool.Cloud
}

// liveSource finds the cluster the way kubectl does; in a pod without a
// kubeconfig it uses the pod's own identity.
func liveSource(c KubernetesConfig, p PrometheusConfig, h HubbleConfig) (*source, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if c.Kubeconfig != "" {
		if _, err := os.Stat(c.Kubeconfig); err != nil {
			return nil, &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("kubeconfig %s cannot be read: %v", c.Kubeconfig, errors.Unwrap(err)), Fix: "give --kubeconfig FILE or --bundle DIR", Err: err}
		}
		rules.ExplicitPath = c.Kubeconfig
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "the kubeconfig cannot be used: " + err.Error(), Fix: "check it with kubectl config view", Err: err}
	}
	if c.Context != "" {
		if _, ok := raw.Contexts[c.Context]; !ok {
			return nil, &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("the kubeconfig has no context %q", c.Context), Fix: "list them with kubectl config get-contexts"}
		}
	}
	cfg, err := loader.ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) || errors.Is(err, rest.ErrNotInCluster) {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "no cluster: there is no kubeconfig and this is not a pod", Fix: "set KUBECONFIG, give --kubeconfig FILE, --bundle DIR, or try gumshoe demo", Err: err}
		}
		return nil, &tool.Error{Kind: tool.Unreachable, User: "the kubeconfig cannot be used: " + err.Error(), Fix: "check it with kubectl config view", Err: err}
	}
	name := first(c.Context, raw.CurrentContext)
	if ctx, ok := raw.Contexts[name]; ok && ctx.Cluster != "" {
		name = ctx.Cluster
	}
	ns := c.Namespace
	cfg.QPS, cfg.Burst = c.QPS, c.Burst
	cfg.Timeout = time.Duration(c.RequestTimeout)
	cfg.UserAgent = "gumshoe"
	cfg.WarningHandler = rest.NoWarnings{} // what is deprecated is the reader's business, not the asker's
	// Packing and unpacking whole lists costs more than a near network saves.
	cfg.DisableCompression = near(cfg.Host) || len(raw.Contexts) == 0
	src := &source{rest: cfg, cluster: first(name, "in-cluster"), namespace: ns, now: time.Now, close: func() error { return nil }, protobuf: true, live: true, inCluster: len(raw.Contexts) == 0}
	if src.metrics, err = liveMetrics(p, src, len(raw.Contexts) == 0); err != nil {
		return nil, err
	}
	if src.flows, err = liveFlows(h, len(raw.Contexts) == 0); err != nil {
		return nil, err
	}
	return src, nil
}

// promClient gives the client of metrics, made when first asked for. It is called
// while toolsets are wired, by one goroutine.
func (s *source) promClient() *prom.Client {
	if s.prom == nil {
		s.prom = prom.NewClient(s.metrics)
	}
	return s.prom
}

// near reports whether a server is on this machine.
func near(host string) bool {
	u, err := url.Parse(host)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// openSource picks the source that the configuration names.
func openSource(ctx context.Context, c Config) (*source, error) {
	if c.Bundle != "" {
		return bundleSource(ctx, c.Bundle)
	}
	src, err := liveSource(c.Kubernetes, c.Prometheus, c.Hubble)
	if err != nil {
		return nil, err
	}
	src.nvml = c.GPU.reports()
	if src.clouds, err = liveClouds(c); err != nil {
		return nil, err
	}
	return src, nil
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// bundleSource opens a recorded cluster from a directory or archive.
func bundleSource(ctx context.Context, name string) (*source, error) {
	b, closer, err := openBundle(name)
	if err != nil {
		return nil, err
	}
	return recorded(ctx, b, closer)
}

// bundleFS opens a recorded cluster that is at hand as a file system.
func bundleFS(ctx context.Context, fsys fs.FS) (*source, error) {
	b, err := bundle.Open(fsys, bundle.DefaultLimits())
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: err.Error(), Err: err}
	}
	return recorded(ctx, b, func() error { return nil })
}

// recorded puts a bundle behind the Kubernetes API, in process; the bundle's
// capture time is the clock.
func recorded(ctx context.Context, b *bundle.Bundle, closer func() error) (*source, error) {
	srv, err := apiserver.New(b)
	if err != nil {
		return nil, errors.Join(&tool.Error{Kind: tool.Unreachable, User: "bundle: " + err.Error(), Err: err}, closer())
	}
	return recordedAt(ctx, b, srv.RESTConfig(), closer)
}

// recordedAt is a bundle whose Kubernetes API is there already.
func recordedAt(ctx context.Context, b *bundle.Bundle, rc *rest.Config, closer func() error) (*source, error) {
	metrics, err := recordedMetrics(b)
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	clouds, err := recordedClouds(b.FS())
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	images, err := recordedImages(ctx, b)
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	flows, stop, err := recordedFlows(b)
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	return &source{
		rest:     rc,
		cluster:  first(b.Manifest.Cluster, "bundle"),
		now:      b.Clock,
		close:    func() error { return errors.Join(stop(), closer()) },
		recorded: true,
		metrics:  metrics,
		flows:    flows,
		nvml:     recordedNVML(b.FS()),
		oci:      images,
		clouds:   clouds,
	}, nil
}

package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	bundlehubble "github.com/gumshoe-ai/gumshoe/evals/bundle/hubble"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/hubble/record"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// HubbleConfig says where network flows are read. Without an address, hubble-relay is
// looked for among the cluster's Services; out of the cluster it has to be named. A
// bundle brings its own flows.
type HubbleConfig struct {
	// Address is host:port of hubble-relay, for example of a port-forward.
	Address string `json:"address,omitempty"`
	// Plaintext forces no TLS; it is the default where tls is left out and the port is
	// not 443.
	Plaintext bool      `json:"plaintext,omitempty"`
	TLS       TLSConfig `json:"tls,omitzero"`
	// NoDiscovery reads only what is named here.
	NoDiscovery bool `json:"noDiscovery,omitempty"`
}

// validate names the field that is wrong.
func (c HubbleConfig) validate() error {
	if c.Plaintext && c.TLS != (TLSConfig{}) {
		return errors.New("hubble: plaintext and tls exclude each other")
	}
	if c.Address == "" {
		return nil
	}
	_, err := c.client(c.Address)
	return err
}

// client makes the client of an address.
func (c HubbleConfig) client(address string) (*hubble.Client, error) {
	cfg := hubble.Config{Address: address}
	_, port, _ := net.SplitHostPort(address)
	if c.TLS != (TLSConfig{}) || port == "443" && !c.Plaintext {
		cfg.TLS = &hubble.TLS{CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ServerName: first(c.TLS.ServerName, relayName), InsecureSkipVerify: c.TLS.InsecureSkipVerify}
	}
	return hubble.New(cfg)
}

// relayName is what a certificate of hubble-relay carries unless told otherwise, both
// upstream and on AKS (*.hubble-relay.cilium.io).
const relayName = "ui.hubble-relay.cilium.io"

// flowSource says where flows come from.
type flowSource struct {
	cfg HubbleConfig
	// client is set where the address is known from the start.
	client *hubble.Client
	// none says why there can be no flows.
	none      string
	inCluster bool
}

// liveFlows reads the configured relay, or that of the cluster.
func liveFlows(c HubbleConfig, inCluster bool) (flowSource, error) {
	f := flowSource{cfg: c, inCluster: inCluster}
	if c.Address == "" {
		return f, nil
	}
	var err error
	if f.client, err = c.client(c.Address); err != nil {
		return f, err
	}
	return f, nil
}

// recordedFlows replays the flows of a bundle; one without any has none.
func recordedFlows(b *bundle.Bundle) (flowSource, func() error, error) {
	nothing := func() error { return nil }
	if !bundlehubble.Holds(b.FS()) {
		return flowSource{none: "the recording holds no network flows"}, nothing, nil
	}
	s, err := bundlehubble.Open(b.FS(), b.Clock(), bundlehubble.DefaultLimits())
	if err != nil {
		return flowSource{}, nothing, &tool.Error{Kind: tool.Unreachable, User: "bundle: " + err.Error(), Err: err}
	}
	dial, stop := s.Start()
	client, err := hubble.New(hubble.Config{Address: bundlehubble.Address, Dialer: dial, Now: b.Clock})
	if err != nil {
		return flowSource{}, nothing, errors.Join(err, stop())
	}
	return flowSource{client: client}, stop, nil
}

// captureFlows records the flows of the configured or discovered relay.
func captureFlows(ctx context.Context, src *source, namespaces []string, redact func(string) string) (bundle.Source, func() error) {
	nothing := func() error { return nil }
	c, err := src.flows.find(func() ([]*corev1.Service, error) {
		client, err := kubernetes.NewForConfig(src.rest)
		if err != nil {
			return nil, err
		}
		l, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + relayService})
		if err != nil {
			return nil, err
		}
		var out []*corev1.Service
		for i := range l.Items {
			out = append(out, &l.Items[i])
		}
		return out, nil
	})
	if err != nil {
		return noFlows{tool.UserText(err)}, nothing
	}
	conn, err := c.Dial()
	if err != nil {
		return noFlows{tool.UserText(err)}, nothing
	}
	return record.New(record.Options{Conn: conn, Now: src.now, Namespaces: namespaces, Redact: redact}), conn.Close
}

// noFlows says why a bundle holds no flows.
type noFlows struct{ why string }

var _ bundle.Source = noFlows{}

// Record implements bundle.Source.
func (n noFlows) Record(context.Context, func(string, []byte) error) ([]bundle.LeftOut, error) {
	return []bundle.LeftOut{{What: "network flows", Why: n.why}}, nil
}

// newCilium wires the cilium toolset to what the kube toolset reads and caches.
func newCilium(src *source, k *kube.Toolset) (*cilium.Toolset, error) {
	eyes := ciliumEyes{src: k.Source()}
	return cilium.New(cilium.Config{Objects: eyes, Pods: eyes, Flows: &relay{from: src.flows, eyes: eyes}, Metrics: src.promClient(), Cluster: src.cluster, Now: src.now})
}

// relay asks the relay that is configured, or the one that the cluster has.
type relay struct {
	from flowSource
	eyes ciliumEyes
}

var _ cilium.Flows = (*relay)(nil)

// Flows implements cilium.Flows.
func (r *relay) Flows(ctx context.Context, q hubble.Query) (hubble.Answer, error) {
	c, err := r.find(ctx)
	if err != nil {
		return hubble.Answer{}, err
	}
	return c.Flows(ctx, q)
}

// Status implements cilium.Flows.
func (r *relay) Status(ctx context.Context) (hubble.Status, error) {
	c, err := r.find(ctx)
	if err != nil {
		return hubble.Status{}, err
	}
	return c.Status(ctx)
}

// find gives the client.
func (r *relay) find(ctx context.Context) (*hubble.Client, error) {
	return r.from.find(func() ([]*corev1.Service, error) { return r.eyes.src.Services(ctx, "") })
}

// relayService is the name of the relay's Service wherever Cilium is installed; its
// port is 80 in plain text and 443 with TLS.
const relayService = "hubble-relay"

// find gives the client: the one that is configured, or that of the cluster's relay.
func (f flowSource) find(list func() ([]*corev1.Service, error)) (*hubble.Client, error) {
	none := func(format string, args ...any) error {
		e := tool.Errorf(tool.NotServed, format, args...)
		e.Fix = "set hubble.address in the configuration"
		return e
	}
	switch {
	case f.client != nil:
		return f.client, nil
	case f.none != "":
		return nil, &tool.Error{Kind: tool.NotServed, User: f.none}
	case f.cfg.NoDiscovery:
		return nil, none("no Hubble is configured")
	}
	services, err := list()
	if err != nil {
		return nil, none("no Hubble is configured, and looking for one failed: %s", tool.UserText(err))
	}
	for _, s := range services {
		if s.Name != relayService || len(s.Spec.Ports) == 0 {
			continue
		}
		port := s.Spec.Ports[0].Port
		if !f.inCluster {
			e := tool.Errorf(tool.NotServed, "hubble-relay runs as Service %s/%s, which is not reached from outside of the cluster", s.Namespace, s.Name)
			e.Fix = fmt.Sprintf("kubectl -n %s port-forward svc/hubble-relay 4245:%d, and set hubble.address to 127.0.0.1:4245", s.Namespace, port)
			return nil, e
		}
		return f.cfg.client(fmt.Sprintf("%s.%s.svc:%d", s.Name, s.Namespace, port))
	}
	return nil, none("the cluster has no Service hubble-relay: Hubble's relay is not installed")
}

// ciliumEyes is what cilium sees of a cluster, in its own words.
type ciliumEyes struct{ src *kubesource.Source }

var (
	_ cilium.Objects = ciliumEyes{}
	_ cilium.Pods    = ciliumEyes{}
)

// Get implements cilium.Objects.
func (e ciliumEyes) Get(ctx context.Context, group, kind, namespace, name string) (*unstructured.Unstructured, error) {
	m, err := e.src.MappingOf(ctx, incident.Ref{Group: group, Kind: kind})
	if err != nil {
		return nil, err
	}
	return e.src.GetMapped(ctx, m, namespace, name)
}

// List implements cilium.Objects.
func (e ciliumEyes) List(ctx context.Context, group, kind, namespace string) ([]*unstructured.Unstructured, error) {
	m, err := e.src.MappingOf(ctx, incident.Ref{Group: group, Kind: kind})
	if err != nil {
		return nil, err
	}
	return e.src.ListMapped(ctx, m, namespace, kubesource.Selectors{})
}

// Served implements cilium.Objects.
func (e ciliumEyes) Served(ctx context.Context, group string) (bool, error) {
	d, err := e.src.Discovered(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(d.Kinds, func(m kubesource.Mapping) bool { return m.GVR.Group == group }), nil
}

// Pod implements cilium.Pods.
func (e ciliumEyes) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return e.src.Pod(ctx, namespace, name)
}

// Pods implements cilium.Pods.
func (e ciliumEyes) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return e.src.Pods(ctx, namespace)
}

// Tail implements cilium.Pods.
func (e ciliumEyes) Tail(ctx context.Context, namespace, pod, container string, lines int) (string, error) {
	l, err := e.src.Logs(ctx, namespace, pod, kubesource.LogQuery{Container: container, Tail: lines})
	return l.Text, err
}

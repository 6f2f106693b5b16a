package app

import (
	"context"
	"fmt"
	"io"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/serving"
)

// newServing wires the serving toolset to what the Kubernetes toolset reads.
func newServing(src *source, k *kube.Toolset, client kubernetes.Interface) (*serving.Toolset, error) {
	eyes := servingEyes{src: k.Source()}
	return serving.New(serving.Config{
		Objects: eyes, Pods: eyes, Logs: eyes, Metrics: src.promClient(), Proxy: podProxy{client}, Cluster: src.cluster, Now: src.now,
	})
}

// podProxy reaches ports of pods through the API server (pods/proxy).
type podProxy struct{ client kubernetes.Interface }

var _ serving.Proxy = podProxy{}

// Get implements serving.Proxy.
func (p podProxy) Get(ctx context.Context, namespace, pod string, port int, path string, limit int64) ([]byte, error) {
	return p.do(ctx, "GET", namespace, pod, port, path, nil, limit)
}

// Post implements serving.Proxy.
func (p podProxy) Post(ctx context.Context, namespace, pod string, port int, path string, body []byte, limit int64) ([]byte, error) {
	return p.do(ctx, "POST", namespace, pod, port, path, body, limit)
}

func (p podProxy) do(ctx context.Context, verb, namespace, pod string, port int, path string, body []byte, limit int64) ([]byte, error) {
	r := p.client.CoreV1().RESTClient().Verb(verb).Namespace(namespace).Resource("pods").SubResource("proxy").
		Name(net.JoinSchemeNamePort("http", pod, strconv.Itoa(port))).Suffix(path)
	if body != nil {
		r = r.SetHeader("Content-Type", "application/json").Body(body)
	}
	stream, err := r.Stream(ctx)
	if err != nil {
		return nil, proxyError(err, namespace, pod, port, path)
	}
	defer func() { _ = stream.Close() }()
	raw, err := io.ReadAll(io.LimitReader(stream, limit+1))
	if err != nil {
		return nil, proxyError(err, namespace, pod, port, path)
	}
	return raw[:min(int64(len(raw)), limit)], nil
}

// proxyError tells a missing right from an engine that does not answer.
func proxyError(err error, namespace, pod string, port int, path string) error {
	what := fmt.Sprintf("%s on port %d of pod %s/%s", path, port, namespace, pod)
	switch {
	case apierrors.IsForbidden(err):
		return &tool.Error{Kind: tool.Forbidden, User: "this identity may not reach " + what, Fix: "grant get on pods/proxy in namespace " + namespace, Err: err}
	case apierrors.IsNotFound(err):
		return &tool.Error{Kind: tool.NotFound, User: what + " is not there", Err: err}
	}
	return &tool.Error{Kind: tool.Unreachable, User: what + " does not answer through the API server", Err: err}
}

// servingEyes is what serving sees of a cluster, in its own words. Reads share the
// cache of the Kubernetes toolset.
type servingEyes struct{ src *kubesource.Source }

var (
	_ serving.Objects = servingEyes{}
	_ serving.Pods    = servingEyes{}
	_ serving.Logs    = servingEyes{}
)

// Served implements serving.Objects.
func (e servingEyes) Served(ctx context.Context) ([]serving.Served, error) {
	d, err := e.src.Discovered(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]serving.Served, 0, len(d.Kinds))
	for _, k := range d.Kinds {
		out = append(out, serving.Served{Group: k.GVR.Group, Version: k.GVR.Version, Kind: k.Kind, Namespaced: k.Namespaced})
	}
	return out, nil
}

// word names a kind with its group for the source.
func word(group, kind string) string {
	if group == "" {
		return kind
	}
	return kind + "." + group
}

// List implements serving.Objects.
func (e servingEyes) List(ctx context.Context, group, kind, namespace, selector string) ([]*unstructured.Unstructured, error) {
	return e.src.List(ctx, word(group, kind), namespace, kubesource.Selectors{Labels: selector})
}

// Get implements serving.Objects.
func (e servingEyes) Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error) {
	return e.src.Get(ctx, ref)
}

// Pod implements serving.Pods.
func (e servingEyes) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return e.src.Pod(ctx, namespace, name)
}

// Matching implements serving.Pods.
func (e servingEyes) Matching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error) {
	return e.src.PodsMatching(ctx, namespace, sel)
}

// Tail implements serving.Logs.
func (e servingEyes) Tail(ctx context.Context, namespace, pod, container string, previous bool, lines int) (string, error) {
	l, err := e.src.Logs(ctx, namespace, pod, kubesource.LogQuery{Container: container, Previous: previous, Tail: lines})
	return l.Text, err
}

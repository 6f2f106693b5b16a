package app

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/serving"
)

// newServing wires the serving toolset to what the Kubernetes toolset reads.
func newServing(src *source, k *kube.Toolset) (*serving.Toolset, error) {
	eyes := servingEyes{src: k.Source()}
	return serving.New(serving.Config{Objects: eyes, Pods: eyes, Logs: eyes, Cluster: src.cluster, Now: src.now})
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

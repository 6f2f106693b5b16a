package app

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// newCilium wires the cilium toolset to what the kube toolset reads and caches.
func newCilium(src *source, k *kube.Toolset) (*cilium.Toolset, error) {
	eyes := ciliumEyes{src: k.Source()}
	return cilium.New(cilium.Config{Objects: eyes, Pods: eyes, Cluster: src.cluster, Now: src.now})
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

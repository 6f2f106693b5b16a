package source

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// PodsOnNode lists the pods bound to a node, narrowed by the server.
func (s *Source) PodsOnNode(ctx context.Context, node string) ([]*corev1.Pod, error) {
	keep := func(p *corev1.Pod) bool { return p.Spec.NodeName == node }
	if all, ok := s.cache.Peek(ctx, call{verb: "list", resource: "pods"}.key()); ok {
		return filter(all.([]*corev1.Pod), keep), nil
	}
	pods, err := listAll(ctx, s, call{resource: "pods", fields: fields.OneTermEqualSelector("spec.nodeName", node).String()},
		s.client.CoreV1().Pods("").List, func(l *corev1.PodList) []corev1.Pod { return l.Items })
	return filter(pods, keep), err
}

// PodsMatching lists the pods of a namespace that a label selector selects. A
// selector that matches everything lists them all; nil matches nothing, as a
// nil LabelSelector does.
func (s *Source) PodsMatching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error) {
	if sel == nil {
		return []*corev1.Pod{}, nil
	}
	keep := func(p *corev1.Pod) bool { return sel.Matches(labels.Set(p.Labels)) }
	if all, ok := s.cache.Peek(ctx, call{verb: "list", resource: "pods", namespace: namespace}.key()); ok {
		return filter(all.([]*corev1.Pod), keep), nil
	}
	pods, err := listAll(ctx, s, call{resource: "pods", namespace: namespace, labels: sel.String()},
		s.client.CoreV1().Pods(namespace).List, func(l *corev1.PodList) []corev1.Pod { return l.Items })
	return filter(pods, keep), err
}

// EndpointSlices lists the EndpointSlices of a Service, by the label that the
// endpoint slice controller sets (kubernetes.io/service-name).
func (s *Source) EndpointSlices(ctx context.Context, namespace, service string) ([]*discoveryv1.EndpointSlice, error) {
	sel := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service})
	out, err := listAll(ctx, s, call{group: "discovery.k8s.io", resource: "endpointslices", namespace: namespace, labels: sel.String()},
		s.client.DiscoveryV1().EndpointSlices(namespace).List, func(l *discoveryv1.EndpointSliceList) []discoveryv1.EndpointSlice { return l.Items })
	return filter(out, func(e *discoveryv1.EndpointSlice) bool { return sel.Matches(labels.Set(e.Labels)) }), err
}

// ConfigMapInfo is what is told about a ConfigMap: that it exists and which
// keys it has, not their values.
type ConfigMapInfo struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Keys      []string          `json:"keys"`
	Labels    map[string]string `json:"labels,omitempty"`
	Immutable bool              `json:"immutable,omitempty"`
}

// ConfigMap reads which keys a ConfigMap has, sorted; binaryData counts too.
func (s *Source) ConfigMap(ctx context.Context, namespace, name string) (*ConfigMapInfo, error) {
	c := call{verb: "get", resource: "configmaps", namespace: namespace, name: name}
	return cached(ctx, s, c, func(ctx context.Context) (*ConfigMapInfo, int, error) {
		cm, err := s.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, 0, err
		}
		info := &ConfigMapInfo{Namespace: cm.Namespace, Name: cm.Name, Keys: []string{}, Labels: cm.Labels, Immutable: cm.Immutable != nil && *cm.Immutable}
		for k := range cm.Data {
			info.Keys = append(info.Keys, k)
		}
		for k := range cm.BinaryData {
			info.Keys = append(info.Keys, k)
		}
		slices.SortFunc(info.Keys, strings.Compare)
		return info, 1, nil
	})
}

func filter[T any](in []*T, keep func(*T) bool) []*T {
	out := make([]*T, 0, len(in))
	for _, v := range in {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

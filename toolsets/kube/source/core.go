package source

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Pod reads a Pod by name.
func (s *Source) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return getOne(ctx, s, call{resource: "pods", namespace: namespace, name: name}, s.client.CoreV1().Pods(namespace).Get)
}

// Pods lists the Pods of a namespace. An empty namespace means all
// of them, and then command, args and environment are left out.
func (s *Source) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return listAll(ctx, s, call{resource: "pods", namespace: namespace}, s.client.CoreV1().Pods(namespace).List,
		func(l *corev1.PodList) []corev1.Pod { return l.Items })
}

// Node reads a Node by name.
func (s *Source) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return getOne(ctx, s, call{resource: "nodes", name: name}, s.client.CoreV1().Nodes().Get)
}

// Nodes lists all Nodes. Status.Images is left out.
func (s *Source) Nodes(ctx context.Context) ([]*corev1.Node, error) {
	return listAll(ctx, s, call{resource: "nodes"}, s.client.CoreV1().Nodes().List,
		func(l *corev1.NodeList) []corev1.Node { return l.Items })
}

// Namespace reads a Namespace by name.
func (s *Source) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return getOne(ctx, s, call{resource: "namespaces", name: name}, s.client.CoreV1().Namespaces().Get)
}

// Namespaces lists all Namespaces.
func (s *Source) Namespaces(ctx context.Context) ([]*corev1.Namespace, error) {
	return listAll(ctx, s, call{resource: "namespaces"}, s.client.CoreV1().Namespaces().List,
		func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items })
}

// Service reads a Service by name.
func (s *Source) Service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	return getOne(ctx, s, call{resource: "services", namespace: namespace, name: name}, s.client.CoreV1().Services(namespace).Get)
}

// Services lists the Services of a namespace. An empty namespace means all of them.
func (s *Source) Services(ctx context.Context, namespace string) ([]*corev1.Service, error) {
	return listAll(ctx, s, call{resource: "services", namespace: namespace}, s.client.CoreV1().Services(namespace).List,
		func(l *corev1.ServiceList) []corev1.Service { return l.Items })
}

// ServiceAccount reads a ServiceAccount by name.
func (s *Source) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return getOne(ctx, s, call{resource: "serviceaccounts", namespace: namespace, name: name}, s.client.CoreV1().ServiceAccounts(namespace).Get)
}

// ServiceAccounts lists the ServiceAccounts of a namespace. An empty namespace means all of them.
func (s *Source) ServiceAccounts(ctx context.Context, namespace string) ([]*corev1.ServiceAccount, error) {
	return listAll(ctx, s, call{resource: "serviceaccounts", namespace: namespace}, s.client.CoreV1().ServiceAccounts(namespace).List,
		func(l *corev1.ServiceAccountList) []corev1.ServiceAccount { return l.Items })
}

// ResourceQuota reads a ResourceQuota by name.
func (s *Source) ResourceQuota(ctx context.Context, namespace, name string) (*corev1.ResourceQuota, error) {
	return getOne(ctx, s, call{resource: "resourcequotas", namespace: namespace, name: name}, s.client.CoreV1().ResourceQuotas(namespace).Get)
}

// ResourceQuotas lists the ResourceQuotas of a namespace. An empty namespace means all of them.
func (s *Source) ResourceQuotas(ctx context.Context, namespace string) ([]*corev1.ResourceQuota, error) {
	return listAll(ctx, s, call{resource: "resourcequotas", namespace: namespace}, s.client.CoreV1().ResourceQuotas(namespace).List,
		func(l *corev1.ResourceQuotaList) []corev1.ResourceQuota { return l.Items })
}

// LimitRange reads a LimitRange by name.
func (s *Source) LimitRange(ctx context.Context, namespace, name string) (*corev1.LimitRange, error) {
	return getOne(ctx, s, call{resource: "limitranges", namespace: namespace, name: name}, s.client.CoreV1().LimitRanges(namespace).Get)
}

// LimitRanges lists the LimitRanges of a namespace. An empty namespace means all of them.
func (s *Source) LimitRanges(ctx context.Context, namespace string) ([]*corev1.LimitRange, error) {
	return listAll(ctx, s, call{resource: "limitranges", namespace: namespace}, s.client.CoreV1().LimitRanges(namespace).List,
		func(l *corev1.LimitRangeList) []corev1.LimitRange { return l.Items })
}

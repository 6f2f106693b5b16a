package source

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
)

// Ingress reads an Ingress by name.
func (s *Source) Ingress(ctx context.Context, namespace, name string) (*networkingv1.Ingress, error) {
	return getOne(ctx, s, call{group: "networking.k8s.io", resource: "ingresses", namespace: namespace, name: name}, s.client.NetworkingV1().Ingresses(namespace).Get)
}

// Ingresses lists the Ingresses of a namespace. An empty namespace means all of them.
func (s *Source) Ingresses(ctx context.Context, namespace string) ([]*networkingv1.Ingress, error) {
	return listAll(ctx, s, call{group: "networking.k8s.io", resource: "ingresses", namespace: namespace}, s.client.NetworkingV1().Ingresses(namespace).List,
		func(l *networkingv1.IngressList) []networkingv1.Ingress { return l.Items })
}

// IngressClass reads an IngressClass by name.
func (s *Source) IngressClass(ctx context.Context, name string) (*networkingv1.IngressClass, error) {
	return getOne(ctx, s, call{group: "networking.k8s.io", resource: "ingressclasses", name: name}, s.client.NetworkingV1().IngressClasses().Get)
}

// IngressClasses lists all IngressClasses.
func (s *Source) IngressClasses(ctx context.Context) ([]*networkingv1.IngressClass, error) {
	return listAll(ctx, s, call{group: "networking.k8s.io", resource: "ingressclasses"}, s.client.NetworkingV1().IngressClasses().List,
		func(l *networkingv1.IngressClassList) []networkingv1.IngressClass { return l.Items })
}

// NetworkPolicy reads a NetworkPolicy by name.
func (s *Source) NetworkPolicy(ctx context.Context, namespace, name string) (*networkingv1.NetworkPolicy, error) {
	return getOne(ctx, s, call{group: "networking.k8s.io", resource: "networkpolicies", namespace: namespace, name: name}, s.client.NetworkingV1().NetworkPolicies(namespace).Get)
}

// NetworkPolicies lists the NetworkPolicies of a namespace. An empty namespace means all of them.
func (s *Source) NetworkPolicies(ctx context.Context, namespace string) ([]*networkingv1.NetworkPolicy, error) {
	return listAll(ctx, s, call{group: "networking.k8s.io", resource: "networkpolicies", namespace: namespace}, s.client.NetworkingV1().NetworkPolicies(namespace).List,
		func(l *networkingv1.NetworkPolicyList) []networkingv1.NetworkPolicy { return l.Items })
}

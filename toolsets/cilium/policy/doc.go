// Package policy decides what Cilium and Kubernetes policies say of a pair of
// endpoints: which policies select an end, whether a direction is in default deny,
// which rule lets the traffic pass or forbids it, and which rule came nearest. It
// knows plain objects and labels only and asks nobody.
//
// The meaning of the fields is that of Cilium 1.20 (CiliumNetworkPolicy,
// docs.cilium.io/en/stable/security/policy) and of networking.k8s.io/v1.
package policy

import (
	"net/netip"
	"strings"
)

// Direction of traffic as seen by the endpoint that a policy selects.
type Direction string

// The two directions.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// Answer is yes, no, or not to be told from what is at hand.
type Answer int

// The three answers; the zero value is the careful one.
const (
	Unknown Answer = iota
	Yes
	No
)

// Label keys by which Cilium knows where an endpoint is from.
const (
	NamespaceKey      = "io.kubernetes.pod.namespace"
	NamespaceLabelKey = "io.cilium.k8s.namespace.labels."
	ServiceAccountKey = "io.cilium.k8s.policy.serviceaccount"
	ClusterKey        = "io.cilium.k8s.policy.cluster"
)

// End is one end of a conversation.
type End struct {
	// Namespace of a pod; empty for what is no pod.
	Namespace string
	// Labels are identity labels with their source, "k8s:app" to "router",
	// "reserved:world" to "".
	Labels map[string]string
	// PodLabels and NamespaceLabels are the Kubernetes labels, which
	// NetworkPolicies are read against.
	PodLabels, NamespaceLabels map[string]string
	// Ports are the named ports of a pod.
	Ports map[string]int32
	// Addrs are its addresses, as far as known.
	Addrs []netip.Addr
	// Host is the DNS name by which it was asked for, if any.
	Host string
	// Service it was reached through, "namespace/name", if any.
	Service string
}

// Reserved reports whether the end has a reserved identity such as "host".
func (e *End) Reserved(name string) bool {
	_, ok := e.Labels["reserved:"+name]
	return ok
}

// managed reports whether the end is a pod that Cilium knows.
func (e *End) managed() bool { return e.Namespace != "" }

// PodEnd makes the end of a pod whose identity labels Cilium has not told: those
// that it would derive from the pod and its namespace.
func PodEnd(namespace, serviceAccount, cluster string, podLabels, nsLabels map[string]string) *End {
	l := map[string]string{"k8s:" + NamespaceKey: namespace}
	for k, v := range podLabels {
		l["k8s:"+k] = v
	}
	for k, v := range nsLabels {
		l["k8s:"+NamespaceLabelKey+k] = v
	}
	if serviceAccount != "" {
		l["k8s:"+ServiceAccountKey] = serviceAccount
	}
	if cluster != "" {
		l["k8s:"+ClusterKey] = cluster
	}
	return &End{Namespace: namespace, Labels: l, PodLabels: podLabels, NamespaceLabels: nsLabels}
}

// ReservedEnd makes the end of a reserved identity: world, host, remote-node,
// kube-apiserver, ingress, health, init, unmanaged.
func ReservedEnd(name string, addrs ...netip.Addr) *End {
	return &End{Labels: map[string]string{"reserved:" + name: ""}, Addrs: addrs}
}

// ParseLabels turns "k8s:app=router" as Cilium writes labels into a map.
func ParseLabels(list []string) map[string]string {
	out := make(map[string]string, len(list))
	for _, l := range list {
		k, v, _ := strings.Cut(l, "=")
		out[k] = v
	}
	return out
}

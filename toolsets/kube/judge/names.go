package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
)

// unresolved are the words of a program that cannot turn a name into an address.
var unresolved = pattern.New(`(?i)no such host|name resolution|name or service not known|could not (?:resolve|translate)|getaddrinfo|unknownhost|enotfound|eai_again|server misbehaving|lookup \S+ on \S+: |nodename nor servname`)

// asked finds the name that was looked up.
var asked = pattern.New(`(?i)(?:lookup|resolve host:?|resolve hostname|hostname|host name|getaddrinfo \w+|failed to resolve|unknownhostexception:|host:?) ["']?([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)["']?(?:[:\s,)/]|$)`)

// inCluster reports whether a name is one that only the cluster's DNS knows: a bare
// Service, one with its namespace, or one that ends as the cluster's names do.
func (j *judge) inCluster(ctx context.Context, name string) bool {
	labels := strings.Split(name, ".")
	switch {
	case name == "" || strings.Trim(name, "0123456789.") == "":
		return false
	case len(labels) == 1:
		return true
	case slices.Contains(labels, "svc") || strings.HasSuffix(name, ".cluster.local"):
		return true
	}
	_, err := j.src.Namespace(ctx, labels[1])
	return len(labels) == 2 && err == nil
}

// names judges what a pod whose program cannot resolve names could resolve: with
// the cluster's DNS down nobody can, and on the host's network only by policy.
func (j *judge) names(ctx context.Context, v *verdict, p *corev1.Pod) {
	// Only what containers say counts: the kubelet pulls images with the node's DNS.
	i := slices.IndexFunc(v.findings, func(f incident.Finding) bool {
		said := slices.Contains([]string{"kube.container_exit_error", "kube.init_container_failing", "kube.log_errors"}, f.Code)
		return said && unresolved.MatchString(f.Message)
	})
	if i < 0 {
		return
	}
	if p.Spec.HostNetwork && p.Spec.DNSPolicy == corev1.DNSClusterFirst || p.Spec.DNSPolicy == corev1.DNSDefault {
		name := ""
		if m := asked.FindStringSubmatch(v.findings[i].Message); m != nil {
			name = m[1]
		}
		where := "has dnsPolicy Default"
		if p.Spec.HostNetwork {
			where = "uses the host's network with dnsPolicy " + string(p.Spec.DNSPolicy)
		}
		switch {
		case name == "" && p.Spec.HostNetwork:
			// ClusterFirst on the host's network is seldom meant; which name failed is not said.
			v.fault("kube.dns_policy_wrong", incident.Critical, 0.6, v.subject, fmt.Sprintf("pod %s %s, so it resolves with the node's DNS and not the cluster's", v.subject.Path(), where), params("dns_policy", string(p.Spec.DNSPolicy)))
			return
		case j.inCluster(ctx, name):
			v.fault("kube.dns_policy_wrong", incident.Critical, 0.9, v.subject, fmt.Sprintf("pod %s %s, so it resolves %s with the node's DNS and not the cluster's", v.subject.Path(), where, name), params("dns_policy", string(p.Spec.DNSPolicy), "name", name))
			return
		}
		v.line("the pod %s: names of the cluster do not resolve in it", where)
		return
	}
	if p.Spec.DNSPolicy == corev1.DNSNone {
		return
	}
	if to, why, down := j.dnsDown(ctx); down {
		v.edge(v.subject, graph.Uses, to)
		v.line("%s", why)
		v.fault("kube.dns_unavailable", incident.Critical, 0.93, to, why, params("ready", "0"))
	}
}

// dnsDown reports whether the cluster's DNS has no pod that answers. Its Service
// is called kube-dns by custom, whatever serves (CoreDNS, kube-dns, NodeLocal).
func (j *judge) dnsDown(ctx context.Context) (incident.Ref, string, bool) {
	const namespace, name = "kube-system", "kube-dns"
	to := j.ref("", "Service", namespace, name)
	s, err := j.src.Service(ctx, namespace, name)
	if err != nil || len(s.Spec.Selector) == 0 {
		return to, "", false
	}
	pods, err := j.src.PodsMatching(ctx, namespace, labels.SelectorFromSet(s.Spec.Selector))
	if err != nil || slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return ready(p) || j.now().Sub(p.CreationTimestamp.Time) < 2*settle }) {
		return to, "", false
	}
	return to, fmt.Sprintf("the cluster's DNS, %s, has no ready endpoint (%d pods)", to, len(pods)), true
}

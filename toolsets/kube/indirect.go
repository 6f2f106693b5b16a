package kube

import (
	"context"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// maxOwnKinds bounds in how many of the cluster's own kinds a name is looked for.
const maxOwnKinds = 60

// indirect finds objects that a word means without being their name: the routes
// of a host, a Service by its DNS name, the StatefulSet whose pod is not there,
// and objects of the kinds that this cluster has added.
func (s *search) indirect(ctx context.Context, m tool.Mention) ([]incident.Ref, error) {
	if m.Kind == "" && strings.Contains(m.Name, ".") {
		if out := s.host(ctx, m); len(out) > 0 {
			return out, nil
		}
		if out := s.dnsName(ctx, m); len(out) > 0 {
			return out, nil
		}
	}
	if m.Kind == "" || m.Kind == "pods" {
		if out := s.ordinal(ctx, m); len(out) > 0 {
			return out, nil
		}
	}
	if m.Kind != "" {
		return nil, nil
	}
	served, err := s.src.Discovered(ctx)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, k := range served.Kinds {
		word := k.GVR.GroupResource().String()
		if strings.Contains(k.GVR.Group, ".") && !builtinGroup(k.GVR.Group) && !slices.Contains(namedKinds(), word) && !slices.Contains(own, word) {
			own = append(own, word)
		}
	}
	if len(own) == 0 || len(own) > maxOwnKinds {
		return nil, nil
	}
	return s.exact(ctx, own, m)
}

// host finds the Ingresses and HTTPRoutes that answer for a host name.
func (s *search) host(ctx context.Context, m tool.Mention) []incident.Ref {
	var out []incident.Ref
	answers := func(host string) bool {
		if rest, wild := strings.CutPrefix(host, "*."); wild {
			_, parent, _ := strings.Cut(m.Name, ".")
			return parent == rest
		}
		return host == m.Name
	}
	if list, err := s.src.Ingresses(ctx, m.Namespace); err == nil {
		for _, i := range list {
			if slices.ContainsFunc(i.Spec.Rules, func(r networkingv1.IngressRule) bool { return answers(r.Host) }) {
				out = append(out, s.src.Ref("networking.k8s.io", "Ingress", i.Namespace, i.Name))
			}
		}
	}
	for _, kind := range []string{"HTTPRoute", "GRPCRoute"} {
		list, err := s.src.List(ctx, strings.ToLower(kind)+"s.gateway.networking.k8s.io", m.Namespace, source.Selectors{})
		if err != nil {
			continue
		}
		for _, u := range list {
			hosts, _, _ := unstructured.NestedStringSlice(u.Object, "spec", "hostnames")
			if slices.ContainsFunc(hosts, answers) {
				out = append(out, s.src.Ref("gateway.networking.k8s.io", kind, u.GetNamespace(), u.GetName()))
			}
		}
	}
	return out
}

// dnsName reads "name.namespace.svc" and its longer and shorter forms.
func (s *search) dnsName(ctx context.Context, m tool.Mention) []incident.Ref {
	short := strings.TrimSuffix(strings.TrimSuffix(m.Name, ".cluster.local"), ".svc")
	parts := strings.Split(short, ".")
	if len(parts) != 2 || m.Namespace != "" && m.Namespace != parts[1] {
		return nil
	}
	if _, err := s.src.Service(ctx, parts[1], parts[0]); err != nil {
		return nil
	}
	return []incident.Ref{s.src.Ref("", "Service", parts[1], parts[0])}
}

// ordinal finds the StatefulSet that should have a pod of this name: that it is
// not there is then what is asked about.
func (s *search) ordinal(ctx context.Context, m tool.Mention) []incident.Ref {
	i := strings.LastIndexByte(m.Name, '-')
	if i <= 0 {
		return nil
	}
	n, err := strconv.Atoi(m.Name[i+1:])
	if err != nil {
		return nil
	}
	list, err := s.src.StatefulSets(ctx, m.Namespace)
	if err != nil {
		return nil
	}
	var out []incident.Ref
	for _, set := range list {
		first := 0
		if o := set.Spec.Ordinals; o != nil {
			first = int(o.Start)
		}
		if want := set.Spec.Replicas; set.Name == m.Name[:i] && want != nil && n >= first && n < first+int(*want) {
			out = append(out, s.src.Ref("apps", "StatefulSet", set.Namespace, set.Name))
		}
	}
	return out
}

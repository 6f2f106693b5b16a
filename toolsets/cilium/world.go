package cilium

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

// scene is what one call reads of a cluster, with what could not be read.
type scene struct {
	t        *Toolset
	config   map[string]string
	settings policy.Settings
	policies []*policy.Policy
	// notes say what was not seen or not understood.
	notes []string
	// blind says that some policies could not be read: nothing is called allowed then.
	blind bool
	// labels of namespaces, read as they are needed.
	namespaces map[string]map[string]string
}

// scene reads the settings and policies that decide about traffic.
func (t *Toolset) scene(ctx context.Context) *scene {
	s := &scene{t: t, namespaces: map[string]map[string]string{}}
	s.config = t.configMap(ctx, s, "kube-system", "cilium-config")
	s.settings = policy.Settings{
		Mode: s.config["enable-policy"], Audit: s.config["policy-audit-mode"] == "true",
		NodeCIDRs:         strings.Contains(s.config["policy-cidr-match-mode"], "nodes"),
		NoNetworkPolicies: s.config["enable-k8s-networkpolicy"] == "false",
	}
	for _, k := range []struct{ group, kind string }{{ciliumGroup, "CiliumNetworkPolicy"}, {ciliumGroup, "CiliumClusterwideNetworkPolicy"}, {netGroup, "NetworkPolicy"}} {
		list, err := t.objects.List(ctx, k.group, k.kind, "")
		switch {
		case err == nil:
		case tool.KindOf(err) == tool.NotServed:
			continue
		default:
			s.blind = true
			s.notes = append(s.notes, gap(k.kind, err))
			continue
		}
		for _, o := range list {
			var p *policy.Policy
			if k.kind == "NetworkPolicy" {
				p = policy.ParseNetworkPolicy(o.GetNamespace(), o.GetName(), o.Object)
			} else {
				p = policy.ParseCilium(k.kind, o.GetNamespace(), o.GetName(), o.Object)
			}
			if p.Unread != "" {
				s.notes = append(s.notes, p.String()+" is not understood: "+p.Unread)
			}
			s.policies = append(s.policies, p)
		}
	}
	return s
}

// configMap reads the data of a ConfigMap; none where there is none.
func (t *Toolset) configMap(ctx context.Context, s *scene, namespace, name string) map[string]string {
	o, err := t.objects.Get(ctx, "", "ConfigMap", namespace, name)
	if err != nil {
		if k := tool.KindOf(err); k != tool.NotFound && k != tool.NotServed && s != nil {
			s.notes = append(s.notes, gap("ConfigMap "+namespace+"/"+name, err))
		}
		return nil
	}
	data, _, err := unstructured.NestedStringMap(o.Object, "data")
	if err != nil {
		return nil
	}
	return data
}

// policyRef gives the reference of a policy.
func (t *Toolset) policyRef(p *policy.Policy) incident.Ref {
	group := ciliumGroup
	if p.Kind == "NetworkPolicy" {
		group = netGroup
	}
	return t.ref(group, p.Kind, p.Namespace, p.Name)
}

// end gives the policy view of a pod: the identity that its CiliumEndpoint tells,
// or what Cilium would derive. The endpoint is nil where there is none.
func (s *scene) end(ctx context.Context, p *corev1.Pod) (*policy.End, *endpoint) {
	ns := s.nsLabels(ctx, p.Namespace)
	e := policy.PodEnd(p.Namespace, p.Spec.ServiceAccountName, s.config["cluster-name"], p.Labels, ns)
	e.Ports = namedPorts(p)
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			e.Addrs = append(e.Addrs, a)
		}
	}
	if p.Spec.HostNetwork {
		// It has no identity of its own: to policies it is its node.
		h := policy.ReservedEnd("remote-node", e.Addrs...)
		h.Ports = e.Ports
		return h, nil
	}
	ep := s.endpoint(ctx, p)
	if ep != nil && len(ep.labels) > 0 {
		e.Labels = policy.ParseLabels(ep.labels)
	}
	return e, ep
}

// nsLabels gives the labels of a namespace. One that cannot be read has none, and
// that is noted, once.
func (s *scene) nsLabels(ctx context.Context, name string) map[string]string {
	if l, ok := s.namespaces[name]; ok {
		return l
	}
	o, err := s.t.objects.Get(ctx, "", "Namespace", "", name)
	if err != nil {
		s.notes = append(s.notes, gap("labels of namespace "+name, err))
		s.namespaces[name] = nil
		return nil
	}
	s.namespaces[name] = o.GetLabels()
	return o.GetLabels()
}

// endpoint is what a CiliumEndpoint tells of a pod.
type endpoint struct {
	id       int64
	identity int64
	labels   []string
	state    string
	object   *unstructured.Unstructured
}

// endpoint reads the CiliumEndpoint of a pod; nil if there is none or it cannot be read.
func (s *scene) endpoint(ctx context.Context, p *corev1.Pod) *endpoint {
	o, err := s.t.objects.Get(ctx, ciliumGroup, "CiliumEndpoint", p.Namespace, p.Name)
	if err != nil {
		if k := tool.KindOf(err); k != tool.NotFound && k != tool.NotServed {
			s.notes = append(s.notes, gap("CiliumEndpoint "+p.Namespace+"/"+p.Name, err))
		}
		return nil
	}
	ep := &endpoint{object: o}
	ep.id = integer(o, "status", "id")
	ep.identity = integer(o, "status", "identity", "id")
	ep.labels, _, _ = unstructured.NestedStringSlice(o.Object, "status", "identity", "labels")
	ep.state, _, _ = unstructured.NestedString(o.Object, "status", "state")
	return ep
}

// integer reads a whole number however it was decoded; 0 if there is none.
func integer(o *unstructured.Unstructured, path ...string) int64 {
	v, ok, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if !ok || err != nil {
		return 0
	}
	switch n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	case string:
		i, _ := strconv.ParseInt(n, 10, 64)
		return i
	}
	return 0
}

// str reads a string field; empty if there is none.
func str(o *unstructured.Unstructured, path ...string) string {
	v, _, _ := unstructured.NestedString(o.Object, path...)
	return v
}

// namedPorts are the ports of a pod by name.
func namedPorts(p *corev1.Pod) map[string]int32 {
	out := map[string]int32{}
	for _, c := range p.Spec.Containers {
		for _, x := range c.Ports {
			if x.Name != "" {
				out[x.Name] = x.ContainerPort
			}
		}
	}
	return out
}

// condition gives a condition of an object's status: status, reason, message.
func condition(o *unstructured.Unstructured, kind string) (status, reason, message string) {
	conds, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conds {
		m, _ := c.(map[string]any)
		if m["type"] == kind {
			s, _ := m["status"].(string)
			r, _ := m["reason"].(string)
			msg, _ := m["message"].(string)
			return s, r, msg
		}
	}
	return "", "", ""
}

// ready reports whether a pod is ready.
func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// over reports whether a pod is done and takes part in nothing.
func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil
}

// sick reports whether a scheduled pod is not ready long after its start, or has failed.
func (t *Toolset) sick(p *corev1.Pod) bool {
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || ready(p) {
		return false
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.RestartCount > 1 || c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
			return true
		}
	}
	return p.Status.StartTime != nil && t.now().Sub(p.Status.StartTime.Time) > settling
}

// labelText writes labels in a stable order.
func labelText(l map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		if l[k] == "" && strings.HasPrefix(k, "reserved:") {
			out = append(out, k)
			continue
		}
		out = append(out, k+"="+l[k])
	}
	return out
}

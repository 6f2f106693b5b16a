package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// deniedCodes are the findings of a pair that policy does not let through.
const deniedCodes = "cilium.traffic_denied,cilium.policy_denies,cilium.policy_port,cilium.policy_peer_labels,cilium.policy_namespace_scope,cilium.policy_cidr_names_pods,cilium.policy_fqdn_without_dns,cilium.policy_fqdn_mismatch,cilium.policy_blocks_hbone"

// proof says how the change shows: by what policy says of the pair and, where Hubble
// runs, by its flows. A check that nobody could answer is left out.
func (e *policyEdit) proof(ctx context.Context, d *draft) error {
	about, err := e.c.covered(ctx, e.o)
	if err != nil {
		return err
	}
	d.Blast.Notes = append(d.Blast.Notes, fmt.Sprintf("%s is about %s now; nothing is stopped, and what the rule names is let through", e.o.Ref, plural(int64(len(about)), "pod")))
	if len(about) > 1 && e.index < 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("the rule holds for all %d pods that the policy is about (%s), not only for the one that waits", len(about), namesOf(about)))
	}
	if e.peer != nil && len(e.peer.labels) > 0 {
		n, err := e.c.List(ctx, "Pod", e.peer.namespace, labels.Set(e.peer.labels).String(), "")
		if err != nil {
			return err
		}
		if len(n) == 0 {
			d.Warnings = append(d.Warnings, "no pod is "+e.peer.String()+" now")
		} else if len(n) > 1 {
			d.Blast.Notes = append(d.Blast.Notes, fmt.Sprintf("%s: %s", e.peer, plural(int64(len(n)), "pod")))
		}
	}
	d.Verify = append(d.Verify, incident.Check{Kind: CheckExists, Subject: e.o.Ref, Say: e.o.Ref.String() + " is there", Within: 30})
	if !e.c.serves("CiliumEndpoint.cilium.io") {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckNoFinding, Subject: e.o.Ref, Params: map[string]string{"code": "kube.network_policy_blocks"}, Say: "nothing says that " + e.o.Ref.String() + " blocks wanted traffic", Within: 60})
		return nil
	}
	self := strings.TrimPrefix(strings.TrimPrefix(e.p.str("self"), "pod "), "Pod ")
	peer := strings.TrimPrefix(strings.TrimPrefix(e.p.str("peer"), "pod "), "Pod ")
	if ns, name, ok := strings.Cut(self, "/"); !ok || name == "" || !e.c.isPod(ctx, ns, name) {
		self = ""
		if len(about) > 0 {
			self = about[0].GetNamespace() + "/" + about[0].GetName()
		}
	}
	if ns, name, ok := strings.Cut(peer, "/"); !ok || strings.HasPrefix(peer, "Service ") || !e.c.isPod(ctx, ns, name) {
		peer = ""
	}
	from, to := self, peer
	if e.dir == "ingress" {
		from, to = peer, self
	}
	if from != "" && to != "" {
		if err := d.pair(from, to, e.port); err != nil {
			return err
		}
	} else {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckNoFinding, Subject: e.o.Ref, Params: map[string]string{"code": "cilium.policy_denies"}, Say: "nothing says that " + e.o.Ref.String() + " denies wanted traffic", Within: 60})
	}
	if from == "" {
		from = to
	}
	if from == "" || !e.c.hubble(ctx) {
		return nil
	}
	return d.flows(from)
}

// pair asks what policy says of two pods.
func (d *draft) pair(from, to string, port *policyPort) error {
	ns, name, _ := strings.Cut(from, "/")
	toNS, toName, _ := strings.Cut(to, "/")
	in := map[string]any{"namespace": ns, "pod": name, "to_namespace": toNS, "to_pod": toName}
	on := ""
	if port != nil {
		in["port"], in["protocol"], on = port.number, port.proto, " on port "+port.String()
	}
	return d.tool("cilium_policy", in, deniedCodes, incident.Ref{Cluster: d.c.name, Kind: "Pod", Namespace: ns, Name: name}, "policy lets pod "+from+" reach pod "+to+on, 60, 0)
}

// flows asks Hubble whether packets of a pod are still dropped.
func (d *draft) flows(pod string) error {
	ns, name, _ := strings.Cut(pod, "/")
	return d.tool("cilium_flows", map[string]any{"namespace": ns, "pod": name, "minutes": 1}, "cilium.flows_dropped,cilium.clients_turned_away",
		incident.Ref{Cluster: d.c.name, Kind: "Pod", Namespace: ns, Name: name}, "no packet that pod "+pod+" needs is dropped", 180, 30)
}

func (d *draft) tool(tool string, in map[string]any, codes string, about incident.Ref, say string, within, hold int) error {
	args, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("arguments of %s: %w", tool, err)
	}
	d.Verify = append(d.Verify, incident.Check{Kind: CheckTool, Subject: about, Params: map[string]string{"tool": tool, "args": string(args), "codes": codes}, Say: say, Within: within, Hold: hold})
	return nil
}

func (c *Cluster) serves(kind string) bool {
	_, err := c.mapping(kind)
	return err == nil
}

func (c *Cluster) isPod(ctx context.Context, namespace, name string) bool {
	_, err := c.Get(ctx, "Pod", namespace, name)
	return err == nil
}

// hubble reports whether Hubble's relay runs, so that flows can be asked for.
func (c *Cluster) hubble(ctx context.Context) bool {
	for _, ns := range []string{"kube-system", "cilium", "cilium-system"} {
		o, err := c.Get(ctx, "Deployment.apps", ns, "hubble-relay")
		if err != nil {
			continue
		}
		n, _, _ := unstructured.NestedInt64(o.Object, "status", "readyReplicas")
		return n > 0
	}
	return false
}

// covered are the pods that a policy is about, as far as its first selector says.
func (c *Cluster) covered(ctx context.Context, o *Object) ([]*Object, error) {
	at, ns := selectorOf(o)
	if at == nil {
		return nil, nil
	}
	return c.podsWith(ctx, ns, at)
}

// podsWith lists the pods that a selector means. The prefixes that Cilium writes
// before keys are taken off; the namespace may be one of the labels.
func (c *Cluster) podsWith(ctx context.Context, namespace string, sel map[string]any) ([]*Object, error) {
	var s metav1.LabelSelector
	for k, v := range asStrings(sel["matchLabels"]) {
		k = bareKey(k)
		if k == "io.kubernetes.pod.namespace" {
			if namespace == "" {
				namespace = v
			}
			continue
		}
		if s.MatchLabels == nil {
			s.MatchLabels = map[string]string{}
		}
		s.MatchLabels[k] = v
	}
	for _, m := range mappings(sel["matchExpressions"]) {
		r := metav1.LabelSelectorRequirement{Key: bareKey(text(m, "key")), Operator: metav1.LabelSelectorOperator(text(m, "operator"))}
		values, _ := m["values"].([]any)
		for _, v := range values {
			if t, ok := v.(string); ok {
				r.Values = append(r.Values, t)
			}
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	x, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	list, err := c.List(ctx, "Pod", namespace, x.String(), "")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, podOver), nil
}

func bareKey(k string) string {
	for _, source := range []string{"k8s:", "any:", "k8s.", "any."} {
		if rest, ok := strings.CutPrefix(k, source); ok {
			return rest
		}
	}
	return k
}

func asStrings(v any) map[string]string {
	m, _ := v.(map[string]any)
	out := map[string]string{}
	for k, x := range m {
		if s, ok := x.(string); ok {
			out[k] = s
		}
	}
	return out
}

// selectorOf gives the selector by which a policy finds its pods, and the namespace
// it is held to.
func selectorOf(o *Object) (sel map[string]any, namespace string) {
	spec, _ := o.Object["spec"].(map[string]any)
	if spec == nil {
		if list := mappings(o.Object["specs"]); len(list) > 0 {
			spec = list[0]
		}
	}
	for _, f := range []string{"endpointSelector", "podSelector", "selector"} {
		if s, ok := spec[f].(map[string]any); ok {
			return s, o.GetNamespace()
		}
	}
	return nil, o.GetNamespace()
}

// repairSelector sets the value of one label in the selector by which a policy finds
// its pods. It never takes a policy off pods that it is about now.
func repairSelector(ctx context.Context, c *Cluster, p params) (*draft, error) {
	set, err := parseLabels(p.str("label"))
	if err != nil || len(set) != 1 {
		return nil, p.missing("label", "%q is not one label: it is written key=value", p.str("label"))
	}
	o, err := c.policy(ctx, p, p.str("kind"))
	if err != nil {
		return nil, err
	}
	now, err := c.covered(ctx, o)
	if err != nil {
		return nil, err
	}
	if len(now) > 0 {
		return nil, p.refuse("make a policy of its own for the other pods", "%s is about %s now (%s): they would be without it", o.Ref, plural(int64(len(now)), "pod"), namesOf(now))
	}
	change := func(u *unstructured.Unstructured) error {
		sel, _ := selectorOf(&Object{Unstructured: u})
		match, _ := sel["matchLabels"].(map[string]any)
		for key, value := range set {
			for k := range match {
				if bareKey(k) == key {
					match[k] = value
					return nil
				}
			}
			return p.missing("label", "the selector of %s has no label %s: only a value that is wrong is repaired", o.Ref, key)
		}
		return nil
	}
	next := &Object{Unstructured: o.DeepCopy(), Ref: o.Ref}
	if err := change(next.Unstructured); err != nil {
		return nil, err
	}
	pods, err := c.covered(ctx, next)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, p.missing("label", "no pod would be selected with %s", p.str("label"))
	}
	d := c.draft("Let %s select pods with %s", o.Ref, p.str("label"))
	if err := d.patch(o, d.Say, change); err != nil {
		return nil, err
	}
	d.Blast.Notes = append(d.Blast.Notes, fmt.Sprintf("the policy is about %s from now on (%s): what it does not let through is dropped", plural(int64(len(pods)), "pod"), namesOf(pods)))
	for k, v := range set {
		field, root := "endpointSelector", "spec"
		if c.planned[o.Ref].Object["spec"] == nil {
			root = "specs[0]"
		}
		if o.GetKind() == "NetworkPolicy" {
			field = "podSelector"
		} else if o.GetKind() == "AuthorizationPolicy" {
			field = "selector"
		}
		after, _ := selectorOf(&Object{Unstructured: c.planned[o.Ref]})
		for key := range asStrings(after["matchLabels"]) {
			if bareKey(key) == k {
				k = key
			}
		}
		d.Verify = append(d.Verify, incident.Check{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": root + "." + field + ".matchLabels." + strings.ReplaceAll(k, ".", `\.`), "value": v}, Say: o.Ref.String() + " selects " + p.str("label"), Within: 30})
	}
	return d, nil
}

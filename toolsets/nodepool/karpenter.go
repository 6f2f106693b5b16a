package nodepool

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// condition is one of status.conditions, read leniently: fields that a version does
// not have are empty.
type condition struct {
	kind, status, reason, message string
	at                            time.Time
}

func conditionsOf(u *unstructured.Unstructured) []condition {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var out []condition
	for _, x := range list {
		m, ok := x.(map[string]any)
		if !ok {
			continue
		}
		str := func(k string) string { s, _ := m[k].(string); return s }
		c := condition{kind: str("type"), status: str("status"), reason: str("reason"), message: str("message")}
		c.at, _ = time.Parse(time.RFC3339, str("lastTransitionTime"))
		out = append(out, c)
	}
	return out
}

func conditionOf(u *unstructured.Unstructured, kind string) (condition, bool) {
	cs := conditionsOf(u)
	i := slices.IndexFunc(cs, func(c condition) bool { return c.kind == kind })
	if i < 0 {
		return condition{}, false
	}
	return cs[i], true
}

func (l *look) list(ctx context.Context, kind string) []*unstructured.Unstructured {
	list, err := l.t.reads.List(ctx, kind)
	if err != nil && tool.KindOf(err) != tool.NotServed {
		l.v.gap(kind, err)
	}
	return list
}

func byName(list []*unstructured.Unstructured, name string) *unstructured.Unstructured {
	i := slices.IndexFunc(list, func(u *unstructured.Unstructured) bool { return u.GetName() == name })
	if i < 0 {
		return nil
	}
	return list[i]
}

// karpenterReasons takes Karpenter's word on a pod apart, a clause a NodePool.
func karpenterReasons(msg string) []string {
	msg = strings.TrimPrefix(strings.TrimSpace(msg), "Failed to schedule pod, ")
	out := []string{}
	for c := range strings.SplitSeq(msg, "; ") {
		if c = oneLine(c, 300); c != "" {
			out = append(out, c)
		}
	}
	return out
}

// exceeds finds the NodePool whose limits stand in the way, as either generation of
// Karpenter writes it.
var exceeds = pattern.New(`exceed(?:s|ed)? limits for nodepool:? ?"?([\w.-]*)"?|limits? .{0,40}exceeded.{0,60}NodePool="?([\w.-]+)"?`)

// karpenterDeclines judges a pod for which Karpenter makes no NodeClaim.
func (l *look) karpenterDeclines(ctx context.Context, p *corev1.Pod, said Event, reasons []string) {
	l.v.find("nodepool.scale_up_declined", 0, l.t.podRef(p), map[string]string{"message": oneLine(said.Message, 400), "reasons": strings.Join(reasons, "; ")},
		"Karpenter makes no node for pod %s: %s", p.Name, oneLine(strings.Join(reasons, "; "), 400))
	pools := l.list(ctx, "nodepools.karpenter.sh")
	limited := false
	for _, r := range reasons {
		m := exceeds.FindStringSubmatch(r)
		if m == nil {
			continue
		}
		name := orWord(m[1], m[2])
		if name == "" {
			if x := regexp.MustCompile(`NodePool="?([\w.-]+)"?`).FindStringSubmatch(r); x != nil {
				name = x[1]
			}
		}
		if u := byName(pools, name); u != nil && matches(u, p) == "" {
			limited = l.limits(p, u, said) || limited
		}
	}
	if limited {
		return
	}
	ready := false
	for _, u := range pools {
		if why := matches(u, p); why != "" {
			l.v.line("NodePool %s: %s", u.GetName(), why)
			continue
		}
		c, ok := conditionOf(u, "Ready")
		if !ok || c.status != "False" {
			ready = true
			continue
		}
		l.grow(p, l.t.ref(karpenterGroup, "NodePool", "", u.GetName()))
		l.notReady(ctx, u, c)
	}
	if ready {
		l.launches(ctx, p, pools)
	}
}

// limits blames a NodePool whose limits are used up, with its own figures.
func (l *look) limits(p *corev1.Pod, u *unstructured.Unstructured, said Event) bool {
	caps, _, _ := unstructured.NestedMap(u.Object, "spec", "limits")
	used, _, _ := unstructured.NestedMap(u.Object, "status", "resources")
	best, share := "", -1.0
	var have, most resource.Quantity
	for name, v := range caps {
		c, err := resource.ParseQuantity(fmt.Sprint(v))
		if err != nil || c.IsZero() {
			continue
		}
		x, err := resource.ParseQuantity(fmt.Sprint(used[name]))
		if err != nil {
			continue
		}
		if s := x.AsApproximateFloat64() / c.AsApproximateFloat64(); s > share || s == share && name < best {
			best, share, have, most = name, s, x, c
		}
	}
	ref := l.t.ref(karpenterGroup, "NodePool", "", u.GetName())
	if best == "" {
		return false
	}
	l.grow(p, ref)
	f := l.v.find("nodepool.limit_reached", 0.93, ref, map[string]string{"pool": u.GetName(), "resource": best, "limit": most.String(), "used": have.String(), "message": oneLine(said.Message, 300)},
		"NodePool %s, which would take pod %s, uses %s of its limit of %s %s, and another node of it would exceed that", u.GetName(), p.Name, have.String(), most.String(), best)
	f.FirstSeen = said.First
	return true
}

// notReady blames a NodePool that Karpenter passes over.
func (l *look) notReady(ctx context.Context, u *unstructured.Unstructured, c condition) {
	for _, k := range []string{"NodeClassReady", "ValidationSucceeded"} {
		if x, ok := conditionOf(u, k); ok && x.status == "False" {
			c = x
		}
	}
	class, _, _ := unstructured.NestedString(u.Object, "spec", "template", "spec", "nodeClassRef", "name")
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "template", "spec", "nodeClassRef", "kind")
	group, _, _ := unstructured.NestedString(u.Object, "spec", "template", "spec", "nodeClassRef", "group")
	params := map[string]string{"pool": u.GetName(), "condition": c.kind, "message": orWord(oneLine(c.message, 400), orWord(c.reason, "no reason is said"))}
	ref := l.t.ref(karpenterGroup, "NodePool", "", u.GetName())
	text := params["message"]
	if class != "" && c.kind == "NodeClassReady" {
		params["node_class"] = kind + " " + class
		if kind != "" && group != "" {
			l.v.edge(ref, graph.Class, l.t.ref(group, kind, "", class))
		}
		if more := l.classSays(ctx, kind, group, class); more != "" {
			text += "; " + more
		}
	}
	f := l.v.find("nodepool.not_ready", 0.92, ref, params, "Karpenter does not use NodePool %s: %s is False: %s", u.GetName(), c.kind, text)
	f.FirstSeen = c.at
}

// classSays reads what a node class says against itself.
func (l *look) classSays(ctx context.Context, kind, group, name string) string {
	if kind == "" || group == "" {
		return ""
	}
	u := byName(l.list(ctx, plural(kind)+"."+group), name)
	if u == nil {
		return ""
	}
	var out []string
	for _, c := range conditionsOf(u) {
		if c.status == "False" && c.kind != "Ready" {
			out = append(out, c.kind+" is False: "+orWord(oneLine(c.message, 200), c.reason))
		}
	}
	return kind + " " + name + ": " + strings.Join(out, "; ")
}

// plural is the resource name of a node class kind: EC2NodeClass, AKSNodeClass.
func plural(kind string) string {
	s := strings.ToLower(kind)
	if strings.HasSuffix(s, "s") {
		return s + "es"
	}
	return s + "s"
}

// launches looks for NodeClaims of a NodePool that would take the pod and that failed
// lately: Karpenter removes them, their events stay.
func (l *look) launches(ctx context.Context, p *corev1.Pod, pools []*unstructured.Unstructured) {
	evs, err := l.t.reads.Events(ctx, "NodeClaim", "", "")
	if err != nil {
		l.v.gap("events of NodeClaims", err)
		return
	}
	for _, e := range evs {
		if !e.Warning || l.t.now().Sub(e.Last) > 2*patience || !strings.Contains(e.Reason+e.Message, "Capacity") && !strings.Contains(e.Reason, "Launch") && !strings.Contains(e.Reason, "Failed") {
			continue
		}
		for _, u := range pools {
			if matches(u, p) != "" || !strings.HasPrefix(e.Name, u.GetName()+"-") {
				continue
			}
			ref := l.t.ref(karpenterGroup, "NodePool", "", u.GetName())
			l.grow(p, ref)
			l.failed(ref, u.GetName(), e.Reason, e.Reason+": "+e.Message, e.First, 0.92, "NodeClaim "+e.Name+" of NodePool "+u.GetName()+" was not launched")
			return
		}
	}
}

// matches says why a NodePool's template cannot take a pod; empty if it may. What the
// template leaves open is decided by the instance types, which are not seen here.
func matches(u *unstructured.Unstructured, p *corev1.Pod) string {
	labels, _, _ := unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "labels")
	reqs, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "requirements")
	for k, v := range p.Spec.NodeSelector {
		if k == "karpenter.sh/nodepool" {
			if v != u.GetName() {
				return "the pod asks for " + k + "=" + v
			}
			continue
		}
		if have, ok := labels[k]; ok {
			if have != v {
				return "its label " + k + " is " + have + ", the pod asks for " + v
			}
			continue
		}
		found := false
		for _, r := range reqs {
			m, _ := r.(map[string]any)
			if m["key"] != k {
				continue
			}
			found = true
			values, _ := m["values"].([]any)
			has := slices.ContainsFunc(values, func(x any) bool { return fmt.Sprint(x) == v })
			if m["operator"] == "In" && !has || m["operator"] == "NotIn" && has || m["operator"] == "DoesNotExist" {
				return "its requirement on " + k + " excludes " + v
			}
		}
		if !found && !wellKnown(k) {
			return "it has no label " + k
		}
	}
	taints, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "taints")
	for _, x := range taints {
		m, _ := x.(map[string]any)
		str := func(k string) string { s, _ := m[k].(string); return s }
		t := corev1.Taint{Key: str("key"), Value: str("value"), Effect: corev1.TaintEffect(str("effect"))}
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !slices.ContainsFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool { return tolerates(o, t) }) {
			return "the pod does not tolerate " + taintText(t)
		}
	}
	return ""
}

// wellKnown labels are those that a node gets without its template: Kubernetes' own
// and those of providers and of device discovery.
func wellKnown(key string) bool {
	group, _, ok := strings.Cut(key, "/")
	return ok && (strings.HasSuffix(group, "kubernetes.io") || strings.HasPrefix(group, "karpenter.") || strings.HasSuffix(group, "azure.com") || group == "nvidia.com")
}

var nominee = pattern.New(`nodeclaim/([\w.-]+)`)

// nominated judges the NodeClaim that Karpenter means for a pod.
func (l *look) nominated(ctx context.Context, p *corev1.Pod, said Event) {
	m := nominee.FindStringSubmatch(said.Message)
	if m == nil {
		l.v.line("Karpenter means an existing node for pod %s", p.Name)
		return
	}
	ref := l.t.ref(karpenterGroup, "NodeClaim", "", m[1])
	if u := byName(l.list(ctx, "nodeclaims.karpenter.sh"), m[1]); u != nil {
		l.grow(p, ref)
		l.claim(u)
		return
	}
	l.v.line("NodeClaim %s does not exist any more", m[1])
	l.launches(ctx, p, l.list(ctx, "nodepools.karpenter.sh"))
}

// claimByName judges one NodeClaim that is asked about.
func (l *look) claimByName(ctx context.Context, name string) error {
	list, err := l.t.reads.List(ctx, "nodeclaims.karpenter.sh")
	if err != nil {
		return err
	}
	u := byName(list, name)
	if u == nil {
		return tool.Errorf(tool.NotFound, "NodeClaim %s does not exist", name)
	}
	l.claim(u)
	return nil
}

// claim judges how far a NodeClaim has come: launched, registered, initialized.
func (l *look) claim(u *unstructured.Unstructured) {
	name, poolName := u.GetName(), u.GetLabels()["karpenter.sh/nodepool"]
	ref := l.t.ref(karpenterGroup, "NodeClaim", "", name)
	poolRef := l.t.ref(karpenterGroup, "NodePool", "", poolName)
	subject := ref
	if poolName != "" {
		l.v.edge(ref, graph.InPool, poolRef)
		subject = poolRef
	}
	state := map[string]condition{}
	for _, c := range conditionsOf(u) {
		state[c.kind] = c
		if c.status != "True" && c.kind != "Ready" && (c.message != "" || c.reason != "") {
			l.v.line("NodeClaim %s: %s is %s for %s: %s %s", name, c.kind, c.status, l.t.ago(c.at), c.reason, oneLine(c.message, 300))
		}
	}
	launched, registered, initialized := state["Launched"], state["Registered"], state["Initialized"]
	age := l.t.now().Sub(u.GetCreationTimestamp().Time)
	since := func(c condition) time.Duration {
		if c.at.IsZero() {
			return age
		}
		return l.t.now().Sub(c.at)
	}
	node, _, _ := unstructured.NestedString(u.Object, "status", "nodeName")
	params := map[string]string{"pool": poolName, "claim": name, "since": span(age)}
	switch {
	case u.GetDeletionTimestamp() != nil:
		l.v.line("NodeClaim %s is being deleted", name)
	case launched.status == "False" || launched.status != "True" && troubled(launched):
		l.failed(subject, poolName, launched.reason, strings.TrimSpace(launched.reason+" "+launched.message), launched.at, 0.93, "NodeClaim "+name+" is not launched")
	case initialized.status == "True":
		l.v.line("NodeClaim %s is node %s and ready to be used", name, node)
	case registered.status == "True":
		waited := since(registered)
		if waited < patience {
			l.v.find("nodepool.scaling_up", 0, ref, params, "node %s of NodeClaim %s registered %s ago and is being set up", node, name, span(waited))
			return
		}
		params["since"], params["message"] = span(waited), orWord(oneLine(strings.TrimSpace(initialized.reason+" "+initialized.message), 300), "no reason is said")
		if node != "" {
			params["node"] = node
			l.v.edge(ref, graph.ServedBy, l.t.nodeRef(node))
		}
		l.v.find("nodepool.node_not_initialized", 0.85, ref, params, "node %s of NodeClaim %s registered %s ago and lacks what it was made for: %s", node, name, span(waited), params["message"])
	default:
		waited := since(launched)
		if waited < patience {
			l.v.find("nodepool.scaling_up", 0, ref, params, "NodeClaim %s was made %s ago for NodePool %s; a machine takes up to %s to become a node", name, span(age), poolName, span(patience))
			return
		}
		params["since"] = span(waited)
		if registered.message != "" || registered.reason != "" {
			params["message"] = oneLine(strings.TrimSpace(registered.reason+" "+registered.message), 300)
		}
		l.v.find("nodepool.node_not_registered", 0.9, ref, params, "the machine of NodeClaim %s was launched %s ago and has not become a node (Karpenter gives up after %s)", name, span(waited), span(patience))
	}
}

// troubled reports whether a condition that is not yet decided tells of a failure.
func troubled(c condition) bool {
	s := strings.ToLower(c.reason + " " + c.message)
	return strings.Contains(s, "fail") || strings.Contains(s, "error") || strings.Contains(s, "insufficient") || strings.Contains(s, "quota")
}

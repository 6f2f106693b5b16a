package judge

import (
	"context"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
)

// What a change would have to be is said beside a fault only where the objects leave
// one answer. Where a person has to choose, nothing is said.

// yes is how a fact that holds is written in the params of a finding.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// meant is the one candidate that a word must mean: it differs in letter case or in
// one or two letters, and no other candidate comes as near. Empty when there is none.
func meant(word string, candidates []string) string {
	allowed := 2
	if len(word) < 6 {
		allowed = 1
	}
	best, far, tie := "", allowed+1, false
	for _, c := range candidates {
		if c == word {
			return ""
		}
		d := 0
		if !strings.EqualFold(c, word) {
			d = distance(word, c)
		}
		switch {
		case d < far:
			best, far, tie = c, d, false
		case d == far && c != best:
			tie = true
		}
	}
	if tie || far > allowed {
		return ""
	}
	return best
}

// distance counts the letters that are to be added, taken out, changed or swapped with
// their neighbour to make one word of another (optimal string alignment). Figures are
// not letters: pool-1 is no misspelt pool-2.
func distance(a, b string) int {
	digits := func(s string) string { return regexp.MustCompile(`\D+`).ReplaceAllString(s, " ") }
	if strings.TrimSpace(digits(a)) != strings.TrimSpace(digits(b)) {
		return len(a) + len(b)
	}
	x, y := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	var before, last []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, last, row = last, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}

// belongs reports whether a pod is made for the nodes that a taint keeps others off:
// it asks for the very resource that the taint is named after, or selects nodes by a
// label of the same key and value. Any other taint is somebody's decision.
func belongs(p *corev1.Pod, taint string) string {
	kv, _, _ := strings.Cut(taint, ":")
	key, value, _ := strings.Cut(kv, "=")
	accelerators := false
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for name, q := range c.Resources.Limits {
			if q.IsZero() {
				continue
			}
			if string(name) == key {
				return "it asks for " + key
			}
			accelerators = accelerators || filters.IsExtended(string(name)) && strings.HasSuffix(string(name), "/gpu")
		}
	}
	// The taint that AKS documents for its GPU pools.
	if key == "sku" && value == "gpu" && accelerators {
		return "it asks for GPUs"
	}
	if v, ok := p.Spec.NodeSelector[key]; ok && value != "" && v == value {
		return "it selects nodes with " + key + "=" + value
	}
	return ""
}

// relabel is the label that a node selector must mean, "key=value": exactly one of its
// labels is wrong, nodes that fit otherwise have one value that differs in a letter.
func relabel(p *corev1.Pod, wrong []filters.Demand, fits []*corev1.Node) string {
	if len(wrong) != 1 {
		return ""
	}
	for k, v := range p.Spec.NodeSelector {
		if wrong[0].Text != k+"="+v {
			continue
		}
		var values []string
		for _, n := range fits {
			if have, ok := n.Labels[k]; ok && !slices.Contains(values, have) {
				values = append(values, have)
			}
		}
		if to := meant(v, values); to != "" {
			return k + "=" + to
		}
	}
	return ""
}

// sound reports whether nothing but the cordon speaks against a node: it is ready, no
// condition of it is harmful, nothing else keeps pods off, and no repair or upgrade
// has marked it.
func (j *judge) sound(n *corev1.Node) bool {
	if nodeReady(n) != corev1.ConditionTrue || n.DeletionTimestamp != nil || len(n.Status.Conditions) == 0 {
		return false
	}
	if slices.ContainsFunc(j.judgeNode(n).findings, func(f incident.Finding) bool { return f.Role == incident.Fault }) {
		return false
	}
	for _, t := range n.Spec.Taints {
		if t.Key != corev1.TaintNodeUnschedulable && t.Effect != corev1.TaintEffectPreferNoSchedule {
			return false
		}
	}
	marked := regexp.MustCompile(`(?i)quarantin|repair|remediat|maintenance|drain|upgrad|nvsentinel|gumshoe\.ai|kured|kubereboot`)
	for _, m := range []map[string]string{n.Labels, n.Annotations} {
		for k := range m {
			if marked.MatchString(k) {
				return false
			}
		}
	}
	return true
}

// oneClass is the class that must be meant: the one that a misspelt name comes near,
// or the only one there is where none is named.
func oneClass(class string, names []string) string {
	if class == "" {
		if len(names) == 1 {
			return names[0]
		}
		return ""
	}
	return meant(class, names)
}

// oneStorageClass is oneClass among the StorageClasses.
func (j *judge) oneStorageClass(ctx context.Context, class string) string {
	all, err := j.src.StorageClasses(ctx)
	if err != nil {
		return ""
	}
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	return oneClass(class, names)
}

// meantSelector is the selector that a Service must mean, where one label of it is
// wrong: the pods of exactly one workload have all the others, and of this one a value
// that is the Service's own name, or the selector's misspelt. Any other value may be
// that of another program.
func (j *judge) meantSelector(ctx context.Context, s *corev1.Service) string {
	pods, err := j.src.Pods(ctx, s.Namespace)
	if err != nil {
		return ""
	}
	var found string
	for k, v := range s.Spec.Selector {
		var values []string
		for _, p := range pods {
			if have := p.Labels[k]; have != "" && !slices.Contains(values, have) {
				values = append(values, have)
			}
		}
		for _, to := range values {
			if to != s.Name && to != meant(v, values) {
				continue
			}
			next := maps.Clone(s.Spec.Selector)
			next[k] = to
			sel := labels.SelectorFromSet(next)
			if !j.oneWorkload(ctx, pods, sel) {
				continue
			}
			if found != "" {
				return ""
			}
			found = sel.String()
		}
	}
	return found
}

// oneWorkload reports whether a selector finds pods, all of one workload.
func (j *judge) oneWorkload(ctx context.Context, pods []*corev1.Pod, sel labels.Selector) bool {
	owners := map[incident.Ref]bool{}
	for _, p := range pods {
		if over(p) || p.DeletionTimestamp != nil || !sel.Matches(labels.Set(p.Labels)) {
			continue
		}
		o, ok := j.owner(p)
		if !ok {
			return false
		}
		if o.Kind == "ReplicaSet" {
			r, err := j.src.ReplicaSet(ctx, o.Namespace, o.Name)
			if err != nil {
				return false
			}
			if up, ok := j.owner(r); ok {
				o = up
			}
		}
		owners[o] = true
	}
	return len(owners) == 1
}

// asksRightly is a probe as it should be, as JSON, where the kubelet's words leave one
// answer: it asks by HTTPS and the server speaks HTTP.
func asksRightly(probe *corev1.Probe, message string) string {
	if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Scheme != corev1.URISchemeHTTPS || !containsAny(message, "server gave HTTP response to HTTPS client") {
		return ""
	}
	next := probe.DeepCopy()
	next.HTTPGet.Scheme = corev1.URISchemeHTTP
	raw, err := json.Marshal(next)
	if err != nil {
		return ""
	}
	return string(raw)
}

// onlyPort is the one port that a container declares, by name where it has one.
func onlyPort(c *corev1.Container) string {
	if len(c.Ports) != 1 {
		return ""
	}
	if c.Ports[0].Name != "" {
		return c.Ports[0].Name
	}
	return strconv.Itoa(int(c.Ports[0].ContainerPort))
}

// sole is the one port that pods declare, "name/number" or "number", by name where it
// has one; empty when they declare none or several.
func sole(declared map[string]bool) string {
	if len(declared) != 1 {
		return ""
	}
	for p := range declared {
		name, _, _ := strings.Cut(p, "/")
		return name
	}
	return ""
}

// takenFrom says why the pods of a Job failed when each of them was taken away by the
// cluster and none failed by itself; empty when that cannot be seen of one of them.
func (j *judge) takenFrom(ctx context.Context, b *batchv1.Job) string {
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil || sel.Empty() {
		return ""
	}
	pods, err := j.src.PodsMatching(ctx, b.Namespace, sel)
	if err != nil {
		return ""
	}
	why, n := "", int32(0)
	for _, p := range pods {
		if !metav1.IsControlledBy(p, b) || p.Status.Phase != corev1.PodFailed {
			continue
		}
		c := condition(p, corev1.DisruptionTarget)
		if c == nil || c.Status != corev1.ConditionTrue {
			return ""
		}
		why, n = c.Reason, n+1
	}
	if n == 0 || n < b.Status.Failed {
		return ""
	}
	return firstOf(why, "DisruptionTarget")
}

// needed is the bound under which a quota admits one more pod: what is used and what
// was asked for. Empty where several lines are short, or a figure is none.
func needed(p map[string]string) string {
	used, err := resource.ParseQuantity(p["used"])
	asked, bad := resource.ParseQuantity(p["requested"])
	if err != nil || bad != nil || p["resource"] == "" || strings.Contains(p["resource"], ",") {
		return ""
	}
	used.Add(asked)
	return used.String()
}

// scaled is the workload that an autoscaler whose target is missing must mean, as
// "Kind/name": one of the target's kind whose name is misspelt, else the one that
// carries the autoscaler's own name. No other autoscaler may scale it.
func (j *judge) scaled(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler) string {
	t := h.Spec.ScaleTargetRef
	var names []string
	switch t.Kind {
	case "Deployment":
		all, err := j.src.Deployments(ctx, h.Namespace)
		if err != nil {
			return ""
		}
		for _, d := range all {
			names = append(names, d.Name)
		}
	case "StatefulSet":
		all, err := j.src.StatefulSets(ctx, h.Namespace)
		if err != nil {
			return ""
		}
		for _, s := range all {
			names = append(names, s.Name)
		}
	}
	to := meant(t.Name, names)
	if to == "" && slices.Contains(names, h.Name) {
		to = h.Name
	}
	others, err := j.src.HPAs(ctx, h.Namespace)
	if to == "" || err != nil || slices.ContainsFunc(others, func(o *autoscalingv2.HorizontalPodAutoscaler) bool {
		return o.Name != h.Name && o.Spec.ScaleTargetRef.Kind == t.Kind && o.Spec.ScaleTargetRef.Name == to
	}) {
		return ""
	}
	return t.Kind + "/" + to
}

// wasScaled is how many replicas a workload had before it was scaled to zero, from the
// events of its scaling; empty when they do not tell.
func (j *judge) wasScaled(ctx context.Context, r incident.Ref) string {
	evs, err := j.src.Events(ctx, r.Namespace, r)
	if err != nil {
		return ""
	}
	down := regexp.MustCompile(`(?i)^scaled down replica set \S+ (?:from (\d+) to 0|to 0 from (\d+))\b`)
	at, n := -1, ""
	for i, e := range evs {
		m := down.FindStringSubmatch(e.Message)
		if e.Reason == "ScalingReplicaSet" && m != nil && (at < 0 || e.Last.After(evs[at].Last)) {
			at, n = i, m[1]+m[2]
		}
	}
	return n
}

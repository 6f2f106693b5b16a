package filters

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// requirement is one demand on a node's labels or fields. Requirements of one
// term must hold together; one of several terms is enough.
type requirement struct {
	text, key string
	// term is the index of the node affinity term, -1 for nodeSelector.
	term int
	pod  *corev1.Pod
}

// requirements takes the pod's demands apart, so that each can be tried alone.
func requirements(p *corev1.Pod) []requirement {
	var out []requirement
	for _, k := range slices.Sorted(maps.Keys(p.Spec.NodeSelector)) {
		out = append(out, requirement{text: k + "=" + p.Spec.NodeSelector[k], key: k, term: -1,
			pod: &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: map[string]string{k: p.Spec.NodeSelector[k]}}}})
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil || p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return out
	}
	terms := p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for i, t := range terms {
		one := func(e corev1.NodeSelectorRequirement, part corev1.NodeSelectorTerm) {
			text := e.Key + " " + string(e.Operator)
			if len(e.Values) > 0 {
				text += " (" + strings.Join(e.Values, ", ") + ")"
			}
			if len(terms) > 1 {
				text = fmt.Sprintf("term %d: %s", i+1, text)
			}
			out = append(out, requirement{text: text, key: e.Key, term: i, pod: &corev1.Pod{Spec: corev1.PodSpec{Affinity: &corev1.Affinity{
				NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{part}}}}}}})
		}
		for _, e := range t.MatchExpressions {
			one(e, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{e}})
		}
		for _, e := range t.MatchFields {
			one(e, corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{e}})
		}
	}
	return out
}

// Demand is one requirement on the node's labels and how the nodes answer it.
type Demand struct {
	Text string `json:"text"`
	// Nodes that meet it.
	Nodes int `json:"nodes"`
	// Values the nodes have for its label, most frequent first, at most five.
	Values []string `json:"values"`
	// Alone says that without this one demand some node would match them all.
	Alone bool `json:"alone"`
}

// Demands says of each requirement how many nodes meet it, and which single one
// keeps all of them away. Nodes counts only those that pass other reports.
func (s *Simulation) Demands(other func(*corev1.Node) bool) []Demand {
	reqs := requirements(s.w.Pod)
	out := make([]Demand, len(reqs))
	matchers := make([]nodeaffinity.RequiredNodeAffinity, len(reqs))
	values := make([]map[string]int, len(reqs))
	for i, r := range reqs {
		out[i] = Demand{Text: r.text, Values: []string{}}
		matchers[i], values[i] = nodeaffinity.GetRequiredNodeAffinity(r.pod), map[string]int{}
	}
	for _, n := range s.w.Nodes {
		failed, last := 0, -1
		for i := range reqs {
			if v, ok := n.Labels[reqs[i].key]; ok {
				values[i][v]++
			}
			if ok, err := matchers[i].Match(n); ok && err == nil {
				out[i].Nodes++
				continue
			}
			failed++
			last = i
		}
		if failed == 1 && (other == nil || other(n)) {
			out[last].Alone = true
		}
	}
	for i := range out {
		out[i].Values = frequent(values[i], 5)
	}
	return out
}

func frequent(m map[string]int, n int) []string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	out := make([]string, 0, n)
	for _, k := range keys[:min(len(keys), n)] {
		out = append(out, fmt.Sprintf("%s (%d)", k, m[k]))
	}
	return out
}

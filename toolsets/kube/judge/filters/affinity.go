package filters

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// term is a required pod (anti-)affinity term, ready to be matched.
type term struct {
	key, text  string
	selector   labels.Selector
	namespaces []string
	// everywhere: an empty namespace selector matches every namespace.
	everywhere bool
	nsSelector labels.Selector
}

// domain is one value of a topology key.
type domain struct{ key, value string }

// holder counts the pods of a domain that matter to a term, and names one.
type holder struct {
	count   int
	example string
}

// affinityIndex is what the placed pods mean for the pod, by topology domain,
// so that asking one node costs as much as it has terms.
type affinityIndex struct {
	affinity, anti []term
	// together counts pods that match all affinity terms at once, as the
	// scheduler does (pkg/scheduler/framework/plugins/interpodaffinity, v1.37).
	together map[domain]holder
	// apart counts pods that match one of the pod's anti-affinity terms.
	apart []map[domain]holder
	// refused are the domains that the anti-affinity of placed pods closes.
	refused map[domain]holder
	// keys of refused, so that a node is asked only for those.
	refusedKeys []string
	// first: the pod matches its own affinity and no other pod does.
	first bool
}

func makeTerm(t corev1.PodAffinityTerm, home string) (term, bool) {
	sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		return term{}, false
	}
	out := term{key: t.TopologyKey, selector: sel, namespaces: t.Namespaces, text: metav1.FormatLabelSelector(t.LabelSelector) + " in one " + t.TopologyKey}
	switch {
	case t.NamespaceSelector != nil:
		ns, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		if err != nil {
			return term{}, false
		}
		out.nsSelector, out.everywhere = ns, ns.Empty()
	case len(t.Namespaces) == 0:
		out.namespaces = []string{home}
	}
	return out, true
}

func makeTerms(ts []corev1.PodAffinityTerm, home string) []term {
	var out []term
	for _, t := range ts {
		if made, ok := makeTerm(t, home); ok {
			out = append(out, made)
		}
	}
	return out
}

// about reports whether the term speaks of a pod.
func (s *Simulation) about(t *term, p *corev1.Pod) bool {
	if !t.selector.Matches(labels.Set(p.Labels)) {
		return false
	}
	if t.everywhere || slices.Contains(t.namespaces, p.Namespace) {
		return true
	}
	if t.nsSelector == nil || s.w.NamespaceLabels == nil {
		return false
	}
	set, ok := s.w.NamespaceLabels(p.Namespace)
	return ok && t.nsSelector.Matches(labels.Set(set))
}

func (s *Simulation) indexAffinity(placed []*corev1.Pod) affinityIndex {
	x := affinityIndex{together: map[domain]holder{}, refused: map[domain]holder{}}
	if a := s.w.Pod.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			x.affinity = makeTerms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, s.w.Pod.Namespace)
		}
		if a.PodAntiAffinity != nil {
			x.anti = makeTerms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, s.w.Pod.Namespace)
		}
	}
	x.apart = make([]map[domain]holder, len(x.anti))
	for i := range x.apart {
		x.apart[i] = map[domain]holder{}
	}
	for _, p := range placed {
		n := s.nodeOf[p.Spec.NodeName]
		if s.aboutAll(x.affinity, p) {
			for _, t := range x.affinity {
				count(x.together, n, t.key, p)
			}
		}
		for i := range x.anti {
			if s.about(&x.anti[i], p) {
				count(x.apart[i], n, x.anti[i].key, p)
			}
		}
		if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
			for _, t := range makeTerms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, p.Namespace) {
				if s.about(&t, s.w.Pod) {
					count(x.refused, n, t.key, p)
				}
			}
		}
	}
	for d := range x.refused {
		if !slices.Contains(x.refusedKeys, d.key) {
			x.refusedKeys = append(x.refusedKeys, d.key)
		}
	}
	slices.Sort(x.refusedKeys)
	x.first = len(x.together) == 0 && s.aboutAll(x.affinity, s.w.Pod)
	return x
}

func (s *Simulation) aboutAll(ts []term, p *corev1.Pod) bool {
	for i := range ts {
		if !s.about(&ts[i], p) {
			return false
		}
	}
	return len(ts) > 0
}

func count(m map[domain]holder, n *corev1.Node, key string, p *corev1.Pod) {
	value, ok := n.Labels[key]
	if !ok {
		return
	}
	d := domain{key, value}
	h := m[d]
	h.count++
	if name := p.Namespace + "/" + p.Name; h.example == "" || name < h.example {
		h.example = name
	}
	m[d] = h
}

func (s *Simulation) affinityOf(n *corev1.Node, out []Refusal) []Refusal {
	for _, t := range s.near.affinity {
		value, ok := n.Labels[t.key]
		switch {
		case !ok:
			out = append(out, Refusal{Filter: Affinity, Key: t.text, Why: "has no label " + t.key + ", over which its pod affinity is asked"})
		case s.near.together[domain{t.key, value}].count == 0 && !s.near.first:
			out = append(out, Refusal{Filter: Affinity, Key: t.text, Why: "shares its " + t.key + " with no pod that its affinity asks for (" + t.text + ")"})
		}
	}
	for i, t := range s.near.anti {
		value, ok := n.Labels[t.key]
		if h := s.near.apart[i][domain{t.key, value}]; ok && h.count > 0 {
			out = append(out, Refusal{Filter: Affinity, Key: t.text, Why: "shares its " + t.key + " with a pod that its anti-affinity refuses (" + t.text + ")", Holder: h.example})
		}
	}
	for _, key := range s.near.refusedKeys {
		value, ok := n.Labels[key]
		h := s.near.refused[domain{key, value}]
		// The usual case, replicas that refuse each other, is one reason and not two.
		if ok && h.count > 0 && !slices.ContainsFunc(out, func(r Refusal) bool { return r.Filter == Affinity && r.Holder == h.example }) {
			out = append(out, Refusal{Filter: Affinity, Key: "anti-affinity over " + key, Why: "shares its " + key + " with a pod whose anti-affinity refuses it", Holder: h.example})
		}
	}
	return out
}

// spreadRule is a DoNotSchedule topology spread constraint with its counts.
type spreadRule struct {
	key     string
	maxSkew int
	self    int
	least   int
	// minDomains is how many domains there must be before the emptiest counts.
	minDomains int
	counts     map[string]int
}

// indexSpread counts the pods of each domain as the scheduler does: over the
// nodes that have all keys and that the node inclusion policies let in
// (pkg/scheduler/framework/plugins/podtopologyspread, v1.37).
func (s *Simulation) indexSpread() []spreadRule {
	var rules []spreadRule
	var selectors []labels.Selector
	var honour []struct{ affinity, taints bool }
	var keys []string
	for _, c := range s.w.Pod.Spec.TopologySpreadConstraints {
		sel, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if c.WhenUnsatisfiable != corev1.DoNotSchedule || err != nil {
			continue
		}
		// The API server merges matchLabelKeys into the selector since 1.34; adding
		// them again changes nothing, and older servers leave it to the scheduler.
		for _, k := range c.MatchLabelKeys {
			if v, ok := s.w.Pod.Labels[k]; ok {
				if set, err := labels.ValidatedSelectorFromSet(labels.Set{k: v}); err == nil {
					reqs, _ := set.Requirements()
					sel = sel.Add(reqs...)
				}
			}
		}
		r := spreadRule{key: c.TopologyKey, maxSkew: int(c.MaxSkew), counts: map[string]int{}}
		if sel.Matches(labels.Set(s.w.Pod.Labels)) {
			r.self = 1
		}
		if c.MinDomains != nil {
			r.minDomains = int(*c.MinDomains)
		}
		rules, selectors, keys = append(rules, r), append(selectors, sel), append(keys, c.TopologyKey)
		honour = append(honour, struct{ affinity, taints bool }{
			c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor,
			c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
		})
	}
	if len(rules) == 0 {
		return nil
	}
	for _, n := range s.w.Nodes {
		if slices.ContainsFunc(keys, func(k string) bool { _, ok := n.Labels[k]; return !ok }) {
			continue
		}
		matches, _ := s.require.Match(n)
		untainted := len(s.taints(n, nil)) == 0
		for i := range rules {
			if (honour[i].affinity && !matches) || (honour[i].taints && !untainted) {
				continue
			}
			k := 0
			for _, p := range s.byNode[n.Name] {
				if p.Namespace == s.w.Pod.Namespace && p.DeletionTimestamp == nil && selectors[i].Matches(labels.Set(p.Labels)) {
					k++
				}
			}
			rules[i].counts[n.Labels[rules[i].key]] += k
		}
	}
	for i := range rules {
		rules[i].least = leastOf(rules[i].counts)
		if len(rules[i].counts) < rules[i].minDomains {
			rules[i].least = 0
		}
	}
	return rules
}

func leastOf(counts map[string]int) int {
	least := -1
	for _, n := range counts {
		if least < 0 || n < least {
			least = n
		}
	}
	return max(least, 0)
}

func (s *Simulation) spreadOf(n *corev1.Node, out []Refusal) []Refusal {
	for _, r := range s.spread {
		value, ok := n.Labels[r.key]
		if !ok {
			out = append(out, Refusal{Filter: Spread, Key: r.key, Why: "has no label " + r.key + ", over which its pods are spread", Never: true})
			continue
		}
		if r.counts[value]+r.self-r.least > r.maxSkew {
			out = append(out, Refusal{Filter: Spread, Key: r.key, Why: "is in a " + r.key + " that has its share of the spread already", Free: int64(r.least), Capacity: int64(r.counts[value])})
		}
	}
	return out
}

// Spreads tells the counts behind a spread constraint: pods of each domain.
func (s *Simulation) Spreads(key string) (counts map[string]int, maxSkew int) {
	for _, r := range s.spread {
		if r.key == key {
			return r.counts, r.maxSkew
		}
	}
	return nil, 0
}

// SelectorText writes nodeSelector and required node affinity in one line.
func SelectorText(p *corev1.Pod) string {
	var parts []string
	for _, r := range requirements(p) {
		parts = append(parts, r.text)
	}
	return strings.Join(parts, ", ")
}

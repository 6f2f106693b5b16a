package filters

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// volumeRule is a VolumeNeed with its selector parsed once.
type volumeRule struct {
	VolumeNeed
	selector *nodeaffinity.NodeSelector
}

func volumeRules(needs []VolumeNeed) []volumeRule {
	out := make([]volumeRule, 0, len(needs))
	for _, v := range needs {
		r := volumeRule{VolumeNeed: v}
		if v.Affinity != nil {
			if sel, err := nodeaffinity.NewNodeSelector(v.Affinity); err == nil {
				r.selector = sel
			}
		}
		out = append(out, r)
	}
	return out
}

func (s *Simulation) volumesOf(n *corev1.Node, out []Refusal) []Refusal {
	wanted := map[string]int{}
	for _, v := range s.volumes {
		switch {
		case v.HeldBy != "":
			out = append(out, Refusal{Filter: Volume, Key: v.Claim, Why: "cannot have claim " + v.Claim + ", which one pod at a time may use", Holder: v.HeldBy})
		case v.selector != nil && !v.selector.Match(n):
			out = append(out, Refusal{Filter: Volume, Key: v.Claim, Why: "is not where the volume of claim " + v.Claim + " can be reached"})
		case len(v.Topologies) > 0 && !slices.ContainsFunc(v.Topologies, func(t corev1.TopologySelectorTerm) bool { return inTopology(t, n) }):
			out = append(out, Refusal{Filter: Volume, Key: v.Claim, Why: "is not where a volume for claim " + v.Claim + " may be provisioned"})
		}
		if v.Driver != "" && !v.Attached[n.Name] {
			wanted[v.Driver]++
		}
	}
	if s.w.FreeAttachments == nil {
		return out
	}
	for _, v := range s.volumes {
		k := wanted[v.Driver]
		if k == 0 {
			continue
		}
		delete(wanted, v.Driver)
		if free, limited := s.w.FreeAttachments(n.Name, v.Driver); limited && free < k {
			out = append(out, Refusal{Filter: Attach, Key: v.Driver, Why: "takes no more volumes of " + v.Driver, Free: int64(max(free, 0))})
		}
	}
	return out
}

func inTopology(t corev1.TopologySelectorTerm, n *corev1.Node) bool {
	for _, e := range t.MatchLabelExpressions {
		if v, ok := n.Labels[e.Key]; !ok || !slices.Contains(e.Values, v) {
			return false
		}
	}
	return true
}

// VolumeText says what a claim's volume asks of a node.
func VolumeText(v VolumeNeed) string {
	if v.Affinity != nil {
		return SelectorText(&corev1.Pod{Spec: corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: v.Affinity}}}})
	}
	var parts string
	for _, t := range v.Topologies {
		for _, e := range t.MatchLabelExpressions {
			if parts != "" {
				parts += ", "
			}
			parts += e.Key + " in " + join(e.Values)
		}
	}
	return parts
}

func join(s []string) string {
	return strings.Join(s, "|")
}

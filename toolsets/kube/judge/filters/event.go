package filters

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Said is what the scheduler's own message counts: how many nodes there are, and
// how many each kind of refusal takes out. The scheduler stops at the first
// refusal of a node, so its counts are a part of what the simulation finds.
type Said struct {
	Nodes  int
	Counts map[Filter]int
	// Claims: devices could not be allocated. Waits: a claim for a volume is not
	// ready, so no node was asked.
	Claims, Waits bool
	// Claimed counts the nodes that Claims takes out.
	Claimed int
	// Unknown are the reasons of no kind known here, for example of a plugin.
	Unknown []string
}

// Kinds lists the filters named, sorted.
func (s Said) Kinds() []Filter {
	out := make([]Filter, 0, len(s.Counts))
	for f := range s.Counts {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

var (
	available = regexp.MustCompile(`^\d+/(\d+) nodes are available:\s*`)
	// aboutClaims are the words of the DynamicResources plugin: "cannot allocate all
	// claims", "resourceclaim in use", "waiting for dynamic resource controller".
	aboutClaims = regexp.MustCompile(`resourceclaim|\bclaims?\b|dynamic resource|device class|resource claim`)
	reason      = regexp.MustCompile(`^(\d+) (.+)$`)
)

// phrases are the scheduler's words and what they mean (ErrReason constants of
// pkg/scheduler/framework/plugins, v1.24 to v1.37). The first match counts.
func phrases() []struct {
	words  string
	filter Filter
} {
	return []struct {
		words  string
		filter Filter
	}{
		{"node.kubernetes.io/unschedulable", Cordon},
		{"were unschedulable", Cordon},
		{"node.kubernetes.io/", Lifecycle},
		{"untolerated taint", Taint},
		{"had taint", Taint},
		{"taints that the pod didn't tolerate", Taint},
		{"node affinity/selector", Selector},
		{"match node selector", Selector},
		{"requested node name", Selector},
		{"insufficient ", Resource},
		{"too many pods", Resource},
		{"existing pods anti-affinity", Affinity},
		{"pod anti-affinity", Affinity},
		{"pod affinity", Affinity},
		{"topology spread", Spread},
		{"free ports", Port},
		{"max volume count", Attach},
		{"volume node affinity conflict", Volume},
		{"persistentvolume's node affinity", Volume},
		{"available persistent volumes to bind", Volume},
		{"no available volume zone", Volume},
		{"readwriteoncepod", Volume},
		{"non-existent pv", Volume},
		{"no available disk", Volume},
		{"enough free storage", Volume},
	}
}

// Read takes a FailedScheduling message apart. The part about preemption is
// left out: it speaks of what preemption could not do.
func Read(message string) Said {
	s := Said{Counts: map[Filter]int{}}
	m := available.FindStringSubmatch(message)
	if m == nil {
		s.note(message, 1)
		return s
	}
	s.Nodes, _ = strconv.Atoi(m[1])
	rest := message[len(m[0]):]
	if i := strings.Index(rest, " preemption: "); i >= 0 {
		rest = rest[:i]
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(rest), "."), ", ") {
		n, text := 1, part
		if r := reason.FindStringSubmatch(part); r != nil {
			n, _ = strconv.Atoi(r[1])
			text = r[2]
		}
		s.note(text, n)
	}
	return s
}

func (s *Said) note(text string, n int) {
	low := strings.ToLower(text)
	// What stands in braces is a taint of the fleet's own naming.
	if i := strings.Index(low, "{"); i >= 0 && strings.Contains(low[:i], "taint") {
		for _, p := range phrases() {
			if strings.Contains(low, p.words) {
				s.Counts[p.filter] += n
				return
			}
		}
	}
	switch {
	case strings.Contains(low, "persistentvolumeclaim") && !strings.Contains(low, "readwriteoncepod"):
		s.Waits = true
		return
	case aboutClaims.MatchString(low):
		s.Claims = true
		s.Claimed += n
		return
	}
	for _, p := range phrases() {
		if strings.Contains(low, p.words) {
			s.Counts[p.filter] += n
			return
		}
	}
	if text = strings.TrimSpace(text); text != "" {
		s.Unknown = append(s.Unknown, text)
	}
}

// Differs says where the scheduler's message and the simulation part: a filter
// the scheduler names that no node shows here, or nodes that fit here though
// the scheduler refused all. Empty means they agree.
func (s Said) Differs(vs []Verdict) []string {
	seen := map[Filter]bool{}
	fits := 0
	for _, v := range vs {
		if v.Fits() {
			fits++
		}
		for _, r := range v.Refusals {
			seen[r.Filter] = true
		}
	}
	var out []string
	for _, f := range s.Kinds() {
		// The taint's name tells trouble from a plain taint, and newer schedulers
		// leave it out.
		if seen[f] || (f == Taint && seen[Lifecycle]) || (f == Taint && seen[Cordon]) || (f == Lifecycle && seen[Taint]) {
			continue
		}
		out = append(out, "the scheduler counted "+strconv.Itoa(s.Counts[f])+" nodes against "+string(f)+", and now none is")
	}
	if s.Nodes > 0 && fits > 0 && !s.Claims && !s.Waits {
		out = append(out, strconv.Itoa(fits)+" nodes fit by this simulation")
	}
	if s.Nodes > 0 && s.Nodes != len(vs) {
		out = append(out, "it saw "+strconv.Itoa(s.Nodes)+" nodes, now there are "+strconv.Itoa(len(vs)))
	}
	return out
}

// Counted reports whether the message names a filter.
func (s Said) Counted(f Filter) bool { return s.Counts[f] > 0 }

// OnlyClaims reports whether devices are all that the message finds wanting, on each
// node there is. Filters run in order and DynamicResources is the last of the default
// plugins that can refuse for room (pkg/scheduler/apis/config/v1/default_plugins.go), so
// these nodes had room, ports and the rest for the pod when the scheduler looked.
func (s Said) OnlyClaims() bool {
	return s.Nodes > 0 && s.Claimed == s.Nodes && len(s.Counts) == 0 && len(s.Unknown) == 0 && !s.Waits
}

package dra

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// fix is a change that was tried with the scheduler's allocator, as the parameters
// of an action: what a proposal must carry for the change to be made as it was tried.
type fix struct {
	// claim or class is what changes.
	claim, class string
	params       map[string]string
}

// fixes are the parameters that a finding may carry, as "fix_" and the name, of the
// change that was tried first of those that fit.
func fixParams() []string {
	return []string{"fix_request", "fix_count", "fix_selector", "fix_selector_index", "fix_drop_selector", "fix_class", "fix_toleration",
		"fix_capacity_name", "fix_capacity_value", "fix_constraint", "fix_match_attribute", "fix_drop_constraint"}
}

// fix is a change of the want's request.
func (x *want) fix(params map[string]string) *fix {
	p := maps.Clone(params)
	p["request"] = x.name
	return &fix{claim: x.claim.Name, params: p}
}

func (x *want) fixCount(n int64) *fix {
	return x.fix(map[string]string{"count": strconv.FormatInt(n, 10)})
}

// fixSelector rewrites one selector of the request; one that is always true is no
// selector any more.
func (x *want) fixSelector(index int, expr string) *fix {
	i := strconv.Itoa(index)
	if expr == "true" {
		return x.fix(map[string]string{"drop_selector": i})
	}
	return x.fix(map[string]string{"selector": expr, "selector_index": i})
}

func fixConstraint(claim *resourceapi.ResourceClaim, index int, attribute string) *fix {
	i := strconv.Itoa(index)
	if attribute == "" {
		return &fix{claim: claim.Name, params: map[string]string{"drop_constraint": i}}
	}
	return &fix{claim: claim.Name, params: map[string]string{"constraint": i, "match_attribute": attribute}}
}

// about says whether a fix changes the subject of a finding, or, for a class that is
// not there, the claim that names it.
func (f *fix) about(o incident.Finding) bool {
	switch {
	case f == nil:
		return false
	case o.Subject.Kind == "ResourceClaim":
		return f.claim == o.Subject.Name
	case o.Code == "dra.class_missing":
		return f.claim == o.Params["claim"]
	case o.Subject.Kind == "DeviceClass":
		return f.class == o.Subject.Name
	}
	return false
}

// attach hands the best change that was tried to the faults: in words for the
// answer's "would fit", and as parameters for a proposal.
func (n *analysis) attach() {
	var parts []string
	for _, w := range n.out.WouldFit[:min(len(n.out.WouldFit), 2)] {
		text := w.Change + ": "
		if w.Devices > 0 {
			text += plural(w.Devices, "free device") + " on "
		}
		parts = append(parts, text+plural(w.Nodes, "node"))
	}
	if len(parts) == 0 {
		return
	}
	for i := range n.findings {
		f := &n.findings[i]
		if f.Role != incident.Fault || f.Params == nil {
			continue
		}
		// The params may be shared with another finding.
		f.Params = maps.Clone(f.Params)
		f.Params["would_fit"] = strings.Join(parts, "; ")
		if at := slices.IndexFunc(n.out.WouldFit, func(w WouldFit) bool { return w.fix.about(*f) }); at >= 0 {
			for k, v := range n.out.WouldFit[at].fix.params {
				f.Params["fix_"+k] = v
			}
		}
	}
}

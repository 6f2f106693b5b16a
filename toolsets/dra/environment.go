package dra

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// environment is for claims that ask for something that exists but cannot be had
// now: pools in disorder, taints, devices in use, fragmentation. What is abnormal
// and suffices alone is the cause; devices in use by others are the cause only
// when nothing abnormal is.
func (n *analysis) environment(ctx context.Context) {
	pools := n.single(ctx, "repair incomplete and invalid pools", completePools())
	taints := n.single(ctx, "ignore device taints", ignoreTaints())
	use := n.single(ctx, "ignore devices in use", ignoreUse())
	found := false
	if pools.ok() {
		found = n.poolFaults(pools) || found
	}
	if taints.ok() {
		n.taintFaults(ctx, taints)
		found = true
	}
	if use.ok() && n.leaks(ctx) {
		found = true
	}
	if !found && n.fragmented(ctx) {
		found = true
	}
	switch {
	case use.ok() && !found:
		n.useFaults(ctx, 0.93)
	case use.ok():
		n.context("dra.devices_in_use", use)
	}
	if found || use.ok() {
		n.smaller(ctx)
		return
	}
	n.envPairs(ctx)
	n.smaller(ctx)
}

func (n *analysis) single(ctx context.Context, label string, c change) fitting {
	f := n.a.where(ctx, c)
	n.counterfactual(label, f)
	return f
}

// envPairs tries two relaxations together, when no single one suffices.
func (n *analysis) envPairs(ctx context.Context) {
	type factor struct {
		label string
		c     change
		blame func(fitting)
	}
	fs := []factor{
		{"complete pools", completePools(), func(f fitting) { n.poolFaults(f) }},
		{"ignore taints", ignoreTaints(), func(f fitting) { n.taintFaults(ctx, f) }},
		{"ignore devices in use", ignoreUse(), func(fitting) { n.useFaults(ctx, 0.75) }},
	}
	for i := range fs {
		for j := i + 1; j < len(fs); j++ {
			f := n.a.where(ctx, fs[i].c, fs[j].c)
			n.counterfactual(fs[i].label+" and "+fs[j].label, f)
			if !f.ok() {
				continue
			}
			from := len(n.findings)
			fs[i].blame(f)
			fs[j].blame(f)
			for k := from; k < len(n.findings); k++ {
				n.findings[k].Confidence = min(n.findings[k].Confidence, 0.75)
			}
			return
		}
	}
	f := n.a.where(ctx, completePools(), ignoreTaints(), ignoreUse())
	n.counterfactual("complete pools, ignore taints and devices in use", f)
	if f.ok() {
		for _, x := range fs {
			x.blame(f)
		}
		for k := range n.findings {
			n.findings[k].Confidence = min(n.findings[k].Confidence, 0.65)
		}
	}
}

// context records a true but not deciding fact.
func (n *analysis) context(code string, f fitting) {
	for _, x := range n.a.wants {
		t := n.tables[x]
		if t.totals.InUse == 0 {
			continue
		}
		c := finding(code, n.subject(x.claim), 0.3, map[string]string{"matching": itoa(t.totals.AfterSelectors), "in_use": itoa(t.totals.InUse), "request": x.name, "holders": ""},
			"%d of %d devices that match request %s are allocated to other claims", t.totals.InUse, t.totals.AfterSelectors, x.name)
		c.Role, c.Severity = incident.Context, incident.Info
		n.findings = append(n.findings, c)
	}
}

// poolFaults reports the pools whose completion makes the claims fit (F05, F06).
func (n *analysis) poolFaults(f fitting) bool {
	found := false
	seen := map[*pool]bool{}
	for _, g := range f.groups {
		for _, nd := range g.nodes {
			for _, s := range n.a.w.fleet.forNode(nd) {
				p := s.pool
				if seen[p] || p.complete() && p.invalid == "" || !n.wanted(p) {
					continue
				}
				seen[p] = true
				found = true
				n.poolFault(p, 0.93)
			}
		}
	}
	return found
}

// wanted says whether a pool holds a device that some request selects.
func (n *analysis) wanted(p *pool) bool {
	for _, s := range p.slices {
		for i := range s.devices {
			for _, x := range n.a.wants {
				if x.judge(context.Background(), n.a.w.fleet, s, &s.devices[i]).matchesIt {
					return true
				}
			}
		}
	}
	return false
}

func (n *analysis) poolFault(p *pool, confidence float64) {
	ref := n.t.poolRef(p.driver, p.name)
	for _, x := range n.a.wants {
		n.edge(n.subject(x.claim), graph.OfferedBy, ref)
	}
	if p.invalid != "" && p.complete() {
		n.fault("dra.pool_invalid", ref, confidence, map[string]string{"driver": p.driver, "pool": p.name, "message": p.invalid},
			"pool %s of driver %s is refused as a whole: %s", p.name, p.driver, p.invalid)
		return
	}
	n.fault("dra.pool_incomplete", ref, confidence, map[string]string{"driver": p.driver, "pool": p.name, "have": itoa(len(p.slices)), "want": itoa(p.want), "generation": itoa(p.generation)},
		"pool %s of driver %s has %d of %d slices of generation %d, so its devices are skipped", p.name, p.driver, len(p.slices), p.want, p.generation)
}

// taintFaults reports the taints whose absence makes the claims fit (F23): a
// DeviceTaintRule when its removal alone suffices, else the claim that does not
// tolerate what drivers put on their devices.
func (n *analysis) taintFaults(ctx context.Context, f fitting) {
	byRule := map[string]int{}
	own := map[string]int{}
	examples := map[string]devID{}
	counted := 0
	for _, g := range f.groups {
		for _, nd := range g.nodes {
			for _, s := range n.a.w.fleet.forNode(nd) {
				for i := range s.devices {
					counted += n.countTaints(s, &s.devices[i], byRule, own, examples)
				}
			}
		}
	}
	allMode := slices.ContainsFunc(n.a.wants, func(x *want) bool { return x.all })
	var claim *resourceapi.ResourceClaim
	if len(n.a.wants) > 0 {
		claim = n.a.wants[0].claim
	}
	blamed := false
	for _, rule := range slices.Sorted(maps.Keys(byRule)) {
		alone := false
		for _, g := range f.groups {
			if v, err := n.a.try(ctx, g, n.a.ignoreRules(g, func(r string) bool { return r == rule })); err == nil && v.Fits {
				alone = true
				break
			}
		}
		if !alone && len(own) > 0 {
			continue
		}
		blamed = true
		n.ruleFault(rule, byRule[rule])
	}
	if !blamed && claim != nil && len(own) > 0 {
		taint := byMost(own)
		if allMode {
			n.fault("dra.all_mode_busy", n.subject(claim), 0.93, map[string]string{"blocking": examples[taint].String() + " (taint " + taint + ")"},
				"allocationMode All needs every matching device, and %s carries the taint %s", examples[taint], taint)
		} else {
			n.fault("dra.devices_tainted", n.subject(claim), 0.93, map[string]string{"taint": taint, "devices": itoa(counted), "rule": "", "device": examples[taint].String()},
				"%s that claim %s could use carry a taint it does not tolerate: %s (for example %s)", plural(counted, "device"), claim.Name, joinCounts(own), examples[taint])
		}
	}
	for _, x := range n.a.wants {
		if n.tables[x].totals.Tainted > 0 {
			if fit := n.a.where(ctx, tolerateAll(x)); fit.ok() {
				n.wouldFit(fmt.Sprintf("request %s tolerating the taint (or the taint removed)", x.name), fit, n.tables[x].totals.Tainted, n.fixTaint(ctx, x, byMost(own)))
			}
		}
	}
}

func (n *analysis) countTaints(s *slice, d *device, byRule, own map[string]int, examples map[string]devID) int {
	for _, x := range n.a.wants {
		if !x.judge(context.Background(), n.a.w.fleet, s, d).matchesIt {
			continue
		}
		hits := x.tainted(n.a.w, s, d)
		for _, h := range hits {
			text := taintText(h.taint)
			if h.rule != "" {
				byRule[h.rule]++
			} else {
				own[text]++
				if _, ok := examples[text]; !ok {
					examples[text] = idOf(s, d)
				}
			}
		}
		if len(hits) > 0 {
			return 1
		}
	}
	return 0
}

func (n *analysis) ruleFault(name string, devices int) {
	var rule *resourceapi.DeviceTaintRule
	for _, r := range n.a.w.rules {
		if r.Name == name {
			rule = r
		}
	}
	if rule == nil {
		return
	}
	ref := n.t.ruleRef(name)
	for _, x := range n.a.wants {
		n.edge(n.subject(x.claim), graph.TaintedBy, ref)
	}
	taint := taintText(rule.Spec.Taint)
	if matchesAll(rule) {
		n.fault("dra.taint_rule_matches_all", ref, 0.95, map[string]string{"effect": string(rule.Spec.Taint.Effect), "taint": taint, "rule": name, "devices": itoa(devices)},
			"DeviceTaintRule %s has an empty selector and taints every device of the cluster with %s", name, taint)
		return
	}
	n.fault("dra.devices_tainted", ref, 0.95, map[string]string{"taint": taint, "devices": itoa(devices), "rule": name},
		"DeviceTaintRule %s taints %s that the claim could use with %s, which it does not tolerate", name, plural(devices, "device"), taint)
}

// matchesAll is true for a rule whose selector is there and empty (F24).
func matchesAll(r *resourceapi.DeviceTaintRule) bool {
	s := r.Spec.DeviceSelector
	return s != nil && s.Driver == nil && s.Pool == nil && s.Device == nil
}

// fragmented tests whether a constraint is what the free devices fail (F16).
func (n *analysis) fragmented(ctx context.Context) bool {
	found := false
	for _, c := range n.a.claims {
		for i, k := range c.Spec.Devices.Constraints {
			f := n.a.where(ctx, dropConstraint(c.Name, i))
			n.counterfactual(fmt.Sprintf("without constraint %d (%s)", i, constraintAttribute(k)), f)
			if !f.ok() {
				continue
			}
			found = true
			attribute := constraintAttribute(k)
			view := n.constraintView(c, k)
			var parts []string
			for _, g := range view.Groups[:min(len(view.Groups), 4)] {
				var free []string
				for _, r := range view.Requests {
					free = append(free, fmt.Sprintf("%d %s", g.Free[r], r))
				}
				parts = append(parts, g.Value+": "+strings.Join(free, ", ")+" free")
			}
			n.fault("dra.constraint_fragmented", n.subject(c), 0.92, map[string]string{"attribute": attribute, "constraint": strconv.Itoa(i), "groups": strings.Join(parts, "; ")},
				"enough devices are free for claim %s, but not with equal %s (%s)", c.Name, attribute, strings.Join(parts, "; "))
			n.alternatives(ctx, c, i)
			for _, h := range n.holders()[:min(len(n.holders()), 8)] {
				n.edge(n.subject(c), graph.HeldBy, n.t.claimRef(h.Namespace, h.Name))
			}
		}
	}
	return found
}

// smaller tries a smaller count with things as they are.
func (n *analysis) smaller(ctx context.Context) {
	for _, x := range n.a.wants {
		if x.all || x.count <= 1 || slices.ContainsFunc(n.out.WouldFit, func(w WouldFit) bool { return strings.Contains(w.Change, "with count") }) {
			continue
		}
		if best, f := n.a.most(ctx, x); best > 0 {
			n.wouldFit(fmt.Sprintf("request %s with count %d", x.name, best), f, n.freeOn(f, x), x.fixCount(best))
		}
	}
}

func byMost(m map[string]int) string {
	best := ""
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if best == "" || m[k] > m[best] {
			best = k
		}
	}
	return best
}

func joinCounts(m map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s on %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

package dra

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// SurveyIn names a namespace, or none for the whole cluster.
type SurveyIn struct {
	Namespace string `json:"namespace,omitempty"`
}

// Survey lists what is abnormal.
type Survey struct {
	Claims  int         `json:"claims"`
	Pending int         `json:"pending"`
	Trouble []string    `json:"trouble"`
	Stuck   []StuckView `json:"stuck" jsonschema:"pods whose claims do not fit, those alike grouped"`
	Notes   []string    `json:"notes"`
}

// StuckView is a set of pods that want the same.
type StuckView struct {
	Example string `json:"example"`
	Count   int    `json:"count"`
	Verdict string `json:"verdict"`
}

func (t *Toolset) surveyTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_survey", Text: text("dra_survey"), Effect: tool.Read}, t.survey)
}

// maxSurveyed bounds how many sorts of waiting pods are explained in one survey.
const maxSurveyed = 8

func (t *Toolset) survey(ctx context.Context, in SurveyIn) (tool.Output[Survey], error) {
	w, err := t.read.load(ctx)
	if err != nil {
		return tool.Output[Survey]{}, err
	}
	out := Survey{Trouble: []string{}, Stuck: []StuckView{}, Notes: []string{}}
	var fs []incident.Finding
	var es []incident.Edge
	var pending []*resourceapi.ResourceClaim
	for _, c := range w.claims {
		if in.Namespace != "" && c.Namespace != in.Namespace {
			continue
		}
		out.Claims++
		if c.Status.Allocation == nil {
			if c.DeletionTimestamp == nil && !t.settling(c.CreationTimestamp) {
				pending = append(pending, c)
			}
			continue
		}
		if f, ok := t.surveyHeld(ctx, w, c); ok {
			fs = append(fs, f)
		}
	}
	out.Pending = len(pending)
	f, e := t.surveyPending(ctx, pending, &out)
	fs, es = append(fs, f...), append(es, e...)
	if in.Namespace == "" {
		fs = append(fs, t.surveyCluster(w)...)
	}
	for _, x := range fs {
		if x.Role != incident.Context {
			out.Trouble = append(out.Trouble, x.Subject.String()+": "+x.Message)
		}
	}
	return tool.Output[Survey]{Data: out, Text: surveyText(&out), Findings: fs, Edges: es}, nil
}

// surveyHeld looks for leaks and double allocations without a look-up per claim:
// only claims without any consumer, and devices held twice.
func (t *Toolset) surveyHeld(ctx context.Context, w *world, c *resourceapi.ResourceClaim) (incident.Finding, bool) {
	ref := t.claimRef(c.Namespace, c.Name)
	if len(c.Status.ReservedFor) == 0 {
		if why := t.leaked(ctx, c); why != "" {
			n := len(devicesOf(c))
			return finding("dra.claim_leaked", ref, 0.55, map[string]string{"devices": itoa(n), "consumer": why}, "claim %s/%s holds %s and nobody uses it: %s", c.Namespace, c.Name, plural(n, "device"), why), true
		}
	}
	for i := range c.Status.Allocation.Devices.Results {
		r := &c.Status.Allocation.Devices.Results[i]
		id := devID{r.Driver, r.Pool, r.Device}
		if r.AdminAccess != nil && *r.AdminAccess || r.ShareID != nil {
			continue
		}
		if hs := w.use.taken(id, nil); len(hs) > 1 && hs[0].claim == c {
			var names []string
			for _, h := range hs {
				names = append(names, h.claim.Namespace+"/"+h.claim.Name)
			}
			return finding("dra.device_double_allocated", incident.DeviceRef(t.cluster, id.driver, id.pool, id.device), 0.93, onNode(w, id, map[string]string{"claims": strings.Join(names, ", ")}),
				"device %s is allocated to %s at once", id, strings.Join(names, " and ")), true
		}
	}
	return incident.Finding{}, false
}

// surveyPending explains one pod of each sort that waits.
func (t *Toolset) surveyPending(ctx context.Context, pending []*resourceapi.ResourceClaim, out *Survey) ([]incident.Finding, []incident.Edge) {
	byShape := map[string][]*resourceapi.ResourceClaim{}
	var order []string
	for _, c := range pending {
		key := c.Namespace + c.Spec.String()
		if byShape[key] == nil {
			order = append(order, key)
		}
		byShape[key] = append(byShape[key], c)
	}
	var fs []incident.Finding
	var es []incident.Edge
	seen := map[string]bool{}
	for i, key := range order {
		if i == maxSurveyed {
			out.Notes = append(out.Notes, fmt.Sprintf("%d more sorts of waiting claims are not explained here", len(order)-maxSurveyed))
			break
		}
		c := byShape[key][0]
		res, err := t.explain(ctx, ExplainIn{Namespace: c.Namespace, Claim: c.Name})
		if err != nil || res.Data.Pod == "" || seen[c.Namespace+"/"+res.Data.Pod] {
			continue
		}
		seen[c.Namespace+"/"+res.Data.Pod] = true
		if res.Data.Verdict == "does_not_fit" || res.Data.Verdict == "aborts" || res.Data.Verdict == "blocked" {
			out.Stuck = append(out.Stuck, StuckView{Example: c.Namespace + "/" + res.Data.Pod, Count: len(byShape[key]), Verdict: res.Data.Verdict})
			fs, es = append(fs, res.Findings...), append(es, res.Edges...)
		}
	}
	return fs, es
}

// surveyCluster judges what belongs to no namespace.
func (t *Toolset) surveyCluster(w *world) []incident.Finding {
	var fs []incident.Finding
	for _, p := range w.fleet.pools {
		ref := t.poolRef(p.driver, p.name)
		switch {
		case slices.ContainsFunc(p.slices, func(s *slice) bool { return t.settling(s.created) }):
		case !p.complete():
			fs = append(fs, finding("dra.pool_incomplete", ref, 0.7, map[string]string{"driver": p.driver, "pool": p.name, "have": itoa(len(p.slices)), "want": itoa(p.want)},
				"pool %s of driver %s has %d of %d slices of generation %d", p.name, p.driver, len(p.slices), p.want, p.generation))
		case p.invalid != "":
			fs = append(fs, finding("dra.pool_invalid", ref, 0.7, map[string]string{"driver": p.driver, "pool": p.name, "message": p.invalid}, "pool %s of driver %s is refused as a whole: %s", p.name, p.driver, p.invalid))
		}
	}
	for _, r := range w.rules {
		if matchesAll(r) && r.Spec.Taint.Effect != resourceapi.DeviceTaintEffectNone {
			fs = append(fs, finding("dra.taint_rule_matches_all", t.ruleRef(r.Name), 0.9, map[string]string{"effect": string(r.Spec.Taint.Effect), "rule": r.Name},
				"DeviceTaintRule %s has an empty selector and taints every device of the cluster with %s", r.Name, taintText(r.Spec.Taint)))
		}
	}
	fs = append(fs, t.soldTwice(w)...)
	return fs
}

// soldTwice looks for nodes that offer devices through DRA and a device plugin.
func (t *Toolset) soldTwice(w *world) []incident.Finding {
	var fs []incident.Finding
	offers := map[string]map[string]string{}
	for _, n := range w.nodes {
		for _, name := range slices.Sorted(maps.Keys(n.Status.Allocatable)) {
			q := n.Status.Allocatable[name]
			if q.Value() == 0 || !allocator.IsExtended(name) || len(fs) >= 5 {
				continue
			}
			o := offers[string(name)]
			if o == nil {
				o = t.classNodes(context.Background(), w, allocator.ClassFor(w.classes, name))
				offers[string(name)] = o
			}
			if d := t.twice(w, n, name, o); d != "" {
				fs = append(fs, doubleSelling(t, n, string(name), d, q.Value()))
			}
		}
	}
	return fs
}

func surveyText(o *Survey) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d pending; %d in trouble\n", plural(o.Claims, "claim"), o.Pending, len(o.Trouble))
	for _, s := range o.Stuck {
		fmt.Fprintf(&b, "pod %s: %s%s\n", s.Example, s.Verdict, others(s.Count))
	}
	for _, x := range o.Trouble {
		fmt.Fprintf(&b, "%s\n", x)
	}
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return strings.TrimRight(b.String(), "\n")
}

package nodepool

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// OverviewIn narrows the overview to one pool, or to the pool of one node.
type OverviewIn struct {
	Pool string `json:"pool,omitempty"`
	Node string `json:"node,omitempty"`
}

// Overview is every pool in figures.
type Overview struct {
	Pools []PoolView `json:"pools"`
	// Unpooled counts the nodes whose labels tell of no pool.
	Unpooled int `json:"unpooled"`
	// Autoscaler is the cluster autoscaler's own word, empty without one.
	Autoscaler string `json:"autoscaler,omitempty"`
}

// PoolView is one pool.
type PoolView struct {
	Pool     string   `json:"pool"`
	Provider string   `json:"provider"`
	Nodes    int      `json:"nodes"`
	Ready    int      `json:"ready"`
	Cordoned int      `json:"cordoned"`
	Versions []string `json:"versions"`
	Images   []string `json:"images"`
	SKUs     []string `json:"skus"`
	GPUs     []string `json:"gpus"`
	Drivers  []string `json:"gpu_drivers"`
	Zones    []string `json:"zones"`
	Taints   []string `json:"taints"`
	// Min, Max and Target size; -1 where nothing tells.
	Min    int `json:"min"`
	Max    int `json:"max"`
	Target int `json:"target"`
	// ScaleUp is the autoscaler's word: NoActivity, InProgress, Backoff.
	ScaleUp string `json:"scale_up,omitempty"`
	// Phase of an upgrade: the provider's, or derived from images and cordons.
	Phase string `json:"phase"`
	// Cloud is what the provider's API says, absent without one.
	Cloud *CloudPool `json:"cloud,omitempty"`
	// Differs lists how the pool differs from another with the same machines.
	Differs []string `json:"differs"`
}

func (t *Toolset) overviewTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "nodepool_overview", Text: text("nodepool_overview"), Effect: tool.Read}, t.overview)
}

func (t *Toolset) overview(ctx context.Context, in OverviewIn) (tool.Output[Overview], error) {
	l := &look{t: t, v: &verdict{}}
	var err error
	if l.w, err = t.look(ctx); err != nil {
		return tool.Output[Overview]{}, err
	}
	out := Overview{Pools: []PoolView{}}
	if l.w.status != nil {
		out.Autoscaler = orWord(l.w.status.running, "Running")
	}
	out.Unpooled = len(l.w.nodes) - len(l.w.byNode)
	want := l.w.pools
	switch {
	case in.Node != "":
		i := slices.IndexFunc(l.w.nodes, func(n *corev1.Node) bool { return n.Name == in.Node })
		if i < 0 {
			return tool.Output[Overview]{}, tool.Errorf(tool.NotFound, "node %s does not exist", in.Node)
		}
		want = nil
		if q := l.w.byNode[in.Node]; q != nil {
			want = []*pool{q}
		} else {
			l.v.line("node %s is in no pool that its labels tell of", in.Node)
		}
		l.node(ctx, l.w.nodes[i])
	case in.Pool != "":
		want = slices.DeleteFunc(slices.Clone(want), func(q *pool) bool { return q.name != in.Pool })
		if len(want) == 0 {
			return tool.Output[Overview]{}, &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("there is no pool %s", in.Pool), Fix: "the pools are " + names(l.w.pools)}
		}
	}
	for _, q := range want {
		v := l.view(ctx, q, in.Pool != "" || in.Node != "")
		if in.Pool != "" {
			l.poolFaults(ctx, q)
			l.sickNodes(q)
		}
		out.Pools = append(out.Pools, v)
	}
	if len(want) == 0 && in.Node == "" {
		l.v.line("no node tells of a pool")
	}
	if out.Unpooled > 0 && in.Pool == "" && in.Node == "" {
		l.v.line("%d nodes tell of no pool", out.Unpooled)
	}
	l.unseen()
	return tool.Output[Overview]{Data: out, Text: l.v.text(), Findings: l.v.findings, Edges: l.v.edges}, nil
}

func names(pools []*pool) string {
	var out []string
	for _, q := range pools {
		out = append(out, q.name)
	}
	if len(out) == 0 {
		return "none: no node tells of one"
	}
	return strings.Join(limit(out, 20), ", ")
}

// view shows one pool; in detail it also says how it stands in an upgrade and how it
// differs from pools with the same machines.
func (l *look) view(ctx context.Context, q *pool, detail bool) PoolView {
	tr := traitsOf(q.nodes)
	orEmpty := func(s []string) []string {
		if s == nil {
			return []string{}
		}
		return s
	}
	v := PoolView{Pool: q.name, Provider: q.provider, Nodes: len(q.nodes), Ready: tr.Ready, Cordoned: tr.Cordoned, Versions: orEmpty(tr.Versions), Images: orEmpty(tr.Images), SKUs: orEmpty(tr.SKUs),
		GPUs: orEmpty(tr.GPUs), Drivers: orEmpty(tr.Drivers), Zones: orEmpty(tr.Zones), Taints: orEmpty(tr.Taints), Min: -1, Max: -1, Target: -1, Phase: PhaseIdle, Cloud: q.cloud, Differs: []string{}}
	text := fmt.Sprintf("pool %s (%s): %d nodes, %d ready", q.name, q.provider, v.Nodes, v.Ready)
	if v.Cordoned > 0 {
		text += fmt.Sprintf(", %d cordoned", v.Cordoned)
	}
	parts := []string{text}
	for _, x := range []struct {
		name string
		vals []string
	}{{"kubelet", tr.Versions}, {"image", tr.Images}, {"machine", tr.SKUs}, {"GPU", tr.GPUs}, {"GPU driver", tr.Drivers}, {"zone", tr.Zones}, {"taint", tr.Taints}} {
		if len(x.vals) > 0 {
			parts = append(parts, x.name+" "+strings.Join(limit(x.vals, 4), ", "))
		}
	}
	text = strings.Join(parts, "; ")
	if g := q.group; g != nil {
		v.Min, v.Max, v.Target, v.ScaleUp = g.min, g.max, g.target, g.scaleUp
		text += fmt.Sprintf("; autoscaler: target %d of %d to %d, scale-up %s", g.target, g.min, g.max, orWord(g.scaleUp, "unknown"))
	}
	if c := q.cloud; c != nil {
		if q.group == nil && c.Autoscale {
			v.Min, v.Max, v.Target = c.Min, c.Max, c.Count
		}
		v.Phase = c.Phase
		text += fmt.Sprintf("; %s says %s, %d nodes", q.provider, c.State, c.Count)
		if c.Autoscale {
			text += fmt.Sprintf(" of %d to %d", c.Min, c.Max)
		}
		if c.Strategy != "" {
			text += ", upgrades by " + c.Strategy
		}
		if c.Note != "" {
			text += "; not seen: " + oneLine(c.Note, 300)
		}
		if c.Error != "" {
			text += ": " + oneLine(strings.TrimSpace(c.ErrorCode+" "+c.Error), 300)
		}
	}
	l.v.line("%s", text)
	l.upgrade(ctx, q, &v, detail)
	if detail {
		l.compare(q, tr, &v)
	}
	return v
}

// upgrade tells of a pool with nodes of two images, of the provider's phase, and of
// the way back.
func (l *look) upgrade(ctx context.Context, q *pool, v *PoolView, detail bool) {
	ref := l.t.poolRef(q)
	cs := colours(q)
	if len(cs) > 1 {
		phase := PhaseUpgrading
		if detail {
			pods, err := l.t.reads.Pods(ctx, "")
			if err != nil {
				l.v.gap("pods", err)
			}
			phase = phaseOf(cs, pods)
		}
		switch {
		case q.cloud == nil, q.cloud.Phase == PhaseUpgrading:
			v.Phase = phase // AKS has no word for the steps of its own upgrades
		default:
			phase = q.cloud.Phase
		}
		l.v.find("nodepool.images_mixed", 0, ref, map[string]string{"pool": q.name, "old": cs[0].image, "new": cs[len(cs)-1].image, "phase": phase},
			"pool %s has %s; as it looks, it is in phase %s", q.name, colourText(cs), phase)
	}
	c := q.cloud
	if c == nil {
		return
	}
	if slices.Contains([]string{PhaseUpgrading, PhaseAddingGreen, PhaseCordoning, PhaseDraining, PhaseSoaking, PhaseRollingBack, PhaseUpdating}, c.Phase) && c.Error == "" {
		f := l.v.find("nodepool.upgrading", 0, ref, map[string]string{"pool": q.name, "phase": c.Phase}, "pool %s is in phase %s (%s)", q.name, c.Phase, c.State)
		if !c.Deadline.IsZero() {
			l.v.line("the old nodes of pool %s are removed from %s on: until then it can be rolled back", q.name, c.Deadline.UTC().Format("2006-01-02 15:04 MST"))
			f.Params["deadline"] = c.Deadline.UTC().Format("2006-01-02T15:04Z")
		}
	}
	if !detail {
		return
	}
	for _, r := range limit(c.Rollback, 3) {
		until := "an unknown time"
		if !r.Until.IsZero() {
			if r.Until.Before(l.t.now()) {
				continue
			}
			until = r.Until.UTC().Format("2006-01-02 15:04 MST")
		}
		what := strings.TrimSpace(r.Version + " " + r.Image)
		l.v.find("nodepool.rollback_possible", 0, ref, map[string]string{"pool": q.name, "image": what, "until": until}, "pool %s may go back to %s until %s", q.name, what, until)
	}
}

// compare says how a pool differs from those with the same machines.
func (l *look) compare(q *pool, mine traits, v *PoolView) {
	for _, o := range l.w.pools {
		if o == q || len(o.nodes) == 0 || len(q.nodes) == 0 {
			continue
		}
		theirs := traitsOf(o.nodes)
		same := len(mine.GPUs) > 0 && slices.Equal(mine.GPUs, theirs.GPUs) || len(mine.SKUs) > 0 && slices.Equal(mine.SKUs, theirs.SKUs)
		if !same {
			continue
		}
		for _, d := range differ(mine, theirs) {
			v.Differs = append(v.Differs, o.name+": "+d)
		}
		if d := differ(mine, theirs); len(d) > 0 {
			l.v.find("nodepool.pools_differ", 0, l.t.poolRef(q), map[string]string{"pool": q.name, "other": o.name, "differences": strings.Join(d, "; ")},
				"pool %s differs from pool %s, which has the same machines: %s", q.name, o.name, strings.Join(d, "; "))
		}
	}
}

// poolFaults judges what the pool itself is in trouble with, whoever waits for it.
func (l *look) poolFaults(ctx context.Context, q *pool) {
	ref := l.t.poolRef(q)
	switch q.provider {
	case karpenter:
		u := byName(l.list(ctx, "nodepools.karpenter.sh"), q.name)
		if u == nil {
			break
		}
		if c, ok := conditionOf(u, "Ready"); ok && c.status == "False" {
			l.notReady(ctx, u, c)
		}
		for _, c := range l.list(ctx, "nodeclaims.karpenter.sh") {
			if c.GetLabels()["karpenter.sh/nodepool"] == q.name {
				l.v.edge(ref, graph.Owns, l.t.ref(karpenterGroup, "NodeClaim", "", c.GetName()))
				l.claim(c)
			}
		}
	case capi:
		l.machines(ctx, q)
	}
	l.backoff(q)
	if g := q.group; g != nil && g.longAbsent > 0 {
		l.v.find("nodepool.nodes_do_not_come", 0.85, ref, map[string]string{"pool": q.name, "since": span(patience), "target": strconv.Itoa(g.target), "registered": strconv.Itoa(g.registered)},
			"%d machines of pool %s have not registered as nodes for more than %s (target %d, registered %d)", g.longAbsent, q.name, span(patience), g.target, g.registered)
	}
	c := q.cloud
	switch {
	case c == nil:
	case c.Error != "":
		l.cloudFault(q)
	case c.Phase == PhaseFailed:
		l.v.find("nodepool.upgrade_failed", 0.8, ref, map[string]string{"pool": q.name, "state": c.State, "message": "no reason is said"}, "the last operation on pool %s failed: its state is %s, and no reason is said", q.name, c.State)
	case c.Phase == PhaseStopped:
		l.v.find("nodepool.stopped", 0.85, ref, map[string]string{"pool": q.name, "state": c.State}, "pool %s is stopped (%s)", q.name, c.State)
	}
}

// sickNodes ties a pool that is asked about to its nodes in trouble.
func (l *look) sickNodes(q *pool) {
	for _, n := range q.nodes {
		if !ready(n) || n.Labels[quarantine] == quarantined {
			l.v.edge(l.t.poolRef(q), graph.Contains, l.t.nodeRef(n.Name))
		}
	}
}

const (
	// quarantine is the label of AKS on nodes that an upgrade could not drain, where
	// the pool's undrainableNodeBehavior is Cordon (AKS docs, upgrade options).
	quarantine  = "kubernetes.azure.com/upgrade-status"
	quarantined = "Quarantined"
)

// node judges what the pool did to one of its nodes.
func (l *look) node(_ context.Context, n *corev1.Node) {
	q := l.w.byNode[n.Name]
	if q == nil {
		return
	}
	l.v.edge(l.t.nodeRef(n.Name), graph.InPool, l.t.poolRef(q))
	switch {
	case n.Labels[quarantine] == quarantined:
		l.v.find("nodepool.upgrade_stuck", 0.7, l.t.nodeRef(n.Name), map[string]string{"pool": q.name, "label": quarantine + "=" + quarantined},
			"the upgrade of pool %s could not drain node %s and left it cordoned behind (label %s=%s)", q.name, n.Name, quarantine, quarantined)
	case n.Spec.Unschedulable && len(colours(q)) > 1:
		l.v.find("nodepool.node_upgrading", 0, l.t.nodeRef(n.Name), map[string]string{"pool": q.name, "phase": PhaseUpgrading}, "node %s is cordoned, and pool %s has %s", n.Name, q.name, colourText(colours(q)))
	}
}

// SurveyIn asks for nothing: all pools are judged.
type SurveyIn struct{}

// Survey lists the pools in trouble.
type Survey struct {
	Pools   int      `json:"pools"`
	Trouble []string `json:"trouble"`
}

func (t *Toolset) surveyTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "nodepool_survey", Text: text("nodepool_survey"), Effect: tool.Read}, t.survey)
}

func (t *Toolset) survey(ctx context.Context, _ SurveyIn) (tool.Output[Survey], error) {
	l := &look{t: t, v: &verdict{}}
	var err error
	if l.w, err = t.look(ctx); err != nil {
		return tool.Output[Survey]{}, err
	}
	for _, q := range l.w.pools {
		l.poolFaults(ctx, q)
	}
	for _, n := range l.w.nodes {
		if n.Labels[quarantine] == quarantined {
			l.node(ctx, n)
		}
	}
	out := Survey{Pools: len(l.w.pools), Trouble: []string{}}
	for _, f := range l.v.findings {
		if f.Role == incident.Fault {
			out.Trouble = append(out.Trouble, f.Subject.String()+": "+f.Message)
		}
	}
	l.v.line("%d pools, %d in trouble", out.Pools, len(out.Trouble))
	l.unseen()
	return tool.Output[Survey]{Data: out, Text: l.v.text(), Findings: l.v.findings, Edges: l.v.edges}, nil
}

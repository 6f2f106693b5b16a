package nodepool

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// patience is how long a machine may take to become a node: the default of the
// cluster autoscaler's --max-node-provision-time, and Karpenter's time to live of a
// NodeClaim that does not register, both 15 minutes.
const patience = 15 * time.Minute

// GrowthIn names a pod that waits for a node, or a NodeClaim.
type GrowthIn struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	NodeClaim string `json:"node_claim,omitempty"`
}

// Growth is what the pools can do for a pod.
type Growth struct {
	Pod string `json:"pod,omitempty"`
	// Autoscalers that said something of it: cluster-autoscaler, karpenter.
	Autoscalers []string `json:"autoscalers"`
	// Said is their newest word.
	Said string `json:"said,omitempty"`
	// Reasons it gives, "2 max node group size reached".
	Reasons []string `json:"reasons"`
	// Fits lists the pools whose nodes would take the pod by labels, taints and size.
	Fits []FitView `json:"fits"`
}

// FitView is one pool beside a pod.
type FitView struct {
	Pool     string `json:"pool"`
	Provider string `json:"provider"`
	Fits     bool   `json:"fits"`
	Why      string `json:"why,omitempty"`
	Nodes    int    `json:"nodes"`
	Target   int    `json:"target"`
	Max      int    `json:"max"`
	ScaleUp  string `json:"scale_up,omitempty"`
}

func (t *Toolset) growthTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "nodepool_growth", Text: text("nodepool_growth"), Effect: tool.Read}, t.growth)
}

func (t *Toolset) growth(ctx context.Context, in GrowthIn) (tool.Output[Growth], error) {
	l := &look{t: t, v: &verdict{}}
	out := Growth{Autoscalers: []string{}, Reasons: []string{}, Fits: []FitView{}}
	if in.NodeClaim != "" {
		if err := l.claimByName(ctx, in.NodeClaim); err != nil {
			return tool.Output[Growth]{}, err
		}
		return tool.Output[Growth]{Data: out, Text: l.v.text(), Findings: l.v.findings, Edges: l.v.edges}, nil
	}
	if in.Pod == "" {
		return tool.Output[Growth]{}, &tool.Error{Kind: tool.Invalid, User: "nodepool_growth: nothing is named", Fix: "give namespace and pod, or node_claim"}
	}
	p, err := t.reads.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Growth]{}, err
	}
	out.Pod = p.Namespace + "/" + p.Name
	see := t.look
	if p.Spec.NodeName != "" && !l.sick(p) {
		see = func(ctx context.Context) (*world, error) { return t.near(ctx, p.Spec.NodeName) }
	}
	if l.w, err = see(ctx); err != nil {
		return tool.Output[Growth]{}, err
	}
	l.w.pods = sync.OnceValue(func() []*corev1.Pod {
		pods, err := t.reads.Pods(ctx, p.Namespace)
		if err != nil {
			l.v.gap("pods in "+p.Namespace, err)
		}
		return pods
	})
	if p.Spec.NodeName != "" {
		l.placed(p)
	} else {
		l.waits(ctx, p, &out)
	}
	l.unseen()
	return tool.Output[Growth]{Data: out, Text: l.v.text(), Findings: l.v.findings, Edges: l.v.edges}, nil
}

// look is one call.
type look struct {
	t *Toolset
	v *verdict
	w *world
	// volumes of the pod that is asked about, where they tie it to a place.
	volumes []bound
}

// unseen puts the reads that failed into the text.
func (l *look) unseen() {
	if l.w == nil {
		return
	}
	for _, g := range l.w.gaps {
		l.v.gap(g.source, g.err)
	}
}

// waits judges a pod without a node.
func (l *look) waits(ctx context.Context, p *corev1.Pod, out *Growth) {
	if len(p.Spec.SchedulingGates) > 0 || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		l.v.line("pod %s is not in the scheduler's queue: no pool is asked for a node", p.Name)
		return
	}
	evs, err := l.t.reads.Events(ctx, "Pod", p.Namespace, p.Name)
	if err != nil {
		l.v.gap("events of "+p.Name, err)
	}
	fits := l.fits(ctx, p, out)
	if msg := refusal(p, evs); msg != "" && !shortage(msg) {
		l.v.line("the scheduler does not count a shortage: %s", oneLine(msg, 300))
		fits = nil // another node like these would not help
	}
	said, ok := newest(evs)
	if !ok {
		l.v.line("no autoscaler has said anything of pod %s", p.Name)
		l.silent(ctx, p, fits)
		l.down(ctx, p, fits)
		return
	}
	out.Said = said.Reason + ": " + said.Message
	if said.Source != "" {
		out.Autoscalers = append(out.Autoscalers, said.Source)
	}
	l.v.line("%s said %s ago: %s: %s", orWord(said.Source, "an autoscaler"), l.t.ago(said.Last), said.Reason, oneLine(said.Message, 600))
	switch said.Reason {
	case "TriggeredScaleUp":
		l.triggered(ctx, p, said)
	case "FailedScaleUp", "FailedToScaleUpGroup", "ScaleUpTimedOut":
		l.refusedBy(p, fits, said.Message, said.First)
	case "Nominated":
		l.nominated(ctx, p, said)
	case "NotTriggerScaleUp":
		out.Reasons = reasonsOf(said.Message)
		l.declined(p, fits, out.Reasons, said)
	default: // FailedScheduling of Karpenter
		out.Reasons = karpenterReasons(said.Message)
		l.karpenterDeclines(ctx, p, said, out.Reasons)
	}
}

// refusal is the scheduler's last word on a pod.
func refusal(p *corev1.Pod, evs []Event) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	i := slices.IndexFunc(evs, func(e Event) bool { return e.Reason == "FailedScheduling" && e.Source != "karpenter" })
	if i < 0 {
		return ""
	}
	return evs[i].Message
}

// shortage reports whether one more node of a kind that is there could help: nodes
// lack something that pods use up, or there is no node that the pod may use.
func shortage(msg string) bool {
	for _, s := range []string{"Insufficient ", "cannot allocate all claims", "Too many pods", "free ports", "exceed max volume count", "didn't match Pod's node affinity", "anti-affinity", "topology spread", "untolerated taint", "were unschedulable", "no nodes available", "were out of disk"} {
		if strings.Contains(msg, s) {
			return true
		}
	}
	return false
}

func orWord(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

// newest finds the last word of an autoscaler about a pod.
func newest(evs []Event) (Event, bool) {
	var best Event
	found := false
	for _, e := range evs {
		switch e.Reason {
		case "TriggeredScaleUp", "NotTriggerScaleUp", "FailedScaleUp", "FailedToScaleUpGroup", "ScaleUpTimedOut":
		case "Nominated", "FailedScheduling":
			if e.Source != "karpenter" {
				continue
			}
		default:
			continue
		}
		if !found || e.Last.After(best.Last) {
			best, found = e, true
		}
	}
	return best, found
}

// silent judges the pools that would take a pod when no autoscaler speaks: a pool that
// a person scales may be failing all the same.
func (l *look) silent(ctx context.Context, p *corev1.Pod, fits []*pool) {
	for _, q := range fits {
		ref := l.t.poolRef(q)
		switch {
		case q.provider == capi:
			if l.machines(ctx, q) {
				l.grow(p, ref)
			}
		case q.cloud != nil && q.cloud.Error != "":
			l.grow(p, ref)
			l.cloudFault(q)
		case q.cloud != nil && q.cloud.Phase == PhaseStopped:
			l.grow(p, ref)
			l.v.find("nodepool.stopped", 0.92, ref, map[string]string{"pool": q.name, "state": q.cloud.State}, "pool %s, which would take pod %s, is stopped (%s)", q.name, p.Name, q.cloud.State)
		}
	}
}

// reason is one count and clause of "2 max node group size reached, 1 Insufficient cpu".
var reason = pattern.New(`(\d+) (.+?)(?:, (\d+ )|$)`)

// reasonsOf takes a NotTriggerScaleUp message apart: each clause starts with how many
// node groups it counts. A comma within a clause, as in a taint, does not end it.
func reasonsOf(msg string) []string {
	_, rest, ok := strings.Cut(msg, "scale-up:")
	if !ok {
		return []string{}
	}
	rest = strings.TrimSpace(rest)
	out := []string{}
	for rest != "" {
		m := reason.FindStringSubmatchIndex(rest)
		if m == nil {
			return append(out, oneLine(rest, 200))
		}
		out = append(out, oneLine(rest[m[2]:m[3]]+" "+rest[m[4]:m[5]], 200))
		if m[6] < 0 {
			break
		}
		rest = rest[m[6]:]
	}
	return out
}

// group change of "pod triggered scale-up: [{aks-gpu-1-vmss 1->2 (max: 4)}]".
var scaled = pattern.New(`\{(\S+) (\d+)->(\d+)(?: \(max: (\d+)\))?\}`)

// triggered judges a scale-up that was begun: on its way, refused, or lost.
func (l *look) triggered(ctx context.Context, p *corev1.Pod, said Event) {
	ms := scaled.FindAllStringSubmatch(said.Message, 5)
	for _, m := range ms {
		name, provider, namespace := groupPool(m[1])
		q := l.w.ofGroup(m[1])
		if q == nil {
			q = &pool{name: name, provider: provider, namespace: namespace}
		}
		ref := l.t.poolRef(q)
		l.grow(p, ref)
		waited := l.t.now().Sub(said.Last)
		if q.cloud != nil && q.cloud.Error != "" && l.cloudFault(q) {
			continue
		}
		if l.backoff(q) || l.machines(ctx, q) {
			continue
		}
		if waited < patience {
			l.v.find("nodepool.scaling_up", 0, ref, map[string]string{"pool": q.name, "since": span(waited)},
				"pool %s was told %s ago to grow from %s to %s nodes for pod %s; a node may take %s", q.name, span(waited), m[2], m[3], p.Name, span(patience))
			continue
		}
		params := map[string]string{"pool": q.name, "since": span(waited)}
		extra := ""
		if g := q.group; g != nil && g.target >= 0 {
			params["target"], params["registered"] = strconv.Itoa(g.target), strconv.Itoa(g.registered)
			if g.registered >= g.target {
				l.v.line("the nodes of pool %s have come (%d of %d): they do not fit the pod, or are taken", q.name, g.registered, g.target)
				continue
			}
			extra = fmt.Sprintf(" (%d of %d registered)", g.registered, g.target)
		}
		f := l.v.find("nodepool.nodes_do_not_come", 0.9, ref, params,
			"pool %s was told %s ago to grow to %s nodes for pod %s, and the node has not come%s; a node may take %s", q.name, span(waited), m[3], p.Name, extra, span(patience))
		f.FirstSeen = said.Last
	}
}

// grow ties a pod, and the device claims it waits for, to the pool that has to add a
// node for it.
func (l *look) grow(p *corev1.Pod, to incident.Ref) {
	l.v.edge(l.t.podRef(p), graph.GrownBy, to)
	for _, c := range p.Status.ResourceClaimStatuses {
		if c.ResourceClaimName != nil {
			l.v.edge(l.t.ref("resource.k8s.io", "ResourceClaim", p.Namespace, *c.ResourceClaimName), graph.GrownBy, to)
		}
	}
}

// declined judges a pod for which the cluster autoscaler adds no node.
func (l *look) declined(p *corev1.Pod, fits []*pool, reasons []string, said Event) {
	l.v.find("nodepool.scale_up_declined", 0, l.t.podRef(p), map[string]string{"message": oneLine(said.Message, 400), "reasons": strings.Join(reasons, "; ")},
		"the cluster autoscaler adds no node for pod %s: %s", p.Name, oneLine(strings.Join(reasons, "; "), 400))
	for _, r := range reasons {
		switch {
		case strings.Contains(r, "max node group size reached"), strings.Contains(r, "max cluster") || strings.Contains(r, "max total nodes"):
			l.atMax(p, fits, r, said)
		case strings.Contains(r, "in backoff after failed scale-up"):
			for _, q := range fits {
				if q.cloud != nil && q.cloud.Error != "" && l.cloudFault(q) || q.group != nil && q.group.scaleUp == "Backoff" {
					l.grow(p, l.t.poolRef(q))
					l.backoff(q)
				}
			}
		}
	}
}

// atMax blames the pools that would fit and may not grow. Where the autoscaler's own
// status or the cloud shows the figures they decide; without figures only a single
// pool that fits is blamed, on the word of the event.
func (l *look) atMax(p *corev1.Pod, fits []*pool, said string, e Event) {
	var full []*pool
	known := false
	for _, q := range fits {
		switch {
		case q.group != nil && q.group.max >= 0:
			known = true
			if q.group.atMax() {
				full = append(full, q)
			}
		case q.cloud != nil && q.cloud.Autoscale && q.cloud.Max >= 0:
			known = true
			if q.cloud.Count >= q.cloud.Max {
				full = append(full, q)
			}
		}
	}
	conf := 0.92
	if !known && len(fits) == 1 {
		full, conf = fits, 0.8
	}
	for _, q := range limit(full, 2) {
		count, most := len(q.nodes), "unknown"
		switch {
		case q.group != nil && q.group.max >= 0:
			count, most = q.group.target, strconv.Itoa(q.group.max)
		case q.cloud != nil && q.cloud.Max >= 0:
			count, most = q.cloud.Count, strconv.Itoa(q.cloud.Max)
		}
		ref := l.t.poolRef(q)
		l.grow(p, ref)
		f := l.v.find("nodepool.max_size_reached", conf, ref, map[string]string{"pool": q.name, "max": most, "count": strconv.Itoa(count), "message": oneLine(e.Message, 300)},
			"pool %s, whose nodes would take pod %s, has %d nodes and may have %s: the autoscaler says %q", q.name, p.Name, count, most, said)
		f.FirstSeen = e.First
	}
}

// backoff reads why the autoscaler pauses with a group.
func (l *look) backoff(q *pool) bool {
	g := q.group
	if g == nil || g.scaleUp != "Backoff" {
		return false
	}
	l.failed(l.t.poolRef(q), q.name, g.errorCode, strings.TrimSpace(g.errorCode+" "+g.errorMessage), g.since, 0.93, "the autoscaler backs off from pool "+q.name)
	return true
}

// cloudFault reads why the provider's own API calls a pool failed.
func (l *look) cloudFault(q *pool) bool {
	if q.cloud == nil || q.cloud.Error == "" {
		return false
	}
	l.failed(l.t.poolRef(q), q.name, q.cloud.ErrorCode, strings.TrimSpace(q.cloud.ErrorCode+" "+q.cloud.Error), time.Time{}, 0.93, "pool "+q.name+" is "+q.cloud.State)
	return true
}

// failed writes the finding that a provider's words stand for.
func (l *look) failed(subject incident.Ref, poolName, code, msg string, since time.Time, conf float64, lead string) {
	s := l.t.read(msg)
	params := map[string]string{"pool": poolName, "message": oneLine(msg, 400), "way_out": s.WayOut}
	if code != "" {
		params["error_code"] = code
	}
	if msg == "" {
		params["message"], conf = "no reason is said", 0.7
	}
	if !since.IsZero() {
		params["since"] = l.t.ago(since)
		lead += " since " + l.t.ago(since)
	}
	if s.Source != "" {
		l.v.line("this is what the words mean: %s (%s); way out: %s", s.Says, s.Source, s.WayOut)
	}
	f := l.v.find(s.Code, conf, subject, params, "%s: %s: %s", lead, s.Says, params["message"])
	f.FirstSeen = since
}

// refusedBy reads an event that says why a scale-up failed; it names no pool, so
// the pools that fit are meant.
func (l *look) refusedBy(p *corev1.Pod, fits []*pool, msg string, since time.Time) {
	named := slices.DeleteFunc(slices.Clone(fits), func(q *pool) bool {
		return !strings.Contains(msg, q.name) && (q.group == nil || !strings.Contains(msg, q.group.name))
	})
	if len(named) == 0 {
		named = fits
	}
	for _, q := range limit(named, 2) {
		ref := l.t.poolRef(q)
		l.grow(p, ref)
		l.failed(ref, q.name, "", msg, since, 0.9, "the scale-up of pool "+q.name+" for pod "+p.Name+" failed")
	}
	if len(named) == 0 {
		l.v.line("no pool is known that would fit pod %s", p.Name)
	}
}

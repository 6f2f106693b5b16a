package dra

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// leakAge is how long an allocated claim may be without a consumer before it
// counts as leaked: the scheduler reserves in the same step as it allocates, the
// controller frees a claim within seconds.
const leakAge = 2 * time.Minute

// leaked says why a claim holds devices that nobody uses; empty when somebody does.
func (n *analysis) leaked(ctx context.Context, c *resourceapi.ResourceClaim) string {
	return n.t.leaked(ctx, c)
}

func (t *Toolset) leaked(ctx context.Context, c *resourceapi.ResourceClaim) string {
	if c.Status.Allocation == nil || c.DeletionTimestamp != nil {
		return ""
	}
	since := c.CreationTimestamp.Time
	if ts := c.Status.Allocation.AllocationTimestamp; ts != nil {
		since = ts.Time
	}
	if t.now().Sub(since) < leakAge {
		return ""
	}
	if len(c.Status.ReservedFor) == 0 {
		return "it is reserved for nobody"
	}
	for _, r := range c.Status.ReservedFor {
		if r.Resource != "pods" || r.APIGroup != "" {
			return ""
		}
		p, err := t.read.pod(ctx, c.Namespace, r.Name)
		switch {
		case isNotFound(err):
			continue
		case err != nil:
			return ""
		case p.UID != r.UID && r.UID != "":
			continue
		case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
			continue
		}
		return ""
	}
	return "every pod it is reserved for is gone or finished"
}

// reservedAgain names a pod that had finished before the claim was allocated to
// it. A claim is freed only when nobody is left in reservedFor, so a finished pod
// in there with a younger allocation was put back after its end (F36). Without the
// time of the allocation, or of the pod's end, it says nothing.
func (t *Toolset) reservedAgain(ctx context.Context, c *resourceapi.ResourceClaim) (pod string, finished time.Time) {
	if c.Status.Allocation == nil || c.Status.Allocation.AllocationTimestamp == nil || c.DeletionTimestamp != nil {
		return "", time.Time{}
	}
	for i, r := range c.Status.ReservedFor {
		if r.Resource != "pods" || r.APIGroup != "" || i == maxConsumers {
			continue
		}
		p, err := t.read.pod(ctx, c.Namespace, r.Name)
		if err != nil || p.UID != r.UID || p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			continue
		}
		if end := lastEnd(p); !end.IsZero() && c.Status.Allocation.AllocationTimestamp.Sub(end) > clockSlack {
			return p.Name, end
		}
	}
	return "", time.Time{}
}

// clockSlack is how far the clocks of a node and of the control plane may be apart.
const clockSlack = time.Minute

// lastEnd is when the last container of a finished pod ended; zero when that is not known.
func lastEnd(p *corev1.Pod) time.Time {
	var end time.Time
	for _, st := range p.Status.ContainerStatuses {
		if st.State.Terminated == nil {
			return time.Time{}
		}
		if at := st.State.Terminated.FinishedAt.Time; at.After(end) {
			end = at
		}
	}
	return end
}

// maxLeakChecks bounds how many holders are looked at one by one.
const maxLeakChecks = 40

// leaks reports claims that hold wanted devices for nobody, when giving them
// back makes the claims fit (F33, F34).
func (n *analysis) leaks(ctx context.Context) bool {
	gone := map[string]string{}
	foreign := map[string]string{}
	byName := map[string]*resourceapi.ResourceClaim{}
	looked := 0
	for _, h := range n.holders() {
		byName[h.Namespace+"/"+h.Name] = h
		if looked++; looked > maxLeakChecks {
			break
		}
		if n.own(h) {
			continue
		}
		if why := n.leaked(ctx, h); why != "" {
			gone[h.Namespace+"/"+h.Name] = why
		} else if who := foreignConsumer(h); who != "" {
			foreign[h.Namespace+"/"+h.Name] = who
		}
	}
	blame := func(set map[string]string, code string) bool {
		if len(set) == 0 {
			return false
		}
		f := n.a.freed(func(c *resourceapi.ResourceClaim) bool { return set[c.Namespace+"/"+c.Name] != "" }).where(ctx)
		n.counterfactual("release claims that nobody uses", f)
		if !f.ok() {
			return false
		}
		for _, name := range slices.Sorted(maps.Keys(set)) {
			c := byName[name]
			ref := n.t.claimRef(c.Namespace, c.Name)
			held := devicesOf(c)
			for _, x := range n.a.wants {
				n.edge(n.subject(x.claim), graph.HeldBy, ref)
			}
			params := map[string]string{"devices": itoa(len(held)), "consumer": set[name], "device": held[0].String()}
			switch pod, end := n.t.reservedAgain(ctx, c); {
			case pod != "":
				params["pod"] = pod
				n.fault("dra.claim_oscillates", ref, 0.92, params, "claim %s was allocated at %s to pod %s, which had finished at %s: it holds %s for nobody, having been reserved for the finished pod again",
					name, c.Status.Allocation.AllocationTimestamp.UTC().Format(time.RFC3339), pod, end.UTC().Format(time.RFC3339), plural(len(held), "device"))
			case code == "dra.claim_leaked":
				n.fault(code, ref, 0.92, params, "claim %s holds %s and nobody uses it: %s", name, plural(len(held), "device"), set[name])
			default:
				n.fault(code, ref, 0.85, params, "claim %s holds %s for %s, which is not a pod and is never cleaned up by the controller", name, plural(len(held), "device"), set[name])
			}
		}
		if names := slices.Sorted(maps.Keys(set)); f.cures() {
			what := "claim "
			if len(names) > 1 {
				what = "claims "
			}
			n.out.WouldFit = append(n.out.WouldFit, WouldFit{Change: what + strings.Join(names, ", ") + " deleted", Nodes: f.nodes, Node: f.example, Advice: true})
		}
		return true
	}
	return blame(gone, "dra.claim_leaked") || blame(foreign, "dra.reserved_for_foreign")
}

// foreignConsumer names a consumer that is neither a pod nor a PodGroup.
func foreignConsumer(c *resourceapi.ResourceClaim) string {
	if c.Status.Allocation == nil {
		return ""
	}
	for _, r := range c.Status.ReservedFor {
		if (r.Resource != "pods" || r.APIGroup != "") && r.Resource != "podgroups" {
			who := r.Resource
			if r.APIGroup != "" {
				who += "." + r.APIGroup
			}
			return who + " " + r.Name
		}
	}
	return ""
}

// holders lists the claims that hold devices some request would take, those
// with most devices first.
func (n *analysis) holders() []*resourceapi.ResourceClaim {
	count := map[string]int{}
	for _, x := range n.a.wants {
		for k, c := range n.tables[x].holders {
			count[k] += c
		}
	}
	var out []*resourceapi.ResourceClaim
	for _, c := range n.a.w.claims {
		if count[c.Namespace+"/"+c.Name] > 0 {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b *resourceapi.ResourceClaim) int {
		// Claims without consumers first: they are the ones worth a look.
		return cmp.Or(cmp.Compare(min(len(a.Status.ReservedFor), 1), min(len(b.Status.ReservedFor), 1)),
			cmp.Compare(count[b.Namespace+"/"+b.Name], count[a.Namespace+"/"+a.Name]))
	})
	return out
}

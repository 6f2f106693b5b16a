package serving

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Names of Kueue's API (kueue.x-k8s.io; apis/kueue and pkg/controller/constants).
const (
	kueueGroup = "kueue.x-k8s.io"
	queueLabel = "kueue.x-k8s.io/queue-name"
)

// QueueIn names a Kueue Workload, LocalQueue or ClusterQueue, or an object or pod
// that Kueue holds.
type QueueIn struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func (t *Toolset) queueTool() (tool.Tool, error) {
	return read("serving_queue", func(ctx context.Context, in QueueIn) (tool.Output[Judged], error) {
		if _, ok := t.served(ctx, kueueGroup, "Workload"); !ok {
			return tool.Output[Judged]{}, &tool.Error{Kind: tool.NotServed, User: "this cluster has no Kueue"}
		}
		v, err := t.judgeQueue(ctx, in)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		d, text := v.judged()
		return tool.Output[Judged]{Data: d, Text: text, Findings: v.findings, Edges: v.edges}, nil
	})
}

func (t *Toolset) judgeQueue(ctx context.Context, in QueueIn) (*verdict, error) {
	kind, _, _ := strings.Cut(in.Kind, ".")
	switch kind {
	case "Workload":
		ref := t.ref(kueueGroup, "Workload", in.Namespace, in.Name)
		u, err := t.objects.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		v := newVerdict(ref)
		v.system = "Kueue"
		t.workload(ctx, v, u)
		return v, nil
	case "LocalQueue", "ClusterQueue":
		ref := t.ref(kueueGroup, kind, in.Namespace, in.Name)
		u, err := t.objects.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		v := newVerdict(ref)
		v.system = "Kueue"
		t.queue(ctx, v, u)
		return v, nil
	}
	found, err := t.workloads(ctx, in.Namespace, map[string]bool{kind + "/" + in.Name: true})
	if err != nil {
		return nil, err
	}
	v := newVerdict(t.ref(groupOfKind(kind), kind, in.Namespace, in.Name))
	v.system, v.state = "Kueue", healthy
	for _, w := range found {
		v.edge(v.subject, graph.GatedBy, t.refOf(w))
		t.workload(ctx, v, w)
	}
	if len(found) == 0 {
		v.line("Kueue has no Workload for it")
	}
	return v, nil
}

// groupOfKind is the group of the built-in kinds that Kueue takes.
func groupOfKind(kind string) string {
	switch kind {
	case "Job":
		return "batch"
	case "Deployment", "StatefulSet":
		return "apps"
	}
	return ""
}

// workloads finds the Workloads whose owner is one of "Kind/name".
func (t *Toolset) workloads(ctx context.Context, namespace string, owners map[string]bool) ([]*unstructured.Unstructured, error) {
	all, err := t.objects.List(ctx, kueueGroup, "Workload", namespace, "")
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, w := range all {
		if slices.ContainsFunc(w.GetOwnerReferences(), func(o ownerRef) bool { return owners[o.Kind+"/"+o.Name] }) {
			out = append(out, w)
		}
	}
	return out, nil
}

// admitted reports whether a Workload may run.
func admitted(w *unstructured.Unstructured) bool {
	_, ok := is(conditionsOf(w), "Admitted", "True")
	return ok
}

func gatedByKueue(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return strings.HasPrefix(g.Name, "kueue.x-k8s.io/") })
}

// podQueue ties a pod that Kueue gates to its Workload.
func (t *Toolset) podQueue(ctx context.Context, v *verdict, p *corev1.Pod) {
	if !gatedByKueue(p) {
		return
	}
	owners := map[string]bool{"Pod/" + p.Name: true}
	for _, o := range p.OwnerReferences {
		owners[o.Kind+"/"+o.Name] = true
	}
	for _, k := range []string{"leaderworkerset.sigs.k8s.io/name", "ray.io/cluster", "jobset.sigs.k8s.io/jobset-name"} {
		if name := p.Labels[k]; name != "" {
			kind := map[string]string{"leaderworkerset.sigs.k8s.io/name": "LeaderWorkerSet", "ray.io/cluster": "RayCluster", "jobset.sigs.k8s.io/jobset-name": "JobSet"}[k]
			owners[kind+"/"+name] = true
		}
	}
	found, err := t.workloads(ctx, p.Namespace, owners)
	if err != nil {
		v.line("Kueue's Workloads cannot be read: %s", tool.UserText(err))
		return
	}
	if g := p.Labels["kueue.x-k8s.io/pod-group-name"]; len(found) == 0 && g != "" {
		if w, err := t.objects.Get(ctx, t.ref(kueueGroup, "Workload", p.Namespace, g)); err == nil {
			found = append(found, w)
		}
	}
	for _, w := range found {
		if !admitted(w) {
			v.line("Kueue holds it by Workload %s", w.GetName())
			v.edge(v.subject, graph.GatedBy, t.refOf(w))
		}
	}
}

// shortOf reads what quota lacks out of Kueue's words (pkg/scheduler/flavorassigner).
func shortOf() *regexp.Regexp {
	return regexp.MustCompile(`insufficient (?:unused )?quota(?: in cohort)? for ([\w./-]+) in flavor ([\w.-]+)(?:,? (?:previously considered podsets requests \([^)]*\) \+ current podset request \([^)]*\) > maximum capacity \([^)]*\)|request > maximum capacity \([^)]*\)|(\S+) more needed))?`)
}

// workload judges why Kueue does not let something run.
func (t *Toolset) workload(ctx context.Context, v *verdict, w *unstructured.Unstructured) {
	conds := conditionsOf(w)
	ref := t.refOf(w)
	lq := at(w.Object, "spec.queueName")
	v.line("Workload %s, queue %s, priority %s", w.GetName(), cmp.Or(lq, "(none)"), cmp.Or(at(w.Object, "spec.priority"), "0"))
	for _, c := range conds {
		v.line("condition %s %s %s since %s: %s", c.kind, c.status, c.reason, t.ago(c.since), c.message)
	}
	off := at(w.Object, "spec.active") == "false"
	_, done := is(conds, "Finished", "True")
	if e, ok := is(conds, "Evicted", "True"); off && !done && ok && byCheck(e) {
		// A check that rejects makes Kueue itself switch the Workload off.
		v.state = failed
		v.add(incident.Finding{Code: "serving.workload_queued", Role: incident.Symptom, Severity: incident.Warning, Subject: ref, Message: fmt.Sprintf("%s is switched off and will not be admitted: %s", ref, cmp.Or(oneLine(e.message, 400), e.reason)), Params: params("queue", lq, "message", oneLine(e.message, 400))})
		t.checks(v, ref, w, conds)
		return
	}
	if done || admitted(w) || off {
		if off {
			v.line("it is switched off (spec.active false)")
		}
		v.state = healthy
		return
	}
	v.state = progressing
	queued, _ := is(conds, "QuotaReserved", "False")
	if since := w.GetCreationTimestamp().Time; t.now().Sub(since) < 2*settle/5 {
		v.line("it is %s old", t.ago(since))
		return
	}
	message := oneLine(queued.message, 400)
	v.add(incident.Finding{Code: "serving.workload_queued", Role: incident.Symptom, Severity: incident.Warning, Subject: ref, Message: fmt.Sprintf("%s is not admitted: %s", ref, cmp.Or(message, queued.reason, "nothing is said")), Params: params("queue", lq, "message", message)})
	if e, ok := is(conds, "Evicted", "True"); ok {
		t.evicted(v, ref, conds, e)
	}
	cq := t.queueOf(ctx, v, ref, w, lq)
	if cq == "" {
		return
	}
	if m := shortOf().FindStringSubmatch(queued.message); m != nil {
		holders := t.holders(ctx, cq, m[1])
		never := strings.Contains(m[0], "maximum capacity")
		p := params("resource", m[1], "flavor", m[2], "more", m[3], "queue", cq, "holders", list(holders, 3), "message", message)
		if never {
			v.fault("serving.queue_never_fits", 0.93, ref, fmt.Sprintf("%s asks for more %s than flavor %s of ClusterQueue %s may ever give: %s", ref, m[1], m[2], cq, message), p)
			return
		}
		held := ""
		if len(holders) > 0 {
			held = "; held by " + list(holders, 3)
		}
		v.fault("serving.queue_quota", 0.9, ref, fmt.Sprintf("ClusterQueue %s has not enough quota of %s in flavor %s for %s: %s%s", cq, m[1], m[2], ref, message, held), p)
		return
	}
	t.checks(v, ref, w, conds)
}

// byCheck reports whether a Workload was put back because of an admission check;
// Kueue before 0.10 named the deactivation InactiveWorkloadAdmissionCheck.
func byCheck(e condition) bool { return strings.HasSuffix(e.reason, "AdmissionCheck") }

// checks says which admission check refuses a Workload. Kueue resets a check to
// Pending as soon as it has put the Workload back and keeps in the check's message
// only what it was (pkg/workload): then the eviction has the words that are left.
func (t *Toolset) checks(v *verdict, ref incident.Ref, w *unstructured.Unstructured, conds []condition) {
	e, ok := is(conds, "Evicted", "True")
	ok = ok && byCheck(e)
	for _, c := range mapsAt(w.Object, "status", "admissionChecks") {
		state, message := text(c["state"]), text(c["message"])
		if _, was, reset := strings.Cut(message, "Previously: "); ok && reset && state == "Pending" {
			state, message = strings.TrimSpace(was), e.message
		}
		if state != "Rejected" && state != "Retry" {
			continue
		}
		message = oneLine(message, 300)
		v.fault("serving.queue_check", 0.88, ref, fmt.Sprintf("admission check %s of %s says %s: %s", text(c["name"]), ref, state, message), params("check", text(c["name"]), "state", state, "message", message))
	}
}

// evicted says why a Workload that ran was put back.
func (t *Toolset) evicted(v *verdict, ref incident.Ref, conds []condition, e condition) {
	switch {
	case e.reason == "Preempted":
		why := e.message
		if p, ok := is(conds, "Preempted", "True"); ok {
			why = cmp.Or(p.message, why) + " (" + p.reason + ")"
		}
		v.fault("serving.queue_preempted", 0.88, ref, fmt.Sprintf("%s was preempted %s ago: %s", ref, t.ago(e.since), oneLine(why, 300)), params("message", oneLine(why, 300), "reason", e.reason))
	case e.reason == "PodsReadyTimeout":
		// Its pods did not come up in time: why is with the pods.
		v.add(incident.Finding{Code: "serving.queue_evicted", Role: incident.Symptom, Severity: incident.Warning, Subject: ref, Message: fmt.Sprintf("%s was put back %s ago because its pods were not ready in time: %s", ref, t.ago(e.since), oneLine(e.message, 300)), Params: params("reason", e.reason, "message", oneLine(e.message, 300))})
	case strings.HasSuffix(e.reason, "Stopped"):
		v.line("it was put back because the queue was stopped")
	default:
		v.add(incident.Finding{Code: "serving.queue_evicted", Role: incident.Symptom, Severity: incident.Warning, Subject: ref, Message: fmt.Sprintf("%s was put back %s ago: %s: %s", ref, t.ago(e.since), e.reason, oneLine(e.message, 300)), Params: params("reason", e.reason, "message", oneLine(e.message, 300))})
	}
}

// queueOf walks from a Workload's LocalQueue to the ClusterQueue, and says what is
// wrong on the way; it gives "" where nothing further can be asked.
func (t *Toolset) queueOf(ctx context.Context, v *verdict, ref incident.Ref, w *unstructured.Unstructured, lq string) string {
	local := t.ref(kueueGroup, "LocalQueue", w.GetNamespace(), lq)
	u, err := t.objects.Get(ctx, local)
	if missing(err) {
		v.edge(ref, graph.Uses, local)
		near := "there is none in the namespace"
		if all, err := t.objects.List(ctx, kueueGroup, "LocalQueue", w.GetNamespace(), ""); err == nil && len(all) > 0 {
			var names []string
			for _, q := range all {
				names = append(names, q.GetName())
			}
			near = "the namespace has " + list(names, 4)
		}
		v.fault("serving.queue_missing", 0.94, ref, fmt.Sprintf("%s waits in LocalQueue %s, which does not exist; %s", ref, local.Path(), near), params("queue", lq, "kind", "LocalQueue", "near", near))
		return ""
	}
	if err != nil {
		v.line("LocalQueue %s cannot be read: %s", lq, tool.UserText(err))
		return ""
	}
	v.edge(ref, graph.Uses, local)
	t.queueItself(v, local, u)
	name := at(u.Object, "spec.clusterQueue")
	cluster := t.ref(kueueGroup, "ClusterQueue", "", name)
	v.edge(local, graph.Uses, cluster)
	c, err := t.objects.Get(ctx, cluster)
	if missing(err) {
		v.fault("serving.queue_missing", 0.94, local, fmt.Sprintf("%s names ClusterQueue %s, which does not exist", local, name), params("queue", name, "kind", "ClusterQueue", "near", ""))
		return ""
	}
	if err != nil {
		return name
	}
	t.queueItself(v, cluster, c)
	return name
}

// queueItself judges a queue that is stopped or not active.
func (t *Toolset) queueItself(v *verdict, ref incident.Ref, u *unstructured.Unstructured) {
	if stop := at(u.Object, "spec.stopPolicy"); stop != "" && stop != "None" {
		v.fault("serving.queue_stopped", 0.94, ref, fmt.Sprintf("%s is stopped (stopPolicy %s): nothing is admitted from it", ref, stop), params("policy", stop, "reason", "Stopped", "message", ""))
		return
	}
	if c, off := is(conditionsOf(u), "Active", "False"); off {
		v.fault("serving.queue_stopped", 0.92, ref, fmt.Sprintf("%s is not active: %s: %s", ref, c.reason, oneLine(c.message, 300)), params("policy", "", "reason", c.reason, "message", oneLine(c.message, 300)))
	}
}

func (t *Toolset) queue(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	v.state = healthy
	t.queueItself(v, v.subject, u)
	if v.sick() {
		v.state = failed
	}
	if name := at(u.Object, "spec.clusterQueue"); name != "" {
		v.edge(v.subject, graph.Uses, t.ref(kueueGroup, "ClusterQueue", "", name))
	}
	v.line("pending %s, admitted %s", cmp.Or(at(u.Object, "status.pendingWorkloads"), "?"), cmp.Or(at(u.Object, "status.admittedWorkloads"), "?"))
	for _, f := range mapsAt(u.Object, "status", "flavorsReservation") {
		for _, r := range mapsAt(f, "resources") {
			v.line("flavor %s: %s of %s reserved", text(f["name"]), text(r["total"]), text(r["name"]))
		}
	}
	if v.subject.Kind == "ClusterQueue" {
		if names := t.holders(ctx, u.GetName(), ""); len(names) > 0 {
			v.line("admitted: %s", list(names, 8))
		}
	}
}

// holders lists the Workloads that a ClusterQueue has admitted, with what they take
// of a resource; the largest first.
func (t *Toolset) holders(ctx context.Context, queue, resource string) []string {
	all, err := t.objects.List(ctx, kueueGroup, "Workload", "", "")
	if err != nil {
		return nil
	}
	type holder struct {
		name string
		n    int64
	}
	var out []holder
	for _, w := range all {
		if at(w.Object, "status.admission.clusterQueue") != queue || !admitted(w) {
			continue
		}
		if _, done := is(conditionsOf(w), "Finished", "True"); done {
			continue
		}
		h := holder{name: w.GetNamespace() + "/" + w.GetName()}
		for _, a := range mapsAt(w.Object, "status", "admission", "podSetAssignments") {
			if q := text(mapAt(a, "resourceUsage")[resource]); q != "" {
				h.n += count(q)
			}
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b holder) int { return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.name, b.name)) })
	var names []string
	for _, h := range out {
		if h.n > 0 {
			names = append(names, fmt.Sprintf("%s (%d)", h.name, h.n))
		} else if resource == "" {
			names = append(names, h.name)
		}
	}
	return names
}

// count reads a quantity that is a whole number, 0 for any other.
func count(s string) int64 {
	n := int64(0)
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<40 {
			return 0
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

package serving

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// ExplainIn names a custom resource of a serving system.
type ExplainIn struct {
	Kind      string `json:"kind" jsonschema:"RayService, Workspace, InferenceService, ..."`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Group     string `json:"group,omitempty"`
}

// worstPods bounds how many pods in trouble an object leads to, finePods how many
// that are well stand for the rest.
const (
	worstPods = 5
	finePods  = 2
)

func (t *Toolset) explainTool() (tool.Tool, error) {
	return read("serving_explain", func(ctx context.Context, in ExplainIn) (tool.Output[Judged], error) {
		ref, err := t.resolveKind(ctx, in)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		u, err := t.objects.Get(ctx, ref)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		v := t.judgeObject(ctx, ref, u)
		d, text := v.judged()
		return tool.Output[Judged]{Data: d, Text: text, Findings: v.findings, Edges: v.edges}, nil
	})
}

// resolveKind finds the group of a kind among those served.
func (t *Toolset) resolveKind(ctx context.Context, in ExplainIn) (incident.Ref, error) {
	kind, group, _ := strings.Cut(in.Kind, ".")
	group = cmp.Or(in.Group, group)
	all, err := t.objects.Served(ctx)
	if err != nil {
		return incident.Ref{}, err
	}
	for _, s := range all {
		if strings.EqualFold(s.Kind, kind) && (group == "" || s.Group == group) && t.book.system(s.Group, s.Kind) != nil {
			return t.ref(s.Group, s.Kind, in.Namespace, in.Name), nil
		}
	}
	return incident.Ref{}, &tool.Error{Kind: tool.NotServed, User: fmt.Sprintf("the API server has no serving kind %q", in.Kind), Fix: "serving_overview lists those it has"}
}

// judgeObject walks from a custom resource to its pods and judges what it says of
// itself.
func (t *Toolset) judgeObject(ctx context.Context, ref incident.Ref, u *unstructured.Unstructured) *verdict {
	v := newVerdict(ref)
	sys := t.book.system(ref.Group, ref.Kind)
	if sys != nil {
		v.system = sys.Name
		if version := u.GroupVersionKind().Version; !slices.Contains(sys.Versions, version) {
			v.line("version %s of %s is not one that is known here; its fields are read as far as they are there", version, ref.Group)
		}
	}
	v.line("created %s ago", t.ago(u.GetCreationTimestamp().Time))
	s, _ := t.book.shape(ref.Group, ref.Kind)
	t.identity(v, s, u)
	conds := t.spoken(u)
	t.conditions(v, u, conds)
	pods := t.podsOf(ctx, s, u)
	t.leadTo(ctx, v, s, u)
	t.special(ctx, v, u, conds, pods)
	t.leadToPods(v, v.subject, pods)
	t.queued(ctx, v, u, pods)
	t.reconciled(ctx, v, u, sys, conds)
	t.summary(v, s, u, conds, pods)
	return v
}

// identity says what an object serves.
func (t *Toolset) identity(v *verdict, s shape, u *unstructured.Unstructured) {
	for _, f := range []struct {
		key   string
		paths []string
	}{{"model", s.Model}, {"served_name", s.Served}, {"engine", s.Engine}, {"desired", s.Desired}, {"ready", s.Ready}} {
		if x := first(u, f.paths); x != "" {
			v.fact(f.key, x)
			v.line("%s: %s", f.key, x)
		}
	}
}

// spoken gives the conditions of an object, and what it says of itself in other
// fields in the same form.
func (t *Toolset) spoken(u *unstructured.Unstructured) []condition {
	conds := conditionsOf(u)
	if why := at(u.Object, "status.modelStatus.lastFailureInfo.reason"); u.GetKind() == "InferenceService" && why != "" {
		// transitionStatus says whether the failure is over.
		if state := at(u.Object, "status.modelStatus.transitionStatus"); state == "BlockedByFailedLoad" || state == "InvalidSpec" {
			conds = append(conds, condition{kind: "failure", status: "False", reason: why, message: at(u.Object, "status.modelStatus.lastFailureInfo.message")})
		}
	}
	return conds
}

// podsOf finds the pods of an object by the labels its system gives them.
func (t *Toolset) podsOf(ctx context.Context, s shape, u *unstructured.Unstructured) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range s.Pods {
		filled := t.book.fill(p, u)
		if filled == "" {
			continue
		}
		sel, err := labels.Parse(filled)
		if err != nil {
			continue
		}
		pods, err := t.pods.Matching(ctx, u.GetNamespace(), sel)
		if err != nil {
			continue
		}
		for _, q := range pods {
			if !slices.ContainsFunc(out, func(o *corev1.Pod) bool { return o.Name == q.Name }) {
				out = append(out, q)
			}
		}
	}
	return out
}

// leadTo ties an object to what it makes or refers to, as far as that is there.
func (t *Toolset) leadTo(ctx context.Context, v *verdict, s shape, u *unstructured.Unstructured) {
	for _, c := range s.Children {
		kind := t.book.fill(c.Kind, u)
		if kind == "" {
			continue
		}
		for _, group := range c.Groups {
			if _, ok := t.served(ctx, group, kind); !ok {
				continue
			}
			if name := t.book.fill(c.Name, u); name != "" {
				to := t.ref(group, kind, u.GetNamespace(), name)
				if _, err := t.objects.Get(ctx, to); err == nil {
					v.edge(v.subject, graph.Owns, to)
				} else if missing(err) {
					v.line("%s, which it should lead to, does not exist", to)
				}
			}
			if sel := t.book.fill(c.Labels, u); sel != "" {
				list, err := t.objects.List(ctx, group, kind, u.GetNamespace(), sel)
				if err != nil {
					continue
				}
				for _, o := range list[:min(len(list), 10)] {
					v.edge(v.subject, graph.Owns, t.ref(group, kind, o.GetNamespace(), o.GetName()))
				}
			}
		}
	}
}

// leadToPods ties an object to its pods: those in trouble, and a few that are well.
func (t *Toolset) leadToPods(v *verdict, from incident.Ref, pods []*corev1.Pod) {
	bad, fine := 0, 0
	for _, p := range pods {
		if over(p) && p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		if ready(p) {
			if fine++; fine > finePods {
				continue
			}
		} else if bad++; bad > worstPods {
			continue
		}
		v.line("pod %s on %s: %s", p.Name, cmp.Or(p.Spec.NodeName, "no node"), podWord(p))
		v.edge(from, graph.Owns, t.podRef(p))
	}
}

// summary settles the state, and says of an object without telling conditions
// that its pods do not serve.
func (t *Toolset) summary(v *verdict, s shape, u *unstructured.Unstructured, conds []condition, pods []*corev1.Pod) {
	state, word := s.stateOf(u)
	if word != "" {
		v.fact("word", word)
		v.line("%s: %s", s.State, word)
	}
	told := slices.ContainsFunc(conds, func(c condition) bool { return c.kind == "Ready" || c.kind == "Available" })
	old := t.now().Sub(u.GetCreationTimestamp().Time) >= settle
	done := slices.ContainsFunc(conds, func(c condition) bool {
		return c.status == "True" && slices.Contains([]string{"Completed", "Complete", "Succeeded", "Finished"}, c.kind)
	})
	pods = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	up := 0
	for _, p := range pods {
		if ready(p) {
			up++
		}
	}
	if len(pods) > 0 {
		v.fact("pods", fmt.Sprint(len(pods)))
		v.fact("pods_ready", fmt.Sprint(up))
		v.line("%d of %d pods ready", up, len(pods))
	}
	if !v.sick() && old && !done && !stopped(u) {
		desired, hasDesired := figure(u, s.Desired)
		have, hasReady := figure(u, s.Ready)
		switch {
		case state == failed:
			t.notReady(v, s.State, word, at(u.Object, "status.reason"), at(u.Object, "status.message"))
		case state == progressing && !told:
			t.notReady(v, s.State, word, at(u.Object, "status.reason"), at(u.Object, "status.message"))
		case hasDesired && desired > 0 && hasReady && have < desired:
			t.notReady(v, "replicas", fmt.Sprintf("%d of %d ready", have, desired), "", "")
		case !told && len(pods) > 0 && up == 0 && state != healthy:
			t.notReady(v, "pods", fmt.Sprintf("0 of %d ready", len(pods)), "", "")
		}
	}
	switch {
	case stopped(u):
		v.state = "Stopped"
	case v.sick() && up > 0:
		v.state = degraded
	case v.sick():
		v.state = failed
	case state != "":
		v.state = state
	case slices.ContainsFunc(conds, func(c condition) bool {
		return (c.kind == "Ready" || c.kind == "Available") && c.status == "True"
	}):
		v.state = healthy
	case len(conds) > 0 || up < len(pods):
		v.state = progressing
	case up > 0:
		v.state = healthy
	}
}

// figure reads the first whole number that stands at one of the paths.
func figure(u *unstructured.Unstructured, paths []string) (int64, bool) {
	for _, p := range paths {
		if n, ok := number(u.Object, p); ok {
			return n, true
		}
	}
	return 0, false
}

// queued ties an object to the Kueue Workload that holds it.
func (t *Toolset) queued(ctx context.Context, v *verdict, u *unstructured.Unstructured, pods []*corev1.Pod) {
	held := slices.ContainsFunc(pods, gatedByKueue)
	if u.GetLabels()[queueLabel] == "" && !held {
		return
	}
	names := map[string]bool{u.GetKind() + "/" + u.GetName(): true}
	for _, p := range pods {
		names["Pod/"+p.Name] = true
	}
	found, err := t.workloads(ctx, u.GetNamespace(), names)
	if err != nil || len(found) == 0 {
		return
	}
	for _, w := range found[:min(len(found), worstPods)] {
		if !admitted(w) {
			v.edge(v.subject, graph.GatedBy, t.refOf(w))
			if stopped(u) || held {
				v.symptom("serving.not_ready", fmt.Sprintf("%s is held by Kueue: Workload %s is not admitted", v.subject, w.GetName()), params("condition", "Admitted", "reason", "Queued", "message", "", "mode", "F47", "way", ""))
			}
		}
	}
}

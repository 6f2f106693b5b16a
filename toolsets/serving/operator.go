package serving

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// OperatorView is a Deployment that acts for a system.
type OperatorView struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Desired   int64  `json:"desired"`
	Ready     int64  `json:"ready"`
	Image     string `json:"image,omitempty"`
	// Restarts of its pods together; -1 when they could not be read.
	Restarts int `json:"restarts"`

	object *unstructured.Unstructured
}

// alive reports whether an operator has a pod that is ready.
func (o OperatorView) alive() bool { return o.Ready > 0 }

// operators finds the Deployments of a system anywhere in the cluster.
func (t *Toolset) operators(ctx context.Context, patterns []string) ([]OperatorView, error) {
	all, err := t.objects.List(ctx, "apps", "Deployment", "", "")
	if err != nil {
		return nil, err
	}
	var out []OperatorView
	for _, d := range all {
		for _, p := range patterns {
			if !matches(p, d.GetName()) {
				continue
			}
			o := OperatorView{Namespace: d.GetNamespace(), Name: d.GetName(), Desired: 1, Restarts: -1, object: d}
			if n, ok := number(d.Object, "spec.replicas"); ok {
				o.Desired = n
			}
			o.Ready, _ = number(d.Object, "status.readyReplicas")
			for _, c := range mapsAt(d.Object, "spec", "template", "spec", "containers") {
				if o.Image == "" {
					o.Image = text(c["image"])
				}
			}
			if pods, err := t.pods.Matching(ctx, d.GetNamespace(), labels.SelectorFromSet(wordsAt(d.Object, "spec", "selector", "matchLabels"))); err == nil {
				o.Restarts = 0
				for _, q := range pods {
					for _, c := range q.Status.ContainerStatuses {
						o.Restarts += int(c.RestartCount)
					}
				}
			}
			out = append(out, o)
			break
		}
	}
	return out, nil
}

// reconciled judges whether anybody acts for an object: a status that was never
// written, or that speaks of an earlier generation, points at its operator.
func (t *Toolset) reconciled(ctx context.Context, v *verdict, u *unstructured.Unstructured, sys *system, conds []condition) {
	if sys == nil || len(sys.Operators) == 0 {
		return
	}
	stale := staleness(u, conds)
	if stale == "" {
		return
	}
	if len(u.GetManagedFields()) == 0 {
		// A list leaves out when the spec was written last.
		if whole, err := t.objects.Get(ctx, v.subject); err == nil {
			u = whole
		}
	}
	if stale = staleness(u, conds); stale == "" || t.now().Sub(lastWritten(u)) < settle {
		return
	}
	v.symptom("serving.not_reconciled", fmt.Sprintf("%s is not acted for: %s", v.subject, stale), params("system", sys.Name, "what", stale))
	t.blameOperators(ctx, v, sys, sys.Operators)
}

// staleness says in what way a status is behind, empty if it is not.
func staleness(u *unstructured.Unstructured, conds []condition) string {
	status := mapAt(u.Object, "status")
	if len(status) == 0 && len(conds) == 0 {
		return "it has no status at all"
	}
	if seen, ok := number(u.Object, "status.observedGeneration"); ok && seen > 0 && u.GetGeneration() > seen {
		return fmt.Sprintf("its status is about generation %d and the object is at %d", seen, u.GetGeneration())
	}
	return ""
}

// lastWritten is when the spec of an object was last written, as far as it is
// known: managed fields tell it, else its creation.
func lastWritten(u *unstructured.Unstructured) time.Time {
	at := u.GetCreationTimestamp().Time
	for _, m := range u.GetManagedFields() {
		if m.Time != nil && m.Subresource == "" && m.Time.After(at) {
			at = m.Time.Time
		}
	}
	return at
}

// blameOperators ties an object that nobody acts for to the operators that should.
func (t *Toolset) blameOperators(ctx context.Context, v *verdict, sys *system, patterns []string) {
	ops, err := t.operators(ctx, patterns)
	if err != nil {
		v.line("whether the operator of %s is there is not known: %s", sys.Name, tool.UserText(err))
		return
	}
	if len(ops) == 0 {
		where := ""
		if len(sys.Namespaces) > 0 {
			where = " (by default in namespace " + sys.Namespaces[0] + ")"
		}
		v.fault("serving.operator_missing", 0.65, v.subject, fmt.Sprintf("no Deployment %s is in this cluster%s, so it seems that nothing acts for %s", strings.Join(patterns, " or "), where, v.subject), params("system", sys.Name, "operator", strings.Join(patterns, ", ")))
		return
	}
	for _, o := range ops {
		to := t.ref("apps", "Deployment", o.Namespace, o.Name)
		v.edge(v.subject, graph.ServedBy, to)
		v.line("operator %s/%s: %d of %d ready, %d restarts, image %s", o.Namespace, o.Name, o.Ready, o.Desired, o.Restarts, o.Image)
		if !o.alive() {
			t.operatorDown(v, sys, o)
			continue
		}
		t.operatorRefused(ctx, v, sys, o)
	}
}

// operatorDown says that an operator has no ready pod; what keeps its pods down is
// deeper and explains it.
func (t *Toolset) operatorDown(v *verdict, sys *system, o OperatorView) {
	to := t.ref("apps", "Deployment", o.Namespace, o.Name)
	v.edge(v.subject, graph.ServedBy, to)
	msg := fmt.Sprintf("the operator %s/%s of %s has %d of %d replicas ready", o.Namespace, o.Name, sys.Name, o.Ready, o.Desired)
	v.fault("serving.operator_down", 0.8, to, msg, params("system", sys.Name, "operator", o.Name, "ready", fmt.Sprint(o.Ready), "desired", fmt.Sprint(o.Desired)))
}

// forbidden reads the API server's refusal out of an operator's log.
func forbidden() *regexp.Regexp {
	return regexp.MustCompile(`User \\?"system:serviceaccount:([^:"\\]+):([^"\\]+)\\?" cannot (get|list|watch|create|update|patch|delete) resource \\?"([^"\\]+)\\?"(?: in API group \\?"([^"\\]*)\\?")?`)
}

// operatorRefused reads whether an operator that is alive lacks a right.
func (t *Toolset) operatorRefused(ctx context.Context, v *verdict, sys *system, o OperatorView) {
	pods, err := t.pods.Matching(ctx, o.Namespace, labels.SelectorFromSet(wordsAt(o.object.Object, "spec", "selector", "matchLabels")))
	if err != nil {
		return
	}
	re := forbidden()
	for _, p := range pods {
		for _, c := range p.Spec.Containers {
			log, err := t.logs.Tail(ctx, p.Namespace, p.Name, c.Name, false, 400)
			if err != nil {
				continue
			}
			n := 0
			var m []string
			for line := range strings.Lines(log) {
				if x := re.FindStringSubmatch(line); x != nil {
					n, m = n+1, x
				}
			}
			if m == nil {
				continue
			}
			sa := t.ref("", "ServiceAccount", m[1], m[2])
			v.edge(t.ref("apps", "Deployment", o.Namespace, o.Name), graph.Uses, sa)
			v.fault("serving.operator_forbidden", 0.9, sa, fmt.Sprintf("the operator %s/%s of %s may not %s %s: its log says so %d times", o.Namespace, o.Name, sys.Name, m[3], m[4], n),
				params("system", sys.Name, "operator", o.Name, "verb", m[3], "resource", m[4], "group", m[5]))
			return
		}
	}
}

// provider finds why a ModelDeployment has no provider: shims that are down or
// have stopped to report.
func (t *Toolset) provider(ctx context.Context, v *verdict, sys *system) {
	configs, err := t.objects.List(ctx, "airunway.ai", "InferenceProviderConfig", "", "")
	if err != nil {
		v.line("the registered providers are not known: %s", tool.UserText(err))
		return
	}
	if len(configs) == 0 {
		v.line("no InferenceProviderConfig is registered")
	}
	for _, c := range configs {
		beat, _ := time.Parse(time.RFC3339, at(c.Object, "status.lastHeartbeat"))
		v.line("provider %s: ready %s, last heartbeat %s ago, upstream %s", c.GetName(), at(c.Object, "status.ready"), t.ago(beat), at(c.Object, "status.upstreamCRDVersion"))
		// The heartbeat is renewed every minute (AI Runway docs/architecture.md).
		if !beat.IsZero() && t.now().Sub(beat) > 3*time.Minute {
			v.line("provider %s has not reported for %s: its shim is down", c.GetName(), t.ago(beat))
		}
	}
	shims, err := t.operators(ctx, sys.Shims)
	if err != nil {
		return
	}
	for _, o := range shims {
		v.line("shim %s/%s: %d of %d ready", o.Namespace, o.Name, o.Ready, o.Desired)
		if !o.alive() {
			t.operatorDown(v, sys, o)
		}
	}
}

// systemRef names a system where it is the subject of something.
func (t *Toolset) systemRef(name string) incident.Ref { return t.ref("", "System", "", name) }

// Package e2e runs gumshoe against a real control plane: what it says of a
// cluster is held against what the scheduler of that cluster does.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra"
)

// patience is how long a test waits for the cluster to do one thing; a failure
// to do it is told by what was seen, never by how long it took.
const patience = 90 * time.Second

// live is a real cluster that ends with the test.
type live struct {
	cp     *controlplane.ControlPlane
	hands  *scenario.ClusterHands
	client *kubernetes.Clientset
	began  time.Time
}

func start(t *testing.T, o controlplane.Options) *live {
	t.Helper()
	cp := controlplane.ForTest(t, o)
	hands, err := scenario.NewHands(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	fast := rest.CopyConfig(cp.RESTConfig())
	fast.QPS, fast.Burst = -1, -1
	client, err := kubernetes.NewForConfig(fast)
	if err != nil {
		t.Fatal(err)
	}
	return &live{cp: cp, hands: hands, client: client, began: time.Now()}
}

// run makes nodes and applies documents, which may use the shorthands of scenarios.
func (l *live) run(t *testing.T, fleet []scenario.Group, steps ...scenario.Step) {
	t.Helper()
	if err := scenario.Run(t.Context(), scenario.Scenario{ID: t.Name(), Fleet: fleet, Steps: steps}, l.hands, l.began); err != nil {
		t.Fatal(err)
	}
}

// apply applies documents.
func (l *live) apply(t *testing.T, documents string) {
	t.Helper()
	l.run(t, nil, scenario.Step{Apply: documents})
}

// ask puts a question to gumshoe as a user would, with what a kubeconfig may do.
// Each question is a run of its own: nothing is remembered from the last.
func ask(t *testing.T, kubeconfig, question string) incident.Report {
	t.Helper()
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = kubeconfig
	return investigate(t, cfg, question)
}

func investigate(t *testing.T, cfg app.Config, question string) incident.Report {
	t.Helper()
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	r, err := a.Investigate(t.Context(), incident.Question{Text: question}, event.SinkFunc(func(event.Event) {}))
	if err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return r
}

// call calls one tool, in a run of its own.
func call[T any](t *testing.T, l *live, name string, args any) (data T, answer app.ToolAnswer) {
	t.Helper()
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = l.cp.Kubeconfig()
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	answer, err = a.CallTool(t.Context(), name, raw)
	if err != nil {
		t.Fatalf("%s %s: %v", name, raw, err)
	}
	if err := json.Unmarshal(answer.Evidence.Data, &data); err != nil {
		t.Fatalf("%s %s: %v", name, raw, err)
	}
	return data, answer
}

// explained is the answer of dra_explain that a report cites.
func explained(t *testing.T, r incident.Report) dra.Explanation {
	t.Helper()
	for _, e := range r.Evidence {
		if e.Tool == "dra_explain" && e.Error == "" {
			var x dra.Explanation
			if err := json.Unmarshal(e.Data, &x); err != nil {
				t.Fatal(err)
			}
			return x
		}
	}
	t.Fatalf("the report cites no dra_explain: %s", tell(r))
	return dra.Explanation{}
}

// decision is what the scheduler made of a pod: a node, or its words.
type decision struct{ node, reason, said string }

func (d decision) String() string {
	if d.node != "" {
		return "scheduled to " + d.node
	}
	return d.reason + ": " + d.said
}

// decided reads the scheduler's decision off a pod; false while there is none.
func decided(p *corev1.Pod) (decision, bool) {
	if p.Spec.NodeName != "" {
		return decision{node: p.Spec.NodeName}, true
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason != corev1.PodReasonSchedulingGated {
			return decision{reason: c.Reason, said: c.Message}, true
		}
	}
	return decision{}, false
}

// refused waits until the scheduler has refused a pod, and gives its words.
func (l *live) refused(t *testing.T, namespace, name string) string {
	t.Helper()
	d := l.await(t, namespace, name, func(d decision) bool { return true })
	if d.node != "" {
		t.Fatalf("pod %s/%s was meant to be refused and is %s", namespace, name, d)
	}
	return d.said
}

// scheduled waits until a pod has a node; refusals before that are passed over.
func (l *live) scheduled(t *testing.T, namespace, name string) string {
	t.Helper()
	return l.await(t, namespace, name, func(d decision) bool { return d.node != "" }).node
}

func (l *live) await(t *testing.T, namespace, name string, want func(decision) bool) decision {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := l.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	last := decision{said: "nothing was said of it"}
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatalf("the watch of pod %s/%s ended; last seen: %s", namespace, name, last)
			}
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				t.Fatalf("the watch of pod %s/%s gives %T", namespace, name, e.Object)
			}
			if d, ok := decided(p); ok {
				if last = d; want(d) {
					return d
				}
			}
		case <-ctx.Done():
			t.Fatalf("pod %s/%s: %s", namespace, name, last)
		}
	}
}

// tell puts a report into a few lines.
func tell(r incident.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  outcome %s (%s)\n", r.Question, r.Diagnosis.Outcome, r.Stop)
	for _, c := range r.Diagnosis.Causes {
		fmt.Fprintf(&b, "  cause %s %s: %s %v\n", c.Code, c.Subject, c.Statement, c.Evidence)
	}
	for _, e := range r.Diagnosis.Chain {
		fmt.Fprintf(&b, "  chain %s -%s-> %s\n", e.From, e.Relation, e.To)
	}
	for _, w := range r.Diagnosis.WouldFit {
		fmt.Fprintf(&b, "  would fit %s\n", w.Text)
	}
	for _, f := range r.Diagnosis.Unexplained {
		fmt.Fprintf(&b, "  unexplained %s %s: %s\n", f.Code, f.Subject, f.Message)
	}
	for _, g := range r.Diagnosis.NotSeen {
		fmt.Fprintf(&b, "  not seen %s: %s\n", g.Source, g.Why)
	}
	for _, e := range r.Evidence {
		if e.Error != "" {
			fmt.Fprintf(&b, "  %s %s failed: %s\n", e.ID, e.Tool, e.Error)
		}
	}
	return b.String()
}

// proved checks that every claim of a report cites evidence that is there and
// is no error, and that the chain leads from the subject asked about to the first cause.
func proved(t *testing.T, r incident.Report, from incident.Ref) {
	t.Helper()
	good := map[string]bool{}
	for _, e := range r.Evidence {
		good[e.ID] = e.Error == "" && e.Text != ""
	}
	cites := func(what string, ids []string) {
		t.Helper()
		if len(ids) == 0 {
			t.Errorf("%s cites nothing", what)
		}
		for _, id := range ids {
			if !good[id] {
				t.Errorf("%s cites %s, which is not there or failed", what, id)
			}
		}
	}
	d := r.Diagnosis
	for _, c := range d.Causes {
		cites("cause "+c.Code, c.Evidence)
	}
	for _, e := range d.Chain {
		cites("link "+e.From.String()+" "+e.Relation, e.Evidence)
	}
	for _, p := range d.Proposals {
		cites("proposal "+p.Action, p.Evidence)
	}
	if len(d.Unsupported) > 0 {
		t.Errorf("unsupported: %+v", d.Unsupported)
	}
	if len(d.Causes) == 0 {
		t.Errorf("no cause: %s", tell(r))
		return
	}
	reached := []incident.Ref{from}
	for _, e := range d.Chain {
		if slices.ContainsFunc(reached, e.From.Same) {
			reached = append(reached, e.To)
		}
	}
	if !slices.ContainsFunc(reached, d.Causes[0].Subject.Same) {
		t.Errorf("the chain does not lead from %s to %s: %s", from, d.Causes[0].Subject, tell(r))
	}
}

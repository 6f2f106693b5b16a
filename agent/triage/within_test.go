package triage

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// ranked ranks two faults over the edges given and says which comes first.
func ranked(t *testing.T, a, b incident.Finding, edges ...incident.Edge) *candidate {
	t.Helper()
	s := &session{graph: graph.New(), roots: []incident.Ref{a.Subject}, reached: map[incident.Ref]map[incident.Ref]int{}}
	s.graph.Add(edges...)
	cands := make([]*candidate, 0, 2)
	for _, f := range []incident.Finding{a, b} {
		cands = append(cands, &candidate{finding: f, severity: f.Severity, cause: incident.Cause{Subject: f.Subject, Code: f.Code, Confidence: f.Confidence}})
	}
	return s.rank(cands)[0]
}

func TestWhatAThingRunsOn(t *testing.T) {
	t.Parallel()
	pod := incident.Ref{Kind: "Pod", Namespace: "shop", Name: "web"}
	agent := incident.Ref{Kind: "Pod", Namespace: "kube-system", Name: "plugin"}
	node := incident.Ref{Kind: "Node", Name: "n1"}
	runs := func(p incident.Ref) incident.Edge { return incident.Edge{From: p, Relation: graph.RunsOn, To: node} }
	fault := func(r incident.Ref, code string, confidence float64, params map[string]string) incident.Finding {
		return incident.Finding{Code: code, Role: incident.Fault, Severity: incident.Critical, Subject: r, Confidence: confidence, Params: params}
	}
	for name, c := range map[string]struct {
		a, b  incident.Finding
		edges []incident.Edge
		want  incident.Ref
	}{
		"a node explains what only shows on it": {
			fault(pod, "exit", 0.8, nil), fault(node, "condition", 0.7, nil), []incident.Edge{runs(pod)}, node},
		"a node explains no wrong configuration": {
			fault(pod, "exit", 0.8, map[string]string{"within": "program"}), fault(node, "condition", 0.95, nil), []incident.Edge{runs(pod)}, pod},
		"an agent explains what the node lacks for want of it": {
			fault(node, "driver_missing", 0.95, map[string]string{"driver": "gpu.example.com"}), fault(agent, "exit", 0.8, nil),
			[]incident.Edge{runs(agent), {From: node, Relation: graph.Publishes, To: agent}}, agent},
		"no agent explains that its node is gone": {
			fault(node, "unreachable", 0.95, nil), fault(agent, "exit", 0.8, nil),
			[]incident.Edge{runs(agent), {From: node, Relation: graph.Publishes, To: agent}}, node},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ranked(t, c.a, c.b, c.edges...)
			if got.cause.Subject != c.want {
				t.Errorf("first is %s, not %s", got.cause.Subject, c.want)
			}
		})
	}
}

package investigate

import (
	"slices"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// TestMerge: what a model may do to triage's answer, and what it may not.
func TestMerge(t *testing.T) {
	t.Parallel()
	taint := incident.Ref{Cluster: "lab", Kind: "DeviceTaintRule", Name: "bad-gpus"}
	g := scene()
	taintFinding := incident.Finding{Code: "dra.tainted", Role: incident.Fault, Severity: incident.Warning, Subject: taint, Evidence: []string{"E4"}}
	g.Findings = append(g.Findings, taintFinding)
	g.Edges = append(g.Edges, incident.Edge{From: claim, Relation: "tainted-by", To: taint, Evidence: []string{"E4"}})
	a := incident.Cause{Subject: claim, Code: "dra.selector_excludes_all", Statement: "A", Confidence: 0.9, Evidence: []string{"E2"}, Runbook: "book"}
	b := incident.Cause{Subject: taint, Code: "dra.tainted", Statement: "B", Confidence: 0.6, Evidence: []string{"E4"}}
	onPod := incident.Cause{Subject: pod, Code: "kube.pod_unschedulable", Statement: "P", Confidence: 0.9, Evidence: []string{"E1"}}
	guess := incident.Cause{Subject: secret, Code: "guess", Statement: "G", Confidence: 0.7, Evidence: []string{"E4"}}
	refuteA := incident.Refutation{Code: a.Code, What: "the selector", Why: "w", Evidence: []string{"E4"}}
	cause := incident.RootCause
	diag := func(o incident.Outcome, cs ...incident.Cause) incident.Diagnosis {
		return incident.Diagnosis{Outcome: o, Causes: cs}
	}
	for _, tc := range []struct {
		name          string
		triage, model incident.Diagnosis
		want          []string
		outcome       incident.Outcome
	}{
		{"the model leaves a cause out", diag(cause, a), diag(cause), []string{"A"}, cause},
		{"the model knows nothing", diag(cause, a), diag(incident.Inconclusive), []string{"A"}, cause},
		{"the model says healthy", diag(cause, a), diag(incident.Healthy), []string{"A"}, cause},
		{"the model repeats in its words", diag(cause, a), diag(cause, func() incident.Cause { c := a; c.Statement = "a, said otherwise"; return c }()), []string{"A"}, cause},
		{"the model reorders", diag(cause, a, b), diag(cause, b, a), []string{"B", "A"}, cause},
		{"a deeper fault goes first", diag(cause, a), diag(cause, b), []string{"B", "A"}, cause},
		{"a guess goes last", diag(cause, a), diag(cause, guess), []string{"A", "G"}, cause},
		{"a guess goes last also when named first", diag(cause, a), diag(cause, guess, a), []string{"A", "G"}, cause},
		{"a symptom is no better cause", diag(cause, a), diag(cause, onPod), []string{"A", "P"}, cause},
		{"what depends on triage's cause stays behind it", diag(cause, b), diag(cause, a), []string{"B", "A"}, cause},
		{"refuted", diag(cause, a), func() incident.Diagnosis { d := diag(cause, b); d.RuledOut = []incident.Refutation{refuteA}; return d }(), []string{"B"}, cause},
		{"refuted and nothing else", diag(cause, a), incident.Diagnosis{Outcome: incident.Inconclusive, RuledOut: []incident.Refutation{refuteA}}, nil, incident.Inconclusive},
		{"named and refuted", diag(cause, a), func() incident.Diagnosis { d := diag(cause, a); d.RuledOut = []incident.Refutation{refuteA}; return d }(), nil, cause},
		{"triage knew nothing", diag(incident.Inconclusive), diag(cause, guess), []string{"G"}, cause},
		{"both without a cause", diag(incident.Healthy), diag(incident.Inconclusive), nil, incident.Healthy},
		{"healthy where triage knew nothing", diag(incident.Inconclusive), diag(incident.Healthy), nil, incident.Healthy},
		{"recovered with a past cause", diag(incident.Inconclusive), diag(incident.Recovered, guess), []string{"G"}, incident.Recovered},
	} {
		got := merge(tc.triage, tc.model, g)
		var names []string
		for _, c := range got.Causes {
			names = append(names, c.Statement)
		}
		if !slices.Equal(names, tc.want) || got.Outcome != tc.outcome {
			t.Errorf("%s: %v %s, want %v %s", tc.name, names, got.Outcome, tc.want, tc.outcome)
		}
		if len(names) > 0 && names[0] == "A" && got.Causes[0].Runbook != "book" {
			t.Errorf("%s: the cause lost its runbook", tc.name)
		}
	}
}

func TestMergeKeepsWhatTriageKnew(t *testing.T) {
	t.Parallel()
	triage, model := right(), right()
	triage.NotSeen = []incident.Gap{{Source: "prom", Why: "absent"}}
	triage.WouldFit = []incident.Claim{{Text: "H100 would fit"}}
	triage.Proposals = []incident.Proposal{{Action: "claim_template_patch"}}
	triage.RuledOut = []incident.Refutation{{What: "taints", Why: "none"}}
	model.RuledOut = []incident.Refutation{{What: "Taints", Why: "none"}, {What: "driver", Why: "up"}}
	model.Summary = "words"
	got := merge(triage, model, scene())
	if len(got.NotSeen) != 1 || len(got.WouldFit) != 1 || len(got.Proposals) != 1 || len(got.RuledOut) != 2 || len(got.Checked) != 1 || got.Summary != "words" {
		t.Errorf("%+v", got)
	}
}

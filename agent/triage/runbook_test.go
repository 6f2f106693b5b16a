package triage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// book1 speaks about a fault of the lab after one more look.
const book1 = `id: no-device
title: No device
matches: {findings: [lab.no_device], alerts: [KubePodNotReady], words: [gpu, pending]}
steps:
  - {id: more, tool: lab_more, with: {kind: "{{ subject.kind }}", namespace: "{{ subject.namespace }}", name: "{{ subject.name }}"}, when: subject.kind == 'ResourceClaim'}
  - {id: node, tool: lab_look, with: {kind: Node, name: n1}, when: "more.ran && more.data.problems.size() > 0"}
causes:
  - id: c
    finding: lab.no_device
    say: "Claim {{ finding.subject.name }} asks for what is not there"
    detail: ["{{ finding.message }}", "{{ more.data.problems.size() }} problems"]
    rivals: [node_down, taken]
    fix:
      - {action: claim_recreate, with: {namespace: "{{ finding.subject.namespace }}", claim: "{{ finding.subject.name }}"}, why: "specs are immutable"}
  - id: node_down
    title: node down
    finding: lab.not_ready
    unless: "{{ node.data.problems.size() }} problems on {{ node.data.name }}"
  - id: taken
    title: taken
    code: lab.taken
    when: more.data.problems.exists(p, p == 'lab.taken')
    say: taken
    unless: "not among {{ more.data.problems.size() }} problems"
`

func unmet(t *testing.T) *lab {
	return newLab(t).says("Pod a/x", "symptom", "pending", 0.6).edge("Pod a/x -needs-> ResourceClaim a/c").says("ResourceClaim a/c", "fault", "no_device", 0.9).exist("Node n1")
}

// A runbook's words, figures, rivals and proposals stand over the bare finding,
// and each cites the looks it read.
func TestRunbook(t *testing.T) {
	t.Parallel()
	l := unmet(t)
	a := l.assess(incident.Question{Text: "why is pod a/x pending"}, setup{books: []string{book1}})
	d := a.Diagnosis
	if len(d.Causes) != 1 || len(a.Hypotheses) != 1 {
		t.Fatalf("%s", answer(a))
	}
	want := incident.Cause{Subject: ref("ResourceClaim a/c"), Code: "lab.no_device", Statement: "Claim c asks for what is not there", Detail: []string{"ResourceClaim a/c: no device", "1 problems"},
		Confidence: 0.9, Evidence: []string{"E2", "E3"}, Runbook: "no-device", Explains: []incident.Ref{ref("Pod a/x")}}
	if diff := cmp.Diff(want, d.Causes[0]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]incident.Refutation{{Code: "lab.not_ready", What: "node down", Why: "0 problems on n1", Evidence: []string{"E4"}}, {Code: "lab.taken", What: "taken", Why: "not among 1 problems", Evidence: []string{"E3"}}}, d.RuledOut); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]incident.Proposal{{Action: "claim_recreate", Params: map[string]string{"namespace": "a", "claim": "c"}, Why: "specs are immutable", Evidence: []string{"E2", "E3"}, Cause: "lab.no_device", Runbook: "no-device"}}, d.Proposals); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"more ResourceClaim a/c"}, l.called("more")); diff != "" {
		t.Error(diff)
	}
}

// A step that fails is a gap. What reads it is unknown: no detail, no rival.
func TestRunbookStepFails(t *testing.T) {
	t.Parallel()
	for _, kind := range []tool.Kind{tool.Forbidden, tool.TimedOut, tool.Internal, tool.Unreachable} {
		l := unmet(t).fails("Node n1", kind, "may not see n1")
		a := l.assess(incident.Question{Text: "why is pod a/x pending"}, setup{books: []string{book1}})
		d := a.Diagnosis
		if len(d.Causes) != 1 || len(d.RuledOut) != 1 || d.RuledOut[0].What != "taken" {
			t.Errorf("%s: %s", kind, answer(a))
		}
		if !slices.ContainsFunc(d.NotSeen, func(g incident.Gap) bool { return g.Why == "may not see n1" }) {
			t.Errorf("%s: the gap is not told: %v", kind, d.NotSeen)
		}
	}
	// A tool that is not there, and arguments it does not take, are the runbook's
	// trouble and not the reader's.
	odd := strings.ReplaceAll(book1, "lab_look, with: {kind: Node, name: n1}", "nosuch_tool")
	a := unmet(t).assess(incident.Question{Text: "why is pod a/x pending"}, setup{books: []string{odd}})
	if len(a.Diagnosis.Causes) != 1 || len(a.Diagnosis.NotSeen) > 0 || len(a.Diagnosis.RuledOut) != 1 {
		t.Error(answer(a))
	}
}

func TestRunbookIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := unmet(t)
	l.lookTo = func(r incident.Ref) {
		if r.Kind == "Node" {
			cancel()
		}
	}
	_, _, err := l.try(incident.Question{Text: "why is pod a/x pending"}, setup{books: []string{book1}, ctx: ctx})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Runbooks match by finding, by alert and by words; one that only matches by
// words is about what was asked.
func TestRunbookMatches(t *testing.T) {
	t.Parallel()
	byWords := `id: words
title: W
matches: {words: [slow, training], alerts: [TrainingSlow]}
steps:
  - {id: more, tool: lab_more, with: {kind: "{{ subject.kind }}", namespace: "{{ subject.namespace }}", name: "{{ subject.name }}"}}
causes:
  - {id: c, code: lab.slow_disk, when: "more.data.kind == 'Pod' && more.data.needs.size() == 0", say: "{{ subject.name }} reads from a slow disk", confidence: 0.7}
`
	l := newLab(t).says("Pod a/x", "symptom", "late", 0.6)
	equal(t, "words", l.ask("why is the training of pod a/x so slow", setup{books: []string{byWords}}), lines("root_cause", "cause lab.slow_disk on Pod a/x 0.70"))
	equal(t, "one word", l.ask("why is pod a/x so slow", setup{books: []string{byWords}}), lines("inconclusive", "unexplained lab.late on Pod a/x"))
	q := incident.Question{Alert: &incident.Alert{Name: "TrainingSlow", Labels: labels("namespace=a pod=x")}}
	equal(t, "alert", answer(l.assess(q, setup{books: []string{byWords}})), lines("root_cause", "cause lab.slow_disk on Pod a/x 0.70"))
	equal(t, "alert in the text", l.ask("TrainingSlow fires for pod a/x", setup{books: []string{byWords}}), lines("root_cause", "cause lab.slow_disk on Pod a/x 0.70"))
	// What is over selects no runbook.
	old := newLab(t).says("ResourceClaim a/c", "history", "no_device", 0.9)
	equal(t, "history", old.ask("is claim a/c fine", setup{books: []string{book1}}), "recovered")
	if len(old.called("more")) > 0 {
		t.Error("a runbook ran for what is over")
	}
}

// What the steps say of one subject proves nothing of another: the runbook runs
// for each, and each cause cites its own looks.
func TestRunbookForSeveralSubjects(t *testing.T) {
	t.Parallel()
	book := `id: crash
title: Crash
matches: {findings: [lab.crash]}
steps:
  - {id: more, tool: lab_more, with: {kind: "{{ subject.kind }}", namespace: "{{ subject.namespace }}", name: "{{ subject.name }}"}}
causes:
  - {id: gpu, finding: lab.crash, code: lab.gpu_crash, when: "more.data.problems.exists(p, p == 'lab.xid')", say: "{{ subject.name }} lost its GPU", confidence: 0.9}
  - {id: other, finding: lab.crash, code: lab.own_crash, when: "!more.data.problems.exists(p, p == 'lab.xid')", say: "{{ subject.name }} crashes by itself", confidence: 0.8}
`
	l := newLab(t).exist("Namespace ns")
	for i := range 5 {
		p := fmt.Sprintf("Pod ns/p%d", i)
		l.says(p, "symptom", "down", 0.6).says(p, "fault", "crash", 0.75)
		if i%2 == 0 {
			l.says(p, "context", "xid", 0.3)
		}
	}
	a := l.assess(incident.Question{Text: "what is wrong in namespace ns"}, setup{books: []string{book}})
	var got []string
	for _, c := range a.Diagnosis.Causes {
		got = append(got, c.Subject.Name+" "+c.Code+": "+c.Statement)
	}
	slices.Sort(got)
	want := []string{
		"p0 lab.gpu_crash: p0 lost its GPU", "p1 lab.own_crash: p1 crashes by itself", "p2 lab.gpu_crash: p2 lost its GPU",
		// Beyond the bound the finding stands as it was found.
		"p3 lab.crash: Pod ns/p3: crash", "p4 lab.crash: Pod ns/p4: crash",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(l.called("more")); n != maxRuns {
		t.Errorf("%d runs", n)
	}
	for _, c := range a.Diagnosis.Causes {
		for _, o := range a.Diagnosis.Causes {
			if c.Subject != o.Subject && slices.Equal(c.Evidence, o.Evidence) && c.Runbook != "" {
				t.Errorf("%s and %s cite the same: %v", c.Subject, o.Subject, c.Evidence)
			}
		}
	}
}

// A runbook that gives the fault another code or blames something deeper stands
// for the fault: it is not named a second time.
func TestRunbookRenames(t *testing.T) {
	t.Parallel()
	book := `id: rename
title: R
matches: {findings: [lab.no_device]}
causes:
  - {id: c, finding: lab.no_device, code: lab.really, subject: "{'cluster': 'lab', 'kind': 'Node', 'name': 'n1'}", say: "n1 has no driver", confidence: 0.89}
`
	l := unmet(t).edge("ResourceClaim a/c -needs-> Node n1")
	got := l.ask("why is pod a/x pending", setup{books: []string{book}})
	equal(t, "answer", got, lines("root_cause", "cause lab.really on Node n1 0.89"))
	// Where nothing leads to what the runbook blames, nothing is accused of it.
	l = unmet(t)
	got = l.ask("why is pod a/x pending", setup{books: []string{book}})
	if strings.Contains(got, "cause") && strings.Contains(got, "n1") {
		t.Error(got)
	}
}

// Of two runbooks about one fault the better supported speaks, with the looks of
// both.
func TestRunbooksMerge(t *testing.T) {
	t.Parallel()
	second := strings.NewReplacer("id: no-device", "id: zz-better", "say: \"Claim", "confidence: 0.95\n    say: \"Surely claim", "claim_recreate", "advise", "alerts: [KubePodNotReady], words: [gpu, pending]", "").Replace(book1)
	second = strings.Replace(second, "findings: [lab.no_device], ", "findings: [lab.no_device]", 1)
	a := unmet(t).assess(incident.Question{Text: "why is pod a/x pending"}, setup{books: []string{book1, second}})
	d := a.Diagnosis
	if len(d.Causes) != 1 || d.Causes[0].Statement != "Surely claim c asks for what is not there" || d.Causes[0].Runbook != "zz-better" || len(d.Proposals) != 2 {
		t.Errorf("%s %+v", answer(a), d)
	}
}

// Skills take no place of runbooks that can name a cause, and the bound holds.
func TestRunbookLimit(t *testing.T) {
	t.Parallel()
	l := unmet(t)
	books := []string{}
	for i := range 4 {
		books = append(books, fmt.Sprintf("id: aa-note-%d\ntitle: N\nmatches: {findings: [lab.no_device]}", i))
	}
	got := l.assess(incident.Question{Text: "why is pod a/x pending"}, setup{books: append(books, book1), limits: Limits{Runbooks: 1}})
	if got.Diagnosis.Causes[0].Runbook != "no-device" {
		t.Errorf("%s by %q", answer(got), got.Diagnosis.Causes[0].Runbook)
	}
	l = unmet(t)
	second := strings.Replace(book1, "id: no-device", "id: b-second", 1)
	second = strings.Replace(second, "lab_more", "lab_survey", 1)
	l.assess(incident.Question{Text: "why is pod a/x pending"}, setup{books: []string{second, strings.Replace(book1, "id: no-device", "id: a-first", 1)}, limits: Limits{Runbooks: 1}})
	if len(l.called("survey")) > 0 || len(l.called("more")) != 1 {
		t.Errorf("the second ran too: %v", l.calls)
	}
}

// A change of what a controller owns is proposed at the controller.
func TestProposalAtTheController(t *testing.T) {
	t.Parallel()
	book := `id: fix
title: F
matches: {findings: [lab.oom]}
causes:
  - id: c
    finding: lab.oom
    fix:
      - {action: patch_resources, with: {kind: "{{ finding.subject.kind }}", namespace: "{{ finding.subject.namespace }}", name: "{{ finding.subject.name }}"}, why: more}
      - {action: delete_pod, with: {namespace: "{{ finding.subject.namespace }}", name: "{{ finding.subject.name }}"}, why: again}
`
	propose := func(l *lab) []incident.Proposal {
		return l.assess(incident.Question{Text: "why is pod a/x-1 down"}, setup{books: []string{book}}).Diagnosis.Proposals
	}
	l := newLab(t).says("Pod a/x-1", "fault", "oom", 0.95).edge("Pod a/x-1 -controlled-by-> ReplicaSet a/x-rs", "ReplicaSet a/x-rs -controlled-by-> Deployment a/x")
	// The second edge is the ReplicaSet's own; the pod's look tells both.
	l.at("Pod a/x-1").edges = append(l.at("Pod a/x-1").edges, l.at("ReplicaSet a/x-rs").edges...)
	ps := propose(l)
	if len(ps) != 2 || ps[0].Params["kind"] != "Deployment" || ps[0].Params["name"] != "x" || ps[1].Params["name"] != "x-1" {
		t.Errorf("%+v", ps)
	}
	ps = propose(newLab(t).says("Pod a/x-1", "fault", "oom", 0.95))
	if len(ps) != 2 || ps[0].Params["kind"] != "Pod" || ps[0].Params["name"] != "x-1" {
		t.Errorf("a pod of nobody: %+v", ps)
	}
	// Owners that go round in a circle end somewhere.
	l = newLab(t).says("Pod a/x-1", "fault", "oom", 0.95)
	l.at("Pod a/x-1").edges = []incident.Edge{{From: ref("Pod a/x-1"), Relation: "controlled-by", To: ref("Job a/j")}, {From: ref("Job a/j"), Relation: "controlled-by", To: ref("Pod a/x-1")}}
	if ps = propose(l); len(ps) != 2 {
		t.Errorf("%+v", ps)
	}
}

package triage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestRanking(t *testing.T) {
	t.Parallel()
	pending := func(l *lab) *lab { return l.says("Pod a/x", "symptom", "pending", 0.6) }
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	tests := []struct {
		name  string
		world func(*lab)
		ask   string
		want  []string
	}{
		{"the deepest of a chain wins, the others are its consequences", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> ResourceClaim a/c", "ResourceClaim a/c -class-> DeviceClass gpu", "DeviceClass gpu -offered-by-> Node n1").
				says("ResourceClaim a/c", "fault", "no_device", 0.9).says("DeviceClass gpu", "fault", "no_driver", 0.92).says("Node n1", "fault", "not_ready", 0.95)
		}, "", []string{"root_cause", "cause lab.not_ready on Node n1 0.95"}},
		{"a deeper fault that is far less sure explains nothing", func(l *lab) {
			pending(l).edge("Pod a/x -runs-on-> Node n1").says("Pod a/x", "fault", "image_not_found", 0.95).says("Node n1", "fault", "odd_condition", 0.65)
		}, "", []string{"root_cause", "cause lab.image_not_found on Pod a/x 0.95"}},
		{"one that is about as sure does", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> ResourceClaim a/c").says("Pod a/x", "fault", "no_fit", 0.93).says("ResourceClaim a/c", "fault", "held", 0.89)
		}, "", []string{"root_cause", "cause lab.held on ResourceClaim a/c 0.89"}},
		{"the victim of a peer is explained by it although one job owns both", func(l *lab) {
			l.says("Job a/j", "symptom", "failed", 0.6).edge("Job a/j -owns-> Pod a/x", "Job a/j -owns-> Pod a/y", "Pod a/x -controlled-by-> Job a/j", "Pod a/y -controlled-by-> Job a/j", "Pod a/x -grouped-with-> Pod a/y").
				says("Pod a/x", "fault", "exit", 0.9).says("Pod a/y", "fault", "exit", 0.9)
		}, "why did job a/j fail", []string{"root_cause", "cause lab.exit on Pod a/y 0.90"}},
		{"two that are each other's victims are both named", func(l *lab) {
			l.says("Job a/j", "symptom", "failed", 0.6).edge("Job a/j -owns-> Pod a/x", "Job a/j -owns-> Pod a/y", "Pod a/x -grouped-with-> Pod a/y", "Pod a/y -grouped-with-> Pod a/x").
				says("Pod a/x", "fault", "exit", 0.9).says("Pod a/y", "fault", "exit", 0.9)
		}, "why did job a/j fail", []string{"root_cause", "cause lab.exit on Pod a/x 0.90", "cause lab.exit on Pod a/y 0.90"}},
		{"a severer one explains a milder one that is surer", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> ResourceClaim a/c").says("Pod a/x", "fault", "waiting", 0.89).says("ResourceClaim a/c", "fault", "gone", 0.9)
		}, "", []string{"root_cause", "cause lab.gone on ResourceClaim a/c 0.90"}},
		{"on one thing the severer explains the milder", func(l *lab) {
			pending(l).says("Pod a/x", "fault", "crash_loop", 0.6).says("Pod a/x", "fault", "oom_killed", 0.95)
		}, "", []string{"root_cause", "cause lab.oom_killed on Pod a/x 0.95"}},
		{"two that are equally sure of one symptom are both named", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> ResourceClaim a/c", "Pod a/x -needs-> ResourceClaim a/d").says("ResourceClaim a/c", "fault", "one", 0.95).says("ResourceClaim a/d", "fault", "two", 0.94)
		}, "", []string{"root_cause", "cause lab.one on ResourceClaim a/c 0.95", "cause lab.two on ResourceClaim a/d 0.94"}},
		{"of two that are not, the surer is", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> ResourceClaim a/c", "Pod a/x -needs-> ResourceClaim a/d").says("ResourceClaim a/c", "fault", "one", 0.95).says("ResourceClaim a/d", "fault", "two", 0.8)
		}, "", []string{"root_cause", "cause lab.one on ResourceClaim a/c 0.95"}},
		{"two causes of two symptoms are both named", func(l *lab) {
			pending(l).says("Pod a/y", "symptom", "down", 0.6).edge("Pod a/x -needs-> ResourceClaim a/c", "Pod a/y -needs-> Secret a/s").says("ResourceClaim a/c", "fault", "one", 0.95).says("Secret a/s", "fault", "two", 0.7)
		}, "why are pods a/x and a/y down", []string{"root_cause", "cause lab.one on ResourceClaim a/c 0.95", "cause lab.two on Secret a/s 0.70"}},
		{"one cause of two symptoms is named once", func(l *lab) {
			pending(l).says("Pod a/y", "symptom", "down", 0.6).edge("Pod a/x -needs-> Node n1", "Pod a/y -needs-> Node n1").says("Node n1", "fault", "not_ready", 0.95)
		}, "why are pods a/x and a/y down", []string{"root_cause", "cause lab.not_ready on Node n1 0.95"}},
		{"a symptom that no cause explains is said", func(l *lab) {
			pending(l).says("Pod a/y", "symptom", "down", 0.6).edge("Pod a/x -needs-> ResourceClaim a/c").says("ResourceClaim a/c", "fault", "one", 0.95)
		}, "why are pods a/x and a/y down", []string{"root_cause", "cause lab.one on ResourceClaim a/c 0.95", "unexplained lab.down on Pod a/y"}},
		{"a fault that no way leads to is never accused", func(l *lab) {
			pending(l).says("Pod a/x", "context", "note", 0.3)
			l.at("Pod a/x").findings = append(l.at("Pod a/x").findings, incident.Finding{Code: "lab.elsewhere", Role: incident.Fault, Severity: incident.Critical, Confidence: 0.99, Subject: ref("Node far"), Message: "Node far: on fire"})
			l.exist("Node far")
		}, "", []string{"inconclusive", "unexplained lab.pending on Pod a/x"}},
		{"nor is its symptom held against what was asked about", func(l *lab) {
			l.exist("Pod a/x", "Node far")
			l.at("Pod a/x").findings = append(l.at("Pod a/x").findings, incident.Finding{Code: "lab.elsewhere", Role: incident.Symptom, Severity: incident.Critical, Subject: ref("Node far"), Message: "Node far: slow"})
		}, "", []string{"healthy"}},
		{"what depends on the sick pod does not explain it", func(l *lab) {
			pending(l).edge("Service a/web -needs-> Pod a/x").says("Service a/web", "fault", "wrong_port", 0.95)
		}, "", []string{"inconclusive", "unexplained lab.pending on Pod a/x"}},
		{"a weak fault is no root cause of a symptom", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> ResourceClaim a/c").says("ResourceClaim a/c", "fault", "perhaps", 0.45)
		}, "", []string{"inconclusive", "unexplained lab.pending on Pod a/x"}},
		{"a weak fault on what was asked about is an answer", func(l *lab) { l.says("Pod a/x", "fault", "perhaps", 0.45) }, "",
			[]string{"root_cause", "cause lab.perhaps on Pod a/x 0.45"}},
		{"what explains a fault on the subject, also a mild one", func(l *lab) {
			l.edge("Pod a/x -needs-> Pod a/y").says("Pod a/x", "fault", "odd", 0.2).says("Pod a/y", "fault", "broken", 0.6)
		}, "", []string{"root_cause", "cause lab.broken on Pod a/y 0.60"}},
		{"a fault without a symptom, on the subject", func(l *lab) { l.says("Pod a/x", "fault", "gated", 0.6) }, "", []string{"root_cause", "cause lab.gated on Pod a/x 0.60"}},
		{"a critical one right beneath it", func(l *lab) { l.edge("Pod a/x -runs-on-> Node n1").says("Node n1", "fault", "not_ready", 0.95) }, "",
			[]string{"root_cause", "cause lab.not_ready on Node n1 0.95"}},
		{"a mild one right beneath it stops nothing", func(l *lab) { l.edge("Pod a/x -runs-on-> Node n1").says("Node n1", "fault", "odd", 0.7) }, "", []string{"healthy"}},
		{"what began long after the symptom did not cause it", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> Node n1").says("Pod a/x", "fault", "crash", 0.9).from("Pod a/x", at).says("Node n1", "fault", "not_ready", 0.95).from("Node n1", at.Add(3*time.Hour))
		}, "", []string{"root_cause", "cause lab.crash on Pod a/x 0.90"}},
		{"what began with it may have", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> Node n1").says("Pod a/x", "fault", "crash", 0.9).from("Pod a/x", at).says("Node n1", "fault", "not_ready", 0.95).from("Node n1", at.Add(30*time.Minute))
		}, "", []string{"root_cause", "cause lab.not_ready on Node n1 0.95"}},
		{"two that depend on each other are both kept", func(l *lab) {
			pending(l).edge("Pod a/x -needs-> Service a/w", "Service a/w -needs-> Service a/d", "Service a/d -needs-> Service a/w").says("Service a/w", "fault", "one", 0.95).says("Service a/d", "fault", "two", 0.95)
		}, "", []string{"root_cause", "cause lab.two on Service a/d 0.95", "cause lab.one on Service a/w 0.95"}},
		{"over with a past: recovered", func(l *lab) { l.says("Pod a/x", "history", "restarted", 0.6) }, "", []string{"recovered"}},
		{"a past of little weight is no story", func(l *lab) { l.says("Pod a/x", "history", "restarted", 0.3) }, "", []string{"healthy"}},
		{"a past elsewhere is not this one's", func(l *lab) {
			l.exist("Pod a/x", "Pod a/y")
			l.at("Pod a/x").findings = append(l.at("Pod a/x").findings, incident.Finding{Code: "lab.was", Role: incident.History, Severity: incident.Warning, Subject: ref("Pod a/y"), Message: "Pod a/y: was down"})
		}, "", []string{"healthy"}},
		{"trouble now outweighs the past", func(l *lab) { pending(l).says("Pod a/x", "history", "restarted", 0.6) }, "", []string{"inconclusive", "unexplained lab.pending on Pod a/x"}},
		{"what would fit is said, a sure number stays below one", func(l *lab) { pending(l).says("Pod a/x", "fault", "no_fit", 1) }, "", []string{"root_cause", "cause lab.no_fit on Pod a/x 0.99"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			tc.world(l)
			equal(t, tc.name, l.ask(first(tc.ask, "why is pod a/x pending")), lines(tc.want...))
		})
	}
}

// At most five causes are named, the surest; the rest are hypotheses.
func TestCausesAreFew(t *testing.T) {
	t.Parallel()
	l := newLab(t).exist("Namespace ns")
	for i := range 9 {
		l.says(fmt.Sprintf("Pod ns/p%d", i), "fault", "broken", 0.7+float64(i)/100)
	}
	a := l.assess(incident.Question{Text: "what is wrong in namespace ns"}, setup{})
	var got []string
	for _, c := range a.Diagnosis.Causes {
		got = append(got, c.Subject.Name)
	}
	if diff := cmp.Diff([]string{"p8", "p7", "p6", "p5", "p4"}, got); diff != "" {
		t.Error(diff)
	}
	if len(a.Hypotheses) != 9 {
		t.Errorf("%d hypotheses", len(a.Hypotheses))
	}
}

// A consequence is told under its cause, with the evidence of the cause.
func TestHypotheses(t *testing.T) {
	t.Parallel()
	l := newLab(t).says("Pod a/x", "symptom", "pending", 0.6).edge("Pod a/x -needs-> Node n1").says("Pod a/x", "fault", "crash", 0.8).says("Node n1", "fault", "not_ready", 0.95)
	a := l.assess(incident.Question{Text: "why is pod a/x pending"}, setup{})
	if len(a.Hypotheses) != 2 || a.Hypotheses[0].RuledBy != nil || len(a.Hypotheses[1].RuledBy) != 1 || a.Hypotheses[1].RuledBy[0].Why != "a consequence of: Node n1: not ready" ||
		!slices.Equal(a.Hypotheses[1].RuledBy[0].Evidence, a.Hypotheses[0].Cause.Evidence) {
		t.Errorf("%+v", a.Hypotheses)
	}
	c := a.Diagnosis.Causes[0]
	if !slices.Equal(c.Explains, []incident.Ref{ref("Pod a/x")}) || !slices.Equal(c.Evidence, []string{"E2"}) {
		t.Errorf("%+v", c)
	}
}

// The chain goes on from the claim to its class and to who offers it.
func TestChainTail(t *testing.T) {
	t.Parallel()
	l := newLab(t).says("Pod a/x", "symptom", "pending", 0.6).edge("Pod a/x -needs-> ResourceClaim a/c", "ResourceClaim a/c -class-> DeviceClass gpu", "DeviceClass gpu -offered-by-> Node n1").
		says("ResourceClaim a/c", "fault", "excluded", 0.95, "would_fit", "2 devices of another kind")
	a := l.assess(incident.Question{Text: "why is pod a/x pending"}, setup{})
	var got []string
	for _, e := range a.Diagnosis.Chain {
		got = append(got, e.From.Name+" "+e.Relation+" "+e.To.Name)
	}
	// What offers the class is known only where somebody looked at the class: it
	// is healthy, and its own look was the last.
	if diff := cmp.Diff([]string{"x needs c", "c class gpu", "gpu offered-by n1"}, got); diff != "" {
		t.Error(diff)
	}
	if w := a.Diagnosis.WouldFit; len(w) != 1 || w[0].Text != "2 devices of another kind" || len(w[0].Evidence) == 0 {
		t.Errorf("%+v", w)
	}
}

// worlds draws small worlds: loops, several faults a thing, faults that are not
// tied to anything, failing looks.
func draw(t *rapid.T, tb testing.TB) *lab {
	l := newLab(tb).exist("Namespace a")
	names := []string{"Pod a/p0", "Pod a/p1", "Service a/s0", "ResourceClaim a/c0", "DeviceClass d0", "Node n0", "Node n1", "Job a/j0"}
	l.exist(names...)
	name := rapid.SampledFrom(names)
	for range rapid.IntRange(0, 14).Draw(t, "edges") {
		l.edge(name.Draw(t, "from") + " -" + rapid.SampledFrom([]string{"needs", "runs-on", "class", "ignored"}).Draw(t, "relation") + "-> " + name.Draw(t, "to"))
	}
	for range rapid.IntRange(0, 10).Draw(t, "findings") {
		l.says(name.Draw(t, "on"), rapid.SampledFrom([]string{"symptom", "fault", "fault", "context", "history"}).Draw(t, "role"), rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(t, "code"),
			rapid.SampledFrom([]float64{0.2, 0.45, 0.6, 0.85, 0.95}).Draw(t, "confidence"))
	}
	if rapid.Bool().Draw(t, "blind") {
		l.fails(name.Draw(t, "fails"), "forbidden", "may not")
	}
	return l
}

// Whatever the world: the answer is the same every time; every cause is an
// abnormal thing that a way from the subject leads to; each symptom is explained
// or listed; nothing is called well that was not seen or is not; the validator
// refuses nothing.
func TestAnswersAreSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := draw(rt, t)
		q := incident.Question{Text: rapid.SampledFrom([]string{"why is pod a/p0 down", "what is wrong in namespace a?", "is node n0 and job a/j0 fine", "what is wrong with this cluster"}).Draw(rt, "question")}
		if q.Text == "what is wrong in namespace a?" {
			q = incident.Question{Text: "what is wrong", Namespace: "a"}
		}
		a := l.assess(q, setup{})
		if again := l.assess(q, setup{}); answer(again) != answer(a) || fmt.Sprint(again.Diagnosis.Chain) != fmt.Sprint(a.Diagnosis.Chain) {
			rt.Fatalf("the same world gives\n%s\nand\n%s", answer(a), answer(again))
		}
		reach := map[incident.Ref]bool{}
		queue := slices.Clone(a.Subjects)
		for len(queue) > 0 {
			n := queue[0]
			queue = queue[1:]
			if reach[n] {
				continue
			}
			reach[n] = true
			for _, e := range a.Edges {
				if e.From == n {
					queue = append(queue, e.To)
				}
			}
		}
		has := func(on incident.Ref, role incident.Role, code string) bool {
			return slices.ContainsFunc(a.Findings, func(f incident.Finding) bool {
				return f.Subject == on && f.Role == role && (code == "" || f.Code == code)
			})
		}
		d := a.Diagnosis
		explained := map[incident.Ref]bool{}
		for _, c := range d.Causes {
			if !reach[c.Subject] {
				rt.Fatalf("%s is accused and nothing leads to it\n%s", c.Subject, answer(a))
			}
			if !has(c.Subject, incident.Fault, c.Code) {
				rt.Fatalf("%s is accused of %s, which nobody found\n%s", c.Subject, c.Code, answer(a))
			}
			if len(c.Evidence) == 0 || c.Confidence <= 0 || c.Confidence > 0.99 {
				rt.Fatalf("%+v", c)
			}
			for _, e := range c.Explains {
				explained[e] = true
			}
		}
		for _, f := range a.Findings {
			if f.Role != incident.Symptom || !reach[f.Subject] {
				continue
			}
			listed := slices.ContainsFunc(d.Unexplained, func(u incident.Finding) bool { return u.Subject == f.Subject })
			if explained[f.Subject] == listed {
				rt.Fatalf("the symptom %s on %s is explained: %v, listed: %v\n%s", f.Code, f.Subject, explained[f.Subject], listed, answer(a))
			}
		}
		if (d.Outcome == incident.RootCause) != (len(d.Causes) > 0) {
			rt.Fatalf("%d causes\n%s", len(d.Causes), answer(a))
		}
		for _, r := range a.Subjects {
			if well := d.Outcome == incident.Healthy || d.Outcome == incident.Recovered; well && (has(r, incident.Symptom, "") || has(r, incident.Fault, "") || l.things[r] != nil && l.things[r].fail != nil) {
				rt.Fatalf("%s is %s\n%s", r, d.Outcome, answer(a))
			}
		}
	})
}

// Thousands of faults at once are ranked in the time it takes to look at pairs.
func TestManyFaults(t *testing.T) {
	t.Parallel()
	l := newLab(t).exist("Namespace ns")
	for i := range 1000 {
		p := fmt.Sprintf("Pod ns/p%d", i)
		l.says(p, "symptom", "pending", 0.6).says(p, "fault", "no_fit", 0.8).edge(fmt.Sprintf("%s -needs-> Node n%d", p, i%40))
	}
	a, _, err := l.try(incident.Question{Text: "what is wrong in namespace ns"}, setup{})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Diagnosis.Causes) != maxCauses || len(a.Hypotheses) != 1000 {
		t.Errorf("%d causes, %d hypotheses", len(a.Diagnosis.Causes), len(a.Hypotheses))
	}
	if !strings.Contains(answer(a), "more things: the walk ends after") {
		t.Error("it is not said that the walk ended")
	}
}

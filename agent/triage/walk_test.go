package triage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s\n--- got\n%s\n--- want\n%s", what, got, want)
	}
}

// A sick subject leads on, a healthy one ends the way, and what was asked about
// is followed also when it is healthy.
func TestWalkEndsAtHealth(t *testing.T) {
	t.Parallel()
	l := newLab(t).says("Pod a/x", "symptom", "pending", 0.6).
		edge("Pod a/x -needs-> ResourceClaim a/c", "ResourceClaim a/c -class-> DeviceClass gpu", "DeviceClass gpu -offered-by-> Node n1", "Pod a/x -needs-> Secret a/s", "Secret a/s -needs-> Node n2").
		says("ResourceClaim a/c", "fault", "no_device", 0.9)
	equal(t, "answer", l.ask("why is pod a/x pending"), lines("root_cause", "cause lab.no_device on ResourceClaim a/c 0.90"))
	// The healthy class and the healthy Secret were looked at, what lies behind
	// them was not.
	want := "look DeviceClass gpu; look Pod a/x; look ResourceClaim a/c; look Secret a/s"
	equal(t, "looks", strings.Join(l.called("look"), "; "), want)

	calm := newLab(t).edge("Pod a/x -needs-> ResourceClaim a/c", "ResourceClaim a/c -class-> DeviceClass gpu")
	equal(t, "healthy", calm.ask("is pod a/x fine"), "healthy")
	equal(t, "looks", strings.Join(calm.called("look"), "; "), "look Pod a/x; look ResourceClaim a/c")
}

// Context and history lead nowhere: they are no trouble now.
func TestWalkFollowsTroubleOnly(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"context", "history"} {
		l := newLab(t).edge("Pod a/x -needs-> ResourceClaim a/c", "ResourceClaim a/c -class-> DeviceClass gpu").says("ResourceClaim a/c", role, "old", 0.9).says("DeviceClass gpu", "fault", "bad", 0.9)
		l.ask("is pod a/x fine")
		if got := l.called("look"); len(got) != 2 {
			t.Errorf("%s leads on: %v", role, got)
		}
	}
	// An edge of a relation that the check does not follow leads nowhere either.
	l := newLab(t).says("Pod a/x", "symptom", "pending", 0.6).edge("Pod a/x -selects-> Pod a/y").says("Pod a/y", "fault", "bad", 0.95)
	equal(t, "answer", l.ask("why is pod a/x pending"), lines("inconclusive", "unexplained lab.pending on Pod a/x"))
}

// Every subject is looked at once, however the graph loops.
func TestWalkLoops(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	names := []string{"Pod a/p0", "Pod a/p1", "Pod a/p2", "Pod a/p3"}
	for _, from := range names {
		l.says(from, "symptom", "sick", 0.6)
		for _, to := range names {
			l.edge(from + " -needs-> " + to)
		}
	}
	got := l.ask("why is pod a/p0 sick")
	if !strings.HasPrefix(got, "inconclusive") || len(l.called("look")) != 4 {
		t.Errorf("%s\n%v", got, l.called("look"))
	}
}

// The limits hold, and what they leave out is said.
func TestWalkLimits(t *testing.T) {
	t.Parallel()
	chain := func() *lab {
		l := newLab(t)
		for i := range 30 {
			l.says(fmt.Sprintf("Pod a/p%d", i), "symptom", "sick", 0.6).edge(fmt.Sprintf("Pod a/p%d -needs-> Pod a/p%d", i, i+1))
		}
		return l.says("Pod a/p30", "fault", "broken", 0.95)
	}
	l := chain()
	got := l.ask("why is pod a/p0 sick", setup{limits: Limits{Depth: 3}})
	if len(l.called("look")) != 4 || !strings.Contains(got, "not seen 1 more things: the walk ends after 48 subjects and 3 edges") || !strings.HasPrefix(got, "inconclusive") {
		t.Errorf("depth: %d looks\n%s", len(l.called("look")), got)
	}
	l = chain()
	got = l.ask("why is pod a/p0 sick", setup{limits: Limits{Subjects: 5, Depth: 100}})
	if len(l.called("look")) != 5 || !strings.Contains(got, "the walk ends after 5 subjects and 100 edges") {
		t.Errorf("subjects: %d looks\n%s", len(l.called("look")), got)
	}
	l = chain()
	got = l.ask("why is pod a/p0 sick", setup{limits: Limits{Subjects: 100, Depth: 100}})
	if !strings.Contains(got, "cause lab.broken on Pod a/p30 0.95") || strings.Contains(got, "not seen") {
		t.Errorf("no limit: %s", got)
	}
	if d := DefaultLimits(); d.Depth != 8 || d.Subjects != 48 || d.Runbooks != 6 {
		t.Errorf("defaults %+v", d)
	}
}

// A survey enters what is in trouble, the worst first, and only that.
func TestSurvey(t *testing.T) {
	t.Parallel()
	l := newLab(t).exist("Namespace a", "Namespace b", "Pod a/fine").
		says("Pod a/mild", "symptom", "slow", 0.6).says("Pod a/bad", "symptom", "down", 0.9).edge("Pod a/bad -needs-> Node n1").says("Node n1", "fault", "not_ready", 0.95).
		says("Pod a/old", "history", "restarted", 0.6).says("Pod b/other", "fault", "broken", 0.95)
	equal(t, "namespace", l.ask("what is wrong in namespace a"), lines("root_cause", "cause lab.not_ready on Node n1 0.95", "unexplained lab.slow on Pod a/mild"))
	equal(t, "looks", strings.Join(l.called("look"), "; "), "look Node n1; look Pod a/bad; look Pod a/mild")
	equal(t, "cluster", l.ask("what is wrong with this cluster"), lines("root_cause", "cause lab.not_ready on Node n1 0.95", "cause lab.broken on Pod b/other 0.95", "unexplained lab.slow on Pod a/mild"))

	many := newLab(t).exist("Namespace a")
	for i := range 60 {
		many.says(fmt.Sprintf("Pod a/p%d", i), "symptom", "slow", 0.6)
	}
	many.says("Pod a/worst", "fault", "broken", 0.95)
	got := many.ask("what is wrong in namespace a", setup{limits: Limits{Subjects: 10}})
	if !strings.Contains(got, "cause lab.broken on Pod a/worst") || !strings.Contains(got, "not seen 52 more things") {
		t.Error(got)
	}
	if c := many.called("look"); len(c) != 9 || c[len(c)-1] != "look Pod a/worst" {
		t.Errorf("the worst was not among the first: %v", c)
	}
}

// A namespace is surveyed by whatever way it became the subject.
func TestSurveyByAnyWay(t *testing.T) {
	t.Parallel()
	world := func() *lab {
		return newLab(t).exist("Namespace a").says("Node n1", "fault", "broken", 0.95).says("Pod a/x", "fault", "bad", 0.9)
	}
	want := lines("root_cause", "cause lab.bad on Pod a/x 0.90")
	for name, q := range map[string]incident.Question{
		"said": {Text: "what is wrong in namespace a?"}, "slashed": {Text: "ns/a is in trouble"}, "surface": {Text: "what is wrong?", Namespace: "a"},
		"place": {Text: "what is wrong in a?", Namespace: "a"}, "subject": {Text: "x", Subjects: []incident.Ref{ref("Namespace a")}},
		"alert": {Alert: &incident.Alert{Name: "X", Labels: map[string]string{"namespace": "a"}}},
	} {
		if got := answer(world().assess(q, setup{})); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The same world gives the same answer whatever order the looks end in, and what
// was checked is told in the order of the walk.
func TestChecked(t *testing.T) {
	t.Parallel()
	l := newLab(t).says("Pod a/x", "symptom", "pending", 0.6).says("Pod a/x", "context", "note", 0.3).edge("Pod a/x -needs-> ResourceClaim a/c").says("ResourceClaim a/c", "fault", "bad", 0.95)
	a := l.assess(incident.Question{Text: "why is pod a/x pending"}, setup{})
	var got []string
	for _, c := range a.Diagnosis.Checked {
		got = append(got, fmt.Sprintf("%s: %s %v", c.What, c.Result, c.Evidence))
	}
	if diff := cmp.Diff([]string{"thing a/x: 1 abnormal [E1]", "thing a/c: 1 abnormal [E2]"}, got); diff != "" {
		t.Error(diff)
	}
	chain := a.Diagnosis.Chain
	if len(chain) != 1 || chain[0].To != ref("ResourceClaim a/c") || len(chain[0].Evidence) != 1 {
		t.Errorf("%+v", chain)
	}
}

// A look that fails is a gap, never a finding, and what was not seen is not well.
func TestFailedLooks(t *testing.T) {
	t.Parallel()
	for _, kind := range []tool.Kind{tool.Forbidden, tool.TimedOut, tool.Internal, tool.NotFound} {
		l := newLab(t).fails("Pod a/x", kind, "no luck")
		equal(t, string(kind), l.ask("is pod a/x fine"), lines("inconclusive", "not seen thing a/x: no luck"))
	}
	// Something deeper that could not be seen is said; what was seen stands.
	l := newLab(t).says("Pod a/x", "symptom", "pending", 0.6).edge("Pod a/x -needs-> ResourceClaim a/c", "Pod a/x -runs-on-> Node n1").says("ResourceClaim a/c", "fault", "bad", 0.95).fails("Node n1", tool.Forbidden, "may not get nodes")
	equal(t, "deeper", l.ask("why is pod a/x pending"), lines("root_cause", "cause lab.bad on ResourceClaim a/c 0.95", "not seen thing n1: may not get nodes"))
	l = newLab(t).edge("Pod a/x -runs-on-> Node n1").fails("Node n1", tool.Forbidden, "may not get nodes")
	equal(t, "a healthy pod on a node nobody may see", l.ask("is pod a/x fine"), lines("healthy", "not seen thing n1: may not get nodes"))
	// Of two subjects one was seen: that is not enough for both to be well.
	l = newLab(t).exist("Pod a/y").fails("Pod a/x", tool.Forbidden, "may not get pods")
	equal(t, "one of two", l.ask("are pods a/x and a/y fine"), lines("inconclusive", "not seen thing a/x: may not get pods"))
}

func TestNoCheckForTheKind(t *testing.T) {
	t.Parallel()
	l := newLab(t).exist("ConfigMap a/x")
	l.blind = []string{"ConfigMap"}
	equal(t, "answer", l.ask("is configmap a/x fine"), lines("inconclusive", "not seen ConfigMap a/x: no check judges a ConfigMap"))
}

// A source that does not answer ends the run; one that stops answering does not
// take away what was seen.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, _, err := newLab(t).fails("Pod a/x", tool.Unreachable, "no route to host").try(incident.Question{Text: "why is pod a/x down"}, setup{})
	if tool.KindOf(err) != tool.Unreachable || tool.UserText(err) != "no route to host" {
		t.Errorf("%v", err)
	}
	l := newLab(t).exist("Pod a/x")
	l.lookup = &tool.Error{Kind: tool.Unreachable, User: "no route to host"}
	if _, _, err := l.try(incident.Question{Text: "why is pod a/x down"}, setup{}); tool.KindOf(err) != tool.Unreachable {
		t.Errorf("%v", err)
	}
	l = newLab(t).says("Pod a/x", "symptom", "down", 0.6).edge("Pod a/x -needs-> Node n1").fails("Node n1", tool.Unreachable, "no route to host")
	equal(t, "later", l.ask("why is pod a/x down"), lines("inconclusive", "unexplained lab.down on Pod a/x", "not seen thing n1: no route to host"))
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"Pod a/x", "Node n1"} {
		ctx, cancel := context.WithCancel(t.Context())
		l := newLab(t).says("Pod a/x", "symptom", "down", 0.6).edge("Pod a/x -needs-> Node n1").says("Node n1", "fault", "bad", 0.95)
		l.lookTo = func(r incident.Ref) {
			if r == ref(at) {
				cancel()
			}
		}
		a, _, err := l.try(incident.Question{Text: "why is pod a/x down"}, setup{ctx: ctx})
		if !errors.Is(err, context.Canceled) || len(a.Diagnosis.Causes) > 0 {
			t.Errorf("cancelled at %s: %v %s", at, err, answer(a))
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := newLab(t).exist("Pod a/x").try(incident.Question{Text: "why is pod a/x down"}, setup{ctx: ctx}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before it began: %v", err)
	}
}

// Toolsets that are not ready are not asked; several extend the walk together.
func TestToolsets(t *testing.T) {
	t.Parallel()
	l := newLab(t).says("Pod a/x", "symptom", "down", 0.6)
	more := newLab(t)
	more.name, more.noResolver = "gpu", true
	more.edge("Pod a/x -needs-> Device d").says("Device d", "fault", "bad", 0.95)
	q := incident.Question{Text: "why is pod a/x down"}
	got := answer(l.assess(q, setup{more: []tool.Toolset{more.toolset()}}))
	if !strings.Contains(got, "cause lab.bad on Device d") {
		t.Error(got)
	}
	more.status = tool.Status{State: tool.Denied, Reason: "no"}
	more.calls = nil
	got = answer(l.assess(q, setup{more: []tool.Toolset{more.toolset()}}))
	equal(t, "one is denied", got, lines("inconclusive", "unexplained lab.down on Pod a/x"))
	if len(more.calls) > 0 {
		t.Errorf("a denied toolset was called: %v", more.calls)
	}
}

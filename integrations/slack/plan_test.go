package slack_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

// planned goes to the card of a plan.
func (l *lab) planned() (ts string, card slacktest.Message) {
	l.t.Helper()
	ts = l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	l.slack.Click(ann, l.message(ops, ts, "*Cause*"), "Make a plan")
	return ts, l.message(ops, ts, "waits for approval")
}

func (l *lab) window(user string) slacktest.View {
	l.t.Helper()
	n := len(l.slack.Views(user))
	var v slacktest.View
	l.until("a window", func() bool {
		vs := l.slack.Views(user)
		if len(vs) > 0 {
			v = vs[len(vs)-1]
		}
		return len(vs) > 0 && len(vs) >= n
	})
	return v
}

func TestTwoPeopleHaveToApprove(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.svc.needed, l.svc.risk = 2, incident.RiskHigh })
	l.start(nil)
	ts, card := l.planned()
	if !card.Buttons()[0].Confirm {
		t.Error("a plan of high risk is approved without a second look")
	}
	l.slack.Click(ann, card, "Approve")
	one := l.message(ops, ts, "1 of 2 approvals")
	if !strings.Contains(one.All(), "approved by ann@example.com (slack)") || len(one.Buttons()) != 3 {
		t.Errorf("after one approval the card says:\n%s", one.All())
	}
	l.slack.Click(ann, one, "Approve")
	l.told(ann, "You have said yes to plan plan-1 already")
	l.slack.Click(bob, one, "Approve")
	l.message(ops, ts, "2 of 2 approvals")
	l.message(ops, ts, "done and verified")
	if n := l.svc.approvals("plan-1"); n != 2 {
		t.Errorf("%d approvals were counted, not 2", n)
	}
}

// TestTwoApproversAtOnce: both words are taken once, whoever comes first.
func TestTwoApproversAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	l.start(nil)
	ts, card := l.planned()
	var wg sync.WaitGroup
	for _, u := range []string{ann, bob} {
		wg.Go(func() { l.slack.Click(u, card, "Approve") })
	}
	wg.Wait()
	l.message(ops, ts, "done and verified")
	l.until("the other is told", func() bool { return len(l.slack.Ephemerals(ann))+len(l.slack.Ephemerals(bob)) == 1 })
	if n := l.svc.approvals("plan-1"); n != 1 {
		t.Errorf("%d approvals were counted, not 1", n)
	}
}

func TestRejectWithAReason(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	ts, card := l.planned()
	l.slack.Click(carl, card, "Reject")
	l.told(carl, "not mapped")
	l.slack.Click(bob, card, "Reject")
	l.slack.Submit(bob, l.window(bob), "  the freeze stands <!channel> ")
	l.until("the card is frozen", func() bool {
		m := l.message(ops, ts, "rejected by")
		return strings.Contains(m.All(), "the freeze stands &lt;!channel&gt;") && len(m.Buttons()) == 0
	})
	for _, label := range []string{"Approve", "Reject"} {
		l.slack.Click(ann, card, label)
		l.until("ann is told", func() bool { return strings.Contains(l.sentences(ann), "is rejected") })
	}
	if n := l.svc.approvals("plan-1"); n != 0 {
		t.Errorf("%d approvals were counted", n)
	}
}

func (l *lab) sentences(user string) string {
	var out []string
	for _, e := range l.slack.Ephemerals(user) {
		out = append(out, e.Text)
	}
	return strings.Join(out, "\n")
}

func TestAskAboutAPlan(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	ts, card := l.planned()
	l.slack.Click(carl, card, "Ask")
	l.slack.Submit(carl, l.window(carl), "what does it stop?")
	m := l.message(ops, ts, "what does it stop?")
	l.until("an answer", func() bool { return l.count(ops, ts, "*Cause*") == 2 })
	if !strings.Contains(m.All(), "asked") {
		t.Errorf("the thread does not say who asked: %s", m.All())
	}
}

// TestDecidedElsewhere: a word on any surface freezes the card.
func TestDecidedElsewhere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	ts, card := l.planned()
	if _, err := l.svc.Say(t.Context(), "plan-1", incident.Approved, "", incident.Person{Name: "dora@example.com", Groups: []string{"sre"}, Surface: "web"}); err != nil {
		t.Fatal(err)
	}
	l.until("the card is frozen", func() bool {
		m := l.message(ops, ts, "approved by dora@example.com (web)")
		return len(m.Buttons()) == 0
	})
	l.slack.Click(ann, card, "Approve")
	l.told(ann, "nobody's word changes it any more")
}

func TestWhoMayNotByTheirOwnRights(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.cfg.Users[0].Groups = nil })
	l.start(nil)
	_, card := l.planned()
	l.slack.Click(ann, card, "Approve")
	l.told(ann, "by their own rights")
	forged := card.Buttons()[0]
	forged.Value = "plan-1:0000000000000000"
	l.slack.Press(bob, card, forged)
	l.told(bob, "not the one that was shown")
	forged.Value = "plan-9:0000000000000000"
	l.slack.Press(bob, card, forged)
	l.told(bob, "is not there")
	forged.Value = "nonsense"
	l.slack.Press(bob, card, forged)
	l.told(bob, "does not say which plan")
	if n := l.svc.approvals("plan-1"); n != 0 {
		t.Errorf("%d approvals were counted", n)
	}
}

func TestAPlanExpires(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.svc.ttl = 6 * time.Second })
	l.start(nil)
	ts, card := l.planned()
	l.until("the card says so", func() bool {
		m := l.message(ops, ts, "expired")
		return len(m.Buttons()) == 0
	})
	l.slack.Click(ann, card, "Approve")
	l.told(ann, "is expired")
}

func TestALongDiffIsAFile(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.svc.diff = strings.Repeat("+ value: <&> `x`\n", 2000) })
	l.start(nil)
	ts, card := l.planned()
	if !strings.Contains(card.All(), "the whole diff is in the file below") {
		t.Error("the card does not say where the whole diff is")
	}
	l.until("the diff", func() bool { return l.count(ops, ts, "gumshoe-plan-1.diff") == 1 })
	l.slack.Click(ann, l.message(ops, ts, "*Cause*"), "Make a plan")
	l.told(ann, "Plan plan-1 of this answer is pending")
}

package slack_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

// turns gives the questions of a thread's session.
func (l *lab) turns(channel, thread string) []session.Turn {
	l.t.Helper()
	sess, _, err := l.svc.Linked(l.t.Context(), slackLink(channel, thread))
	if err != nil {
		l.t.Fatal(err)
	}
	return sess.Turns
}

// settled waits until everything that was sent is acknowledged and worked on: a
// mention that comes later is answered.
func (l *lab) settled() {
	l.t.Helper()
	l.until("everything is acknowledged", func() bool { return l.slack.Unacked() == 0 })
	ts := l.slack.Say(bob, ops, "", slacktest.Call+" the last question")
	l.message(ops, ts, "Cause")
}

func TestFollowUpsContinueTheSession(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	l.message(ops, ts, "*Cause*")
	l.slack.Say(bob, ops, ts, "and claim <http://train/llama-0-gpu|train/llama-0-gpu> &amp; its class?")
	l.until("a second answer", func() bool { return l.count(ops, ts, "*Cause*") == 2 })
	got := l.turns(ops, ts)
	if len(got) != 2 || got[1].Question.Text != "and claim train/llama-0-gpu & its class?" || got[1].By.Name != "slack:"+slacktest.Team+":"+bob || got[1].By.Surface != "slack" || got[1].By.Proof != "login" {
		t.Errorf("the follow-up is %+v", got)
	}
	if groups := strings.Join(got[1].By.Groups, ","); groups != "oncall,sre" {
		t.Errorf("bob is in %q", groups)
	}

	// People who talk to each other are not answered, in this thread or elsewhere.
	l.slack.Say(ann, ops, ts, "<@"+bob+"> do you know that one?")
	l.slack.Say(ann, ops, "", "good morning")
	other := l.slack.Say(ann, ops, "", "a thread of our own")
	l.slack.Say(bob, ops, other, "and an answer to it")
	l.slack.Say(eve, ops, ts, "what is this?")
	l.settled()
	if n := len(l.turns(ops, ts)); n != 2 {
		t.Errorf("%d questions were taken, not 2", n)
	}
	if n := len(l.slack.Own(ops, other)); n != 0 {
		t.Errorf("%d messages stand in a thread that is nobody's", n)
	}
	if got := l.slack.Ephemerals(eve); len(got) != 0 {
		t.Errorf("who was not talking to the bot is told %v", got)
	}
	for info, err := range l.svc.store.List(t.Context(), "slackin.>") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info.Subject, strings.ReplaceAll(other, ".", "_")) {
			t.Errorf("%s keeps what was said in a thread that is nobody's", info.Subject)
		}
	}
	// A mention in a thread of people opens a session there.
	l.slack.Say(bob, ops, other, slacktest.Call+" why is it slow?")
	l.message(ops, other, "*Cause*")
}

func TestOnlyMentionsContinueWhereConfigured(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.cfg.FollowUps = slack.FollowMentions })
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	l.message(ops, ts, "*Cause*")
	l.slack.Say(ann, ops, ts, "I look at the node")
	l.slack.Say(ann, ops, ts, slacktest.Call+" and the claim?")
	l.until("a second answer", func() bool { return l.count(ops, ts, "*Cause*") == 2 })
	l.settled()
	if n := len(l.turns(ops, ts)); n != 2 {
		t.Errorf("%d questions were taken, not 2", n)
	}
}

func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.cfg.Askers = slack.AskersMapped })
	l.slack.AddAnyone(slacktest.User{ID: "U0BOT", Name: "bot", TeamID: slacktest.Team, Bot: true})
	l.slack.AddAnyone(slacktest.User{ID: "U0GONE", Name: "gone", TeamID: slacktest.Team, Deleted: true})
	l.slack.AddAnyone(slacktest.User{ID: "U0ELSE", Name: "else", TeamID: "T0OTHER"})
	l.start(nil)
	for user, want := range map[string]string{
		carl: "mapped to an identity", eve: "other workspaces", guest: "Guests", "U0BOT": "Bots", "U0GONE": "deactivated", "U0ELSE": "other workspaces",
	} {
		ts := l.slack.Say(user, ops, "", slacktest.Call+" "+question)
		l.told(user, want)
		if n := len(l.turns(ops, ts)); n != 0 {
			t.Errorf("%s asked %d questions", user, n)
		}
	}
	ts := l.slack.Say(ann, ops, "", slacktest.Call)
	l.told(ann, "Say what is wrong")
	if n := len(l.slack.Own(ops, ts)); n != 0 {
		t.Errorf("an empty question has %d answers", n)
	}
}

func TestDirectMessagesAndCommands(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	ts := l.slack.Say(ann, "D0ANN", "", question)
	l.message("D0ANN", ts, "*Cause*")

	l.slack.Command(ann, ops, "why is node <#C0X|gpu-7> not ready?")
	root := ""
	l.until("a thread of the command", func() bool {
		for _, m := range l.slack.Channel(ops) {
			if m.BotID != "" {
				root = m.TS
			}
		}
		return root != ""
	})
	l.message(ops, root, "*Cause*")
	head := l.slack.Thread(ops, root)[0].All()
	if !strings.Contains(head, "ann@example.com") || !strings.Contains(head, "why is node #gpu-7 not ready?") {
		t.Errorf("the thread begins with %q", head)
	}
	l.slack.Command(ann, ops, "help")
	l.told(ann, "Say what is wrong")

	// A channel that takes no message: the member who asked gets the answer alone.
	l.slack.AddChannel("C0SHUT")
	l.slack.CloseChannel("C0SHUT", "not_in_channel")
	l.slack.Command(bob, "C0SHUT", "why is pod train/llama-1 pending?")
	alone := ""
	l.until("a direct message", func() bool {
		for _, m := range l.slack.Channel("D0BOB") {
			alone = m.TS
		}
		return alone != ""
	})
	l.message("D0BOB", alone, "*Cause*")
}

func TestEditsAndDeletions(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.svc.gate = make(chan struct{}) })
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" why is pod train/lama-0 pending?")
	l.message(ops, ts, "Investigating")
	l.slack.Edit(ops, ts, slacktest.Call+" "+question)
	l.message(ops, ts, "Taken back")
	l.until("it is asked anew", func() bool { return len(l.turns(ops, ts)) == 2 })
	if got := l.turns(ops, ts)[1].Question.Text; got != question {
		t.Errorf("%q was asked after the edit", got)
	}
	l.svc.gate <- struct{}{}
	l.message(ops, ts, "*Cause*")
	l.slack.Edit(ops, ts, slacktest.Call+" something else")
	l.told(ann, "before your edit")

	gone := l.slack.Say(ann, ops, ts, "and this?")
	l.until("it runs", func() bool { got := l.turns(ops, ts); return len(got) == 3 && got[2].State == session.Running })
	l.slack.Delete(ops, gone)
	l.until("it is taken back", func() bool { return l.turns(ops, ts)[2].State == session.Cancelled })
	l.slack.Say(ann, ops, ts, "one more")
	l.until("it runs", func() bool { got := l.turns(ops, ts); return len(got) == 4 && got[3].State == session.Running })
	l.slack.Say(ann, ops, ts, "Stop")
	l.until("it is stopped", func() bool { return l.turns(ops, ts)[3].State == session.Cancelled })
	l.until("the thread says so", func() bool { return l.count(ops, ts, "Taken back") == 3 })

	// An edit that calls the bot for the first time asks.
	late := l.slack.Say(bob, ops, "", "hm")
	l.slack.Edit(ops, late, slacktest.Call+" hm, why?")
	l.message(ops, late, "Investigating")
	l.svc.gate <- struct{}{}
	l.message(ops, late, "*Cause*")
}

func TestRepeatedAndMalformedEnvelopes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	for range 3 {
		l.slack.Again(ops, ts)
	}
	l.message(ops, ts, "*Cause*")
	for _, raw := range []string{"{", "nothing", `{"type":"odd"}`, `{"type":"events_api","envelope_id":"bad-1","payload":{"type":"event_callback","event":null}}`,
		`{"type":"interactive","envelope_id":"bad-2","payload":{"type":"block_actions","user":{"id":"U0ANN"},"actions":[]}}`,
		`{"type":"interactive","envelope_id":"bad-3","payload":[]}`, `{"type":"slash_commands","envelope_id":"bad-4","payload":{}}`} {
		l.slack.Raw(raw)
	}
	l.slack.Refresh()
	l.settled()
	if n := len(l.turns(ops, ts)); n != 1 {
		t.Errorf("%d questions were taken, not 1", n)
	}
	if n := l.count(ops, ts, "*Cause*"); n != 1 {
		t.Errorf("%d answers stand in the thread", n)
	}
}

// TestLongAnswers are cut to what a message takes, and the whole is a file.
func TestLongAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) {
		l.svc.report = func(j session.Job) incident.Report {
			r := pendingReport(j)
			r.Evidence[1].Text = strings.Repeat("H200 <!everyone> ```line``` & \n", 800)
			for i := range 20 {
				r.Diagnosis.Causes = append(r.Diagnosis.Causes, incident.Cause{Statement: fmt.Sprintf("cause %d <!here> %s", i, strings.Repeat("<&> *x* ", 600)), Detail: make([]string, 20), Evidence: []string{"E2"}, Confidence: 0.5})
				for k := range r.Diagnosis.Causes[i+1].Detail {
					r.Diagnosis.Causes[i+1].Detail[k] = strings.Repeat("detail & ", 50)
				}
				r.Diagnosis.NotSeen = append(r.Diagnosis.NotSeen, incident.Gap{Source: fmt.Sprint("source ", i), Why: "\xff\xfe not UTF-8"})
			}
			return r
		}
		l.cfg.PublicURL = "https://gumshoe.example.com"
	})
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	m := l.message(ops, ts, "Cause 1")
	l.until("the whole as a file", func() bool { return l.count(ops, ts, ".md") == 1 })
	var page string
	for _, b := range m.Buttons() {
		if b.URL != "" {
			page = b.URL
		}
	}
	if !strings.HasPrefix(page, "https://gumshoe.example.com/sessions/s-") {
		t.Errorf("the page is at %q", page)
	}
	l.slack.Click(bob, m, "Evidence E2")
	var v slacktest.View
	l.until("a window", func() bool { vs := l.slack.Views(bob); v = append(vs, v)[0]; return len(vs) > 0 })
	for _, want := range []string{"E2", "dra_explain", "Carries the claim", "H200"} {
		if !strings.Contains(v.Texts(), want) {
			t.Errorf("the window lacks %q:\n%.2000s", want, v.Texts())
		}
	}
	l.slack.PressIn(bob, v, "Post the whole as a file")
	l.until("the evidence as a file", func() bool { return l.count(ops, ts, "-E2.txt") == 1 })
	l.slack.PressIn(bob, v, "Post the whole as a file")
	l.settled()
	if n := l.count(ops, ts, "-E2.txt"); n != 1 {
		t.Errorf("the evidence was posted %d times", n)
	}
}

func TestEvidenceOfAnotherThreadIsNotShown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	one := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	m := l.message(ops, one, "*Cause*")
	two := l.slack.Say(bob, ops, "", slacktest.Call+" something else")
	other := l.message(ops, two, "*Cause*")
	for _, b := range m.Buttons() {
		if b.Label == "Evidence E2" {
			l.slack.Press(bob, other, b)
			l.told(bob, "does not show the investigation")
			b.Value = strings.Replace(b.Value, "E2", "E99", 1)
			l.slack.Press(ann, m, b)
			l.told(ann, "no evidence E99")
		}
	}
}

// TestTriggersExpire: Slack gives three seconds to open a window.
func TestTriggersExpire(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.slack.TriggerLife = -time.Second })
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	l.slack.Click(ann, l.message(ops, ts, "*Cause*"), "Evidence E2")
	l.told(ann, "Click again")
}

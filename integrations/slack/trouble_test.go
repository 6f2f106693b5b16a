package slack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/alertmanager"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

func alert(name, print string, labels map[string]string) incident.Alert {
	return incident.Alert{Name: name, Status: "firing", Labels: labels, Fingerprint: print, StartsAt: time.Now().Add(-time.Minute)}
}

// incident asks as the alert webhook does, and waits for the thread.
func (l *lab) incident(channel string, alerts ...incident.Alert) (session.Session, string) {
	l.t.Helper()
	sess, _, err := l.svc.Ask(l.t.Context(), session.Ask{Question: incident.Question{Alert: &alerts[0]}, Source: session.Alertmanager, Alerts: alerts, Key: alerts[0].Fingerprint})
	if err != nil {
		l.t.Fatal(err)
	}
	ts := ""
	l.until("a thread of the incident", func() bool {
		for _, m := range l.slack.Channel(channel) {
			if strings.Contains(m.All(), alerts[0].Name) {
				ts = m.TS
			}
		}
		return ts != ""
	})
	return sess, ts
}

// TestTheWebhookNamesTheChannel: the route of the alert's receiver goes before those
// of this surface.
func TestTheWebhookNamesTheChannel(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.slack.AddChannel("C0GPU") })
	l.start(nil)
	a := alert("GPUFellOff", "f1", nil)
	sess, _, err := l.svc.Ask(t.Context(), session.Ask{Question: incident.Question{Alert: &a}, Source: session.Alertmanager, Alerts: []incident.Alert{a}, Links: []session.Link{alertmanager.SlackChannel("C0GPU", "group/0")}})
	if err != nil {
		t.Fatal(err)
	}
	l.until("a thread of the incident", func() bool {
		for _, m := range l.slack.Channel("C0GPU") {
			if l.count("C0GPU", m.TS, "*Cause*") == 1 {
				got, held, err := l.svc.Linked(t.Context(), slackLink("C0GPU", m.TS))
				return err == nil && held && got.ID == sess.ID
			}
		}
		return false
	})
	if n := len(l.slack.Channel(ops)); n != 0 {
		t.Errorf("%d messages stand in the channel of the rest", n)
	}
}

func TestIncidentsOfAlerts(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) {
		l.cfg.Channels.Routes = []slack.Route{{Labels: map[string]string{"team": "ml"}, Channel: "C0ML"}}
		l.slack.AddChannel("C0ML")
	})
	l.start(nil)
	sess, ts := l.incident(ops, alert("GPUFellOff", "f1", map[string]string{"namespace": "train", "severity": "critical"}), alert("KubePodNotReady", "f2", nil))
	root := l.slack.Thread(ops, ts)[0]
	for _, want := range []string{"2 of 2 alerts fire", "namespace=train", "severity=critical", "KubePodNotReady"} {
		if !strings.Contains(root.All(), want) {
			t.Errorf("the incident lacks %q:\n%s", want, root.All())
		}
	}
	l.message(ops, ts, "*Cause*")
	l.slack.Say(ann, ops, ts, "which node?")
	l.until("a second answer", func() bool { return l.count(ops, ts, "*Cause*") == 2 })

	// A repeat says nothing new, an end is told, a new fire is told too.
	note := func(status string, resolved bool) {
		t.Helper()
		a, b := alert("GPUFellOff", "f1", nil), alert("KubePodNotReady", "f2", nil)
		a.Status, b.Status = status, status
		if _, err := l.svc.book.NoteAlerts(t.Context(), sess.ID, []incident.Alert{a, b}, &resolved); err != nil {
			t.Fatal(err)
		}
	}
	note("resolved", true)
	l.message(ops, ts, "None of its 2 alerts fires any more")
	l.until("the first message says so", func() bool { return strings.Contains(l.slack.Thread(ops, ts)[0].All(), "resolved") })
	note("firing", false)
	l.message(ops, ts, "It fires again")
	note("resolved", true)
	l.until("it is told again", func() bool { return l.count(ops, ts, "None of its 2 alerts") == 2 })
	if n := l.count(ops, ts, "fires again"); n != 1 {
		t.Errorf("it is told %d times that it fires again", n)
	}

	other, at := l.incident("C0ML", alert("JobFailed", "f3", map[string]string{"team": "ml"}))
	if _, err := l.svc.book.Merge(t.Context(), other.ID, sess.ID); err != nil {
		t.Fatal(err)
	}
	l.message("C0ML", at, "the same incident as another")
}

// TestAnOutage loses nothing: what was taken is posted when Slack is there again.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.svc.gate = make(chan struct{}, 1) })
	r := l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	l.message(ops, ts, "Investigating")
	l.slack.Down(true)
	l.svc.gate <- struct{}{}
	l.until("the answer is there", func() bool { return l.turns(ops, ts)[0].State == session.Answered })
	l.until("it is said", func() bool { return r.Health() != nil })
	l.slack.Down(false)
	l.message(ops, ts, "*Cause*")
	l.until("it is well again", func() bool { return r.Health() == nil })
	if n := l.count(ops, ts, "*Cause*"); n != 1 {
		t.Errorf("%d answers stand in the thread", n)
	}
}

// TestARevokedToken is a state that says what helps, and another token ends it.
func TestARevokedToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	l.message(ops, ts, "*Cause*")
	l.slack.SetTokens("xoxb-test-2", "xapp-test-2")
	l.slack.Say(ann, ops, ts, "and now?")
	l.until("it is said", func() bool {
		err := r.Health()
		return err != nil && strings.Contains(err.Error(), "refuses the bot token")
	})
	l.file("bot", "xoxb-test-2")
	l.file("app", "xapp-test-2")
	l.until("a second answer", func() bool { return l.count(ops, ts, "*Cause*") == 2 })
	l.until("it is well again", func() bool { return r.Health() == nil })
	l.settled()
}

func TestRateLimitsAreHonoured(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.slack.Limit("chat.postMessage", 1, 1)
	l.slack.Limit("users.info", 1, 1)
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	l.message(ops, ts, "*Cause*")
	if m := l.slack.Methods(); m["chat.postMessage"] > 3 || m["users.info"] > 4 {
		t.Errorf("the calls did not wait: %v", m)
	}
}

// TestADeletedMessageComesAgain: somebody deleted the bot's message.
func TestADeletedMessageComesAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.svc.gate = make(chan struct{}) })
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	m := l.message(ops, ts, "Leading so far")
	l.slack.Remove(ops, m.TS)
	l.svc.gate <- struct{}{}
	l.message(ops, ts, "*Cause*")
	if n := l.count(ops, ts, "*Cause*"); n != 1 {
		t.Errorf("%d answers stand in the thread", n)
	}
}

// TestARestartPostsNothing: what is shown is not shown again, and plans that waited
// are decided afterwards.
func TestARestartPostsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.start(nil)
	ts, card := l.planned()
	done := l.slack.Say(bob, ops, "", slacktest.Call+" something that ends")
	l.message(ops, done, "*Cause*")
	l.until("its picture", func() bool { return l.count(ops, done, "E3.png") == 1 })
	r.end()
	before, edits := len(l.slack.Own(ops, ts)), l.edits(ops, ts)+l.edits(ops, done)
	l.start(nil)
	l.slack.Click(bob, card, "Approve")
	l.message(ops, ts, "done and verified")
	l.message(ops, ts, "*Plan plan-1*")
	if n := len(l.slack.Own(ops, ts)); n != before+1 { // how it was executed
		t.Errorf("%d messages stand in the thread, there were %d", n, before)
	}
	if n := l.edits(ops, done) + l.edits(ops, ts); n > edits+6 {
		t.Errorf("%d edits, there were %d", n, edits)
	}
}

func (l *lab) edits(channel, thread string) int {
	n := 0
	for _, m := range l.slack.Own(channel, thread) {
		n += m.Edits
	}
	return n
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := slack.Config{BotTokenFile: "bot", AppTokenFile: "app"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if good.Mode != slack.ModeSocket || good.Askers != slack.AskersMapped || good.FollowUps != slack.FollowAll {
		t.Errorf("the defaults are %+v", good)
	}
	for want, change := range map[string]func(*slack.Config){
		"slack.mode":                       func(c *slack.Config) { c.Mode = "carrier" },
		"slack.botTokenFile":               func(c *slack.Config) { c.BotTokenFile = "" },
		"slack.appTokenFile":               func(c *slack.Config) { c.AppTokenFile = "" },
		"slack.signingSecretFile":          func(c *slack.Config) { c.Mode = slack.ModeHTTP },
		"slack.askers":                     func(c *slack.Config) { c.Askers = "all" },
		"slack.followUps":                  func(c *slack.Config) { c.FollowUps = "none" },
		"slack.publicURL":                  func(c *slack.Config) { c.PublicURL = "gumshoe" },
		"slack.apiURL":                     func(c *slack.Config) { c.APIURL = "ftp://x" },
		"slack.channels.default":           func(c *slack.Config) { c.Channels.Default = "#ops" },
		"slack.channels.routes[0].channel": func(c *slack.Config) { c.Channels.Routes = []slack.Route{{Channel: "ops"}} },
		"slack.channels.routes[0].labels":  func(c *slack.Config) { c.Channels.Routes = []slack.Route{{Channel: "C0OPS"}} },
		"slack.users[0].id":                func(c *slack.Config) { c.Users = []slack.User{{ID: "ann", Name: "ann"}} },
		"slack.users[0].name is empty":     func(c *slack.Config) { c.Users = []slack.User{{ID: ann}} },
		"slack.users[0].name is \"system:": func(c *slack.Config) { c.Users = []slack.User{{ID: ann, Name: "system:admin"}} },
		"slack.users[1].id":                func(c *slack.Config) { c.Users = []slack.User{{ID: ann, Name: "a"}, {ID: ann, Name: "b"}} },
		"slack.users[0].groups": func(c *slack.Config) {
			c.Users = []slack.User{{ID: ann, Name: "a", Groups: []string{"system:masters"}}}
		},
		"slack.userGroups[0].id":        func(c *slack.Config) { c.UserGroups = []slack.UserGroup{{ID: "sre"}} },
		"slack.userGroups[0].groups is": func(c *slack.Config) { c.UserGroups = []slack.UserGroup{{ID: "S0SRE"}} },
	} {
		c := slack.Config{BotTokenFile: "bot", AppTokenFile: "app"}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"none": "", "two": "a b", "bot": "xoxb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"none": "does not hold one token", "two": "does not hold one token", "gone": "cannot be read"} {
		_, err := slack.New(slack.Options{Config: slack.Config{BotTokenFile: filepath.Join(dir, file), AppTokenFile: filepath.Join(dir, "bot")}, Service: &service{}, Journal: newLab(t).svc.store})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

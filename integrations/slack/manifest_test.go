package slack_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

// needs are the scopes that Slack's pages name for a method (docs.slack.dev/reference/
// methods); any of them lets it through in the place where it applies.
func needs() map[string][]string {
	history := []string{"channels:history", "groups:history", "im:history"}
	return map[string][]string{
		"auth.test": nil, "apps.connections.open": nil, // the app-level token's own connections:write
		"chat.postMessage": {"chat:write", "chat:write.public"}, "chat.update": {"chat:write"}, "chat.postEphemeral": {"chat:write"},
		"views.open":                 nil,
		"files.getUploadURLExternal": {"files:write"}, "files.completeUploadExternal": {"files:write"},
		"users.info": {"users:read"}, "usergroups.users.list": {"usergroups:read"},
		"conversations.replies": history, "conversations.history": history,
	}
}

// TestManifestAsksForWhatIsUsed: the scopes are exactly those of the methods that a
// whole story calls, and of the events and the command.
func TestManifestAsksForWhatIsUsed(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.lease = time.Second })
	posted := 0
	first := l.start(func(p string) bool { // a crash has it look for its own messages
		if p == "posted" {
			posted++
		}
		return p != "posted" || posted < 2
	})
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	if _, _, err := l.svc.Ask(t.Context(), session.Ask{Question: incident.Question{Alert: &incident.Alert{Name: "GPUFellOff"}}, Source: session.Alertmanager, Alerts: []incident.Alert{alert("GPUFellOff", "f1", nil)}}); err != nil {
		t.Fatal(err)
	}
	<-first.killed
	<-first.done
	l.start(nil)
	m := l.message(ops, ts, "*Cause*")
	l.slack.Click(ann, m, "Evidence E2")
	l.slack.Click(guest, m, "Evidence E2")
	l.told(guest, "Guests")
	l.until("a picture", func() bool { return l.count(ops, ts, "E3.png") == 1 })
	l.until("a window", func() bool { return len(l.slack.Views(ann)) == 1 })
	// A root message that was cut off is looked for in its channel.
	l.slack.Command(bob, ops, "why is node gpu-7 not ready?")
	seen := l.slack.Methods()

	want := []string{"app_mentions:read", "commands"} // for an event and the command
	for method, n := range seen {
		scopes, known := needs()[method]
		if !known && n > 0 {
			t.Errorf("the method %s is called and stands in no manifest", method)
		}
		want = append(want, scopes...)
	}
	want = append(want, needs()["conversations.history"]...) // events message.channels, .groups, .im
	slices.Sort(want)
	want = slices.Compact(want)
	for _, base := range []string{"", "https://gumshoe.example.com/"} {
		raw, err := slack.Manifest(base)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			OAuth struct {
				Scopes struct {
					Bot  []string `json:"bot"`
					User []string `json:"user"`
				} `json:"scopes"`
			} `json:"oauth_config"`
			Settings struct {
				Socket bool `json:"socket_mode_enabled"`
				Events struct {
					URL string   `json:"request_url"`
					Bot []string `json:"bot_events"`
				} `json:"event_subscriptions"`
				Interactivity struct {
					Enabled bool   `json:"is_enabled"`
					URL     string `json:"request_url"`
				} `json:"interactivity"`
			} `json:"settings"`
		}
		if err := yaml.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.OAuth.Scopes.Bot, want) || len(got.OAuth.Scopes.User) > 0 {
			t.Errorf("the manifest asks for %v, %v are used", got.OAuth.Scopes.Bot, want)
		}
		if got.Settings.Socket != (base == "") || !got.Settings.Interactivity.Enabled {
			t.Errorf("the manifest is\n%s", raw)
		}
		if base != "" && (got.Settings.Events.URL != "https://gumshoe.example.com/slack/events" || got.Settings.Interactivity.URL != "https://gumshoe.example.com/slack/interactive" || !strings.Contains(string(raw), "https://gumshoe.example.com/slack/commands")) {
			t.Errorf("the addresses of the manifest are\n%s", raw)
		}
		for _, route := range []string{"/slack/events", "/slack/interactive", "/slack/commands"} {
			if strings.Contains(string(raw), route) != (base != "") {
				t.Errorf("the route %s in\n%s", route, raw)
			}
		}
	}
	if _, err := slack.Manifest("gumshoe"); err == nil {
		t.Error("an address that is none makes a manifest")
	}
}

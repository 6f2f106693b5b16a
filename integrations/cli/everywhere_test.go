package cli_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/cli"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

// The same pending plan is seen at the command line, in the terminal chat, on the web page
// and in Slack; approved at one, it is closed at all of them, and who comes late hears why.
func TestOnePendingApprovalEverywhere(t *testing.T) {
	t.Parallel()
	const channel, slackAnn, slackBob = "C0OPS", "U0ANN", "U0BOB"
	file := func(text string) string {
		f := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	sl := slacktest.New(t)
	sl.AddUser(slackAnn, "ann")
	sl.AddUser(slackBob, "bob")
	sl.AddChannel(channel)
	cfg := app.Defaults()
	cfg.Store.Dir = t.TempDir()
	cfg.Server.Listen, cfg.Server.Execute = "127.0.0.1:0", true
	tokens := map[string]string{}
	for _, name := range []string{"ann", "cal"} {
		tokens[name] = file(name + "-signs-in-to-gumshoe")
		cfg.Server.Auth.Tokens = append(cfg.Server.Auth.Tokens, access.TokenConfig{Name: name, Role: "approver", File: tokens[name]})
	}
	cfg.Server.Slack = &slack.Config{
		AppTokenFile: file(slacktest.AppToken), BotTokenFile: file(slacktest.BotToken), APIURL: sl.APIURL(),
		Channels: slack.Channels{Default: channel}, Users: []slack.User{{ID: slackAnn, Name: "ann"}, {ID: slackBob, Name: "bob"}},
	}
	s := apptest.Serve(t, app.ServerOptions{Load: func() (app.Config, error) { return cfg, cfg.Validate() }, App: app.StageCase("k8s-service-selector")})
	at := s.URL

	// until waits for something that another part of the server brings about.
	until := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			select {
			case <-t.Context().Done():
				t.Fatalf("%s never came", what)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	gumshoe := func(in string, args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := cli.Run(t.Context(), args, cli.Streams{In: strings.NewReader(in), Out: &out, Err: &errs, Getenv: func(name string) string {
			return map[string]string{"GUMSHOE_SERVER": at, "GUMSHOE_TOKEN_FILE": tokens["ann"], "GUMSHOE_STATE": "off"}[name]
		}, Width: 120})
		return code, out.String() + errs.String()
	}
	page := func(path string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer cal-signs-in-to-gumshoe")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s answers %d: %v", path, res.StatusCode, err)
		}
		return string(raw)
	}

	root := sl.Say(slackAnn, channel, "", slacktest.Call+" why does service shop/web have no endpoints?")
	var answer, card slacktest.Message
	find := func(says string, into *slacktest.Message) func() bool {
		return func() bool {
			for _, m := range sl.Own(channel, root) {
				if strings.Contains(m.All(), says) {
					*into = m
					return true
				}
			}
			return false
		}
	}
	until("the answer", find("*Cause*", &answer))
	sl.Click(slackAnn, answer, "Make a plan")
	until("the card of the plan", find("waits for approval", &card))
	c, err := client.New(client.Config{URL: at, TokenFile: tokens["cal"]})
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Plans(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d plans (%v)", len(all), err)
	}
	id := all[0].Plan.ID

	// It waits, and everybody sees it.
	if code, out := gumshoe("", "plan", "list"); code != 0 || !strings.Contains(out, id) || !strings.Contains(out, "pending") {
		t.Errorf("the command line: %d %s", code, out)
	}
	if _, out := gumshoe("/plans\n", "chat", "--attach", at, "--plain"); !strings.Contains(out, id) || !strings.Contains(out, "pending") {
		t.Errorf("the terminal: %s", out)
	}
	if out := page("/approvals"); !strings.Contains(out, id) {
		t.Errorf("the approvals page: %s", out)
	}

	// Approved on one surface, it is closed on all.
	if code, out := gumshoe("", "approve", id, "--comment", "seen"); code != 0 {
		t.Fatalf("approve: %d %s", code, out)
	}
	var closed slacktest.Message
	until("the end in Slack", find("done and verified", &closed))
	if code, out := gumshoe("", "plan", "show", id); code != 0 || !strings.Contains(out, "verified") {
		t.Errorf("the command line: %d %s", code, out)
	}
	if _, out := gumshoe("/plans\n", "chat", "--attach", at, "--plain"); !strings.Contains(out, "verified") || strings.Contains(out, "pending") {
		t.Errorf("the terminal: %s", out)
	}
	if out := page("/approvals"); strings.Contains(out, id) {
		t.Error("the approvals page still has it")
	}
	if out := page("/plans/" + id); !strings.Contains(out, "verified") {
		t.Error("the page of the plan does not say that it is verified")
	}

	// A second approval is refused with a sentence, wherever it is given.
	if code, out := gumshoe("", "approve", id); code == 0 || !strings.Contains(out, "verified") {
		t.Errorf("a second approval at the command line: %d %s", code, out)
	}
	if _, err := c.Say(t.Context(), id, incident.Approved, "", incident.Person{Surface: session.API}); err == nil || !strings.Contains(err.Error(), "verified") {
		t.Errorf("a second approval by the API: %v", err)
	}
	sl.Click(slackBob, card, "Approve")
	until("the sentence for who clicked late", func() bool {
		for _, e := range sl.Ephemerals(slackBob) {
			if strings.Contains(e.Text, "verified") {
				return true
			}
		}
		return false
	})
	begun := 0
	entries, err := s.Service().Trail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.What == "plan.begun" {
			begun++
		}
	}
	if begun != 1 {
		t.Errorf("the plan was begun %d times", begun)
	}
}

package tui_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/charmbracelet/colorprofile"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/tui"
	"github.com/gumshoe-ai/gumshoe/planner"
)

const why = "why does service web not answer"

// planned gives a chat in which a plan waits.
func planned(t *testing.T, cfg tui.Config) (*terminal, planner.Record) {
	t.Helper()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	cfg.Service, cfg.Namespace = s, "shop"
	v := open(t, 100, 40, cfg)
	v.wait("observe")
	v.say(why)
	v.answered()
	v.say("/plan")
	v.wait("1 plan waits")
	v.wait("tab: decide")
	all, err := s.Plans(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d plans (%v)", len(all), err)
	}
	return v, all[0]
}

// No burst of keys, no paste and no key in a mode that does not act approves a plan.
func TestStrayKeys(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 100, 40, tui.Config{Service: s, Namespace: "shop", Question: why})
	v.answered()
	v.say("/plan")
	v.wait("tab: decide")
	v.wait("1 plan waits")
	state := func() incident.PlanState {
		all, err := s.Plans(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%d plans (%v)", len(all), err)
		}
		return all[0].State
	}
	v.clock.Add(tui.Quiet)
	v.press("y")
	v.wait("› y") // the card does not have the keys
	v.press("\x15", tab)
	v.wait("n reject")
	v.clock.Add(tui.Quiet)
	v.press("y")
	v.wait("nothing is approved in mode observe")
	v.press(shiftTab, shiftTab)
	v.wait("y approve ·")
	v.press("y") // right after the keys before
	v.wait("too soon")
	v.press(tab)
	v.gone("y approve ·")
	v.press(tab)
	v.wait("y approve ·")
	v.gone("too soon")
	v.clock.Add(tui.Quiet / 2)
	v.press("y")
	v.wait("too soon")
	v.clock.Add(tui.Quiet)
	v.press("\x1b[200~y\x1b[201~") // a paste goes to the input
	v.wait("› y")
	v.gone("y approve ·")
	v.press("\x15")
	v.gone("› y")
	v.press(tab)
	v.wait("y approve ·")
	v.press("x") // a letter is meant for the input
	v.wait("› x")
	v.gone("y approve ·")
	v.press("\x15")
	v.gone("› x")
	if got := state(); got != incident.PlanPending {
		t.Errorf("the plan is %s", got)
	}
	v.press(tab)
	v.wait("y approve ·")
	v.clock.Add(tui.Quiet)
	v.press("y")
	v.wait("is verified")
	if got := state(); got != incident.PlanVerified {
		t.Errorf("the plan is %s", got)
	}
	v.press(ctrlC)
	v.end()
}

// A rejection asks for a reason, and the plan ends with it.
func TestReject(t *testing.T) {
	t.Parallel()
	v, rec := planned(t, tui.Config{})
	v.press(tab)
	v.wait("shift+tab to act")
	v.press("n")
	v.wait("why not?")
	v.press(enter)
	v.wait("a few words are needed")
	v.press("not during the release", enter)
	v.wait("is rejected")
	v.wait("ann: not during the release")
	v.gone("tab: decide")
	v.say("/approve " + rec.Plan.ID)
	v.wait("State       rejected")
	v.press(ctrlC)
	v.end()
}

// What another surface decides closes the card at once, and the second word is refused
// with a sentence.
func TestDecidedElsewhere(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 100, 40, tui.Config{Service: s, Namespace: "shop", Question: why})
	v.answered()
	v.say("/plan")
	v.wait("tab: decide")
	v.wait("1 plan waits")
	all, err := s.Plans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.press(tab)
	v.wait("n reject")
	bob := incident.Person{Name: "bob", Groups: []string{"sre"}, Surface: session.Slack}
	if _, err := s.Say(t.Context(), all[0].Plan.ID, incident.Rejected, "the node is replaced today", bob); err != nil {
		t.Fatal(err)
	}
	v.wait("bob: reject on slack: the node is replaced today")
	v.wait("is rejected")
	v.gone("n reject")
	v.gone("plan waits")
	v.say("/reject " + all[0].Plan.ID + " me too")
	v.wait("it is rejected, so nobody's word changes it any more")
	v.press(ctrlC)
	v.end()
}

// A session goes on in another terminal, with what was asked and answered before.
func TestResume(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 100, 40, tui.Config{Service: s, Namespace: "shop", Question: why})
	v.answered()
	v.say("and is it the selector?")
	v.until("has two answers", func(s string) bool {
		return strings.Count(s, "run-") >= 2 && strings.Contains(s, "› and is it the selector?")
	})
	v.press(ctrlC)
	v.end()
	w := open(t, 100, 40, tui.Config{Service: s, Resume: "latest"})
	got := w.answered()
	for _, want := range []string{"s-", "› " + why, "The selector of Service shop/web matches no pod", "› and is it the selector?"} {
		if !strings.Contains(got, want) {
			t.Errorf("the resumed screen is without %q:\n%s", want, got)
		}
	}
	w.say("/sessions")
	w.wait("conversations (1)")
	w.press("q")
	w.gone("conversations (1)")
	w.say("/resume s-0000000000000000")
	w.wait("s-0000000000000000") // and a sentence why not
	w.wait("! ")
	w.press(ctrlC)
	w.end()
}

// A conversation is exported whole, and never over a file that is there.
func TestExport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v, rec := planned(t, tui.Config{})
	for _, form := range []string{"markdown", "json"} {
		file := filepath.Join(dir, form)
		v.say("/export " + form + " " + file)
		v.wait("written to " + file)
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"The selector of Service shop/web matches no pod", rec.Plan.ID, "app: website"} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("%s is without %q:\n%s", form, want, raw)
			}
		}
		if form == "json" {
			var x struct {
				Reports []incident.Report
				Plans   []planner.Record
			}
			if err := json.Unmarshal(raw, &x); err != nil || len(x.Reports) != 1 || len(x.Plans) != 1 {
				t.Errorf("%d reports, %d plans (%v)", len(x.Reports), len(x.Plans), err)
			}
		}
	}
	v.say("/export json " + filepath.Join(dir, "json"))
	v.wait("is there already")
	v.press(ctrlC)
	v.end()
}

// A conversation's cluster is recorded into a bundle that can be investigated again;
// behind a server, a sentence says what to do.
func TestExportBundle(t *testing.T) {
	t.Parallel()
	svc := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 100, 30, tui.Config{Service: svc, Record: svc.Record, Namespace: "shop", Question: "why does service web not answer"})
	v.answered()
	file := filepath.Join(t.TempDir(), "shop.tar.zst")
	v.say("/export bundle " + file)
	v.wait("namespaces shop")
	cfg := app.Defaults()
	cfg.Store.Off, cfg.Bundle = true, file
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	r, err := a.Investigate(t.Context(), incident.Question{Text: "why does service shop/web not answer"}, nil)
	if err != nil || len(r.Diagnosis.Causes) != 1 || r.Diagnosis.Causes[0].Code != "kube.service_selector_mismatch" {
		t.Errorf("the bundle is diagnosed as %+v (%v)", r.Diagnosis, err)
	}
	v.say("/export bundle " + file)
	v.wait("exists already")
	v.press(ctrlC)
	v.end()
	w := open(t, 100, 30, tui.Config{Service: svc, Resume: "latest"})
	w.answered()
	w.say("/export bundle")
	w.wait("the server gives no bundle")
	w.press(ctrlC)
	w.end()
}

// Copying goes through the terminal (OSC 52).
func TestCopy(t *testing.T) {
	t.Parallel()
	v, _ := planned(t, tui.Config{})
	v.say("/copy answer")
	v.wait("answer copied")
	v.until("has copied", func(string) bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		_, s, ok := strings.Cut(v.raw.String(), "\x1b]52;c;")
		if !ok {
			return false
		}
		s = s[:max(strings.IndexAny(s, "\x07\x1b"), 0)]
		text, err := base64.StdEncoding.DecodeString(s)
		return err == nil && strings.Contains(string(text), "The selector of Service shop/web matches no pod")
	})
	v.say("/copy E99")
	v.wait("there is no E99 to copy")
	v.press(ctrlC)
	v.end()
}

// Keys of the input: history, its search, several lines, paste.
func TestInput(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	file := filepath.Join(t.TempDir(), "state", "history")
	cfg := tui.Config{Service: s, Namespace: "shop", History: file}
	v := open(t, 100, 30, cfg)
	v.wait("observe")
	v.say("/mode plan")
	v.wait("plan: an answer")
	v.say("/theme ansi")
	v.wait("theme ansi")
	v.press("draft")
	v.wait("› draft")
	v.press(up)
	v.wait("› /theme ansi")
	v.press(up)
	v.wait("› /mode plan")
	v.press(down, down)
	v.wait("› draft")
	v.press("\x15", ctrlR, "mode")
	v.wait("search: mode")
	v.wait("› /mode plan")
	v.press(escape)
	v.gone("search:")
	v.press("one\\", enter, "two")
	v.wait("› one\n  two")
	v.press("\x15", "\x7f", "\x15")
	v.gone("› one")
	v.press("\x1b[200~three\r\nfour\x1b]0;title\x07\x1b[31m\tfive\x1b[201~")
	v.wait("› three\n  four    five")
	v.press(ctrlC)
	v.wait("ctrl+c again leaves")
	v.press(ctrlC)
	v.end()
	w := open(t, 100, 30, cfg)
	w.wait("observe")
	w.press(up)
	w.wait("› /theme ansi")
	w.press(ctrlC, ctrlC)
	w.end()
}

// Objects of the cluster complete behind "@" and become the subjects of the question.
func TestObjects(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 100, 30, tui.Config{Service: s})
	v.wait("observe")
	v.press("what is wrong with @web")
	v.wait("@shop/web")
	v.press("@@@")
	v.wait("nothing is called like")
	v.press("\x7f\x7f\x7f")
	v.until("offers objects", func(s string) bool {
		return strings.Contains(s, "@shop/web") && !strings.Contains(s, "nothing is called")
	})
	v.press(tab)
	got := v.until("has inserted one", func(s string) bool {
		return strings.Contains(s, "wrong with ") && strings.Contains(s, " shop/web") && !strings.Contains(s, "@shop")
	})
	v.press(enter)
	v.answered()
	se, err := s.Session(t.Context(), "latest")
	if err != nil || len(se.Turns) != 1 || len(se.Turns[0].Question.Subjects) != 1 || !strings.HasPrefix(se.Turns[0].Question.Subjects[0].Name, "web") {
		t.Errorf("%+v (%v)\n%s", se.Turns, err, got)
	}
	v.press(ctrlC)
	v.end()
}

// Every command answers, and a wrong one says what is wrong.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 120, 50, tui.Config{Service: s, Namespace: "shop", Runbooks: shelf{}})
	v.wait("observe")
	for _, step := range []struct{ say, shows, then string }{
		{"/nonsense", "there is no command /nonsense", ""},
		{"/plan", "there is no answer to make a plan of", ""},
		{"/approve", "no plan waits here", ""},
		{"/evidence", "no answer has been given here yet", ""},
		{"/export", "nothing has been asked yet", ""},
		{"/copy", "there is no answer to copy", ""},
		{"/reject", "/reject needs", ""},
		{"/mode fly", `not "fly"`, ""},
		{"/cancel", "nothing is at work", ""},
		{"/tools", "kube_pod", ""},
		{"/doctor", "work       0 running", ""},
		{"/model", "offline in use", ""},
		{"/model nobody/none", "is none of those that can be used", ""},
		{"/context", "window   not known", ""},
		{"/plans", "plans (0)", "q"},
		{"/runbooks", "runbooks (1)", "q"},
		{"/runbooks none", "there is no runbook", ""},
		{"/runbooks book-1", "Look at the node first", "q"},
		{why, "/plan makes a plan", ""},
		{"/evidence E99", "there is no evidence E99", ""},
		{"/evidence e1", "E1 kube_network", "q"},
		{"/plan patch_service_selector oops", "takes NAME=VALUE", ""},
		{"/new", "a new conversation", ""},
		{"/help", "keys and commands", "q"},
	} {
		v.say(step.say)
		v.wait(step.shows)
		if step.then != "" {
			v.press(step.then)
			v.until("is the chat again", func(string) bool {
				v.mu.Lock()
				defer v.mu.Unlock()
				return !v.emu.IsAltScreen()
			})
		}
		if step.say == why {
			v.answered()
		}
	}
	v.say("/quit")
	v.end()
}

type shelf struct{}

func (shelf) Books(context.Context) ([]tui.Book, error) {
	return []tui.Book{{ID: "book-1", Title: "A book", Text: "# A book\n\nLook at the **node** first."}}, nil
}

// Log records become lines of the chat.
func TestLog(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	log := tui.NewLog(slog.LevelWarn)
	l := slog.New(log).With("component", "watch").WithGroup("g")
	v := open(t, 80, 24, tui.Config{Service: s, Log: log})
	v.wait("observe")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { l.Warn("the API server throttles\x1b[2J", "n", i) })
	}
	wg.Wait()
	l.Info("not shown")
	got := v.wait("g.n=7")
	for i := range 8 {
		v.wait(fmt.Sprintf("! the API server throttles component=watch g.n=%d", i))
	}
	if strings.Contains(got, "not shown") {
		t.Error("an info line is shown")
	}
	v.press(ctrlC)
	v.end()
}

// NO_COLOR leaves no color in what is written; bold and faint may stay.
func TestNoColor(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	ascii := colorprofile.ASCII
	v := open(t, 80, 24, tui.Config{Service: s, Namespace: "shop", Question: why, Profile: &ascii, Environ: []string{"NO_COLOR=1"}})
	v.answered()
	v.press(ctrlC)
	v.end()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, sgr := range []string{"\x1b[36m", "[38;", ";38;", "\x1b[31m", "\x1b[32m"} {
		if strings.Contains(v.raw.String(), sgr) {
			t.Errorf("%q is written", sgr)
		}
	}
}

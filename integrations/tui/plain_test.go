package tui_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/tui"
)

// buffer takes what is written, by any goroutine.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Without a terminal lines are read, answered in order, and the end of the input is the
// end of the chat. Nothing is redrawn, colored, or approved.
func TestPipe(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	var out buffer
	var reports []incident.Report
	err := tui.Run(t.Context(), tui.Config{
		Service: s, Namespace: "shop", Out: &out, By: incident.Person{Name: "ann"},
		In:       strings.NewReader(why + "\n/plan\n/mode act\n/approve\nand why?\n/evidence E1\n/nonsense\n"),
		Answered: func(r incident.Report) { reports = append(reports, r) },
	})
	if err != nil && !strings.Contains(err.Error(), "without a terminal") {
		t.Error(err)
	}
	got := out.String()
	if strings.ContainsAny(got, "\x1b\r\a⠋") {
		t.Errorf("the output holds control characters: %q", got)
	}
	at := 0
	for _, want := range []string{"› " + why, "Cause", "The selector of Service shop/web", "Plan        Change the selector", "+    app: web", "nothing is approved without a terminal", "› and why?", "E1 kube_network", "there is no command /nonsense"} {
		i := strings.Index(got[at:], want)
		if i < 0 {
			t.Fatalf("the output is without %q behind %d:\n%s", want, at, got)
		}
		at += i
	}
	if len(reports) != 2 || reports[0].Diagnosis.Outcome != incident.RootCause {
		t.Errorf("%d reports", len(reports))
	}
	plans, err := s.Plans(t.Context())
	if err != nil || len(plans) != 1 || plans[0].State != incident.PlanPending {
		t.Errorf("%+v (%v)", plans, err)
	}
}

// A screen reader's terminal: the same lines, and a plan is approved with the word
// "yes", in mode act, and only after the question could be read.
func TestPlainTerminal(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 100, 200, tui.Config{Service: s, Namespace: "shop", Plain: true, Question: why})
	v.wait("gumshoe (observe)>")
	v.press("/plan\n")
	v.wait("type: ClusterIP")
	v.press("/approve\n")
	v.wait("nothing is approved in mode observe")
	v.press("/mode act\n", "/approve\n")
	v.wait("Type yes to approve plan-")
	v.press("yes\n")
	v.wait("the answer came before the question could be read")
	v.press("/approve\n")
	v.until("asks again", func(s string) bool { return strings.Count(s, "Type yes to approve") == 2 })
	v.press("no\n")
	v.until("says so", func(s string) bool { return strings.Contains(s, "> not approved\n") })
	v.press("/approve\n")
	v.until("asks again", func(s string) bool { return strings.Count(s, "Type yes to approve") == 3 })
	v.clock.Add(tui.Quiet)
	v.press("yes\n")
	v.wait("is verified")
	v.press("/quit\n")
	v.end()
	if strings.Contains(v.raw.String(), "\x1b") {
		t.Error("plain mode writes escape sequences")
	}
}

// A dumb terminal gets lines, whatever else was asked for.
func TestDumb(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 100, 100, tui.Config{Service: s, Namespace: "shop", FullScreen: true, Environ: []string{"TERM=dumb"}})
	v.wait("gumshoe (observe)>")
	v.press("/quit\n")
	v.end()
	if strings.Contains(v.raw.String(), "\x1b") {
		t.Error("a dumb terminal gets escape sequences")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	var out buffer
	in := strings.NewReader("")
	s := apptest.Stage(t, "k8s-service-selector")
	for name, tc := range map[string]struct {
		cfg  tui.Config
		says string
	}{
		"no service": {tui.Config{In: in, Out: &out}, "Service"},
		"no streams": {tui.Config{Service: s}, "In and Out"},
		"theme":      {tui.Config{Service: s, In: in, Out: &out, Theme: "pink"}, `theme "pink" is none of auto, dark, light, ansi`},
		"size":       {tui.Config{Service: s, In: in, Out: &out, Width: -1}, "-1 x 0"},
	} {
		if err := tui.Run(t.Context(), tc.cfg); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

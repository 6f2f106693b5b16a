package slack_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

var _ slack.Service = (*app.Service)(nil)

// TestWithTheRealService goes from a mention to a verified fix on a recorded cluster
// that reacts: the investigation, the plan, the policy and the executor are those of
// the server.
func TestWithTheRealService(t *testing.T) {
	t.Parallel()
	staged := apptest.Stage(t, "k8s-service-selector")
	svc := staged.Work(t)
	l := newLab(t)
	s, err := slack.New(slack.Options{Config: l.cfg, Service: svc, Journal: staged.Keep, Log: slog.New(slog.NewTextHandler(l.out, nil)), Timing: slack.Timing{Poll: 20 * time.Millisecond, Status: 50 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	l.until("a websocket", func() bool { return l.slack.Connections() > 0 })
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" why does service shop/web not answer")
	answer := l.message(ops, ts, "*Cause*")
	if !strings.Contains(answer.All(), "selector") {
		t.Errorf("the answer is\n%s", answer.All())
	}
	l.slack.Click(ann, answer, "Evidence E1")
	l.until("a window", func() bool { return len(l.slack.Views(ann)) == 1 })
	l.slack.Click(ann, answer, "Make a plan")
	card := l.message(ops, ts, "waits for approval")
	l.slack.Click(bob, card, "Approve")
	l.message(ops, ts, "done and verified")
	l.until("the card is frozen", func() bool {
		m := l.message(ops, ts, "approved by slack:"+slacktest.Team+":"+bob)
		return len(m.Buttons()) == 0 && strings.Contains(m.All(), "done and verified")
	})
	rep, err := svc.Audit(t.Context())
	if err != nil || !rep.OK {
		t.Errorf("the audit trail: %+v (%v)", rep, err)
	}
	plans, err := svc.Plans(t.Context())
	if err != nil || len(plans) != 1 || plans[0].State != incident.PlanVerified || plans[0].Plan.Requester.Name != "ann@example.com" {
		t.Errorf("the plans are %+v (%v)", plans, err)
	}
}

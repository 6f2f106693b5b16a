package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// The whole story with real parts: an alert of Prometheus' rule engine goes through
// Alertmanager to the server, which investigates once and tells Slack; people ask, plan
// and approve in the thread; the executor mends the cluster, and the alert ends by itself.
func TestStory(t *testing.T) {
	t.Parallel()
	c := openClinic(t, controlplane.Options{})
	o := openOffice(t, c)
	o.cfg.Server.Alertmanager.RecheckEvery = access.Duration(time.Second)
	c.misled(t, "story")
	o.serve(t)
	o.monitor(t, "story", "front")

	// One alert, one conversation, one investigation, one thread.
	first := o.answered(t, 1)
	if first.Source != session.Alertmanager || len(first.Alerts) != 1 || first.Alerts[0].Name != "ServiceWithoutEndpoints" || first.Alerts[0].Labels["service"] != "front" {
		t.Fatalf("the session is %+v", first)
	}
	run, err := o.client(t, "ann").Run(t.Context(), first.Turns[0].Run)
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Report.Diagnosis.Causes) == 0 || run.Report.Diagnosis.Causes[0].Code != "kube.service_selector_mismatch" {
		t.Fatalf("the alert is diagnosed as: %s", tell(run.Report))
	}
	root := ""
	soon(t, "a thread of the alert", func(context.Context) (bool, error) {
		all := o.slack.Channel(alertChannel)
		if len(all) > 0 {
			root = all[0].TS
		}
		return root != "", nil
	})
	cause := o.message(t, root, "*Cause*")
	if all := o.sessions(t); len(all) != 1 || len(all[0].Turns) != 1 || len(o.slack.Channel(alertChannel)) != 1 {
		t.Fatalf("one alert became %d sessions, %d questions and %d threads", len(all), len(all[0].Turns), len(o.slack.Channel(alertChannel)))
	}

	// A question in the thread goes on with the same conversation.
	o.slack.Say(slackAnn, alertChannel, root, "which labels do the pods of that service carry?")
	second := o.answered(t, 2)
	if turn := second.Turns[1]; second.ID != first.ID || turn.By.Name != "ann" || turn.Source != session.Slack {
		t.Errorf("the question in the thread is %+v", turn)
	}

	// A plan by button, which nobody but who is mapped to somebody of the cluster approves.
	o.slack.Click(slackAnn, cause, "Make a plan")
	card := o.message(t, root, "waits for approval")
	o.slack.Click(slackCarl, card, "Approve")
	o.told(t, slackCarl, "not mapped")
	if got := o.changed(t); len(got) > 0 {
		t.Fatalf("without an approval %q was written", got)
	}
	o.slack.Click(slackBob, card, "Approve")
	o.message(t, root, "done and verified")
	if got := o.changed(t); !slices.Equal(got, []string{"patch services story/front"}) {
		t.Errorf("the plan wrote %q", got)
	}
	if got := c.writes(t); len(got) > 0 {
		t.Errorf("people and the server wrote %q, where only the executor may", got)
	}
	svc, err := c.client.CoreV1().Services("story").Get(t.Context(), "front", metav1.GetOptions{})
	if err != nil || svc.Spec.Selector["app"] != "front" {
		t.Errorf("the Service selects %v: %v", svc.Spec.Selector, err)
	}

	// The alert ends since the endpoints are there, and everybody is told.
	o.message(t, root, "*Resolved.*")
	last := o.answered(t, 3)
	if last.ID != first.ID || last.Resolved.IsZero() || last.Turns[2].Question.Text != "is it over?" || last.Turns[2].Outcome == incident.RootCause {
		t.Errorf("at the end the session is %+v", last)
	}
	page := o.page(t, "cal", "/sessions/"+last.ID)
	for _, want := range []string{"ServiceWithoutEndpoints", "resolved", "done and verified"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%.6000s", want, page)
		}
	}
	if len(last.Plans) != 1 {
		t.Fatalf("the session has the plans %q", last.Plans)
	}
	if page := o.page(t, "cal", "/plans/"+last.Plans[0]); !strings.Contains(page, "done and verified") {
		t.Errorf("the page of the plan does not say that it is verified:\n%.6000s", page)
	}
	if r, err := o.client(t, "cal").Audit(t.Context()); err != nil || !r.OK {
		t.Errorf("the audit log is not whole: %+v: %v", r, err)
	}
	if p := o.slack.Problems(); len(p) > 0 {
		t.Errorf("Slack refused %q", p)
	}
}

// answered waits until the one session has so many questions, all answered.
func (o *office) answered(t *testing.T, n int) session.Session {
	t.Helper()
	var out session.Session
	soon(t, fmt.Sprintf("%d answers", n), func(context.Context) (bool, error) {
		all := o.sessions(t)
		if len(all) == 0 {
			return false, nil
		}
		out = all[0]
		done := len(out.Turns) >= n && !slices.ContainsFunc(out.Turns, func(x session.Turn) bool { return x.State != session.Answered })
		return done, fmt.Errorf("%d sessions, the first with the turns %+v", len(all), out.Turns)
	})
	return out
}

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// The whole story with real parts: an alert of Prometheus' rule engine goes through
// Alertmanager to the server, which investigates once and tells Slack; people ask, plan
// and approve in the thread; the executor mends the cluster, and the alert ends by itself.
func TestStory(t *testing.T) {
	t.Parallel()
	o := openOffice(t, openClinicWithExecutor(t, controlplane.Options{}))
	o.serve(t)
	got := o.story(t, "story")
	t.Logf("%+v", got)
	if got := o.writes(t); len(got) > 0 {
		t.Errorf("people and the server wrote %q, where only the executor may", got)
	}
}

// ending is how a story ended: what does not depend on how long it took, and on how
// often somebody had to begin again.
type ending struct {
	// Turns are the questions with what became of them, Alerts and Plans the state of
	// each, Words who said what about the plan.
	Turns, Alerts, Plans, Words []string
	// Thread is what the bot says, sorted: that the alert is over and that a new look found
	// nothing come in either order. Channel is how many messages begin a thread.
	Thread  []string
	Channel int
	// Writes are what the API server saw that changed something.
	Writes []string
}

// story tells the story in a namespace, on whatever serves at o.url, and gives its end.
// Whoever takes part waits and tries again while nobody answers.
func (o *office) story(t *testing.T, namespace string) ending {
	t.Helper()
	o.misled(t, namespace)
	o.monitor(t, namespace, "front")

	// One alert, one conversation, one investigation, one thread.
	first := o.answered(t, 1)
	if first.Source != session.Alertmanager || len(first.Alerts) != 1 || first.Alerts[0].Name != "ServiceWithoutEndpoints" || first.Alerts[0].Labels["service"] != "front" {
		t.Fatalf("the session is %+v", first)
	}
	o.caused(t, first.Turns[0].Run, "kube.service_selector_mismatch")
	root := ""
	soon(t, "a thread of the alert", func(context.Context) (bool, error) {
		all := o.slack.Channel(alertChannel)
		if len(all) > 0 {
			root = all[0].TS
		}
		return root != "", nil
	})
	cause := o.message(t, root, "*Cause*")

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
	if got := o.changed(t, namespace); len(got) > 0 {
		t.Fatalf("without an approval %q was written", got)
	}
	o.slack.Click(slackBob, card, "Approve")
	o.message(t, root, "done and verified")
	svc, err := o.clinic.client.CoreV1().Services(namespace).Get(t.Context(), "front", metav1.GetOptions{})
	if err != nil || svc.Spec.Selector["app"] != "front" {
		t.Errorf("the Service selects %v: %v", svc.Spec.Selector, err)
	}

	// The alert ends since the endpoints are there, and everybody is told.
	o.message(t, root, "*Resolved.*")
	last := o.answered(t, 3)
	if last.ID != first.ID || last.Resolved.IsZero() || last.Turns[2].Question.Text != "is it over?" || last.Turns[2].Outcome == incident.RootCause {
		t.Errorf("at the end the session is %+v", last)
	}
	o.shows(t, "cal", "/sessions/"+last.ID, "ServiceWithoutEndpoints", "resolved", "done and verified")
	for _, id := range last.Plans {
		o.shows(t, "cal", "/plans/"+id, "done and verified")
	}
	soon(t, "the audit log is whole", func(ctx context.Context) (bool, error) {
		r, err := o.client(t, "cal").Audit(ctx)
		return r.OK, err
	})
	o.acknowledged(t)
	if p := o.slack.Problems(); len(p) > 0 {
		t.Errorf("Slack refused %q", p)
	}
	return o.end(t, namespace, root, last)
}

// caused waits for the first cause that a run found.
func (o *office) caused(t *testing.T, run, code string) {
	t.Helper()
	soon(t, "the run "+run, func(ctx context.Context) (bool, error) {
		r, err := o.client(t, "ann").Run(ctx, run)
		if err != nil {
			return false, err
		}
		if len(r.Report.Diagnosis.Causes) == 0 || r.Report.Diagnosis.Causes[0].Code != code {
			t.Fatalf("the alert is diagnosed as: %s", tell(r.Report))
		}
		return true, nil
	})
}

// acknowledged waits until the server has taken everything that Slack has.
func (o *office) acknowledged(t *testing.T) {
	t.Helper()
	soon(t, "everything of Slack is acknowledged", func(context.Context) (bool, error) {
		n := o.slack.Unacked()
		return n == 0, fmt.Errorf("%d are not", n)
	})
}

// answered waits until the one session has so many questions, all answered.
func (o *office) answered(t *testing.T, n int) session.Session {
	t.Helper()
	var out session.Session
	soon(t, fmt.Sprintf("%d answers", n), func(ctx context.Context) (bool, error) {
		all, err := o.client(t, "ann").Sessions(ctx, session.Filter{})
		if len(all) == 0 {
			return false, err
		}
		if len(all) > 1 {
			t.Fatalf("one alert became %d sessions: %+v", len(all), all)
		}
		out = all[0]
		done := len(out.Turns) >= n && !slices.ContainsFunc(out.Turns, func(x session.Turn) bool { return x.State != session.Answered })
		return done, fmt.Errorf("the session has the turns %+v", out.Turns)
	})
	return out
}

// end tells the end of a story, once it is the same twice.
func (o *office) end(t *testing.T, namespace, root string, s session.Session) ending {
	t.Helper()
	var out ending
	soon(t, "the story rests", func(ctx context.Context) (bool, error) {
		now := ending{Channel: len(o.slack.Channel(alertChannel)), Writes: steadily(o.changed(t, namespace), namespace)}
		c := o.client(t, "cal")
		s, err := c.Session(ctx, s.ID)
		if err != nil {
			return false, err
		}
		for _, x := range s.Turns {
			now.Turns = append(now.Turns, fmt.Sprintf("%s: %s: %s %s", x.Source, x.Question.Text, x.State, x.Outcome))
		}
		for _, a := range s.Alerts {
			now.Alerts = append(now.Alerts, a.Name+" "+a.Status)
		}
		plans, err := c.Plans(ctx)
		if err != nil {
			return false, err
		}
		for _, p := range plans {
			now.Plans = append(now.Plans, string(p.State))
			now.Words = append(now.Words, words(p)...)
		}
		for _, m := range o.slack.Own(alertChannel, root) {
			now.Thread = append(now.Thread, m.All())
		}
		now.Thread = steadily(now.Thread, namespace)
		slices.Sort(now.Thread)
		same := fmt.Sprint(out) == fmt.Sprint(now)
		out = now
		time.Sleep(time.Second)
		return same, fmt.Errorf("it is %+v", now)
	})
	return out
}

// words are what people said of a plan.
func words(p planner.Record) []string {
	var out []string
	for _, w := range p.Words {
		out = append(out, w.Word+" by "+w.By.Name)
	}
	return out
}

// changing is what differs from one telling to the next.
var changing = regexp.MustCompile(`\b(plan|run|s|turn)-[0-9a-f]{6,}(-[0-9]+)?\b|\b[0-9a-f]{10,}\b|\bfront-[0-9a-z]+-[0-9a-z]{5}\b|[0-9]+([.,:][0-9]+)*( ?(ms|s|min|looks?|%)\b)?|<!date[^>]*>`)

// steadily gives texts without what differs from one telling to the next.
func steadily(texts []string, namespace string) []string {
	for i, s := range texts {
		texts[i] = changing.ReplaceAllString(strings.ReplaceAll(s, namespace, "NAMESPACE"), "#")
	}
	return texts
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/planner/approval"
)

// attack is what somebody tries in a namespace of its own. What the API server's log
// may then hold of that namespace is in allowed; nothing else was approved.
type attack struct {
	name string
	// try makes the attempt. It gives the error that stopped it.
	try func(t *testing.T, c *clinic, ns string) error
	// says is a part of the refusal.
	says    string
	allowed []string
}

// victim is the Deployment that every attack is about, and the plan for it.
func (c *clinic) victim(t *testing.T, ns string) string {
	t.Helper()
	return c.victimPlan(t, ns).Plan.ID
}

func (c *clinic) victimPlan(t *testing.T, ns string) planner.Record {
	t.Helper()
	return c.plan(t, app.PlanRequest{File: setImage(ns, "registry.example.com/app:2")})
}

func setImage(ns, image string) []byte {
	return fmt.Appendf(nil, "reason: a fix\nsteps:\n- {action: set_image, params: {kind: Deployment, namespace: %s, name: app, container: main, image: %q}}\n", ns, image)
}

// attempt gives the error of an execution as ann.
func (c *clinic) attempt(t *testing.T, cfg app.Config, id string) (err error) {
	t.Helper()
	c.with(t, cfg, func(p *app.Plans) {
		var r planner.Record
		if r, err = p.Execute(t.Context(), id, app.As("", "cli")); err == nil && r.State != incident.PlanVerified {
			err = fmt.Errorf("the plan is %s: %s %q", r.State, r.Reason, r.Left)
		}
	})
	return err
}

// say gives the error of a word.
func (c *clinic) say(t *testing.T, token, id, word, as string) (err error) {
	t.Helper()
	c.as(t, token, func(p *app.Plans) { _, err = p.Say(t.Context(), id, word, "because", app.As(as, "cli")) })
	return err
}

// rewritten copies the store of the clinic with every record changed as somebody could
// who holds the disk, keys and all, and gives a configuration on it. A record for
// which change gives false is dropped.
func (c *clinic) rewritten(t *testing.T, change func(*store.Record) bool) app.Config {
	t.Helper()
	cfg := c.config(t, annToken)
	cfg.Store.Dir = t.TempDir()
	key, err := os.ReadFile(filepath.Join(c.state, "approval.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Store.Dir, "approval.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := file.Open(file.Config{Dir: c.state})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := file.Open(file.Config{Dir: cfg.Store.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close() }()
	for info, err := range from.List(t.Context(), ">") {
		if err != nil {
			t.Fatal(err)
		}
		last := uint64(0)
		for r, err := range from.Load(t.Context(), info.Subject, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if !change(&r) {
				continue
			}
			if last, err = to.Append(t.Context(), info.Subject, last, store.Entry{Type: r.Type, Data: r.Data}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return cfg
}

// edit changes the event of a type in a plan's journal.
func edit(t *testing.T, id string, kind event.Type, change func(*event.Event)) func(*store.Record) bool {
	return func(r *store.Record) bool {
		if r.Subject == "plan."+id && r.Type == string(kind) {
			var e event.Event
			if err := json.Unmarshal(r.Data, &e); err != nil {
				t.Fatal(err)
			}
			change(&e)
			raw, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			r.Data = raw
		}
		return true
	}
}

// forge appends an event to a plan in the clinic's store.
func (c *clinic) forge(t *testing.T, id string, kind event.Type, e event.Event) {
	t.Helper()
	s, err := file.Open(file.Config{Dir: c.state})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	last := uint64(0)
	for r, err := range s.Load(t.Context(), "plan."+id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = r.Seq
	}
	e.Run, e.Type, e.At = id, kind, time.Now().UTC()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), "plan."+id, last, store.Entry{Type: string(kind), Data: raw}); err != nil {
		t.Fatal(err)
	}
}

// patch changes the victim, or its namespace, as the administrator.
func (c *clinic) patch(t *testing.T, ns, body string) {
	t.Helper()
	if _, err := c.client.AppsV1().Deployments(ns).Patch(t.Context(), "app", types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// settings gives a configuration of ann's with more policy.
func (c *clinic) settings(t *testing.T, token, yaml string) app.Config {
	t.Helper()
	cfg := c.config(t, token)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "more.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Policy.Dirs = append(cfg.Policy.Dirs, dir)
	return cfg
}

func attacks() []attack {
	ann := incident.Person{Name: "ann", Surface: "cli", Proof: "cluster"}
	swap := func(e *event.Event) {
		w := &e.Plan.Steps[0].Writes[0]
		w.Body = json.RawMessage(strings.Replace(string(w.Body), "app:2", "evil:1", 1))
	}
	return []attack{
		{name: "nobody approved", says: "approve", try: func(t *testing.T, c *clinic, ns string) error {
			return c.attempt(t, c.config(t, annToken), c.victim(t, ns))
		}},
		{name: "own plan approved", says: "ann", try: func(t *testing.T, c *clinic, ns string) error {
			return c.say(t, annToken, c.victim(t, ns), incident.Approved, "")
		}},
		{name: "approver without rights", says: "may not", try: func(t *testing.T, c *clinic, ns string) error {
			return c.say(t, eveToken, c.victim(t, ns), incident.Approved, "")
		}},
		{name: "approver in another's name", says: "impersonate", try: func(t *testing.T, c *clinic, ns string) error {
			return c.say(t, eveToken, c.victim(t, ns), incident.Approved, "bob")
		}},
		{name: "tampered write", says: "what would be executed is", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			return c.attempt(t, c.rewritten(t, edit(t, id, event.PlanMade, swap)), id)
		}},
		{name: "tampered undo", says: "what would be executed is", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			return c.attempt(t, c.rewritten(t, edit(t, id, event.PlanMade, func(e *event.Event) { e.Plan.Steps[0].Undo[0].Ref.Name = "other" })), id)
		}},
		{name: "tampered expiry", says: "what would be executed is", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			return c.attempt(t, c.rewritten(t, edit(t, id, event.PlanMade, func(e *event.Event) { e.Plan.Expires = e.Plan.Expires.AddDate(1, 0, 0) })), id)
		}},
		{name: "tampered decision", says: "approve", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			return c.attempt(t, c.rewritten(t, edit(t, id, event.PlanMade, func(e *event.Event) {
				e.Decision = &incident.Decision{Verdict: incident.Allow, SelfApproval: true}
			})), id)
		}},
		{name: "approval of another plan", says: "", try: func(t *testing.T, c *clinic, ns string) error {
			first, second := c.victim(t, ns), c.plan(t, app.PlanRequest{File: setImage(ns, "registry.example.com/evil:1")}).Plan.ID
			c.approve(t, first, bobToken)
			c.as(t, annToken, func(p *app.Plans) {
				r, err := p.Get(t.Context(), first)
				if err != nil {
					t.Fatal(err)
				}
				stolen := r.Words[0]
				stolen.Plan = second
				c.forge(t, second, event.PlanWord, event.Event{Word: &stolen})
			})
			return c.attempt(t, c.config(t, annToken), second)
		}},
		{name: "approval in another's name", says: "", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			if err := c.say(t, calToken, id, incident.Approved, ""); err != nil {
				t.Fatal(err)
			}
			return c.attempt(t, c.rewritten(t, edit(t, id, event.PlanWord, func(e *event.Event) { e.Word.By.Name = "bob" })), id)
		}},
		{name: "comment made an approval", says: "", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			if err := c.say(t, bobToken, id, incident.Commented, ""); err != nil {
				t.Fatal(err)
			}
			return c.attempt(t, c.rewritten(t, edit(t, id, event.PlanWord, func(e *event.Event) { e.Word.Word = incident.Approved })), id)
		}},
		{name: "a key of one's own", says: "", try: func(t *testing.T, c *clinic, ns string) error {
			rec := c.victimPlan(t, ns)
			key, err := approval.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			d := &approval.Desk{Signer: key, Reviewer: anybody{}, Now: time.Now, Nonce: func() (string, error) { return "0123456789abcdef", nil }, TTL: time.Hour}
			a, err := d.Give(t.Context(), rec.Plan, rec.Digest, incident.Approved, incident.Person{Name: "bob", Surface: "cli", Proof: "cluster"}, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			c.forge(t, rec.Plan.ID, event.PlanWord, event.Event{Word: &a})
			return c.attempt(t, c.config(t, annToken), rec.Plan.ID)
		}},
		{name: "executed twice", says: "verified", allowed: []string{"patch deployments"}, try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			if err := c.attempt(t, c.config(t, annToken), id); err != nil {
				t.Fatal(err)
			}
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "executed again after its end was cut off", says: "", allowed: []string{"patch deployments"}, try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			if err := c.attempt(t, c.config(t, annToken), id); err != nil {
				t.Fatal(err)
			}
			c.patch(t, ns, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.example.com/app:3"}]}}}}`)
			kept := map[string]bool{string(event.PlanMade): true, string(event.PlanWord): true}
			return c.attempt(t, c.rewritten(t, func(r *store.Record) bool { return r.Subject != "plan."+id || kept[r.Type] }), id)
		}},
		{name: "forged beginning", says: "no consent when it began", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.forge(t, id, event.PlanBegun, event.Event{Progress: &event.Progress{By: ann}})
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "forged write to be undone", says: "no consent when it began", try: func(t *testing.T, c *clinic, ns string) (err error) {
			id := c.victim(t, ns)
			c.forge(t, id, event.PlanBegun, event.Event{Progress: &event.Progress{By: ann}})
			c.forge(t, id, event.WriteEnded, event.Event{Write: &incident.WriteResult{Write: "s1.1", Done: true}})
			c.as(t, annToken, func(p *app.Plans) { _, err = p.Undo(t.Context(), id, app.As("", "cli"), "") })
			return err
		}},
		{name: "revoked", says: "withdrew", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			if err := c.say(t, bobToken, id, incident.Revoked, ""); err != nil {
				t.Fatal(err)
			}
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "rejected", says: "rejected", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			if err := c.say(t, bobToken, id, incident.Rejected, ""); err != nil {
				t.Fatal(err)
			}
			_ = c.say(t, calToken, id, incident.Approved, "")
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "too late", says: "", try: func(t *testing.T, c *clinic, ns string) (err error) {
			short := c.settings(t, annToken, "settings: {planTTL: 1s}\n")
			id := ""
			c.with(t, short, func(p *app.Plans) {
				r, err := p.Make(t.Context(), app.PlanRequest{File: setImage(ns, "registry.example.com/app:2"), Caller: app.As("", "cli")})
				if err != nil {
					t.Fatal(err)
				}
				id = r.Plan.ID
			})
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(3 * time.Second)))
			if err := c.say(t, bobToken, id, incident.Approved, ""); err == nil {
				t.Error("approved after its end")
			}
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "changed in between", says: "have changed", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			c.patch(t, ns, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.example.com/app:3"}]}}}}`)
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "made anew in between", says: "made anew", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			if err := c.client.AppsV1().Deployments(ns).Delete(t.Context(), "app", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			c.apply(t, victimOf(ns))
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "frozen object", says: "release week", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			c.patch(t, ns, `{"metadata":{"annotations":{"`+actions.Freeze+`":"release week"}}}`)
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "frozen namespace", says: "quarter end", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			if _, err := c.client.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+actions.Freeze+`":"quarter end"}}}`), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			return c.attempt(t, c.config(t, annToken), id)
		}},
		{name: "policy changed to deny", says: "no images on", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			return c.attempt(t, c.settings(t, annToken, "rules:\n- {name: no-images, scope: step, when: 'action.name == \"set_image\"', verdict: deny, reason: no images on a Friday}\n"), id)
		}},
		{name: "executor without rights", says: "forbidden", try: func(t *testing.T, c *clinic, ns string) error {
			id := c.victim(t, ns)
			c.approve(t, id, bobToken)
			cfg := c.config(t, annToken)
			cfg.Executor.Kubeconfig = c.kubeconfigOf(t, eveToken)
			return c.attempt(t, cfg, id)
		}},
		{name: "rights for the first write only", says: "undone", allowed: []string{"patch deployments", "patch deployments"}, try: func(t *testing.T, c *clinic, ns string) error {
			c.grant(t, "dan", ns, reading("*", "*"), rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "patch"}})
			c.grant(t, "dan-"+ns, "", reading("", "namespaces", "nodes"))
			rec := c.plan(t, app.PlanRequest{File: fmt.Appendf(nil, "reason: both\nsteps:\n- {action: set_image, params: {kind: Deployment, namespace: %[1]s, name: app, container: main, image: \"registry.example.com/app:2\"}}\n- {action: label_namespace, params: {namespace: %[1]s, label: team=x}}\n", ns)})
			c.approve(t, rec.Plan.ID, bobToken, calToken)
			cfg := c.config(t, annToken)
			cfg.Executor.Kubeconfig = c.kubeconfigOf(t, danToken)
			return c.attempt(t, cfg, rec.Plan.ID)
		}},
		{name: "an action of no catalogue", says: "no such action", try: func(t *testing.T, c *clinic, ns string) (err error) {
			c.as(t, annToken, func(p *app.Plans) {
				_, err = p.Make(t.Context(), app.PlanRequest{Caller: app.As("", "cli"), File: []byte("reason: x\nsteps:\n- {action: kubectl, params: {args: delete namespace " + ns + "}}\n")})
			})
			return err
		}},
		{name: "words in a parameter", says: "", try: func(t *testing.T, c *clinic, ns string) (err error) {
			c.as(t, annToken, func(p *app.Plans) {
				_, err = p.Make(t.Context(), app.PlanRequest{Caller: app.As("", "cli"), File: setImage(ns, "x; kubectl delete ns "+ns)})
			})
			return err
		}},
		{name: "an automated caller", says: "policy denies", try: func(t *testing.T, c *clinic, ns string) (err error) {
			c.as(t, annToken, func(p *app.Plans) {
				_, err = p.Make(t.Context(), app.PlanRequest{Caller: app.As("", "alert"), File: setImage(ns, "registry.example.com/app:2")})
			})
			return err
		}},
		{name: "one person is not two", says: "", try: func(t *testing.T, c *clinic, ns string) error {
			id := ""
			two := c.settings(t, annToken, "rules:\n- {name: two-images, scope: step, when: 'action.name == \"set_image\"', verdict: ask_two, reason: images are sensitive}\n")
			c.with(t, two, func(p *app.Plans) {
				r, err := p.Make(t.Context(), app.PlanRequest{File: setImage(ns, "registry.example.com/app:2"), Caller: app.As("", "cli")})
				if err != nil {
					t.Fatal(err)
				}
				id = r.Plan.ID
			})
			c.approve(t, id, bobToken)
			_ = c.say(t, bobToken, id, incident.Approved, "")
			return c.attempt(t, two, id)
		}},
	}
}

// anybody may approve anything.
type anybody struct{}

func victimOf(ns string) string {
	return strings.Replace(deployment(ns, "app", "", ""), "replicas: 1", "replicas: 0", 1)
}

// Whatever is tried, the API server's own log holds no write that was not approved.
func TestAttacks(t *testing.T) {
	t.Parallel()
	c := openClinic(t, controlplane.Options{})
	for i, a := range attacks() {
		ns := fmt.Sprintf("attack-%d", i)
		c.apply(t, victimOf(ns))
		t.Run(a.name, func(t *testing.T) {
			err := a.try(t, c, ns)
			if err == nil {
				t.Fatal("nothing stopped it")
			}
			if !strings.Contains(err.Error(), a.says) {
				t.Errorf("stopped by %q, want %q", err, a.says)
			}
			t.Log(err)
		})
	}
	log := c.writes(t)
	for i, a := range attacks() {
		var got []string
		for _, w := range log {
			if verb, ok := strings.CutSuffix(w, fmt.Sprintf(" attack-%d/app", i)); ok {
				got = append(got, verb)
			}
		}
		if !slices.Equal(got, a.allowed) {
			t.Errorf("%s: the server saw %q, approved was %q", a.name, got, a.allowed)
		}
	}
	for _, w := range log {
		if !strings.HasSuffix(w, "/app") {
			t.Errorf("the server saw %q, which nobody approved", w)
		}
	}
	// What was forged is in no trail, and the verification says so of nothing else.
	c.as(t, annToken, func(p *app.Plans) {
		r, err := p.Audit(t.Context())
		if err != nil || r.Bad != nil || len(r.Missing) != forged {
			t.Errorf("%d records are missing in the trail, %d were forged: %+v: %v", len(r.Missing), forged, r, err)
		}
	})
}

// forged is how many records the attacks put into the journal.
const forged = 5

// MayApprove implements approval.Reviewer.
func (anybody) MayApprove(context.Context, incident.Person, incident.Plan) error { return nil }

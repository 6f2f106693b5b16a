package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/world"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

// A plan is applied through a server, and a recheck sees that it is over. Taking it back
// is refused while others have changed the object, waits for the undoing and not for what
// was done before, can be asked again once the first came to its end, and is refused where
// there is nothing left.
func TestUndoThroughAServer(t *testing.T) {
	t.Parallel()
	all, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	story, err := evals.Find(all, "k8s-service-selector")
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("ann-signs-in-to-gumshoe"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := app.Defaults()
	cfg.Store.Dir = t.TempDir()
	cfg.Server.Listen, cfg.Server.Execute = "127.0.0.1:0", true
	cfg.Server.Auth.Tokens = []access.TokenConfig{{Name: "ann", Role: "approver", File: token}}
	var w *world.World
	at := apptest.Serve(t, app.ServerOptions{
		Load: func() (app.Config, error) { return cfg, cfg.Validate() },
		App: func(ctx context.Context, cfg app.Config) (*app.App, error) {
			f, err := app.NewFactory(cfg)
			if err != nil {
				return nil, err
			}
			a, staged, err := f.Stage(ctx, story)
			w = staged
			return a, err
		},
	}).URL
	c, err := client.New(client.Config{URL: at, TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	gumshoe := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := cli.Run(t.Context(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(name string) string {
			return map[string]string{"GUMSHOE_SERVER": at, "GUMSHOE_TOKEN_FILE": token, "GUMSHOE_STATE": "off"}[name]
		}, Width: 120})
		return code, out.String() + errs.String()
	}
	ask := func(key string) (string, incident.Outcome) {
		t.Helper()
		_, turn, err := c.Ask(t.Context(), session.Ask{Key: key, Question: story.Ask()})
		if err != nil {
			t.Fatal(err)
		}
		for {
			r, err := c.Run(t.Context(), turn.ID)
			if err == nil && r.State == store.RunDone {
				return turn.ID, r.Report.Diagnosis.Outcome
			}
			select {
			case <-t.Context().Done():
				t.Fatalf("no answer: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	state := func(id string) incident.PlanState {
		t.Helper()
		r, err := c.Plan(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return r.State
	}
	selects := func(app string) {
		t.Helper()
		if err := w.Change(t.Context(), evals.Change{Apply: "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec: {selector: {app: " + app + "}}\n"}); err != nil {
			t.Fatal(err)
		}
	}

	run, outcome := ask("before")
	if outcome != incident.RootCause {
		t.Fatalf("before the plan: %s", outcome)
	}
	r, err := c.Propose(t.Context(), session.PlanAsk{Run: run})
	if err != nil {
		t.Fatal(err)
	}
	id := r.Plan.ID
	if code, out := gumshoe("approve", id); code != 0 {
		t.Fatalf("approve: %d %s", code, out)
	}
	if code, out := gumshoe("apply", id); code != 0 || state(id) != incident.PlanVerified {
		t.Fatalf("apply: %d, %s: %s", code, state(id), out)
	}
	if _, outcome := ask("after"); outcome == incident.RootCause {
		t.Error("a recheck still finds what was mended")
	}

	selects("someone-elses")
	if code, out := gumshoe("undo", id); code == 0 || state(id) != incident.PlanStopped || !strings.Contains(out, "not taken back") {
		t.Errorf("undo against a change of others: %d, %s: %s", code, state(id), out)
	}
	selects("web")
	if code, out := gumshoe("undo", id); code != 0 || state(id) != incident.PlanUndone {
		t.Fatalf("asked again: %d, %s: %s", code, state(id), out)
	}
	if code, out := gumshoe("undo", id); code == 0 || !strings.Contains(out, "nothing to take back") {
		t.Errorf("undone twice: %d %s", code, out)
	}
	if _, outcome := ask("undone"); outcome != incident.RootCause {
		t.Errorf("after it was taken back: %s", outcome)
	}
}

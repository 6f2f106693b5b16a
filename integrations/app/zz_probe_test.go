package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
)

func TestProbe(t *testing.T) {
	re := regexp.MustCompile(os.Getenv("CASES"))
	cases, err := evals.Load(os.DirFS("../../evals/cases"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFactory(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	out, _ := os.Create(os.Getenv("OUT"))
	defer out.Close()
	for _, c := range cases {
		if !re.MatchString(c.ID) || os.Getenv("ONLY") != "" && c.Remediation == nil {
			continue
		}
		a, err := f.FromBundle(context.Background(), c.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := a.Investigate(t.Context(), c.Ask(), event.SinkFunc(func(event.Event) {}))
		_ = a.Close()
		if err != nil {
			t.Fatal(err)
		}
		has := c.Remediation != nil
		if !has {
			c.Remediation = &evals.Remediation{}
		}
		if len(rep.Diagnosis.Proposals) == 0 && !has {
			continue
		}
		r, err := f.Remediate(t.Context(), c, rep)
		fmt.Fprintf(out, "=== %s (%.2fs) has=%v\n", c.ID, r.Seconds, has)
		if err != nil {
			fmt.Fprintf(out, "  ERROR %v\n", err)
		}
		if r.Plan == nil {
			fmt.Fprintf(out, "  NO PLAN: %s\n", r.Why)
		} else {
			for _, s := range r.Plan.Steps {
				p, _ := json.Marshal(s.Params)
				fmt.Fprintf(out, "  step %s %s %s risk=%s\n", s.ID, s.Action, p, s.Risk)
				for _, w := range s.Writes {
					fmt.Fprintf(out, "    %s %s %s %.300s [%s]\n", w.ID, w.Verb, w.Ref, w.Body, w.Dry)
					for _, c := range w.Await {
						fmt.Fprintf(out, "      await %s\n", c.Say)
					}
				}
				for _, c := range s.Verify {
					fmt.Fprintf(out, "    verify %s %s %v\n", c.Kind, c.Subject, c.Within)
				}
			}
			for _, c := range r.Plan.Verify {
				fmt.Fprintf(out, "    VERIFY %s %s\n", c.Kind, c.Say)
			}
			fmt.Fprintf(out, "  approvers %d state %s reason %q left %q told %q audit %q\n", r.Approvers, r.State, r.Reason, r.Left, r.Told, r.Audit)
		}
		for _, p := range rep.Diagnosis.Proposals {
			q, _ := json.Marshal(p.Params)
			fmt.Fprintf(out, "  proposal %s %s\n", p.Action, q)
		}
		if has {
			g := evals.GradeRemedy(*c.Remediation, r)
			q, _ := json.MarshalIndent(g, "  ", " ")
			fmt.Fprintf(out, "  passed=%v %s\n", g.Passed(), q)
			for i, s := range c.Remediation.After {
				if i < len(r.After) {
					fmt.Fprintf(out, "   after %s: %q\n", s, r.After[i])
				}
			}
			for _, s := range r.Seen {
				fmt.Fprintf(out, "   seen %s %s mark=%v done=%v approved=%v\n", s.ID, s, s.Mark, s.Done, s.Approved)
			}
		}
	}
	_ = incident.Approved
}

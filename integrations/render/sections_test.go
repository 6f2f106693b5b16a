package render_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

func sections(all []render.Section) string {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%s [%s]\n", s.Title, s.Note)
		for _, l := range s.Lines {
			fmt.Fprintf(&b, "  %s\n", l)
		}
	}
	return b.String()
}

func TestSections(t *testing.T) {
	t.Parallel()
	for name, r := range reports() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := render.Headline(r.Diagnosis) + "\n" + render.Asked(r) + "\n" + render.Cost(r) + "\n" + sections(render.Sections(r))
			for _, c := range got {
				if c < 0x20 && c != '\n' {
					t.Errorf("it holds the control character %q", c)
				}
			}
			golden(t, name+".sections", got)
		})
	}
}

func TestPlanSections(t *testing.T) {
	t.Parallel()
	web := ref("Deployment", "shop", "web")
	p := incident.Plan{
		ID: "plan-1", Title: "Give web its memory", Created: time.Unix(0, 0), Reason: "it was lowered by hand", Author: "ann",
		Cause: &incident.PlanCause{Subject: web, Statement: "its limit is too low\x1b[31m", Confidence: 0.9, Evidence: []string{"E2"}},
		Steps: []incident.Step{
			{ID: "s1", Say: "raise the limit", Risk: incident.RiskMedium, Targets: []incident.Target{{Ref: web, Owner: "Argo CD Application shop"}}, Warnings: []string{"its pods are made anew"},
				Writes: []incident.Write{{ID: "s1.1", Verb: incident.VerbPatch, Ref: web, Say: "set 512Mi", Dry: "server"}}, Undo: []incident.Write{{ID: "s1.u1", Say: "set 256Mi"}},
				Verify: []incident.Check{{Say: "the rollout is complete", Within: 300}}},
			{ID: "s2", Say: "change the source", Risk: incident.RiskLow, Source: &incident.SourcePatch{Tool: "Argo CD", Owner: ref("Application", "argocd", "shop"), Where: "repo main deploy/"}},
			{ID: "s3", Say: "delete the pod", Risk: incident.RiskHigh, Lasting: "its local data are lost", Writes: []incident.Write{{ID: "s3.1", Verb: incident.VerbDelete, Ref: ref("Pod", "shop", "web-0"), Dry: "the server was not asked"}}},
		},
		Verify:   []incident.Check{{Say: "the rollout is complete", Within: 300}, {Say: "no container is killed", Hold: 60}},
		Blast:    incident.Blast{PodCount: 2, Pods: []incident.Ref{ref("Pod", "shop", "web-0"), ref("Pod", "shop", "web-1")}, GPUs: 2, GPUHours: 3, Requests: -1},
		Capacity: []incident.Claim{{Text: "both pods fit on gpu-7"}},
	}
	golden(t, "plan.sections", sections(render.PlanSections(p)))
	golden(t, "plan-harmless.sections", sections(render.PlanSections(incident.Plan{Steps: p.Steps[:1]})))
}

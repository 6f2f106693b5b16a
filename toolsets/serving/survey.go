package serving

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// SurveyIn names a namespace.
type SurveyIn struct {
	Namespace string `json:"namespace"`
}

// Survey is what of a namespace's serving resources is in trouble.
type Survey struct {
	Looked   map[string]int     `json:"looked"`
	Findings []incident.Finding `json:"findings"`
	More     int                `json:"more"`
}

// surveyed bounds how many things in trouble a survey names.
const surveyed = 20

func (t *Toolset) surveyTool() (tool.Tool, error) {
	return read("serving_survey", t.survey)
}

// survey passes over the serving resources of a namespace: each is asked for its
// own words only; the walk then enters those in trouble.
func (t *Toolset) survey(ctx context.Context, in SurveyIn) (tool.Output[Survey], error) {
	all, err := t.objects.Served(ctx)
	if err != nil {
		return tool.Output[Survey]{}, err
	}
	out := Survey{Looked: map[string]int{}, Findings: []incident.Finding{}}
	var lines []string
	for _, k := range all {
		s, ok := t.book.shape(k.Group, k.Kind)
		pool := k.Kind == "InferencePool" && (k.Group == poolGroup || k.Group == oldPoolGroup)
		if !k.Namespaced || !ok && !pool && (k.Group != kueueGroup || k.Kind != "Workload") {
			continue
		}
		objs, err := t.objects.List(ctx, k.Group, k.Kind, in.Namespace, "")
		if err != nil {
			lines = append(lines, "not seen: "+k.Kind+": "+tool.UserText(err))
			continue
		}
		out.Looked[k.Kind] += len(objs)
		for _, u := range objs {
			v := newVerdict(t.refOf(u))
			switch {
			case pool:
				t.pool(ctx, v, u)
			case k.Kind == "Workload":
				t.workload(ctx, v, u)
			default:
				conds := t.spoken(u)
				t.conditions(v, u, conds)
				pods := t.podsOf(ctx, s, u)
				t.special(ctx, v, u, conds, pods)
				t.reconciled(ctx, v, u, t.book.system(k.Group, k.Kind), conds)
				t.summary(v, s, u, conds, pods)
			}
			for _, f := range v.findings {
				if f.Role == incident.Fault || f.Role == incident.Symptom {
					out.Findings = append(out.Findings, f)
				}
			}
		}
	}
	out.Findings = append(out.Findings, t.measured(ctx, in.Namespace, out.Looked)...)
	slices.SortStableFunc(out.Findings, func(a, b incident.Finding) int { return b.Severity.Weight() - a.Severity.Weight() })
	if len(out.Findings) > surveyed {
		out.More, out.Findings = len(out.Findings)-surveyed, out.Findings[:surveyed]
	}
	for _, k := range sortedKeys(out.Looked) {
		lines = append(lines, fmt.Sprintf("looked at %d %s", out.Looked[k], k))
	}
	for _, f := range out.Findings {
		lines = append(lines, fmt.Sprintf("%s %s on %s: %s", f.Role, f.Code, f.Subject, oneLine(f.Message, 400)))
	}
	if len(lines) == 0 {
		lines = append(lines, "the cluster has no serving system")
	}
	return tool.Output[Survey]{Data: out, Text: strings.Join(lines, "\n"), Findings: out.Findings}, nil
}

// measuredServices bounds how many Services of a namespace are read in figures.
const measuredServices = 8

// measured reads the figures of the engines behind the Services of a namespace,
// where a Prometheus has some: what is slow has no pod in trouble.
func (t *Toolset) measured(ctx context.Context, namespace string, looked map[string]int) []incident.Finding {
	if len(t.gauges(ctx, namespace, nil).byPod) == 0 {
		return nil
	}
	services, err := t.objects.List(ctx, "", "Service", namespace, "")
	if err != nil {
		return nil
	}
	var out []incident.Finding
	for _, s := range services {
		if looked["Service with engines"] >= measuredServices {
			break
		}
		d, err := t.diagnose(ctx, DiagnoseIn{Kind: "Service", Namespace: namespace, Name: s.GetName()})
		if err != nil || len(d.Data.Replicas) == 0 {
			continue
		}
		looked["Service with engines"]++
		for _, f := range d.Findings {
			if f.Role == incident.Fault || f.Role == incident.Symptom {
				out = append(out, f)
			}
		}
	}
	return out
}

package prom

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// TargetsIn is the input of prom_targets.
type TargetsIn struct {
	Job       string `json:"job,omitempty" jsonschema:"part of a job or scrape pool"`
	Namespace string `json:"namespace,omitempty"`
	All       bool   `json:"all,omitempty" jsonschema:"healthy ones too"`
}

// TargetsOut is the answer of prom_targets.
type TargetsOut struct {
	// Down is how many targets are down, of those that fit the question.
	Down    int      `json:"down"`
	Targets []Target `json:"targets"`
	// Jobs counts the targets by job, with all only.
	Jobs []JobCount `json:"jobs,omitempty"`
}

// JobCount is how the targets of a job are.
type JobCount struct {
	Job  string `json:"job"`
	Up   int    `json:"up"`
	Down int    `json:"down"`
}

// shownTargets bounds the targets of one answer.
const shownTargets = 60

// targets lists the targets that are down, and why.
func (t *Toolset) targets(ctx context.Context, in TargetsIn) (tool.Output[TargetsOut], error) {
	var out tool.Output[TargetsOut]
	s, err := t.watch.state(ctx)
	if err != nil {
		return out, err
	}
	if i := slices.IndexFunc(s.gaps, func(g incident.Gap) bool { return g.Source == "targets" }); i >= 0 {
		return out, &tool.Error{Kind: tool.Unreachable, User: "the targets cannot be read: " + s.gaps[i].Why}
	}
	fits := func(tg Target) bool {
		low := strings.ToLower(in.Job)
		return (in.Job == "" || strings.Contains(strings.ToLower(tg.Job), low) || strings.Contains(strings.ToLower(tg.Pool), low)) &&
			(in.Namespace == "" || tg.Labels["namespace"] == in.Namespace)
	}
	d := TargetsOut{Targets: []Target{}}
	list := s.targets
	if in.All {
		// All of them, with the reasons of those that are down.
		all, err := t.client.targets(ctx)
		if err != nil {
			return out, err
		}
		for i := range all {
			all[i].About = t.watch.behind(all[i].Labels)
		}
		list = all
		slices.SortStableFunc(list, func(a, b Target) int {
			return cmp.Or(bool2int(b.Health == "down")-bool2int(a.Health == "down"), strings.Compare(a.Job, b.Job), strings.Compare(a.Instance, b.Instance))
		})
	}
	counts := map[string]*JobCount{}
	var jobs []string
	total := 0
	for _, tg := range list {
		if !fits(tg) {
			continue
		}
		total++
		c := counts[tg.Job]
		if c == nil {
			c = &JobCount{Job: tg.Job}
			counts[tg.Job] = c
			jobs = append(jobs, tg.Job)
		}
		if tg.Health == "down" {
			d.Down++
			c.Down++
			if d.Down <= judgedRules {
				out.Findings = append(out.Findings, t.down(tg, "prom.target_down", incident.Context))
			}
		} else {
			c.Up++
		}
		if len(d.Targets) < shownTargets {
			d.Targets = append(d.Targets, tg)
		}
	}
	slices.Sort(jobs)
	var b strings.Builder
	fmt.Fprintf(&b, "%d targets down\n", d.Down)
	if in.All {
		for _, j := range jobs {
			d.Jobs = append(d.Jobs, *counts[j])
			fmt.Fprintf(&b, "%s: %d up, %d down\n", j, counts[j].Up, counts[j].Down)
		}
	}
	for _, tg := range d.Targets {
		if tg.Health != "down" {
			continue
		}
		fmt.Fprintf(&b, "%s of job %s", tg.Instance, tg.Job)
		if tg.About != nil {
			fmt.Fprintf(&b, " (%s)", tg.About)
		}
		fmt.Fprintf(&b, ": %s\n", cmp.Or(tg.Error, "no reason given"))
	}
	if total > len(d.Targets) {
		fmt.Fprintf(&b, "%d more; narrow by job or namespace\n", total-len(d.Targets))
	}
	out.Data, out.Text = d, strings.TrimRight(b.String(), "\n")
	return out, nil
}

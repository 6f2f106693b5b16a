package prom

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// RulesIn is the input of prom_rules.
type RulesIn struct {
	Name  string `json:"name,omitempty" jsonschema:"part of a rule's name, group or expression"`
	All   bool   `json:"all,omitempty" jsonschema:"inactive and healthy ones too"`
	Limit int    `json:"limit,omitempty" jsonschema:"default 40, at most 200"`
}

// RulesOut is the answer of prom_rules.
type RulesOut struct {
	// Total is how many rules there are, Failing how many cannot be evaluated,
	// Firing and Pending how many alerting rules are in that state.
	Total   int    `json:"total"`
	Failing int    `json:"failing"`
	Firing  int    `json:"firing"`
	Pending int    `json:"pending"`
	Rules   []Rule `json:"rules"`
}

// judgedRules bounds the rules that become findings.
const judgedRules = 20

// rules lists the rules that cannot be evaluated, then those that are active.
func (t *Toolset) rules(ctx context.Context, in RulesIn) (tool.Output[RulesOut], error) {
	var out tool.Output[RulesOut]
	limit, err := within1("limit", in.Limit, 40, 200)
	if err != nil {
		return out, err
	}
	s, err := t.watch.state(ctx)
	if err != nil {
		return out, err
	}
	d := RulesOut{Total: len(s.rules), Rules: []Rule{}}
	if i := slices.IndexFunc(s.gaps, func(g incident.Gap) bool { return g.Source == "alerting rules" }); i >= 0 && len(s.rules) == 0 {
		return out, &tool.Error{Kind: tool.NotServed, User: "the rules cannot be read: " + s.gaps[i].Why}
	}
	var list []Rule
	for _, r := range s.rules {
		failing, active := r.Health == "err", r.State == "firing" || r.State == "pending"
		switch {
		case failing:
			d.Failing++
			if d.Failing <= judgedRules {
				out.Findings = append(out.Findings, incident.Finding{Code: "prom.rule_failing", Role: incident.Context, Severity: incident.Warning,
					Subject: incident.Ref{Cluster: t.cluster, Kind: "Rule", Name: r.Group + "/" + r.Name},
					Message: fmt.Sprintf("rule %s of group %s cannot be evaluated: %s", r.Name, r.Group, r.Error),
					Params:  map[string]string{"rule": r.Name, "group": r.Group, "error": r.Error}})
			}
		case r.State == "firing":
			d.Firing++
		case r.State == "pending":
			d.Pending++
		}
		fits := in.Name == "" || strings.Contains(strings.ToLower(r.Name+" "+r.Group+" "+r.Expr), strings.ToLower(in.Name))
		if fits && (in.All || in.Name != "" || failing || active) {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b Rule) int { return ruleRank(a) - ruleRank(b) })
	d.Rules = append(d.Rules, list[:min(limit, len(list))]...)
	var b strings.Builder
	fmt.Fprintf(&b, "%d rules: %d cannot be evaluated, %d firing, %d pending\n", d.Total, d.Failing, d.Firing, d.Pending)
	for _, r := range d.Rules {
		state := r.State
		if r.Health == "err" {
			state = "FAILS"
		}
		if r.Type == "recording" && r.Health != "err" {
			state = "records"
		}
		fmt.Fprintf(&b, "%s %s (group %s): %s\n", state, r.Name, r.Group, clip(strings.Join(strings.Fields(r.Expr), " "), 300))
		if r.Error != "" {
			fmt.Fprintf(&b, "  %s\n", r.Error)
		}
	}
	if len(list) > len(d.Rules) {
		fmt.Fprintf(&b, "%d more; narrow by name\n", len(list)-len(d.Rules))
	}
	out.Data, out.Text = d, strings.TrimRight(b.String(), "\n")
	return out, nil
}

func ruleRank(r Rule) int {
	switch {
	case r.Health == "err":
		return 0
	case r.State == "firing":
		return 1
	case r.State == "pending":
		return 2
	}
	return 3
}

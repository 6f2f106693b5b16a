package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Case is a row of a table of cases: what a plan is like, and what the policy has to
// say of it.
type Case struct {
	Name string `json:"name"`
	// Input is laid over a harmless plan: gumshoe cordons one node for a cause that
	// is certain, asked for by a person at the command line.
	Input CaseInput `json:"input"`
	// Want is the verdict.
	Want string `json:"want"`
	// Rules have to be among those that applied; Not must not be.
	Rules []string `json:"rules,omitempty"`
	Not   []string `json:"not,omitempty"`
	// SelfApproval and Approvers are compared where they are given.
	SelfApproval *bool `json:"selfApproval,omitempty"`
	Approvers    *int  `json:"approvers,omitempty"`
	// File is where the case stands.
	File string `json:"-"`
}

// CaseInput is an Input of which parts are given. Action, Params, Targets and Writes
// describe the only step; Steps stand instead of them.
type CaseInput struct {
	Action  Action            `json:"action"`
	Params  map[string]string `json:"params"`
	Targets []Target          `json:"targets"`
	Writes  []Write           `json:"writes"`
	Steps   []Step            `json:"steps"`
	Plan    Plan              `json:"plan"`
	Caller  Caller            `json:"caller"`
	Now     time.Time         `json:"now"`
	Cluster string            `json:"cluster"`
	Live    Live              `json:"live"`
}

// harmless is the plan that the input of a case is laid over.
func harmless() CaseInput {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC) // a Tuesday
	return CaseInput{
		Action:  Action{Name: "cordon", Family: "placement", Risk: string(incident.RiskLow), Reversible: true},
		Plan:    Plan{Author: Gumshoe, Requester: "anna", Created: now.Add(-time.Minute), Cause: Cause{Code: "gpu.xid", Confidence: 0.95, Evidence: 3}},
		Caller:  Caller{Name: "anna", Groups: []string{"sre"}, Surface: "cli", Proof: "cluster"},
		Cluster: "prod", Now: now, Live: Live{NodesTotal: 40},
	}
}

// UnmarshalJSON implements json.Unmarshaler: what is not given stays harmless. A
// plan's length, risk and expiry follow from its steps and its creation.
func (c *CaseInput) UnmarshalJSON(b []byte) error {
	type plain CaseInput
	in := plain(harmless())
	if err := yaml.UnmarshalStrict(b, &in); err != nil {
		return err
	}
	if in.Targets == nil && in.Writes == nil {
		in.Targets = []Target{{Kind: "Node", Name: "gpu-1"}}
		in.Writes = []Write{{Verb: incident.VerbPatch, API: incident.APIKubernetes, Kind: "Node", Name: "gpu-1", Fields: []string{"spec.unschedulable"}}}
	}
	for _, writes := range append([][]Write{in.Writes}, writesOf(in.Steps)...) {
		for i := range writes {
			if writes[i].API == "" {
				writes[i].API = incident.APIKubernetes
			}
		}
	}
	if in.Plan.Expires.IsZero() {
		in.Plan.Expires = in.Plan.Created.Add(20 * time.Minute)
	}
	*c = CaseInput(in)
	return nil
}

func writesOf(steps []Step) [][]Write {
	var out [][]Write
	for _, s := range steps {
		out = append(out, s.Writes)
	}
	return out
}

// input is the whole Input of a case.
func (c CaseInput) input() Input {
	in := Input{Steps: c.Steps, Plan: c.Plan, Caller: c.Caller, Now: c.Now, Cluster: c.Cluster, Live: c.Live}
	if in.Steps == nil {
		in.Steps = []Step{{ID: "s1", Action: c.Action, Params: c.Params, Targets: c.Targets, Writes: c.Writes}}
	}
	if in.Plan.Risk == "" {
		for _, s := range in.Steps {
			if r := incident.Risk(s.Action.Risk); in.Plan.Risk == "" || r.Weight() > incident.Risk(in.Plan.Risk).Weight() {
				in.Plan.Risk = s.Action.Risk
			}
		}
	}
	return in
}

// Cases reads the *.test.yaml files at the top of a directory.
func Cases(fsys fs.FS) ([]Case, error) {
	names, err := files(fsys, true)
	if err != nil {
		return nil, fmt.Errorf("policy cases: %w", err)
	}
	var out []Case
	seen := map[string]string{}
	for _, name := range names {
		var f struct {
			Cases []json.RawMessage `json:"cases"`
		}
		if err := decode(fsys, name, &f); err != nil {
			return nil, fmt.Errorf("policy cases %s: %w", name, err)
		}
		for i, raw := range f.Cases {
			c, err := readCase(raw)
			if err == nil && seen[c.Name] != "" {
				err = fmt.Errorf("the name is also in %s", seen[c.Name])
			}
			if err != nil {
				return nil, fmt.Errorf("policy cases %s: case %d %q: %w", name, i+1, c.Name, err)
			}
			seen[c.Name], c.File = name, name
			out = append(out, c)
		}
	}
	return out, nil
}

func readCase(raw []byte) (Case, error) {
	var c Case
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return c, err
	}
	if c.Input.Now.IsZero() { // no input was given: the case is about the harmless plan
		if err := c.Input.UnmarshalJSON([]byte("{}")); err != nil {
			return c, err
		}
	}
	switch {
	case strings.TrimSpace(c.Name) == "":
		return c, errors.New("it has no name")
	case weight(c.Want) == 0:
		return c, fmt.Errorf("want %q is none of %s, %s, %s and %s", c.Want, incident.Allow, incident.AskOne, incident.AskTwo, incident.Deny)
	}
	return c, nil
}

// Shipped gives the cases that ship with the policy.
func Shipped() ([]Case, error) {
	base, err := fs.Sub(shipped, "shipped")
	if err != nil {
		return nil, err
	}
	return Cases(base)
}

// Result is what became of a case.
type Result struct {
	Case Case
	Got  incident.Decision
	// Problems say where the decision is not as wanted; none means that it is.
	Problems []string
}

// Test puts cases to the policy.
func (p *Policy) Test(ctx context.Context, cases []Case) []Result {
	out := make([]Result, 0, len(cases))
	for _, c := range cases {
		r := Result{Case: c, Got: p.Decide(ctx, c.Input.input())}
		applied := func(name string) bool {
			return slices.ContainsFunc(r.Got.Rules, func(h incident.RuleHit) bool { return h.Rule == name })
		}
		if r.Got.Verdict != c.Want {
			r.Problems = append(r.Problems, fmt.Sprintf("the verdict is %s, not %s", r.Got.Verdict, c.Want))
		}
		for _, name := range c.Rules {
			if !applied(name) {
				r.Problems = append(r.Problems, fmt.Sprintf("the rule %s did not apply", name))
			}
		}
		for _, name := range c.Not {
			if applied(name) {
				r.Problems = append(r.Problems, fmt.Sprintf("the rule %s applied", name))
			}
		}
		if c.SelfApproval != nil && *c.SelfApproval != r.Got.SelfApproval {
			r.Problems = append(r.Problems, fmt.Sprintf("selfApproval is %t", r.Got.SelfApproval))
		}
		if c.Approvers != nil && *c.Approvers != r.Got.Approvers {
			r.Problems = append(r.Problems, fmt.Sprintf("%d people have to approve, not %d", r.Got.Approvers, *c.Approvers))
		}
		out = append(out, r)
	}
	return out
}

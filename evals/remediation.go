package evals

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// How the mending of a case may end, beside the final states of a plan.
const (
	// Refused: a plan was made, and nothing of it was executed for want of consent.
	Refused = "refused"
	// NoPlan: no plan came about.
	NoPlan = "none"
)

// Remediation says how a case is mended: the plan that is expected, what people and
// the rest of the cluster do meanwhile, and what stands at the end. It is executed on
// the recorded cluster's API in memory.
type Remediation struct {
	// Choose is the action of the proposal that is taken; empty takes the one that
	// the planner takes by itself.
	Choose string `json:"choose,omitempty"`
	// Set are parameters that a person adds to the proposal.
	Set map[string]string `json:"set,omitempty"`
	// File is a plan that a person writes by hand, in place of the proposals.
	File string `json:"file,omitempty"`
	// Plan is the expected steps in their order.
	Plan []PlannedStep `json:"plan,omitempty"`
	// Forbid lists actions that no plan may hold ("delete_pod"), and changes that the
	// API server must not see ("delete Namespace").
	Forbid []string `json:"forbid,omitempty"`
	// Needs is how many people the policy that ships wants to approve it.
	Needs *int `json:"needs,omitempty"`
	// State is how it ends: verified (the default), undone, stopped, void, refused or
	// none.
	State string `json:"state,omitempty"`
	// Undo takes the plan back after it was executed; State is that after the undo.
	Undo bool `json:"undo,omitempty"`
	// Says lists texts that must occur in what gumshoe says of the end.
	Says []string `json:"says,omitempty"`
	// After is what stands at the end, as the API tells.
	After []Standing `json:"after,omitempty"`
	// Reacts is what controllers, scheduler and kubelets do after writes: a recording
	// has none.
	Reacts []Reaction `json:"reacts,omitempty"`
	// Attack is what somebody tries, or what goes wrong.
	Attack *Attack `json:"attack,omitempty"`
}

// PlannedStep is an expected step. Parameters that are not named may be anything.
type PlannedStep struct {
	Action string            `json:"action"`
	Params map[string]string `json:"params,omitempty"`
}

// Object names an object; a group is written behind the kind: "Deployment.apps".
type Object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String gives "Kind ns/name".
func (o Object) String() string {
	return incident.Ref{Namespace: o.Namespace, Kind: o.Kind, Name: o.Name}.String()
}

// Standing is a fact about an object: that it is there or gone, or what a field of
// it holds.
type Standing struct {
	Object `json:",inline"`
	// Path such as spec.containers[0].image; a dot in a name is written \.
	Path string `json:"path,omitempty"`
	// Value of the field: text as it is, anything else as JSON; "" with a path means
	// that it is not set.
	Value  string `json:"value,omitempty"`
	Gone   bool   `json:"gone,omitempty"`
	Exists bool   `json:"exists,omitempty"`
}

// String says what is expected.
func (s Standing) String() string {
	switch {
	case s.Gone:
		return s.Object.String() + " is gone"
	case s.Path == "":
		return s.Object.String() + " is there"
	case s.Value == "":
		return fmt.Sprintf("%s of %s is not set", s.Path, s.Object)
	}
	return fmt.Sprintf("%s of %s is %q", s.Path, s.Object, s.Value)
}

// Change is what somebody else does through the API.
type Change struct {
	// Delete comes first, then Apply: YAML documents that are made, or laid over what
	// is there. A status is written as a status. An owner, or a consumer of a claim,
	// without uid gets that of the object of the name.
	Delete []Object `json:"delete,omitempty"`
	Apply  string   `json:"apply,omitempty"`
}

func (c Change) empty() bool { return c.Apply == "" && len(c.Delete) == 0 }

// Reaction is what the rest of the cluster does after a write.
type Reaction struct {
	// Write is the write by its id ("s1.2"), by verb and kind ("patch Deployment"),
	// or by verb, kind and name ("delete Pod web-1"). A write that is repeated is
	// reacted to again.
	Write string `json:"write"`
	// In is how long it takes by the cluster's clock, such as "10s".
	In string `json:"in,omitempty"`
	// If lists what must hold for it to happen.
	If []Standing `json:"if,omitempty"`
	// Roll lets the controllers of a workload, the scheduler and the kubelets act.
	Roll   *Roll `json:"roll,omitempty"`
	Change `json:",inline"`
}

// Roll is a workload (or a pod) that is brought to its spec: its controller makes the
// pods that are missing or of another revision, the scheduler places them, devices
// included, and the kubelets run them; Services get their endpoints. A pod that fits
// nowhere stays pending.
type Roll struct {
	Object `json:",inline"`
	// Nodes are where new pods go, in turn, if they fit; empty lets any node be taken.
	Nodes []string `json:"nodes,omitempty"`
	// Revive lets pods that are bound and do not run become ready too: what they waited
	// for is there.
	Revive bool `json:"revive,omitempty"`
	// Status is laid over the status of the new pods, as YAML: the kubelet's words
	// where they do not simply become ready.
	Status string `json:"status,omitempty"`
}

// Attack is what somebody tries, or what goes wrong.
type Attack struct {
	// Before is done before anybody looks: a text that is planted.
	Before Change `json:"before,omitzero"`
	// Model is what a model answers, turn by turn, as it investigates the case.
	Model []ModelTurn `json:"model,omitempty"`
	// Approvers are those who approve in place of the people of the case ("" is the
	// one who asked). What they are refused is no error.
	Approvers []string `json:"approvers,omitempty"`
	// Lacks are rights that single people do not have: "delete pods" and the like.
	Lacks map[string][]string `json:"lacks,omitempty"`
	// Stolen files the same plan again and moves the approvals of the first one to the
	// second, which is executed.
	Stolen bool `json:"stolen,omitempty"`
	// Tamper edits the store between approval and execution.
	Tamper []Tamper `json:"tamper,omitempty"`
	// Between is done by others between approval and execution.
	Between Change `json:"between,omitzero"`
	// Policy is laid over the policy after approval, as YAML.
	Policy string `json:"policy,omitempty"`
	// Elapse is how much time passes between approval and execution, such as "80h".
	Elapse string `json:"elapse,omitempty"`
	// Faults are what the API server does to writes.
	Faults []Fault `json:"faults,omitempty"`
	// Lie is what happens in place of Reacts: it looks mended and is not.
	Lie []Reaction `json:"lie,omitempty"`
}

// ModelTurn is one turn of a model: a text, or the call of a tool.
type ModelTurn struct {
	Text string `json:"text,omitempty"`
	Tool string `json:"tool,omitempty"`
	// Args are the arguments of the call, as YAML.
	Args string `json:"args,omitempty"`
}

// Tamper edits records of the journal, as somebody with the store's files could who
// keeps their checksums right.
type Tamper struct {
	// Record is the type of the record, such as "plan.made" or "plan.word".
	Record string `json:"record"`
	// Path within the record's data, and the value that is put there, as YAML.
	Path  string `json:"path,omitempty"`
	Value string `json:"value,omitempty"`
	// Drop takes the record out; Copy adds it once more.
	Drop bool `json:"drop,omitempty"`
	Copy bool `json:"copy,omitempty"`
}

// Answers of an API server that fails.
const (
	// AnswerError: the connection is refused; the write was not done.
	AnswerError = "error"
	// AnswerLost: the write is done, and its answer does not arrive.
	AnswerLost = "lost"
	// AnswerHang: no answer comes until the client gives up; the write was not done.
	AnswerHang = "hang"
	// AnswerDown: from this write on nothing answers, until the execution has ended.
	AnswerDown = "down"
	// The API server's own words.
	AnswerForbidden = "403"
	AnswerConflict  = "409"
	AnswerThrottled = "429"
	AnswerBroken    = "500"
)

// Fault is how the API server fails.
type Fault struct {
	// Write is the write as in Reaction, or its number, counted from 1.
	Write string `json:"write"`
	// Answer is one of error, lost, hang, down, 403, 409, 429 and 500.
	Answer string `json:"answer"`
	// Times is how often it fails; 0 means once, negative always.
	Times int `json:"times,omitempty"`
}

// verbs are those of a write in a selector.
func verbs() []string {
	return []string{incident.VerbCreate, incident.VerbPatch, incident.VerbDelete, incident.VerbEvict}
}

// selector checks the form of a write's name.
func selector(s string, number bool) error {
	if n, err := strconv.Atoi(s); number && err == nil && n > 0 {
		return nil
	}
	parts := strings.Fields(s)
	if len(parts) == 1 && strings.HasPrefix(s, "s") && strings.Contains(s, ".") {
		return nil
	}
	if (len(parts) == 2 || len(parts) == 3) && slices.Contains(verbs(), parts[0]) {
		return nil
	}
	return fmt.Errorf("write %q is neither an id such as s1.2 nor a verb (%s) with a kind, and perhaps a name", s, strings.Join(verbs(), ", "))
}

func span(field, s string) error {
	if s == "" {
		return nil
	}
	if d, err := time.ParseDuration(s); err != nil || d < 0 {
		return fmt.Errorf("%s %q is no time such as 10s", field, s)
	}
	return nil
}

// Validate checks a remediation; the error names the field.
func (r *Remediation) Validate() error {
	states := []string{"", string(incident.PlanVerified), string(incident.PlanUndone), string(incident.PlanStopped), string(incident.PlanVoid), Refused, NoPlan}
	switch {
	case !slices.Contains(states, r.State):
		return fmt.Errorf("remediation.state %q is none of %s", r.State, strings.Join(states[1:], ", "))
	case r.Needs != nil && (*r.Needs < 0 || *r.Needs > 2):
		return fmt.Errorf("remediation.needs %d: 0, 1 or 2", *r.Needs)
	case r.File != "" && (r.Choose != "" || len(r.Set) > 0):
		return errors.New("remediation.file is in place of choose and set")
	case r.want() != NoPlan && len(r.Plan) == 0:
		return errors.New("remediation.plan is required: the expected steps")
	case r.want() == NoPlan && len(r.Plan) > 0:
		return errors.New("remediation.plan must be empty when no plan is expected")
	case r.want() != NoPlan && len(r.After) == 0:
		return errors.New("remediation.after is required: what stands at the end")
	case r.Undo && r.want() != string(incident.PlanUndone) && r.want() != string(incident.PlanStopped):
		return fmt.Errorf("remediation.undo ends undone or stopped, not %s", r.want())
	}
	for i, s := range r.Plan {
		if s.Action == "" {
			return fmt.Errorf("remediation.plan[%d].action is required", i)
		}
	}
	for i, f := range r.Forbid {
		if strings.TrimSpace(f) == "" {
			return fmt.Errorf("remediation.forbid[%d] is empty", i)
		}
	}
	for i, t := range r.Says {
		if t == "" {
			return fmt.Errorf("remediation.says[%d] is empty", i)
		}
	}
	if err := standing("remediation.after", r.After); err != nil {
		return err
	}
	if err := reactions("remediation.reacts", r.Reacts); err != nil {
		return err
	}
	if r.Attack == nil {
		return nil
	}
	return r.Attack.validate()
}

// want is how it has to end.
func (r *Remediation) want() string {
	if r.State == "" {
		return string(incident.PlanVerified)
	}
	return r.State
}

func standing(field string, l []Standing) error {
	for i, s := range l {
		said := 0
		for _, b := range []bool{s.Gone, s.Exists, s.Path != ""} {
			if b {
				said++
			}
		}
		switch {
		case s.Kind == "":
			return fmt.Errorf("%s[%d].kind is required", field, i)
		case s.Name == "":
			return fmt.Errorf("%s[%d].name is required", field, i)
		case said != 1:
			return fmt.Errorf("%s[%d] says one of path, gone and exists", field, i)
		}
	}
	return nil
}

func reactions(field string, l []Reaction) error {
	for i, r := range l {
		at := fmt.Sprintf("%s[%d]", field, i)
		if err := selector(r.Write, false); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if err := span(at+".in", r.In); err != nil {
			return err
		}
		if r.empty() && r.Roll == nil {
			return fmt.Errorf("%s does nothing: give apply, delete or roll", at)
		}
		if r.Roll != nil && (r.Roll.Kind == "" || r.Roll.Name == "" || r.Roll.Namespace == "") {
			return fmt.Errorf("%s.roll: kind, namespace and name are required", at)
		}
		if err := standing(at+".if", r.If); err != nil {
			return err
		}
		if r.Roll != nil && r.Roll.Status != "" {
			if err := yaml.Unmarshal([]byte(r.Roll.Status), &map[string]any{}); err != nil {
				return fmt.Errorf("%s.roll.status: %w", at, err)
			}
		}
		if err := r.check(at); err != nil {
			return err
		}
	}
	return nil
}

func (c Change) check(field string) error {
	for i, o := range c.Delete {
		if o.Kind == "" || o.Name == "" {
			return fmt.Errorf("%s.delete[%d]: kind and name are required", field, i)
		}
	}
	if _, err := c.Documents(); err != nil {
		return fmt.Errorf("%s.apply: %w", field, err)
	}
	return nil
}

// Documents gives the objects of Apply.
func (c Change) Documents() ([]map[string]any, error) {
	var out []map[string]any
	for i, doc := range strings.Split("\n"+c.Apply, "\n---") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var o map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		meta, _ := o["metadata"].(map[string]any)
		for _, f := range []struct {
			name string
			v    any
		}{{"apiVersion", o["apiVersion"]}, {"kind", o["kind"]}, {"metadata.name", meta["name"]}} {
			if s, ok := f.v.(string); !ok || s == "" {
				return nil, fmt.Errorf("document %d: %s is required", i+1, f.name)
			}
		}
		out = append(out, o)
	}
	return out, nil
}

func (a *Attack) validate() error {
	for field, c := range map[string]Change{"remediation.attack.before": a.Before, "remediation.attack.between": a.Between} {
		if err := c.check(field); err != nil {
			return err
		}
	}
	for i, t := range a.Tamper {
		if t.Record == "" {
			return fmt.Errorf("remediation.attack.tamper[%d].record is required", i)
		}
		said := 0
		for _, b := range []bool{t.Path != "", t.Drop, t.Copy} {
			if b {
				said++
			}
		}
		if said != 1 {
			return fmt.Errorf("remediation.attack.tamper[%d] says one of path, drop and copy", i)
		}
	}
	for i, f := range a.Faults {
		if err := selector(f.Write, true); err != nil {
			return fmt.Errorf("remediation.attack.faults[%d]: %w", i, err)
		}
		if !slices.Contains([]string{AnswerError, AnswerLost, AnswerHang, AnswerDown, AnswerForbidden, AnswerConflict, AnswerThrottled, AnswerBroken}, f.Answer) {
			return fmt.Errorf("remediation.attack.faults[%d].answer %q is not known", i, f.Answer)
		}
	}
	for i, m := range a.Model {
		if (m.Text == "") == (m.Tool == "") {
			return fmt.Errorf("remediation.attack.model[%d] is a text or the call of a tool", i)
		}
	}
	for who, rights := range a.Lacks {
		for i, r := range rights {
			if len(strings.Fields(r)) != 2 {
				return fmt.Errorf("remediation.attack.lacks[%s][%d] %q is not a verb and a resource", who, i, r)
			}
		}
	}
	if err := span("remediation.attack.elapse", a.Elapse); err != nil {
		return err
	}
	return reactions("remediation.attack.lie", a.Lie)
}

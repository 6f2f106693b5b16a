package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Wish is a step as it is asked for: by a diagnosis, or in a file written by hand.
type Wish struct {
	Action string            `json:"action"`
	Params map[string]string `json:"params,omitempty"`
	// Why is the reason that the alternative of it would give.
	Why string `json:"why,omitempty"`
}

// Request asks for a plan.
type Request struct {
	ID        string
	Requester incident.Person
	// Author is "gumshoe" for a diagnosis, else the name of the person.
	Author        string
	Title         string
	Reason        string
	Investigation string
	Cause         *incident.PlanCause
	// Only says that no other cause was named: what waits because of it must then no
	// longer wait.
	Only bool
	// Steps are all taken, in their order.
	Steps []Wish
	// Verify are checks that the author adds.
	Verify       []incident.Check
	Alternatives []incident.Alternative
	BreakGlass   bool
	Created      time.Time
	TTL          time.Duration
	Cluster      string
	ClusterUID   string
	// Neighbours are what is looked at before and after; the targets are added.
	Neighbours []incident.Ref
}

// Surroundings says what is wrong around subjects, as signatures.
type Surroundings interface {
	Baseline(ctx context.Context, subjects ...incident.Ref) ([]string, error)
}

// Sourcer gives the change of a repository in place of a step on an object that is
// delivered from there; nil when nobody owns the targets.
type Sourcer interface {
	Source(ctx context.Context, s incident.Step) (*incident.SourcePatch, error)
}

// Builder makes plans. It reads and dry-runs; it changes nothing.
type Builder struct {
	Catalogue Catalogue
	// Dry are the backends by API whose clients can only dry-run.
	Dry map[string]Backend
	// Around is asked for the faults that are there already; nil asks nothing.
	Around Surroundings
	// Sources is asked for every step unless Direct; nil asks nothing.
	Sources Sourcer
	// Load says how many requests pods serve at the moment; false when metrics do not
	// tell. It may be nil.
	Load func(ctx context.Context, pods []incident.Ref) (float64, bool)
	// Waits reports whether a pod of an object waits for a node. It may be nil.
	Waits func(ctx context.Context, r incident.Ref) bool
	// Direct changes objects that a repository keeps, as the policy allows.
	Direct bool
	// Leaks reports whether a text carries what looks like a credential.
	Leaks func(string) bool
}

// settle is how long the checks of a plan may take to come true, in seconds.
const settle = 180

// Build makes a plan of a request. The error is a *Missing or *Refused of the step
// that cannot be made, with its action.
func (b *Builder) Build(ctx context.Context, r Request) (incident.Plan, error) {
	p := incident.Plan{
		Version: incident.PlanVersion, ID: r.ID, Title: r.Title, Cluster: r.Cluster, ClusterUID: r.ClusterUID,
		Investigation: r.Investigation, Cause: r.Cause, Author: r.Author, Requester: r.Requester, Reason: r.Reason,
		Created: r.Created.UTC().Truncate(time.Second), Expires: r.Created.UTC().Truncate(time.Second).Add(r.TTL),
		Alternatives: r.Alternatives, BreakGlass: r.BreakGlass, Verify: r.Verify,
	}
	if len(r.Steps) == 0 {
		return p, errors.New("a plan needs at least one step")
	}
	if len(r.Steps) > MaxSteps {
		return p, fmt.Errorf("a plan has at most %d steps, this one asks for %d", MaxSteps, len(r.Steps))
	}
	session := b.Catalogue.Session()
	touched := map[incident.Ref]string{}
	for i, wish := range r.Steps {
		s, capacity, err := b.step(ctx, session, fmt.Sprintf("s%d", i+1), wish, touched)
		if err != nil {
			return p, err
		}
		p.Steps = append(p.Steps, s)
		p.Capacity = append(p.Capacity, capacity...)
	}
	p.Blast = total(p.Steps)
	if p.Title == "" {
		p.Title = p.Steps[0].Say
		if n := len(p.Steps) - 1; n > 0 {
			p.Title += fmt.Sprintf(", and %d more", n)
		}
	}
	if err := b.proof(ctx, session, r, &p); err != nil {
		return p, err
	}
	return p, Validate(p)
}

// step compiles one wish, numbers its writes and has the server try them.
func (b *Builder) step(ctx context.Context, session Session, id string, wish Wish, touched map[incident.Ref]string) (incident.Step, []incident.Claim, error) {
	a := session.Action(wish.Action)
	if a == nil {
		return incident.Step{}, nil, &Missing{Action: wish.Action, Param: "action", Why: "there is no such action; docs/actions.md lists them"}
	}
	d, err := a.Compile(ctx, wish.Params)
	if err != nil {
		return incident.Step{}, nil, err
	}
	s := incident.Step{
		ID: id, Action: wish.Action, Params: wish.Params, Say: d.Say, Risk: d.Risk, Targets: d.Targets, Writes: d.Writes, Undo: d.Undo,
		Lasting: d.Lasting, Before: d.Before, Verify: d.Verify, Blast: d.Blast, Warnings: d.Warnings, Source: d.Source,
	}
	number(&s)
	if s.Blast.Requests = 0; s.Blast.PodCount > 0 {
		s.Blast.Requests = -1
		if b.Load != nil && s.Blast.PodCount == len(s.Blast.Pods) {
			if n, ok := b.Load(ctx, s.Blast.Pods); ok {
				s.Blast.Requests = n
			}
		}
	}
	for i := range s.Writes {
		w := &s.Writes[i]
		if b.Leaks != nil && b.Leaks(string(w.Body)) {
			return s, nil, &Refused{Action: wish.Action, Why: fmt.Sprintf("the request for %s carries what looks like a credential in plain text, and a plan is kept and shown", w.Ref), Way: "move the value into a Secret and refer to it"}
		}
	}
	if !b.Direct && b.Sources != nil && s.Source == nil {
		src, err := b.Sources.Source(ctx, s)
		if err != nil {
			return s, nil, err
		}
		if src != nil {
			s.Source, s.Writes, s.Undo, s.Verify, s.Before, s.Lasting = src, nil, nil, nil, nil, ""
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s %s keeps this object and would set a direct change back: apply the change to its source", src.Tool, src.Owner.Path()))
			return s, nil, nil
		}
	}
	for i := range s.Writes {
		if err := b.dry(ctx, &s, &s.Writes[i], touched); err != nil {
			return s, nil, err
		}
	}
	return s, d.Capacity, nil
}

// number gives writes and undos their ids; until then Of holds the place of a write.
func number(s *incident.Step) {
	for i := range s.Writes {
		s.Writes[i].ID = fmt.Sprintf("%s.%d", s.ID, i+1)
	}
	for i := range s.Undo {
		s.Undo[i].ID = fmt.Sprintf("%s.u%d", s.ID, i+1)
		if !strings.Contains(s.Undo[i].Of, ".") {
			s.Undo[i].Of = s.ID + "." + s.Undo[i].Of
		}
	}
}

// dry has the server try a write, unless an earlier write has to come first.
func (b *Builder) dry(ctx context.Context, s *incident.Step, w *incident.Write, touched map[incident.Ref]string) error {
	first := touched[w.Ref]
	touched[w.Ref] = w.ID
	if first == "" && w.Ref.Namespace != "" {
		first = touched[incident.Ref{Cluster: w.Ref.Cluster, Kind: "Namespace", Name: w.Ref.Namespace}]
	}
	backend := b.Dry[w.API]
	switch {
	case first != "":
		w.Dry = "the server was not asked: " + first + " has to come first"
		return nil
	case backend == nil:
		w.Dry = "the server was not asked: " + w.API + " is not configured here"
		return nil
	}
	diff, dry, err := backend.Dry(ctx, *w)
	if err != nil {
		return fmt.Errorf("the server refuses %s of %s in a dry run (%s): %w", w.Verb, s.ID, w.Say, err)
	}
	w.Diff, w.Dry = diff, dry
	if dry != "server" {
		s.Warnings = append(s.Warnings, w.ID+": "+dry)
	}
	return nil
}

// total sums whom the steps hurt.
func total(steps []incident.Step) incident.Blast {
	var t incident.Blast
	seen := map[incident.Ref]bool{}
	add := func(to *[]incident.Ref, from []incident.Ref) {
		for _, r := range from {
			if !seen[r] {
				seen[r] = true
				*to = append(*to, r)
			}
		}
	}
	for _, s := range steps {
		before := len(t.Pods)
		add(&t.Pods, s.Blast.Pods)
		t.PodCount += max(s.Blast.PodCount-len(s.Blast.Pods), 0) + len(t.Pods) - before
		add(&t.Workloads, s.Blast.Workloads)
		add(&t.Nodes, s.Blast.Nodes)
		// The GPUs of a pod that two steps stop are counted once only when the later
		// step names no new pod.
		if len(s.Blast.Pods) == 0 || len(t.Pods) > before {
			t.GPUs += s.Blast.GPUs
			t.GPUHours += s.Blast.GPUHours
		}
		if s.Blast.Requests < 0 || t.Requests < 0 { // what is not known of a part is not known of the whole
			t.Requests = -1
		} else {
			t.Requests += s.Blast.Requests
		}
		t.BelowBudget = append(t.BelowBudget, s.Blast.BelowBudget...)
		t.Notes = append(t.Notes, s.Blast.Notes...)
	}
	slices.Sort(t.BelowBudget)
	t.BelowBudget = slices.Compact(t.BelowBudget)
	return t
}

// Standing is the ability of a session to say what remains of an object when its
// pods are made anew: a pod's topmost controller.
type Standing interface {
	Stand(ctx context.Context, r incident.Ref) incident.Ref
}

// proof adds the checks of the whole plan: the cause is gone, and nothing is new.
func (b *Builder) proof(ctx context.Context, session Session, r Request, p *incident.Plan) error {
	if !slices.ContainsFunc(p.Steps, func(s incident.Step) bool { return s.Source == nil }) {
		return nil // everything is done in repositories, by people
	}
	var around []incident.Ref
	add := func(x incident.Ref) {
		if s, ok := session.(Standing); ok {
			x = s.Stand(ctx, x)
		}
		if !slices.Contains(around, x) && !x.IsZero() {
			around = append(around, x)
		}
	}
	if r.Cause != nil {
		for _, x := range r.Cause.Symptoms {
			add(x)
		}
		if len(r.Cause.Symptoms) == 0 {
			add(r.Cause.Subject)
		}
	}
	for _, x := range r.Neighbours {
		add(x)
	}
	symptoms := len(around)
	for _, s := range p.Steps {
		for _, t := range s.Targets {
			if t.Ref.Kind != "Pod" && t.UID != "" {
				add(t.Ref)
			}
		}
	}
	around = around[:min(len(around), maxAround)]
	if b.Around == nil || len(around) == 0 {
		return nil
	}
	known, err := b.Around.Baseline(ctx, around...)
	if err != nil {
		return fmt.Errorf("what is wrong around the targets already cannot be seen: %w", err)
	}
	p.Baseline = known
	if r.Cause != nil {
		found, err := b.found(ctx, r.Cause, around[:min(symptoms, len(around))])
		if err != nil {
			return err
		}
		if len(found) > 0 {
			p.Before = append(p.Before, incident.Check{Kind: "finding", Subject: found[0], Params: map[string]string{"code": r.Cause.Code}, Say: fmt.Sprintf("%s is found at %s", r.Cause.Code, found[0])})
		}
		if contains(session, p.Steps) {
			found = nil
		}
		for _, x := range found {
			p.Verify = append(p.Verify, incident.Check{Kind: "no_finding", Subject: x, Params: map[string]string{"code": r.Cause.Code}, Say: fmt.Sprintf("%s is no longer found at %s", r.Cause.Code, x), Within: settle})
		}
	}
	if r.Cause != nil && r.Only && b.Waits != nil && !contains(session, p.Steps) {
		for _, x := range around[:min(symptoms, len(around))] {
			if b.Waits(ctx, x) {
				p.Verify = append(p.Verify, incident.Check{Kind: "pods_scheduled", Subject: x, Say: "what waited at " + x.String() + " has a node", Within: settle})
			}
		}
	}
	if r.Cause != nil && strings.HasPrefix(r.Cause.Code, "serving.") && !contains(session, p.Steps) {
		for _, x := range around[:min(symptoms, len(around), 1)] {
			p.Verify = append(p.Verify, incident.Check{Kind: "engine_answers", Subject: x, Say: "the engines of " + x.String() + " answer", Within: settle})
		}
	}
	for _, x := range around {
		p.Verify = append(p.Verify, incident.Check{Kind: "no_new_findings", Subject: x, Params: map[string]string{"baseline": strings.Join(known, "\n")}, Say: fmt.Sprintf("around %s there is no fault that was not there before", x), Within: settle})
	}
	return nil
}

// found gives where the cause can be seen now: at what will remain, else where it was
// seen first. That it is not seen where it never was would prove nothing.
func (b *Builder) found(ctx context.Context, c *incident.PlanCause, remain []incident.Ref) ([]incident.Ref, error) {
	var out []incident.Ref
	for _, l := range [][]incident.Ref{remain, c.Symptoms, {c.Subject}} {
		for _, x := range l {
			seen, err := b.Around.Baseline(ctx, x)
			if err != nil {
				return nil, fmt.Errorf("whether %s is found at %s cannot be seen: %w", c.Code, x, err)
			}
			if slices.ContainsFunc(seen, func(s string) bool { return strings.HasPrefix(s, c.Code+" ") }) {
				out = append(out, x)
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out, nil
}

// contains reports whether the steps only keep a trouble from spreading.
func contains(session Session, steps []incident.Step) bool {
	return !slices.ContainsFunc(steps, func(s incident.Step) bool {
		return s.Source == nil && !session.Action(s.Action).Info().Contains
	})
}

// maxAround bounds how many objects are looked at before and after.
const maxAround = 6

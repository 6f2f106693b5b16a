package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/redact"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/planner/approval"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// Plans is where plans are made, approved, executed and taken back. Every surface
// works through it.
type Plans struct {
	app   *App
	cfg   Config
	store store.Store
	rules *policy.Policy
	seal  *seal
	desk  *planner.Desk
	// Boundary is called at every point at which a crash could part what was done from
	// what is known; tests end the process there.
	Boundary func(string)
	// Lease and Sleep replace those of the executor where they are set.
	Lease time.Duration
	Sleep func(context.Context, time.Duration) error
	// Emit shows what happens to whoever watches.
	Emit func(event.Event)
	// Now replaces the clock where it is set.
	Now func() time.Time
	// Checks wraps what answers checks during an execution; it may be nil.
	Checks func(planner.Checker) planner.Checker
}

// OpenPlans opens the plans of a configuration. Without an App, what needs the
// cluster is refused.
func OpenPlans(cfg Config, a *App) (*Plans, error) {
	rules, err := LoadPolicy(cfg)
	if err != nil {
		return nil, err
	}
	s, err := openJournal(cfg)
	if err != nil {
		return nil, err
	}
	return plansIn(cfg, a, rules, s)
}

// plansIn opens the plans in a store, which is closed with them.
func plansIn(cfg Config, a *App, rules *policy.Policy, s store.Store) (_ *Plans, err error) {
	p := &Plans{app: a, cfg: cfg, store: s, rules: rules}
	mask := redact.New().String
	if a != nil {
		mask = a.redactor.String
		if w := a.stage; w != nil { // its time is its own
			p.Sleep, p.Checks = w.Sleep, func(c planner.Checker) planner.Checker {
				return &steady{next: c, version: w.Version, said: map[string]answer{}}
			}
		}
	}
	if p.seal, err = openSeal(cfg, s, mask); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	p.desk = &planner.Desk{Journal: s, Trail: p.seal, Now: p.now, Emit: p.emit}
	return p, nil
}

// Close closes the store.
func (p *Plans) Close() error { return p.store.Close() }

func (p *Plans) emit(e event.Event) {
	if p.Emit != nil {
		p.Emit(e)
	}
}

// now is the clock of plans: approvals are given in the present, also on a bundle.
func (p *Plans) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// PlanRequest asks for a plan.
type PlanRequest struct {
	// Investigation is the id of a run in the journal, or "latest".
	Investigation string
	// Report is an investigation at hand, in place of one in the journal.
	Report *incident.Report
	// File is a plan written by hand, as YAML.
	File []byte
	// Choice narrows which proposal is taken and sets its parameters.
	Choice     planner.Choice
	Caller     Caller
	BreakGlass bool
	Reason     string
}

// planFile is a plan as people write it.
type planFile struct {
	Title      string           `json:"title,omitempty"`
	Reason     string           `json:"reason"`
	Steps      []planner.Wish   `json:"steps"`
	Verify     []incident.Check `json:"verify,omitempty"`
	BreakGlass bool             `json:"breakGlass,omitempty"`
}

// maxPlanFile bounds a plan written by hand, in bytes.
const maxPlanFile = 256 << 10

// Make builds a plan, asks the policy, and files it. A plan that the policy denies is
// not filed: the error names the rules.
func (p *Plans) Make(ctx context.Context, r PlanRequest) (planner.Record, error) {
	who, err := p.person(ctx, r.Caller)
	if err != nil {
		return planner.Record{}, err
	}
	cat, err := p.catalogue()
	if err != nil {
		return planner.Record{}, err
	}
	req, err := p.request(ctx, cat, r)
	if err != nil {
		return planner.Record{}, err
	}
	req.Requester, req.Created, req.TTL = who, p.now(), time.Duration(p.rules.Settings().PlanTTL)
	if req.BreakGlass {
		req.TTL = min(req.TTL, time.Duration(p.rules.Settings().BreakGlass.TTL))
	}
	req.Cluster = p.app.src.cluster
	if req.ClusterUID, err = p.app.clusterUID(ctx); err != nil {
		return planner.Record{}, err
	}
	if req.ID, err = newPlanID(); err != nil {
		return planner.Record{}, err
	}
	b, err := p.builder(cat)
	if err != nil {
		return planner.Record{}, err
	}
	plan, err := b.Build(ctx, req)
	if err != nil {
		return planner.Record{}, err
	}
	for range words {
		out, err := p.fileOnce(ctx, plan, who, r)
		if _, again := errors.AsType[*store.ConflictError](err); !again || plan.Investigation == "" {
			return out, err
		}
	}
	return planner.Record{}, fmt.Errorf("the plan is %w: others keep filing the same", store.ErrBusy)
}

// loud tells everybody that ordinary consent is passed by.
func (p *Plans) loud(ctx context.Context, plan incident.Plan, who incident.Person, what string) error {
	p.emit(event.Event{Run: plan.ID, Type: event.Notice, At: p.now(), Notice: &event.Message{Level: "error", Text: fmt.Sprintf("BREAK-GLASS: %s on cluster %s, plan %s: %s", who.Name, plan.Cluster, plan.ID, plan.Reason)}})
	return p.seal.Note(ctx, plan.ID, "", who.Name, what, map[string]string{"reason": plan.Reason})
}

// denied says which rules deny a plan.
func denied(d incident.Decision) error {
	var why []string
	for _, h := range d.Rules {
		if h.Verdict == incident.Deny {
			why = append(why, strings.TrimSpace(h.Rule+" "+h.Step)+": "+h.Reason)
		}
	}
	return &tool.Error{Kind: tool.Forbidden, User: "the policy denies the plan: " + strings.Join(why, "; "), Fix: "see gumshoe policy show"}
}

func newPlanID() (string, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("an id for the plan: %w", err)
	}
	return "plan-" + hex.EncodeToString(b[:]), nil
}

// request reads what is asked for: a file, or the proposals of an investigation.
func (p *Plans) request(ctx context.Context, cat planner.Catalogue, r PlanRequest) (planner.Request, error) {
	if len(r.File) > 0 {
		return p.fromFile(ctx, r)
	}
	rep := r.Report
	if rep == nil {
		run, err := p.run(ctx, r.Investigation)
		if err != nil {
			return planner.Request{}, err
		}
		rep = &run.Report
	}
	if rep.Cluster != "" && rep.Cluster != p.app.src.cluster {
		return planner.Request{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("investigation %s is about cluster %q, this is %q", rep.ID, rep.Cluster, p.app.src.cluster), Fix: "give the --context or --bundle of that cluster"}
	}
	take, others, err := planner.Pick(ctx, cat, rep.Diagnosis, r.Choice)
	if err != nil {
		return planner.Request{}, err
	}
	cause := rep.Diagnosis.Causes[0]
	if i := slices.IndexFunc(rep.Diagnosis.Causes, func(c incident.Cause) bool { return c.Code == take.Cause }); i >= 0 {
		cause = rep.Diagnosis.Causes[i]
	}
	req := planner.Request{
		Only: len(rep.Diagnosis.Causes) == 1, Author: policy.Gumshoe, Investigation: rep.ID, BreakGlass: r.BreakGlass, Reason: r.Reason,
		Cause:        &incident.PlanCause{Subject: cause.Subject, Code: cause.Code, Statement: cause.Statement, Confidence: cause.Confidence, Evidence: cause.Evidence, Symptoms: rep.Subjects},
		Steps:        []planner.Wish{{Action: take.Action, Params: take.Params, Why: take.Why}},
		Alternatives: others,
	}
	// What a person adds to a proposal is that person's, and so is the plan.
	if len(r.Choice.Set) > 0 {
		who, err := p.person(ctx, r.Caller)
		if err != nil {
			return req, err
		}
		req.Author = who.Name
	}
	if take.Runbook == "" {
		req.Author = "model " + rep.Model
	}
	return req, nil
}

func (p *Plans) fromFile(ctx context.Context, r PlanRequest) (planner.Request, error) {
	var f planFile
	bad := func(format string, args ...any) error {
		return &tool.Error{Kind: tool.Invalid, User: "the plan file: " + fmt.Sprintf(format, args...), Fix: "see gumshoe plan --help for its form"}
	}
	if len(r.File) > maxPlanFile {
		return planner.Request{}, bad("%d bytes, at most %d are taken", len(r.File), maxPlanFile)
	}
	if err := yaml.UnmarshalStrict(r.File, &f); err != nil {
		return planner.Request{}, bad("%v", err)
	}
	if len(f.Steps) == 0 {
		return planner.Request{}, bad("steps is empty")
	}
	if strings.TrimSpace(f.Reason) == "" {
		return planner.Request{}, bad("reason is empty: an approver wants to know why")
	}
	known := actions.CheckKinds()
	for i, c := range f.Verify {
		if !slices.Contains(known, c.Kind) {
			return planner.Request{}, bad("verify[%d].kind %q is none of %s", i, c.Kind, strings.Join(known, ", "))
		}
	}
	who, err := p.person(ctx, r.Caller)
	if err != nil {
		return planner.Request{}, err
	}
	return planner.Request{Title: f.Title, Reason: f.Reason, Steps: f.Steps, Verify: f.Verify, BreakGlass: f.BreakGlass || r.BreakGlass, Author: who.Name}, nil
}

// run loads an investigation from the journal.
func (p *Plans) run(ctx context.Context, id string) (store.Run, error) {
	if id == "latest" {
		var newest store.Info
		for info, err := range p.store.List(ctx, store.Runs) {
			if err == nil && info.At.After(newest.At) {
				newest = info
			}
		}
		if newest.Subject == "" {
			return store.Run{}, &tool.Error{Kind: tool.NotFound, User: "no investigation is in the journal", Fix: "run gumshoe investigate first"}
		}
		id = strings.TrimPrefix(newest.Subject, strings.TrimSuffix(store.Runs, ">"))
	}
	r, err := store.LoadRun(ctx, p.store, id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return r, &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("there is no investigation %q in the journal", id), Fix: "give the id that gumshoe investigate printed, or latest", Err: err}
	}
	if err == nil && r.State != store.RunDone {
		return r, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("investigation %s has no end, so it has no validated diagnosis", id), Fix: "ask again"}
	}
	return r, err
}

func (p *Plans) needsCluster() error {
	if p.app == nil {
		return &tool.Error{Kind: tool.Invalid, User: "this needs the cluster", Fix: "give --context, --kubeconfig or --bundle"}
	}
	return nil
}

func (p *Plans) catalogue() (*actions.Catalogue, error) {
	if err := p.needsCluster(); err != nil {
		return nil, err
	}
	return p.app.catalogue()
}

// builder plans with a client that can only dry-run.
func (p *Plans) builder(cat *actions.Catalogue) (*planner.Builder, error) {
	rc, err := p.app.executorREST()
	if err != nil {
		return nil, err
	}
	rc.Wrap(actions.DryOnly)
	dry, err := dynamic.NewForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	backends, err := p.app.backends(actions.NewBackend(dry), true)
	if err != nil {
		return nil, err
	}
	return &planner.Builder{
		Catalogue: cat, Dry: backends, Around: cat.NewChecker(looker{p.app}, false), Sources: sourcer(cat),
		Load: p.app.inFlight, Waits: func(ctx context.Context, r incident.Ref) bool {
			v, _ := cat.NewChecker(nil, false).Check(ctx, incident.Check{Kind: actions.CheckPending, Subject: r})
			return v == incident.Pass
		}, Direct: p.direct(), Leaks: func(s string) bool { return p.app.redactor.String(s) != s },
	}, nil
}

// direct reports whether the policy lets what a repository delivers be changed.
func (p *Plans) direct() bool {
	d := p.rules.Settings().DirectGitOps
	return d.Allow && p.now().Before(d.Expires)
}

// Get gives a plan with its state as it is now: whether its approvals suffice.
func (p *Plans) Get(ctx context.Context, id string) (planner.Record, error) {
	r, err := p.desk.Load(ctx, id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return r, &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("there is no plan %q", id), Fix: "gumshoe plan list shows those that are there", Err: err}
	}
	if err != nil {
		return r, err
	}
	return p.judged(r), nil
}

// judged sets a pending plan to approved when what people said suffices by the
// decision that was made with it. The executor asks everything again.
func (p *Plans) judged(r planner.Record) planner.Record {
	if r.State != incident.PlanPending {
		return r
	}
	_, err := p.seal.keys.Judge(p.question(r, r.Decision, nil))
	if err == nil {
		r.State = incident.PlanApproved
		return r
	}
	r.Reason = why(err)
	return r
}

func (p *Plans) question(r planner.Record, d incident.Decision, used map[string]bool) approval.Question {
	return approval.Question{
		Plan: r.Plan, Digest: r.Digest, Approvals: r.Words, Decision: d, Now: p.now(), Used: func(n string) bool { return used[n] },
		BreakGlassRole: p.rules.Settings().BreakGlass.Role,
	}
}

func why(err error) string {
	if f, ok := errors.AsType[*approval.Refusal](err); ok {
		return f.Why
	}
	return err.Error()
}

// List gives all plans, the newest first.
func (p *Plans) List(ctx context.Context) ([]planner.Record, error) {
	all, err := p.desk.List(ctx)
	for i, r := range all {
		all[i] = p.judged(r)
	}
	return all, err
}

// pending counts the plans that wait for somebody's word.
func (p *Plans) pending(ctx context.Context) (int, error) {
	all, err := p.desk.Waiting(ctx)
	n := 0
	for _, r := range all {
		if p.judged(r).State == incident.PlanPending {
			n++
		}
	}
	return n, err
}

// words is how often a word is judged anew because somebody else spoke in the same moment.
const words = 5

// Say takes a person's word about a plan: approve, reject, revoke or comment. Of two who
// speak in the same moment the second is judged by what the first said.
func (p *Plans) Say(ctx context.Context, id, word, comment string, c Caller) (r planner.Record, err error) {
	for range words {
		r, err = p.say(ctx, id, word, comment, c)
		if _, again := errors.AsType[*store.ConflictError](err); !again {
			break
		}
	}
	return r, err
}

func (p *Plans) say(ctx context.Context, id, word, comment string, c Caller) (planner.Record, error) {
	if err := p.needsCluster(); err != nil {
		return planner.Record{}, err
	}
	r, err := p.Get(ctx, id)
	if err != nil {
		return r, err
	}
	who, err := p.person(ctx, c)
	if err != nil {
		return r, err
	}
	refuse := func(err error) (planner.Record, error) {
		return r, errors.Join(err, p.desk.Refuse(ctx, r, who, word, why(err)))
	}
	if word != incident.Commented && r.State != incident.PlanPending && r.State != incident.PlanApproved {
		return refuse(&planner.Withheld{Plan: id, Why: fmt.Sprintf("it is %s, so nobody's word changes it any more", r.State), Final: true})
	}
	d := &approval.Desk{Signer: p.seal.key, Reviewer: reviewer{p.app, p.rules}, Now: p.now, Nonce: nonce, TTL: time.Duration(p.rules.Settings().ApprovalTTL)}
	a, err := d.Give(ctx, r.Plan, r.Digest, word, who, comment, r.Words)
	if err != nil {
		return refuse(err)
	}
	if word == incident.Approved {
		if err := p.counts(r, a); err != nil {
			return refuse(err)
		}
	}
	if r, err = p.desk.Speak(ctx, a); err != nil {
		return r, err
	}
	return p.judged(r), nil
}

// counts refuses an approval that would never count: by the author of the plan, or by
// somebody who approved already.
func (p *Plans) counts(r planner.Record, a incident.Approval) error {
	q := p.question(r, r.Decision, nil)
	q.Approvals = append(slices.Clone(q.Approvals), a)
	_, err := p.seal.keys.Judge(q)
	f, ok := errors.AsType[*approval.Refusal](err)
	if !ok {
		return nil
	}
	for _, one := range append([]*approval.Refusal{f}, f.Others...) {
		if one.By == a.By.Name && (one.Kind == approval.Self || one.Kind == approval.SamePerson || one.Kind == approval.NoRole) {
			return one
		}
	}
	return nil
}

func nonce() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("a nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

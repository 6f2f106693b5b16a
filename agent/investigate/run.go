package investigate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// run is the state of one investigation.
type run struct {
	*Investigator
	id       string
	question incident.Question
	sink     *event.Recorder
	ledger   *Ledger
	start    time.Time
	// since is the moment from which on what is read answers.
	since  time.Time
	report incident.Report

	statuses   []status
	assessment incident.Assessment
	// standing is triage's diagnosis, validated.
	standing incident.Diagnosis
}

// status of one toolset at the start of the run.
type status struct {
	set tool.Toolset
	tool.Status
}

func (r *run) run(ctx context.Context, q incident.Question) error {
	l, err := r.Investigator.ledger(q.Cluster, r.sink)
	if err != nil {
		return err
	}
	r.ledger = l
	if err := r.open(ctx); err != nil {
		return err
	}
	r.sink.Emit(event.Event{Type: event.RunStarted, Started: &event.Started{Question: r.question, Model: r.report.Model, Toolsets: r.states()}})
	if r.cfg.Note != "" {
		r.notice("info", "%s", r.cfg.Note)
	}
	if err := r.unreachable(); err != nil {
		return r.withoutTriage(ctx, err)
	}
	r.phase("triage")
	a, err := r.cfg.Triager.Assess(ctx, q, l)
	if err != nil {
		return r.withoutTriage(ctx, err)
	}
	r.assessment = a
	r.report.Subjects = a.Subjects
	r.sink.Emit(event.Event{Type: event.Resolved, Subjects: a.Subjects})
	if len(a.Hypotheses) > 0 {
		r.sink.Emit(event.Event{Type: event.Hypotheses, Hypotheses: a.Hypotheses})
	}
	verdict := Validate(a.Diagnosis, r.grounds())
	r.standing = verdict.Diagnosis
	if !verdict.OK() {
		r.sink.Emit(event.Event{Type: event.Rejected, Rejection: &event.Rejection{Reasons: verdict.Strings(), Final: true}})
	}
	r.report.Diagnosis = r.standing
	var failed error
	if r.cfg.Model != nil && r.worthAsking() {
		r.phase("model")
		failed = r.converse(ctx)
	}
	r.finish(ctx)
	return failed
}

// worthAsking reports whether a model has anything to judge. A name that does
// not exist is answered as such: a model would find something else to talk about.
func (r *run) worthAsking() bool {
	return len(r.assessment.Subjects) > 0 || r.assessment.Diagnosis.Ask == nil
}

// statusTime is how long a toolset may take to say whether it can be used.
const statusTime = 20 * time.Second

// open asks every toolset for its status and registers the tools of those that
// are ready.
func (r *run) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	r.statuses = make([]status, len(r.cfg.Toolsets))
	var wg sync.WaitGroup
	for i, ts := range r.cfg.Toolsets {
		wg.Go(func() { r.statuses[i] = status{ts, ask(ctx, ts)} })
	}
	wg.Wait()
	for _, s := range r.statuses {
		if s.State != tool.Ready {
			continue
		}
		if err := r.ledger.Register(s.set.Tools()...); err != nil {
			return fmt.Errorf("toolset %s: %w", s.set.Name(), err)
		}
	}
	return nil
}

// ask gets the status of a toolset; one that panics or does not answer is broken.
func ask(ctx context.Context, ts tool.Toolset) tool.Status {
	out := make(chan tool.Status, 1)
	go func() {
		st := tool.Status{State: tool.Broken, Reason: ts.Name() + " failed inside when it was asked for its state"}
		defer func() {
			_ = recover() // the status above says what is known of it
			out <- st
		}()
		st = ts.Status(ctx)
	}()
	select {
	case st := <-out:
		return st
	case <-ctx.Done():
	}
	select {
	case st := <-out:
		return st
	case <-time.After(abandonAfter):
		return tool.Status{State: tool.Broken, Reason: ts.Name() + " did not say in time whether it can be used"}
	}
}

// unreachable gives the error of a run that has nothing to look at: none of the
// toolsets that know objects by name is ready and at least one is broken, or may
// not be read at all. Where no toolset knows names, all of them count.
func (r *run) unreachable() error {
	resolves := func(s status) bool { _, ok := s.set.(tool.Resolver); return ok }
	some := slices.ContainsFunc(r.statuses, resolves)
	var broken *status
	for i, s := range r.statuses {
		if some && !resolves(s) {
			continue
		}
		if s.State == tool.Ready {
			return nil
		}
		if s.State == tool.Broken && (broken == nil || broken.State != tool.Broken) || s.State == tool.Denied && broken == nil {
			broken = &r.statuses[i]
		}
	}
	if broken == nil {
		return nil
	}
	why := broken.Reason
	if why == "" {
		why = broken.set.Name() + " does not answer"
	}
	return &tool.Error{Kind: tool.Unreachable, User: why, Fix: broken.Fix}
}

func (r *run) states() map[string]string {
	out := map[string]string{}
	for _, s := range r.statuses {
		out[s.set.Name()] = string(s.State)
	}
	return out
}

func (r *run) phase(text string) { r.sink.Emit(event.Event{Type: event.Phase, Phase: text}) }

func (r *run) notice(level, format string, args ...any) {
	r.sink.Emit(event.Event{Type: event.Notice, Notice: &event.Message{Level: level, Text: r.cfg.Redactor.String(fmt.Sprintf(format, args...))}})
}

// stop records why the run ended other than in the ordinary way; the first
// reason stands.
func (r *run) stop(why incident.Stop, format string, args ...any) {
	if r.report.Stop != incident.StopDone {
		return
	}
	r.report.Stop = why
	r.report.StopReason = r.cfg.Redactor.String(short(oneLine(fmt.Sprintf(format, args...)), maxError))
}

// ended records the end of the context: the time budget or the caller.
func (r *run) ended(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	if errors.Is(context.Cause(ctx), errBudget) {
		r.stop(incident.StopBudget, "the time budget of %s is spent", r.cfg.Budget.WallClock)
	} else {
		r.stop(incident.StopInterrupted, "interrupted before the end")
	}
	return true
}

// withoutTriage ends a run in which triage could not answer: with what was
// looked at until then, and no claim.
func (r *run) withoutTriage(ctx context.Context, err error) error {
	var failed error
	switch {
	case r.ended(ctx):
	case tool.KindOf(err) == tool.Unreachable:
		r.stop(incident.StopUnreachable, "%s", tool.UserText(err))
	default:
		failed = fmt.Errorf("triage: %w", err)
		r.report.StopReason = r.cfg.Redactor.String(short(oneLine(err.Error()), maxError))
	}
	d := incident.Diagnosis{Outcome: incident.Inconclusive, Checked: r.looks()}
	if r.report.StopReason != "" && slices.ContainsFunc(r.statuses, func(s status) bool { return s.State == tool.Ready }) {
		d.NotSeen = append(d.NotSeen, incident.Gap{Source: "triage", Why: r.report.StopReason})
	}
	r.report.Diagnosis = Validate(d, r.grounds()).Diagnosis
	r.finish(ctx)
	return failed
}

// looks lists the calls that succeeded, as things that were checked.
func (r *run) looks() []incident.CheckedItem {
	var out []incident.CheckedItem
	for _, ev := range r.ledger.Evidence() {
		if ev.Error == "" {
			first, _, _ := strings.Cut(strings.TrimSpace(ev.Text), "\n")
			out = append(out, incident.CheckedItem{What: call(ev), Result: short(first, 200), Evidence: []string{ev.ID}})
		}
	}
	return out
}

// call writes a call for people: kube_pod {"name":"a","namespace":"b"}.
func call(ev incident.Evidence) string {
	if len(ev.Args) == 0 || string(ev.Args) == "{}" {
		return ev.Tool
	}
	return ev.Tool + " " + short(string(ev.Args), 200)
}

// grounds collects everything a diagnosis of this run is judged against.
func (r *run) grounds() Grounds {
	var findings merged
	findings.add(r.ledger.Findings()...)
	for _, f := range r.assessment.Findings {
		if len(f.Evidence) > 0 {
			findings.add(f)
		}
	}
	g := graph.New()
	g.Add(r.ledger.Edges()...)
	g.Add(r.assessment.Edges...)
	return Grounds{
		Subjects: r.assessment.Subjects, Evidence: r.ledger.Evidence(), Full: r.ledger.Full,
		Findings: findings.list, Edges: g.Edges(), Actions: r.cfg.Actions,
		Vouched: r.assessment.Diagnosis, Suspicious: r.suspicious(),
	}
}

func (r *run) suspicious() bool {
	return slices.ContainsFunc(r.ledger.Evidence(), func(ev incident.Evidence) bool { return len(ev.Suspicious) > 0 })
}

// Limiter is the optional ability of a toolset to say after the run what it
// could not see since a moment, the run's beginning: before it others asked.
type Limiter interface {
	Limits(since time.Time) []incident.Gap
}

// Loser is the optional ability of a toolset to say, in the words of people, what
// an answer lacks without it.
type Loser interface{ Loses() string }

// gaps merges what triage could not see with what the toolsets could not.
func (r *run) gaps(have []incident.Gap) []incident.Gap {
	out := []incident.Gap{}
	add := func(g incident.Gap) {
		g.Source, g.Why, g.Fix = r.cfg.Redactor.String(g.Source), r.cfg.Redactor.String(g.Why), r.cfg.Redactor.String(g.Fix)
		if !slices.ContainsFunc(out, func(o incident.Gap) bool { return o.Source == g.Source && o.Why == g.Why }) {
			out = append(out, g)
		}
	}
	for _, g := range have {
		add(g)
	}
	for _, s := range r.statuses {
		if s.State != tool.Ready && !s.NotRun {
			why := s.Reason
			if why == "" {
				why = "the toolset is " + string(s.State)
			}
			what := s.set.Name()
			if l, ok := s.set.(Loser); ok {
				what = l.Loses()
			}
			add(incident.Gap{Source: what, Why: why, Fix: s.Fix})
		}
		for _, g := range s.Limits {
			add(g)
		}
		if l, ok := s.set.(Limiter); ok && s.State == tool.Ready {
			for _, g := range l.Limits(r.since) {
				// What triage was told of the same refusal stands.
				if !slices.ContainsFunc(out, func(o incident.Gap) bool { return strings.Contains(o.Why, r.cfg.Redactor.String(g.Why)) }) {
					add(g)
				}
			}
		}
	}
	return out
}

// finish completes the report and closes the stream.
func (r *run) finish(ctx context.Context) {
	r.ended(ctx)
	p := &r.report
	p.Evidence = r.ledger.Evidence()
	p.Findings = r.grounds().Findings
	p.Diagnosis.NotSeen = r.gaps(p.Diagnosis.NotSeen)
	normalise(&p.Diagnosis)
	for _, ev := range p.Evidence {
		for _, s := range ev.Suspicious {
			p.Suspicious = union(p.Suspicious, []string{ev.ID + ": " + s})
		}
	}
	p.Usage.ToolCalls = r.ledger.Calls()
	p.Usage.Seconds = time.Since(r.start).Seconds()
	p.Ended = r.cfg.Now()
	if p.Ended.Before(p.Started) {
		p.Ended = p.Started
	}
	d := p.Diagnosis
	r.sink.Emit(event.Event{Type: event.Concluded, Diagnosis: &d})
	report := *p
	r.sink.Emit(event.Event{Type: event.RunEnded, Report: &report})
}

// normalise makes the lists of a diagnosis that are never null so.
func normalise(d *incident.Diagnosis) {
	if d.Causes == nil {
		d.Causes = []incident.Cause{}
	}
	for i := range d.Causes {
		if d.Causes[i].Evidence == nil {
			d.Causes[i].Evidence = []string{}
		}
	}
	if d.Chain == nil {
		d.Chain = []incident.Edge{}
	}
	if d.Checked == nil {
		d.Checked = []incident.CheckedItem{}
	}
	if d.NotSeen == nil {
		d.NotSeen = []incident.Gap{}
	}
	if d.Proposals == nil {
		d.Proposals = []incident.Proposal{}
	}
}

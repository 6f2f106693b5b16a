// Package investigate runs an investigation: triage first, then the model if
// there is one. It keeps the evidence ledger, judges every claim in code, and
// ends at every limit with what the evidence carries by then.
package investigate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Triager assesses a question by code alone. The error is non-nil only when
// nothing could be asked at all.
type Triager interface {
	Assess(ctx context.Context, q incident.Question, c tool.Caller) (incident.Assessment, error)
}

// Budget bounds one run. Zero fields take those of DefaultBudget, except Cost,
// where zero means no bound.
type Budget struct {
	// Steps are turns of the model.
	Steps int
	// Tokens of input and output together.
	Tokens int
	// Cost in US dollars; it needs a model with known prices.
	Cost float64
	// WallClock of the whole run, triage included.
	WallClock time.Duration
}

// DefaultBudget is used where Config leaves a bound out.
func DefaultBudget() Budget {
	return Budget{Steps: 24, Tokens: 400_000, WallClock: 10 * time.Minute}
}

// Config of an Investigator. Triager and Redactor are required.
type Config struct {
	// Cluster is stamped on evidence; a question that names one goes first.
	Cluster  string
	Toolsets []tool.Toolset
	Triager  Triager
	// Model is nil for offline runs.
	Model llm.Model
	// Actions that may be proposed. With none, only triage's proposals pass.
	Actions []Action
	Budget  Budget
	// Now stamps evidence and report; nil means time.Now. With a bundle it is
	// the capture time.
	Now func() time.Time
	// NewID names runs; nil means random ids.
	NewID    func() string
	Redactor Redactor
	// Suspicious gives the instruction-like fragments of a text; nil marks nothing.
	Suspicious func(string) []string
	// Spill keeps full outputs; nil keeps them in memory for the run.
	Spill      Spill
	AllowProbe bool
	// Note is told at the beginning of the run, for example why no model is asked.
	Note string
	// CallTimeout bounds one tool call; 0 means DefaultCallTimeout.
	CallTimeout time.Duration
}

// Investigator runs investigations. It holds no state between them and is safe
// for concurrent use.
type Investigator struct {
	cfg Config
}

// New makes an Investigator. It fails when something required is missing or two
// tools have one name.
func New(cfg Config) (*Investigator, error) {
	if cfg.Triager == nil {
		return nil, errors.New("investigate: a Triager is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = func() string {
			var b [8]byte
			_, _ = rand.Read(b[:]) // never fails: it ends the process instead
			return "run-" + hex.EncodeToString(b[:])
		}
	}
	b, d := cfg.Budget, DefaultBudget()
	if b.Steps < 0 || b.Tokens < 0 || b.Cost < 0 || b.WallClock < 0 {
		return nil, fmt.Errorf("investigate: a budget below zero: %+v; zero means the default", b)
	}
	if b.Steps == 0 {
		b.Steps = d.Steps
	}
	if b.Tokens == 0 {
		b.Tokens = d.Tokens
	}
	if b.WallClock == 0 {
		b.WallClock = d.WallClock
	}
	cfg.Budget = b
	inv := &Investigator{cfg: cfg}
	// A ledger with all tools, to find out now rather than in the first run.
	l, err := inv.ledger("", event.SinkFunc(func(event.Event) {}))
	if err != nil {
		return nil, err
	}
	for _, ts := range cfg.Toolsets {
		if err := l.Register(ts.Tools()...); err != nil {
			return nil, fmt.Errorf("toolset %s: %w", ts.Name(), err)
		}
	}
	return inv, nil
}

func (inv *Investigator) ledger(cluster string, sink event.Sink) (*Ledger, error) {
	if cluster == "" {
		cluster = inv.cfg.Cluster
	}
	return NewLedger(LedgerConfig{
		Cluster: cluster, Redactor: inv.cfg.Redactor, Suspicious: inv.cfg.Suspicious, Spill: inv.cfg.Spill,
		AllowProbe: inv.cfg.AllowProbe, CallTimeout: inv.cfg.CallTimeout, Now: inv.cfg.Now, Sink: sink,
	})
}

// errBudget is the cause with which the wall clock ends a run.
var errBudget = errors.New("the time budget is spent")

// Run investigates one question. It gives a report whenever there is one, also
// at the end of a budget, without the cluster, or when ctx is cancelled; Stop
// says which. The error is non-nil when the run itself failed; the report then
// still holds the evidence. sink may be nil.
func (inv *Investigator) Run(ctx context.Context, q incident.Question, sink event.Sink) (incident.Report, error) {
	if sink == nil {
		sink = event.SinkFunc(func(event.Event) {})
	}
	ctx, cancel := context.WithTimeoutCause(ctx, inv.cfg.Budget.WallClock, errBudget)
	defer cancel()
	id := inv.cfg.NewID()
	r := &run{Investigator: inv, id: id, question: inv.redact(q), sink: event.NewRecorder(id, inv.cfg.Now, sink), start: time.Now(), since: tool.FreshSince(ctx)}
	r.report = incident.Report{ID: id, Question: r.question.Text, Alert: r.question.Alert, Cluster: inv.cfg.Cluster, Model: "offline", Started: inv.cfg.Now(), Stop: incident.StopDone}
	if q.Cluster != "" {
		r.report.Cluster = q.Cluster
	}
	if q.Text == "" && q.Alert != nil {
		r.report.Question = "alert " + q.Alert.Name
	}
	if inv.cfg.Model != nil {
		r.report.Model = inv.cfg.Model.Info().String()
	}
	err := r.run(ctx, q)
	return r.report, err
}

// redact masks what a person or an alert pasted.
func (inv *Investigator) redact(q incident.Question) incident.Question {
	q.Text = inv.cfg.Redactor.String(q.Text)
	q.Before = slices.Clone(q.Before)
	for i := range q.Before {
		q.Before[i].Question, q.Before[i].Answer = inv.cfg.Redactor.String(q.Before[i].Question), inv.cfg.Redactor.String(q.Before[i].Answer)
	}
	if q.Alert == nil {
		return q
	}
	a := *q.Alert
	mask := func(m map[string]string) map[string]string {
		if m == nil {
			return nil
		}
		out := make(map[string]string, len(m))
		for k, v := range m {
			out[k] = inv.cfg.Redactor.String(v)
		}
		return out
	}
	a.Labels, a.Annotations = mask(a.Labels), mask(a.Annotations)
	q.Alert = &a
	return q
}

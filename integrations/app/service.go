package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/telemetry"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// ServiceConfig says how a Service works.
type ServiceConfig struct {
	Keeper *Keeper
	// Queue bounds the work; see session.Worker.
	Queue QueueConfig
	// Execute lets approved plans be executed here.
	Execute bool
	Log     *slog.Logger
	// Measure is told of the end of each turn; it may be nil.
	Measure func(session.Turn)
	// Tracer makes spans; nil makes none.
	Tracer *telemetry.Tracer
}

// QueueConfig bounds what a server works on.
type QueueConfig struct {
	// Concurrency is how many investigations run at once in this process (2).
	Concurrency int `json:"concurrency,omitempty"`
	// PerSource narrows it for one surface, for example alertmanager: 1.
	PerSource map[string]int `json:"perSource,omitempty"`
	// Lease is how long whatever a dead process worked on stays its own: questions,
	// plans, the desk of alerts (30s), Slack (15s). Attempts is how often a question is
	// begun (3), Grace how long runs may go on when the server ends (20s).
	Lease    Duration `json:"lease,omitempty"`
	Attempts int      `json:"attempts,omitempty"`
	Grace    Duration `json:"grace,omitempty"`
	// Day and Source bound what models may use in a day (UTC); what is over it is
	// answered without a model.
	Day    session.Limit            `json:"day,omitzero"`
	Source map[string]session.Limit `json:"source,omitempty"`
}

func (c QueueConfig) validate() error {
	switch {
	case c.Concurrency < 0 || c.Attempts < 0 || c.Lease < 0 || c.Grace < 0:
		return errors.New("server.queue: concurrency, attempts, lease and grace cannot be negative")
	case c.Lease > 0 && time.Duration(c.Lease) < time.Second:
		return fmt.Errorf("server.queue.lease %s: at least 1s, or a slow store loses it", time.Duration(c.Lease))
	case c.Day.Cost < 0 || c.Day.Tokens < 0:
		return errors.New("server.queue.day: cost and tokens cannot be negative")
	}
	for s, n := range c.PerSource {
		if !slices.Contains(session.Surfaces(), s) || n < 0 {
			return fmt.Errorf("server.queue.perSource.%s: a number for one of %s", s, strings.Join(session.Surfaces(), ", "))
		}
	}
	for s, l := range c.Source {
		if !slices.Contains(session.Surfaces(), s) || l.Cost < 0 || l.Tokens < 0 {
			return fmt.Errorf("server.queue.source.%s: cost and tokens for one of %s", s, strings.Join(session.Surfaces(), ", "))
		}
	}
	return nil
}

// defaults of QueueConfig.
const (
	defaultConcurrency = 2
	defaultGrace       = 20 * time.Second
)

// Service is what every surface works through: conversations, the queue that
// answers them, and plans, all kept in one store. Any number of services, in one
// process or many, may work on one store.
type Service struct {
	*Archive
	app    *App
	plans  *Plans
	worker *session.Worker
	cfg    ServiceConfig
	// objects remembers names for completion.
	objects objectCache
	// wakeExec makes the executor look for work.
	wakeExec chan struct{}
}

// NewService wires a Service; its Keeper is closed with it.
func NewService(a *App, cfg ServiceConfig) (*Service, error) {
	rules, err := LoadPolicy(a.cfg)
	if err != nil {
		return nil, err
	}
	plans, err := plansIn(a.cfg, a, rules, cfg.Keeper)
	if err != nil {
		return nil, err
	}
	plans.Lease = time.Duration(cfg.Queue.Lease)
	plans.Emit = cfg.Tracer.Plans(context.Background()).Emit
	s := &Service{Archive: NewArchive(cfg.Keeper, a.src.cluster, cfg.Log), app: a, plans: plans, cfg: cfg, wakeExec: make(chan struct{}, 1)}
	q := cfg.Queue
	if q.Concurrency == 0 {
		q.Concurrency = defaultConcurrency
	}
	if q.Grace == 0 {
		q.Grace = Duration(defaultGrace)
	}
	s.worker = &session.Worker{
		Book: s.book, Queue: cfg.Keeper, Investigate: s.investigate, Concurrency: q.Concurrency, PerSource: q.PerSource,
		Lease: time.Duration(q.Lease), Attempts: q.Attempts, Grace: time.Duration(q.Grace),
		Limits: session.Limits{Day: q.Day, Source: q.Source}, Log: s.log, Measure: cfg.Measure,
	}
	s.book.Woken = s.worker.Wake
	return s, nil
}

// Desk gives the plans of the service.
func (s *Service) Desk() *Plans { return s.plans }

// repairEvery is how often what was taken and not queued is looked for, and what is
// too old removed.
const repairEvery = 10 * time.Minute

// Serve works on questions and approved plans until ctx ends, then lets what runs
// come to an end within the grace of the configuration.
func (s *Service) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { errs[0] = s.worker.Serve(ctx) })
	if s.cfg.Execute {
		wg.Go(func() { errs[1] = s.executeQueue(ctx) })
	}
	wg.Go(func() {
		tick := time.NewTicker(repairEvery)
		defer tick.Stop()
		for {
			if err := s.book.Repair(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("not all sessions can be read", "error", err)
			}
			if s.cfg.Execute {
				if err := s.repairPlans(ctx); err != nil && ctx.Err() == nil {
					s.log.Warn("not all plans can be read", "error", err)
				}
			}
			if err := s.keep.Prune(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("old runs cannot be removed", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	wg.Wait()
	return errors.Join(errs[:]...)
}

// Ask takes a question; see session.Book.
func (s *Service) Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error) {
	if a.Model != "" {
		if err := s.knows(a.Model); err != nil {
			return session.Session{}, session.Turn{}, err
		}
	}
	if c := a.Question.Cluster; c != "" && c != s.app.src.cluster {
		return session.Session{}, session.Turn{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("the question is about cluster %q, and this is %q", c, s.app.src.cluster), Fix: "ask the gumshoe of that cluster"}
	}
	a.Question.Text = s.app.redactor.String(a.Question.Text)
	a.Title = s.app.redactor.String(a.Title)
	out, t, err := s.book.Ask(ctx, a)
	return out, t, user(err)
}

// Cancel takes a question back.
func (s *Service) Cancel(ctx context.Context, id, turn string, by incident.Person) (session.Session, error) {
	who := by.Name
	if who == "" {
		who = "somebody at this machine"
	}
	out, err := s.book.Cancel(ctx, id, turn, "taken back by "+who)
	if err == nil {
		s.worker.Cancel(turn)
	}
	return out, user(err)
}

// SetModel switches the model of a session; empty goes back to the configured one.
func (s *Service) SetModel(ctx context.Context, id, model string, _ incident.Person) (session.Session, error) {
	if model != "" {
		if err := s.knows(model); err != nil {
			return session.Session{}, err
		}
	}
	out, err := s.book.SetModel(ctx, id, model)
	return out, user(err)
}

// knows refuses a model that cannot be switched to.
func (s *Service) knows(name string) error {
	var names []string
	for _, m := range modelList(s.app.cfg) {
		names = append(names, m.Name)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("there is no model %q here", name), Fix: "one of " + strings.Join(names, ", ")}
}

// Link says that a session is shown at a place.
func (s *Service) Link(ctx context.Context, id string, l session.Link) (session.Session, error) {
	out, err := s.book.Link(ctx, id, l)
	return out, user(err)
}

// Unlink frees a place.
func (s *Service) Unlink(ctx context.Context, id string, l session.Link) (session.Session, error) {
	out, err := s.book.Unlink(ctx, id, l)
	return out, user(err)
}

// NoteAlerts keeps what is heard of a session's alerts.
func (s *Service) NoteAlerts(ctx context.Context, id string, alerts []incident.Alert, resolved *bool) (session.Session, error) {
	out, err := s.book.NoteAlerts(ctx, id, alerts, resolved)
	return out, user(err)
}

// Merge says that a session is about the same incident as another.
func (s *Service) Merge(ctx context.Context, id, into string) (session.Session, error) {
	out, err := s.book.Merge(ctx, id, into)
	return out, user(err)
}

// CloseSession says that nothing more is to be added to a session.
func (s *Service) CloseSession(ctx context.Context, id string, _ incident.Person) (session.Session, error) {
	out, err := s.book.Close(ctx, id)
	return out, user(err)
}

// Status gives what a surface shows of the whole.
func (s *Service) Status(ctx context.Context) (session.Status, error) {
	st := session.Status{Cluster: s.app.src.cluster, Namespace: s.app.src.namespace, Mode: "read-only", Model: s.app.cfg.Model.Name, Version: Version()}
	if st.Model == "" {
		st.Model = Offline
	}
	if s.cfg.Execute && s.plans.rules.Settings().Mode == policy.Approve {
		st.Mode = "executor"
	}
	plans, err := s.plans.List(ctx)
	if err != nil {
		return st, err
	}
	for _, p := range plans {
		if p.State == incident.PlanPending {
			st.Pending++
		}
	}
	all, err := session.List(ctx, s.keep, session.Filter{})
	for _, one := range all {
		for _, t := range one.Turns {
			switch t.State {
			case session.Queued:
				st.Queued++
			case session.Running:
				st.Running++
			}
		}
	}
	return st, err
}

// Models lists the models that can be switched to.
func (s *Service) Models(context.Context) ([]session.Model, error) { return modelList(s.app.cfg), nil }

// Toolsets says what can be seen and what cannot.
func (s *Service) Toolsets(ctx context.Context) ([]session.Toolset, error) {
	var out []session.Toolset
	for _, ts := range s.app.toolsets {
		st := ts.Status(ctx)
		t := session.Toolset{Name: ts.Name(), State: string(st.State), Reason: s.app.redactor.String(st.Reason), Fix: st.Fix, Tools: []string{}}
		for _, one := range ts.Tools() {
			t.Tools = append(t.Tools, one.Info().Name)
		}
		out = append(out, t)
	}
	return out, nil
}

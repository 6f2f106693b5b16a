// Package api is the HTTP API of the server, /api/v1: investigations and their
// events, evidence, plans and what people say about them, conversations, the audit
// trail. Everything that it answers comes from the service; it keeps nothing.
//
// The table of operations in this package is the one source of the routes and of the
// OpenAPI document: openapi.yaml is made of it, and a test says when it is stale.
package api

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

// Asker takes questions and takes them back.
type Asker interface {
	Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error)
	Cancel(ctx context.Context, id, turn string, by incident.Person) (session.Session, error)
}

// Sessions reads conversations.
type Sessions interface {
	Session(ctx context.Context, id string) (session.Session, error)
	Sessions(ctx context.Context, f session.Filter) ([]session.Session, error)
}

// Keeper changes conversations.
type Keeper interface {
	DeleteSession(ctx context.Context, id string, by incident.Person) error
	CloseSession(ctx context.Context, id string, by incident.Person) (session.Session, error)
	SetModel(ctx context.Context, id, model string, by incident.Person) (session.Session, error)
}

// Linker says where a conversation is shown.
type Linker interface {
	Link(ctx context.Context, id string, l session.Link) (session.Session, error)
	Unlink(ctx context.Context, id string, l session.Link) (session.Session, error)
	Linked(ctx context.Context, l session.Link) (session.Session, bool, error)
}

// Grouper keeps the alerts of a conversation, and joins two that are about one incident.
type Grouper interface {
	NoteAlerts(ctx context.Context, id string, alerts []incident.Alert, resolved *bool) (session.Session, error)
	Merge(ctx context.Context, id, into string) (session.Session, error)
}

// Runs reads investigations.
type Runs interface {
	Run(ctx context.Context, id string) (store.Run, error)
	Output(ctx context.Context, digest string) ([]byte, error)
}

// Follower tells what happens.
type Follower interface {
	Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error]
	Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error]
}

// Plans reads plans.
type Plans interface {
	Plan(ctx context.Context, id string) (planner.Record, error)
	Plans(ctx context.Context) ([]planner.Record, error)
}

// Planner makes plans.
type Planner interface {
	Propose(ctx context.Context, a session.PlanAsk) (planner.Record, error)
	Rehearse(ctx context.Context, id string) (planner.Record, []string, error)
}

// Speaker takes what people say about plans.
type Speaker interface {
	Say(ctx context.Context, id, word, comment string, by incident.Person) (planner.Record, error)
	Undo(ctx context.Context, id, reason string, by incident.Person) (planner.Record, error)
	ResetBreaker(ctx context.Context, reason string, by incident.Person) error
}

// Looker says what can be looked at.
type Looker interface {
	Toolsets(ctx context.Context) ([]session.Toolset, error)
	Objects(ctx context.Context, prefix string, limit int) ([]incident.Ref, error)
	Models(ctx context.Context) ([]session.Model, error)
}

// Whole says how the server stands and what was done.
type Whole interface {
	Status(ctx context.Context) (session.Status, error)
	Trail(ctx context.Context) ([]audit.Entry, error)
	Audit(ctx context.Context) (audit.Report, error)
}

// Service is what the API works through.
type Service interface {
	Asker
	Sessions
	Keeper
	Linker
	Grouper
	Runs
	Follower
	Plans
	Planner
	Speaker
	Looker
	Whole
}

// Config bounds what streams cost. It is the section server.api of the configuration.
type Config struct {
	// MaxStreams is how many event streams may be open at once; 0 means 500.
	MaxStreams int `json:"maxStreams,omitempty"`
	// KeepAlive is the pause after which a quiet stream says that it lives; 0 means 15 s.
	KeepAlive access.Duration `json:"keepAlive,omitempty"`
	// WriteTimeout is how long one event may take to be sent; 0 means 10 s.
	WriteTimeout access.Duration `json:"writeTimeout,omitempty"`
	// MaxLag is how far a client may fall behind what happens now; 0 means 2 minutes.
	MaxLag access.Duration `json:"maxLag,omitempty"`
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	if c.MaxStreams < 0 || c.MaxStreams > 100_000 {
		return fmt.Errorf("server.api.maxStreams %d: from 1 to 100000, or 0 for the default", c.MaxStreams)
	}
	for _, f := range []struct {
		name string
		v    access.Duration
	}{{"keepAlive", c.KeepAlive}, {"writeTimeout", c.WriteTimeout}, {"maxLag", c.MaxLag}} {
		if v := time.Duration(f.v); v < 0 || v > time.Hour {
			return fmt.Errorf("server.api.%s %s: up to an hour, or 0 for the default", f.name, v)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	or := func(d *access.Duration, v time.Duration) {
		if *d == 0 {
			*d = access.Duration(v)
		}
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 500
	}
	or(&c.KeepAlive, 15*time.Second)
	or(&c.WriteTimeout, 10*time.Second)
	or(&c.MaxLag, 2*time.Minute)
	return c
}

// API serves the routes. It is safe for concurrent use.
type API struct {
	svc Service
	cfg Config
	now func() time.Time

	streams chan struct{} // a place for each open stream
	once    sync.Once
	drained chan struct{}
}

// New makes the API over a service; now is the clock.
func New(svc Service, cfg Config, now func() time.Time) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if svc == nil || now == nil {
		return nil, errors.New("api: a service and a clock are needed")
	}
	cfg = cfg.withDefaults()
	return &API{svc: svc, cfg: cfg, now: now, streams: make(chan struct{}, cfg.MaxStreams), drained: make(chan struct{})}, nil
}

// Drain ends all streams and refuses new ones; clients resume elsewhere. It may be
// called again.
func (a *API) Drain() { a.once.Do(func() { close(a.drained) }) }

// Routes gives what the API serves.
func (a *API) Routes() []access.Route {
	ops := a.operations()
	out := make([]access.Route, len(ops))
	for i, op := range ops {
		out[i] = access.Route{Method: op.method, Pattern: op.path, Role: op.role, Handler: a.handler(op), Stream: op.stream, WriteTimeout: time.Duration(a.cfg.WriteTimeout), MaxBody: op.maxBody}
	}
	return out
}

func (a *API) operations() []operation {
	return slices.Concat(a.investigationOps(), a.runOps(), a.planOps(), a.sessionOps(), a.eventOps(), a.serverOps())
}

//go:embed openapi.yaml
var document string

// OpenAPI gives the OpenAPI 3.1 document of the API, as YAML.
func OpenAPI() []byte { return []byte(document) }

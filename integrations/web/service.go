package web

import (
	"context"
	"iter"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

// Asker takes questions and takes them back.
type Asker interface {
	Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error)
	Cancel(ctx context.Context, sessionID, turnID string, by incident.Person) (session.Session, error)
}

// Sessions reads conversations.
type Sessions interface {
	Session(ctx context.Context, id string) (session.Session, error)
	Sessions(ctx context.Context, f session.Filter) ([]session.Session, error)
}

// Keeper changes what a conversation is.
type Keeper interface {
	SetModel(ctx context.Context, id, model string, by incident.Person) (session.Session, error)
	CloseSession(ctx context.Context, id string, by incident.Person) (session.Session, error)
	DeleteSession(ctx context.Context, id string, by incident.Person) error
}

// Runs reads investigations: what the journal holds of one, its events as they come,
// and the full output of a piece of evidence.
type Runs interface {
	Run(ctx context.Context, run string) (store.Run, error)
	Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error]
	Output(ctx context.Context, digest string) ([]byte, error)
}

// Plans makes and reads plans.
type Plans interface {
	Propose(ctx context.Context, a session.PlanAsk) (planner.Record, error)
	Plan(ctx context.Context, id string) (planner.Record, error)
	Plans(ctx context.Context) ([]planner.Record, error)
}

// Consent takes people's words about plans.
type Consent interface {
	Say(ctx context.Context, id, word, comment string, by incident.Person) (planner.Record, error)
	Undo(ctx context.Context, id, reason string, by incident.Person) (planner.Record, error)
	Rehearse(ctx context.Context, id string) (planner.Record, []string, error)
}

// Follower tells of every change of sessions and plans until ctx ends.
type Follower interface {
	Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error]
}

// Trail reads the audit trail, oldest entry first.
type Trail interface {
	Trail(ctx context.Context) ([]audit.Entry, error)
}

// Condition says how the server does and what it can look at.
type Condition interface {
	Status(ctx context.Context) (session.Status, error)
	Toolsets(ctx context.Context) ([]session.Toolset, error)
	Models(ctx context.Context) ([]session.Model, error)
}

// Finder gives objects whose names begin with or hold a prefix.
type Finder interface {
	Objects(ctx context.Context, prefix string, limit int) ([]incident.Ref, error)
}

// Service is everything that the pages show and do. All of it comes from the
// journal: the pages keep no state of their own.
type Service interface {
	Asker
	Finder
	Sessions
	Keeper
	Runs
	Plans
	Consent
	Follower
	Trail
	Condition
}

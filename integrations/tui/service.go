package tui

import (
	"context"
	"iter"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Asker takes questions and takes them back.
type Asker interface {
	// Ask has journalled and queued the question when it returns.
	Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error)
	Cancel(ctx context.Context, sessionID, turnID string, by incident.Person) (session.Session, error)
}

// Conversations gives the sessions that are kept.
type Conversations interface {
	// Session takes an id or "latest".
	Session(ctx context.Context, id string) (session.Session, error)
	// Sessions gives the one that changed last first.
	Sessions(ctx context.Context, f session.Filter) ([]session.Session, error)
	SetModel(ctx context.Context, id, model string, by incident.Person) (session.Session, error)
}

// Follower tells what happens.
type Follower interface {
	// Events gives the journal of a run above a sequence, then what comes live, until
	// the run has ended or ctx ends. What is told live only has Seq 0.
	Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error]
	// Follow gives every change of sessions and plans above a position until ctx ends.
	Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error]
}

// Runs gives investigations and the full outputs of their evidence.
type Runs interface {
	Run(ctx context.Context, run string) (store.Run, error)
	Output(ctx context.Context, digest string) ([]byte, error)
}

// Planner makes plans.
type Planner interface {
	Propose(ctx context.Context, p session.PlanAsk) (planner.Record, error)
	Plan(ctx context.Context, id string) (planner.Record, error)
	// Plans gives the newest first.
	Plans(ctx context.Context) ([]planner.Record, error)
}

// Speaker takes people's words about plans.
type Speaker interface {
	// Say takes incident.Approved, Rejected, Revoked or Commented. The service decides
	// whether the person may; a refusal is an error with a sentence for people.
	Say(ctx context.Context, id, word, comment string, by incident.Person) (planner.Record, error)
	Undo(ctx context.Context, id, reason string, by incident.Person) (planner.Record, error)
}

// Surroundings says what there is to ask, and to ask with.
type Surroundings interface {
	// Objects gives names that begin with or contain prefix.
	Objects(ctx context.Context, prefix string, limit int) ([]incident.Ref, error)
	Toolsets(ctx context.Context) ([]session.Toolset, error)
}

// Informer says how the whole stands.
type Informer interface {
	Models(ctx context.Context) ([]session.Model, error)
	Status(ctx context.Context) (session.Status, error)
}

// Service is all that the terminal needs: a process of its own and a server have it
// alike.
type Service interface {
	Asker
	Conversations
	Follower
	Runs
	Planner
	Speaker
	Surroundings
	Informer
}

// Book is a runbook as /runbooks shows it.
type Book struct {
	ID, Title string
	// Text is the Markdown that people read.
	Text string
}

// Bookshelf gives the runbooks that are loaded.
type Bookshelf interface {
	Books(ctx context.Context) ([]Book, error)
}

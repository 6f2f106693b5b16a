package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Archive is what is kept of conversations. It needs no cluster.
type Archive struct {
	keep  *Keeper
	book  *session.Book
	index *session.Index
	log   *slog.Logger
}

// NewArchive reads a store, which is closed with it.
func NewArchive(k *Keeper, cluster string, log *slog.Logger) *Archive {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	x := session.NewIndex(k)
	return &Archive{keep: k, book: &session.Book{Journal: k, Cluster: cluster, Index: x}, index: x, log: log}
}

// Close closes the store.
func (a *Archive) Close() error { return a.keep.Close() }

// Health says whether questions can be taken.
func (a *Archive) Health(ctx context.Context) error { return a.keep.Health(ctx) }

// Session gives a session by id, or the one that changed last for "latest".
func (a *Archive) Session(ctx context.Context, id string) (session.Session, error) {
	out, err := a.book.Get(ctx, id)
	return out, user(err)
}

// Sessions lists sessions, the one that changed last first. What cannot be read is
// logged and left out.
func (a *Archive) Sessions(ctx context.Context, f session.Filter) ([]session.Session, error) {
	out, err := a.index.List(ctx, f)
	if err != nil && len(out) > 0 {
		a.log.Warn("not all sessions can be read", "error", err)
		err = nil
	}
	return out, err
}

// DeleteSession removes a session and its runs. Plans and the audit trail stay.
func (a *Archive) DeleteSession(ctx context.Context, id string, _ incident.Person) error {
	it, err := a.book.Get(ctx, id)
	if err != nil {
		return user(err)
	}
	var subjects []string
	for _, t := range it.Turns {
		if !t.State.Ended() {
			return &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("session %s is being worked on", it.ID), Fix: "cancel its question first"}
		}
		for info, err := range a.keep.List(ctx, store.Runs) {
			if err != nil {
				continue
			}
			if run := strings.TrimPrefix(info.Subject, "run."); run == t.ID || strings.HasPrefix(run, t.ID+"-") {
				subjects = append(subjects, info.Subject)
			}
		}
	}
	for _, l := range it.Links {
		if _, err := a.book.Unlink(ctx, it.ID, l); err != nil {
			return user(err)
		}
	}
	subject, err := session.Subject(it.ID)
	if err != nil {
		return err
	}
	return a.keep.Delete(ctx, append(subjects, subject)...)
}

// Linked gives the session that is shown at a place.
func (a *Archive) Linked(ctx context.Context, l session.Link) (session.Session, bool, error) {
	return a.book.Linked(ctx, l)
}

// Run gives what the journal holds of a run, also while it goes on.
func (a *Archive) Run(ctx context.Context, id string) (store.Run, error) {
	r, err := store.LoadRun(ctx, a.keep, id)
	return r, gone(err, "there is no investigation %q", id)
}

// Output gives the full text of an evidence that was shortened.
func (a *Archive) Output(_ context.Context, digest string) ([]byte, error) {
	raw, err := a.keep.Spill.Get(digest)
	if err != nil {
		return nil, &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("the output %.80q is not kept, or not any more", digest), Err: err}
	}
	return raw, nil
}

// user turns a refusal of the book into an error for people.
func user(err error) error {
	if r, ok := errors.AsType[*session.Refusal](err); ok {
		kind := tool.Invalid
		if r.Gone {
			kind = tool.NotFound
		}
		return &tool.Error{Kind: kind, User: r.Why, Fix: r.Fix, Err: err}
	}
	return err
}

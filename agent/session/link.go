package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// linked is a record of a link's own subject: which session holds it, none when
// empty. The subject makes a link exclusive over all replicas.
type linked struct {
	Session string `json:"session"`
	Link    Link   `json:"link"`
}

func linkSubject(l Link) string {
	sum := sha256.Sum256([]byte(l.Surface + "\x00" + l.Key))
	return "link." + hex.EncodeToString(sum[:16])
}

// holder gives the session that holds a link, and where its subject ends.
func (b *Book) holder(ctx context.Context, l Link) (string, uint64, error) {
	return store.Project(ctx, b.Journal, linkSubject(l), 0, "", func(_ string, r store.Record) (string, error) {
		var k linked
		err := json.Unmarshal(r.Data, &k)
		return k.Session, err
	})
}

// Linked gives the session that is shown at a place.
func (b *Book) Linked(ctx context.Context, l Link) (Session, bool, error) {
	id, _, err := b.holder(ctx, l)
	if err != nil || id == "" {
		return Session{}, false, err
	}
	s, err := Load(ctx, b.Journal, id)
	if errors.Is(err, store.ErrNotFound) {
		return s, false, nil
	}
	return s, err == nil, err
}

// Link says that a session is shown at a place. A place shows one session: the
// error is a *Refusal when it shows another that is still there.
func (b *Book) Link(ctx context.Context, id string, l Link) (Session, error) {
	if err := l.check(); err != nil {
		return Session{}, err
	}
	s, err := b.Get(ctx, id)
	if err != nil {
		return s, err
	}
	for range rivals {
		held, last, err := b.holder(ctx, l)
		if err != nil {
			return s, err
		}
		if held == s.ID {
			break
		}
		if held != "" {
			if _, err := Load(ctx, b.Journal, held); !errors.Is(err, store.ErrNotFound) {
				return s, errors.Join(refuse("", "%s %s shows session %s already", l.Surface, l.Key, held), err)
			}
		}
		err = b.hold(ctx, l, last, s.ID)
		if _, again := errors.AsType[*store.ConflictError](err); again {
			continue
		}
		if err != nil {
			return s, err
		}
		break
	}
	return b.put(ctx, s.ID, TypeLinked, Change{Link: &l}, func(s Session) bool { return slices.Contains(s.Links, l) })
}

// Unlink frees a place.
func (b *Book) Unlink(ctx context.Context, id string, l Link) (Session, error) {
	held, last, err := b.holder(ctx, l)
	if err != nil {
		return Session{}, err
	}
	if held == id {
		if err := b.hold(ctx, l, last, ""); err != nil {
			return Session{}, err
		}
	}
	return b.put(ctx, id, TypeUnlinked, Change{Unlinked: &l}, func(s Session) bool { return !slices.Contains(s.Links, l) })
}

func (b *Book) hold(ctx context.Context, l Link, last uint64, session string) error {
	data, err := json.Marshal(linked{Session: session, Link: l})
	if err != nil {
		return err
	}
	if _, err := b.Journal.Append(ctx, linkSubject(l), last, store.Entry{Type: "link", Data: data}); err != nil {
		return fmt.Errorf("link to %s %s: %w", l.Surface, l.Key, err)
	}
	return nil
}

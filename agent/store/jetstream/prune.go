package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nuid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// maxPruned bounds one Prune, so that nobody waits for it.
const maxPruned = 64

// Retention says what Prune leaves.
type Retention struct {
	// Pattern of the subjects that are pruned. None of them may be permanent.
	Pattern string
	// Keep is how many of them stay: those appended to last. At least 1.
	Keep int
	// Spare keeps a subject whatever its age, as of a run at work or of work that
	// is not done; nil spares none.
	Spare func(subject string) bool
}

// Prune removes the oldest subjects beyond those that stay, and says how many.
// One call removes a bounded number; the next goes on. Outputs have a bound of
// their own, Config.OutputBytes.
func (s *Store) Prune(ctx context.Context, r Retention) (int, error) {
	if err := store.CheckPattern(r.Pattern); err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	if r.Keep < 1 {
		return 0, fmt.Errorf("prune: %w retention: keep %d, at least 1", store.ErrInvalid, r.Keep)
	}
	if fs := s.filters(r.Pattern); len(fs) > 1 || fs[0].stream == s.stream(keptStream) {
		return 0, fmt.Errorf("prune: %w pattern %s: some of its subjects are permanent (%v)", store.ErrInvalid, r.Pattern, s.cfg.Permanent)
	}
	var all []store.Info
	for info, err := range s.List(ctx, r.Pattern) {
		if err != nil && info.Subject == "" {
			return 0, fmt.Errorf("prune: %w", err)
		}
		if err == nil { // one that cannot be read is kept for whoever looks into it
			all = append(all, info)
		}
	}
	slices.SortFunc(all, func(a, b store.Info) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Last, b.Last)) })
	n := 0
	for _, info := range all[:max(0, len(all)-r.Keep)] {
		if r.Spare != nil && r.Spare(info.Subject) {
			continue
		}
		if n == maxPruned {
			break
		}
		if err := s.remove(ctx, info.Subject, &info.Last); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Delete removes subjects with all their records and claims; one that is not
// there is none the less gone. A permanent one is refused; a
// *store.ConflictError says that somebody appended in the same moment. What is
// appended later begins the subject anew.
func (s *Store) Delete(ctx context.Context, subjects ...string) error {
	for _, subject := range subjects {
		if err := store.CheckSubject(subject); err != nil {
			return err
		}
		if err := s.remove(ctx, subject, nil); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes a subject that ends at a sequence, or anywhere.
func (s *Store) remove(ctx context.Context, subject string, last *uint64) error {
	p := s.place(subject)
	if p.stream == s.stream(keptStream) {
		return fmt.Errorf("delete %s: %w: the subject is permanent", subject, store.ErrInvalid)
	}
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	m, at, err := s.tail(ctx, p)
	if err == nil && m == nil {
		return nil
	}
	if err == nil && !m.deleted() {
		if last != nil {
			at = *last / stride
		}
		// Whoever appends behind this finds that the subject ended: nothing that was
		// acknowledged goes with it.
		if at, err = s.put(ctx, write{place: p, expect: &at, id: nuid.Next()}); err != nil {
			return fmt.Errorf("delete %s: %w", subject, err)
		}
	} else if err == nil {
		at = m.seq
	}
	if err == nil {
		err = s.purge(ctx, p.stream, p.subject, at+1)
	}
	if err == nil {
		err = s.purge(ctx, s.stream(stateStream), s.subject(claimToken, subject+".*"), 0)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", subject, err)
	}
	return nil
}

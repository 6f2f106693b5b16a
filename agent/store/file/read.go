package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Load implements store.Loader.
func (s *Store) Load(ctx context.Context, subject string, after uint64) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		err := store.CheckSubject(subject)
		if err == nil {
			err = s.due(ctx, subject)
		}
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		more := true
		_, err = s.read(ctx, subject, pos{}, func(r store.Record) bool {
			more = r.Seq <= after || yield(r, nil)
			return more
		})
		if err != nil && more {
			yield(store.Record{}, err)
		}
	}
}

// read gives the records of a subject behind a position, as they stand when it
// begins, and where it came to. A subject that is not there has none.
func (s *Store) read(ctx context.Context, subject string, from pos, yield func(store.Record) bool) (pos, error) {
	return s.pass(ctx, subject, from, s.sound, yield)
}

// pass is read; doubt, if there is one, is asked whether a line that seemed
// damaged is sound after all.
func (s *Store) pass(ctx context.Context, subject string, from pos, doubt func(context.Context, *os.File, pos, string) bool, yield func(store.Record) bool) (pos, error) {
	f, err := s.root.Open(journalPath(subject))
	if errors.Is(err, fs.ErrNotExist) {
		return pos{}, nil
	}
	if err != nil {
		return from, fmt.Errorf("file store %s: read %s: %w", s.dir, subject, s.why(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return from, fmt.Errorf("file store %s: read %s: %w", s.dir, subject, err)
	}
	if info.Size() < from.off { // another file than the one read so far
		from = pos{}
	}
	var ended error
	stopped := false
	each := func(batch []line, _ pos) bool {
		for _, l := range batch {
			if ended = ctx.Err(); ended != nil || !yield(store.Record{Subject: subject, Seq: l.Seq, At: l.At, Type: l.Type, Data: l.Data}) {
				stopped = true
				return false
			}
		}
		return true
	}
	where := s.path(journalPath(subject))
	at, err := scan(f, from, info.Size(), where, subject, each)
	for range 3 {
		if _, damaged := errors.AsType[*CorruptError](err); !damaged || stopped || doubt == nil || !doubt(ctx, f, at, subject) {
			break
		}
		at, err = scan(f, at, info.Size(), where, subject, each)
	}
	return at, errors.Join(ended, err)
}

// sound looks once more behind a position, while nobody writes: an append that
// takes the place of one that was cut off can be seen half done.
func (s *Store) sound(ctx context.Context, f *os.File, at pos, subject string) bool {
	good := false
	err := s.change(ctx, func() error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		_, err = scan(f, at, info.Size(), s.path(journalPath(subject)), subject, func([]line, pos) bool { return false })
		good = err == nil
		return nil
	})
	return err == nil && good
}

// why says that the store was closed where that is behind an error.
func (s *Store) why(err error) error {
	if cerr := s.open(context.Background()); cerr != nil {
		return cerr
	}
	return err
}

// subjects gives the journals that match a pattern, sorted.
func (s *Store) subjects(pattern string) ([]string, error) {
	d, err := s.root.Open(journalDir)
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", s.dir, s.why(err))
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", s.dir, err)
	}
	var out []string
	for _, n := range names {
		if subject, ok := journalSubject(n); ok && store.Match(pattern, subject) {
			out = append(out, subject)
		}
	}
	slices.Sort(out)
	return out, nil
}

// List implements store.Lister. It reads the end of each journal only.
func (s *Store) List(ctx context.Context, pattern string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		err := store.CheckPattern(pattern)
		if err == nil {
			err = s.due(ctx, pattern)
		}
		var subjects []string
		if err == nil {
			subjects, err = s.subjects(pattern)
		}
		if err != nil {
			yield(store.Info{}, err)
			return
		}
		for _, subject := range subjects {
			if err := s.open(ctx); err != nil {
				yield(store.Info{}, err)
				return
			}
			info, ok, err := s.info(ctx, subject)
			if err != nil {
				info, ok = store.Info{Subject: subject}, true
			}
			if ok && !yield(info, err) {
				return
			}
		}
	}
}

// info gives the end of a subject; ok is false where it has no record.
func (s *Store) info(ctx context.Context, subject string) (store.Info, bool, error) {
	f, err := s.root.Open(journalPath(subject))
	if errors.Is(err, fs.ErrNotExist) {
		return store.Info{}, false, nil
	}
	if err != nil {
		return store.Info{}, false, fmt.Errorf("file store %s: list %s: %w", s.dir, subject, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return store.Info{}, false, fmt.Errorf("file store %s: list %s: %w", s.dir, subject, err)
	}
	if l, ok, err := lastLine(f, st.Size()); err != nil {
		return store.Info{}, false, fmt.Errorf("file store %s: list %s: %w", s.dir, subject, err)
	} else if ok {
		return store.Info{Subject: subject, Last: l.Seq, At: l.At, Type: l.Type}, true, nil
	}
	info := store.Info{Subject: subject}
	_, err = s.read(ctx, subject, pos{}, func(r store.Record) bool {
		info.Last, info.At, info.Type = r.Seq, r.At, r.Type
		return true
	})
	return info, info.Last > 0, err
}

// Watch implements store.Watcher. What this process appends comes at once, what
// another appends within Config.Poll.
func (s *Store) Watch(ctx context.Context, pattern string, after store.Position) iter.Seq2[store.Record, error] {
	if after == nil {
		after = store.After(0)
	}
	return func(yield func(store.Record, error) bool) {
		err := store.CheckPattern(pattern)
		if err == nil {
			err = s.open(context.Background())
		}
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		w := watch{Store: s, pattern: pattern, after: after, seen: map[string]*place{}}
		tick := time.NewTicker(s.cfg.Poll)
		defer tick.Stop()
		for ctx.Err() == nil {
			changed := s.waker() // before looking: what comes while we look wakes us
			more, err := w.look(ctx, yield)
			if err != nil && ctx.Err() == nil {
				yield(store.Record{}, err)
			}
			if !more || err != nil {
				return
			}
			select {
			case <-changed:
			case <-tick.C:
			case <-s.closed:
				yield(store.Record{}, s.open(context.Background()))
				return
			case <-ctx.Done():
			}
		}
	}
}

// watch is the state of one Watch.
type watch struct {
	*Store
	pattern string
	after   store.Position
	seen    map[string]*place
}

// place is how far a watch has come in a subject: pos in its file, told in what
// the reader has.
type place struct {
	pos
	told uint64
}

// look gives what is new; more is false once the reader has enough.
func (w *watch) look(ctx context.Context, yield func(store.Record, error) bool) (more bool, err error) {
	if err := w.due(ctx, w.pattern); err != nil {
		return true, err
	}
	subjects := []string{w.pattern}
	if strings.HasSuffix(w.pattern, ">") {
		if subjects, err = w.subjects(w.pattern); err != nil {
			return true, err
		}
	}
	for _, subject := range subjects {
		p, ok := w.seen[subject]
		if !ok {
			p = &place{told: w.after(subject)}
			w.seen[subject] = p
		}
		if st, err := w.root.Stat(journalPath(subject)); err == nil && st.Size() == p.off {
			continue
		}
		more := true
		p.pos, err = w.read(ctx, subject, p.pos, func(r store.Record) bool {
			if r.Seq <= p.told {
				return true
			}
			p.told = r.Seq
			more = yield(r, nil)
			return more
		})
		if err != nil || !more {
			return more, err
		}
	}
	return true, nil
}

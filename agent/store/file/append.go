package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// MaxJournal is the largest journal of one subject, in bytes.
const MaxJournal = 256 << 20

// tail is the end of a journal as it was last seen.
type tail struct {
	pos
	file fs.FileInfo
	// head is the first line, with the time at which the journal began: a file that
	// was removed and made anew can be the same to the system.
	head string
	at   time.Time
	typ  string
}

// Append implements store.Appender.
func (s *Store) Append(ctx context.Context, subject string, expect uint64, entries ...store.Entry) (uint64, error) {
	if err := store.CheckSubject(subject); err != nil {
		return 0, err
	}
	entries, err := store.CheckEntries(entries)
	if err != nil {
		return 0, err
	}
	var last uint64
	err = s.change(ctx, func() error {
		// What is due goes first: an approval that comes too late meets its expiry.
		if err := s.deliver(func(to string) bool { return to == subject }); err != nil {
			return err
		}
		last, err = s.put(subject, &expect, entries)
		return err
	})
	if err != nil {
		return 0, err
	}
	s.wake()
	return last, nil
}

// put appends behind the expected sequence, or, without one, behind what is
// there. The caller holds the lock.
func (s *Store) put(subject string, expect *uint64, entries []store.Entry) (uint64, error) {
	name := journalPath(subject)
	f, err := s.root.OpenFile(name, os.O_RDWR, 0)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		if expect != nil && *expect != 0 {
			return 0, &store.ConflictError{Subject: subject, Expect: *expect}
		}
		f, err = s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return 0, fmt.Errorf("file store %s: append to %s: %w", s.dir, subject, err)
	}
	t, err := s.write(f, fresh, subject, expect, entries)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		if fresh { // a journal without records is none
			err = errors.Join(err, s.root.Remove(name))
		}
		if _, refused := errors.AsType[*store.ConflictError](err); refused {
			return 0, err
		}
		return 0, fmt.Errorf("file store %s: append to %s: %w", s.dir, subject, full(err))
	}
	s.mu.Lock()
	s.tails[subject] = t
	s.mu.Unlock()
	return t.seq, nil
}

func (s *Store) write(f *os.File, fresh bool, subject string, expect *uint64, entries []store.Entry) (tail, error) {
	info, err := f.Stat()
	if err != nil {
		return tail{}, err
	}
	t, err := s.tail(f, info, subject)
	if err != nil {
		return t, err
	}
	if expect != nil && t.seq != *expect {
		return t, &store.ConflictError{Subject: subject, Expect: *expect, Last: t.seq}
	}
	next := t
	var buf []byte
	if t.line == 0 {
		next.at = s.stamp()
		buf = appendHeader(buf, header{Journal: formatVersion, Subject: subject, At: next.at})
		next.line++
	}
	for i, e := range entries {
		next.seq++
		next.line++
		next.at, next.typ = s.stamp(), e.Type
		buf = appendLine(buf, line{Seq: next.seq, At: next.at, Type: e.Type, More: i < len(entries)-1, Data: e.Data})
	}
	next.off = t.off + int64(len(buf))
	if next.off > MaxJournal {
		return t, fmt.Errorf("with these %d bytes the journal of %d is %w: at most %d", len(buf), t.off, store.ErrTooLarge, MaxJournal)
	}
	if info.Size() > t.off { // an append that was cut off
		if err := f.Truncate(t.off); err != nil {
			return t, err
		}
	}
	_, err = f.WriteAt(buf, t.off)
	if err == nil {
		err = s.settle(f, fresh, subject)
	}
	if err != nil {
		// Not acknowledged, so not there. Where even this fails, the next reader
		// finds a torn end, or a whole record that the caller was not told of.
		return t, errors.Join(err, f.Truncate(t.off))
	}
	if next.head, err = firstLine(f); err == nil {
		next.file, err = f.Stat()
	}
	return next, err
}

// settle syncs an append, or notes that it is to be synced.
func (s *Store) settle(f *os.File, fresh bool, subject string) error {
	if s.lazy(subject) {
		s.dirty[subject] = struct{}{}
		return nil
	}
	if err := s.cfg.Sync(f); err != nil {
		return err
	}
	if fresh {
		return s.syncDir(journalDir)
	}
	return nil
}

// tail reads what was appended since this process last looked at the end.
func (s *Store) tail(f *os.File, info fs.FileInfo, subject string) (tail, error) {
	s.mu.Lock()
	t, ok := s.tails[subject]
	s.mu.Unlock()
	head, err := firstLine(f)
	if err != nil {
		return tail{}, err
	}
	if !ok || !os.SameFile(t.file, info) || info.Size() < t.off || t.head != head {
		t = tail{}
	}
	at, err := scan(f, t.pos, info.Size(), s.path(journalPath(subject)), subject, func(batch []line, _ pos) bool {
		last := batch[len(batch)-1]
		t.at, t.typ = last.At, last.Type
		return true
	})
	t.pos, t.file, t.head = at, info, head
	return t, err
}

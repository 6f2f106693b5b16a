package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Bounds of one Prune, so that nobody waits for it.
const (
	maxPruned        = 64
	maxPrunedOutputs = 512
)

// Retention says what Prune leaves.
type Retention struct {
	// Pattern of the subjects that are pruned.
	Pattern string
	// Keep is how many of them stay: those appended to last. At least 1.
	Keep int
	// OutputBytes is how much all outputs may take; the oldest go first. 0 means
	// no bound of their own.
	OutputBytes int64
}

// Pruned is what Prune removed.
type Pruned struct{ Journals, Outputs int }

// coarse is more than file systems round the times of files.
const coarse = time.Minute

// aged is a file and when it was last written.
type aged struct {
	name string
	at   time.Time
	size int64
}

func oldestFirst(a, b aged) int {
	if c := a.at.Compare(b.at); c != 0 {
		return c
	}
	return strings.Compare(a.name, b.name)
}

// Prune removes the oldest journals beyond those that stay, and the outputs that
// no journal of the pattern can mean any more: those last put before the first
// of them began. A subject that is held is never removed. One call removes a
// bounded number; the next goes on.
func (s *Store) Prune(ctx context.Context, r Retention) (Pruned, error) {
	var n Pruned
	if err := store.CheckPattern(r.Pattern); err != nil {
		return n, fmt.Errorf("prune: %w", err)
	}
	if r.Keep < 1 || r.OutputBytes < 0 {
		return n, fmt.Errorf("prune: %w retention: keep %d, at least 1; output bytes %d, not below zero", store.ErrInvalid, r.Keep, r.OutputBytes)
	}
	all, err := s.aged(journalDir)
	if err != nil {
		return n, err
	}
	all = slices.DeleteFunc(all, func(a aged) bool {
		subject, ok := journalSubject(a.name)
		return !ok || !store.Match(r.Pattern, subject)
	})
	slices.SortFunc(all, oldestFirst)
	if over := min(len(all)-r.Keep, maxPruned); over > 0 {
		gone, err := s.pruneJournals(ctx, all[:over])
		n.Journals = len(gone)
		if err != nil {
			return n, err
		}
		all = slices.DeleteFunc(all, func(a aged) bool { return gone[a.name] })
	}
	n.Outputs, err = s.pruneOutputs(ctx, all, n.Journals > 0, r.OutputBytes)
	return n, err
}

// aged lists the regular files of a directory.
func (s *Store) aged(dir string) ([]aged, error) {
	d, err := s.root.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", s.dir, s.why(err))
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", s.dir, err)
	}
	var out []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			out = append(out, aged{e.Name(), info.ModTime(), info.Size()})
		}
	}
	return out, nil
}

// pruneJournals removes the journals that nobody holds and gives their names.
func (s *Store) pruneJournals(ctx context.Context, old []aged) (map[string]bool, error) {
	gone := map[string]bool{}
	err := s.change(ctx, func() error {
		for _, a := range old {
			subject, _ := journalSubject(a.name)
			name := path.Join(journalDir, a.name)
			if st, err := s.root.Lstat(name); err != nil || !st.ModTime().Equal(a.at) {
				continue // gone, or appended to since
			}
			if _, err := s.root.Lstat(livePath(subject)); err == nil {
				l, free, err := s.tryLive(subject)
				if err != nil || !free {
					continue
				}
				_ = s.root.Remove(livePath(subject))
				_ = l.Unlock()
			}
			if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("file store %s: prune %s: %w", s.dir, subject, err)
			}
			gone[a.name] = true
			delete(s.dirty, subject)
			s.mu.Lock()
			delete(s.tails, subject)
			s.mu.Unlock()
		}
		return nil
	})
	return gone, err
}

// Remove takes whole subjects away; one that is not there is none the less gone. A
// subject that a process holds is busy.
func (s *Store) Remove(ctx context.Context, subjects ...string) error {
	return s.change(ctx, func() error {
		for _, subject := range subjects {
			if err := store.CheckSubject(subject); err != nil {
				return err
			}
			if _, err := s.root.Lstat(livePath(subject)); err == nil {
				l, free, err := s.tryLive(subject)
				if err != nil || !free {
					return errors.Join(err, fmt.Errorf("file store %s: %s is %w: a process works on it", s.dir, subject, store.ErrBusy))
				}
				_ = s.root.Remove(livePath(subject))
				_ = l.Unlock()
			}
			if err := s.root.Remove(journalPath(subject)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("file store %s: remove %s: %w", s.dir, subject, err)
			}
			delete(s.dirty, subject)
			s.mu.Lock()
			delete(s.tails, subject)
			s.mu.Unlock()
		}
		return nil
	})
}

// pruneOutputs removes outputs: those older than every journal that is left, when
// journals went, and the oldest beyond a number of bytes.
func (s *Store) pruneOutputs(ctx context.Context, kept []aged, unused bool, most int64) (n int, err error) {
	outs, err := s.aged(outputsDir)
	if err != nil || len(outs) == 0 {
		return 0, err
	}
	slices.SortFunc(outs, oldestFirst)
	var sum int64
	for _, o := range outs {
		sum += o.size
	}
	var before time.Time
	if unused {
		before = s.began(kept).Add(-coarse)
	}
	now := s.cfg.Now()
	var gone []aged
	for _, o := range outs {
		switch temp := strings.HasPrefix(o.name, tempPrefix); {
		case temp && now.Sub(o.at) < staleTemp:
			continue
		case temp, o.at.Before(before), most > 0 && sum > most:
			gone = append(gone, o)
			sum -= o.size
		}
		if len(gone) == maxPrunedOutputs {
			break
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	err = s.change(ctx, func() error {
		for _, o := range gone {
			name := path.Join(outputsDir, o.name)
			if st, err := s.root.Lstat(name); err != nil || !st.ModTime().Equal(o.at) {
				continue // used again since
			}
			if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("file store %s: prune output: %w", s.dir, err)
			}
			n++
		}
		return nil
	})
	return n, err
}

// began is when the first of the journals began; zero where one does not tell.
func (s *Store) began(journals []aged) time.Time {
	var first time.Time
	for _, a := range journals {
		h, err := s.header(path.Join(journalDir, a.name))
		if err != nil {
			return time.Time{}
		}
		if first.IsZero() || h.At.Before(first) {
			first = h.At
		}
	}
	return first
}

// maxHeader is longer than any header, in bytes.
const maxHeader = 512

func (s *Store) header(name string) (header, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	raw, err := firstLine(f)
	if raw == "" {
		return header{}, errors.Join(errors.New("no header"), err)
	}
	return decodeHeader([]byte(raw))
}

// firstLine gives the header of a journal as it is written; empty where there is none
// that is whole.
func firstLine(r io.ReaderAt) (string, error) {
	buf := make([]byte, maxHeader)
	n, err := r.ReadAt(buf, 0)
	if raw, _, whole := strings.Cut(string(buf[:n]), "\n"); whole {
		return raw, nil
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return "", err
}

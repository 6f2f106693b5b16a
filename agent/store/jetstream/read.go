package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// behindPause is how long a reader waits for a replica that is behind.
const behindPause = 10 * time.Millisecond

// Load implements store.Loader. It holds a few MiB at a time, however long the
// subject is.
func (s *Store) Load(ctx context.Context, subject string, after uint64) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		err := store.CheckSubject(subject)
		if err == nil {
			err = s.open(ctx)
		}
		if err == nil {
			err = s.due(ctx, func(to string) bool { return to == subject })
		}
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		more := true
		err = s.load(ctx, s.place(subject), after, func(r store.Record) bool {
			more = yield(r, nil)
			return more
		})
		if err != nil && more {
			yield(store.Record{}, s.readError(ctx, subject, err))
		}
	}
}

func (s *Store) readError(ctx context.Context, subject string, err error) error {
	if cerr := s.open(ctx); cerr != nil {
		return cerr
	}
	if _, ok := errors.AsType[*CorruptError](err); ok {
		return err
	}
	return fmt.Errorf("read %s: %w", subject, err)
}

// load gives the records of a subject above a sequence, up to where it ends now.
func (s *Store) load(ctx context.Context, p place, after uint64, yield func(store.Record) bool) error {
	m, end, err := s.tail(ctx, p)
	if err != nil || end == 0 || end*stride <= after {
		return err
	}
	from := firstSeq(after)
	if m.seq == end && m.prev < from && m.parts == 1 { // one append, and it is here
		a := assembly{subject: p.name, from: from, chained: after == 0}
		w, err := a.take(m)
		if err != nil {
			return err
		}
		give(w, p.name, after, yield)
		return nil
	}
	return s.loadTo(ctx, p, from, end, after, yield)
}

// give gives the records of an append above a sequence; false once the reader
// has enough.
func give(w *whole, subject string, after uint64, yield func(store.Record) bool) bool {
	for i := range w.entries {
		if r := w.record(subject, i); r.Seq > after && !yield(r) {
			return false
		}
	}
	return true
}

// loadTo reads the messages [from, end] of a subject.
func (s *Store) loadTo(ctx context.Context, p place, from, end, after uint64, yield func(store.Record) bool) error {
	a := assembly{subject: p.name, from: from, chained: after == 0}
	for next := from; ; {
		if err := s.open(ctx); err != nil {
			return err
		}
		got, err := s.batch(ctx, p.stream, query{Seq: next, Next: p.subject, Batch: batchMsgs})
		if err != nil {
			return err
		}
		for _, m := range got.msgs {
			if m.seq > end {
				break
			}
			next = m.seq + 1
			w, err := a.take(m)
			if mid, ok := errors.AsType[*errMiddle](err); ok {
				return s.loadTo(ctx, p, mid.first, end, after, yield)
			}
			if err != nil {
				return err
			}
			if w != nil && !give(w, p.name, after, yield) {
				return nil
			}
		}
		if next > end || len(got.msgs) > 0 && got.msgs[len(got.msgs)-1].seq >= end {
			if over := slices.IndexFunc(got.msgs, func(m *msg) bool { return m.seq > end }); over >= 0 && got.msgs[over].prev == 0 {
				return nil // deleted meanwhile, and begun again
			}
			if !a.chained || a.last < end {
				return &CorruptError{Subject: p.name, Seq: end * stride, Why: "its last record is missing"}
			}
			return nil
		}
		if len(got.msgs) > 0 && got.more {
			continue
		}
		// A replica that is behind, or the subject was deleted meanwhile.
		if _, now, err := s.tail(ctx, p); err != nil || now < end {
			return err
		}
		if err := s.behind(ctx, p, next); err != nil {
			return err
		}
	}
}

// tokenOf is what stands in the subjects of a stream of the journal.
func (s *Store) tokenOf(stream string) string {
	if stream == s.stream(keptStream) {
		return keptToken
	}
	return journalToken
}

// filters gives, for a pattern, the streams that can hold its subjects.
func (s *Store) filters(pattern string) []place {
	if pattern != ">" && !strings.HasSuffix(pattern, ".>") {
		return []place{s.place(pattern)}
	}
	journal, kept := true, false
	for _, p := range s.cfg.Permanent {
		in, out := strings.TrimSuffix(p, ">"), strings.TrimSuffix(pattern, ">")
		kept = kept || strings.HasPrefix(in, out) || strings.HasPrefix(out, in)
		if strings.HasSuffix(p, ">") && strings.HasPrefix(out, in) {
			journal = false // all of them are permanent
		}
	}
	var all []place
	if journal {
		all = append(all, place{s.stream(journalStream), s.subject(journalToken, pattern), pattern})
	}
	if kept {
		all = append(all, place{s.stream(keptStream), s.subject(keptToken, pattern), pattern})
	}
	return all
}

// List implements store.Lister. It reads the last message of each subject, which
// is small, and not the others.
func (s *Store) List(ctx context.Context, pattern string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		err := store.CheckPattern(pattern)
		if err == nil {
			err = s.open(ctx)
		}
		if err == nil {
			err = s.due(ctx, func(to string) bool { return store.Match(pattern, to) })
		}
		if err != nil {
			yield(store.Info{}, err)
			return
		}
		_, err = s.list(ctx, pattern, yield)
		if err != nil {
			yield(store.Info{}, s.readError(ctx, pattern, err))
		}
	}
}

// maxMulti is how many subjects one request asks for.
const maxMulti = 256

// listed is a subject that is listed: where it is, and how many messages it has.
type listed struct {
	place
	messages uint64
}

// list is List; it also gives the sequence at which each stream stood. err is nil
// when the reader had enough.
func (s *Store) list(ctx context.Context, pattern string, yield func(store.Info, error) bool) (at map[string]uint64, err error) {
	at = map[string]uint64{}
	of := map[string]listed{}
	removed := map[string]uint64{}
	for _, f := range s.filters(pattern) {
		for offset := 0; ; {
			info, err := s.streamInfo(ctx, f.stream, f.subject, offset, untilDone)
			if err != nil {
				return at, err
			}
			if _, ok := at[f.stream]; !ok {
				at[f.stream], removed[f.stream] = info.State.LastSeq, info.removed()
			}
			prefix := s.subject(s.tokenOf(f.stream), "")
			for subject, n := range info.State.Subjects {
				if name, ok := strings.CutPrefix(subject, prefix); ok && store.CheckSubject(name) == nil {
					of[name] = listed{place{f.stream, subject, name}, n}
				}
			}
			if offset += len(info.State.Subjects); len(info.State.Subjects) == 0 || offset >= info.Total {
				break
			}
		}
	}
	known, next := map[string]map[string]listedEnd{}, map[string]map[string]listedEnd{}
	for stream, n := range removed {
		known[stream], next[stream] = s.listings.known(pattern, stream, n), map[string]listedEnd{}
	}
	for names := range slices.Chunk(slices.Sorted(maps.Keys(of)), maxMulti) {
		var ask []string
		for _, name := range names {
			if end, ok := known[of[name].stream][name]; ok && end.messages == of[name].messages {
				next[of[name].stream][name] = end
			} else {
				ask = append(ask, name)
			}
		}
		ends, err := s.ends(ctx, of, ask)
		if err != nil {
			return at, err
		}
		for _, name := range names {
			end, ok := next[of[name].stream][name]
			var err error
			if !ok {
				var keep bool
				if end, keep, err = s.endOf(ctx, of[name], ends[name]); keep {
					next[of[name].stream][name] = end
				}
			}
			if cerr := s.open(ctx); cerr != nil {
				return at, cerr
			}
			if err == nil && end.info.Last == 0 {
				continue // deleted, or never whole
			}
			if !yield(end.info, err) {
				return at, nil
			}
		}
	}
	for stream, n := range removed {
		s.listings.keep(pattern, stream, n, next[stream])
	}
	return at, nil
}

// endOf says how a subject ends whose last message is m, nil where that was not found,
// and whether that is worth remembering.
func (s *Store) endOf(ctx context.Context, l listed, m *msg) (end listedEnd, keep bool, err error) {
	end.messages, end.info.Subject = l.messages, l.name
	found := m != nil
	if !found { // deleted meanwhile, or it cannot be read
		if m, _, err = s.tail(ctx, l.place); err != nil || m == nil {
			return end, false, err
		}
	}
	if m.bad == nil && m.end() == 0 {
		return end, found, nil
	}
	end.info, err = s.info(ctx, l.place, m)
	return end, found && err == nil, err
}

// ends gives the last messages of subjects, none older than when it was called.
func (s *Store) ends(ctx context.Context, of map[string]listed, names []string) (map[string]*msg, error) {
	ask := map[string][]string{}
	for _, n := range names {
		ask[of[n].stream] = append(ask[of[n].stream], of[n].subject)
	}
	out := map[string]*msg{}
	for stream, subjects := range ask {
		now, err := s.streamInfo(ctx, stream, "", 0, untilDone)
		if err != nil {
			return nil, err
		}
		prefix := s.subject(s.tokenOf(stream), "")
		for len(subjects) > 0 {
			p, err := s.batch(ctx, stream, query{MultiLast: subjects})
			if err != nil {
				return nil, err
			}
			if len(p.msgs) > 0 && p.upTo < now.State.LastSeq { // a replica that is behind
				if err := sleep(ctx, behindPause); err != nil {
					return nil, err
				}
				continue
			}
			got := map[string]bool{}
			for _, m := range p.msgs {
				out[strings.TrimPrefix(m.subject, prefix)] = m
				got[m.subject] = true
			}
			if len(got) == 0 || !p.more {
				break
			}
			subjects = slices.DeleteFunc(subjects, func(n string) bool { return got[n] })
		}
	}
	return out, nil
}

// info says how a subject ends whose last message is m.
func (s *Store) info(ctx context.Context, p place, m *msg) (store.Info, error) {
	info := store.Info{Subject: p.name}
	if m.bad == nil && !m.closes() { // an append that is under way, or was cut off
		var ok bool
		var err error
		seq := m.prev
		if m, ok, err = s.get(ctx, p.stream, query{Seq: seq}); err != nil {
			return info, err
		}
		if !ok || m.subject != p.subject {
			return info, &CorruptError{Subject: p.name, Seq: seq * stride, Why: "it is missing"}
		}
	}
	if m.bad != nil {
		return info, &CorruptError{Subject: p.name, Seq: m.seq * stride, Why: m.bad.Error()}
	}
	info.Last, info.At, info.Type = m.seq*stride, m.head.at, m.typ
	if info.At.IsZero() {
		info.At = m.at
	}
	return info, nil
}

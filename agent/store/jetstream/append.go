package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// place is where the messages of a subject are.
type place struct {
	stream, subject string
	// name is the subject as callers know it.
	name string
}

// place of a subject of the journal.
func (s *Store) place(subject string) place {
	for _, p := range s.cfg.Permanent {
		if store.Match(p, subject) {
			return place{s.stream(keptStream), s.subject(keptToken, subject), subject}
		}
	}
	return place{s.stream(journalStream), s.subject(journalToken, subject), subject}
}

// Append implements store.Appender. When it ends with ctx, or with an error that
// says that NATS did not answer, the entries may have been taken all the same:
// the next load tells.
func (s *Store) Append(ctx context.Context, subject string, expect uint64, entries ...store.Entry) (uint64, error) {
	if err := store.CheckSubject(subject); err != nil {
		return 0, err
	}
	entries, err := store.CheckEntries(entries)
	if err != nil {
		return 0, err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	// What is due goes first: an approval that comes too late meets its expiry.
	if err := s.due(ctx, func(to string) bool { return to == subject }); err != nil {
		return 0, err
	}
	p := s.place(subject)
	if expect%stride != 0 { // a record within an append, or none
		_, at, err := s.tail(ctx, p)
		if err == nil {
			err = &store.ConflictError{Subject: subject, Expect: expect, Last: at * stride}
		}
		return 0, err
	}
	at := expect / stride
	seq, err := s.put(ctx, write{place: p, expect: &at, entries: entries, id: nuid.Next()})
	if err != nil {
		return 0, appendError(subject, err)
	}
	s.tell(p, seq)
	return seq * stride, nil
}

func appendError(subject string, err error) error {
	if _, refused := errors.AsType[*store.ConflictError](err); refused {
		return err
	}
	return fmt.Errorf("append to %s: %w", subject, err)
}

// tail gives the last message of a subject, nil when there is none, and the
// closing message of its last whole append.
func (s *Store) tail(ctx context.Context, p place) (m *msg, end uint64, err error) {
	m, err = s.final(ctx, p)
	if err != nil || m == nil {
		return nil, 0, err
	}
	if m.bad != nil {
		return nil, 0, &CorruptError{Subject: p.name, Seq: m.seq * stride, Why: m.bad.Error()}
	}
	return m, m.end(), nil
}

// final gives the last message of a subject or of a filter, nil when there is
// none. Of one that is damaged the server says that it is not there: the state of
// the stream tells.
func (s *Store) final(ctx context.Context, p place) (*msg, error) {
	for range 3 {
		if m, ok, err := s.last(ctx, p.stream, p.subject); ok || err != nil {
			return m, err
		}
		info, err := s.streamInfo(ctx, p.stream, p.subject, 0, untilDone)
		if err != nil || len(info.State.Subjects) == 0 {
			return nil, err
		}
	}
	return nil, &CorruptError{Subject: p.name, Why: "its last record is there and cannot be read"}
}

// behind tells a replica that is behind, which is to be waited for, from a
// message that cannot be read: the leader has no next one before the end that it
// names.
func (s *Store) behind(ctx context.Context, p place, next uint64) error {
	_, ok, err := s.get(ctx, p.stream, query{Seq: next, Next: p.subject})
	if err != nil {
		return err
	}
	if !ok {
		m, err := s.final(ctx, p)
		if err != nil || m == nil || m.seq < next {
			return err
		}
		if _, ok, err := s.get(ctx, p.stream, query{Seq: next, Next: p.subject}); !ok && err == nil {
			return &CorruptError{Subject: p.name, Seq: next * stride, Why: "a record behind it is there and cannot be read"}
		}
	}
	return sleep(ctx, behindPause)
}

// write is one append.
type write struct {
	place
	// expect is the closing message of the append before it; nil takes any.
	expect *uint64
	// entries are none where the subject is deleted.
	entries []store.Entry
	// id tells this append from every other, also when it is sent twice.
	id string
}

// staleTail is after how long an append whose parts do not go on is given up by
// those who wait behind it: its writer died.
const staleTail = 3 * time.Second

// put appends, and gives the closing message. The error is a
// *store.ConflictError when the subject ends elsewhere.
func (s *Store) put(ctx context.Context, w write) (uint64, error) {
	physical, logical := uint64(0), uint64(0)
	if w.expect != nil {
		physical, logical = *w.expect, *w.expect
	} else {
		m, end, err := s.tail(ctx, w.place)
		if err != nil {
			return 0, err
		}
		if logical = end; m != nil && m.closes() {
			physical = m.seq
		} // else an append is under way: the first attempt is refused
	}
	behind := logical
	body := encodeEntries(w.entries)
	var stuck uint64 // an open append at the end of the subject,
	var since time.Time
	begin, doubt := time.Now(), false
	for try, pause := 0, time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		seq, began, unsure, err := s.sendAppend(ctx, w, body, logical, physical, try)
		if known, ok := errors.AsType[*knownError](err); ok { // another process was faster
			if seq, ok, err := s.ours(ctx, w, known.first-1); ok || err != nil {
				return seq, err
			}
		} else if code := apiCode(err); code != codeWrongLast && code != codeWrongLastConst {
			return seq, err
		}
		doubt = doubt || unsure
		if began { // parts that were passed over are not known again
			try++
		}
		m, end, err := s.tail(ctx, w.place)
		if err != nil {
			return 0, err
		}
		if end != behind && (doubt || w.expect == nil) {
			if seq, ok, err := s.ours(ctx, w, behind); ok || err != nil {
				return seq, err
			}
		}
		if w.expect != nil && end != *w.expect {
			return 0, &store.ConflictError{Subject: w.name, Expect: *w.expect * stride, Last: end * stride}
		}
		if time.Since(begin) > s.cfg.Wait {
			return 0, fmt.Errorf("%s is %w: other appends have been under way for %s", w.name, store.ErrBusy, s.cfg.Wait)
		}
		// The leader may have another append under way that does not show yet.
		if err := sleep(ctx, pause); err != nil {
			return 0, err
		}
		physical, logical = 0, end
		if m == nil {
			continue
		}
		physical = m.seq
		if !m.closes() {
			if m.seq != stuck {
				stuck, since = m.seq, time.Now()
			}
			if time.Since(since) < staleTail {
				physical = 0 // refused, until its writer ends or is given up
			}
		}
		if m.deleted() && m.seq > 1 { // what was deleted goes before anything new comes
			if err := s.purge(ctx, w.stream, w.subject, m.seq); err != nil {
				return 0, err
			}
		}
	}
}

// ours looks for an append among those behind another: its acknowledgement was
// lost, or, of a timer, another process appends the same.
func (s *Store) ours(ctx context.Context, w write, behind uint64) (uint64, bool, error) {
	for from := behind + 1; ; {
		m, ok, err := s.get(ctx, w.stream, query{Seq: from, Next: w.subject})
		if err != nil || !ok || m.bad != nil {
			return 0, false, err
		}
		if m.closes() {
			if strings.HasPrefix(m.id, w.id+"/") {
				return m.seq, true, nil
			}
			if w.expect != nil { // ours could only have been the next
				return 0, false, nil
			}
		}
		from = m.seq + 1
	}
}

func messageID(id string, try, part int) string {
	return id + "/" + strconv.Itoa(try) + "/" + strconv.Itoa(part)
}

// sendAppend sends the messages of an append. began says that a part of it was
// taken.
func (s *Store) sendAppend(ctx context.Context, w write, body []byte, logical, physical uint64, try int) (seq uint64, began, doubt bool, err error) {
	h := head{prev: logical, part: 1, parts: 1, n: len(w.entries), typ: deletedType}
	if h.n > 0 {
		h.typ = w.entries[h.n-1].Type
	}
	if s.cfg.Now != nil {
		h.at = s.clock.Now()
	}
	if len(body) > maxInline {
		h.parts = (len(body)+partSize-1)/partSize + 1
	}
	for ; h.part <= h.parts; h.part++ {
		var piece []byte
		switch {
		case h.parts == 1:
			piece = body
		case !h.closes():
			piece = body[(h.part-1)*partSize : min(h.part*partSize, len(body))]
		}
		h.sum = checksum(piece)
		if h.closes() {
			h.sum = checksum(body)
		}
		m := &nats.Msg{Subject: w.subject, Data: piece, Header: nats.Header{
			headerName:                  {h.String()},
			nats.MsgIdHdr:               {messageID(w.id, try, h.part)},
			nats.ExpectedLastSubjSeqHdr: {strconv.FormatUint(physical, 10)},
			nats.ExpectedStreamHdr:      {w.stream},
		}}
		got, unsure, err := s.send(ctx, m)
		doubt = doubt || unsure
		if err != nil {
			return 0, began, doubt, err
		}
		began = true
		if h.part == 1 {
			if got <= physical && h.parts > 1 {
				return 0, began, doubt, &knownError{got}
			}
			h.first = got
		}
		physical = got
	}
	return physical, began, doubt, nil
}

// knownError: the server knows the first part; it stands before the end of the
// subject.
type knownError struct{ first uint64 }

func (e *knownError) Error() string {
	return fmt.Sprintf("it was appended from message %d on", e.first)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package jetstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// stride is how far the sequences of records of two messages of the stream are
// apart, so that every record of an append has its own: the last record of the
// message with sequence m has sequence m*stride.
const stride = store.MaxEntries

// Sizes of messages, in bytes.
const (
	// maxInline is the largest body that travels in one message. The last message
	// of an append is never larger, so that looking at the end of a subject is cheap.
	maxInline = 32 << 10
	// partSize is that of the parts of a larger body. A server takes 1 MiB unless it
	// is configured to take less.
	partSize = 512 << 10
	// needPayload is the least max_payload of a server.
	needPayload = partSize + 4<<10
	// maxParts is more than the largest append has.
	maxParts = 64
)

// head is what the header of a message says.
type head struct {
	// prev is the closing message of the append before it, 0 for the first of a
	// subject.
	prev uint64
	// first is the message of part 1; 0 in that one.
	first uint64
	// part of parts, from 1. The last one closes the append; where there are
	// several, the closing one has no body.
	part, parts int
	// n is the number of entries.
	n int
	// sum is the CRC-32C of the body; that of the closing message is of the whole.
	sum uint32
	// at is when the append was stamped; zero means when the server took it.
	at time.Time
	// typ is the type of the last entry; deletedType ends a subject that was deleted.
	typ string
}

// headerName is the header of every message; its value is versioned.
const (
	headerName    = "Gumshoe-Append"
	headerVersion = "1"
	// deletedType is none that an entry can have.
	deletedType = "~deleted"
)

func (h head) closes() bool  { return h.part == h.parts }
func (h head) deleted() bool { return h.typ == deletedType }

func (h head) String() string {
	at := "-"
	if !h.at.IsZero() {
		at = h.at.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%s %d %d %d %d %d %08x %s %s", headerVersion, h.prev, h.first, h.part, h.parts, h.n, h.sum, at, h.typ)
}

// parseHead reads what String wrote.
func parseHead(s string) (head, error) {
	bad := func(what string) (head, error) {
		return head{}, fmt.Errorf("header %.200q: %s", s, what)
	}
	f := strings.Split(s, " ")
	if len(f) != 9 || f[0] != headerVersion {
		return bad("it is none of this version")
	}
	var h head
	var err [6]error
	h.prev, err[0] = strconv.ParseUint(f[1], 10, 64)
	h.first, err[1] = strconv.ParseUint(f[2], 10, 64)
	h.part, err[2] = strconv.Atoi(f[3])
	h.parts, err[3] = strconv.Atoi(f[4])
	h.n, err[4] = strconv.Atoi(f[5])
	sum, e := strconv.ParseUint(f[6], 16, 32)
	h.sum, err[5] = uint32(sum), e
	if e := errors.Join(err[:]...); e != nil {
		return bad(e.Error())
	}
	if f[7] != "-" {
		at, e := time.Parse(time.RFC3339Nano, f[7])
		if e != nil {
			return bad(e.Error())
		}
		h.at = at.UTC()
	}
	h.typ = f[8]
	switch {
	case h.parts < 1 || h.parts > maxParts || h.part < 1 || h.part > h.parts:
		return bad("there is no such part")
	case (h.first == 0) != (h.part == 1):
		return bad("part 1 has no first part, any other has")
	case h.deleted() && (h.n != 0 || h.parts != 1):
		return bad("a deletion has no entries")
	case !h.deleted() && (h.n < 1 || h.n > store.MaxEntries || store.CheckType(h.typ) != nil):
		return bad("it has no such entries")
	}
	return h, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// encodeEntries writes entries one behind the other: type, length and document.
func encodeEntries(entries []store.Entry) []byte {
	size := 0
	for _, e := range entries {
		size += len(e.Type) + len(e.Data) + 12
	}
	buf := make([]byte, 0, size)
	for _, e := range entries {
		buf = append(buf, e.Type...)
		buf = append(buf, ' ')
		buf = strconv.AppendInt(buf, int64(len(e.Data)), 10)
		buf = append(buf, '\n')
		buf = append(buf, e.Data...)
		buf = append(buf, '\n')
	}
	return buf
}

// decodeEntries reads what encodeEntries wrote. The documents share its memory.
func decodeEntries(b []byte, n int) ([]store.Entry, error) {
	if n < 1 || n > store.MaxEntries {
		return nil, fmt.Errorf("%d entries", n)
	}
	out := make([]store.Entry, 0, n)
	for i := range n {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		typ, length, ok2 := strings.Cut(string(line[:min(len(line), 128)]), " ")
		size, err := strconv.Atoi(length)
		if !ok || !ok2 || err != nil || size < 0 || size > store.MaxData || len(rest) <= size || rest[size] != '\n' {
			return nil, fmt.Errorf("entry %d of %d cannot be read", i+1, n)
		}
		if err := store.CheckType(typ); err != nil {
			return nil, err
		}
		data := rest[:size:size]
		if !json.Valid(data) {
			return nil, fmt.Errorf("entry %d of %d is no JSON", i+1, n)
		}
		out = append(out, store.Entry{Type: typ, Data: data})
		b = rest[size+1:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes come behind the last entry", len(b))
	}
	return out, nil
}

// CorruptError says that a subject is damaged: a record is not what was appended,
// or is missing.
type CorruptError struct {
	Subject string
	// Seq is that of the record at which it shows.
	Seq uint64
	Why string
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at sequence %d: %s; what stands before it can be read", e.Subject, e.Seq, e.Why)
}

// msg is a message of a stream.
type msg struct {
	head
	seq         uint64
	subject     string // of NATS
	at          time.Time
	id          string
	outputParts string
	body        []byte
	bad         error // its header cannot be read
}

// end gives the closing message of the last whole append of the subject that
// ends with m; 0 is a subject without one.
func (m *msg) end() uint64 {
	switch {
	case m.deleted():
		return 0
	case m.closes():
		return m.seq
	}
	return m.prev
}

// whole is an append that is there.
type whole struct {
	seq     uint64 // of its closing message
	at      time.Time
	entries []store.Entry
}

// record gives entry i.
func (w *whole) record(subject string, i int) store.Record {
	e := w.entries[i]
	return store.Record{Subject: subject, Seq: w.seq*stride - uint64(len(w.entries)-1-i), At: w.at, Type: e.Type, Data: e.Data}
}

// firstSeq is the message at which records above a sequence begin.
func firstSeq(after uint64) uint64 { return after/stride + 1 }

// assembly puts the messages of one subject together.
type assembly struct {
	subject string
	// chained says that last is known: the append that the next one has to name.
	chained bool
	last    uint64
	// from is where reading began; an append that was not read comes before it.
	from uint64

	open  bool
	first uint64
	prev  uint64
	part  int
	body  []byte
}

// errMiddle: reading began within an append; begin again at its first part.
type errMiddle struct{ first uint64 }

func (e *errMiddle) Error() string {
	return fmt.Sprintf("the first part is message %d", e.first)
}

// take gives the append that m completes, nil when it completes none.
func (a *assembly) take(m *msg) (*whole, error) {
	corrupt := func(format string, v ...any) error {
		return &CorruptError{Subject: a.subject, Seq: m.seq * stride, Why: fmt.Sprintf(format, v...)}
	}
	if m.bad != nil {
		return nil, corrupt("%v", m.bad)
	}
	if m.deleted() {
		a.chained, a.last, a.open, a.body = true, 0, false, nil
		return nil, nil
	}
	if m.part == 1 {
		a.open, a.first, a.prev, a.part, a.body = true, m.seq, m.prev, 0, nil
	} else if !a.open && m.first < a.from {
		return nil, &errMiddle{m.first}
	}
	if !a.open || m.part != a.part+1 || m.part > 1 && m.first != a.first {
		a.open = false
		return nil, corrupt("part %d of %d does not follow the one before it", m.part, m.parts)
	}
	a.part = m.part
	if !m.closes() {
		if checksum(m.body) != m.sum {
			return nil, corrupt("its checksum is wrong")
		}
		if len(a.body)+len(m.body) > maxParts*partSize {
			return nil, corrupt("it is too large")
		}
		a.body = append(a.body, m.body...)
		return nil, nil
	}
	body := m.body
	if m.parts > 1 {
		body = append(a.body, m.body...)
	}
	a.open, a.body = false, nil
	if checksum(body) != m.sum {
		return nil, corrupt("its checksum is wrong")
	}
	switch {
	case m.prev == 0 || a.last == anyBefore: // a new subject, or one whose past is not kept
	case a.chained && m.prev != a.last:
		return nil, corrupt("it follows sequence %d, which is missing; before it stands %d", m.prev*stride, a.last*stride)
	case !a.chained && m.prev >= a.from:
		return nil, corrupt("it follows sequence %d, which is missing", m.prev*stride)
	}
	entries, err := decodeEntries(body, m.n)
	if err != nil {
		return nil, corrupt("%v", err)
	}
	if a.last != anyBefore {
		a.chained, a.last = true, m.seq
	}
	at := m.head.at
	if at.IsZero() {
		at = m.at
	}
	return &whole{seq: m.seq, at: at, entries: entries}, nil
}

// anyBefore as the last of an assembly: the stream keeps only the end of subjects.
const anyBefore = ^uint64(0)

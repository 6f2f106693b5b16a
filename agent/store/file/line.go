package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// A journal is a header and records, one JSON document a line. The last member
// of each, "sum", is the CRC-32C of the bytes before it, so that a damaged line
// is told from a sound one, and what is there can still be read with any tool.

// formatVersion of a journal's file.
const formatVersion = 1

// maxLine is the longest line, in bytes without its end: the largest data and
// what stands around it.
const maxLine = store.MaxData + 1024

// header is the first line.
type header struct {
	Journal int       `json:"journal"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
}

// line is one record. More says that the record belongs together with the next.
type line struct {
	Seq  uint64          `json:"seq"`
	At   time.Time       `json:"at"`
	Type string          `json:"type"`
	More bool            `json:"more,omitempty"`
	Data json.RawMessage `json:"data"`
}

// CorruptError says which line of a journal is damaged.
type CorruptError struct {
	// Path of the file; Line counts from 1.
	Path string
	Line int
	// Reason is what is wrong with it.
	Reason string
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s, line %d is damaged: %s; what stands before it can be read, move the file away to be rid of it", e.Path, e.Line, e.Reason)
}

func sum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// sumMember is how the checksum stands at the end of a line: `,"sum":"xxxxxxxx"}`.
const (
	sumKey    = `,"sum":"`
	sumMember = len(sumKey) + 8 + len(`"}`)
)

// seal ends a line: b is a JSON object without its last brace, begun at from.
func seal(b []byte, from int) []byte {
	c := sum(b[from:])
	b = append(b, sumKey...)
	return append(b, fmt.Sprintf("%08x\"}\n", c)...)
}

// unseal checks the sum of a line without its end.
func unseal(b []byte) error {
	if len(b) < sumMember || b[0] != '{' {
		return errors.New("it is no record")
	}
	at := len(b) - sumMember
	tail := b[at:]
	if string(tail[:len(sumKey)]) != sumKey || string(tail[sumMember-2:]) != `"}` {
		return errors.New("it has no checksum")
	}
	want, err := strconv.ParseUint(string(tail[len(sumKey):len(sumKey)+8]), 16, 32)
	if err != nil {
		return errors.New("its checksum is no number")
	}
	if sum(b[:at]) != uint32(want) {
		return errors.New("its checksum differs")
	}
	return nil
}

func appendTime(b []byte, at time.Time) []byte {
	b = append(b, '"')
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// appendHeader writes the first line of a subject's journal.
func appendHeader(b []byte, h header) []byte {
	from := len(b)
	b = append(b, `{"journal":`...)
	b = strconv.AppendInt(b, int64(h.Journal), 10)
	b = append(b, `,"subject":"`...)
	b = append(b, h.Subject...) // valid: it has nothing to escape
	b = append(b, `","at":`...)
	return seal(appendTime(b, h.At), from)
}

// appendLine writes a record. Type and Data are valid, Data is compact.
func appendLine(b []byte, l line) []byte {
	from := len(b)
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, l.Seq, 10)
	b = append(b, `,"at":`...)
	b = appendTime(b, l.At)
	b = append(b, `,"type":"`...)
	b = append(b, l.Type...)
	b = append(b, '"')
	if l.More {
		b = append(b, `,"more":true`...)
	}
	b = append(b, `,"data":`...)
	b = append(b, l.Data...)
	return seal(b, from)
}

// decodeHeader reads the first line.
func decodeHeader(b []byte) (header, error) {
	var h header
	if err := unseal(b); err != nil {
		return h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("it is no JSON of a header: %w", err)
	}
	if h.Journal != formatVersion {
		return h, fmt.Errorf("it is a journal of format %d, this gumshoe reads format %d", h.Journal, formatVersion)
	}
	return h, store.CheckSubject(h.Subject)
}

// decodeLine reads a record, without the end of its line.
func decodeLine(b []byte) (line, error) {
	var l line
	if err := unseal(b); err != nil {
		return l, err
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("it is no JSON of a record: %w", err)
	}
	switch {
	case l.Seq == 0:
		return l, errors.New("it has no sequence")
	case l.At.IsZero():
		return l, errors.New("it has no time")
	case len(l.Data) == 0:
		return l, errors.New("it has no data")
	}
	return l, store.CheckType(l.Type)
}

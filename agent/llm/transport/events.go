package transport

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// events reads server-sent events and hands on JSON payloads, each as one data
// line. Comments, names, ids and blank lines stay behind; an error, in whatever
// form, ends the reading with an *llm.Error.
type events struct {
	in       *bufio.Reader
	limit    int // of bytes
	exchange *Exchange
	fail     func(llm.ErrorKind, string) *llm.Error
	// failure looks for an error in a payload; named says that the event was
	// called an error.
	failure func(payload []byte, named bool) *llm.Error
	seen    func()

	pending []byte // ready for the SDK
	data    []byte // data lines of an event that is not whole yet
	name    string // of the event
	any     bool   // whether there was a payload
	junk    bool   // whether there was anything else
	total   int
	done    bool // [DONE] came
	err     error
}

// Read implements io.Reader.
func (e *events) Read(p []byte) (int, error) {
	for len(e.pending) == 0 {
		if e.err != nil {
			return 0, e.err
		}
		if e.done {
			return 0, io.EOF
		}
		if err := e.line(); err != nil {
			e.end(err)
		}
	}
	n := copy(p, e.pending)
	e.pending = e.pending[n:]
	return n, nil
}

// end decides what the end of the stream means.
func (e *events) end(err error) {
	e.err = err
	var known *llm.Error
	if errors.As(err, &known) {
		e.exchange.Err = known
		return
	}
	switch {
	case !errors.Is(err, io.EOF):
		known = e.fail(llm.Incomplete, err.Error())
	case !e.any && e.junk:
		known = e.fail(llm.NotAModel, "the answer is neither a stream of events nor JSON")
	default:
		return // whether the answer is whole is for the finish reason to say
	}
	e.err, e.exchange.Err = known, known
}

// line reads one line of the stream.
func (e *events) line() error {
	line, err := e.readLine()
	if err != nil {
		if errors.Is(err, io.EOF) && len(line)+len(e.data) > 0 {
			if err := e.field(line); err != nil {
				return err
			}
			if err := e.flush(); err != nil {
				return err
			}
		}
		return err
	}
	return e.field(line)
}

// readLine gives a line without its end. The slice is the caller's.
func (e *events) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := e.in.ReadSlice('\n')
		line = append(line, part...)
		if e.total += len(part); e.total > e.limit {
			return nil, e.fail(llm.Server, fmt.Sprintf("the answer is larger than %d bytes", e.limit))
		}
		if len(line)+len(e.data) > e.limit/4 {
			return nil, e.fail(llm.Server, fmt.Sprintf("one event is larger than %d bytes", e.limit/4))
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return bytes.TrimRight(line, "\r\n"), err
	}
}

func (e *events) field(line []byte) error {
	if !e.any {
		line = bytes.TrimPrefix(line, []byte("\xEF\xBB\xBF"))
	}
	if len(line) == 0 {
		return e.flush()
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch {
	case len(name) == 0: // a comment keeps the connection alive
	case string(name) == "data":
		return e.payload(value)
	case string(name) == "event":
		e.name = string(bytes.TrimSpace(value))
	case string(name) == "id", string(name) == "retry":
	default:
		return e.stray(line)
	}
	return nil
}

// payload takes a data line. Many servers leave out the blank line between two
// events, so a line that is JSON by itself is an event; others are joined.
func (e *events) payload(line []byte) error {
	e.junk = true
	trimmed := bytes.TrimSpace(line)
	if string(trimmed) == "[DONE]" {
		e.done, e.any, e.exchange.Done = true, true, true
		e.pending = append(e.pending, "data: [DONE]\n\n"...)
		return nil
	}
	if len(e.data) == 0 && json.Valid(trimmed) {
		return e.emit(trimmed)
	}
	e.data = append(append(e.data, line...), '\n')
	return nil
}

// flush ends an event that took several lines.
func (e *events) flush() error {
	data := bytes.TrimSpace(e.data)
	e.data = nil
	defer func() { e.name = "" }()
	if len(data) == 0 {
		return nil
	}
	var one bytes.Buffer
	if json.Compact(&one, data) == nil {
		return e.emit(one.Bytes())
	}
	if e.name == "error" {
		return e.failure(data, true)
	}
	if data[0] == '{' {
		return e.fail(llm.Incomplete, "an event of the stream is broken JSON")
	}
	return nil // "ping" and the like
}

// emit hands a payload on, unless it is an error.
func (e *events) emit(payload []byte) error {
	if err := e.failure(payload, e.name == "error"); err != nil {
		return err
	}
	if payload[0] != '{' {
		return nil
	}
	e.any = true
	e.seen()
	e.pending = append(append(append(e.pending, "data: "...), dropNullError(payload)...), "\n\n"...)
	return nil
}

// stray takes a line that is no field: an error as bare JSON, or a web page.
func (e *events) stray(line []byte) error {
	e.junk = true
	trimmed := bytes.TrimSpace(line)
	if len(trimmed) == 0 {
		return nil
	}
	if trimmed[0] == '<' && !e.any {
		return e.fail(llm.NotAModel, "a web page came instead of an answer")
	}
	if trimmed[0] == '{' && json.Valid(trimmed) {
		if err := e.failure(trimmed, false); err != nil {
			return err
		}
	}
	return nil
}

// dropNullError removes "error":null, which go-openai would take for an error.
func dropNullError(payload []byte) []byte {
	if !bytes.Contains(payload, []byte(`"error"`)) {
		return payload
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil {
		return payload
	}
	if _, ok := fields["error"]; !ok {
		return payload
	}
	delete(fields, "error")
	out, err := json.Marshal(fields)
	if err != nil {
		return payload
	}
	return out
}

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
)

// eventStream is the content type of server-sent events.
const eventStream = "text/event-stream"

// Names of events that are the stream's own.
const (
	endEvent   = "end"
	errorEvent = "error"
)

// retry is how long a client should wait before it connects again, in milliseconds.
const retry = 2000

// settle is how long a stream waits for its first event before the answer begins, so
// that what is not there is answered with its status and not within a stream.
const settle = 200 * time.Millisecond

// margin is how far a stream of everything goes back before the moment it is taken up
// at: the clocks of two writers differ, and no notice may be lost.
const margin = time.Minute

// maxFollow is the largest document that says what was seen, in bytes.
const maxFollow = 4 << 20

// message is one event on its way to a client.
type message struct {
	id, name string
	data     any
	// at is when it happened; zero for what is no record.
	at  time.Time
	err error
}

var (
	lastEventID = param{name: "Last-Event-ID", header: true, max: 100, about: "The id of the last event that was seen; it goes before the parameter."}
	afterParam  = param{name: "after", kind: number, about: "The id of the last event that was seen, to go on behind it; 0 is the beginning."}
)

const streamDetail = "Server-sent events. The id of an event is its sequence in the journal; an event without an id is only told live and may be missed. The stream ends with the event end; one that breaks off before can be taken up again with Last-Event-ID. A client that reads too slowly is cut off and can do the same. The event error carries the document of an error."

func (a *API) eventOps() []operation {
	stream := func(op operation) operation {
		op.tag, op.role, op.stream, op.media, op.status = "events", access.Viewer, true, []string{eventStream}, http.StatusOK
		return op
	}
	return []operation{
		stream(operation{
			method: http.MethodGet, path: wire.Prefix + "/runs/{id}/events", id: "followRun", summary: "Follow a run.", detail: streamDetail,
			params: []param{lastEventID, afterParam}, also: []int{404}, handle: func(c *call) error { return c.events("a run", runID) },
		}),
		stream(operation{
			method: http.MethodGet, path: plansPath + "/{id}/events", id: "followPlan", summary: "Follow a plan.", detail: streamDetail,
			params: []param{lastEventID, afterParam}, also: []int{404}, handle: func(c *call) error { return c.events("a plan", planID) },
		}),
		stream(operation{
			method: http.MethodGet, path: wire.Prefix + "/events", id: "follow", summary: "Follow all sessions and plans.",
			detail: "Server-sent events, each a notice of what changed. The id of an event is the moment of its record, in nanoseconds since 1970. A stream that is taken up again with Last-Event-ID goes back one minute further, so that nothing is lost where clocks differ: tell notices apart by their subject and seq. It never ends by itself.",
			params: []param{lastEventID, {name: "since", kind: moment, about: "Only what was recorded since then; everything where it is missing."}},
			handle: handleFollow,
		}),
		stream(operation{
			method: http.MethodPost, path: wire.Prefix + "/events", id: "followAfter", summary: "Follow all sessions and plans from a place in each.",
			detail: "As GET, but exact: the document says for each subject what was seen.",
			in:     reflect.TypeFor[wire.Follow](), optional: true, maxBody: maxFollow, handle: handleFollowAfter,
		}),
	}
}

// events streams a run or a plan.
func (c *call) events(what, begins string) error {
	id, err := c.pathID("id", what, begins)
	if err != nil {
		return err
	}
	after, err := c.seen("after")
	if err != nil {
		return err
	}
	return c.stream(after, func(ctx context.Context) iter.Seq[message] {
		return func(yield func(message) bool) {
			for told, err := range c.api.svc.Events(ctx, id, after) {
				m := message{data: told.Event, name: string(told.Event.Type), err: err}
				if told.Seq > 0 {
					m.id, m.at = strconv.FormatUint(told.Seq, 10), told.Event.At
				}
				if !yield(m) || err != nil {
					return
				}
			}
		}
	})
}

// seen gives the sequence behind which a stream goes on.
func (c *call) seen(name string) (uint64, error) {
	v, where := c.given[name], "the parameter "+name
	if id, ok := c.given[lastEventID.name]; ok {
		v, where = id, "the header "+lastEventID.name
	}
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		return 0, invalid(where, v, "it is no id of an event", "give the id of the last event, or leave it out")
	}
	return n, nil
}

func handleFollow(c *call) error {
	var from time.Time
	if s := c.given["since"]; s != "" {
		from, _ = time.Parse(time.RFC3339Nano, s) // it was checked
	}
	if _, ok := c.given[lastEventID.name]; ok {
		n, err := c.seen("")
		if err != nil {
			return err
		}
		from = time.Unix(0, int64(n)).Add(-margin)
	}
	return c.follow(nil, from)
}

func handleFollowAfter(c *call) error {
	var q wire.Follow
	if err := c.decode(&q); err != nil {
		return err
	}
	for s := range q.After {
		if err := store.CheckSubject(s); err != nil || !slices.ContainsFunc([]string{"session.", "plan.", "due."}, func(p string) bool { return strings.HasPrefix(s, p) }) {
			return invalid("after", s, "it is none of session.<id>, plan.<id> and due.<id>", "give the subjects of notices")
		}
	}
	return c.follow(func(subject string) uint64 { return q.After[subject] }, time.Time{})
}

func (c *call) follow(after store.Position, from time.Time) error {
	return c.stream(0, func(ctx context.Context) iter.Seq[message] {
		return func(yield func(message) bool) {
			for n, err := range c.api.svc.Follow(ctx, after) {
				if err == nil && n.At.Before(from) {
					continue
				}
				if !yield(message{id: strconv.FormatInt(n.At.UnixNano(), 10), name: n.Type, data: n, at: n.At, err: err}) || err != nil {
					return
				}
			}
		}
	})
}

// stream sends what a source gives until it ends, the client is gone or too slow, or
// the server drains. It holds one event at a time: the source is only asked for the
// next once this one is sent, and a client that takes too long is cut off.
func (c *call) stream(after uint64, source func(context.Context) iter.Seq[message]) error {
	select {
	case c.api.streams <- struct{}{}:
		defer func() { <-c.api.streams }()
	default:
		return &access.Error{Status: http.StatusServiceUnavailable, Code: "too_many_streams", User: fmt.Sprintf("%d event streams are open already", c.api.cfg.MaxStreams), Fix: "close some, or ask for the state from time to time", RetryAfter: 10 * time.Second}
	}
	select {
	case <-c.api.drained:
		c.w.Header().Set("Connection", "close") // the next one may go to another server
		return &access.Error{Status: http.StatusServiceUnavailable, Code: "draining", User: "this server is about to end", Fix: "connect again", RetryAfter: retry * time.Millisecond}
	default:
	}
	ctx, stop := context.WithCancel(c.ctx())
	defer stop()
	out := &sse{w: c.w, control: http.NewResponseController(c.w), timeout: time.Duration(c.api.cfg.WriteTimeout), seq: after}
	if c.r.Method == http.MethodHead {
		return out.begin()
	}
	messages := make(chan message)
	go func() {
		defer close(messages)
		for m := range source(ctx) {
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	err := c.pump(ctx, out, messages)
	// The source works for the request: it is waited for.
	stop()
	for range messages { // until it is closed
	}
	if out.begun {
		return nil // who reads is gone, or was told within the stream
	}
	return err
}

func (c *call) pump(ctx context.Context, out *sse, messages <-chan message) error {
	begun := c.api.now()
	quiet := time.NewTicker(time.Duration(c.api.cfg.KeepAlive))
	defer quiet.Stop()
	first := time.NewTimer(settle)
	defer first.Stop()
	for {
		select {
		case m, more := <-messages:
			if more && m.err != nil && !out.begun {
				return m.err
			}
			if err := out.begin(); err != nil {
				return err
			}
			switch {
			case !more && ctx.Err() == nil:
				return out.event(message{name: endEvent, data: wire.End{Seq: out.seq}})
			case !more:
				return nil
			case m.err != nil:
				return out.event(message{name: errorEvent, data: problem(m.err)})
			}
			if err := out.event(m); err != nil {
				return err
			}
			// One that still reads, but has fallen far behind what happens now, makes
			// the source keep what it has not taken.
			if m.at.After(begun) && c.api.now().Sub(m.at) > time.Duration(c.api.cfg.MaxLag) {
				return out.comment("too slow: connect again with Last-Event-ID")
			}
			quiet.Reset(time.Duration(c.api.cfg.KeepAlive))
		case <-first.C:
			if err := out.begin(); err != nil {
				return err
			}
		case <-quiet.C:
			if err := out.begin(); err != nil {
				return err
			}
			if err := out.comment("alive"); err != nil {
				return err
			}
		case <-c.api.drained:
			if err := out.begin(); err != nil {
				return err
			}
			return out.comment("this server is about to end: connect again")
		case <-ctx.Done():
			return nil
		}
	}
}

// problem is the document of an error within a stream, as access.WriteError gives it
// before one.
func problem(err error) access.Problem {
	err = answer(err)
	if e, ok := errors.AsType[*access.Error](err); ok && e.Code != "" {
		return access.Problem{Error: access.ProblemDetail{Code: e.Code, Message: e.User, Fix: e.Fix}}
	}
	if e, ok := errors.AsType[*tool.Error](err); ok && e.Kind != tool.Internal && e.Kind != "" {
		return access.Problem{Error: access.ProblemDetail{Code: string(e.Kind), Message: e.User, Fix: e.Fix}}
	}
	return access.Problem{Error: access.ProblemDetail{Code: string(tool.Internal), Message: "the server failed at this", Fix: "connect again"}}
}

// sse writes server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
type sse struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	begun   bool
	// seq is that of the last event with an id.
	seq uint64
}

// begin sends the head of the answer, once.
func (s *sse) begin() error {
	if s.begun {
		return nil
	}
	// A connection on which no deadline can be set would be held by a client that
	// does not read.
	if err := s.deadline(); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	s.begun = true
	h := s.w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx otherwise keeps events back
	s.w.WriteHeader(http.StatusOK)
	return s.send(fmt.Appendf(nil, "retry: %d\n\n", retry))
}

func (s *sse) comment(text string) error { return s.send([]byte(": " + text + "\n\n")) }

func (s *sse) event(m message) error {
	data, err := json.Marshal(m.data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.Grow(len(data) + 80)
	if m.id != "" {
		b.WriteString("id: " + m.id + "\n")
		if n, err := strconv.ParseUint(m.id, 10, 64); err == nil {
			s.seq = n
		}
	}
	b.WriteString("event: " + m.name + "\ndata: ")
	b.Write(data) // JSON as Marshal writes it has no line breaks
	b.WriteString("\n\n")
	return s.send(b.Bytes())
}

func (s *sse) send(b []byte) error {
	if err := s.deadline(); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}

// deadline is by the machine's clock, as connections are.
func (s *sse) deadline() error { return s.control.SetWriteDeadline(time.Now().Add(s.timeout)) }

package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// maxEvent is the largest event that is read, in bytes: a record of the journal has 4 MiB.
const maxEvent = 16 << 20

// silence is how long a stream may say nothing at all: the server says every 15 seconds
// that it lives, if its configuration does not stretch that.
const silence = 90 * time.Second

// Pauses before a stream is taken up again.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// due is the type of the notice that the time of a plan ended; it counts by itself.
const due = "plan.due"

// errEnd is the server's word that nothing more comes.
var errEnd = errors.New("the stream has ended")

// Events follows a run or a plan from behind a sequence on: the records of the journal,
// then what happens, until it has ended or ctx ends. A stream that breaks off is taken up
// again; what is only told live may be missed then, a record is not, and none comes twice.
func (c *Client) Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error] {
	return func(yield func(session.Told, error) bool) {
		parts := []string{"runs", id, "events"}
		if strings.HasPrefix(id, "plan-") {
			parts[0] = "plans"
		}
		open := func() request {
			q := request{method: http.MethodGet, path: path(parts...), stream: true}
			if after > 0 {
				q.header = map[string]string{"Last-Event-ID": strconv.FormatUint(after, 10)}
			}
			return q
		}
		err := c.follow(ctx, open, func(f frame) (bool, error) {
			told := session.Told{}
			if f.id != "" {
				n, err := strconv.ParseUint(f.id, 10, 64)
				if err != nil || n == 0 {
					return true, fmt.Errorf("the id %q of an event is no sequence", f.id)
				}
				if n <= after {
					return true, nil
				}
				told.Seq = n
			}
			if err := json.Unmarshal(f.data, &told.Event); err != nil {
				return true, fmt.Errorf("event %s: %w", f.id, err)
			}
			if told.Seq > 0 {
				after = told.Seq
			}
			if p := told.Event.Plan; told.Event.Type == event.PlanMade && p != nil {
				if d, err := planner.Digest(*p); err == nil {
					c.shown(p.ID, d)
				}
			}
			return yield(told, nil), nil
		})
		if err != nil {
			yield(session.Told{}, err)
		}
	}
}

// Follow tells every change of sessions and plans, from a position in each, until ctx
// ends. A stream that breaks off is taken up again; no notice is lost, and none comes
// twice.
func (c *Client) Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error] {
	return func(yield func(session.Notice, error) bool) {
		seen := map[string]uint64{}
		open := func() request {
			return request{method: http.MethodPost, path: path("events"), body: wire.Follow{After: maps.Clone(seen)}, stream: true}
		}
		err := c.follow(ctx, open, func(f frame) (bool, error) {
			var n session.Notice
			if err := json.Unmarshal(f.data, &n); err != nil {
				return true, fmt.Errorf("notice %s: %w", f.id, err)
			}
			subject := "session." + n.Session
			switch {
			case n.Plan != "" && n.Type == due:
				subject = "due." + n.Plan
			case n.Plan != "":
				subject = "plan." + n.Plan
			}
			last, known := seen[subject]
			if !known && after != nil {
				last = after(subject)
			}
			seen[subject] = max(last, n.Seq)
			return n.Seq <= last || yield(n, nil), nil
		})
		if err != nil {
			yield(session.Notice{}, err)
		}
	}
}

// follow reads streams until one ends, ctx ends, take wants no more, or the server
// refuses for good. The error is nil for all but the last.
func (c *Client) follow(ctx context.Context, open func() request, take func(frame) (more bool, err error)) error {
	stopped := false
	pause := firstPause
	for failed := 0; ctx.Err() == nil; {
		got := false
		hint, err := c.once(ctx, open(), func(f frame) (bool, error) {
			got = true
			more, err := take(f)
			stopped = stopped || !more
			return more, err
		})
		if stopped || errors.Is(err, errEnd) || ctx.Err() != nil {
			err = nil // whoever follows wants no more, or there is no more
		}
		if !again(err) {
			return err
		}
		if got {
			failed, pause = 0, firstPause
		}
		if failed++; failed > c.cfg.Tries {
			return err
		}
		wait := max(pause/2+rand.N(pause), hint)
		if e, ok := errors.AsType[*Refused](err); ok {
			wait = max(wait, e.RetryAfter)
		}
		if c.cfg.OnRetry != nil {
			c.cfg.OnRetry(err, wait)
		}
		c.cfg.Sleep(ctx, wait)
		pause = min(2*pause, maxPause)
	}
	return nil
}

// again reports whether a stream that ended with an error may be taken up again.
func again(err error) bool {
	if e, ok := errors.AsType[*Refused](err); ok && e.Status > 0 {
		return e.Status == http.StatusTooManyRequests || e.Status >= 500 && e.Status != http.StatusNotImplemented
	}
	if err == nil {
		return false
	}
	switch tool.KindOf(err) {
	case tool.Unreachable, tool.TimedOut:
		return true
	case tool.Internal: // within a stream the server says so of what may pass
		_, told := errors.AsType[*Refused](err)
		return told
	}
	return false
}

// once reads one stream; the pause is what the server asks clients to keep.
func (c *Client) once(ctx context.Context, q request, take func(frame) (bool, error)) (time.Duration, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	resp, err := c.send(ctx, q)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); strings.TrimSpace(media) != "text/event-stream" {
		return 0, &tool.Error{Kind: tool.NotServed, User: fmt.Sprintf("the server answers with %q instead of events", media), Fix: "check that the address is that of a gumshoe server"}
	}
	quiet := &tool.Error{Kind: tool.TimedOut, User: fmt.Sprintf("the server said nothing for %s", silence)}
	watch := time.AfterFunc(silence, func() { stop(quiet) })
	defer watch.Stop()
	d := newDecoder(resp.Body)
	d.alive = func() { watch.Reset(silence) }
	for {
		f, err := d.next()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			} else if errors.Is(err, errTooLong) {
				err = &tool.Error{Kind: tool.Internal, User: err.Error(), Err: err}
			} else {
				err = &tool.Error{Kind: tool.Unreachable, User: "the stream of events broke off", Fix: "it is taken up again", Err: err}
			}
			return d.retry, err
		}
		switch f.name {
		case "end":
			return d.retry, errEnd
		case "error":
			return d.retry, problem(f.data, &Refused{})
		}
		if more, err := take(f); err != nil {
			return d.retry, &tool.Error{Kind: tool.Internal, User: "an event of the server is not understood", Fix: "the server and this program may be of different versions", Err: err}
		} else if !more {
			return d.retry, nil
		}
	}
}

// frame is one server-sent event. An id is only that of its own event: the server
// gives none to what is only told live.
type frame struct {
	id, name string
	data     []byte
}

var errTooLong = fmt.Errorf("an event of the server is larger than %d bytes", maxEvent)

// decoder reads server-sent events:
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
type decoder struct {
	r *bufio.Reader
	// retry is what the server asked clients to wait, 0 where it did not.
	retry time.Duration
	// alive is called for every line.
	alive func()
	// cr says that the last line ended with a carriage return: a line feed that follows
	// belongs to it.
	cr, begun bool
}

func newDecoder(r io.Reader) *decoder {
	return &decoder{r: bufio.NewReaderSize(r, 32<<10), alive: func() {}}
}

// next gives the next event that has data; the error of a stream that ends is io.EOF,
// also in the middle of an event, which then counts for nothing.
func (d *decoder) next() (frame, error) {
	var f frame
	size, any := 0, false
	for {
		line, err := d.line()
		if err != nil {
			return frame{}, err
		}
		d.alive()
		if size += len(line); size > maxEvent {
			return frame{}, errTooLong
		}
		if len(line) == 0 {
			if any {
				f.data = bytes.TrimSuffix(f.data, []byte("\n"))
				if f.name == "" {
					f.name = "message"
				}
				return f, nil
			}
			f, size = frame{}, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			any = true
			f.data = append(append(f.data, value...), '\n')
		case "event":
			f.name = string(value)
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				f.id = string(value)
			}
		case "retry":
			if n, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				d.retry = min(time.Duration(n)*time.Millisecond, maxPause)
			}
		}
	}
}

// line reads a line without its end: LF, CR or CRLF.
func (d *decoder) line() ([]byte, error) {
	var out []byte
	for {
		c, err := d.r.ReadByte()
		if err != nil {
			return nil, err
		}
		if d.cr && c == '\n' {
			d.cr = false
			continue
		}
		d.cr = c == '\r'
		if c == '\r' || c == '\n' {
			if !d.begun {
				d.begun = true
				out = bytes.TrimPrefix(out, []byte("\xef\xbb\xbf"))
			}
			return out, nil
		}
		if len(out) == maxEvent {
			return nil, errTooLong
		}
		out = append(out, c)
	}
}

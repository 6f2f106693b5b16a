package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// Bounds of a live connection.
const (
	// settle is how long changes are gathered before a page is made anew.
	settle = 250 * time.Millisecond
	// keepAlive is how often something is sent, so that proxies keep the connection
	// and a browser that is gone is noticed.
	keepAlive = 15 * time.Second
	// retryAfter is when a browser connects again, in milliseconds.
	retryAfter = 2000
)

// stream is an answer of server-sent events: parts of the page as HTML, which the
// script puts where an element with the same id stands.
type stream struct {
	w    http.ResponseWriter
	ctl  *http.ResponseController
	sent map[string]string
}

// open begins a stream, unless too many are open.
func (s *Web) open(w http.ResponseWriter, r *http.Request) (*stream, func(), error) {
	select {
	case s.slots <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "30")
		return nil, nil, refuse(http.StatusServiceUnavailable, "The page works without; load it again to see what changed.", "too many pages are open to keep this one up to date")
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	st := &stream{w: w, ctl: http.NewResponseController(w), sent: map[string]string{}}
	if _, err := fmt.Fprintf(w, "retry: %d\n\n", retryAfter); err != nil {
		<-s.slots
		return nil, nil, fmt.Errorf("begin a stream: %w", err)
	}
	return st, func() { <-s.slots }, st.ctl.Flush()
}

// send writes one part of the page; id is where a browser that lost the connection
// goes on.
func (st *stream) send(id, html string) error {
	var b bytes.Buffer
	b.WriteString("event: part\n")
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	for l := range strings.Lines(strings.TrimSpace(html)) {
		b.WriteString("data: ")
		b.WriteString(strings.TrimRight(l, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	if _, err := st.w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("send a part of a page: %w", err)
	}
	return nil
}

func (st *stream) flush() error { return st.ctl.Flush() }

func (st *stream) alive() error {
	if _, err := st.w.Write([]byte(": alive\n\n")); err != nil {
		return fmt.Errorf("keep a stream alive: %w", err)
	}
	return st.ctl.Flush()
}

// part is an element of a page that changes: its id, and its HTML.
type part struct{ id, html string }

// changed sends the parts that are not as they were sent last, and gives whether any was.
func (st *stream) changed(id string, parts []part) error {
	any := false
	for _, p := range parts {
		sum := digest(p.html)
		if st.sent[p.id] == sum {
			continue
		}
		st.sent[p.id] = sum
		if err := st.send(id, p.html); err != nil {
			return err
		}
		any = true
	}
	if any {
		return st.flush()
	}
	return nil
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// state is the digest of several parts: the id under which a browser says what it has.
func state(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(digest(p.html))
	}
	return digest(b.String())
}

// from is up to where a browser has what was sent: the header of a reconnection, or
// what the script says when it opens the stream anew.
func from(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return r.URL.Query().Get("after")
}

// follow keeps a page of few parts up to date: they are made anew when something that
// concerns them happens, and sent where they differ.
func (s *Web) follow(w http.ResponseWriter, r *http.Request, wants func(session.Notice) bool, build func(context.Context) ([]part, error)) error {
	ctx := r.Context()
	page, leave := s.hub.join(ctx, wants)
	defer leave()
	parts, err := build(ctx) // what cannot be shown at all is an ordinary answer
	if err != nil {
		return err
	}
	st, done, err := s.open(w, r)
	if err != nil {
		return err
	}
	defer done()
	if state(parts) == from(r) {
		for _, p := range parts {
			st.sent[p.id] = digest(p.html)
		}
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		if st.changed(state(parts), parts) != nil {
			return nil // the browser is gone
		}
		if !wait(ctx, page.wake, tick.C, st) {
			return nil
		}
		if parts, err = build(ctx); err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "a live page cannot be made anew", "path", r.URL.Path, "error", err)
			}
			return nil // the browser connects again, and learns why
		}
	}
}

// wait sleeps until something happened and has settled; false when the page is gone.
func wait(ctx context.Context, wake <-chan struct{}, tick <-chan time.Time, st *stream) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			if st.alive() != nil {
				return false
			}
		case <-wake:
			return sleep(ctx, settle)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// named renders parts of a page by the names of their templates.
func (s *Web) named(page string, list ...any) ([]part, error) {
	var out []part
	for i := 0; i+1 < len(list); i += 2 {
		name, _ := list[i].(string)
		html, err := s.fragment(page, name, list[i+1])
		if err != nil {
			return nil, err
		}
		out = append(out, part{name, html})
	}
	return out, nil
}

// waitingPart is the number of plans that wait, which every page shows.
func (s *Web) waitingNow(ctx context.Context) waiting {
	st, err := s.svc.Status(ctx)
	if err != nil {
		return waiting{}
	}
	return waiting{st.Pending}
}

func (s *Web) liveList(w http.ResponseWriter, r *http.Request) error {
	f := filterOf(r.URL.Query())
	return s.follow(w, r, func(session.Notice) bool { return true }, func(ctx context.Context) ([]part, error) {
		v, err := s.rows(r.WithContext(ctx), f)
		if err != nil {
			return nil, err
		}
		return s.named("list", "sessions", v, "waiting", s.waitingNow(ctx))
	})
}

func (s *Web) livePlans(w http.ResponseWriter, r *http.Request) error {
	inbox := strings.HasSuffix(r.URL.Path, "/approvals")
	return s.follow(w, r, func(n session.Notice) bool { return n.Plan != "" }, func(ctx context.Context) ([]part, error) {
		v, err := s.plansView(r.WithContext(ctx), inbox)
		if err != nil {
			return nil, err
		}
		return s.named("plans", "plan-list", v, "waiting", s.waitingNow(ctx))
	})
}

func (s *Web) livePlan(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	return s.follow(w, r, func(n session.Notice) bool { return n.Plan == id }, func(ctx context.Context) ([]part, error) {
		rec, err := s.svc.Plan(ctx, id)
		if err != nil {
			return nil, err
		}
		me := person(r)
		v, err := s.viewPlan(rec, me, may(r.Context()), local(r))
		if err != nil {
			return nil, err
		}
		return s.named("plan", "plan-state", v, "plan-progress", v.Progress, "plan-consent", v.Consent, "waiting", s.waitingNow(ctx))
	})
}

// place is where a page of a conversation is: the events of the run up to a sequence,
// the state of the question that is shown, and that of the other parts.
type place struct {
	turn  string
	seq   uint64
	key   string
	parts string
}

// String is the id of an event, by which a browser that was away goes on.
func (p place) String() string {
	return strings.Join([]string{p.turn, strconv.FormatUint(p.seq, 10), p.key, p.parts}, ".")
}

// readPlace is the way back; what cannot be read, or is about another question, is
// the beginning.
func readPlace(id, turn string) place {
	f := strings.Split(id, ".")
	if len(f) != 4 || f[0] != turn {
		return place{turn: turn}
	}
	seq, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return place{turn: turn}
	}
	return place{turn, seq, f[2], f[3]}
}

// key is the state of a question as far as its whole depends on it.
func (t turnView) key(state session.TurnState) string {
	if t.Run == nil {
		return string(state) + "-0"
	}
	return fmt.Sprintf("%s-%d", state, t.Attempt)
}

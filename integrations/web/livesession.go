package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// maxWords bounds a model's words that are shown while they come, in bytes: the last
// are kept.
const maxWords = 8 << 10

// hypothesesPart are the hypotheses of a run as they stand.
type hypothesesPart struct {
	Run        string
	Hypotheses []hypothesisView
}

// wordsPart is what a model says at the moment.
type wordsPart struct{ Run, Text string }

// livePage follows a conversation: its parts by the hub, and the run that is shown by
// its events.
type livePage struct {
	s  *Web
	r  *http.Request
	st *stream
	at place
	// run that is followed, with its lines so far.
	run    string
	lines  *timeline
	told   chan session.Told
	cancel context.CancelFunc
	wg     sync.WaitGroup
	words  string
	// bare says that the run had no record yet when its question was sent.
	bare  bool
	plans map[string]bool
	mu    sync.Mutex
}

func (s *Web) liveSession(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	p := &livePage{s: s, r: r, plans: map[string]bool{}}
	page, leave := s.hub.join(r.Context(), func(n session.Notice) bool { return n.Session == id || n.Plan != "" && p.has(n.Plan) })
	defer leave()
	x, err := s.svc.Session(r.Context(), id)
	if err != nil {
		return err
	}
	turn := selectedTurn(x, r.URL.Query().Get("turn"))
	if r.URL.Query().Get("follow") == "1" {
		turn = lastTurn(x)
	}
	p.at = readPlace(from(r), turn)
	var done func()
	if p.st, done, err = s.open(w, r); err != nil {
		return err
	}
	defer done()
	defer p.end()
	p.loop(x, page.wake)
	return nil
}

// has reports whether a plan belongs to the conversation.
func (p *livePage) has(plan string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plans[plan]
}

// loop sends what changes until the browser is gone.
func (p *livePage) loop(x session.Session, wake <-chan struct{}) {
	ctx := p.r.Context()
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	var due <-chan time.Time
	if p.update(ctx, x) != nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if p.st.alive() != nil {
				return
			}
		case <-wake:
			if due == nil {
				due = time.After(settle)
			}
		case t, ok := <-p.told:
			if !ok { // the run has ended, or cannot be followed further
				p.told = nil
				due = time.After(settle)
				continue
			}
			if p.event(t) != nil {
				return
			}
			if p.bare && due == nil {
				due = time.After(settle)
			}
		case <-due:
			due = nil
			x, err := p.s.svc.Session(ctx, x.ID)
			if err != nil || p.update(ctx, x) != nil {
				return
			}
		}
	}
}

// update sends the parts that are made of the conversation's record, and begins to
// follow the run that works on the question that is shown.
func (p *livePage) update(ctx context.Context, x session.Session) error {
	if last := lastTurn(x); p.r.URL.Query().Get("follow") == "1" && last != p.at.turn {
		p.at = place{turn: last, parts: p.at.parts}
	}
	p.mu.Lock()
	for _, id := range x.Plans {
		p.plans[id] = true
	}
	p.mu.Unlock()
	c := may(p.r.Context())
	parts, err := p.s.named("session", "session-head", p.s.head(x), "session-plans", p.s.plansOf(ctx, x), "waiting", p.s.waitingNow(ctx))
	if err != nil {
		return err
	}
	for i, t := range x.Turns {
		if t.ID == p.at.turn {
			continue
		}
		v, err := p.s.turn(p.r.WithContext(ctx), x, t, i, false, c)
		if err != nil {
			return err
		}
		html, err := p.s.fragment("session", "turn", v)
		if err != nil {
			return err
		}
		parts = append(parts, part{"turn-" + t.ID, html})
	}
	now := state(parts)
	if now == p.at.parts {
		for _, q := range parts {
			p.st.sent[q.id] = digest(q.html)
		}
	}
	p.at.parts = now
	if err := p.st.changed(p.at.String(), parts); err != nil {
		return err
	}
	return p.current(ctx, x, c)
}

// current sends the question that is shown when its state changed, as a whole, and
// follows its run.
func (p *livePage) current(ctx context.Context, x session.Session, c can) error {
	i := slices.IndexFunc(x.Turns, func(t session.Turn) bool { return t.ID == p.at.turn })
	if i < 0 {
		return nil
	}
	t := x.Turns[i]
	v, err := p.s.turn(p.r.WithContext(ctx), x, t, i, true, c)
	if err != nil {
		return err
	}
	if key := v.key(t.State); key != p.at.key {
		p.at.key = key
		if v.Run != nil {
			p.at.seq = max(p.at.seq, v.Run.Seq)
		}
		html, err := p.s.fragment("session", "turn", v)
		if err != nil {
			return err
		}
		if err := errors.Join(p.st.send(p.at.String(), html), p.st.flush()); err != nil {
			return err
		}
	}
	p.bare = t.State == session.Running && v.Run == nil
	if t.State == session.Running && t.Run != "" && t.Run != p.run {
		p.begin(ctx, t.Run)
	}
	return nil
}

// begin follows a run from where the page has it.
func (p *livePage) begin(ctx context.Context, run string) {
	p.end()
	after := p.at.seq
	ctx, p.cancel = context.WithCancel(ctx)
	told := make(chan session.Told, 64)
	p.run, p.lines, p.told = run, newTimeline(run), told
	p.words = ""
	p.wg.Go(func() {
		defer close(told)
		for t, err := range p.s.svc.Events(ctx, run, after) {
			if err != nil {
				if ctx.Err() == nil {
					p.s.log.WarnContext(ctx, "a run cannot be followed", "run", run, "error", err)
				}
				return
			}
			select {
			case told <- t:
			case <-ctx.Done():
				return
			}
		}
	})
}

// end stops following the run.
func (p *livePage) end() {
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
	p.wg.Wait()
}

// event sends what an event of the run adds to the page.
func (p *livePage) event(t session.Told) error {
	p.at.seq = max(p.at.seq, t.Seq)
	var parts []part
	add := func(name, id string, data any) error {
		html, err := p.s.fragment("session", name, data)
		parts = append(parts, part{id, html})
		return err
	}
	switch t.Event.Type {
	case event.Delta:
		if t.Event.Model != nil {
			p.words = tail(p.words+t.Event.Model.Text, maxWords)
		}
		if len(p.told) > 0 { // more waits: it is sent together
			return nil
		}
		if err := add("model-words", "words-"+p.run, wordsPart{p.run, block(p.words)}); err != nil {
			return err
		}
	case event.ModelStarted, event.ModelEnded:
		p.words = ""
		if err := add("model-words", "words-"+p.run, wordsPart{Run: p.run}); err != nil {
			return err
		}
	case event.ToolFinished:
		if t.Event.Evidence != nil {
			e := evidence(*t.Event.Evidence, nil, p.run)
			if err := add("look", e.ID, map[string]any{"E": e, "Open": false}); err != nil {
				return err
			}
		}
	case event.Hypotheses:
		if err := add("hypotheses", "hypotheses-"+p.run, hypothesesPart{p.run, hypotheses(t.Event.Hypotheses)}); err != nil {
			return err
		}
	}
	if v, ok := p.lines.line(t.Event); ok {
		if err := add("event", v.ID, v); err != nil {
			return err
		}
	}
	return p.st.changed(p.at.String(), parts)
}

// tail gives the end of a text, of at most max bytes.
func tail(s string, max int) string {
	if len(s) <= max {
		return s
	}
	from := len(s) - max
	for from < len(s) && !utf8.RuneStart(s[from]) {
		from++
	}
	return s[from:]
}

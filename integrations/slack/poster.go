package slack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// posting is the queue whose only record is the right to post.
const posting = "work.slackpost"

// posters is how many threads are brought up to date at once.
const posters = 4

// lead posts while this replica holds the right to, until ctx ends.
func (s *Surface) lead(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := s.journal.Append(ctx, posting+".leader", 0, store.Entry{Type: "slack.leader"})
		if err == nil || conflict(err) {
			var c *store.Claim
			if c, err = s.journal.Claim(ctx, posting, s.timing.Lease); err == nil {
				s.reign(ctx, c)
				continue
			}
		}
		if !errors.Is(err, store.ErrNothing) && ctx.Err() == nil {
			s.log.Warn("slack: the right to post cannot be claimed", "error", err)
		}
		if !sleep(ctx, s.timing.Poll) {
			return
		}
	}
}

// reign posts until ctx ends or the lease is lost.
func (s *Surface) reign(ctx context.Context, c *store.Claim) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		for sleep(ctx, s.timing.Lease/3) {
			if err := c.Lease.Extend(ctx, s.timing.Lease); err != nil && ctx.Err() == nil {
				s.log.Warn("slack: another replica posts from now on", "error", err)
				return
			}
		}
	})
	p := &poster{s: s, agenda: newAgenda(), sessions: map[string]string{}, seqs: map[string]uint64{}}
	p.runs = &watcher{svc: s.svc, dirty: func(id string) { p.agenda.later(id, s.timing.Status/3) }, runs: map[string]*watched{}}
	p.run(ctx)
	cancel()
	wg.Wait()
	if s.boundary("abdicating") != nil {
		return // as if the process had ended: the lease runs out
	}
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	if err := c.Lease.Release(end, 0); err != nil && !errors.Is(err, store.ErrLost) {
		s.log.Debug("slack: the right to post cannot be given back", "error", err)
	}
}

// poster brings threads up to date with the journal.
type poster struct {
	s      *Surface
	agenda *agenda
	runs   *watcher

	mu sync.Mutex
	// sessions gives the session that shows a plan, seqs the last record heard of it.
	sessions map[string]string
	seqs     map[string]uint64
}

func (p *poster) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range posters {
		wg.Go(func() {
			for {
				id, ok := p.agenda.next(ctx)
				if !ok {
					return
				}
				p.visit(ctx, id)
				p.agenda.done(id)
			}
		})
	}
	for failures := 0; ctx.Err() == nil; failures++ {
		shown, err := p.shown(ctx)
		if err == nil {
			for n, e := range p.s.svc.Follow(ctx, func(subject string) uint64 { return shown[subject] }) {
				if err = e; err != nil {
					break
				}
				failures = 0
				if n.Session != "" {
					p.agenda.add(n.Session)
				} else if id := p.heard(n.Plan, n.Seq); id != "" {
					p.agenda.add(id)
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			p.s.log.Warn("slack: changes cannot be followed", "error", err)
		}
		if !sleep(ctx, min(p.s.timing.Retry<<min(failures, 6), time.Minute)) {
			break
		}
	}
	wg.Wait()
	p.runs.wg.Wait()
}

// shown gives up to where each subject is shown already.
func (p *poster) shown(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for info, err := range p.s.journal.List(ctx, posted+">") {
		if err != nil {
			return nil, err
		}
		id := strings.TrimPrefix(info.Subject, posted)
		o, err := p.s.outbox(ctx, id)
		if err != nil {
			p.s.log.Error("slack: what was posted of a session cannot be read", "session", id, "error", err)
			continue
		}
		for name := range o.slots {
			if rest, ok := strings.CutPrefix(name, "plan/"); ok {
				plan, _, _ := strings.Cut(rest, "/")
				p.learn(plan, id)
			}
		}
		if o.settled.Session > 0 {
			out["session."+id] = o.settled.Session
			for plan, seq := range o.settled.Plans {
				p.learn(plan, id)
				p.heard(plan, seq)
				out["plan."+plan] = seq
			}
		}
	}
	return out, nil
}

func (p *poster) learn(plan, session string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[plan] = session
}

// heard keeps the last record of a plan and gives the session that shows it.
func (p *poster) heard(plan string, seq uint64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seqs[plan] = max(p.seqs[plan], seq)
	return p.sessions[plan]
}

// at gives the last record heard of a plan.
func (p *poster) at(plan string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seqs[plan]
}

// visit brings one session up to date, and plans the next visit where one is due.
func (p *poster) visit(ctx context.Context, id string) {
	again, err := p.update(ctx, id)
	switch {
	case err == nil:
		p.agenda.calm(id)
		p.s.ill("post", "")
		if again > 0 {
			p.agenda.later(id, again)
		}
	case ctx.Err() != nil:
	default:
		delay := p.agenda.backoff(id, p.s.timing.Retry)
		if paused, ok := errors.AsType[*pausedError](err); ok {
			delay = max(paused.rest, 10*time.Millisecond)
		} else {
			p.s.log.Warn("slack: a thread is not up to date", "session", id, "again_in", delay, "error", err)
			if !conflict(err) {
				p.s.ill("post", "messages are not taken, they are posted later: "+err.Error())
			}
		}
		p.agenda.later(id, delay)
	}
}

// update makes a session's thread show what the journal holds. The duration is when
// to look again, zero if a change tells.
func (p *poster) update(ctx context.Context, id string) (time.Duration, error) {
	s := p.s
	sess, err := s.svc.Session(ctx, id)
	if gone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, plan := range sess.Plans {
		p.learn(plan, id)
	}
	o, err := s.outbox(ctx, id)
	if err != nil {
		return 0, err
	}
	channel, thread, err := p.place(ctx, &sess, &o)
	if err != nil || thread == "" {
		return 0, err
	}
	v := &visit{p: p, sess: sess, o: &o, channel: channel, thread: thread, quiet: true, plans: map[string]uint64{}}
	if err := v.all(ctx); err != nil {
		return v.again, err
	}
	if v.quiet {
		return v.again, s.settled(ctx, id, &o, settled{Session: sess.Seq, Plans: v.plans})
	}
	return v.again, nil
}

// gone reports whether a session is not there any more.
func gone(err error) bool {
	r, ok := errors.AsType[*session.Refusal](err)
	return errors.Is(err, store.ErrNotFound) || ok && r.Gone
}

// visit is one pass over a session.
type visit struct {
	p               *poster
	sess            session.Session
	o               *outbox
	channel, thread string
	// quiet says that nothing more comes by itself.
	quiet bool
	again time.Duration
	plans map[string]uint64
}

func (v *visit) soon(d time.Duration) {
	if d > 0 && (v.again == 0 || d < v.again) {
		v.again = d
	}
}

func (v *visit) show(ctx context.Context, name string, m message) error {
	rest, err := v.p.s.show(ctx, v.sess.ID, v.o, v.channel, v.thread, name, m)
	if rest > 0 {
		v.soon(rest)
		v.quiet = false
	}
	return err
}

func (v *visit) all(ctx context.Context) error {
	s := v.p.s
	if root, ok := v.o.slots["root"]; ok && v.sess.Source == session.Alertmanager && root.TS != "" {
		if _, err := s.show(ctx, v.sess.ID, v.o, root.Channel, "", "root", s.incidentRoot(v.sess)); err != nil {
			return err
		}
	}
	for _, t := range v.sess.Turns {
		if err := v.turn(ctx, t); err != nil {
			return err
		}
	}
	for _, id := range v.sess.Plans {
		if err := v.plan(ctx, id); err != nil {
			return err
		}
	}
	return v.alerts(ctx)
}

// turn shows a question: its progress, then its answer in the same message, what is
// too long for it as a file, and the decisive series as pictures.
func (v *visit) turn(ctx context.Context, t session.Turn) error {
	s, name := v.p.s, turnSlot(t)
	if v.o.slots[name].Final && (t.State != session.Answered || v.o.slots[name+"/files"].Final) {
		return nil
	}
	switch t.State {
	case session.Queued:
		v.quiet = false
		return v.show(ctx, name, progress(t, live{}))
	case session.Running:
		v.quiet = false
		return v.show(ctx, name, progress(t, v.p.runs.view(ctx, v.sess.ID, t.Run)))
	case session.Answered:
	default:
		v.p.runs.drop(t.Run)
		return v.show(ctx, name, ended(t))
	}
	v.p.runs.drop(t.Run)
	r, err := s.svc.Run(ctx, t.Run)
	if errors.Is(err, store.ErrNotFound) {
		pg := newPage(maxBlocks)
		pg.text("*Answered*" + sentenceAfter(t.Headline) + "\nThe investigation " + escape(t.Run) + " is not kept any more.")
		return v.show(ctx, name, pg.message(true))
	}
	if err != nil {
		return err
	}
	m, whole := s.answer(v.sess, t, r.Report)
	if err := v.show(ctx, name, m); err != nil {
		return err
	}
	for i, e := range decisive(r.Report) {
		png, alt, err := chart(seriesOf(e), e)
		if err != nil {
			s.log.Warn("slack: a picture cannot be drawn", "run", t.Run, "evidence", e.ID, "error", err)
			continue
		}
		f := file{name: fmt.Sprintf("gumshoe-%s-%s.png", t.Run, e.ID), title: fmt.Sprintf("%s: %s", e.ID, alt), alt: alt, body: png}
		if err := s.attach(ctx, v.sess.ID, v.o, v.channel, v.thread, fmt.Sprintf("%s/chart%d", name, i), f); err != nil {
			return err
		}
	}
	if whole {
		f := file{name: fmt.Sprintf("gumshoe-%s.md", t.Run), title: "The whole answer of " + t.Run, body: []byte(render.Markdown(r.Report))}
		if err := s.attach(ctx, v.sess.ID, v.o, v.channel, v.thread, name+"/whole", f); err != nil {
			return err
		}
	}
	if done := name + "/files"; !v.o.slots[done].Final {
		n := slot{Slot: done, Final: true, Hash: "done"}
		if err := s.note(ctx, v.sess.ID, v.o, typeMade, n); err != nil {
			return err
		}
		v.o.slots[done] = n
	}
	return nil
}

// plan shows a plan's card, its diff where that is long, and its execution.
func (v *visit) plan(ctx context.Context, id string) error {
	s := v.p.s
	v.plans[id] = v.p.at(id) // before it is read: what comes in between is told
	rec, err := s.svc.Plan(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, whole := s.card(rec)
	if err := v.show(ctx, planSlot(id, "card"), m); err != nil {
		return err
	}
	if whole {
		body := render.Plan(render.PlanView{Plan: rec.Plan, Digest: rec.Digest, Decision: rec.Decision, State: incident.PlanPending, Now: rec.Plan.Created}, render.TextOptions{}) + "\n" + render.PlanDiff(rec.Plan)
		f := file{name: "gumshoe-" + id + ".diff", title: "Plan " + id + " with its whole diff", body: []byte(body)}
		if err := s.attach(ctx, v.sess.ID, v.o, v.channel, v.thread, planSlot(id, "diff"), f); err != nil {
			return err
		}
	}
	if m, ok := execution(rec); ok {
		if err := v.show(ctx, planSlot(id, "run"), m); err != nil {
			return err
		}
	}
	if rec.State == incident.PlanPending || rec.State == incident.PlanApproved {
		v.soon(max(rec.Plan.Expires.Sub(s.now()), 0) + time.Second) // nothing tells that a plan expired
	}
	if !rec.State.Final() {
		v.quiet = false
	}
	return nil
}

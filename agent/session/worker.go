package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Job is one attempt at a turn.
type Job struct {
	Session Session
	Turn    Turn
	// Run is the id that the run must have.
	Run string
	// Question is the turn's with what was said before.
	Question incident.Question
	// Model to use: the session's, or "offline" where the budget is spent; empty is
	// the configured one.
	Model string
	// Note is why it is not the session's, for the reader of the answer.
	Note string
}

// ErrAgain says that a job could not be done and is worth another attempt later, for
// example because the journal did not take its records.
var ErrAgain = errors.New("it is tried again")

// Investigate does a job. The report is complete also when the error is not nil,
// and its events are in the journal.
type Investigate func(ctx context.Context, j Job) (incident.Report, error)

// Defaults of a Worker.
const (
	DefaultLease    = 30 * time.Second
	DefaultAttempts = 3
	defaultPoll     = time.Second
	exchanges       = 5
)

// Worker takes turns from the queue and has them investigated. Several workers, of
// one process or many, share a store; each turn is worked on by one at a time.
type Worker struct {
	Book        *Book
	Queue       store.Queue
	Investigate Investigate
	// Concurrency is how many run at once here; 0 is 1. PerSource narrows it for one
	// surface.
	Concurrency int
	PerSource   map[string]int
	// Limits of what a day may cost.
	Limits Limits
	// Lease is how long a turn stays a dead worker's; 0 is DefaultLease.
	Lease time.Duration
	// Attempts is how often a turn is begun; 0 is DefaultAttempts.
	Attempts int
	// Grace is how long runs may go on once Serve's context has ended.
	Grace time.Duration
	Now   func() time.Time
	Log   *slog.Logger
	// Measure is told of each end, it may be nil.
	Measure func(Turn)

	mu      sync.Mutex
	running map[string]context.CancelCauseFunc // by turn
	sources map[string]int
	wake    chan struct{}
	once    sync.Once
}

// errCancelled is the cause with which a run ends that nobody wants any more.
var errCancelled = errors.New("the question was taken back")

// errDrain is the cause with which a run ends because its server does.
var errDrain = errors.New("the server is going down")

func (w *Worker) setup() {
	w.once.Do(func() {
		w.running, w.sources, w.wake = map[string]context.CancelCauseFunc{}, map[string]int{}, make(chan struct{}, 1)
		if w.Lease == 0 {
			w.Lease = DefaultLease
		}
		if w.Attempts == 0 {
			w.Attempts = DefaultAttempts
		}
		if w.Now == nil {
			w.Now = time.Now
		}
		if w.Log == nil {
			w.Log = slog.New(slog.DiscardHandler)
		}
	})
}

// Wake makes the worker look for work now.
func (w *Worker) Wake() {
	w.setup()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Running counts the turns that this worker is at.
func (w *Worker) Running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.running)
}

// Cancel ends a run of this process at once; one of another process ends with its
// next heartbeat.
func (w *Worker) Cancel(turn string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stop := w.running[turn]; stop != nil {
		stop(errCancelled)
	}
}

// Serve works until ctx ends. It then takes nothing more, lets what runs go on for
// Grace, and gives the rest back to the queue.
func (w *Worker) Serve(ctx context.Context) error {
	w.setup()
	runs, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	slots := make(chan struct{}, max(1, w.Concurrency))
	var wg sync.WaitGroup
	poll := time.NewTicker(defaultPoll)
	defer poll.Stop()
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		c, work, err := w.claim(ctx)
		if err != nil {
			<-slots
			if !errors.Is(err, store.ErrNothing) && ctx.Err() == nil {
				w.Log.Warn("the queue cannot be read", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-w.wake:
			case <-poll.C:
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-slots; w.Wake() }()
			defer w.leave(work.Source)
			if err := w.do(runs, c, work); err != nil {
				w.Log.Error("a turn could not be worked on", "session", work.Session, "turn", work.Turn, "error", err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	grace := time.NewTimer(w.Grace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		stop(errDrain)
		<-done
	}
	return nil
}

// claim takes the most urgent turn whose source has room here.
func (w *Worker) claim(ctx context.Context) (*store.Claim, Work, error) {
	for _, p := range Priorities() {
		c, err := w.Queue.Claim(ctx, queue(p), w.Lease)
		if errors.Is(err, store.ErrNothing) {
			continue
		}
		if err != nil {
			return nil, Work{}, err
		}
		work, err := decodeWork(c.Record.Data)
		if err != nil {
			w.Log.Error("a record of the queue cannot be read", "subject", c.Record.Subject, "error", err)
			return nil, Work{}, errors.Join(store.ErrNothing, c.Lease.Done(ctx))
		}
		if w.enter(work.Source) {
			return c, work, nil
		}
		if err := c.Lease.Release(ctx, defaultPoll); err != nil {
			return nil, work, err
		}
	}
	return nil, Work{}, store.ErrNothing
}

func (w *Worker) enter(source string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, ok := w.PerSource[source]; ok && w.sources[source] >= n {
		return false
	}
	w.sources[source]++
	return true
}

func (w *Worker) leave(source string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sources[source]--
}

// do works on one claim: it finishes what an earlier attempt left, or makes the
// next one.
func (w *Worker) do(ctx context.Context, c *store.Claim, work Work) error {
	s, err := w.Book.Get(ctx, work.Session)
	if r, ok := errors.AsType[*Refusal](err); ok && r.Gone {
		return c.Lease.Done(ctx) // the session was deleted
	}
	if err != nil {
		return errors.Join(err, c.Lease.Release(ctx, w.Lease))
	}
	t, ok := s.Turn(work.Turn)
	if !ok || t.State.Ended() {
		return c.Lease.Done(ctx)
	}
	if t.State == Running {
		ended, err := w.takeUp(ctx, s, t)
		if err != nil {
			return errors.Join(err, c.Lease.Release(ctx, w.Lease))
		}
		if ended {
			return c.Lease.Done(ctx)
		}
	}
	return w.attempt(ctx, c, s, t)
}

// takeUp looks at what a worker left that is gone: a run that reached its end is
// taken as the answer, one that did not is marked as abandoned, and one that was
// interrupted is passed over. ended says that nothing is left to do.
func (w *Worker) takeUp(ctx context.Context, s Session, t Turn) (ended bool, err error) {
	j, ok := w.Book.Journal.(store.AppendLoader)
	if !ok {
		return false, errors.New("the journal cannot mark a run")
	}
	r, err := store.LoadRun(ctx, j, t.Run)
	switch {
	case errors.Is(err, store.ErrNotFound): // it was cut off before its first record
	case err != nil:
		return false, err
	case r.State == store.RunDone && r.Report.Stop == incident.StopInterrupted:
		// Its worker lost the lease, or went down, and still told the end: no answer.
	case r.State == store.RunDone:
		_, err := w.Book.finish(ctx, s.ID, answered(t, r.Report))
		return true, err
	default:
		_, err := store.Abandon(ctx, j, t.Run, "its server ended")
		if _, busy := errors.AsType[*store.ConflictError](err); busy {
			return false, fmt.Errorf("run %s is still written to: %w", t.Run, err)
		}
		if err != nil {
			return false, err
		}
	}
	if t.Attempt >= w.Attempts {
		t.State, t.Reason = Failed, fmt.Sprintf("its server ended %d times while it ran; ask again", t.Attempt)
		_, err := w.Book.finish(ctx, s.ID, t)
		return true, err
	}
	return false, nil
}

// runID names an attempt.
func runID(turn string, attempt int) string {
	if attempt == 1 {
		return turn
	}
	return fmt.Sprintf("%s-%d", turn, attempt)
}

func (w *Worker) attempt(ctx context.Context, c *store.Claim, s Session, t Turn) error {
	t.Attempt++
	t.Run = runID(t.ID, t.Attempt)
	s, err := w.Book.put(ctx, s.ID, TypeBegun, Change{Begun: &Begun{Turn: t.ID, Run: t.Run, Attempt: t.Attempt}}, func(s Session) bool {
		o, _ := s.Turn(t.ID)
		return o.State.Ended()
	})
	if err != nil {
		return errors.Join(err, c.Lease.Release(ctx, w.Lease))
	}
	if o, _ := s.Turn(t.ID); o.State.Ended() {
		return c.Lease.Done(ctx)
	}
	j := Job{Session: s, Turn: t, Run: t.Run, Question: t.Question, Model: s.Model}
	j.Question.Before = w.before(ctx, s, t)
	if why, err := w.Limits.spent(ctx, w.Book.Journal, t.Source, w.Now()); err != nil || why != "" {
		j.Model, j.Note = "offline", why
		if err != nil {
			j.Note = "what was spent today cannot be read, so that no model is asked: " + err.Error()
		}
	}
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.mu.Lock()
	w.running[t.ID] = stop
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, t.ID)
		w.mu.Unlock()
	}()
	beat, halt := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.heartbeat(beat, c, s.ID, t.ID, stop) })
	rep, err := w.Investigate(run, j)
	halt()
	wg.Wait()
	ctx = context.WithoutCancel(ctx)
	switch cause := context.Cause(run); {
	case errors.Is(cause, errCancelled): // its end is in the journal
		return errors.Join(w.Limits.spend(ctx, w.Book.Journal, t, rep.Usage, w.Now()), c.Lease.Done(ctx))
	case errors.Is(cause, store.ErrLost):
		return fmt.Errorf("turn %s: %w", t.ID, cause)
	case cause != nil: // the server goes down: another one begins again
		return c.Lease.Release(ctx, 0)
	}
	if errors.Is(err, ErrAgain) {
		return errors.Join(fmt.Errorf("turn %s: %w", t.ID, err), c.Lease.Release(ctx, w.Lease))
	}
	e := answered(t, rep)
	if err != nil {
		e.State, e.Reason = Failed, err.Error()
	} else if j.Note != "" {
		e.Reason = j.Note
	}
	spent := w.Limits.spend(ctx, w.Book.Journal, t, rep.Usage, w.Now())
	if _, err := w.Book.finish(ctx, s.ID, e); err != nil {
		return errors.Join(err, spent, c.Lease.Release(ctx, w.Lease))
	}
	if w.Measure != nil {
		w.Measure(e)
	}
	return errors.Join(spent, c.Lease.Done(ctx))
}

// before is what was said earlier, and of the newest what it was about: that is what
// a question means that names nothing.
func (w *Worker) before(ctx context.Context, s Session, t Turn) []incident.Exchange {
	out := s.Exchanges(t.ID, exchanges)
	if len(out) == 0 {
		return nil
	}
	last := &out[len(out)-1]
	r, err := store.LoadRun(ctx, w.Book.Journal, last.Run)
	if err != nil {
		w.Log.Warn("an earlier answer cannot be read", "run", last.Run, "error", err)
		return out
	}
	last.Subjects = r.Report.Subjects
	return out
}

// heartbeat keeps the lease and sees when the turn is taken back.
func (w *Worker) heartbeat(ctx context.Context, c *store.Claim, session, turn string, stop context.CancelCauseFunc) {
	tick := time.NewTicker(max(w.Lease/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A store that cannot be reached for a moment costs nothing; a lease that is
		// lost means that another works on it.
		if err := c.Lease.Extend(ctx, w.Lease); errors.Is(err, store.ErrLost) {
			stop(err)
			return
		}
		s, err := w.Book.Get(ctx, session)
		if r, ok := errors.AsType[*Refusal](err); ok && r.Gone {
			stop(errCancelled)
			return
		}
		if err != nil {
			continue
		}
		if t, ok := s.Turn(turn); !ok || t.State.Ended() {
			stop(errCancelled)
			return
		}
	}
}

// answered is a turn with what a report says.
func answered(t Turn, r incident.Report) Turn {
	t.State, t.Outcome, t.Model, t.Usage = Answered, r.Diagnosis.Outcome, r.Model, r.Usage
	t.Headline = headline(r)
	return t
}

// maxHeadline is the longest headline, in runes.
const maxHeadline = 300

// headline is the diagnosis in a sentence.
func headline(r incident.Report) string {
	d := r.Diagnosis
	switch {
	case len(d.Causes) > 0:
		return cut(d.Causes[0].Statement, maxHeadline)
	case d.Outcome == incident.Healthy:
		return "nothing is wrong with what was asked about"
	case d.Outcome == incident.Recovered:
		return "it is over; what caused it is not proven"
	}
	if len(d.NotSeen) > 0 {
		return cut("no cause is proven; "+d.NotSeen[0].Source+" could not be seen: "+strings.TrimSpace(d.NotSeen[0].Why), maxHeadline)
	}
	return "no cause is proven by what could be seen"
}

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/event"
)

// runPrefix is the name under which runs are journalled.
const runPrefix = "run"

// Runs is the pattern of all runs.
const Runs = runPrefix + ".>"

// RunSubject is the subject of a run with this id; the error says why the id
// cannot be one.
func RunSubject(id string) (string, error) {
	s := runPrefix + "." + id
	if err := CheckSubject(s); err != nil {
		return "", fmt.Errorf("run id: %w", err)
	}
	return s, nil
}

// RunLogOptions of a RunLog; all of them may be left out.
type RunLogOptions struct {
	// Begin is called with the run's subject before its first record.
	Begin func(ctx context.Context, subject string) error
	// Failed is told once why the run is not journalled further.
	Failed func(error)
}

// RunLog is the sink that journals one run: every event that must not be lost
// becomes a record as it happens, with the event's type. When the journal fails,
// the log says so once and takes no more; the run itself goes on.
//
// The record of a run begins with its first event and ends with run.ended; see
// LoadRun for a run that was cut off.
type RunLog struct {
	ctx     context.Context
	journal Appender
	opts    RunLogOptions

	mu      sync.Mutex
	subject string
	last    uint64
	off     bool
	ended   bool
}

var _ event.Sink = (*RunLog)(nil)

// NewRunLog makes the log of one run. The end of ctx does not stop it: a run that
// is interrupted still says so.
func NewRunLog(ctx context.Context, journal Appender, o RunLogOptions) *RunLog {
	return &RunLog{ctx: context.WithoutCancel(ctx), journal: journal, opts: o}
}

// Emit implements event.Sink.
func (l *RunLog) Emit(e event.Event) {
	if e.Type.Droppable() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return
	}
	if err := l.take(e); err != nil {
		l.off = true
		if l.opts.Failed != nil {
			l.opts.Failed(err)
		}
	}
}

// Subject is that of the run, empty before its first event.
func (l *RunLog) Subject() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subject
}

// Ended reports whether the run's end is in the journal.
func (l *RunLog) Ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func (l *RunLog) take(e event.Event) error {
	if l.subject == "" {
		s, err := RunSubject(e.Run)
		if err != nil {
			return err
		}
		if l.opts.Begin != nil {
			if err := l.opts.Begin(l.ctx, s); err != nil {
				return err
			}
		}
		l.subject = s
	}
	data, err := encodeEvent(e)
	if err != nil {
		return err
	}
	if err := l.append(Entry{Type: string(e.Type), Data: data}); err != nil {
		return err
	}
	l.ended = l.ended || e.Type == event.RunEnded
	return nil
}

// rivals is how often a record that another writer put behind ours is stepped over.
const rivals = 3

func (l *RunLog) append(e Entry) error {
	for n := 0; ; n++ {
		last, err := l.journal.Append(l.ctx, l.subject, l.last, e)
		if err == nil {
			l.last = last
			return nil
		}
		c, ok := errors.AsType[*ConflictError](err)
		if !ok || l.last == 0 || n == rivals {
			return err
		}
		l.last = c.Last
	}
}

// encodeEvent gives the JSON of an event, within MaxData. What is left out then
// is what stands elsewhere: evidence of a report has its own events, the data of
// evidence is kept under its digest.
func encodeEvent(e event.Event) (json.RawMessage, error) {
	for _, shrink := range []func(event.Event) event.Event{
		func(e event.Event) event.Event { return e },
		withoutEvidence, withoutData, bare,
	} {
		e = shrink(e)
		raw, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("event %d (%s): %w", e.Seq, e.Type, err)
		}
		if len(raw) <= MaxData {
			return raw, nil
		}
	}
	return nil, fmt.Errorf("event %d (%s) is %w", e.Seq, e.Type, ErrTooLarge)
}

func withoutEvidence(e event.Event) event.Event {
	if e.Report != nil {
		r := *e.Report
		r.Evidence, r.Findings = nil, nil
		e.Report = &r
	}
	return e
}

func withoutData(e event.Event) event.Event {
	if e.Evidence != nil {
		ev := *e.Evidence
		ev.Data, ev.Truncated = nil, true
		e.Evidence = &ev
	}
	return e
}

func bare(e event.Event) event.Event {
	return event.Event{Seq: e.Seq, Run: e.Run, At: e.At, Type: e.Type}
}

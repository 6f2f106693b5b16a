package slack

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// live is how far a run came, as its events tell.
type live struct {
	phase      string
	calls      int
	findings   int
	last       []string
	leading    string
	confidence float64
}

// callsShown is how many of the last looks are named while a run works.
const callsShown = 4

func (v live) with(e event.Event) live {
	switch e.Type {
	case event.Phase:
		v.phase = e.Phase
	case event.ToolFinished:
		if e.Evidence == nil {
			break
		}
		v.calls++
		what := e.Evidence.ID + " " + e.Evidence.Tool
		if a := argsOf(string(e.Evidence.Args)); a != "" {
			what += " " + a
		}
		if e.Evidence.Error != "" {
			what += ": failed"
		}
		v.last = append(v.last[max(0, len(v.last)-callsShown+1):len(v.last):len(v.last)], what)
	case event.Found:
		v.findings++
	case event.Hypotheses:
		v.leading, v.confidence = "", 0
		for _, h := range e.Hypotheses {
			if !h.Refuted {
				v.leading, v.confidence = h.Cause.Statement, h.Cause.Confidence
				break
			}
		}
	case event.ModelStarted:
		v.phase = "the model reads"
	}
	return v
}

// argsOf shortens the arguments of a call to what a line holds.
func argsOf(raw string) string {
	s := strings.NewReplacer(`"`, "", "{", "", "}", "", ",", " ", ":", "=").Replace(raw)
	if r := []rune(s); len(r) > 80 {
		s = string(r[:79]) + "…"
	}
	return s
}

// watcher follows the runs that are at work.
type watcher struct {
	svc   Follower
	dirty func(session string)

	mu   sync.Mutex
	runs map[string]*watched
	wg   sync.WaitGroup
}

type watched struct {
	view live
	stop context.CancelFunc
}

// view gives how far a run came, and follows it from now on.
func (w *watcher) view(ctx context.Context, sess, run string) live {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.runs[run]; r != nil {
		return r.view
	}
	ctx, stop := context.WithCancel(ctx)
	r := &watched{stop: stop}
	w.runs[run] = r
	w.wg.Go(func() {
		defer stop()
		for told, err := range w.svc.Events(ctx, run, 0) {
			if err != nil {
				break
			}
			if told.Event.Type == event.Delta {
				continue
			}
			w.mu.Lock()
			r.view = r.view.with(told.Event)
			w.mu.Unlock()
			w.dirty(sess)
		}
	})
	return r.view
}

// drop ends following a run that has ended.
func (w *watcher) drop(run string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.runs[run]; r != nil {
		r.stop()
		delete(w.runs, run)
	}
}

// decisive gives the evidence whose series a picture is worth: those that causes
// cite, the first that holds series.
func decisive(r incident.Report) []incident.Evidence {
	var out []incident.Evidence
	for _, c := range r.Diagnosis.Causes {
		for _, id := range c.Evidence {
			for _, e := range r.Evidence {
				if e.ID == id && len(seriesOf(e)) > 0 && len(out) < 2 && !has(out, id) {
					out = append(out, e)
				}
			}
		}
	}
	return out
}

func has(all []incident.Evidence, id string) bool {
	for _, e := range all {
		if e.ID == id {
			return true
		}
	}
	return false
}

// turnSlot names the message of a turn.
func turnSlot(t session.Turn) string { return "turn/" + t.ID }

func planSlot(id, part string) string { return fmt.Sprintf("plan/%s/%s", id, part) }

package web

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// eventView is a line of the timeline.
type eventView struct {
	// ID is unique on a page; Into is the list that a new line goes to.
	ID, Into string
	Time     string
	// Kind is the class of the line, Label the word for it.
	Kind, Label string
	Text        string
	Detail      string
	Took        string
	Evidence    string
	Failed      bool
	Busy        bool
}

// maxTimeline bounds the lines of a timeline.
const maxTimeline = 1000

// timeline makes lines of events. A call is one line, which its end completes.
type timeline struct {
	run string
	by  map[string]string
}

func newTimeline(run string) *timeline { return &timeline{run: run, by: map[string]string{}} }

// line gives what an event adds or changes; false when it shows nothing.
func (t *timeline) line(e event.Event) (eventView, bool) {
	v := eventView{ID: fmt.Sprintf("ev-%s-%d", t.run, e.Seq), Into: "timeline-" + t.run, Time: e.At.UTC().Format("15:04:05")}
	switch e.Type {
	case event.RunStarted:
		v.Kind, v.Label, v.Text = "mark", "begun", "The investigation began."
		if e.Started != nil {
			v.Text = "The investigation began, " + withModel(e.Started.Model) + "."
		}
	case event.Resolved:
		v.Kind, v.Label, v.Text = "mark", "subject", "It is about "+strings.Join(refs(e.Subjects), ", ")+"."
		if len(e.Subjects) == 0 {
			v.Text = "The question names no object that is there."
		}
	case event.ToolStarted:
		if e.Call == nil {
			return v, false
		}
		t.by[e.Call.ID] = who(e.Call.By)
		v.ID = fmt.Sprintf("ev-%s-%s", t.run, clean(e.Call.ID))
		v.Kind, v.Label, v.Text, v.Detail, v.Busy = "call", "look", clean(e.Call.Tool), clip(arguments([]byte(e.Call.Args)), 200), true
	case event.ToolFinished:
		if e.Evidence == nil {
			return v, false
		}
		t.call(&v, *e.Evidence)
	case event.Found:
		if e.Finding == nil {
			return v, false
		}
		f := e.Finding
		v.Kind, v.Label, v.Text, v.Detail = "finding "+string(f.Role), string(f.Role), sentence(clean(f.Message)), clean(f.Code)+" on "+clean(f.Subject.String())
	case event.Hypotheses:
		v.Kind, v.Label, v.Text = "mark", "weighed", plural(len(e.Hypotheses), "possible cause was weighed.", "possible causes were weighed.")
		if h := hypotheses(e.Hypotheses); len(h) > 0 && !h[0].Refuted {
			v.Detail = h[0].Confidence + " " + h[0].Statement
		}
	case event.ModelEnded:
		if e.Model == nil {
			return v, false
		}
		m := e.Model
		v.Kind, v.Label, v.Text = "model", "model", fmt.Sprintf("%s, turn %d", clean(m.Name), m.Turn)
		v.Detail = clip(clean(m.Text), 400)
		if m.InputTokens+m.OutputTokens > 0 {
			v.Took = fmt.Sprintf("%d tokens", m.InputTokens+m.OutputTokens)
		}
		if m.Error != "" {
			v.Failed, v.Detail = true, sentence(clean(m.Error))
		}
	case event.Rejected:
		v.Kind, v.Label, v.Text, v.Failed = "mark", "sent back", "The evidence does not carry the diagnosis; it went back.", true
		if e.Rejection != nil {
			v.Detail = clip(strings.Join(cleanAll(e.Rejection.Reasons), "; "), 600)
			if e.Rejection.Final {
				v.Text = "The evidence does not carry parts of the diagnosis; they are shown as unsupported."
			}
		}
	case event.Notice:
		if e.Notice == nil {
			return v, false
		}
		v.Kind, v.Label, v.Text, v.Failed = "mark", clean(e.Notice.Level), sentence(clean(e.Notice.Text)), e.Notice.Level != "info"
	case event.Concluded:
		v.Kind, v.Label, v.Text = "mark", "concluded", "A diagnosis was reached."
		if e.Diagnosis != nil {
			v.Text = "Concluded: " + outcomeState(e.Diagnosis.Outcome).Text + "."
		}
	case event.RunEnded:
		v.Kind, v.Label, v.Text = "mark", "ended", "The investigation ended."
		if e.Report != nil {
			v.Detail = cost(e.Report.Usage)
		}
	default:
		return v, false
	}
	return v, true
}

// call completes the line of a call.
func (t *timeline) call(v *eventView, ev incident.Evidence) {
	v.ID = fmt.Sprintf("ev-%s-%s", t.run, clean(ev.ID))
	v.Kind, v.Label, v.Text, v.Took, v.Evidence = "call", "look", clean(ev.Tool), took(ev.Millis), clean(ev.ID)
	v.Time = ev.At.UTC().Format("15:04:05")
	v.Detail = clip(arguments(ev.Args), 200)
	if by := t.by[ev.ID]; by != "" {
		v.Label = by
	}
	if ev.Error != "" {
		v.Failed, v.Detail = true, strings.TrimSpace(v.Detail+" failed: "+clean(ev.Error))
	}
}

// who says on whose behalf a call is made.
func who(by string) string {
	by = clean(by)
	if book, ok := strings.CutPrefix(by, "runbook:"); ok {
		return "runbook " + book
	}
	if by == "triage" || by == "" {
		return "look"
	}
	return by
}

func withModel(name string) string {
	if name = clean(name); name == "" || name == "offline" {
		return "without a model"
	}
	return "with " + name
}

// patience is how long a page waits for the events of a run that the journal already
// holds.
const patience = 5 * time.Second

// readTimeline gives the lines of what the journal holds of a run up to where it was
// loaded, and the machine that goes on from there.
func (s *Web) readTimeline(ctx context.Context, r store.Run) ([]eventView, *timeline, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := newTimeline(r.ID)
	at := map[string]int{}
	var out []eventView
	if r.Seq == 0 {
		return out, t, nil
	}
	for told, err := range s.svc.Events(ctx, r.ID, 0) {
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return out, t, err
		}
		if v, ok := t.line(told.Event); ok {
			if i, there := at[v.ID]; there {
				out[i] = v
			} else if len(out) < maxTimeline {
				at[v.ID] = len(out)
				out = append(out, v)
			}
		}
		if told.Seq >= r.Seq {
			break
		}
	}
	return out, t, nil
}

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// RunState says how far a journalled run came.
type RunState string

const (
	// RunOpen: the journal does not hold the end. The run is at work, or its
	// process is gone; only a store that knows its writers can tell.
	RunOpen RunState = "open"
	// RunDone: the journal holds the end and the report.
	RunDone RunState = "ended"
	// RunAbandoned: the run was marked as cut off.
	RunAbandoned RunState = "abandoned"
)

// Abandoned is the type of the record that marks a run as cut off. Its data is
// an Abandonment.
const Abandoned = "run.abandoned"

// Abandonment says why nobody works on a run any more.
type Abandonment struct {
	Reason string `json:"reason"`
}

// Run is what the journal holds of an investigation: a projection of its records.
type Run struct {
	ID    string   `json:"id"`
	State RunState `json:"state"`
	// Report is the run's own when State is "ended". Otherwise it is put together
	// from what is there: the evidence and findings until then, the diagnosis if
	// one was reached, Stop "interrupted" and a StopReason that says so.
	Report incident.Report `json:"report"`
	// Hypotheses are those last told.
	Hypotheses []incident.Hypothesis `json:"hypotheses,omitempty"`
	// Seq and At are those of the last record.
	Seq uint64    `json:"seq"`
	At  time.Time `json:"at"`
	// Reason is why the run was abandoned, if it is.
	Reason string `json:"reason,omitempty"`

	concluded bool
	ended     bool
}

// LoadRun rebuilds a run from the journal; ErrNotFound when there is none with
// this id.
func LoadRun(ctx context.Context, l Loader, id string) (Run, error) {
	subject, err := RunSubject(id)
	if err != nil {
		return Run{}, err
	}
	r, last, err := Project(ctx, l, subject, 0, Run{ID: id, State: RunOpen, Report: incident.Report{ID: id}}, foldRun)
	if err != nil {
		return r, err
	}
	if last == 0 {
		return r, fmt.Errorf("run %q is %w", id, ErrNotFound)
	}
	r.complete()
	return r, nil
}

// foldRun takes one record into a run. Records of types it does not know are
// passed over: a later version may write more.
func foldRun(r Run, rec Record) (Run, error) {
	r.Seq, r.At = rec.Seq, rec.At
	if rec.Type == Abandoned {
		var a Abandonment
		if err := json.Unmarshal(rec.Data, &a); err != nil {
			return r, err
		}
		if !r.ended {
			r.State, r.Reason = RunAbandoned, a.Reason
		}
		return r, nil
	}
	switch event.Type(rec.Type) {
	case event.RunStarted, event.Resolved, event.ToolFinished, event.Found, event.Hypotheses, event.ModelEnded, event.Concluded, event.RunEnded:
	default:
		return r, nil
	}
	var e event.Event
	if err := json.Unmarshal(rec.Data, &e); err != nil {
		return r, err
	}
	e.Type = event.Type(rec.Type)
	p := &r.Report
	if !r.ended && e.At.After(p.Ended) {
		p.Ended = e.At
	}
	switch {
	case e.Started != nil:
		p.Question, p.Alert, p.Cluster, p.Model, p.Started = e.Started.Question.Text, e.Started.Question.Alert, e.Started.Question.Cluster, e.Started.Model, e.At
		if p.Question == "" && p.Alert != nil {
			p.Question = "alert " + p.Alert.Name
		}
	case e.Type == event.Resolved:
		p.Subjects = e.Subjects
	case e.Type == event.ToolFinished && e.Evidence != nil:
		p.Evidence = append(p.Evidence, *e.Evidence)
		p.Usage.ToolCalls++
		for _, s := range e.Evidence.Suspicious {
			p.Suspicious = append(p.Suspicious, e.Evidence.ID+": "+s)
		}
	case e.Type == event.Found && e.Finding != nil:
		p.Findings = append(p.Findings, *e.Finding)
	case e.Type == event.Hypotheses:
		r.Hypotheses = e.Hypotheses
	case e.Type == event.ModelEnded && e.Model != nil:
		p.Usage.Steps++
		p.Usage.InputTokens += e.Model.InputTokens
		p.Usage.OutputTokens += e.Model.OutputTokens
		p.Usage.Cost += e.Model.Cost
	case e.Type == event.Concluded && e.Diagnosis != nil:
		p.Diagnosis, r.concluded = *e.Diagnosis, true
	case e.Type == event.RunEnded:
		r.State, r.ended, r.Reason = RunDone, true, ""
		if e.Report != nil {
			seen, found := p.Evidence, p.Findings
			*p = *e.Report
			// The report of a very large run is journalled without what its
			// events hold already.
			if p.Evidence == nil {
				p.Evidence = seen
			}
			if p.Findings == nil {
				p.Findings = found
			}
		}
	}
	return r, nil
}

// complete makes the report whole: as the run would have given it, or, of a run
// without an end, as far as it came.
func (r *Run) complete() {
	p := &r.Report
	slices.SortStableFunc(p.Evidence, func(a, b incident.Evidence) int { return number(a.ID) - number(b.ID) })
	if p.Evidence == nil {
		p.Evidence = []incident.Evidence{}
	}
	if p.Cluster == "" && len(p.Evidence) > 0 {
		p.Cluster = p.Evidence[0].Cluster
	}
	if r.ended && p.Stop != "" {
		return
	}
	if r.ended { // its report did not fit into a record
		p.Stop, p.StopReason = incident.StopDone, "the report is put together from the events of the run"
		return
	}
	p.Stop = incident.StopInterrupted
	p.StopReason = "the run was cut off before its end"
	if n := len(p.Evidence); n > 0 {
		p.StopReason = fmt.Sprintf("the run was cut off after %s; what it had seen until then is kept", p.Evidence[n-1].ID)
	}
	if r.Reason != "" {
		p.StopReason += " (" + r.Reason + ")"
	}
	if !p.Started.IsZero() && p.Ended.After(p.Started) {
		p.Usage.Seconds = p.Ended.Sub(p.Started).Seconds()
	}
	if r.concluded {
		return
	}
	p.Diagnosis = incident.Diagnosis{
		Outcome: incident.Inconclusive, Causes: []incident.Cause{}, Chain: []incident.Edge{}, Checked: []incident.CheckedItem{},
		NotSeen:   []incident.Gap{{Source: "the rest of the run", Why: p.StopReason, Fix: "ask again"}},
		Proposals: []incident.Proposal{},
	}
}

// number orders evidence ids: E10 comes after E9.
func number(id string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "E"))
	if err != nil {
		return 0
	}
	return n
}

// AppendLoader reads and appends.
type AppendLoader interface {
	Appender
	Loader
}

// Abandon marks a run as cut off, unless the journal holds its end or the mark
// already, and gives what is there of it. A run that wrote in the same moment is
// at work: the error is then a *ConflictError and nothing is marked.
func Abandon(ctx context.Context, j AppendLoader, id, reason string) (Run, error) {
	r, err := LoadRun(ctx, j, id)
	if err != nil || r.State != RunOpen {
		return r, err
	}
	data, err := json.Marshal(Abandonment{Reason: reason})
	if err != nil {
		return r, err
	}
	subject, err := RunSubject(id)
	if err != nil {
		return r, err
	}
	_, err = j.Append(ctx, subject, r.Seq, Entry{Type: Abandoned, Data: data})
	if err != nil {
		return r, fmt.Errorf("mark run %s as abandoned: %w", id, err)
	}
	return LoadRun(ctx, j, id)
}

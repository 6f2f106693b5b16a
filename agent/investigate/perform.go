package investigate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Bounds of what is kept of one answer, in bytes.
const (
	// maxError is the longest error sentence.
	maxError = 2 << 10
	// maxData is the largest data kept with the evidence; larger data is spilled.
	maxData = 1 << 20
	// maxFindingText bounds the findings that are added to the text.
	maxFindingText = 3 << 10
)

// perform makes the call of a record and completes it.
func (l *Ledger) perform(ctx context.Context, e *offer, r *record, raw json.RawMessage) (incident.Evidence, tool.Result) {
	start := time.Now()
	res, err := l.contained(ctx, e, raw)
	ev := r.ev
	ev.Millis = time.Since(start).Milliseconds()
	var full output
	if err != nil {
		ev.Error, ev.ErrorKind = l.cfg.Redactor.String(short(tool.UserText(err), maxError)), string(tool.KindOf(err))
		ev.Suspicious = l.suspicious(ev.Error)
		res = tool.Result{}
	} else {
		res = l.redact(res)
		fill(&res, ev.ID, ev.Cluster)
		full = output{Text: res.Text + findingText(res), Data: res.Data}
		l.keep(&ev, full, e.info.MaxText)
		// The data is often what the text says once more; only what the text
		// does not show is looked through a second time.
		ev.Suspicious = l.suspicious(full.Text, leaves(full.Data))
	}

	l.mu.Lock()
	r.ev, r.res = ev, res
	if ev.Truncated {
		r.full = output{}
	} else {
		r.full = full
	}
	if err != nil {
		delete(l.byKey, r.key) // a failed look may be repeated
	}
	fresh := l.fresh(res.Findings)
	close(r.done)
	l.mu.Unlock()

	l.cfg.Sink.Emit(event.Event{Type: event.ToolFinished, Evidence: &ev})
	for i := range fresh {
		l.cfg.Sink.Emit(event.Event{Type: event.Found, Finding: &fresh[i]})
	}
	return ev, res
}

// contained runs the tool so that neither a panic nor a tool that ignores its
// context can take the run with it.
func (l *Ledger) contained(parent context.Context, e *offer, raw json.RawMessage) (tool.Result, error) {
	ctx, cancel := context.WithTimeout(parent, l.cfg.CallTimeout)
	defer cancel()
	type answer struct {
		res tool.Result
		err error
	}
	out := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a = answer{err: &tool.Error{Kind: tool.Internal, User: e.info.Name + " failed inside; this is a fault of the tool, not of the cluster", Err: fmt.Errorf("panic: %v", p)}}
			}
			out <- a
		}()
		a.res, a.err = e.tool.Call(ctx, raw)
	}()
	var a answer
	select {
	case a = <-out:
	case <-ctx.Done():
		select {
		case a = <-out:
		case <-time.After(abandonAfter):
			a.err = ctx.Err()
		}
	}
	if a.err == nil {
		return a.res, nil
	}
	if ctx.Err() != nil && tool.KindOf(a.err) != tool.Unreachable {
		user := fmt.Sprintf("%s did not answer within %s", e.info.Name, l.cfg.CallTimeout)
		if parent.Err() != nil {
			user = e.info.Name + " was interrupted"
		}
		return tool.Result{}, &tool.Error{Kind: tool.TimedOut, User: user, Err: a.err}
	}
	if errors.Is(a.err, context.DeadlineExceeded) && tool.KindOf(a.err) == tool.Internal {
		return tool.Result{}, &tool.Error{Kind: tool.TimedOut, User: e.info.Name + " did not get an answer in time", Err: a.err}
	}
	return tool.Result{}, a.err
}

// redact masks everything a tool answered.
func (l *Ledger) redact(res tool.Result) tool.Result {
	r := l.cfg.Redactor
	out := tool.Result{Text: r.String(res.Text), Edges: slices.Clone(res.Edges)}
	if len(res.Data) > 0 {
		out.Data = r.JSON(res.Data)
	}
	for _, f := range res.Findings {
		f.Message = r.String(f.Message)
		if f.Params != nil {
			params := make(map[string]string, len(f.Params))
			for k, v := range f.Params {
				params[k] = r.String(v)
			}
			f.Params = params
		}
		out.Findings = append(out.Findings, f)
	}
	return out
}

// fill puts the evidence id into findings and edges, and the cluster into
// references that do not name theirs.
func fill(res *tool.Result, id, cluster string) {
	stamp := func(r *incident.Ref) {
		if r.Cluster == "" && !r.IsZero() {
			r.Cluster = cluster
		}
	}
	for i := range res.Findings {
		f := &res.Findings[i]
		f.Evidence = []string{id}
		stamp(&f.Subject)
	}
	for i := range res.Edges {
		e := &res.Edges[i]
		e.Evidence = []string{id}
		stamp(&e.From)
		stamp(&e.To)
	}
}

// fresh gives the findings that no earlier call had, and remembers them.
func (l *Ledger) fresh(fs []incident.Finding) []incident.Finding {
	var out []incident.Finding
	for _, f := range fs {
		k := told{f.Code, f.Subject}
		if !l.told[k] {
			l.told[k] = true
			out = append(out, f)
		}
	}
	return out
}

// merged is a list of findings that holds each code once per subject: the
// surest one, with all evidence.
type merged struct {
	list []incident.Finding
	at   map[told]int
}

func (m *merged) add(fs ...incident.Finding) {
	if m.at == nil {
		m.at = map[told]int{}
	}
	for _, f := range fs {
		k := told{f.Code, f.Subject}
		i, have := m.at[k]
		if !have {
			m.at[k] = len(m.list)
			m.list = append(m.list, f)
			continue
		}
		ids := union(m.list[i].Evidence, f.Evidence)
		if f.Score() > m.list[i].Score() {
			m.list[i] = f
		}
		m.list[i].Evidence = ids
	}
}

func (l *Ledger) suspicious(texts ...string) []string {
	if l.cfg.Suspicious == nil {
		return nil
	}
	var out []string
	for _, t := range texts {
		for _, s := range l.cfg.Suspicious(t) {
			s = l.cfg.Redactor.String(short(s, 200))
			if len(out) < 10 && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// union appends what is not there yet, without touching either slice.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

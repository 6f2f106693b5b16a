package tui

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// look is one tool call as the screen shows it.
type look struct {
	id, tool, args, by string
	begun              time.Time
	done               bool
	millis             int64
	err                string
	text               string
}

// turn is a question at work: what its run has told so far.
type turn struct {
	session.Turn
	// seq is the journal's, from which following is taken up again.
	seq   uint64
	asked time.Time
	looks []*look
	hyps  []incident.Hypothesis
	found int
	phase string
	model string
	// said are the model's finished texts; live is the one that comes.
	said     []string
	live     *stream
	thinking bool
	in, out  int
	window   int // input tokens of the last model turn
	cost     float64
	warnings []string
	rejected []string
	// stopping says that the person took the question back.
	stopping bool
	ended    bool
}

func newTurn(t session.Turn, now time.Time) *turn {
	if !t.Asked.IsZero() && t.Asked.Before(now) {
		now = t.Asked
	}
	return &turn{Turn: t, asked: now}
}

// runID is the run that is followed.
func (t *turn) runID() string {
	if t.Run != "" {
		return t.Run
	}
	return t.ID
}

// restart forgets what an attempt told that was cut off.
func (t *turn) restart(run string) {
	asked, q := t.asked, t.Turn
	q.Run = run
	*t = turn{Turn: q, asked: asked, stopping: t.stopping}
}

// take folds one event. now is when it came: the event's own time may be that of a
// recorded cluster.
func (t *turn) take(told session.Told, now time.Time, th theme, width int) {
	e := told.Event
	if told.Seq > 0 {
		if told.Seq <= t.seq {
			return
		}
		t.seq = told.Seq
	}
	switch e.Type {
	case event.RunStarted:
		if e.Started != nil {
			t.model = e.Started.Model
		}
	case event.Phase:
		t.phase = clean(e.Phase)
	case event.ToolStarted:
		if e.Call != nil && t.look(e.Call.ID) == nil {
			t.looks = append(t.looks, &look{id: clean(e.Call.ID), tool: clean(e.Call.Tool), args: argsLine(e.Call.Args), by: clean(e.Call.By), begun: now})
		}
	case event.ToolFinished:
		if e.Evidence != nil {
			t.finish(*e.Evidence)
		}
	case event.Found:
		t.found++
	case event.Hypotheses:
		t.hyps = e.Hypotheses
	case event.ModelStarted:
		if e.Model != nil {
			t.phase, t.model, t.live, t.thinking = fmt.Sprintf("%s thinks (turn %d)", clean(e.Model.Name), e.Model.Turn), e.Model.Name, nil, false
		}
	case event.Delta:
		t.piece(e.Model, th, width)
	case event.ModelEnded:
		if m := e.Model; m != nil {
			t.in, t.out, t.cost, t.window = t.in+m.InputTokens, t.out+m.OutputTokens, t.cost+m.Cost, m.InputTokens
			t.live, t.thinking = nil, false
			if s := strings.TrimSpace(m.Text); s != "" {
				t.said = append(t.said, s)
			}
		}
	case event.Rejected:
		if e.Rejection != nil {
			t.rejected = append(t.rejected, e.Rejection.Reasons...)
		}
	case event.Notice:
		if n := e.Notice; n != nil && n.Level != "info" {
			t.warnings = append(t.warnings, clean(n.Level+": "+n.Text))
		}
	case event.RunEnded:
		t.ended = true
	}
}

func (t *turn) piece(m *event.Model, th theme, width int) {
	if m == nil {
		return
	}
	t.thinking = m.Reasoning
	if m.Reasoning {
		return
	}
	if t.live == nil {
		t.live = newStream(th, width)
	}
	t.live.add(m.Text)
}

func (t *turn) look(id string) *look {
	for _, l := range t.looks {
		if l.id == id {
			return l
		}
	}
	return nil
}

func (t *turn) finish(e incident.Evidence) {
	l := t.look(e.ID)
	if l == nil { // followed from the middle
		l = &look{id: clean(e.ID), tool: clean(e.Tool), args: argsLine(string(e.Args))}
		t.looks = append(t.looks, l)
	}
	l.done, l.millis, l.err, l.text = true, e.Millis, clean(e.Error), e.Text
}

// argsLine writes the JSON of arguments as "name=value".
func argsLine(raw string) string {
	var m map[string]any
	if raw == "" || json.Unmarshal([]byte(raw), &m) != nil {
		return clean(raw)
	}
	var parts []string
	for _, k := range sortedKeys(m) {
		switch v := m[k].(type) {
		case string:
			if v != "" {
				parts = append(parts, k+"="+v)
			}
		case nil:
		default:
			b, err := json.Marshal(v)
			if err == nil {
				parts = append(parts, k+"="+string(b))
			}
		}
	}
	return clean(strings.Join(parts, " "))
}

// took writes a duration the way a person reads it.
func took(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
}

// farthest is the last column of what stands at the right edge; render uses the same.
const farthest = 120

// lookLine is a call on one line: mark, name, arguments, time and id.
func lookLine(th theme, l *look, now time.Time, width int) string {
	width = min(width, farthest)
	mark, end := th.good.Render("✓"), ""
	switch {
	case !l.done:
		mark, end = th.accent.Render("…"), took(now.Sub(l.begun))
	case l.err != "":
		mark, end = th.warn.Render("!"), took(time.Duration(l.millis)*time.Millisecond)
	default:
		end = took(time.Duration(l.millis) * time.Millisecond)
	}
	if l.id != "" {
		end += " " + l.id
	}
	what := l.args
	if l.err != "" {
		what = l.err
	}
	left := clip("  "+mark+" "+l.tool+" "+th.faint.Render(what), width-len(end)-2)
	return padBetween(left, th.faint.Render(end), width)
}

// maxExpanded bounds the lines of an output that is expanded in the flow; the viewer
// shows all.
const maxExpanded = 12

// lookText is the output below an expanded call.
func lookText(th theme, l *look, width int) []string {
	lines := cleanLines(l.text)
	more := len(lines) - maxExpanded
	if more > 0 {
		lines = lines[:maxExpanded]
	}
	var out []string
	for _, s := range lines {
		for _, w := range hard([]string{s}, max(width-4, 8)) {
			out = append(out, "    "+th.faint.Render(w))
		}
	}
	if more > 0 {
		out = append(out, th.faint.Render(fmt.Sprintf("    %d more lines: /evidence %s", more, l.id)))
	}
	return out
}

// hypothesesPane lists the leading hypotheses with what speaks for and against them.
func hypothesesPane(th theme, hyps []incident.Hypothesis, width, rows int) []string {
	if len(hyps) == 0 || rows < 2 {
		return nil
	}
	out := []string{th.faint.Render("  hypotheses")}
	for _, h := range hyps {
		c := h.Cause
		mark, head := th.accent.Render(fmt.Sprintf("%.2f", c.Confidence)), clean(c.Statement)
		if h.Refuted {
			mark, head = th.faint.Render("  no"), th.faint.Render(head)
		}
		line := "  " + mark + " " + head
		if len(c.Evidence) > 0 {
			line += th.faint.Render(" for: " + clean(strings.Join(c.Evidence, ", ")))
		}
		out = append(out, clip(line, width))
		for _, r := range h.RuledBy {
			s := "       against: " + clean(r.Why)
			if r.Why == "" {
				s = "       against: " + clean(r.What)
			}
			if len(r.Evidence) > 0 {
				s += " [" + clean(strings.Join(r.Evidence, ", ")) + "]"
			}
			out = append(out, clip(th.faint.Render(s), width))
		}
		if len(out) >= rows {
			break
		}
	}
	return out[:min(len(out), rows)]
}

package investigate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/prompt"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Bounds of a conversation.
const (
	// maxCalls of one turn; further ones are refused.
	maxCalls = 12
	// maxHints is how often a repeated call is answered with a hint before the
	// model is asked to conclude.
	maxHints = 3
	// maxBad is how many turns in a row may consist of calls that cannot be made.
	maxBad = 3
	// maxTools bounds the definitions of tools in the first request, in tokens,
	// and maxDigest the evidence in it, in bytes: together with the system prompt
	// they stay below 8k tokens however many toolsets there are.
	maxTools  = 3400
	maxDigest = 10 << 10
	// maxFirst bounds the whole of it: where triage found much, the texts of its
	// evidence give way.
	maxFirst = 7200
	// maxSummary bounds a model's prose in the report, in bytes.
	maxSummary = 4 << 10
)

// conversation is the part of a run in which a model takes part.
type conversation struct {
	*run
	model   llm.Model
	prompts *prompt.Prompts
	fence   string

	// window in tokens; 0 is unknown.
	window   int
	compact  bool
	textOnly bool
	// digest bounds the evidence in the first message, in bytes.
	digest  int
	system  string
	warned  bool
	tools   *toolbox
	history []entry

	// soft ends ordinary turns early enough for a last one.
	soft context.Context

	repeats repeats
	bad     int
	nudged  bool
	// draft is a conclusion that was sent back.
	draft *Verdict
	prose string
}

// converse lets the model judge, dig and conclude, and puts the result into the
// report. Whatever happens, triage's diagnosis is there to fall back on.
func (r *run) converse(ctx context.Context) error {
	prompts, err := prompt.New()
	if err != nil {
		return err
	}
	info := r.cfg.Model.Info()
	mark := sha256.Sum256([]byte(r.id))
	c := &conversation{run: r, model: r.cfg.Model, prompts: prompts, fence: hex.EncodeToString(mark[:4]),
		window: info.Window, textOnly: !info.Tools}
	c.compact = c.window > 0 && c.window <= small
	c.digest = maxDigest
	if c.compact {
		c.digest = c.window
	}
	if r.cfg.Budget.Cost > 0 && info.InputPrice == 0 && info.OutputPrice == 0 {
		r.notice("warning", "the prices of %s are not known, so that the cost budget of $%.2f cannot be held; the token budget is", info, r.cfg.Budget.Cost)
	}
	var cancel context.CancelFunc
	c.soft, cancel = c.early(ctx)
	defer cancel()
	if err := c.begin(); err != nil {
		return err
	}
	err = c.turns(ctx)
	c.settle()
	return err
}

// errSoft is the cause with which ordinary turns end before the wall clock does.
var errSoft = errors.New("the time for looking is spent")

// early gives the context of ordinary turns: it keeps a fifth of the remaining
// time, at most a minute, for the conclusion.
func (c *conversation) early(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	keep := min(time.Until(end)/5, time.Minute)
	return context.WithDeadlineCause(ctx, end.Add(-keep), errSoft)
}

// begin writes the system prompt, the tools and the first message.
func (c *conversation) begin() error {
	budget := maxTools
	if c.compact {
		budget = min(budget, c.window/4)
	}
	tools, err := newToolbox(c.ledger.Infos(), c.usedTools(), c.compact, budget)
	if err != nil {
		return err
	}
	c.tools = tools
	if err := c.instruct(); err != nil {
		return err
	}
	first, err := c.firstMessage()
	if err != nil {
		return err
	}
	c.history = append(c.history[:0], entry{msg: llm.Message{Role: llm.User, Text: first}, first: true})
	for c.digest > 256 && llm.Estimate(c.request("")) > maxFirst {
		c.digest /= 2
		if err := c.rewrite(); err != nil {
			return err
		}
	}
	return nil
}

// explained is how many actions are told with a sentence each; of more, the names and
// parameters have to do, since the first turn of a model is small.
const explained = 40

// instruct renders the system prompt for the present state of the run.
func (c *conversation) instruct() error {
	data := prompt.System{Fence: c.fence, Compact: c.compact, TextOnly: c.textOnly, Suspicious: c.suspicious()}
	c.warned = data.Suspicious
	for _, a := range c.cfg.Actions {
		pa := prompt.Action{Name: a.Name, Text: a.Text}
		if len(c.cfg.Actions) > explained {
			pa.Text = ""
		}
		for _, p := range a.Params {
			name := p.Name
			if !p.Required {
				name += "?"
			}
			pa.Params = append(pa.Params, name)
		}
		data.Actions = append(data.Actions, pa)
	}
	if c.textOnly {
		infos := c.ledger.Infos()
		for _, d := range c.tools.defs {
			if i := slices.IndexFunc(infos, func(i tool.Info) bool { return i.Name == d.Name }); i >= 0 {
				data.Tools = append(data.Tools, prompt.Tool{Name: d.Name, Text: firstSentence(d.Text), Params: tool.Signature(infos[i].Input)})
			}
		}
		data.Tools = append(data.Tools, prompt.Tool{Name: readTool, Text: "Read more of shortened evidence.", Params: "id, grep?, path?, offset?"})
		if len(c.tools.closed) > 0 {
			data.Tools = append(data.Tools, prompt.Tool{Name: openTool, Text: c.tools.offer(), Params: "names"})
		}
	}
	text, err := c.prompts.System(data)
	c.system = text
	return err
}

func (c *conversation) usedTools() []string {
	var out []string
	for _, ev := range c.ledger.Evidence() {
		out = union(out, []string{ev.Tool})
	}
	return out
}

// turns runs the conversation to its end.
func (c *conversation) turns(ctx context.Context) error {
	for {
		if c.ended(ctx) {
			return nil
		}
		why, room := c.exhausted()
		if !room {
			return nil
		}
		turn, failed, err := c.ask(ctx, why)
		if err != nil {
			return err
		}
		if failed != nil {
			again, err := c.recover(ctx, failed, why != "")
			if err != nil || !again {
				return err
			}
			continue
		}
		done, err := c.take(ctx, turn)
		if err != nil || done {
			return err
		}
		if why != "" {
			c.stop(incident.StopModel, "%s did not conclude when it was asked to; the answer is triage's", c.model.Info())
			return nil
		}
	}
}

// exhausted says why the next turn must be the last, empty if it need not;
// room is false when not even that turn fits into the budget.
func (c *conversation) exhausted() (why string, room bool) {
	u, b, info := c.report.Usage, c.cfg.Budget, c.model.Info()
	next := llm.Estimate(c.request("")) + c.reserve()/2
	left := b.Tokens - u.InputTokens - u.OutputTokens
	if left < next {
		c.stop(incident.StopBudget, "the token budget of %d is spent (%d used)", b.Tokens, u.InputTokens+u.OutputTokens)
		return "", false
	}
	cost := info.Cost(next, c.reserve()/2)
	if b.Cost > 0 && u.Cost+cost > b.Cost {
		c.stop(incident.StopBudget, "the cost budget of $%.2f is spent ($%.4f used)", b.Cost, u.Cost)
		return "", false
	}
	budget := func(format string, args ...any) (string, bool) {
		why := fmt.Sprintf(format, args...)
		c.stop(incident.StopBudget, "%s", strings.ToLower(why[:1])+why[1:])
		return why, true
	}
	switch {
	case u.Steps >= b.Steps:
		c.stop(incident.StopBudget, "the budget of %d steps is spent", b.Steps)
		return "", false
	case u.Steps == b.Steps-1:
		return budget("The budget of %d steps is spent", b.Steps)
	case left < 2*next+c.reserve():
		return budget("The token budget of %d is spent", b.Tokens)
	case b.Cost > 0 && u.Cost+2*cost > b.Cost:
		return budget("The cost budget of $%.2f is spent", b.Cost)
	case c.soft.Err() != nil:
		return budget("The time budget of %s is nearly spent", b.WallClock)
	case c.repeats.hints >= maxHints:
		return "The same calls keep coming back", true
	case c.bad >= maxBad:
		return "The calls keep failing", true
	}
	return "", true
}

// recover decides what follows a failed request; again means another turn.
func (c *conversation) recover(ctx context.Context, failed *llm.Error, last bool) (again bool, err error) {
	switch {
	case c.ended(ctx):
		return false, nil
	case c.soft.Err() != nil && !last:
		return true, nil // the next turn is the last one
	case failed.Kind == llm.BadRequest && !c.textOnly:
		// Servers without tool calls refuse the definitions.
		c.notice("info", "%s refused a request with tools (%s); it is asked in plain text", c.model.Info(), failed.Text)
		c.textOnly = true
		c.flatten()
		return true, c.instruct()
	}
	c.stop(incident.StopModel, "%s: %s", c.model.Info(), failed.Text)
	return false, nil
}

// settle puts the outcome of the conversation into the report.
func (c *conversation) settle() {
	if c.prose != "" && c.report.Diagnosis.Summary == "" {
		c.report.Diagnosis.Summary = c.cfg.Redactor.String(short(c.prose, maxSummary))
	}
	if c.draft == nil {
		return
	}
	// Sent back and never corrected: what of it stands is kept.
	c.accept(*c.draft)
}

// conclude judges a conclusion. done is false when it goes back to the model
// with the message for it.
func (c *conversation) conclude(raw string) (reply string, done bool, err error) {
	d, err := decodeConclusion(raw)
	if err != nil {
		c.bad++
		return c.cfg.Redactor.String(short(err.Error(), maxError)), false, nil
	}
	d = c.mask(d)
	verdict := Validate(d, c.grounds())
	if verdict.OK() {
		c.draft = nil
		c.accept(verdict)
		return "", true, nil
	}
	final := c.draft != nil
	c.sink.Emit(event.Event{Type: event.Rejected, Rejection: &event.Rejection{Reasons: verdict.Strings(), Final: final}})
	if final {
		c.draft = nil
		c.accept(verdict)
		return "", true, nil
	}
	c.draft = &verdict
	reply, err = c.prompts.Rejected(verdict.Strings())
	return reply, false, err
}

// mask redacts what a model wrote: it may repeat what a person pasted.
func (c *conversation) mask(d incident.Diagnosis) incident.Diagnosis {
	s := c.cfg.Redactor.String
	d.Summary = s(short(d.Summary, maxSummary))
	for i := range d.Causes {
		d.Causes[i].Statement = s(short(d.Causes[i].Statement, maxError))
		for j := range d.Causes[i].Detail {
			d.Causes[i].Detail[j] = s(short(d.Causes[i].Detail[j], maxError))
		}
	}
	for i := range d.RuledOut {
		d.RuledOut[i].What, d.RuledOut[i].Why = s(short(d.RuledOut[i].What, maxError)), s(short(d.RuledOut[i].Why, maxError))
	}
	for i := range d.Checked {
		d.Checked[i].What, d.Checked[i].Result = s(short(d.Checked[i].What, maxError)), s(short(d.Checked[i].Result, maxError))
	}
	for i := range d.Proposals {
		d.Proposals[i].Why = s(short(d.Proposals[i].Why, maxError))
	}
	return d
}

// accept merges a judged conclusion with triage's diagnosis.
func (c *conversation) accept(v Verdict) {
	g := c.grounds()
	for _, r := range v.Reasons {
		if r.Where == "outcome" {
			v.Diagnosis.Unsupported = append(v.Diagnosis.Unsupported, incident.Unsupported{Claim: "the outcome the model gave", Reasons: []string{r.Text}})
		}
	}
	merged := Validate(merge(c.standing, v.Diagnosis, g), g).Diagnosis
	if merged.Outcome == incident.Inconclusive && len(v.Diagnosis.Causes) == 0 && !v.OK() {
		// Nothing of the answer was better than what triage had.
		merged = c.standing
		merged.Summary, merged.Unsupported = v.Diagnosis.Summary, append(slices.Clone(c.standing.Unsupported), v.Diagnosis.Unsupported...)
	}
	c.report.Diagnosis = merged
	if len(merged.Causes) > 0 {
		c.sink.Emit(event.Event{Type: event.Hypotheses, Hypotheses: hypotheses(merged.Causes)})
	}
}

func hypotheses(causes []incident.Cause) []incident.Hypothesis {
	var out []incident.Hypothesis
	for _, c := range causes {
		out = append(out, incident.Hypothesis{Cause: c})
	}
	return out
}

package investigate

import (
	"context"
	"strings"
	"unicode"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// request builds the next request; why, if not empty, makes it the last one.
func (c *conversation) request(why string) llm.Request {
	req := llm.Request{System: c.system, Messages: c.messages()}
	if !c.textOnly {
		req.Tools = c.tools.all()
		if why != "" {
			req.Tools, req.Require = c.tools.defs[:1], concludeTool
		}
	}
	return req
}

// reserve is what an answer may need, in tokens.
func (c *conversation) reserve() int {
	if c.window == 0 {
		return 4096
	}
	return min(max(c.window/4, 512), 8192)
}

// limit is the most an answer may take, in tokens; 0 leaves it to the server,
// where the size of the window is not known.
func (c *conversation) limit(input int) int {
	u, b, info := c.report.Usage, c.cfg.Budget, c.model.Info()
	most := 0
	if c.window > 0 {
		most = c.reserve()
		if spare := c.window - input - c.window/20; spare > most && c.window > small {
			most = min(spare, 4*most)
		}
	}
	bound := func(n int) {
		if n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	if left := b.Tokens - u.InputTokens - u.OutputTokens - input; left < 16<<10 {
		bound(max(left, 256))
	}
	if b.Cost > 0 && info.OutputPrice > 0 {
		bound(max(int((b.Cost-u.Cost-info.Cost(input, 0))/info.OutputPrice*1e6), 256))
	}
	return most
}

// ask puts the conversation to the model. A stream that was cut is asked for
// once more, and so is a conversation that was too large, after it was shortened.
func (c *conversation) ask(ctx context.Context, why string) (llm.Turn, *llm.Error, error) {
	if why != "" {
		text, err := c.prompts.Last(why)
		if err != nil {
			return llm.Turn{}, nil, err
		}
		c.say(text)
	} else {
		ctx = c.soft
	}
	if c.suspicious() && !c.warned {
		if err := c.instruct(); err != nil {
			return llm.Turn{}, nil, err
		}
	}
	c.report.Usage.Steps++
	cut, shrunk := false, false
	for {
		if err := c.fit(why); err != nil {
			return llm.Turn{}, nil, err
		}
		turn, failed := c.once(ctx, why)
		switch {
		case failed == nil:
			return turn, nil, nil
		case failed.Kind == llm.Overflow && !shrunk:
			shrunk = true
			if err := c.shrink(llm.Estimate(c.request(why))); err != nil {
				return llm.Turn{}, nil, err
			}
			c.notice("info", "the conversation was larger than the window of %s; it is shortened", c.model.Info())
		case (failed.Kind == llm.Incomplete || failed.Kind == llm.Idle) && !cut && ctx.Err() == nil && c.affordable(why):
			cut = true
			c.notice("info", "the answer of %s was cut off; it is asked again", c.model.Info())
		default:
			return turn, failed, nil
		}
	}
}

// affordable reports whether the request may be made once more.
func (c *conversation) affordable(why string) bool {
	u, b := c.report.Usage, c.cfg.Budget
	next := llm.Estimate(c.request(why))
	return u.InputTokens+u.OutputTokens+next < b.Tokens && (b.Cost == 0 || u.Cost+c.model.Info().Cost(next, 256) <= b.Cost)
}

// once makes one request and accounts for it.
func (c *conversation) once(ctx context.Context, why string) (llm.Turn, *llm.Error) {
	info, turnNo := c.model.Info(), c.report.Usage.Steps
	c.sink.Emit(event.Event{Type: event.ModelStarted, Model: &event.Model{Name: info.String(), Turn: turnNo}})
	req := c.request(why)
	input := llm.Estimate(req)
	req.MaxTokens = c.limit(input)
	stream := &deltas{emit: func(text string, reasoning bool) {
		c.sink.Emit(event.Event{Type: event.Delta, Model: &event.Model{Turn: turnNo, Text: c.cfg.Redactor.String(text), Reasoning: reasoning}})
	}}
	turn, err := llm.Collect(ctx, c.model, req, stream.part)
	stream.flush()
	if turn.Input == 0 && turn.Output == 0 && (err == nil || turn.Text != "" || turn.Reasoning != "") {
		turn.Input, turn.Output = input, (len(turn.Text)+len(turn.Reasoning)+3)/4
	}
	if turn.Model != nil { // another one of the chain answered, at its own price
		info = *turn.Model
	}
	cost := info.Cost(turn.Input, turn.Output)
	u := &c.report.Usage
	u.InputTokens += turn.Input
	u.OutputTokens += turn.Output
	u.Cost += cost
	end := &event.Model{Name: info.String(), Turn: turnNo, Text: c.cfg.Redactor.String(turn.Text), InputTokens: turn.Input, OutputTokens: turn.Output, Cost: cost}
	var failed *llm.Error
	if err != nil {
		failed = modelError(err)
		failed.Text = c.cfg.Redactor.String(short(oneLine(failed.Text), maxError))
		end.Error = failed.Error()
	}
	c.sink.Emit(event.Event{Type: event.ModelEnded, Model: end})
	return turn, failed
}

// deltas passes pieces of an answer on at word ends, so that a secret is not
// cut in two before it is masked.
type deltas struct {
	emit      func(text string, reasoning bool)
	text      strings.Builder
	reasoning bool
}

// maxHeld bounds what is held back for a word end, in bytes.
const maxHeld = 4 << 10

func (d *deltas) part(p llm.Part) {
	if p.Kind != llm.TextPart && p.Kind != llm.ReasoningPart {
		return
	}
	if thinking := p.Kind == llm.ReasoningPart; thinking != d.reasoning {
		d.flush()
		d.reasoning = thinking
	}
	d.text.WriteString(p.Text)
	held := d.text.String()
	end := strings.LastIndexFunc(held, unicode.IsSpace)
	if end < 0 && len(held) < maxHeld {
		return
	}
	if end < 0 {
		end = len(held) - 1
	}
	d.text.Reset()
	d.text.WriteString(held[end+1:])
	d.emit(held[:end+1], d.reasoning)
}

func (d *deltas) flush() {
	if d.text.Len() > 0 {
		d.emit(d.text.String(), d.reasoning)
		d.text.Reset()
	}
}

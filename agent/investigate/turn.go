package investigate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// take acts on an answer: runs its calls, judges its conclusion, or asks again
// where it is neither. done ends the conversation.
func (c *conversation) take(ctx context.Context, t llm.Turn) (done bool, err error) {
	if t.Reason == llm.FinishRefused {
		c.prose = ""
		c.stop(incident.StopModel, "%s refused to answer (%s); the answer is triage's", c.model.Info(), short(oneLine(t.Text), 300))
		return true, nil
	}
	c.history = append(c.history, entry{msg: remembered(t)})
	if len(t.Calls) > 0 {
		return c.calls(ctx, t)
	}
	if text := strings.TrimSpace(t.Text); text != "" {
		if done, handled, err := c.written(ctx, text); handled || err != nil {
			return done, err
		}
		c.prose = text
	}
	if c.nudged {
		if c.prose == "" {
			c.stop(incident.StopModel, "%s gave neither a call nor a conclusion; the answer is triage's", c.model.Info())
		}
		return true, nil
	}
	c.nudged = true
	text, err := c.prompts.Nudge(c.textOnly)
	if err == nil {
		c.say(text)
	}
	return false, err
}

// Bounds of what is kept of a model's own answer in the conversation, in bytes.
const (
	maxSaid = 16 << 10
	maxArgs = 8 << 10
)

// remembered gives an answer as it stays in the conversation: a megabyte of
// prose or arguments is not sent back with every request.
func remembered(t llm.Turn) llm.Message {
	m := t.Message()
	m.Text = short(m.Text, maxSaid)
	m.Calls = slices.Clone(m.Calls)
	for i, k := range m.Calls {
		if len(k.Args) > maxArgs {
			m.Calls[i].Args = `{"shortened":true}`
		}
	}
	return m
}

// written reads an answer of the text protocol: calls or a conclusion as JSON.
func (c *conversation) written(ctx context.Context, text string) (done, handled bool, err error) {
	raw := answerIn(text, "conclusion", "calls", "outcome")
	if raw == "" {
		return false, false, nil
	}
	var answer struct {
		Conclusion json.RawMessage `json:"conclusion"`
		Calls      []struct {
			Tool string          `json:"tool"`
			Args json.RawMessage `json:"args"`
		} `json:"calls"`
		Outcome json.RawMessage `json:"outcome"`
	}
	if json.Unmarshal([]byte(raw), &answer) != nil {
		return false, false, nil //nolint:nilerr // prose is no answer of the text protocol, and no failure
	}
	if len(answer.Conclusion) == 0 && len(answer.Outcome) > 0 {
		answer.Conclusion = json.RawMessage(raw)
	}
	var replies []string
	if len(answer.Calls) > 0 {
		var calls []llm.Call
		for i, a := range answer.Calls {
			calls = append(calls, llm.Call{ID: fmt.Sprintf("t%d", i), Name: a.Tool, Args: string(a.Args)})
		}
		for _, res := range c.perform(calls) {
			replies = append(replies, res.text)
		}
	}
	if len(answer.Conclusion) > 0 {
		reply, done, err := c.conclude(string(answer.Conclusion))
		if done || err != nil {
			return done, true, err
		}
		replies = append(replies, reply)
	}
	if len(replies) == 0 {
		return false, false, nil
	}
	c.say(strings.Join(replies, "\n\n"))
	return false, true, nil
}

// answer to one call.
type answer struct {
	text, stub string
}

// calls runs the tool calls of a turn, the conclusion last: it may come in one
// turn with calls.
func (c *conversation) calls(ctx context.Context, t llm.Turn) (bool, error) {
	var looks []llm.Call
	for _, k := range t.Calls {
		if k.Name != concludeTool {
			looks = append(looks, k)
		}
	}
	answers := c.perform(looks)
	at, judged := 0, false
	for _, k := range t.Calls {
		var a answer
		switch {
		case k.Name != concludeTool:
			a = answers[at]
			at++
		case judged:
			a.text = "Conclude once; the first conclusion of this turn was judged."
		default:
			judged = true
			reply, done, err := c.conclude(k.Args)
			if done || err != nil {
				return done, err
			}
			if t.Reason == llm.FinishLength {
				reply = "The answer was cut off at its longest length; be briefer. " + reply
			}
			a.text = reply
		}
		c.history = append(c.history, entry{msg: llm.Message{Role: llm.Tool, CallID: k.ID, Name: k.Name, Text: a.text}, stub: a.stub})
	}
	return false, nil
}

// perform makes the calls in parallel and writes the answers for the model.
func (c *conversation) perform(calls []llm.Call) []answer {
	out := make([]answer, len(calls))
	var names []string
	var args []any
	var at []int
	opened := false
	for i, k := range calls {
		switch {
		case k.Name == openTool:
			text, ok := c.tools.open(k.Args)
			out[i].text, opened = c.cfg.Redactor.String(text), opened || ok
		case len(names) == maxCalls:
			out[i].text = fmt.Sprintf("Not called: at most %d calls fit into one turn.", maxCalls)
		default:
			names, args, at = append(names, k.Name), append(args, k.Args), append(at, i)
		}
	}
	evs, _ := c.ledger.callAll(c.soft, "model", names, args)
	made := opened
	for n, ev := range evs {
		i := at[n]
		made = made || ev.ID != ""
		out[i].text, out[i].stub = c.result(ev)
		if c.repeats.seen(names[n], string(ev.Args)+calls[i].Args, out[i].text) {
			if hint, err := c.prompts.Repeated(ev.ID); err == nil {
				out[i] = answer{text: hint}
			}
		}
	}
	switch {
	case made:
		c.bad = 0
	case len(calls) > 0:
		c.bad++
	}
	return out
}

package openaichat

import (
	"encoding/json"
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// assembler puts tool calls together from their pieces. The protocol gives
// each piece the index of its call; servers leave it out, start at 1, use 0 for
// all, or repeat id, type and name in each piece. The rules:
//
//   - a piece belongs to the call of its index; without an index to the call of
//     its id; without both to the newest call;
//   - it begins a new call when it carries another id than that call, or a name
//     and no id although that call has its name and whole arguments;
//   - id and name are set once: repetitions count for nothing.
type assembler struct{ slots []*slot }

type slot struct {
	choice   int
	index    *int
	id, name string
	args     []byte
}

// maxCalls bounds the calls of one turn, against a model that has lost itself.
const maxCalls = 1024

// add takes a piece of a call; false means that there are too many calls.
func (a *assembler) add(choice int, d callDelta) bool {
	id, name := joinHalves(d.ID), joinHalves(d.Function.Name)
	s := a.find(choice, d.Index, id)
	if s == nil || begins(s, id, name, d.Function.Arguments) {
		if len(a.slots) == maxCalls {
			return false
		}
		s = &slot{choice: choice, index: d.Index}
		a.slots = append(a.slots, s)
	}
	if s.id == "" {
		s.id = id
	}
	switch {
	case s.name == "":
		s.name = name
	case name != "" && name != s.name && len(s.args) == 0:
		s.name += name // a name in pieces
	}
	s.args = append(s.args, d.Function.Arguments...)
	return true
}

// find gives the newest call that a piece may belong to.
func (a *assembler) find(choice int, index *int, id string) *slot {
	for _, s := range slices.Backward(a.slots) {
		if s.choice != choice {
			continue
		}
		switch {
		case index != nil && s.index != nil:
			if *index == *s.index {
				return s
			}
		case id == "" || s.id == "" || s.id == id:
			return s
		}
	}
	return nil
}

// begins reports whether a piece found its call at an end and begins another.
func begins(s *slot, id, name string, args text) bool {
	if id != "" && s.id != "" && id != s.id {
		return true
	}
	if id != "" || name == "" || s.name == "" {
		return false
	}
	if len(s.args) == 0 {
		return s.index == nil && name != s.name && len(args) > 0
	}
	return name != s.name || (len(args) > 0 && s.args[len(s.args)-1] == '}' && json.Valid(s.args))
}

// finish gives the calls in the order in which they began. Calls without any
// content are dropped: some servers leave gaps.
func (a *assembler) finish() []llm.Call {
	var calls []llm.Call
	for _, s := range a.slots {
		if s.id != "" || s.name != "" || len(s.args) > 0 {
			calls = append(calls, llm.Call{ID: s.id, Name: s.name, Args: joinHalves(s.args)})
		}
	}
	return calls
}

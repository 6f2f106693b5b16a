package tui

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// choice is one line of completion.
type choice struct{ insert, label, help string }

// completer offers commands behind "/", their values, and objects behind "@".
type completer struct {
	choices []choice
	at      int
	// word is what the choices complete, from is where it begins in the input.
	word string
	from int
	// asked is the prefix that objects were asked for.
	asked string
	note  string
	// picked are the objects that were inserted, by the text that stands for them.
	picked map[string]incident.Ref
	// sent makes a question that is sent again after an error the same question.
	sent   int
	unsent string
}

// maxChoices bounds what is offered at a time.
const maxChoices = 8

type objectsMsg struct {
	prefix string
	refs   []incident.Ref
	err    error
}

func (p *completer) close() { p.choices, p.asked, p.note, p.word = nil, "", "", "" }

// key names a question, the same for the same text until it was taken.
func (p *completer) key(started time.Time, text string) string {
	if p.unsent != text {
		p.sent++
		p.unsent = text
	}
	return fmt.Sprintf("tui-%x-%d", started.UnixNano(), p.sent)
}

func (p *completer) keyUsed() { p.unsent = "" }

// subjects gives the picked objects that a question still names.
func (p *completer) subjects(text string) []incident.Ref {
	var out []incident.Ref
	for _, k := range sortedRefs(p.picked) {
		if strings.Contains(text, k) {
			out = append(out, p.picked[k])
		}
	}
	return out
}

func sortedRefs(m map[string]incident.Ref) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// lookUp offers what completes the word at the end of the input.
func (c *chat) lookUp() tea.Cmd {
	p := &c.complete
	text := c.input.value()
	if c.prompt != nil || c.input.area.Line() != c.input.area.LineCount()-1 {
		p.close()
		return nil
	}
	if strings.HasPrefix(text, "/") && !strings.Contains(text, "\n") {
		p.offer(c.commandChoices(text))
		return nil
	}
	i := strings.LastIndexFunc(text, unicode.IsSpace) + 1
	word := text[i:]
	if !strings.HasPrefix(word, "@") {
		p.close()
		return nil
	}
	prefix := word[1:]
	p.word, p.from = word, i
	if prefix == p.asked && (len(p.choices) > 0 || p.note != "") {
		return nil
	}
	p.asked = prefix
	return func() tea.Msg {
		refs, err := c.svc.Objects(c.ctx, prefix, maxChoices)
		return objectsMsg{prefix, refs, err}
	}
}

// objects takes an answer, unless the word has changed since.
func (p *completer) objects(msg objectsMsg) {
	if msg.prefix != p.asked || !strings.HasPrefix(p.word, "@") {
		return
	}
	p.choices, p.at, p.note = nil, 0, ""
	if msg.err != nil {
		p.note = "objects cannot be listed: " + clean(tool.UserText(msg.err))
		return
	}
	for _, r := range msg.refs[:min(len(msg.refs), maxChoices)] {
		s := clean(r.String())
		if p.picked == nil {
			p.picked = map[string]incident.Ref{}
		}
		p.picked[s] = r
		p.choices = append(p.choices, choice{insert: s + " ", label: "@" + clean(r.Path()), help: clean(r.Kind)})
	}
	if len(p.choices) == 0 {
		p.note = "nothing is called like " + clean(msg.prefix)
	}
}

func (p *completer) offer(word string, from int, all []choice) {
	p.word, p.from, p.choices, p.note, p.asked = word, from, all, "", ""
	p.at = min(p.at, max(len(all)-1, 0))
	if len(all) == 1 && all[0].insert == word+" " {
		p.choices = nil
	}
}

// commandChoices completes a command's name, then its first argument.
func (c *chat) commandChoices(text string) (string, int, []choice) {
	name, arg, more := strings.Cut(text[1:], " ")
	if !more {
		var out []choice
		for _, s := range specs() {
			if strings.HasPrefix(s.name, strings.ToLower(name)) {
				out = append(out, choice{"/" + s.name + " ", "/" + s.name, s.help})
			}
		}
		return text, 0, out
	}
	s, ok := findSpec(name)
	if !ok || strings.Contains(arg, " ") {
		return arg, len(text) - len(arg), nil
	}
	var out []choice
	for _, v := range c.argChoices(s) {
		if strings.HasPrefix(v.label, arg) {
			v.insert = v.label + " "
			out = append(out, v)
		}
	}
	return arg, len(text) - len(arg), out
}

// argChoices are the values that a command's first argument may have.
func (c *chat) argChoices(s spec) []choice {
	var out []choice
	for _, v := range s.values {
		out = append(out, choice{label: v})
	}
	switch s.name {
	case "evidence", "copy":
		if c.last != nil {
			for _, e := range c.last.Evidence {
				out = append(out, choice{label: clean(e.ID), help: clean(e.Tool)})
			}
		}
	case "model":
		for _, m := range c.models {
			out = append(out, choice{label: clean(m.Name)})
		}
	case "plan":
		for _, id := range c.session.Plans {
			out = append(out, choice{label: clean(id)})
		}
		if c.last != nil {
			for _, p := range c.last.Diagnosis.Proposals {
				out = append(out, choice{label: clean(p.Action), help: clean(p.Why)})
			}
		}
	case "approve", "reject", "comment", "undo":
		for _, id := range c.session.Plans {
			out = append(out, choice{label: clean(id)})
		}
	case "resume":
		out = append(out, choice{label: "latest"})
	}
	return out
}

// completeKey takes the keys of an open list of completions.
func (c *chat) completeKey(name string) (tea.Cmd, bool) {
	p := &c.complete
	if len(p.choices) == 0 {
		if p.note != "" && name == "esc" {
			p.close()
			return nil, true
		}
		return nil, false
	}
	switch name {
	case "up", "ctrl+p":
		p.at = (p.at + len(p.choices) - 1) % len(p.choices)
	case "down", "ctrl+n":
		p.at = (p.at + 1) % len(p.choices)
	case "tab":
		return c.insertChoice(), true
	case "enter":
		// A command that is whole is sent; a beginning, or an object, is completed.
		if strings.HasPrefix(c.input.value(), "/") {
			if _, ok, err := parseCommand(c.input.value()); ok && err == nil || p.word == "" {
				return nil, false
			}
		}
		return c.insertChoice(), true
	case "esc":
		p.close()
	default:
		return nil, false
	}
	return nil, true
}

func (c *chat) insertChoice() tea.Cmd {
	p := &c.complete
	text := c.input.value()
	if p.from > len(text) {
		p.close()
		return nil
	}
	c.input.set(text[:p.from] + p.choices[p.at].insert)
	p.close()
	return c.lookUp()
}

// completions draws the list.
func (c *chat) completions(width, rows int) []string {
	p := &c.complete
	if rows < 1 {
		return nil
	}
	if len(p.choices) == 0 {
		if p.note == "" {
			return nil
		}
		return []string{c.th.faint.Render(clip("  "+p.note, width))}
	}
	n := min(rows, maxChoices, len(p.choices))
	from := max(min(p.at-n/2, len(p.choices)-n), 0)
	wide := 0
	for _, ch := range p.choices[from : from+n] {
		wide = max(wide, len([]rune(ch.label)))
	}
	var out []string
	for i, ch := range p.choices[from : from+n] {
		label := ch.label + strings.Repeat(" ", max(wide-len([]rune(ch.label)), 0))
		if from+i == p.at {
			label = c.th.chosen.Render(label)
		}
		out = append(out, clip("  "+label+"  "+c.th.faint.Render(ch.help), width))
	}
	return out
}

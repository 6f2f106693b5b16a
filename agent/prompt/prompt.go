// Package prompt holds what a model is told: embedded prompts in the language of
// text/template (run by a fork that calls no methods, see size_test.go),
// each in a full form and, where it matters, a short one for windows of 8k to
// 32k tokens. Cluster text in them is fenced as data.
package prompt

import (
	"embed"
	"fmt"
	"strings"

	template "github.com/DataDog/datadog-agent/pkg/template/text"
)

//go:embed text/*.tmpl
var files embed.FS

// Action is a change that may be proposed, as a model is told about it.
type Action struct {
	Name, Text string
	// Params are the names of the parameters, with "?" behind optional ones.
	Params []string
}

// Tool is a tool as a model without tool calls is told about it.
type Tool struct {
	Name, Text string
	// Params is the signature on one line.
	Params string
}

// System is the data of the system prompt.
type System struct {
	// Fence is the mark of data, hard to guess for whoever writes the data.
	Fence   string
	Actions []Action
	// Compact takes the short form.
	Compact bool
	// Suspicious adds the warning about instruction-like text.
	Suspicious bool
	// TextOnly describes the JSON answers of a model that cannot call tools, and
	// Tools is then the list of what it may ask for.
	TextOnly bool
	Tools    []Tool
}

// First is the data of the first message: the question and what triage found.
// Every entry is one line, except those of Evidence, which are fenced blocks.
type First struct {
	Fence    string
	Question string
	// Before is what was asked and answered earlier in the conversation, a line each.
	Before    []string
	Subjects  []string
	NotSeen   []string
	Outcome   string
	Causes    []string
	Proposals []string
	Findings  []string
	Edges     []string
	Evidence  []string
	Compact   bool
}

// Prompts renders the embedded templates. It is safe for concurrent use.
type Prompts struct{ t *template.Template }

// New parses the embedded templates.
func New() (*Prompts, error) {
	t, err := template.New("prompts").Option("missingkey=error").
		Funcs(template.FuncMap{"join": strings.Join}).ParseFS(files, "text/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("prompt: %w", err)
	}
	return &Prompts{t: t}, nil
}

func (p *Prompts) render(name string, data any) (string, error) {
	var b strings.Builder
	if err := p.t.ExecuteTemplate(&b, name+".tmpl", data); err != nil {
		return "", fmt.Errorf("prompt %s: %w", name, err)
	}
	return strings.TrimSpace(b.String()), nil
}

// System gives the system prompt.
func (p *Prompts) System(d System) (string, error) {
	if d.Compact {
		return p.render("compact", d)
	}
	return p.render("system", d)
}

// First gives the first message.
func (p *Prompts) First(d First) (string, error) { return p.render("first", d) }

// Rejected gives the message that sends a conclusion back.
func (p *Prompts) Rejected(reasons []string) (string, error) {
	return p.render("rejected", map[string]any{"Reasons": reasons})
}

// Last gives the message that asks for the conclusion; why is a sentence
// without its full stop: "The step budget is spent".
func (p *Prompts) Last(why string) (string, error) {
	return p.render("last", map[string]any{"Why": why})
}

// Nudge gives the message for an answer that is neither a call nor a conclusion.
func (p *Prompts) Nudge(textOnly bool) (string, error) {
	return p.render("nudge", map[string]any{"TextOnly": textOnly})
}

// Repeated gives the message for a call that was made before; id is its
// evidence, empty if it failed.
func (p *Prompts) Repeated(id string) (string, error) {
	return p.render("repeated", map[string]any{"ID": id})
}

// Tokens estimates the tokens of a text: a quarter of its bytes, rounded up. It
// needs no tokenizer, and so no download.
func Tokens(text string) int { return (len(text) + 3) / 4 }

// Fence marks text as data. Marks inside the text that could be taken for the
// end are broken up.
func Fence(mark, text string) string {
	text = strings.ReplaceAll(text, mark, "[mark]")
	return "<data " + mark + ">\n" + strings.TrimRight(text, "\n") + "\n</data " + mark + ">"
}

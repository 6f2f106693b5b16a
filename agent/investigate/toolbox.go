package investigate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/prompt"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// small is the window up to which the short forms of prompts and tools are
// used, in tokens.
const small = 32 << 10

// concludeText is what a model is told about the conclude tool.
const concludeText = "Give the answer. Every claim cites evidence ids; it is checked against them."

// toolbox is what a model knows of the tools of a run: the definitions of those
// it may call now, and the names of those it may open.
type toolbox struct {
	defs    []llm.ToolDef
	closed  []tool.Info
	compact bool
}

// newToolbox opens as many tools as fit into the budget, in tokens: first those
// that triage called, then their neighbours of the same system, then the rest.
// What does not fit is left to the tools_open tool, which is there only if
// something is closed.
func newToolbox(infos []tool.Info, used []string, compact bool, budget int) (*toolbox, error) {
	b := &toolbox{compact: compact}
	read, err := readInfo()
	if err != nil {
		return nil, err
	}
	reading, err := toolDef(read, compact)
	if err != nil {
		return nil, err
	}
	b.defs = []llm.ToolDef{{Name: concludeTool, Text: concludeText, Schema: json.RawMessage(concludeSchema)}, reading}
	size := openingTokens
	for _, d := range b.defs {
		size += defTokens(d)
	}
	for _, info := range byUse(infos, used) {
		d, err := toolDef(info, compact)
		if err != nil {
			return nil, err
		}
		if n := defTokens(d); size+n <= budget {
			size += n
			b.defs = append(b.defs, d)
			continue
		}
		b.closed = append(b.closed, info)
		size += prompt.Tokens(info.Name + ", ")
	}
	return b, nil
}

// openingTokens is what the definition of tools_open takes besides the names.
const openingTokens = 80

// byUse orders tools: those used, those of a system that was used, the rest.
func byUse(infos []tool.Info, used []string) []tool.Info {
	systems := map[string]bool{}
	for _, name := range used {
		systems[system(name)] = true
	}
	rank := func(i tool.Info) int {
		if at := slices.Index(used, i.Name); at >= 0 {
			return at
		}
		if systems[system(i.Name)] {
			return len(used)
		}
		return len(used) + 1
	}
	out := slices.Clone(infos)
	slices.SortStableFunc(out, func(a, b tool.Info) int { return rank(a) - rank(b) })
	return out
}

// system is the part of a tool's name that says what it reads: "dra" of "dra_explain".
func system(name string) string {
	s, _, _ := strings.Cut(name, "_")
	return s
}

// all gives the definitions for a request.
func (b *toolbox) all() []llm.ToolDef {
	if len(b.closed) == 0 {
		return b.defs
	}
	return append(slices.Clone(b.defs), llm.ToolDef{Name: openTool, Text: b.offer(), Schema: json.RawMessage(openSchema)})
}

// openSchema is the input of tools_open.
const openSchema = `{"type":"object","properties":{"names":{"type":"array","items":{"type":"string"}}},"required":["names"],"additionalProperties":false}`

// offer lists the tools that can be opened, by system.
func (b *toolbox) offer() string {
	var out strings.Builder
	out.WriteString("Open more tools, by name; they can be called from the next turn on:")
	last := ""
	for _, info := range b.closed {
		if s := system(info.Name); s != last {
			out.WriteString(" |")
			last = s
		}
		out.WriteString(" " + info.Name)
	}
	return out.String()
}

// open moves tools from the closed to the open ones and says what they do; ok
// is false when nothing could be opened.
func (b *toolbox) open(args string) (text string, ok bool) {
	var in struct {
		Names []string `json:"names"`
	}
	if err := json.Unmarshal([]byte(args), &in); err != nil || len(in.Names) == 0 {
		return openTool + `: arguments: {"names": ["TOOL", ...]}`, false
	}
	var out []string
	for _, name := range in.Names[:min(len(in.Names), maxCalls)] {
		if slices.ContainsFunc(b.defs, func(d llm.ToolDef) bool { return d.Name == name }) {
			out = append(out, name+" is open.")
			continue
		}
		i := slices.IndexFunc(b.closed, func(i tool.Info) bool { return i.Name == name })
		if i < 0 {
			out = append(out, fmt.Sprintf("There is no tool %q.", short(name, 80)))
			continue
		}
		d, err := toolDef(b.closed[i], b.compact)
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		out = append(out, fmt.Sprintf("%s(%s): %s", name, tool.Signature(b.closed[i].Input), d.Text))
		b.defs = append(b.defs, d)
		b.closed = slices.Delete(b.closed, i, i+1)
		ok = true
	}
	return strings.Join(out, "\n"), ok
}

func defTokens(d llm.ToolDef) int { return prompt.Tokens(d.Name + d.Text + string(d.Schema)) }

func toolDef(info tool.Info, compact bool) (llm.ToolDef, error) {
	text := oneLine(info.Text)
	schema := json.RawMessage(`{"type":"object"}`)
	if info.Input != nil {
		in := info.Input
		if compact {
			in = bare(in)
		}
		raw, err := json.Marshal(in)
		if err != nil {
			return llm.ToolDef{}, fmt.Errorf("investigate: tool %s: input schema: %w", info.Name, err)
		}
		schema = raw
	}
	if compact {
		text = firstSentence(text)
	}
	return llm.ToolDef{Name: info.Name, Text: text, Schema: schema}, nil
}

// bare copies a schema without its descriptions.
func bare(s *jsonschema.Schema) *jsonschema.Schema {
	if s == nil {
		return nil
	}
	out := s.CloneSchemas()
	strip(out)
	return out
}

func strip(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	s.Description, s.Title = "", ""
	for _, p := range s.Properties {
		strip(p)
	}
	strip(s.Items)
	strip(s.AdditionalProperties)
}

func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i > 0 {
		s = s[:i+1]
	}
	return short(s, 160)
}

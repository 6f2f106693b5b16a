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

// toolbox describes the tools of the run to a model. used are the tools triage
// called; with a small window they go first, and what does not fit into the
// budget (tokens, 0 for none) is left out.
func toolbox(infos []tool.Info, used []string, compact bool, budget int) ([]llm.ToolDef, error) {
	read, err := readInfo()
	if err != nil {
		return nil, err
	}
	defs := []llm.ToolDef{{Name: concludeTool, Text: concludeText, Schema: json.RawMessage(concludeSchema)}}
	reading, err := toolDef(read, compact)
	if err != nil {
		return nil, err
	}
	defs = append(defs, reading)
	infos = slices.Clone(infos)
	if compact {
		slices.SortStableFunc(infos, func(a, b tool.Info) int { return rank(used, a.Name) - rank(used, b.Name) })
	}
	size := 0
	for _, d := range defs {
		size += defTokens(d)
	}
	for _, info := range infos {
		d, err := toolDef(info, compact)
		if err != nil {
			return nil, err
		}
		if size += defTokens(d); budget > 0 && size > budget {
			size -= defTokens(d)
			continue
		}
		defs = append(defs, d)
	}
	return defs, nil
}

func rank(used []string, name string) int {
	if i := slices.Index(used, name); i >= 0 {
		return i
	}
	return len(used)
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

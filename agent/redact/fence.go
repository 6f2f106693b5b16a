package redact

import (
	"regexp"
	"strings"
)

// Detector finds text in cluster data that reads like an instruction to a
// model. It only marks: the text stays data either way.
type Detector struct{ patterns []pattern }

type pattern struct {
	name string
	re   *regexp.Regexp
	// hints are words in lower case, one of which every match holds.
	hints []string
}

// NewDetector makes a detector.
func NewDetector() *Detector {
	p := func(name, re string, hints ...string) pattern {
		return pattern{name: name, re: regexp.MustCompile(`(?i)` + re), hints: hints}
	}
	return &Detector{patterns: []pattern{
		p("tells to ignore instructions", `\b(ignore|disregard|forget|override)\b.{0,40}\b(previous|prior|above|earlier|all|your|system)\b.{0,30}\b(instructions?|prompts?|rules?|guidelines?|context)`,
			"ignore", "disregard", "forget", "override"),
		p("assigns a role", `\byou are (now|no longer)\b|\bact as (an?|the)\b.{0,40}\b(assistant|agent|admin|root|system)|\bpretend (to be|you are)\b`,
			"you are n", "act as ", "pretend "),
		p("imitates a system message", `(^|\n)\s*(<\|?(system|im_start|assistant)\|?>|\[?(system|assistant)\]?\s*(prompt|message)?\s*:)|</?(system|instructions?|tool_call|function_call)>`,
			"system", "assistant", "im_start", "instruction", "_call>"),
		p("asks to run a command", `\b(run|execute|invoke|call)\b.{0,30}\b(kubectl|helm|curl|bash|rm -rf|delete|the tool|this command)\b`,
			"kubectl", "helm", "curl", "bash", "rm -rf", "delete", "the tool", "this command"),
		p("addresses an AI", `\b(dear|attention|note to|hey|important for)\b.{0,20}\b(ai|llm|assistant|agent|chatgpt|gpt|claude|copilot|language model)\b`,
			"dear", "attention", "note to", "hey", "important for"),
		p("dictates the conclusion", `\b(report|conclude|respond|answer|say|state|tell the user)\b.{0,40}\b(healthy|no (issues?|problems?)|everything is (fine|ok)|root cause is|approved?)\b`,
			"healthy", "no issue", "no problem", "everything is ", "root cause is", "approve"),
		p("asks for secrets", `\b(print|reveal|show|send|exfiltrate|output)\b.{0,40}\b(system prompt|api keys?|secrets?|tokens?|credentials?|passwords?)\b`,
			"system prompt", "api key", "secret", "token", "credential", "password"),
		p("looks like a tool call", `\{\s*"(name|tool|function|action)"\s*:\s*"[a-z_]+"\s*,\s*"(arguments|args|parameters|params|input)"\s*:`,
			`"arguments"`, `"args"`, `"parameters"`, `"params"`, `"input"`),
	}}
}

// folded gives a text in which every letter that an expression with (?i) takes for an
// ASCII letter is that letter in lower case.
func folded(s string) string { return strings.ReplaceAll(strings.ToLower(s), "ſ", "s") }

// holdsAny reports whether a text holds one of the words.
func holdsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// Marks names what was found in a text, each kind once, with the words.
func (d *Detector) Marks(text string) []string {
	var out []string
	lower := folded(text)
	for _, p := range d.patterns {
		if !holdsAny(lower, p.hints) {
			continue
		}
		if m := p.re.FindString(text); m != "" {
			m = strings.Join(strings.Fields(m), " ")
			if r := []rune(m); len(r) > 80 {
				m = string(r[:80]) + "…"
			}
			out = append(out, p.name+": "+m)
		}
	}
	return out
}

package investigate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const (
	readTool     = "evidence_read"
	concludeTool = "conclude"
	openTool     = "tools_open"
)

// readArgs are the arguments of evidence_read.
type readArgs struct {
	ID     string `json:"id" jsonschema:"evidence id such as E3"`
	Grep   string `json:"grep,omitempty" jsonschema:"keep lines matching this regular expression"`
	Path   string `json:"path,omitempty" jsonschema:"read the data at this path, e.g. nodes[0].devices[*].name"`
	Offset int    `json:"offset,omitempty" jsonschema:"first byte"`
	Limit  int    `json:"limit,omitempty" jsonschema:"bytes, default 4096"`
}

// Bounds of one reading, in bytes.
const (
	defaultRead = 4 << 10
	maxRead     = 16 << 10
)

func readInfo() (tool.Info, error) {
	in, err := jsonschema.For[readArgs](nil)
	if err != nil {
		return tool.Info{}, fmt.Errorf("investigate: %s: %w", readTool, err)
	}
	return tool.Info{Name: readTool, Effect: tool.Read, Input: in,
		Text: "Read more of evidence that was shortened: search it (grep), take a part of its data (path), or continue (offset)."}, nil
}

// read answers evidence_read. What it gives is part of the evidence it reads:
// it carries that id and is not recorded a second time.
func (l *Ledger) read(args any) (incident.Evidence, tool.Result) {
	fail := func(format string, a ...any) (incident.Evidence, tool.Result) {
		return incident.Evidence{Tool: readTool, At: l.cfg.Now(), Error: l.cfg.Redactor.String(short(fmt.Sprintf(format, a...), maxError)), ErrorKind: string(tool.Invalid)}, tool.Result{}
	}
	raw, err := encodeArgs(args)
	if err != nil {
		return fail("%s: arguments are not valid JSON: %v", readTool, err)
	}
	var in readArgs
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return fail("%s: %v; arguments: id (string), grep (string, optional), path (string, optional), offset (integer, optional), limit (integer, optional)", readTool, err)
	}
	r := l.find(strings.Trim(in.ID, "[] "))
	if r == nil {
		return fail("%s: there is no evidence %q; known: %s", readTool, in.ID, l.known())
	}
	if r.ev.Error != "" {
		return fail("%s: %s failed and holds nothing: %s", readTool, r.ev.ID, r.ev.Error)
	}
	whole := l.whole(r)
	text := whole.Text
	if in.Path != "" {
		if text, err = dataAt(whole.Data, in.Path); err != nil {
			return fail("%s: %s: %v", readTool, r.ev.ID, err)
		}
	}
	if in.Grep != "" {
		text = grep(text, in.Grep)
	}
	text = window(text, in.Offset, in.Limit)
	ev := r.ev
	ev.Text, ev.Data, ev.Truncated = text, nil, false
	ev.Suspicious = l.suspicious(text)
	return ev, tool.Result{Text: text}
}

func (l *Ledger) known() string {
	var ids []string
	for _, r := range l.finished() {
		ids = append(ids, r.ev.ID)
	}
	if len(ids) == 0 {
		return "none yet"
	}
	if len(ids) > 3 {
		return ids[0] + " to " + ids[len(ids)-1]
	}
	return strings.Join(ids, ", ")
}

// grep keeps the matching lines with their numbers. A pattern that is no
// regular expression is searched as it stands.
func grep(text, pattern string) string {
	re, err := regexp.Compile("(?i)" + pattern)
	if err != nil {
		re = regexp.MustCompile("(?i)" + regexp.QuoteMeta(pattern))
	}
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		n++
		at := re.FindStringIndex(line)
		if at == nil {
			continue
		}
		line = strings.TrimRight(line, "\n")
		if len(line) > 1000 { // around the match, not the whole of a huge line
			from, to := max(at[0]-400, 0), min(at[0]+600, len(line))
			line = "..." + strings.ToValidUTF8(line[from:to], "") + "..."
		}
		fmt.Fprintf(&b, "%d: %s\n", n, line)
	}
	if b.Len() == 0 {
		return fmt.Sprintf("no line of %d matches %q", n, pattern)
	}
	return b.String()
}

// window gives part of a text and says what is left.
func window(text string, offset, limit int) string {
	if limit <= 0 {
		limit = defaultRead
	}
	limit = min(limit, maxRead)
	offset = min(max(offset, 0), len(text))
	for offset < len(text) && !utf8.RuneStart(text[offset]) {
		offset++
	}
	part, left := cut(text[offset:], limit)
	if left > 0 {
		part += fmt.Sprintf("\n[bytes %d to %d of %d; continue with offset %d]", offset, offset+len(part), len(text), offset+len(part))
	}
	if part == "" {
		return "(nothing there)"
	}
	return part
}

// dataAt gives the part of a JSON document at a path such as
// "$.nodes[0].devices[*].name"; [*] takes every element. Scalars come one a
// line, everything else as indented JSON.
func dataAt(raw json.RawMessage, path string) (string, error) {
	if len(raw) == 0 {
		return "", fmt.Errorf("it has no data, only text")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var root any
	if err := d.Decode(&root); err != nil {
		return "", fmt.Errorf("its data is not valid JSON: %w", err)
	}
	values := []any{root}
	for _, step := range pathSteps(path) {
		var next []any
		for _, v := range values {
			next = append(next, stepInto(v, step)...)
		}
		if len(next) == 0 {
			return "", fmt.Errorf("nothing is at %q: no %q in %s", path, step, shape(values))
		}
		values = next
	}
	var b strings.Builder
	for _, v := range values {
		switch v.(type) {
		case map[string]any, []any:
			out, err := json.MarshalIndent(v, "", " ")
			if err != nil {
				return "", err
			}
			b.Write(out)
		default:
			fmt.Fprint(&b, v)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// pathSteps takes a path apart: dots and brackets separate, quotes keep a key
// with dots together ("labels['a.b/c']").
func pathSteps(path string) []string {
	var steps []string
	var step strings.Builder
	quote := rune(0)
	end := func() {
		if step.Len() > 0 {
			steps = append(steps, step.String())
			step.Reset()
		}
	}
	for i, r := range strings.TrimSpace(path) {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			step.WriteRune(r)
		case r == '\'' || r == '"':
			quote = r
		case r == '.' || r == '[' || r == ']':
			end()
		case r == '$' && i == 0:
		default:
			step.WriteRune(r)
		}
	}
	end()
	return steps
}

func stepInto(v any, step string) []any {
	switch x := v.(type) {
	case map[string]any:
		if step == "*" {
			var out []any
			for _, k := range sortedKeys(x) {
				out = append(out, x[k])
			}
			return out
		}
		if e, ok := x[step]; ok {
			return []any{e}
		}
	case []any:
		if step == "*" {
			return x
		}
		if i, err := strconv.Atoi(step); err == nil {
			if i < 0 {
				i += len(x)
			}
			if i >= 0 && i < len(x) {
				return []any{x[i]}
			}
		}
	}
	return nil
}

// shape says what is there where a path went wrong.
func shape(values []any) string {
	if len(values) == 0 {
		return "nothing"
	}
	switch x := values[0].(type) {
	case map[string]any:
		return "an object with " + short(strings.Join(sortedKeys(x), ", "), 300)
	case []any:
		return fmt.Sprintf("a list of %d", len(x))
	}
	return "a plain value"
}

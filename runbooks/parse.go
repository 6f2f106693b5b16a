package runbooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of one file. A runbook is a page or two; what is larger is no runbook.
const (
	maxFile  = 1 << 20 // bytes of a file
	maxFront = 64 << 10
	maxDepth = 16 // nesting of the front matter; the format itself needs six
)

// Parse reads a runbook. Every error begins with the file and the line, names
// the field and the value, and says the way out. The front matter is strict: an
// unknown or repeated field, an anchor, an alias or a second document is refused.
func Parse(name string, data []byte) (*Runbook, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, more than %d: split it, or move long texts elsewhere", name, len(data), maxFile)
	}
	front, body, err := split(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	r := &Runbook{Body: string(body), Raw: data, Source: name, lines: map[string]int{}}
	doc, err := r.scan(front)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	if path.Base(name) == skillFile {
		err = r.skill(front)
	} else if err = fill(doc, front, r); err == nil {
		err = r.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	return r, nil
}

// problem is an error at a line of the file; Parse puts the file before it.
func problem(line int, format string, args ...any) error {
	return fmt.Errorf("%d: %w", line, fmt.Errorf(format, args...))
}

// split parts the front matter, its opening line included so that YAML counts
// the lines as the file does, from the text.
func split(data []byte) (front, body []byte, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	if !utf8.Valid(data) {
		return nil, nil, problem(1, "the file is not UTF-8 text: save it as UTF-8")
	}
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	if !marker(first) {
		return nil, nil, problem(1, "a runbook begins with a line of --- and its front matter")
	}
	for at := 0; at < len(rest); {
		line, _, more := bytes.Cut(rest[at:], []byte("\n"))
		next := at + len(line) + 1
		if marker(line) {
			front = append([]byte("---\n"), rest[:at]...)
			if len(front) > maxFront {
				return nil, nil, problem(1, "the front matter has %d bytes, more than %d: keep long texts in the body", len(front), maxFront)
			}
			return front, rest[min(next, len(rest)):], nil
		}
		if !more {
			break
		}
		at = next
	}
	return nil, nil, problem(1, "the front matter has no closing line of ---")
}

// marker reports whether a line is --- and nothing else.
func marker(line []byte) bool {
	return string(bytes.TrimRight(line, " \t")) == "---"
}

// scan notes where each field stands, before anything is decoded. What could
// make a small file large (anchors, aliases) is refused here, unexpanded.
func (r *Runbook) scan(front []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(front))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if m := regexp.MustCompile(`unknown anchor '(.*)' referenced`).FindStringSubmatch(err.Error()); m != nil {
			before, _, _ := bytes.Cut(front, []byte("*"+m[1]))
			return nil, problem(1+bytes.Count(before, []byte("\n")), "front matter: unknown anchor %q: anchors and aliases (& and *) are not taken: quote the value", m[1])
		}
		return nil, problem(yamlLine(err), "front matter: %s", yamlText(err))
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, problem(max(second.Line, 1), "the front matter holds more than one YAML document: keep one")
	}
	if len(doc.Content) == 1 && doc.Content[0].Tag == "!!null" {
		return nil, problem(1, "the front matter is empty: id and title are required")
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, problem(max(doc.Line, 1), "the front matter is no mapping of fields, such as \"id: my-runbook\"")
	}
	return &doc, r.note(doc.Content[0], "", 0)
}

func (r *Runbook) note(n *yaml.Node, at string, depth int) error {
	if at != "" {
		r.lines[at] = n.Line
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return problem(n.Line, "%s: anchors and aliases (& and *) are not taken: write the value out, or quote it", field(at))
	}
	if depth > maxDepth {
		return problem(n.Line, "%s is nested more than %d deep", field(at), maxDepth)
	}
	switch n.Kind {
	case yaml.MappingNode:
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if k.Kind != yaml.ScalarNode || k.Anchor != "" {
				return problem(k.Line, "%s: a field's name is a plain word", field(at))
			}
			if first, twice := seen[k.Value]; twice {
				return problem(k.Line, "%s: %q stands twice, first on line %d: keep one", field(at), k.Value, first)
			}
			if k.Tag == "!!merge" {
				return problem(k.Line, "%s: merge keys (<<) are not taken: write the fields out", field(at))
			}
			seen[k.Value] = k.Line
			child := strings.TrimPrefix(at+"."+k.Value, ".")
			if err := r.note(v, child, depth+1); err != nil {
				return err
			}
			r.lines[child] = k.Line
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			if err := r.note(c, fmt.Sprintf("%s[%d]", at, i), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func field(at string) string {
	if at == "" {
		return "front matter"
	}
	return at
}

// line says where a field stands: its own line, else that of the nearest field
// around it, else 1.
func (r *Runbook) line(at string) int {
	for at != "" {
		if n := r.lines[at]; n > 0 {
			return n
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	return 1
}

// fill fills v from a scanned document, strictly. Every start of the program reads all
// runbooks, so the text is parsed once; only a file that is refused is parsed again, for
// the words of the refusal.
func fill(doc *yaml.Node, front []byte, v any) error {
	if known(doc.Content[0], reflect.TypeOf(v).Elem()) && doc.Decode(v) == nil {
		return nil
	}
	return decode(front, v, true)
}

// known reports whether a type of the format has every field that a node gives it. It
// may say no to what is no mapping at all, never yes to a field that does not exist.
func known(n *yaml.Node, t reflect.Type) bool {
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		return !slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return !known(c, t.Elem()) })
	case t.Kind() != reflect.Struct:
		return true
	case n.Kind != yaml.MappingNode:
		return false
	}
	of := map[string]reflect.Type{}
	for f := range t.Fields() {
		of[f.Tag.Get("yaml")] = f.Type
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f, ok := of[n.Content[i].Value]
		if !ok || n.Content[i].Value == "-" || !known(n.Content[i+1], f) {
			return false
		}
	}
	return true
}

// decode fills v from YAML; strict refuses fields v does not have.
func decode(front []byte, v any, strict bool) error {
	dec := yaml.NewDecoder(bytes.NewReader(front))
	dec.KnownFields(strict)
	if err := dec.Decode(v); err != nil {
		return problem(yamlLine(err), "%s", yamlText(err))
	}
	return nil
}

// yamlLine finds the line in an error of the YAML library, which writes "line 7: ...".
func yamlLine(err error) int {
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		// Errors of the library's parser, unlike those of its scanner, count from 0.
		if regexp.MustCompile(`did not find expected (<|',' or|'-' indicator|key|node content)`).MatchString(err.Error()) {
			n++
		}
		return max(n, 1)
	}
	return 1
}

// yamlText says in the format's own words what the YAML library says in Go's.
func yamlText(err error) string {
	text := err.Error()
	if e := (*yaml.TypeError)(nil); errors.As(err, &e) && len(e.Errors) > 0 {
		text = e.Errors[0]
	}
	text = regexp.MustCompile(`^(yaml: )?(line \d+: )?`).ReplaceAllString(text, "")
	if m := regexp.MustCompile(`^field (.*) not found in type runbooks\.(\w+)$`).FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("unknown field %q: %s takes %s", m[1], parts()[m[2]].name, strings.Join(fields(parts()[m[2]].of), ", "))
	}
	if m := regexp.MustCompile("^cannot unmarshal !!(\\w+)(?: `(.*)`)? into (.*)$").FindStringSubmatch(text); m != nil {
		have := map[string]string{"str": "a text", "int": "a number", "float": "a number", "bool": "true or false", "map": "a mapping", "seq": "a list"}
		value := have[m[1]]
		if value == "" {
			value = m[1]
		}
		if m[2] != "" {
			value += " (" + m[2] + ")"
		}
		return value + " stands where " + wanted(m[3]) + " is wanted"
	}
	return text
}

// wanted names a Go type in the format's words.
func wanted(t string) string {
	switch {
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case strings.HasPrefix(t, "map["):
		return "a mapping"
	case t == "float64":
		return "a number"
	case strings.HasPrefix(t, "runbooks."):
		p := parts()[strings.TrimPrefix(t, "runbooks.")]
		return fmt.Sprintf("%s (%s)", p.name, strings.Join(fields(p.of), ", "))
	}
	return "a text"
}

type part struct {
	name string
	of   reflect.Type
}

// parts are the mappings of the format by the names of their Go types.
func parts() map[string]part {
	return map[string]part{
		"Runbook": {"a runbook", reflect.TypeFor[Runbook]()},
		"Matches": {"matches", reflect.TypeFor[Matches]()},
		"Step":    {"a step", reflect.TypeFor[Step]()},
		"Cause":   {"a cause", reflect.TypeFor[Cause]()},
		"Fix":     {"a fix", reflect.TypeFor[Fix]()},

		"ActionInfo": {"an action", reflect.TypeFor[ActionInfo]()},
		"ParamInfo":  {"a parameter", reflect.TypeFor[ParamInfo]()},
	}
}

// fields lists the names a mapping of the format takes.
func fields(t reflect.Type) []string {
	var out []string
	for f := range t.Fields() {
		if tag := f.Tag.Get("yaml"); tag != "" && tag != "-" {
			out = append(out, tag)
		}
	}
	return out
}

func (r *Runbook) validate() error {
	bad := func(at, format string, args ...any) error {
		return problem(r.line(at), "%s: %w", at, fmt.Errorf(format, args...))
	}
	if !hyphened(r.ID) {
		return bad("id", "%q: lower-case words joined by hyphens, such as gpu-driver-down", r.ID)
	}
	if strings.TrimSpace(r.Title) == "" {
		return bad("title", "a title is required: one line that says what is wrong")
	}
	seen := map[string]bool{}
	for i, s := range r.Steps {
		at := fmt.Sprintf("steps[%d]", i)
		switch {
		case !variable(s.ID):
			return bad(at+".id", "%q: a name that CEL can read, such as explain", s.ID)
		case slices.Contains(given(), s.ID):
			return bad(at+".id", "%q is taken by a variable: choose another name", s.ID)
		case reserved(s.ID):
			return bad(at+".id", "%q is a word of CEL: choose another name", s.ID)
		case seen[s.ID]:
			return bad(at+".id", "%q stands twice: give each step an id of its own", s.ID)
		case s.Tool == "":
			return bad(at+".tool", "a step names the tool it calls; see gumshoe tools list")
		}
		seen[s.ID] = true
	}
	seen = map[string]bool{}
	for i, c := range r.Causes {
		at := fmt.Sprintf("causes[%d]", i)
		switch {
		case c.ID == "":
			return bad(at+".id", "an id is required, such as cause")
		case seen[c.ID]:
			return bad(at+".id", "%q stands twice: give each cause an id of its own", c.ID)
		case c.Finding == "" && c.When == "":
			return bad(at, "%s: finding or when is required, else it would always be named", c.ID)
		case c.Finding == "" && (c.Code == "" || c.Say == ""):
			return bad(at, "%s: code and say are required without a finding", c.ID)
		case !(c.Confidence >= 0 && c.Confidence <= 1):
			return bad(at+".confidence", "%v is not between 0 and 1", c.Confidence)
		case c.Revert != "" && !slices.Contains(Reverts(), c.Revert):
			return bad(at+".revert", "%q is none of %s", c.Revert, strings.Join(Reverts(), ", "))
		}
		for j, f := range c.Fix {
			if f.Action == "" {
				return bad(fmt.Sprintf("%s.fix[%d].action", at, j), "an action is required; see actions.yaml")
			}
		}
		seen[c.ID] = true
	}
	return nil
}

// hyphened reports whether s is lower-case words and figures joined by single hyphens.
func hyphened(s string) bool {
	for w := range strings.SplitSeq(s, "-") {
		if w == "" || strings.ContainsFunc(w, func(c rune) bool { return !isWordRune(c) || c == '_' }) {
			return false
		}
	}
	return true
}

// variable reports whether s is a name that CEL can read.
func variable(s string) bool {
	return s != "" && s[0] >= 'a' && s[0] <= 'z' && !strings.ContainsFunc(s, func(c rune) bool { return !isWordRune(c) || c == '-' })
}

// given are the variables that every expression may read, beside the steps.
func given() []string { return []string{"subject", "alert", "findings", "finding"} }

// reserved reports whether CEL keeps a word for itself.
// Source: the CEL language definition, section "Syntax".
func reserved(s string) bool {
	return slices.Contains(strings.Fields("as break const continue else false for function if import in let loop namespace null package return true var void while"), s)
}

// skillFile is what the runbook of a skill directory is called.
const skillFile = "SKILL.md"

// maxID is the longest id a skill may get.
const maxID = 64

// skill reads a SKILL.md: a name and a description, no steps. Other fields are
// for other programs and are passed over. The id is the name in lower case with
// hyphens for everything that is no letter or digit.
func (r *Runbook) skill(front []byte) error {
	var s struct {
		Name        string `yaml:"name"`
		Description string `yaml:"description"`
	}
	if err := decode(front, &s, false); err != nil {
		return err
	}
	id := strings.Join(strings.FieldsFunc(strings.ToLower(s.Name), func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') }), "-")
	switch {
	case id == "":
		return problem(r.line("name"), "name: %q: a skill needs a name of letters and digits, such as gpu-checks", s.Name)
	case len(id) > maxID:
		return problem(r.line("name"), "name: longer than %d characters", maxID)
	case strings.TrimSpace(s.Description) == "":
		return problem(r.line("description"), "description: a skill needs one: when to use it, in a sentence")
	}
	r.ID, r.Title = id, strings.Join(strings.Fields(s.Description), " ")
	words := map[string]bool{}
	for w := range strings.FieldsFuncSeq(strings.ToLower(s.Description), func(c rune) bool { return !isWordRune(c) }) {
		if len(w) > 3 && !filler(w) {
			words[w] = true
		}
	}
	r.Matches.Words = slices.Sorted(maps.Keys(words))
	return nil
}

func isWordRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// filler are words of descriptions that say nothing about the trouble.
func filler(w string) bool {
	return slices.Contains(strings.Fields(`about after also another before being between both check could does doing each else every find fixes from gets give
		given guide have help helps here into issue issues just like look make many more most much must need needs only other over problem problems
		should skill some such than that their them then there these they this those through troubleshoot troubleshooting under until used user users uses using
		very want well were what when where whether which while with within without would your`), w)
}

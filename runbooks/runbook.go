// Package runbooks is the knowledge: Markdown files that people read, whose
// YAML front matter an engine runs. It parses, lints, matches and concludes
// over plain facts, and imports nothing else of gumshoe.
package runbooks

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed library
var embedded embed.FS

// Embedded gives the runbooks that ship with the binary.
func Embedded() (fs.FS, error) { return fs.Sub(embedded, "library") }

// Matches says when a runbook applies.
type Matches struct {
	Alerts   []string `json:"alerts,omitempty"`
	Findings []string `json:"findings,omitempty"`
	Words    []string `json:"words,omitempty"`
}

// Step is one look that gathers more evidence.
type Step struct {
	ID   string         `json:"id"`
	Tool string         `json:"tool"`
	With map[string]any `json:"with,omitempty"`
	// When is a CEL condition; empty means always.
	When string `json:"when,omitempty"`
}

// Cause is something a runbook can name.
type Cause struct {
	ID string `json:"id"`
	// Title is what the cause is called when it is ruled out.
	Title string `json:"title,omitempty"`
	// Code of the cause; the finding's code when Finding is set and Code is not.
	Code string `json:"code,omitempty"`
	// Finding makes the cause fire once for each finding of this code.
	Finding string `json:"finding,omitempty"`
	// When is a CEL condition that must hold.
	When string `json:"when,omitempty"`
	// Subject is CEL for a reference; the finding's subject, else the runbook's.
	Subject string `json:"subject,omitempty"`
	// Say is the statement; the finding's message when empty.
	Say        string   `json:"say,omitempty"`
	Detail     []string `json:"detail,omitempty"`
	Confidence float64  `json:"confidence,omitempty"`
	// Unless is the sentence shown when this cause is ruled out.
	Unless string   `json:"unless,omitempty"`
	Rivals []string `json:"rivals,omitempty"`
	Fix    []Fix    `json:"fix,omitempty"`
}

// Fix proposes a typed action.
type Fix struct {
	Action string            `json:"action"`
	With   map[string]string `json:"with,omitempty"`
	Why    string            `json:"why,omitempty"`
	// When is a CEL condition; empty means always.
	When string `json:"when,omitempty"`
}

// Runbook is one file.
type Runbook struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	// Modes are the failure modes of the catalogues the runbook covers.
	Modes   []string `json:"modes,omitempty"`
	Matches Matches  `json:"matches,omitzero"`
	Steps   []Step   `json:"steps,omitempty"`
	Causes  []Cause  `json:"causes,omitempty"`

	// Body is the Markdown a person reads; Raw the whole file; Source its name.
	Body   string `json:"-"`
	Raw    []byte `json:"-"`
	Source string `json:"-"`
}

// Parse reads a runbook. Errors name the file and the field or line.
func Parse(name string, data []byte) (*Runbook, error) {
	front, body, err := split(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r := &Runbook{Body: string(body), Raw: data, Source: name}
	if path.Base(name) == "SKILL.md" {
		return skill(r, front)
	}
	if err := yaml.UnmarshalStrict(front, r); err != nil {
		return nil, fmt.Errorf("%s: front matter: %w", name, err)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// split parts the front matter from the text.
func split(data []byte) (front, body []byte, err error) {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	rest, ok := bytes.CutPrefix(data, []byte("---\n"))
	if !ok {
		return nil, nil, errors.New("line 1: a runbook begins with a line of --- and its front matter")
	}
	front, body, ok = bytes.Cut(rest, []byte("\n---\n"))
	if !ok {
		if front, ok = bytes.CutSuffix(rest, []byte("\n---")); !ok {
			return nil, nil, errors.New("the front matter has no closing line of ---")
		}
	}
	return front, body, nil
}

// skill reads a SKILL.md: a name and a description, no steps.
func skill(r *Runbook, front []byte) (*Runbook, error) {
	var s struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	if err := yaml.Unmarshal(front, &s); err != nil {
		return nil, fmt.Errorf("%s: front matter: %w", r.Source, err)
	}
	if s.Name == "" || s.Description == "" {
		return nil, fmt.Errorf("%s: a skill needs name and description", r.Source)
	}
	r.ID, r.Title = s.Name, s.Description
	for w := range strings.FieldsFuncSeq(strings.ToLower(s.Description), func(c rune) bool { return !isWordRune(c) }) {
		if len(w) > 3 && !slices.Contains(r.Matches.Words, w) {
			r.Matches.Words = append(r.Matches.Words, w)
		}
	}
	return r, nil
}

func isWordRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func (r *Runbook) validate() error {
	id := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	if !id.MatchString(r.ID) {
		return fmt.Errorf("id %q: lower-case words joined by hyphens", r.ID)
	}
	if r.Title == "" {
		return errors.New("title is required")
	}
	seen := map[string]bool{}
	for i, s := range r.Steps {
		switch {
		case !name.MatchString(s.ID):
			return fmt.Errorf("steps[%d].id %q: a name that CEL can read, such as explain", i, s.ID)
		case slices.Contains([]string{"subject", "alert", "findings", "finding"}, s.ID):
			return fmt.Errorf("steps[%d].id %q is taken by a variable", i, s.ID)
		case seen[s.ID]:
			return fmt.Errorf("steps[%d].id %q stands twice", i, s.ID)
		case s.Tool == "":
			return fmt.Errorf("steps[%d].tool is required", i)
		}
		seen[s.ID] = true
	}
	seen = map[string]bool{}
	for i, c := range r.Causes {
		switch {
		case c.ID == "":
			return fmt.Errorf("causes[%d].id is required", i)
		case seen[c.ID]:
			return fmt.Errorf("causes[%d].id %q stands twice", i, c.ID)
		case c.Finding == "" && c.When == "":
			return fmt.Errorf("causes[%d] (%s): finding or when is required, else it would always be named", i, c.ID)
		case c.Finding == "" && (c.Code == "" || c.Say == ""):
			return fmt.Errorf("causes[%d] (%s): code and say are required without a finding", i, c.ID)
		case c.Confidence < 0 || c.Confidence > 1:
			return fmt.Errorf("causes[%d] (%s): confidence %v is not between 0 and 1", i, c.ID, c.Confidence)
		}
		for j, f := range c.Fix {
			if f.Action == "" {
				return fmt.Errorf("causes[%d].fix[%d].action is required", i, j)
			}
		}
		seen[c.ID] = true
	}
	return nil
}

// Library is a set of runbooks by id.
type Library struct {
	all  []*Runbook
	byID map[string]*Runbook
}

// Load reads every .md beneath the file systems; a later one wins by id. README
// files are passed over. All broken files are reported at once.
func Load(fsys ...fs.FS) (*Library, error) {
	l := &Library{byID: map[string]*Runbook{}}
	var errs []error
	for _, f := range fsys {
		err := fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() || path.Ext(name) != ".md" || strings.EqualFold(d.Name(), "README.md") {
				return nil
			}
			raw, err := fs.ReadFile(f, name)
			if err != nil {
				return err
			}
			r, err := Parse(name, raw)
			if err != nil {
				errs = append(errs, err)
				return nil
			}
			l.byID[r.ID] = r
			return nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("read runbooks: %w", err))
		}
	}
	for _, r := range l.byID {
		l.all = append(l.all, r)
	}
	slices.SortFunc(l.all, func(a, b *Runbook) int { return strings.Compare(a.ID, b.ID) })
	return l, errors.Join(errs...)
}

// All lists the runbooks by id.
func (l *Library) All() []*Runbook { return slices.Clone(l.all) }

// Get finds a runbook.
func (l *Library) Get(id string) (*Runbook, bool) { r, ok := l.byID[id]; return r, ok }

// Query is what is known of an incident.
type Query struct {
	Alerts   []string
	Findings []string
	Words    []string
}

// Match is a runbook that applies, and why.
type Match struct {
	Runbook *Runbook
	Why     string
	Score   int
}

// Match finds the runbooks that apply: by finding code, then alert name, then
// at least two words. The order is by how specific the match is, then by id.
func (l *Library) Match(q Query) []Match {
	var out []Match
	for _, r := range l.all {
		m := Match{Runbook: r}
		for _, f := range r.Matches.Findings {
			if slices.Contains(q.Findings, f) {
				m.Score += 100
				m.Why = "finding " + f
			}
		}
		for _, a := range r.Matches.Alerts {
			if slices.Contains(q.Alerts, a) {
				m.Score += 30
				m.Why = first(m.Why, "alert "+a)
			}
		}
		var words []string
		for _, w := range r.Matches.Words {
			if slices.Contains(q.Words, strings.ToLower(w)) {
				words = append(words, w)
			}
		}
		if len(words) > 1 {
			m.Score += len(words)
			m.Why = first(m.Why, "words "+strings.Join(words, ", "))
		}
		if m.Why != "" {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Match) int { return b.Score - a.Score })
	return out
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

package runbooks

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Library is a set of runbooks by id.
type Library struct {
	all  []*Runbook
	byID map[string]*Runbook
	// engine keeps the programs of the expressions, which are as many as the runbooks have.
	engine *Engine
}

// Engine runs the expressions of the runbooks. Whoever shares a library shares what was
// compiled: a server compiles an expression once, not once a question.
func (l *Library) Engine() *Engine { return l.engine }

// Load reads every .md beneath the file systems; a later one wins by id. README
// files and hidden ones are passed over, and so is what lies beside a SKILL.md,
// which is that skill's own material. All broken files are reported at once.
func Load(fsys ...fs.FS) (*Library, error) {
	l := &Library{byID: map[string]*Runbook{}, engine: NewEngine()}
	var errs []error
	for _, f := range fsys {
		names, err := files(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("read runbooks: %w", err))
		}
		from := map[string]string{}
		opened, failed := openAll(f, names)
		for i, name := range names {
			r, err := opened[i], failed[i]
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if other, twice := from[r.ID]; twice {
				errs = append(errs, fmt.Errorf("%s:%d: id: %q is also the id of %s: give one of them another", name, r.line("id"), r.ID, other))
				continue
			}
			from[r.ID] = name
			l.byID[r.ID] = r
		}
	}
	for _, r := range l.byID {
		l.all = append(l.all, r)
	}
	slices.SortFunc(l.all, func(a, b *Runbook) int { return strings.Compare(a.ID, b.ID) })
	return l, errors.Join(errs...)
}

// files lists the runbooks of a file system in the order of their names. Hidden
// entries are left out: a mounted ConfigMap keeps its versions in them.
func files(f fs.FS) ([]string, error) {
	var all []string
	skills := map[string]bool{}
	err := fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || path.Ext(name) != ".md" || strings.EqualFold(d.Name(), "README.md"):
			return nil
		}
		if d.Name() == skillFile {
			skills[path.Dir(name)] = true
		}
		all = append(all, name)
		return nil
	})
	return slices.DeleteFunc(all, func(name string) bool {
		if path.Base(name) == skillFile {
			return false
		}
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			if skills[dir] {
				return true
			}
			if dir == "." {
				return false
			}
		}
	}), err
}

// open reads one file; what is no ordinary file, or is too large, is not read.
// openAll reads files side by side: every start of the program waits for it.
func openAll(f fs.FS, names []string) ([]*Runbook, []error) {
	opened, failed := make([]*Runbook, len(names)), make([]error, len(names))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(names)) {
		wg.Go(func() {
			for i := range next {
				opened[i], failed[i] = open(f, names[i])
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	wg.Wait()
	return opened, failed
}

func open(f fs.FS, name string) (*Runbook, error) {
	st, err := fs.Stat(f, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not an ordinary file (%s): put the runbook itself there", name, st.Mode().Type())
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, more than %d: split it, or move long texts elsewhere", name, st.Size(), maxFile)
	}
	raw, err := fs.ReadFile(f, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return Parse(name, raw)
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
				m.Why = first(m.Why, "finding "+f)
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

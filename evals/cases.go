// Package evals measures the investigator on recorded incidents. A case is a
// bundle and a case.yaml that says what a right answer is; the grader is code,
// so the same run always gets the same marks.
package evals

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Want names a cause by its subject and code. Empty fields match anything.
type Want struct {
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Code      string `json:"code,omitempty"`
}

// Matches reports whether a cause is the wanted one.
func (w Want) Matches(c incident.Cause) bool {
	ok := func(want, have string) bool { return want == "" || want == have }
	return ok(w.Kind, c.Subject.Kind) && ok(w.Namespace, c.Subject.Namespace) && ok(w.Name, c.Subject.Name) && ok(w.Code, c.Code)
}

// String gives "code on Kind ns/name".
func (w Want) String() string {
	return strings.TrimSpace(w.Code + " on " + incident.Ref{Namespace: w.Namespace, Kind: w.Kind, Name: w.Name}.String())
}

// Expect is what a right answer holds.
type Expect struct {
	Outcome incident.Outcome `json:"outcome"`
	// Causes that are right. The first cause of the answer must be one of them;
	// with All set, each must be named somewhere in the answer.
	Causes []Want `json:"causes,omitempty"`
	All    bool   `json:"all,omitempty"`
	// Cite lists facts that must occur in the evidence the first cause cites.
	Cite []string `json:"cite,omitempty"`
	// Not lists causes that must not be named.
	Not []Want `json:"not,omitempty"`
	// Proposals lists actions of which at least one must be proposed.
	Proposals []string `json:"proposals,omitempty"`
}

// Case is one recorded incident.
type Case struct {
	// ID is the name of the case's directory.
	ID    string `json:"-"`
	Title string `json:"title"`
	// Track groups cases in the result: "dra", "kubernetes", "twin", ...
	Track string `json:"track"`
	// Modes are the failure modes of the catalogues the case stands for.
	Modes     []string        `json:"modes,omitempty"`
	Question  string          `json:"question,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Alert     *incident.Alert `json:"alert,omitempty"`
	// Origin says how the bundle came about: "captured" from a real control
	// plane, or "written" by hand where hardware or a kubelet is needed.
	Origin string `json:"origin"`
	// Demo offers the case to `gumshoe demo`.
	Demo   bool   `json:"demo,omitempty"`
	Expect Expect `json:"expect"`
	// Remediation says how the case is mended, and how gumshoe must not.
	Remediation *Remediation `json:"remediation,omitempty"`

	// Bundle is the case's bundle directory.
	Bundle fs.FS `json:"-"`
}

// Ask gives the question of the case.
func (c Case) Ask() incident.Question {
	q := incident.Question{Text: c.Question, Namespace: c.Namespace, Alert: c.Alert}
	if q.Text == "" && c.Alert != nil {
		q.Text = "Alert " + c.Alert.Name
	}
	return q
}

// maxCase bounds a case.yaml, in bytes.
const maxCase = 1 << 20

// Load reads the cases beneath fsys, ordered by id: every directory that holds
// a case.yaml is one. Bundles are not looked through. All broken cases are
// reported at once.
func Load(fsys fs.FS) ([]Case, error) {
	var cases []Case
	var errs []error
	dirs := map[string]string{}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && d.Name() == "bundle" && p != ".":
			return fs.SkipDir
		case d.IsDir() || d.Name() != "case.yaml":
			return nil
		}
		c, err := loadCase(fsys, path.Dir(p))
		if err == nil {
			if first, twice := dirs[c.ID]; twice {
				err = fmt.Errorf("%s: there is a case %s in %s already; a case has the name of its directory", p, c.ID, first)
			}
			dirs[c.ID] = path.Dir(p)
		}
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		cases = append(cases, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	slices.SortFunc(cases, func(a, b Case) int { return strings.Compare(a.ID, b.ID) })
	return cases, errors.Join(errs...)
}

// Find reads the one case of an id beneath fsys, and no other; one that lies at the top
// is found without a walk. It is fs.ErrNotExist where there is none.
func Find(fsys fs.FS, id string) (Case, error) {
	if _, err := fs.Stat(fsys, path.Join(id, "case.yaml")); err == nil {
		return loadCase(fsys, id)
	}
	dir := ""
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "bundle" && p != ".":
			return fs.SkipDir
		case d.IsDir() || d.Name() != "case.yaml" || path.Base(path.Dir(p)) != id:
			return nil
		}
		dir = path.Dir(p)
		return fs.SkipAll
	})
	if err != nil {
		return Case{}, fmt.Errorf("read cases: %w", err)
	}
	if dir == "" {
		return Case{}, fmt.Errorf("case %s: %w", id, fs.ErrNotExist)
	}
	return loadCase(fsys, dir)
}

func loadCase(fsys fs.FS, dir string) (Case, error) {
	file := path.Join(dir, "case.yaml")
	if dir == "." {
		return Case{}, errors.New("case.yaml: a case lies in a directory that has its name; give the directory above")
	}
	raw, err := fs.ReadFile(fsys, file)
	if err != nil {
		return Case{}, fmt.Errorf("%s: %w", file, err)
	}
	if len(raw) > maxCase {
		return Case{}, fmt.Errorf("%s has %d bytes, more than %d", file, len(raw), maxCase)
	}
	c := Case{ID: path.Base(dir)}
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return Case{}, fmt.Errorf("%s: %w", file, err)
	}
	if err := c.validate(); err != nil {
		return Case{}, fmt.Errorf("%s: %w", file, err)
	}
	c.Bundle, err = fs.Sub(fsys, path.Join(dir, "bundle"))
	if err != nil {
		return Case{}, fmt.Errorf("%s: %w", file, err)
	}
	if _, err := fs.Stat(c.Bundle, "bundle.yaml"); err != nil {
		return Case{}, fmt.Errorf("%s: the case has no bundle/bundle.yaml: %w", dir, err)
	}
	return c, nil
}

func (c Case) validate() error {
	switch {
	case c.Title == "":
		return errors.New("title is required")
	case c.Track == "":
		return errors.New("track is required: dra, kubernetes, twin, or one of your own")
	case c.Question == "" && c.Alert == nil:
		return errors.New("question or alert is required")
	case c.Alert != nil && c.Alert.Name == "":
		return errors.New("alert.name is required")
	case !c.Expect.Outcome.Valid():
		return fmt.Errorf("expect.outcome %q is not root_cause, healthy, recovered or inconclusive", c.Expect.Outcome)
	case c.Expect.Outcome == incident.RootCause && len(c.Expect.Causes) == 0:
		return errors.New("expect.causes is required when expect.outcome is root_cause")
	case c.Expect.Outcome != incident.RootCause && len(c.Expect.Causes) > 0:
		return fmt.Errorf("expect.causes must be empty when expect.outcome is %s", c.Expect.Outcome)
	case c.Origin != "captured" && c.Origin != "written":
		return fmt.Errorf("origin %q is neither captured nor written", c.Origin)
	case c.Expect.All && len(c.Expect.Causes) == 0:
		return errors.New("expect.all wants expect.causes")
	}
	// A want without fields is any cause: every answer would be right, or wrong.
	for _, l := range []struct {
		field string
		wants []Want
	}{{"causes", c.Expect.Causes}, {"not", c.Expect.Not}} {
		for i, w := range l.wants {
			if w == (Want{}) {
				return fmt.Errorf("expect.%s[%d] is empty: name a kind, name or code", l.field, i)
			}
		}
	}
	for i, fact := range c.Expect.Cite {
		if fact == "" {
			return fmt.Errorf("expect.cite[%d] is empty", i)
		}
	}
	if c.Remediation != nil {
		return c.Remediation.Validate()
	}
	return nil
}

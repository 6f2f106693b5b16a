package serving

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

//go:embed systems.json
var rawBook []byte

// system is one runtime or helper that serves models, as a cluster shows it.
type system struct {
	Name string `json:"name"`
	// Groups of its kinds; Kinds narrows a group that others use too.
	Groups []string `json:"groups"`
	Kinds  []string `json:"kinds"`
	// Versions whose fields are known here. Others are read by field all the same.
	Versions []string `json:"versions"`
	// Operators are names of Deployments that act for it, a leading * for any
	// beginning; Shims those of its providers.
	Operators []string `json:"operators"`
	Shims     []string `json:"shims"`
	// Namespaces it is installed in by default, for the way out.
	Namespaces []string `json:"namespaces"`
}

// owns reports whether a kind of a group belongs to the system.
func (s system) owns(group, kind string) bool {
	return slices.Contains(s.Groups, group) && (len(s.Kinds) == 0 || slices.Contains(s.Kinds, kind))
}

// child is how an object of a kind leads to one that it makes or refers to.
// Name and Labels are templates: {name}, or {a.dotted.path} of the object.
type child struct {
	Kind   string   `json:"kind"`
	Groups []string `json:"groups"`
	Name   string   `json:"name"`
	Labels string   `json:"labels"`
}

// shape is how a kind is read: where its pods, model, replicas and state are. A
// field that a version does not have is simply not there.
type shape struct {
	Kind     string   `json:"kind"`
	Groups   []string `json:"groups"`
	Serves   bool     `json:"serves"`
	Pods     []string `json:"pods"`
	Children []child  `json:"children"`
	Model    []string `json:"model"`
	Served   []string `json:"served"`
	Engine   []string `json:"engine"`
	State    string   `json:"state"`
	Good     []string `json:"good"`
	Bad      []string `json:"bad"`
	Moving   []string `json:"moving"`
	Desired  []string `json:"desired"`
	Ready    []string `json:"ready"`
}

// book is what is known of the systems. It never changes after it is loaded.
type book struct {
	Systems []system `json:"systems"`
	Kinds   []shape  `json:"kinds"`
	hole    *regexp.Regexp
}

// shippedBook are the systems that ship, read once in the life of the process. Nobody changes them.
var shippedBook = sync.OnceValues(loadBook)

func loadBook() (*book, error) {
	b := &book{hole: regexp.MustCompile(`\{([A-Za-z.]+)\}`)}
	if err := json.Unmarshal(rawBook, b); err != nil {
		return nil, fmt.Errorf("systems.json: %w", err)
	}
	var errs []error
	for _, k := range b.Kinds {
		if k.Kind == "" || len(k.Groups) == 0 || b.system(k.Groups[0], k.Kind) == nil {
			errs = append(errs, fmt.Errorf("systems.json: kind %q needs groups of a listed system", k.Kind))
		}
		for _, c := range k.Children {
			if c.Kind == "" || len(c.Groups) == 0 || (c.Name == "") == (c.Labels == "") {
				errs = append(errs, fmt.Errorf("systems.json: a child of %s needs kind, groups and either name or labels", k.Kind))
			}
		}
	}
	return b, errors.Join(errs...)
}

// system finds who a kind belongs to.
func (b *book) system(group, kind string) *system {
	for i := range b.Systems {
		if b.Systems[i].owns(group, kind) {
			return &b.Systems[i]
		}
	}
	return nil
}

// shape finds how a kind is read.
func (b *book) shape(group, kind string) (shape, bool) {
	for _, k := range b.Kinds {
		if k.Kind == kind && slices.Contains(k.Groups, group) {
			return k, true
		}
	}
	return shape{}, false
}

// fill writes the values of an object into a template; it gives "" when one of
// them is not there.
func (b *book) fill(template string, u *unstructured.Unstructured) string {
	whole := true
	out := b.hole.ReplaceAllStringFunc(template, func(h string) string {
		v := u.GetName()
		if path := strings.Trim(h, "{}"); path != "name" {
			v = at(u.Object, path)
		}
		whole = whole && v != ""
		return v
	})
	if !whole {
		return ""
	}
	return out
}

// first gives the first value that stands at one of the paths.
func first(u *unstructured.Unstructured, paths []string) string {
	for _, p := range paths {
		if v := at(u.Object, p); v != "" {
			return v
		}
	}
	return ""
}

// stateOf brings a state word of the kind to one of ours, empty if it says none.
func (s shape) stateOf(u *unstructured.Unstructured) (state, word string) {
	if s.State == "" {
		return "", ""
	}
	word = at(u.Object, s.State)
	switch {
	case word == "":
	case slices.Contains(s.Good, word):
		state = healthy
	case slices.Contains(s.Bad, word):
		state = failed
	case slices.Contains(s.Moving, word):
		state = progressing
	default:
		state = unknown
	}
	return state, word
}

// matches reports whether a Deployment's name is that of an operator; a chart's
// release name often stands before it.
func matches(pattern, name string) bool {
	if end, any := strings.CutPrefix(pattern, "*"); any {
		return strings.HasSuffix(name, end)
	}
	return name == pattern || strings.HasSuffix(name, "-"+pattern)
}

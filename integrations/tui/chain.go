package tui

import (
	"slices"
	"strings"

	"charm.land/lipgloss/v2/tree"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// chainTree draws a dependency chain: what depends on something stands above it, and
// each branch says in what relation and which evidence carries it. The tree begins
// with what nothing of the chain depends on; a thing that comes twice is drawn once
// and named again.
func chainTree(th theme, edges []incident.Edge) []string {
	if len(edges) == 0 {
		return nil
	}
	var roots []incident.Ref
	for _, e := range edges {
		if !slices.Contains(roots, e.From) && !slices.ContainsFunc(edges, func(o incident.Edge) bool { return o.To == e.From && o.From != e.From }) {
			roots = append(roots, e.From)
		}
	}
	if len(roots) == 0 { // a circle: begin where the chain does
		roots = append(roots, edges[0].From)
	}
	same := sharedNamespace(edges)
	drawn := map[incident.Ref]bool{}
	var grow func(r incident.Ref, label string) any
	grow = func(r incident.Ref, label string) any {
		kids := children(edges, r)
		if drawn[r] || len(kids) == 0 {
			if drawn[r] && len(kids) > 0 {
				label += th.faint.Render(" (see above)")
			}
			return label
		}
		drawn[r] = true
		t := tree.Root(label).Enumerator(tree.RoundedEnumerator).EnumeratorStyle(th.faint.PaddingRight(1)).IndenterStyle(th.faint.PaddingRight(1))
		for _, e := range kids {
			t.Child(grow(e.To, branch(th, e, same)))
		}
		return t
	}
	var out []string
	for _, r := range roots {
		switch t := grow(r, refName(r, same)).(type) {
		case *tree.Tree:
			out = append(out, strings.Split(t.String(), "\n")...)
		case string:
			out = append(out, t)
		}
	}
	return out
}

func children(edges []incident.Edge, r incident.Ref) []incident.Edge {
	var out []incident.Edge
	for _, e := range edges {
		if e.From == r && e.To != r {
			out = append(out, e)
		}
	}
	return out
}

// branch is the label of an edge and of what it leads to.
func branch(th theme, e incident.Edge, same string) string {
	s := th.faint.Render(strings.ReplaceAll(clean(e.Relation), "-", " ")+" ") + refName(e.To, same)
	if n := clean(e.Note); n != "" {
		s += th.faint.Render(" (" + n + ")")
	}
	if len(e.Evidence) > 0 {
		s += th.faint.Render(" [" + clean(strings.Join(e.Evidence, ", ")) + "]")
	}
	return s
}

// sharedNamespace is the one namespace of a chain, empty when there are several.
func sharedNamespace(edges []incident.Edge) string {
	ns := ""
	for _, e := range edges {
		for _, r := range []incident.Ref{e.From, e.To} {
			switch {
			case r.Namespace == "" || r.Namespace == ns:
			case ns == "":
				ns = r.Namespace
			default:
				return ""
			}
		}
	}
	return ns
}

func refName(r incident.Ref, same string) string {
	if r.Namespace == same {
		r.Namespace = ""
	}
	return clean(r.String())
}

package graph_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// edges draws edges among a few things, loops and repetitions included.
func edges(t *rapid.T) []incident.Edge {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) incident.Edge {
		return edge(name.Draw(t, "from"), rapid.SampledFrom([]string{graph.Claims, graph.Uses}).Draw(t, "relation"), name.Draw(t, "to"),
			rapid.SliceOfN(rapid.SampledFrom([]string{"E1", "E2", "E3"}), 0, 3).Draw(t, "evidence")...)
	}), 0, 24).Draw(t, "edges")
}

// Depth, Path and Reach agree with each other and with the edges, and with the
// textbook's way of finding shortest paths.
func TestPathsAreShortest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g := graph.New()
		g.Add(edges(t)...)
		const far = 1 << 20
		dist := map[[2]incident.Ref]int{}
		for _, a := range g.Nodes() {
			for _, b := range g.Nodes() {
				dist[[2]incident.Ref{a, b}] = far
			}
			dist[[2]incident.Ref{a, a}] = 0
		}
		for _, e := range g.Edges() {
			if e.From != e.To {
				dist[[2]incident.Ref{e.From, e.To}] = 1
			}
		}
		for _, k := range g.Nodes() {
			for _, i := range g.Nodes() {
				for _, j := range g.Nodes() {
					dist[[2]incident.Ref{i, j}] = min(dist[[2]incident.Ref{i, j}], dist[[2]incident.Ref{i, k}]+dist[[2]incident.Ref{k, j}])
				}
			}
		}
		for pair, want := range dist {
			if want >= far {
				want = -1
			}
			from, to := pair[0], pair[1]
			if got := g.Depth(from, to); got != want {
				t.Fatalf("depth %s to %s is %d, want %d", from, to, got, want)
			}
			if d, ok := g.Reach(from)[to]; ok != (want >= 0) || ok && d != want {
				t.Fatalf("reach %s to %s is %d %v, want %d", from, to, d, ok, want)
			}
			path := g.Path(from, to)
			if len(path) != max(want, 0) {
				t.Fatalf("path %s to %s has %d edges, want %d", from, to, len(path), want)
			}
			at := from
			for _, e := range path {
				if e.From != at || !slices.ContainsFunc(g.Out(at), func(o incident.Edge) bool { return cmp.Equal(o, e) }) {
					t.Fatalf("path %s to %s leaves the graph at %s: %v", from, to, at, e)
				}
				at = e.To
			}
			if len(path) > 0 && at != to {
				t.Fatalf("path %s to %s ends at %s", from, to, at)
			}
		}
	})
}

// However often and in whatever pieces edges are added: each once, with all its
// evidence once, in the order of first sight.
func TestAddMerges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := edges(t)
		all, pieces := graph.New(), graph.New()
		all.Add(in...)
		for _, e := range in {
			pieces.Add(e)
		}
		pieces.Add(in...)
		if diff := cmp.Diff(all.Edges(), pieces.Edges()); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(all.Nodes(), pieces.Nodes()); diff != "" {
			t.Fatal(diff)
		}
		want := map[string]map[string]bool{}
		for _, e := range in {
			k := fmt.Sprint(e.From, e.Relation, e.To)
			if want[k] == nil {
				want[k] = map[string]bool{}
			}
			for _, id := range e.Evidence {
				want[k][id] = true
			}
		}
		for _, e := range all.Edges() {
			k := fmt.Sprint(e.From, e.Relation, e.To)
			if len(e.Evidence) != len(want[k]) {
				t.Fatalf("%s has evidence %v, want %v", k, e.Evidence, want[k])
			}
			delete(want, k)
		}
		if len(want) > 0 {
			t.Fatalf("edges are missing: %v", want)
		}
	})
}

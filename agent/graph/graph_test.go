package graph_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func ref(name string) incident.Ref { return incident.Ref{Kind: "Pod", Name: name} }

func edge(from, rel, to string, ev ...string) incident.Edge {
	return incident.Edge{From: ref(from), Relation: rel, To: ref(to), Evidence: ev}
}

func TestAddKeepsAllEvidence(t *testing.T) {
	t.Parallel()
	g := graph.New()
	g.Add(edge("a", graph.Claims, "b", "E1"), edge("a", graph.Claims, "b", "E2", "E1"), edge("a", graph.Uses, "b", "E3"))
	want := []incident.Edge{edge("a", graph.Claims, "b", "E1", "E2"), edge("a", graph.Uses, "b", "E3")}
	if diff := cmp.Diff(want, g.Edges()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]incident.Ref{ref("a"), ref("b")}, g.Nodes()); diff != "" {
		t.Error(diff)
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	g := graph.New()
	g.Add(edge("a", "x", "b"), edge("b", "x", "c"), edge("c", "x", "a"), edge("a", "y", "d"), edge("d", "y", "c"), edge("c", "x", "e"))
	tests := []struct {
		from, to string
		depth    int
	}{{"a", "a", 0}, {"a", "b", 1}, {"a", "e", 3}, {"e", "a", -1}, {"a", "nowhere", -1}}
	for _, tc := range tests {
		if got := g.Depth(ref(tc.from), ref(tc.to)); got != tc.depth {
			t.Errorf("depth %s to %s is %d, want %d", tc.from, tc.to, got, tc.depth)
		}
		path := g.Path(ref(tc.from), ref(tc.to))
		if tc.depth > 0 && (len(path) != tc.depth || path[0].From != ref(tc.from) || path[len(path)-1].To != ref(tc.to)) {
			t.Errorf("path %s to %s: %v", tc.from, tc.to, path)
		}
		for i := 1; i < len(path); i++ {
			if path[i].From != path[i-1].To {
				t.Errorf("path %v is broken at %d", path, i)
			}
		}
	}
}

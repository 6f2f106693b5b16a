package graph_test

import (
	"strconv"
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

// What is handed out is the caller's own.
func TestCallersCannotChangeTheGraph(t *testing.T) {
	t.Parallel()
	g := graph.New()
	ids := []string{"E1"}
	g.Add(incident.Edge{From: ref("a"), Relation: "x", To: ref("b"), Evidence: ids})
	ids[0] = "E9"
	g.Nodes()[0] = ref("z")
	g.Out(ref("a"))[0].To = ref("z")
	g.Edges()[0].To = ref("z")
	g.Add(edge("a", "x", "b", "E2"))
	if diff := cmp.Diff([]incident.Edge{edge("a", "x", "b", "E1", "E2")}, g.Edges()); diff != "" {
		t.Error(diff)
	}
	if len(g.Out(ref("nowhere"))) != 0 || g.Path(ref("nowhere"), ref("a")) != nil {
		t.Error("a thing that is not there has edges")
	}
}

// The first note stands: it came from the look nearest to the thing.
func TestNotes(t *testing.T) {
	t.Parallel()
	g := graph.New()
	add := func(note string) {
		e := edge("a", "x", "b")
		e.Note = note
		g.Add(e)
	}
	for _, note := range []string{"", "8 devices", "9 devices"} {
		add(note)
	}
	if got := g.Edges()[0].Note; got != "8 devices" {
		t.Errorf("note %q", got)
	}
}

// Of several shortest ways the one seen first is shown, on every run.
func TestPathIsTheFirstSeen(t *testing.T) {
	t.Parallel()
	g := graph.New()
	g.Add(edge("a", "x", "b"), edge("a", "x", "c"), edge("c", "x", "d"), edge("b", "x", "d"), edge("a", "a-first", "e"), edge("a", "b-second", "e"))
	if p := g.Path(ref("a"), ref("d")); len(p) != 2 || p[0].To != ref("b") {
		t.Errorf("%v", p)
	}
	if p := g.Path(ref("a"), ref("e")); len(p) != 1 || p[0].Relation != "a-first" {
		t.Errorf("%v", p)
	}
}

// A survey names tens of thousands of things at once.
func TestManyEdges(t *testing.T) {
	t.Parallel()
	g := graph.New()
	const n = 20_000
	for range 2 {
		for i := range n {
			g.Add(incident.Edge{From: ref("cluster"), Relation: graph.Contains, To: incident.Ref{Kind: "Pod", Name: strconv.Itoa(i)}, Evidence: []string{"E1"}})
		}
	}
	if got := len(g.Edges()); got != n {
		t.Errorf("%d edges", got)
	}
	if got := len(g.Reach(ref("cluster"))); got != n+1 {
		t.Errorf("%d reached", got)
	}
}

// A pod that runs on a machine does not depend on every part of it, only on those
// it uses; a question about the machine reaches them all.
func TestPartsOfAMachine(t *testing.T) {
	t.Parallel()
	g := graph.New()
	g.Add(edge("pod", graph.RunsOn, "node"), edge("node", graph.Has, "gpu-0"), edge("node", graph.Has, "gpu-1"), edge("pod", graph.Claims, "claim"),
		edge("claim", graph.Allocated, "gpu-1"), edge("node", graph.Publishes, "agent"), edge("namespace", graph.Contains, "node"))
	for _, tc := range []struct {
		from, to string
		depth    int
	}{{"pod", "gpu-0", -1}, {"pod", "gpu-1", 2}, {"node", "gpu-0", 1}, {"namespace", "gpu-0", 2}, {"pod", "agent", 2}} {
		if got := g.Depth(ref(tc.from), ref(tc.to)); got != tc.depth {
			t.Errorf("%s to %s is %d edges deep, want %d", tc.from, tc.to, got, tc.depth)
		}
		if got := len(g.Path(ref(tc.from), ref(tc.to))); got != max(tc.depth, 0) {
			t.Errorf("the way from %s to %s has %d edges, want %d", tc.from, tc.to, got, max(tc.depth, 0))
		}
	}
}

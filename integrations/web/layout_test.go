package web

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// chains draws edges among few objects, with circles, loops and repetitions.
func chains() *rapid.Generator[[]incident.Edge] {
	ref := rapid.Custom(func(t *rapid.T) incident.Ref {
		return incident.Ref{Namespace: "train", Kind: rapid.SampledFrom([]string{"Pod", "Node", "ResourceClaim"}).Draw(t, "kind"), Name: fmt.Sprintf("x-%d", rapid.IntRange(0, 9).Draw(t, "name"))}
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) incident.Edge {
		return incident.Edge{From: ref.Draw(t, "from"), To: ref.Draw(t, "to"), Relation: rapid.SampledFrom([]string{"claims", "runs-on", "offered-by"}).Draw(t, "relation"), Note: rapid.String().Draw(t, "note")}
	}), 1, 30)
}

// Whatever a chain is, no two boxes overlap, everything is on the drawing, every
// relation is drawn, and an edge of a chain without circles leads down.
func TestGraphLayout(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		edges := chains().Draw(t, "edges")
		causes := []incident.Cause{{Subject: edges[0].To}}
		g := draw(edges, []incident.Ref{edges[0].From}, causes)
		if g == nil {
			t.Fatal("nothing is drawn")
		}
		for i, a := range g.Nodes {
			if a.X < 0 || a.Y < 0 || a.X+a.W > g.Width || a.Y+a.H > g.Height {
				t.Fatalf("%s is not on the drawing: %+v in %g x %g", a.Full, a, g.Width, g.Height)
			}
			for _, b := range g.Nodes[i+1:] {
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Fatalf("%s and %s overlap", a.Full, b.Full)
				}
			}
		}
		for _, e := range edges {
			if !slices.ContainsFunc(g.Edges, func(d graphEdge) bool {
				return g.Nodes[d.from].ref.Same(e.From) && g.Nodes[d.to].ref.Same(e.To) && strings.Contains(d.Full, strings.ReplaceAll(e.Relation, "-", " ")) && strings.HasPrefix(d.Path, "M")
			}) {
				t.Fatalf("%v is not drawn", e)
			}
		}
		for _, e := range g.Edges {
			if strings.Contains(e.Path, "NaN") || strings.Contains(e.Path, "Inf") || e.LabelX < 0 || e.LabelX > g.Width || math.IsNaN(e.LabelY) {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// A chain without circles is drawn from above to below.
func TestGraphLeadsDown(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var edges []incident.Edge
		ref := func(i int) incident.Ref { return incident.Ref{Kind: "Pod", Name: fmt.Sprint("x-", i)} }
		for range rapid.IntRange(1, 25).Draw(t, "edges") {
			a := rapid.IntRange(0, 8).Draw(t, "a")
			edges = append(edges, incident.Edge{From: ref(a), To: ref(rapid.IntRange(a+1, 9).Draw(t, "b")), Relation: "needs"})
		}
		g := draw(edges, nil, nil)
		for _, e := range g.Edges {
			if a, b := g.Nodes[e.from], g.Nodes[e.to]; b.Y < a.Y+a.H {
				t.Fatalf("%s is not above %s", a.Full, b.Full)
			}
		}
	})
}

// What is too much is said, and the rest is drawn.
func TestGraphIsBounded(t *testing.T) {
	t.Parallel()
	var edges []incident.Edge
	for i := range 500 {
		edges = append(edges, incident.Edge{From: incident.Ref{Kind: "Node", Name: "n"}, Relation: "runs", To: incident.Ref{Kind: "Pod", Name: fmt.Sprint("p-", i)}})
	}
	g := draw(edges, nil, nil)
	if len(g.Nodes) != maxNodes || !strings.Contains(g.Left, "441 relations are not drawn") {
		t.Errorf("%d nodes, %q", len(g.Nodes), g.Left)
	}
	if draw(nil, nil, nil) != nil {
		t.Error("something is drawn of nothing")
	}
}

// Whatever points a tool gives, a chart stays on its canvas or is not drawn.
func TestChartStaysOnCanvas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var series []course
		for range rapid.IntRange(1, 12).Draw(t, "series") {
			var c course
			for range rapid.IntRange(0, 40).Draw(t, "points") {
				c.Points = append(c.Points, [2]float64{rapid.Float64Range(1.6e9, 1.9e9).Draw(t, "t"), rapid.Float64().Draw(t, "v")})
			}
			series = append(series, c)
		}
		c, ok := plot("x", rapid.Float64Range(-1, 600).Draw(t, "step"), series, len(series))
		if !ok {
			return
		}
		for _, k := range c.YTicks {
			if !finite(k.At) || k.At < c.Y1-1 || k.At > c.Y2+1 {
				t.Fatalf("a tick at %g", k.At)
			}
		}
		for _, l := range c.Lines {
			for _, d := range l.Dots {
				if d[0] < c.X1-1 || d[0] > c.X2+1 || d[1] < c.Y1-1 || d[1] > c.Y2+1 {
					t.Fatalf("a dot at %v", d)
				}
			}
			for _, p := range l.Paths {
				for seg := range strings.FieldsFuncSeq(p, func(r rune) bool { return r == 'M' || r == 'L' }) {
					var x, y float64
					if _, err := fmt.Sscan(seg, &x, &y); err != nil || x < c.X1-1 || x > c.X2+1 || y < c.Y1-1 || y > c.Y2+1 {
						t.Fatalf("a point at %q (%v)", seg, err)
					}
				}
			}
		}
	})
}

func TestChartsOfData(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	point := func(m int, v float64) string { return fmt.Sprintf("[%d,%g]", from.Unix()+int64(60*m), v) }
	data := fmt.Sprintf(`{"expr":"rate(x[5m])","step_seconds":60,"total":40,"series":[
		{"labels":{"__name__":"x","pod":"a"},"trend":"rising","points":[%s,%s,%s,%s,%s],"shifts":[{"at":%q,"before":1,"after":5}]},
		{"labels":{"pod":"b"},"points":[%s]}]}`, point(0, 1), point(1, 1.5), point(2, 5), point(30, 5), point(31, 5.5), from.Add(2*time.Minute).Format(time.RFC3339), point(3, 2))
	cs := charts("E7", "prom_range", json.RawMessage(data))
	if len(cs) != 1 {
		t.Fatalf("%d charts", len(cs))
	}
	c := cs[0]
	if c.Title != "rate(x[5m])" || c.Evidence != "E7" || len(c.Lines) != 2 || c.Left != "2 of 40 series are drawn." {
		t.Errorf("%+v", c)
	}
	if a := c.Lines[0]; a.Name != "pod=a" || len(a.Paths) != 2 || a.First != "1" || a.Last != "5.5" || a.Trend != "rising" {
		t.Errorf("a gap is not left open: %+v", a)
	}
	if b := c.Lines[1]; len(b.Dots) != 1 || len(b.Paths) != 0 {
		t.Errorf("a single point: %+v", b)
	}
	if len(c.Shifts) != 1 || !strings.Contains(c.Shifts[0].Text, "pod=a: from 1 to 5 at 03:02") || !strings.Contains(c.Range, "2026-11-28 03:00 to 2026-11-28 03:31 UTC") {
		t.Errorf("%+v %s", c.Shifts, c.Range)
	}
	for name, data := range map[string]string{"no data": "", "no points": `{"series":[{"labels":{}}]}`, "no numbers": `{"points":"x","series":[{"points":[]}]}`, "a list": `[1,{"points":2}]`} {
		if got := charts("E1", "x", json.RawMessage(data)); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// FuzzCharts reads whatever stands in the data of a tool.
func FuzzCharts(f *testing.F) {
	f.Add(`{"expr":"x","step_seconds":60,"series":[{"labels":{"a":"b"},"points":[[1764298800,1],[1764298860,1e300]]}]}`)
	f.Add(`{"a":{"b":[{"series":[{"points":[[-1e308,0],[1e308,5]]}]}]}}`)
	f.Add(`{"series":[{"points":[[0,-1e308],[1,1e308]],"shifts":[{"at":"2026-01-01T00:00:00Z"}]}]}`)
	f.Fuzz(func(t *testing.T, data string) {
		for _, c := range charts("E1", "x", json.RawMessage(data)) {
			if s := fmt.Sprint(c); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
				t.Errorf("%s", s)
			}
		}
	})
}

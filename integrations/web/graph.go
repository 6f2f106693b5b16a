package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Sizes of the drawing in its own units, which a page shows as pixels.
const (
	boxWidth  = 264
	boxHeight = 58
	// wayWidth is the room of an edge that passes a layer.
	wayWidth = 28
	boxGap   = 32
	layerGap = 62
	margin   = 10
	// nameChars and edgeChars are how many characters fit into a box and beside an edge.
	nameChars = 31
	// kindChars fit beside the name's kind and place, markChars are those of a mark.
	kindChars, markChars = 36, 10
	edgeChars            = 30
	// maxNodes and maxEdges bound what is drawn.
	maxNodes = 60
	maxEdges = 200
	// sweeps is how often layers are put into order by their neighbours.
	sweeps = 6
)

// graphNode is an object of the chain. Parts that a page shows are capitalised.
type graphNode struct {
	ID, Kind, Name, Full, Place string
	// Mark says the part that it plays: "symptom", "cause" or "".
	Mark, MarkText string
	// Findings are sentences on what is wrong with it.
	Findings   []string
	URL        string
	Selected   bool
	X, Y, W, H float64
	ref        incident.Ref
	layer      int
	// way is an invisible point of an edge that spans several layers.
	way bool
}

// graphEdge is a relation between two objects.
type graphEdge struct {
	Label, Full, Path string
	LabelX, LabelY    float64
	from, to          int
	points            []int
}

// graph is the drawing.
type graph struct {
	Width, Height float64
	Nodes         []graphNode
	Edges         []graphEdge
	// Left says what was too much to draw.
	Left string
	Alt  string
}

// draw lays out a chain from symptoms above to causes below: objects in layers, no two
// of which overlap, and every relation as a curve.
func draw(edges []incident.Edge, symptoms []incident.Ref, causes []incident.Cause) *graph {
	g := &graph{}
	at := map[incident.Ref]int{}
	node := func(r incident.Ref) (int, bool) {
		for ref, i := range at {
			if ref.Same(r) {
				return i, true
			}
		}
		if len(g.Nodes) >= maxNodes || r.IsZero() {
			return 0, false
		}
		at[r] = len(g.Nodes)
		place := ""
		if r.Namespace != "" {
			place = r.Namespace
		} else if r.Device != "" {
			place = r.Pool
		}
		g.Nodes = append(g.Nodes, graphNode{ID: fmt.Sprintf("n%d", len(g.Nodes)), Kind: clean(r.Kind), Name: middle(clean(r.Name), nameChars), Full: clean(r.String()), Place: clean(place), W: boxWidth, H: boxHeight, ref: r})
		return len(g.Nodes) - 1, true
	}
	left := 0
	for _, e := range edges {
		from, ok1 := node(e.From)
		to, ok2 := node(e.To)
		if !ok1 || !ok2 || len(g.Edges) >= maxEdges {
			left++
			continue
		}
		label := strings.ReplaceAll(clean(e.Relation), "-", " ")
		if note := clean(e.Note); note != "" {
			label += " (" + note + ")"
		}
		if i := slices.IndexFunc(g.Edges, func(o graphEdge) bool { return o.from == from && o.to == to }); i >= 0 {
			if !strings.Contains(g.Edges[i].Full, label) {
				g.Edges[i].Full += ", " + label
			}
			continue
		}
		g.Edges = append(g.Edges, graphEdge{Full: label, from: from, to: to})
	}
	for i, c := range causes {
		if n, ok := node(c.Subject); ok {
			g.Nodes[n].Mark, g.Nodes[n].MarkText = "cause", "cause"
			if len(causes) > 1 {
				g.Nodes[n].MarkText = fmt.Sprintf("cause %d", i+1)
			}
		} else {
			left++
		}
	}
	for _, s := range symptoms {
		for ref, i := range at {
			if ref.Same(s) && g.Nodes[i].Mark == "" {
				g.Nodes[i].Mark, g.Nodes[i].MarkText = "symptom", "symptom"
			}
		}
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		room := kindChars
		if n.Mark != "" {
			room -= markChars
		}
		n.Kind = clip(n.Kind, 24)
		n.Place = clip(n.Place, max(room-utf8.RuneCountInString(n.Kind), 6))
	}
	if left > 0 {
		g.Left = plural(left, "relation is not drawn", "relations are not drawn")
	}
	if len(g.Nodes) == 0 {
		return nil
	}
	g.Alt = fmt.Sprintf("The chain from symptom to cause: %s and %s.", plural(len(g.Nodes), "object", "objects"), plural(len(g.Edges), "relation", "relations"))
	g.layout()
	return g
}

// layout gives every box and every curve its place.
func (g *graph) layout() {
	down := g.acyclic()
	g.layers(down)
	real := len(g.Nodes)
	// An edge that spans several layers passes invisible points on its way.
	for i := range g.Edges {
		e := &g.Edges[i]
		a, b := e.from, e.to
		if !down[i] {
			a, b = b, a
		}
		e.points = []int{a}
		for l := g.Nodes[a].layer + 1; l < g.Nodes[b].layer; l++ {
			e.points = append(e.points, len(g.Nodes))
			g.Nodes = append(g.Nodes, graphNode{layer: l, way: true, W: wayWidth, H: boxHeight})
		}
		e.points = append(e.points, b)
	}
	rows := g.order()
	widest := 0.0
	for _, row := range rows {
		widest = max(widest, rowWidth(g.Nodes, row))
	}
	for l, row := range rows {
		x := margin + (widest-rowWidth(g.Nodes, row))/2
		for _, n := range row {
			g.Nodes[n].X, g.Nodes[n].Y = math.Round(x), float64(margin+l*(boxHeight+layerGap))
			x += g.Nodes[n].W + boxGap
		}
	}
	g.Width = widest + 2*margin
	g.Height = float64(2*margin + len(rows)*(boxHeight+layerGap) - layerGap)
	for i := range g.Edges {
		g.curve(&g.Edges[i], down[i])
	}
	g.Nodes = g.Nodes[:real]
}

// acyclic says for each edge whether it leads down; those that close a circle do not.
func (g *graph) acyclic() []bool {
	down := make([]bool, len(g.Edges))
	state := make([]int, len(g.Nodes)) // 1: on the way, 2: done
	var visit func(int)
	visit = func(n int) {
		state[n] = 1
		for i, e := range g.Edges {
			if e.from != n || e.to == n {
				continue
			}
			down[i] = state[e.to] != 1
			if state[e.to] == 0 {
				visit(e.to)
			}
		}
		state[n] = 2
	}
	for n := range g.Nodes {
		if state[n] == 0 {
			visit(n)
		}
	}
	return down
}

// layers puts each node one below the lowest of those that lead to it.
func (g *graph) layers(down []bool) {
	for range g.Nodes {
		changed := false
		for i, e := range g.Edges {
			a, b := e.from, e.to
			if a == b {
				continue
			}
			if !down[i] {
				a, b = b, a
			}
			if g.Nodes[b].layer <= g.Nodes[a].layer {
				g.Nodes[b].layer, changed = g.Nodes[a].layer+1, true
			}
		}
		if !changed {
			return
		}
	}
}

// order gives the nodes of each layer from left to right, so that edges cross little:
// each goes to the mean place of its neighbours, layer by layer.
func (g *graph) order() [][]int {
	deepest := 0
	for _, n := range g.Nodes {
		deepest = max(deepest, n.layer)
	}
	rows := make([][]int, deepest+1)
	for i, n := range g.Nodes {
		rows[n.layer] = append(rows[n.layer], i)
	}
	above, below := make([][]int, len(g.Nodes)), make([][]int, len(g.Nodes))
	for _, e := range g.Edges {
		for i := range e.points[1:] {
			a, b := e.points[i], e.points[i+1]
			below[a] = append(below[a], b)
			above[b] = append(above[b], a)
		}
	}
	place := make([]float64, len(g.Nodes))
	number := func(row []int) {
		for i, n := range row {
			place[n] = float64(i) - float64(len(row)-1)/2
		}
	}
	for _, row := range rows {
		number(row)
	}
	sort := func(row []int, beside [][]int) {
		mean := map[int]float64{}
		for _, n := range row {
			mean[n] = place[n]
			if len(beside[n]) > 0 {
				sum := 0.0
				for _, m := range beside[n] {
					sum += place[m]
				}
				mean[n] = sum / float64(len(beside[n]))
			}
		}
		slices.SortStableFunc(row, func(a, b int) int { return cmp.Compare(mean[a], mean[b]) })
		number(row)
	}
	for range sweeps {
		for l := 1; l < len(rows); l++ {
			sort(rows[l], above)
		}
		for l := len(rows) - 2; l >= 0; l-- {
			sort(rows[l], below)
		}
	}
	return rows
}

func rowWidth(nodes []graphNode, row []int) float64 {
	w := float64(boxGap * (len(row) - 1))
	for _, n := range row {
		w += nodes[n].W
	}
	return w
}

// curve draws an edge along its points; the arrow is at its end, or at its beginning
// where the edge leads up.
func (g *graph) curve(e *graphEdge, down bool) {
	e.Label = clip(e.Full, edgeChars)
	first := g.Nodes[e.points[0]]
	if len(e.points) == 2 && e.points[0] == e.points[1] { // a loop at one box
		x, y := first.X+first.W, first.Y+first.H/2
		e.Path = fmt.Sprintf("M%g %g C%g %g %g %g %g %g", x-40, first.Y+first.H, x-40, y+44, x-8, y+44, x-8, first.Y+first.H)
		e.LabelX, e.LabelY = x-24, y+52
		return
	}
	type point struct{ x, y float64 }
	var ps []point
	for i, n := range e.points {
		b := g.Nodes[n]
		switch {
		case i == 0:
			ps = append(ps, point{b.X + b.W/2, b.Y + b.H})
		case i == len(e.points)-1:
			ps = append(ps, point{b.X + b.W/2, b.Y})
		default:
			ps = append(ps, point{b.X + b.W/2, b.Y}, point{b.X + b.W/2, b.Y + b.H})
		}
	}
	e.LabelX, e.LabelY = (ps[0].x+ps[1].x)/2, (ps[0].y+ps[1].y)/2+4
	if !down {
		slices.Reverse(ps)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "M%g %g", ps[0].x, ps[0].y)
	for i, p := range ps[1:] {
		mid := (ps[i].y + p.y) / 2
		fmt.Fprintf(&b, " C%g %g %g %g %g %g", ps[i].x, mid, p.x, mid, p.x, p.y)
	}
	e.Path = b.String()
	// A label of an edge at the border stays on the drawing.
	half := float64(utf8.RuneCountInString(e.Label)) * 3.5
	e.LabelX = min(max(e.LabelX, half+2), max(g.Width-half-2, half+2))
}

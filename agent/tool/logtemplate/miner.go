package logtemplate

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of the miner: memory does not grow with the log.
const (
	maxTemplates = 500
	maxBranches  = 64
	maxTokens    = 80
	maxToken     = 200
	maxValues    = 3
	maxSample    = 4 << 10
	treeDepth    = 2
	likeness     = 0.6
)

// Template is one shape of records.
type Template struct {
	// Text is the common wording; a place that varies shows up to three values,
	// <79|31>, or <*> when there are more.
	Text  string
	Level Level
	Count int
	// First and Last are zero when the log carries no timestamps.
	First, Last time.Time
	// Number of the first line.
	Number int
	// Sample is the last record of an error template, whole, and the first of others.
	Sample string
}

// Summary of a log.
type Summary struct {
	Lines, Records int
	// Templates, errors first and the rare before the frequent.
	Templates []Template
	// Other counts records beyond the bound on templates.
	Other int
}

// slot is one place of a template: a fixed word, or the values seen there.
type slot struct {
	values []string
	open   bool // more than maxValues
}

type group struct {
	mask  []string
	slots []slot
	t     Template
}

type node struct {
	next   map[string]*node
	groups []*group
}

// Miner collects templates record by record. It is not safe for concurrent use.
type Miner struct {
	split    *splitter
	number   *regexp.Regexp
	root     node
	groups   []*group
	lines    int
	records  int
	overflow int
}

// NewMiner makes an empty miner.
func NewMiner() *Miner {
	return &Miner{split: newSplitter(), number: regexp.MustCompile(`0[xX][0-9a-fA-F]+|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|[0-9]+`)}
}

// Mine summarises a whole log.
func Mine(text string) Summary {
	m := NewMiner()
	for _, r := range Records(text) {
		m.Add(r)
	}
	return m.Summary()
}

// Add takes one record in.
func (m *Miner) Add(r Record) {
	m.records++
	m.lines += r.Lines
	level := m.split.judge.level(r.Text)
	tokens := strings.Fields(m.split.headline(r.Text))
	if len(tokens) == 0 {
		return
	}
	if len(tokens) > maxTokens {
		tokens = append(tokens[:maxTokens:maxTokens], "...")
	}
	mask := make([]string, len(tokens))
	for i, t := range tokens {
		tokens[i] = cutText(t, maxToken)
		mask[i] = m.number.ReplaceAllString(tokens[i], "#")
	}
	leaf := m.route(mask, level)
	g := leaf.best(mask)
	if g == nil {
		if len(m.groups) >= maxTemplates {
			m.overflow++
			return
		}
		g = &group{mask: mask, slots: make([]slot, len(tokens)), t: Template{Level: level, Number: r.Number, First: r.At, Sample: cutText(r.Text, maxSample)}}
		leaf.groups = append(leaf.groups, g)
		m.groups = append(m.groups, g)
	}
	g.take(tokens, mask, r)
}

// route walks the tree: level, number of tokens, then the first tokens.
func (m *Miner) route(mask []string, level Level) *node {
	n := m.root.child(level.String(), 3)
	// Long records vary in length at their end; a coarse length keeps them together.
	size := len(mask)
	n = n.child(string(rune('0'+size)), maxTokens+2)
	for i := 0; i < treeDepth && i < size; i++ {
		key := mask[i]
		if strings.Contains(key, "#") {
			key = "*"
		}
		n = n.child(key, maxBranches)
	}
	return n
}

func (n *node) child(key string, limit int) *node {
	if n.next == nil {
		n.next = map[string]*node{}
	}
	c, ok := n.next[key]
	if !ok && len(n.next) >= limit {
		key = "*"
		c, ok = n.next[key]
	}
	if !ok {
		c = &node{}
		n.next[key] = c
	}
	return c
}

// best gives the most similar group, nil if none is similar enough.
func (n *node) best(mask []string) *group {
	var found *group
	top := 0
	for _, g := range n.groups {
		same := 0
		for i := range mask {
			if g.mask[i] == mask[i] {
				same++
			}
		}
		if same > top {
			found, top = g, same
		}
	}
	if found == nil || float64(top) < likeness*float64(len(mask)) {
		return nil
	}
	return found
}

func (g *group) take(tokens, mask []string, r Record) {
	g.t.Count++
	if g.t.Level == Error {
		g.t.Sample = cutText(r.Text, maxSample)
	}
	if !r.At.IsZero() {
		if g.t.First.IsZero() || r.At.Before(g.t.First) {
			g.t.First = r.At
		}
		if r.At.After(g.t.Last) {
			g.t.Last = r.At
		}
	}
	for i, t := range tokens {
		if g.mask[i] != mask[i] {
			g.mask[i] = "" // equal to no token: a word that varies counts as a difference
		}
		s := &g.slots[i]
		if s.open || slices.Contains(s.values, t) {
			continue
		}
		if len(s.values) == maxValues {
			s.open, s.values = true, s.values[:1]
			continue
		}
		s.values = append(s.values, t)
	}
}

// text writes the template. A key keeps its name: "step=<1|2>".
func (g *group) text() string {
	words := make([]string, len(g.slots))
	for i, s := range g.slots {
		switch {
		case !s.open && len(s.values) == 1:
			words[i] = s.values[0]
		case s.open:
			words[i] = key(s.values, g.mask[i]) + "<*>"
		default:
			k := key(s.values, "")
			short := make([]string, len(s.values))
			for j, v := range s.values {
				short[j] = strings.TrimPrefix(v, k)
			}
			words[i] = k + "<" + strings.Join(short, "|") + ">"
		}
	}
	return strings.Join(words, " ")
}

// key gives the part up to "=" that all values of a slot share.
func key(values []string, mask string) string {
	all := values
	if mask != "" {
		all = append(slices.Clone(values), mask)
	}
	k, _, ok := strings.Cut(all[0], "=")
	if !ok {
		return ""
	}
	k += "="
	for _, v := range all[1:] {
		if !strings.HasPrefix(v, k) {
			return ""
		}
	}
	return k
}

// Summary gives what was collected so far.
func (m *Miner) Summary() Summary {
	out := Summary{Lines: m.lines, Records: m.records, Other: m.overflow, Templates: []Template{}}
	for _, g := range m.groups {
		t := g.t
		t.Text = g.text()
		out.Templates = append(out.Templates, t)
	}
	slices.SortStableFunc(out.Templates, func(a, b Template) int {
		if a.Level != b.Level {
			return int(b.Level) - int(a.Level)
		}
		if a.Level != Plain && a.Count != b.Count {
			return a.Count - b.Count
		}
		if a.Level == Plain && a.Count != b.Count {
			return b.Count - a.Count
		}
		return a.Number - b.Number
	})
	return out
}

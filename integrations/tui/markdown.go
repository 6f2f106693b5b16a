package tui

import (
	"fmt"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
)

// markdown draws a model's prose. The text is cleaned before it is parsed, so nothing
// in it can reach the terminal but letters.
type markdown struct {
	th    theme
	width int
	src   []byte
	out   []string
}

// renderMarkdown gives the lines of a text at a width.
func renderMarkdown(th theme, s string, width int) []string {
	lines := cleanLines(s)
	if len(lines) == 0 {
		return nil
	}
	src := []byte(strings.Join(lines, "\n") + "\n")
	m := &markdown{th: th, width: max(width, 10), src: src}
	doc := goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.TaskList)).Parser().Parse(text.NewReader(src))
	m.blocks(doc, m.width, "", "")
	return m.out
}

// blocks draws the children of a node, a blank line between them. first begins the
// first line of all, rest the others.
func (m *markdown) blocks(parent ast.Node, width int, first, rest string) {
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		if n != parent.FirstChild() && !tight(parent) {
			m.out = append(m.out, strings.TrimRight(rest, " "))
		}
		m.block(n, width, first, rest)
		first = rest
	}
}

func tight(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.List:
		return n.IsTight
	case *ast.ListItem:
		if l, ok := n.Parent().(*ast.List); ok {
			return l.IsTight
		}
	}
	return false
}

func (m *markdown) block(n ast.Node, width int, first, rest string) {
	switch n := n.(type) {
	case *ast.Heading:
		m.flow(m.th.heading.Render(ansi.Strip(m.inline(n))), width, first, rest)
	case *ast.List:
		m.list(n, width, first, rest)
	case *ast.FencedCodeBlock, *ast.CodeBlock, *ast.HTMLBlock:
		m.verbatim(n, width, first, rest)
	case *ast.Blockquote:
		bar := m.th.faint.Render("│ ")
		m.blocks(n, width-2, first+bar, rest+bar)
	case *ast.ThematicBreak:
		m.out = append(m.out, first+m.th.faint.Render(strings.Repeat("─", max(min(width, 40), 1))))
	case *east.Table:
		m.table(n, width, first, rest)
	default:
		m.flow(m.inline(n), width, first, rest)
	}
}

// flow wraps running text.
func (m *markdown) flow(s string, width int, first, rest string) {
	for _, l := range wrap(s, width) {
		m.out = append(m.out, first+l)
		first = rest
	}
}

func (m *markdown) list(l *ast.List, width int, first, rest string) {
	number := l.Start
	for n := l.FirstChild(); n != nil; n = n.NextSibling() {
		mark := "• "
		if l.IsOrdered() {
			mark = fmt.Sprintf("%d. ", number)
			number++
		}
		if n != l.FirstChild() && !l.IsTight {
			m.out = append(m.out, strings.TrimRight(rest, " "))
		}
		pad := strings.Repeat(" ", len([]rune(mark)))
		m.blocks(n, max(width-len(pad), 8), first+m.th.accent.Render(mark), rest+pad)
		if n.FirstChild() == nil {
			m.out = append(m.out, first+m.th.accent.Render(strings.TrimRight(mark, " ")))
		}
		first = rest
	}
}

// verbatim keeps lines as they are; one that is too long is broken.
func (m *markdown) verbatim(n ast.Node, width int, first, rest string) {
	for i := range n.Lines().Len() {
		seg := n.Lines().At(i)
		line := strings.TrimRight(string(seg.Value(m.src)), "\n")
		for _, l := range hard([]string{line}, max(width-2, 4)) {
			m.out = append(m.out, first+"  "+m.code(n, l))
			first = rest
		}
	}
}

// code colors a line of a block; a diff is what plans are read by.
func (m *markdown) code(n ast.Node, line string) string {
	if f, ok := n.(*ast.FencedCodeBlock); ok && string(f.Language(m.src)) == "diff" {
		return diffLine(m.th, line)
	}
	return m.th.code.Render(line)
}

// diffLine colors a line of a unified diff.
func diffLine(th theme, line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return th.added.Render(line)
	case strings.HasPrefix(line, "-"):
		return th.removed.Render(line)
	case strings.HasPrefix(line, "@@"), strings.HasPrefix(line, "#"):
		return th.faint.Render(line)
	}
	return line
}

// table draws columns as wide as they need; where they do not fit, each row becomes a
// list of "head: cell".
func (m *markdown) table(t *east.Table, width int, first, rest string) {
	var rows [][]string
	var wide []int
	for r := t.FirstChild(); r != nil; r = r.NextSibling() {
		var row []string
		for c := r.FirstChild(); c != nil; c = c.NextSibling() {
			s := m.inline(c)
			if i := len(row); i >= len(wide) {
				wide = append(wide, 0)
			}
			wide[len(row)] = max(wide[len(row)], ansi.StringWidth(s))
			row = append(row, s)
		}
		rows = append(rows, row)
	}
	total := 0
	for _, w := range wide {
		total += w + 2
	}
	for i, row := range rows {
		if total-2 > width {
			if i == 0 {
				continue
			}
			for j, c := range row {
				head := ""
				if j < len(rows[0]) {
					head = m.th.faint.Render(ansi.Strip(rows[0][j]) + ": ")
				}
				m.flow(head+c, width, first, rest)
				first = rest
			}
			continue
		}
		var line strings.Builder
		for j, c := range row {
			if i == 0 {
				c = m.th.strong.Render(ansi.Strip(c))
			}
			line.WriteString(c + strings.Repeat(" ", wide[j]-ansi.StringWidth(c)+2))
		}
		m.out = append(m.out, first+strings.TrimRight(line.String(), " "))
		first = rest
	}
}

// inline gives the styled text of a node's children on one line.
func (m *markdown) inline(parent ast.Node) string {
	var b strings.Builder
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		b.WriteString(m.span(n))
	}
	if parent.FirstChild() == nil && parent.Type() == ast.TypeBlock {
		for i := range parent.Lines().Len() {
			seg := parent.Lines().At(i)
			b.WriteString(string(seg.Value(m.src)))
		}
	}
	return b.String()
}

func (m *markdown) span(n ast.Node) string {
	switch n := n.(type) {
	case *ast.Text:
		s := string(n.Segment.Value(m.src))
		switch {
		case n.HardLineBreak():
			s += "\n"
		case n.SoftLineBreak():
			s += " "
		}
		return s
	case *ast.String:
		return string(n.Value)
	case *ast.CodeSpan:
		return styled(m.th.code, ansi.Strip(m.inline(n)))
	case *ast.Emphasis:
		st := lipgloss.NewStyle().Italic(true)
		if n.Level > 1 {
			st = m.th.strong
		}
		return styled(st, ansi.Strip(m.inline(n)))
	case *ast.Link:
		label, to := m.inline(n), clean(string(n.Destination))
		if ansi.Strip(label) == to {
			return styled(m.th.link, to)
		}
		return label + " (" + styled(m.th.link, to) + ")"
	case *ast.AutoLink:
		return styled(m.th.link, string(n.URL(m.src)))
	case *ast.Image:
		return "[" + m.inline(n) + "] (" + styled(m.th.link, clean(string(n.Destination))) + ")"
	case *ast.RawHTML:
		var b strings.Builder
		for i := range n.Segments.Len() {
			seg := n.Segments.At(i)
			b.WriteString(string(seg.Value(m.src)))
		}
		return b.String()
	case *east.TaskCheckBox:
		if n.IsChecked {
			return "[x] "
		}
		return "[ ] "
	}
	return m.inline(n)
}

// styled renders a span; a style is never opened around nothing.
func styled(st lipgloss.Style, s string) string {
	if s == "" {
		return ""
	}
	return st.Render(s)
}

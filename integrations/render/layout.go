package render

import (
	"slices"
	"strings"
	"unicode"
)

// Styles of a terminal, as the numbers of ANSI's SGR sequences.
const (
	plain = ""
	bold  = "1"
	dim   = "2"
	cyan  = "36"
)

// span is text of one style.
type span struct{ style, text string }

// atom is what stays together on a line: a word, however long, or one wide
// character, since scripts that have those write without spaces.
type atom struct {
	span
	cols int
	// gap says that a space stands before it.
	gap bool
}

// labelWidth is the column of labels; the longest are "Unexplained" and
// "Unsupported".
const labelWidth = 11

// farthest is the last column of what stands at the right edge.
const farthest = 120

// narrowest is the least width of text that is worth wrapping; a terminal that
// is narrower breaks lines itself.
const narrowest = 20

type writer struct {
	b    strings.Builder
	o    TextOptions
	last string
}

func (w *writer) styled(style, s string) string {
	if style == plain || !w.o.Color || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// row writes a labelled line; a label that repeats is written once.
func (w *writer) row(label string, spans ...span) {
	w.aligned(label, span{}, spans...)
}

// aligned writes a labelled line with something at the right edge, where that
// fits on one line, else behind the text.
func (w *writer) aligned(label string, right span, spans ...span) {
	shown := label
	if label == w.last {
		shown = ""
	}
	if label != "" {
		w.last = label
	}
	width := 0
	if n := w.o.Width - labelWidth - 1; n >= narrowest {
		width = n
	}
	as := atoms(spans)
	if right.text != "" {
		behind := span{right.style, "(" + right.text + ")"}
		as = append(as, atom{span: behind, cols: columns(behind.text), gap: true})
	}
	for i, line := range wrap(as, width) {
		if i > 0 {
			shown = ""
		}
		out := w.styled(cyan, shown) + strings.Repeat(" ", max(labelWidth-columns(shown), 0)) + " "
		if right.text != "" && i == 0 && len(line) == len(as) {
			edge := 0 // of the text, where the right part begins
			for _, a := range line[:len(line)-1] {
				edge += a.cols
				if a.gap {
					edge++
				}
			}
			pad := min(width, farthest-labelWidth-1) - edge - columns(right.text)
			out += w.line(line[:len(line)-1]) + strings.Repeat(" ", max(pad, 3)) + w.styled(right.style, right.text)
		} else {
			out += w.line(line)
		}
		w.b.WriteString(strings.TrimRight(out, " "))
		w.b.WriteByte('\n')
	}
}

// line writes atoms; a style is opened and closed on each line, since pagers
// forget it at the end of one.
func (w *writer) line(as []atom) string {
	var b strings.Builder
	for i := 0; i < len(as); {
		j := i
		var run strings.Builder
		for ; j < len(as) && as[j].style == as[i].style; j++ {
			if as[j].gap && j > i {
				run.WriteByte(' ')
			}
			run.WriteString(as[j].text)
		}
		if as[i].gap && i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.styled(as[i].style, run.String()))
		i = j
	}
	return b.String()
}

// atoms cuts spans at spaces and between wide characters.
func atoms(spans []span) []atom {
	var out []atom
	gap := false
	for _, s := range spans {
		var word strings.Builder
		flush := func() {
			if word.Len() > 0 {
				out = append(out, atom{span: span{s.style, word.String()}, cols: columns(word.String()), gap: gap && len(out) > 0})
				gap = false
				word.Reset()
			}
		}
		for _, r := range s.text {
			switch {
			case r == ' ':
				flush()
				gap = true
			case runeColumns(r) == 2:
				flush()
				word.WriteRune(r)
				flush()
			case runeColumns(r) == 0 && word.Len() == 0 && !gap && len(out) > 0:
				out[len(out)-1].text += string(r) // a mark belongs to what it stands on
			default:
				word.WriteRune(r)
			}
		}
		flush()
	}
	return out
}

// wrap breaks atoms into lines of a width; 0 keeps one line. What is longer than
// the width stays whole: a name that is cut cannot be copied.
func wrap(as []atom, width int) [][]atom {
	if width == 0 || len(as) == 0 {
		return [][]atom{as}
	}
	var lines [][]atom
	start, cols := 0, 0
	for i, a := range as {
		n := a.cols
		if a.gap && i > start {
			n++
		}
		if i > start && cols+n > width {
			lines = append(lines, as[start:i])
			start, cols, n = i, 0, a.cols
		}
		cols += n
	}
	return append(lines, as[start:])
}

// columns a text takes on a terminal.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// runeColumns gives the columns of one character: none for marks and joiners,
// two for what Unicode's East Asian Width calls wide. An emoji of several joined
// ones is counted as all of them, so a line may end early and never late.
func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	wide := [][2]rune{
		{0x1100, 0x115f}, {0x231a, 0x231b}, {0x23e9, 0x23ec}, {0x2614, 0x2615}, {0x2648, 0x2653}, {0x26a1, 0x26a1}, {0x2705, 0x2705}, {0x2728, 0x2728}, {0x274c, 0x274c}, {0x2753, 0x2757},
		{0x2e80, 0x303e}, {0x3041, 0x4dbf}, {0x4e00, 0xa4cf}, {0xa960, 0xa97c}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff01, 0xff60}, {0xffe0, 0xffe6},
		{0x1f1e6, 0x1f1ff}, {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f7e0, 0x1f7eb}, {0x1f900, 0x1f9ff}, {0x1fa70, 0x1faff}, {0x20000, 0x3fffd},
	}
	if slices.ContainsFunc(wide, func(b [2]rune) bool { return r >= b[0] && r <= b[1] }) {
		return 2
	}
	return 1
}

package tui

import (
	"errors"
	"io"
	"strings"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// tab is how wide a tab of foreign text is drawn: terminals do not agree on it, and
// the screen has to know where it ends.
const tab = "    "

// clean makes one line of foreign text safe to draw.
func clean(s string) string { return render.Clean(s) }

// cleanLines makes text of several lines safe to draw: lines, indents and spaces stay,
// whatever could move the cursor, change colors or hide does not.
func cleanLines(s string) []string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\t", tab)
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return nil
	}
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		// A carriage return inside a line is how programs draw progress: the last
		// state is what a person would have seen.
		if i := strings.LastIndexByte(strings.TrimRight(l, "\r"), '\r'); i >= 0 {
			l = l[i+1:]
		}
		out = append(out, strings.TrimRight(cleanSpaced(l), " "))
	}
	return out
}

// cleanSpaced cleans a line and keeps its spaces.
func cleanSpaced(s string) string {
	if !needsCleaning(s) {
		return s
	}
	var b strings.Builder
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return r != ' ' })
		if n < 0 {
			n = len(s)
		}
		b.WriteString(s[:n])
		s = s[n:]
		n = strings.IndexByte(s, ' ')
		if n < 0 {
			n = len(s)
		}
		b.WriteString(clean(s[:n]))
		s = s[n:]
	}
	return b.String()
}

func needsCleaning(s string) bool {
	for _, r := range s {
		if r == unicode.ReplacementChar || unicode.IsControl(r) || r != ' ' && unicode.IsSpace(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return true
		}
	}
	return false
}

// hyphen stands for "-" while text is wrapped: names of Kubernetes are full of them,
// and one that is broken there cannot be copied.
const hyphen = "\ue000"

// wrap breaks styled text at spaces, and what is longer than a line inside.
func wrap(s string, width int) []string {
	s = ansi.Wrap(strings.ReplaceAll(s, "-", hyphen), max(width, 1), "")
	return strings.Split(carry(strings.ReplaceAll(s, hyphen, "-")), "\n")
}

// carry closes styles at the end of each line and opens them again on the next, so that
// a line can be drawn without the one before it.
func carry(s string) string {
	if !strings.Contains(s, "\x1b") || !strings.Contains(s, "\n") {
		return s
	}
	var b strings.Builder
	w := lipgloss.NewWrapWriter(&b)
	_, err := io.WriteString(w, s)
	if err = errors.Join(err, w.Close()); err != nil {
		return s // a strings.Builder takes everything
	}
	return b.String()
}

// cols is how many columns a text may take: terminals count emoji in two ways, and a
// line that is taken for shorter than it is tears the screen.
func cols(s string) int { return max(ansi.StringWidth(s), ansi.StringWidthWc(s)) }

// hard breaks each line that is too wide for the screen. The screen's own wrapping is
// never relied on: it would break the count of rows.
func hard(lines []string, width int) []string {
	var out []string
	for _, l := range lines {
		if cols(l) <= width {
			out = append(out, l)
			continue
		}
		out = append(out, strings.Split(carry(ansi.HardwrapWc(l, max(width, 1), true)), "\n")...)
	}
	return out
}

// clip shortens styled text to a width.
func clip(s string, width int) string {
	if width < 1 {
		return ""
	}
	return ansi.Truncate(s, width, "…")
}

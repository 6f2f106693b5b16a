package tui

import (
	"image/color"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
)

// theme is how things look. It holds no state, and the profile decides later how many
// of its colors are drawn.
type theme struct {
	name string
	// strong is bold text, faint what stands back; accent leads the eye.
	strong, faint, accent lipgloss.Style
	good, warn, bad       lipgloss.Style
	added, removed        lipgloss.Style
	code, heading, link   lipgloss.Style
	chosen                lipgloss.Style
	// box surrounds what waits for a decision.
	box color.Color
}

// newTheme makes a theme by name; "auto" follows the background.
func newTheme(name string, dark bool) theme {
	pick := func(onDark, onLight, ansi string) color.Color {
		switch {
		case name == "ansi":
			return lipgloss.Color(ansi)
		case name == "dark" || name == "auto" && dark:
			return lipgloss.Color(onDark)
		default:
			return lipgloss.Color(onLight)
		}
	}
	s := lipgloss.NewStyle()
	accent, good := pick("80", "24", "6"), pick("114", "28", "2")
	warn, bad := pick("221", "130", "3"), pick("210", "124", "1")
	return theme{
		name: name, strong: s.Bold(true), faint: s.Faint(true), accent: s.Foreground(accent),
		good: s.Foreground(good), warn: s.Foreground(warn), bad: s.Foreground(bad),
		added: s.Foreground(good), removed: s.Foreground(bad),
		code: s.Foreground(pick("180", "94", "3")), heading: s.Bold(true).Foreground(accent), link: s.Underline(true),
		chosen: s.Reverse(true), box: warn,
	}
}

// downsample writes styled text with the colors that a profile has.
func downsample(p colorprofile.Profile, s string) string {
	if p == colorprofile.TrueColor || !strings.Contains(s, "\x1b") {
		return s
	}
	var b strings.Builder
	w := colorprofile.Writer{Forward: &b, Profile: p}
	if _, err := w.WriteString(s); err != nil {
		return s // a strings.Builder takes everything
	}
	return b.String()
}

package tui

import (
	"fmt"
	"regexp"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// overlay covers the chat until it is closed, on the alternate screen as a pager does,
// so that the scrollback stays as it was.
type overlay interface {
	// key takes a key; close says that the overlay is done.
	key(k tea.KeyPressMsg) (cmd tea.Cmd, done bool)
	paste(s string)
	resize(width, height int)
	view(th theme, width, height int) []string
}

type openMsg struct {
	o   overlay
	err error
}

func (c *chat) openOverlay(o overlay) {
	o.resize(c.width, c.height)
	if v, ok := o.(*viewer); ok {
		if l, ok := c.overlay.(*list); ok && l.stay {
			v.back = l
		}
	}
	c.overlay = o
}

func (c *chat) overlayKey(k tea.KeyPressMsg) tea.Cmd {
	if k.String() == "ctrl+c" {
		c.overlay = nil
		return nil
	}
	o := c.overlay
	cmd, done := o.key(k)
	if done && c.overlay == o {
		c.overlay = nil
		if v, ok := o.(*viewer); ok && v.back != nil {
			c.openOverlay(v.back)
		}
	}
	return cmd
}

// filter is what k9s users know: a regular expression, turned round by a leading "!";
// what is no regular expression is searched for as it stands.
type filter struct {
	text   string
	re     *regexp.Regexp
	invert bool
}

func newFilter(s string) filter {
	f := filter{text: s}
	s, f.invert = strings.CutPrefix(s, "!")
	if s == "" {
		return filter{text: f.text}
	}
	re, err := regexp.Compile("(?i)" + s)
	if err != nil {
		re = regexp.MustCompile("(?i)" + regexp.QuoteMeta(s))
	}
	f.re = re
	return f
}

func (f filter) match(s string) bool {
	return f.re == nil || f.re.MatchString(s) != f.invert
}

// mark shows where a line matches.
func (f filter) mark(th theme, s string) string {
	if f.re == nil || f.invert {
		return s
	}
	bare := ansi.Strip(s)
	at := f.re.FindAllStringIndex(bare, -1)
	if len(at) == 0 {
		return s
	}
	var b strings.Builder
	end := 0
	for _, m := range at {
		if m[0] == m[1] {
			continue
		}
		b.WriteString(bare[end:m[0]])
		b.WriteString(th.chosen.Render(bare[m[0]:m[1]]))
		end = m[1]
	}
	b.WriteString(bare[end:])
	return b.String()
}

// viewer shows lines with search.
type viewer struct {
	title  string
	lines  []string
	top    int
	width  int
	height int
	f      filter
	typing bool
	typed  string
	// keys are more keys than the viewer's own, by name.
	keys map[string]func() tea.Cmd
	help string
	// wrapped are the lines that the filter lets through, at the width.
	wrapped []string
	back    overlay
}

func newViewer(title string, lines []string) *viewer {
	return &viewer{title: title, lines: lines, width: 80, height: 24}
}

func (v *viewer) rows() int { return max(v.height-2, 1) }

func (v *viewer) layout() {
	v.wrapped = v.wrapped[:0]
	for _, l := range v.lines {
		if v.f.match(ansi.Strip(l)) {
			v.wrapped = append(v.wrapped, hard(wrap(l, max(v.width-1, 1)), max(v.width-1, 1))...)
		}
	}
	v.clamp()
}

func (v *viewer) clamp() { v.top = max(min(v.top, len(v.wrapped)-v.rows()), 0) }

func (v *viewer) resize(w, h int) {
	v.width, v.height = w, h
	v.layout()
}

func (v *viewer) paste(s string) {
	if v.typing {
		v.typed += clean(s)
		v.search()
	}
}

func (v *viewer) search() {
	v.f = newFilter(v.typed)
	v.layout()
}

func (v *viewer) key(k tea.KeyPressMsg) (tea.Cmd, bool) {
	name := k.String()
	if v.typing {
		switch {
		case name == "enter":
			v.typing = false
		case name == "esc":
			v.typing, v.typed = false, ""
			v.search()
		case name == "backspace":
			if r := []rune(v.typed); len(r) > 0 {
				v.typed = string(r[:len(r)-1])
			}
			v.search()
		case k.Text != "":
			v.typed += k.Text
			v.search()
		}
		return nil, false
	}
	if f, ok := v.keys[name]; ok {
		return f(), false
	}
	switch name {
	case "q", "esc":
		if v.f.text != "" && name == "esc" {
			v.typed = ""
			v.search()
			return nil, false
		}
		return nil, true
	case "/":
		v.typing = true
	case "up", "k":
		v.top--
	case "down", "j", "enter":
		v.top++
	case "pgup", "b", "ctrl+b":
		v.top -= v.rows()
	case "pgdown", "space", "ctrl+f":
		v.top += v.rows()
	case "home", "g":
		v.top = 0
	case "end", "G":
		v.top = len(v.wrapped)
	}
	v.clamp()
	return nil, false
}

func (v *viewer) view(th theme, width, height int) []string {
	if width != v.width || height != v.height {
		v.resize(width, height)
	}
	out := []string{clip(th.heading.Render(v.title), width-1)}
	for _, l := range v.wrapped[v.top:min(v.top+v.rows(), len(v.wrapped))] {
		out = append(out, v.f.mark(th, l))
	}
	for len(out) < v.rows()+1 {
		out = append(out, "")
	}
	return append(out, clip(v.status(th), width-1))
}

func (v *viewer) status(th theme) string {
	switch {
	case v.typing:
		return th.accent.Render("/") + v.typed + th.faint.Render("  regular expression, ! turns it round; enter keeps it")
	case v.f.text != "":
		return th.faint.Render(fmt.Sprintf("/%s  %d lines · esc all lines · q back", v.f.text, len(v.wrapped)))
	}
	at := "all"
	if len(v.wrapped) > v.rows() {
		at = fmt.Sprintf("%d%%", 100*min(v.top+v.rows(), len(v.wrapped))/max(len(v.wrapped), 1))
	}
	s := at + " · / search · q back"
	if v.help != "" {
		s = at + " · " + v.help + " · / search · q back"
	}
	return th.faint.Render(s)
}

// entry is a line of a list that can be chosen.
type entry struct {
	line string
	// text is searched besides the line.
	text string
	pick func() tea.Cmd
}

// list shows entries to choose from, with the same search.
type list struct {
	title         string
	all           []entry
	shown         []entry
	at, top       int
	width, height int
	typing        bool
	typed         string
	f             filter
	// stay keeps the list open behind what was chosen.
	stay bool
}

func newList(title string, all []entry) *list {
	l := &list{title: title, all: all, width: 80, height: 24}
	l.search()
	return l
}

func (l *list) search() {
	l.f = newFilter(l.typed)
	l.shown = l.shown[:0]
	for _, e := range l.all {
		if l.f.match(ansi.Strip(e.line) + "\n" + e.text) {
			l.shown = append(l.shown, e)
		}
	}
	l.at = max(min(l.at, len(l.shown)-1), 0)
}

func (l *list) resize(w, h int) { l.width, l.height = w, h }

func (l *list) paste(s string) {
	if l.typing {
		l.typed += clean(s)
		l.search()
	}
}

func (l *list) key(k tea.KeyPressMsg) (tea.Cmd, bool) {
	name := k.String()
	if l.typing {
		switch {
		case name == "enter":
			l.typing = false
		case name == "esc":
			l.typing, l.typed = false, ""
		case name == "backspace":
			if r := []rune(l.typed); len(r) > 0 {
				l.typed = string(r[:len(r)-1])
			}
		case name == "up" || name == "down":
			l.move(map[string]int{"up": -1, "down": 1}[name])
			return nil, false
		case k.Text != "":
			l.typed += k.Text
		}
		l.search()
		return nil, false
	}
	page := max(l.height-2, 1)
	switch name {
	case "q", "esc":
		if l.typed != "" && name == "esc" {
			l.typed = ""
			l.search()
			return nil, false
		}
		return nil, true
	case "/":
		l.typing = true
	case "up", "k":
		l.move(-1)
	case "down", "j":
		l.move(1)
	case "pgup":
		l.move(-page)
	case "pgdown", "space":
		l.move(page)
	case "home", "g":
		l.move(-len(l.shown))
	case "end", "G":
		l.move(len(l.shown))
	case "enter":
		if len(l.shown) > 0 && l.shown[l.at].pick != nil {
			return l.shown[l.at].pick(), !l.stay
		}
	}
	return nil, false
}

func (l *list) move(by int) { l.at = max(min(l.at+by, len(l.shown)-1), 0) }

func (l *list) view(th theme, width, height int) []string {
	l.width, l.height = width, height
	rows := max(height-2, 1)
	l.top = max(min(l.top, l.at), l.at-rows+1)
	out := []string{clip(th.heading.Render(l.title), width-1)}
	for i, e := range l.shown[min(l.top, len(l.shown)):min(l.top+rows, len(l.shown))] {
		line := l.f.mark(th, e.line)
		if l.top+i == l.at {
			line = th.chosen.Render(ansi.Strip(e.line))
		}
		out = append(out, clip(line, width-1))
	}
	for len(out) < rows+1 {
		out = append(out, "")
	}
	s := fmt.Sprintf("%d of %d · enter opens · / search · q back", min(l.at+1, len(l.shown)), len(l.shown))
	switch {
	case l.typing:
		s = "/" + l.typed + "  regular expression, ! turns it round; enter keeps it"
	case l.typed != "":
		s = "/" + l.typed + "  " + s
	}
	return append(out, clip(th.faint.Render(s), width-1))
}

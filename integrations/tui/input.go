package tui

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"charm.land/bubbles/v2/key"
	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// maxInput bounds what can be typed or pasted, in characters; the service refuses
// longer questions anyway.
const maxInput = 64 << 10

// prompt stands before the input.
const prompt = "› "

// input is the line where people type, with its history.
type input struct {
	area textarea.Model
	hist *history
	// searching is the text of ctrl+r, at the entry it found last.
	searching bool
	needle    string
	found     int
	before    string
	// pending is ctrl+x, which waits for ctrl+e.
	pending bool
}

func newInput(h *history) *input {
	a := textarea.New()
	a.ShowLineNumbers = false
	a.CharLimit = maxInput
	a.DynamicHeight, a.MinHeight, a.MaxHeight, a.MaxContentHeight = true, 1, 8, 10_000
	a.Placeholder = ""
	a.SetVirtualCursor(false)
	a.SetPromptFunc(2, func(p textarea.PromptInfo) string {
		if p.LineNumber == 0 {
			return prompt
		}
		return "  "
	})
	km := textarea.DefaultKeyMap()
	km.InsertNewline = key.NewBinding(key.WithKeys("alt+enter", "shift+enter", "ctrl+j"))
	// The terminal pastes; reading a clipboard by running a program is not for a chat.
	km.Paste.SetEnabled(false)
	km.SelectAll.SetEnabled(false)
	km.CopySelection.SetEnabled(false)
	km.TransposeCharacterBackward.SetEnabled(false)
	a.KeyMap = km
	a.Focus()
	in := &input{area: a, hist: h}
	in.plainStyles()
	return in
}

// plainStyles draws the input with the terminal's own colors.
func (in *input) plainStyles() {
	st := textarea.StyleState{Placeholder: lipgloss.NewStyle().Faint(true), EndOfBuffer: lipgloss.NewStyle(), Prompt: lipgloss.NewStyle().Bold(true)}
	in.area.SetStyles(textarea.Styles{Focused: st, Blurred: st, Cursor: textarea.CursorStyle{Shape: tea.CursorBar, Blink: true}})
}

// resize bounds the input to a part of the screen.
func (in *input) resize(width, height int) {
	in.area.MaxHeight = min(max(height/3, 1), 8)
	in.area.SetWidth(max(width, 4))
	if in.area.Height() > in.area.MaxHeight {
		in.area.SetHeight(in.area.MaxHeight)
	}
}

func (in *input) value() string { return in.area.Value() }

func (in *input) empty() bool { return in.area.Value() == "" }

func (in *input) set(s string) {
	in.area.SetValue(s)
	in.area.MoveToEnd()
}

// take empties the input and keeps what was in it.
func (in *input) take() (string, error) {
	s := strings.TrimSpace(in.area.Value())
	in.area.Reset()
	return s, in.hist.add(s)
}

// paste inserts text: line ends become line ends, and what is no text is left out.
func (in *input) paste(s string) {
	in.area.InsertString(strings.Join(cleanLines(s), "\n"))
}

// newline is the end of a line that ends with "\": the way to type several lines where
// the terminal has no other key for it.
func (in *input) newline() bool {
	v := in.area.Value()
	if !strings.HasSuffix(v, "\\") || in.area.Line() != in.area.LineCount()-1 {
		return false
	}
	in.set(strings.TrimSuffix(v, "\\") + "\n")
	return true
}

// up goes to the line above, from the first one to the history.
func (in *input) up() bool {
	if in.area.Line() > 0 || in.area.LineInfo().RowOffset > 0 {
		return false
	}
	if s, ok := in.hist.back(in.area.Value()); ok {
		in.set(s)
	}
	return true
}

// down goes to the line below, from the last one to the history.
func (in *input) down() bool {
	if in.area.Line() < in.area.LineCount()-1 || in.area.LineInfo().RowOffset+1 < in.area.LineInfo().Height {
		return false
	}
	if s, ok := in.hist.forward(); ok {
		in.set(s)
	}
	return true
}

// search begins or goes on with the search of the history.
func (in *input) search() {
	if !in.searching {
		in.searching, in.needle, in.found, in.before = true, "", len(in.hist.entries), in.area.Value()
		return
	}
	in.seek(in.found)
}

func (in *input) seek(before int) {
	if s, i, ok := in.hist.find(in.needle, before); ok {
		in.found = i
		in.set(s)
	}
}

// searchKey takes a key while searching; done says that the search has ended and the
// key is for the input.
func (in *input) searchKey(k tea.KeyPressMsg) (done bool) {
	switch k.String() {
	case "ctrl+r":
		in.search()
	case "esc", "ctrl+c", "ctrl+g":
		in.searching = false
		in.set(in.before)
	case "backspace":
		if r := []rune(in.needle); len(r) > 0 {
			in.needle = string(r[:len(r)-1])
			in.seek(len(in.hist.entries))
		}
	default:
		if k.Text == "" {
			in.searching = false
			return true
		}
		in.needle += k.Text
		in.seek(len(in.hist.entries))
	}
	return false
}

// edited is what an editor left.
type editedMsg struct {
	text string
	err  error
}

// edit opens the editor on what was typed.
func edit(cfg Config, text string) tea.Cmd {
	name, c, err := draft(cfg, text)
	if err != nil {
		return func() tea.Msg { return editedMsg{err: err} }
	}
	return tea.Exec(c, func(err error) tea.Msg { return edited(name, err) })
}

// draft puts what was typed into a file, and gives the command that edits it.
func draft(cfg Config, text string) (string, tea.ExecCommand, error) {
	f, err := os.CreateTemp("", "gumshoe-*.md")
	if err != nil {
		return "", nil, fmt.Errorf("a file for the editor: %w", err)
	}
	name := f.Name()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", nil, errors.Join(err, os.Remove(name))
	}
	c, err := editor(cfg, name)
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(name))
	}
	return name, c, nil
}

// edited reads what the editor left, and takes the file away.
func edited(name string, err error) editedMsg {
	defer func() { _ = os.Remove(name) }()
	if err != nil {
		return editedMsg{err: fmt.Errorf("the editor: %w", err)}
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return editedMsg{err: err}
	}
	return editedMsg{text: strings.Join(cleanLines(string(raw[:min(len(raw), maxInput)])), "\n")}
}

// process makes a command of the operating system one of bubbletea's.
type process struct{ *exec.Cmd }

func editor(cfg Config, file string) (tea.ExecCommand, error) {
	if cfg.Editor != nil {
		return cfg.Editor(file)
	}
	words := strings.Fields(cfg.env("VISUAL"))
	if len(words) == 0 {
		words = strings.Fields(cfg.env("EDITOR"))
	}
	if len(words) == 0 {
		return nil, errors.New("no editor is known: set VISUAL or EDITOR")
	}
	c := exec.Command(words[0], append(words[1:], file)...)
	c.Env = cfg.Environ
	return process{c}, nil
}

// SetStdin implements tea.ExecCommand.
func (p process) SetStdin(r io.Reader) { p.Stdin = r }

// SetStdout implements tea.ExecCommand.
func (p process) SetStdout(w io.Writer) { p.Stdout = w }

// SetStderr implements tea.ExecCommand.
func (p process) SetStderr(w io.Writer) { p.Stderr = w }

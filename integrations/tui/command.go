package tui

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// command is what a line that begins with "/" means.
type command struct {
	name string
	args []string
	// rest is everything behind the name, as typed.
	rest string
}

// spec is a command as /help and completion show it.
type spec struct {
	name, args, help string
	aliases          []string
	// values are what the first argument may be, where that is fixed.
	values []string
	// least is how many arguments are needed.
	least int
}

// specs lists all commands, in the order of /help.
func specs() []spec {
	return []spec{
		{name: "help", help: "keys and commands", aliases: []string{"?", "keys"}},
		{name: "tools", help: "toolsets: what can be looked at, and what cannot"},
		{name: "evidence", args: "[E1]", help: "what the last answer rests on; search with /", aliases: []string{"ev", "show"}},
		{name: "plan", args: "[ID | ACTION [NAME=VALUE ...]]", help: "make a plan of the last answer, or show one"},
		{name: "plans", help: "all plans, those that wait first"},
		{name: "approve", args: "[ID]", help: "turn to a plan that waits; y approves it"},
		{name: "reject", args: "[ID] REASON", help: "say no to a plan, and why", least: 1},
		{name: "comment", args: "[ID] TEXT", help: "say something about a plan", least: 1},
		{name: "undo", args: "ID REASON", help: "take back a plan that was executed", least: 2},
		{name: "runbooks", args: "[ID]", help: "the runbooks that are loaded"},
		{name: "sessions", args: "[TEXT]", help: "conversations that are kept; enter goes on with one"},
		{name: "resume", args: "ID | latest", help: "go on with a conversation", least: 1},
		{name: "new", help: "begin another conversation", aliases: []string{"clear"}},
		{name: "export", args: "markdown|json|bundle [FILE]", help: "write the conversation, or its cluster, to a file", values: []string{"markdown", "json", "bundle"}},
		{name: "context", help: "how full the model's window is", aliases: []string{"cost"}},
		{name: "model", args: "[NAME]", help: "models that can be used, or switch to one"},
		{name: "mode", args: "observe | plan | act", help: "what may be done from here", values: []string{"observe", "plan", "act"}},
		{name: "doctor", help: "how the service stands", aliases: []string{"status"}},
		{name: "copy", args: "[answer | plan | E1]", help: "copy to the clipboard", values: []string{"answer", "plan"}},
		{name: "theme", args: "dark | light | ansi | auto", help: "colors", values: Themes(), least: 1},
		{name: "full", help: "take the whole screen, or give it back"},
		{name: "cancel", help: "take back the question that is at work"},
		{name: "quit", help: "leave; what is at work goes on", aliases: []string{"exit", "q"}},
	}
}

// find gives the spec of a name or an alias.
func findSpec(name string) (spec, bool) {
	name = strings.ToLower(name)
	all := specs()
	i := slices.IndexFunc(all, func(s spec) bool { return s.name == name || slices.Contains(s.aliases, name) })
	if i < 0 {
		return spec{}, false
	}
	return all[i], true
}

// maxCommand bounds a command line, in bytes.
const maxCommand = 8 << 10

// parseCommand reads a line. ok says that it is a command at all: it begins with "/"
// and a letter or "?", and its first word holds no further "/", so that a path can be
// asked about. The error says what is wrong with one.
func parseCommand(line string) (cmd command, ok bool, err error) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "/") || len(line) < 2 {
		return command{}, false, nil
	}
	word, rest, _ := strings.Cut(line[1:], " ")
	if i := strings.IndexAny(word, "\n\t"); i >= 0 {
		word, rest = word[:i], word[i+1:]+" "+rest
	}
	letter := func(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }
	if word == "" || strings.Contains(word, "/") || word[0] != '?' && !letter(word[0]) {
		return command{}, false, nil
	}
	if len(line) > maxCommand || !utf8.ValidString(line) {
		return command{}, true, fmt.Errorf("a command is text of at most %d bytes", maxCommand)
	}
	s, known := findSpec(word)
	if !known {
		err := fmt.Errorf("there is no command /%s; /help lists them", clean(word))
		if near := nearest(word); near != "" {
			err = fmt.Errorf("there is no command /%s; /%s is one", clean(word), near)
		}
		return command{}, true, err
	}
	cmd = command{name: s.name, args: strings.Fields(rest), rest: strings.TrimSpace(rest)}
	if len(cmd.args) < s.least {
		return cmd, true, fmt.Errorf("/%s needs %s", s.name, s.args)
	}
	if len(s.values) > 0 && len(cmd.args) > 0 && s.name != "copy" && !slices.Contains(s.values, cmd.args[0]) {
		return cmd, true, fmt.Errorf("/%s takes %s, not %q", s.name, s.args, clean(cmd.args[0]))
	}
	return cmd, true, nil
}

// nearest gives the only command that begins like a word.
func nearest(word string) string {
	found := ""
	for _, s := range specs() {
		if strings.HasPrefix(s.name, strings.ToLower(word)) {
			if found != "" {
				return ""
			}
			found = s.name
		}
	}
	return found
}

package replay

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDifferences bounds what a message shows.
const maxDifferences = 3

// differences says in which fields a request differs from the recorded one.
func differences(recorded, sent request) string {
	var out []string
	add := func(field, was, is string) {
		if was != is {
			was, is = apart(was, is)
			out = append(out, fmt.Sprintf("%s was %q, is %q", field, was, is))
		}
	}
	number := func(field string, was, is any) { add(field, fmt.Sprint(was), fmt.Sprint(is)) }
	number("the number of messages", len(recorded.Messages), len(sent.Messages))
	add("system", recorded.System, sent.System)
	for i := range min(len(recorded.Messages), len(sent.Messages)) {
		was, is := recorded.Messages[i], sent.Messages[i]
		at := fmt.Sprintf("messages[%d].", i)
		add(at+"role", string(was.Role), string(is.Role))
		add(at+"text", was.Text, is.Text)
		add(at+"call_id", was.CallID, is.CallID)
		add(at+"name", was.Name, is.Name)
		number(at+"calls", was.Calls, is.Calls)
	}
	var names [2][]string
	for i, r := range []request{recorded, sent} {
		for _, t := range r.Tools {
			names[i] = append(names[i], t.Name)
		}
	}
	add("the tools", strings.Join(names[0], " "), strings.Join(names[1], " "))
	for i := range min(len(recorded.Tools), len(sent.Tools)) {
		was, is := recorded.Tools[i], sent.Tools[i]
		if was.Name == is.Name {
			add("the text of tool "+is.Name, was.Text, is.Text)
			add("the schema of tool "+is.Name, string(was.Schema), string(is.Schema))
		}
	}
	add("require", recorded.Require, sent.Require)
	number("max_tokens", recorded.MaxTokens, sent.MaxTokens)
	number("temperature", recorded.Temperature, sent.Temperature)
	if len(out) > maxDifferences {
		out = append(out[:maxDifferences], fmt.Sprintf("and %d more", len(out)-maxDifferences))
	}
	return strings.Join(out, "; ")
}

// apart cuts two long texts to where they part.
func apart(a, b string) (string, string) {
	const before, after = 20, 60
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	return window(a, at-before, at+after), window(b, at-before, at+after)
}

func window(s string, from, to int) string {
	from, to = max(from, 0), min(to, len(s))
	for from > 0 && !utf8.RuneStart(s[from]) {
		from--
	}
	for to < len(s) && !utf8.RuneStart(s[to]) {
		to++
	}
	out := s[from:to]
	if from > 0 {
		out = "..." + out
	}
	if to < len(s) {
		out += "..."
	}
	return out
}

// Package render turns the nouns of an investigation into text for people. It
// is pure: the same report gives the same bytes, and nothing is read or asked.
package render

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Clean makes text of a cluster or a model safe for a terminal and keeps it on
// one line: escape sequences vanish; control characters, which could move the
// cursor or rewrite the screen, and line separators become spaces; characters
// that are not seen (direction overrides, tags, zero-width spaces), which could
// hide or turn round what is read, vanish. Runs of spaces become one. Joiners
// inside words and emoji stay.
func Clean(s string) string {
	var b strings.Builder
	space := false
	for i := 0; i < len(s); {
		if n := escape(s[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == utf8.RuneError, unicode.IsControl(r), unicode.IsSpace(r), unicode.In(r, unicode.Zl, unicode.Zp):
			space = true
			continue
		case unicode.Is(unicode.Cf, r) && r != 0x200c && r != 0x200d:
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
	}
	return b.String()
}

// longestTitle bounds the escape sequences that carry text of their own (window
// titles, links): one that is left open does not swallow what follows.
const longestTitle = 512

// escape gives the length of the terminal escape sequence that a text begins
// with, 0 if it begins with none (ECMA-48, section 5.4 and 5.6).
func escape(s string) int {
	if len(s) < 2 || s[0] != 0x1b {
		return 0
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			switch {
			case s[i] >= 0x40 && s[i] <= 0x7e:
				return i + 1
			case s[i] < 0x20 || s[i] > 0x3f:
				return i
			}
		}
		return len(s)
	case ']', 'P', '^', '_':
		for i := 2; i < min(len(s), longestTitle); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return 2
	}
	return 1
}

// clip shortens cleaned text to a number of characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return strings.TrimRight(string(r[:n-1]), " ") + "…"
	}
	return s
}

// asked is the question as it is shown.
func asked(r incident.Report) string {
	q := Clean(r.Question)
	if r.Alert != nil {
		if q == "" {
			q = Clean("alert " + r.Alert.Name)
		}
		// The name of an alert does not say whom it is about.
		var about []string
		for _, s := range r.Subjects {
			about = append(about, Clean(s.String()))
		}
		q = bracketed(q, strings.Join(about, ", "))
	}
	return first(clip(q, maxAsked), "(none)")
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// cite writes evidence ids as " [E1, E2]", or nothing.
func cite(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " [" + Clean(strings.Join(ids, ", ")) + "]"
}

// bracketed writes "what (why; more)" of what is there.
func bracketed(what string, more ...string) string {
	var parts []string
	for _, m := range more {
		if m = Clean(m); m != "" {
			parts = append(parts, m)
		}
	}
	if len(parts) == 0 {
		return Clean(what)
	}
	return Clean(what) + " (" + strings.Join(parts, "; ") + ")"
}

// joined writes "what: why", or what is there of it.
func joined(what, why string) string {
	what, why = Clean(what), Clean(why)
	if what == "" || why == "" {
		return what + why
	}
	return what + ": " + why
}

// Chain writes edges as one line of links. Edges that continue where the last
// one ended are joined; a new start begins after " · ". What a note says of who
// offers the last thing is a link of its own.
func Chain(edges []incident.Edge) string {
	var b strings.Builder
	var at incident.Ref
	for i, e := range edges {
		if i == 0 || e.From != at {
			if i > 0 {
				b.WriteString(" · ")
			}
			b.WriteString(short(e.From, edges))
		}
		fmt.Fprintf(&b, " -%s-> %s", relation(e.Relation), short(e.To, edges))
		note := Clean(e.Note)
		offered, offers := strings.CutPrefix(note, "offered by ")
		if note != "" && !offers {
			fmt.Fprintf(&b, " (%s)", note)
		}
		b.WriteString(cite(e.Evidence))
		if offers {
			fmt.Fprintf(&b, " -offered by-> %s", offered)
		}
		at = e.To
	}
	return b.String()
}

// relation writes "offered-by" as people say it.
func relation(s string) string { return strings.ReplaceAll(Clean(s), "-", " ") }

// short leaves the namespace out where all namespaced things of a chain share one.
func short(r incident.Ref, edges []incident.Edge) string {
	ns := ""
	for _, e := range edges {
		for _, x := range []incident.Ref{e.From, e.To} {
			if x.Namespace == "" {
				continue
			}
			if ns != "" && ns != x.Namespace {
				return Clean(r.String())
			}
			ns = x.Namespace
		}
	}
	r.Namespace = ""
	return Clean(r.String())
}

// proposal writes an action with its parameters in a stable order. Those that
// the reason beside it says already are left out.
func proposal(p incident.Proposal, beside string) string {
	parts := []string{Clean(p.Action)}
	for _, k := range slices.Sorted(maps.Keys(p.Params)) {
		v := Clean(p.Params[k])
		if v == "" || len(v) > 1 && strings.Contains(beside, v) {
			continue
		}
		if strings.ContainsAny(v, " \"=()") {
			v = strconv.Quote(v)
		}
		parts = append(parts, Clean(k)+"="+v)
	}
	return strings.Join(parts, " ")
}

// headline is the answer of a report that names no cause.
func headline(d incident.Diagnosis) string {
	switch {
	case answersWithAsk(d):
		return Clean(d.Ask.Text)
	case d.Outcome == incident.Healthy:
		return "healthy: nothing abnormal was found in what was checked"
	case d.Outcome == incident.Recovered:
		return "recovered: there was trouble, it is over"
	case len(d.Unexplained) > 0:
		return "inconclusive: there is trouble, and the evidence does not say why"
	case len(d.Checked) == 0:
		return "inconclusive: nothing could be checked"
	}
	return "inconclusive: there is not enough evidence"
}

// answersWithAsk reports whether asking back is the whole answer: nothing was
// found wrong, and nothing was found well.
func answersWithAsk(d incident.Diagnosis) bool {
	settled := d.Outcome == incident.Healthy || d.Outcome == incident.Recovered || len(d.Causes) > 0
	return d.Ask != nil && !settled && len(d.Unexplained) == 0 && len(d.Checked) == 0
}

// warning says that the cluster's data tried to give instructions.
func warning(r incident.Report) string {
	if len(r.Suspicious) == 0 {
		return ""
	}
	var parts []string
	for _, s := range r.Suspicious {
		parts = append(parts, clip(Clean(s), 160))
	}
	return "instruction-like text was seen in the cluster's data and was treated as data: " + strings.Join(parts, "; ")
}

// stopped says why a run ended before it was done.
func stopped(r incident.Report) string {
	if s := Clean(r.StopReason); s != "" {
		return s
	}
	switch r.Stop {
	case "", incident.StopDone:
		return ""
	}
	return Clean(strings.ReplaceAll(string(r.Stop), "_", " "))
}

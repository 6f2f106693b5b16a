// Package render turns the nouns of an investigation into text for people. It
// is pure: the same report gives the same bytes, and nothing is read or asked.
package render

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Clean makes text of a cluster or a model safe for a terminal: control
// characters, which could move the cursor or rewrite the screen, become spaces,
// bidirectional overrides vanish, and the text stays on one line.
func Clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n', r == '\t', r == '\r':
			b.WriteByte(' ')
		case unicode.IsControl(r), r == utf8.RuneError:
			b.WriteByte(' ')
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}

// cite writes evidence ids as " [E1, E2]", or nothing.
func cite(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " [" + strings.Join(ids, ", ") + "]"
}

// Chain writes edges as one line of links. Edges that continue where the last
// one ended are joined; a new start begins after " · ".
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
		fmt.Fprintf(&b, " -%s-> %s", Clean(e.Relation), short(e.To, edges))
		if e.Note != "" {
			fmt.Fprintf(&b, " (%s)", Clean(e.Note))
		}
		b.WriteString(cite(e.Evidence))
		at = e.To
	}
	return b.String()
}

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

// proposal writes an action with its parameters in a stable order.
func proposal(p incident.Proposal) string {
	var parts []string
	for k := range p.Params {
		parts = append(parts, k)
	}
	slices.Sort(parts)
	for i, k := range parts {
		parts[i] = k + "=" + Clean(p.Params[k])
	}
	return strings.TrimSpace(p.Action + " " + strings.Join(parts, " "))
}

// headline is the answer of a report that names no cause.
func headline(d incident.Diagnosis) string {
	switch d.Outcome {
	case incident.Healthy:
		return "healthy: nothing abnormal was found in what was checked"
	case incident.Recovered:
		return "recovered: there was trouble, it is over"
	case incident.RootCause:
		return "root cause found"
	}
	if d.Ask != nil {
		return Clean(d.Ask.Text)
	}
	if len(d.Unexplained) > 0 {
		return "inconclusive: there is trouble, and the evidence does not say why"
	}
	return "inconclusive: there is not enough evidence"
}

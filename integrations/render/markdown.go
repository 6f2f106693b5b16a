package render

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// maxCell bounds a cell of the table of evidence, in characters.
const maxCell = 160

// Markdown writes a report for tickets and chats, evidence included. Text of the
// cluster or a model never becomes markup.
func Markdown(r incident.Report) string {
	var b strings.Builder
	d := r.Diagnosis
	fmt.Fprintf(&b, "## %s\n\n", md(asked(r)))
	if len(d.Causes) == 0 || d.Outcome != incident.RootCause {
		fmt.Fprintf(&b, "**%s**\n\n", md(headline(d)))
	}
	for i, c := range d.Causes {
		label := "Cause"
		if len(d.Causes) > 1 {
			label = fmt.Sprintf("Cause %d", i+1)
		}
		fmt.Fprintf(&b, "**%s:** %s (%s, confidence %.2f)%s\n\n", label, md(c.Statement), code(c.Code), c.Confidence, mdCite(c.Evidence))
		listed := false
		for _, line := range c.Detail {
			if line = md(line); line != "" {
				fmt.Fprintf(&b, "- %s\n", line)
				listed = true
			}
		}
		if listed {
			b.WriteByte('\n')
		}
	}
	if len(d.Chain) > 0 {
		fmt.Fprintf(&b, "**Chain:** %s\n\n", md(Chain(d.Chain)))
	}
	items(&b, "Ruled out", d.RuledOut, func(f incident.Refutation) string { return md(joined(f.What, f.Why)) + mdCite(f.Evidence) })
	items(&b, "Unexplained", d.Unexplained, func(f incident.Finding) string { return md(f.Message) + mdCite(f.Evidence) })
	if d.Ask != nil && !answersWithAsk(d) {
		fmt.Fprintf(&b, "**Note:** %s\n\n", md(d.Ask.Text))
	}
	items(&b, "Not seen", d.NotSeen, func(g incident.Gap) string { return md(bracketed(g.Source, g.Why, g.Fix)) })
	items(&b, "Would fit", d.WouldFit, func(c incident.Claim) string { return md(c.Text) + mdCite(c.Evidence) })
	items(&b, "Next", d.Proposals, func(p incident.Proposal) string {
		return strings.TrimSpace(md(p.Why)+" "+code(proposal(p, ""))) + mdCite(p.Evidence)
	})
	items(&b, "Checked", d.Checked, func(c incident.CheckedItem) string { return md(joined(c.What, c.Result)) + mdCite(c.Evidence) })
	items(&b, "Unsupported claims", d.Unsupported, func(u incident.Unsupported) string { return md(joined(u.Claim, strings.Join(u.Reasons, "; "))) })
	if s := md(d.Summary); s != "" {
		fmt.Fprintf(&b, "**The model's words (not validated):** %s\n\n", s)
	}
	if s := md(warning(r)); s != "" {
		fmt.Fprintf(&b, "**Warning:** %s\n\n", s)
	}
	if s := md(stopped(r)); s != "" {
		fmt.Fprintf(&b, "**Stopped:** %s\n\n", s)
	}
	if len(r.Evidence) > 0 {
		b.WriteString("| evidence | tool | arguments | result |\n|---|---|---|---|\n")
		for _, e := range r.Evidence {
			first, _, _ := strings.Cut(strings.TrimSpace(e.Text), "\n")
			if e.Error != "" {
				first = "failed: " + e.Error
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(e.ID), cell(e.Tool), cell(string(e.Args)), cell(first))
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func items[T any](b *strings.Builder, title string, all []T, say func(T) string) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "**%s**\n\n", title)
	for _, x := range all {
		fmt.Fprintf(b, "- %s\n", say(x))
	}
	b.WriteByte('\n')
}

// MarkdownText gives text of people or the cluster as one line of Markdown that is
// read as it stands.
func MarkdownText(s string) string { return md(s) }

// md keeps cluster text from becoming markup: on one line, with everything that
// CommonMark, GFM or HTML gives a meaning to taken back. Addresses stay readable
// and do not become links by themselves.
func md(s string) string {
	s = strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "~", "\\~", "[", "\\[", "]", "\\]", "|", "\\|", "#", "\\#", "!", "\\!", "$", "\\$",
		"&", "&amp;", "<", "&lt;", ">", "&gt;", "://", ":&#47;&#47;", "www.", "www&#46;").Replace(mute(Clean(s)))
	// What begins a list or a rule at the start of an item.
	if s != "" && strings.ContainsRune("-+=", rune(s[0])) {
		s = "\\" + s
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i > 0 && (s[i] == '.' || s[i] == ')') {
		s = s[:i] + "\\" + s[i:]
	}
	return s
}

// mute puts a word joiner, which is not seen, behind an @ that begins a word:
// forges look for people to call in the text that was rendered, past all escapes.
// Inside a word, as in image@sha256, nothing is changed.
func mute(s string) string {
	var b strings.Builder
	before := ' '
	for _, r := range s {
		b.WriteRune(r)
		if r == '@' && !unicode.IsLetter(before) && !unicode.IsDigit(before) {
			b.WriteRune(0x2060)
		}
		before = r
	}
	return b.String()
}

// mdCite writes evidence ids as " [E1, E2]": brackets that no address follows are
// no link.
func mdCite(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " [" + md(strings.Join(ids, ", ")) + "]"
}

// code writes text as code, in which nothing but the backtick has a meaning.
func code(s string) string {
	s = strings.ReplaceAll(Clean(s), "`", "'")
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func cell(s string) string { return md(clip(Clean(s), maxCell)) }

package web

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// clean makes text of a cluster, a person or a model fit for one line of a page.
func clean(s string) string { return render.Clean(s) }

// cleanAll cleans a list and drops what is empty.
func cleanAll(in []string) []string {
	var out []string
	for _, s := range in {
		if s = clean(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// block cleans a text of several lines; lines and their indents stay.
func block(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		l = strings.TrimRight(l, "\r\n")
		body := strings.TrimLeft(l, " \t")
		indent := strings.ReplaceAll(l[:len(l)-len(body)], "\t", "  ")
		b.WriteString(indent)
		b.WriteString(clean(body))
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

// clip shortens a text to a number of characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return strings.TrimRight(string(r[:n-1]), " ") + "…"
}

// middle shortens a name to a number of characters and keeps both of its ends: the
// end tells pods of one workload apart.
func middle(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	head := (n - 1) / 2
	return string(r[:head]) + "…" + string(r[len(r)-(n-1-head):])
}

// plural writes a number with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// sentence makes a sentence of a clause. What it begins with stays as it is where it
// is a name or a code rather than a word.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return s
	}
	if first, _, _ := strings.Cut(s, " "); !strings.ContainsAny(strings.TrimRight(first, ".,:;"), "._/-=") {
		r, n := utf8.DecodeRuneInString(s)
		s = strings.ToUpper(string(r)) + s[n:]
	}
	if strings.ContainsRune(".?!", rune(s[len(s)-1])) {
		return s
	}
	return s + "."
}

// when is a moment on a page.
type when struct {
	// ISO is RFC 3339 for the machine, Text for people, Ago how long it is past (or, with
	// "in", ahead) at the time of the page.
	ISO, Text, Ago string
}

// moment shows a time; the zero time shows nothing.
func moment(t, now time.Time) when {
	if t.IsZero() {
		return when{}
	}
	t = t.UTC()
	w := when{ISO: t.Format(time.RFC3339), Text: t.Format("2006-01-02 15:04 UTC")}
	switch d := now.Sub(t); {
	case d >= time.Minute:
		w.Ago = span(d) + " ago"
	case d > -time.Minute:
		w.Ago = "just now"
	default:
		w.Ago = "in " + span(-d)
	}
	return w
}

// span writes a duration in its largest unit or two.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		if m := int(d.Minutes()) % 60; m > 0 && d < 10*time.Hour {
			return fmt.Sprintf("%d h %d min", int(d.Hours()), m)
		}
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// percent writes a confidence.
func percent(f float64) string { return fmt.Sprintf("%.0f %%", f*100) }

package redact

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestHintsLoseNothing makes texts from each expression: one that matches holds a hint,
// so that a text without one need not be tried.
func TestHintsLoseNothing(t *testing.T) {
	type expression struct {
		re    *regexp.Regexp
		hints []string
	}
	all := map[string]expression{}
	for _, p := range NewDetector().patterns {
		all[p.name] = expression{p.re, p.hints}
	}
	r := New()
	all["keyed"] = expression{r.keyed, r.hints}
	for _, sh := range r.shapes {
		all[sh.re.String()] = expression{sh.re, []string{sh.hint}}
	}
	// rapid makes no word boundaries: spaces around a text stand for those at its ends.
	plain := strings.NewReplacer(`\b`, ``, `(?:^|[^a-z0-9])`, ``)
	for name, e := range all {
		t.Run(name, func(t *testing.T) {
			made := rapid.StringMatching(plain.Replace(e.re.String()))
			matched := 0
			rapid.Check(t, func(t *rapid.T) {
				text := " " + made.Draw(t, "text") + " "
				if !e.re.MatchString(text) {
					return
				}
				matched++
				if !holdsAny(folded(text), e.hints) {
					t.Fatalf("%q matches and holds none of %q", text, e.hints)
				}
			})
			if matched == 0 {
				t.Error("no text that was made matches: the test shows nothing")
			}
		})
	}
}

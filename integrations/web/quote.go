package web

import (
	"strings"
	"unicode"
)

// piece is a stretch of a text; Mark says that a claim cites it.
type piece struct {
	Text string
	Mark bool
}

// Bounds of the search for quotes.
const (
	// maxQuoted is how much of a text is searched, in bytes.
	maxQuoted = 64 << 10
	// runWords is how many ordinary words in a row make a quote. A word that is a
	// name or a figure is one by itself.
	runWords = 4
)

// word is a word of a text with its place in it.
type word struct {
	lower      string
	start, end int
}

// words takes a text apart. What ends a clause does not belong to a word, what
// stands inside one does: "train/llama-0", "gpu.nvidia.com", "98".
func words(s string) []word {
	var out []word
	start := -1
	flush := func(end int) {
		if start < 0 {
			return
		}
		w := s[start:end]
		trimmed := strings.TrimRight(w, ".,;:!?-/")
		if trimmed != "" {
			out = append(out, word{strings.ToLower(trimmed), start, start + len(trimmed)})
		}
		start = -1
	}
	for i, r := range s {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || start >= 0 && strings.ContainsRune(".,:;!?-_/@%+", r) {
			if start < 0 {
				start = i
			}
			continue
		}
		flush(i)
	}
	flush(len(s))
	return out
}

// telling reports whether a word alone is worth marking: the name of an object, an
// image, a version or a figure.
func telling(w string) bool {
	digits := strings.ContainsFunc(w, unicode.IsDigit)
	if !digits {
		return len(w) > 6 && strings.ContainsAny(w, "-/_")
	}
	return len(w) >= 3
}

// quotes splits a text where it says what claims say: runs of words that stand in a
// claim in the same order, and names and figures that a claim gives. A text of which
// nearly all would be marked is marked just the same: then it is all quoted.
func quotes(text string, claims []string) []piece {
	if len(text) > maxQuoted || len(claims) == 0 {
		return []piece{{Text: text}}
	}
	said := map[string][][2]int{} // word to claim and place
	var claim [][]word
	for c, s := range claims {
		ws := words(s)
		claim = append(claim, ws)
		for i, w := range ws {
			said[w.lower] = append(said[w.lower], [2]int{c, i})
		}
	}
	var out []piece
	at := 0
	ws := words(text)
	for i := 0; i < len(ws); {
		n := longest(ws[i:], claim, said[ws[i].lower])
		if !quoted(ws[i : i+n]) {
			i++
			continue
		}
		if start := ws[i].start; start > at {
			out = append(out, piece{Text: text[at:start]})
		}
		at = ws[i+n-1].end
		out = append(out, piece{Text: text[ws[i].start:at], Mark: true})
		i += n
	}
	if at < len(text) {
		out = append(out, piece{Text: text[at:]})
	}
	return out
}

// longest gives how many of the words stand in a claim in a row, from one of the
// places at which the first of them does.
func longest(ws []word, claim [][]word, places [][2]int) int {
	best := 0
	for _, p := range places {
		rest, n := claim[p[0]][p[1]:], 0
		for n < len(ws) && n < len(rest) && ws[n].lower == rest[n].lower {
			n++
		}
		best = max(best, n)
	}
	return best
}

func quoted(ws []word) bool {
	for _, w := range ws {
		if telling(w.lower) {
			return true
		}
	}
	return len(ws) >= runWords
}

package file

import (
	"path"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// suffix of a journal's file.
const suffix = ".jsonl"

// encodeName writes a subject as the name of a file. What comes out holds
// lower-case letters, digits, '.', '-', '_' and '+' only, does not begin with a
// dot, and differs also where a file system does not tell cases apart: an
// upper-case letter becomes "+" and its lower case.
func encodeName(subject string) string {
	var b strings.Builder
	b.Grow(len(subject) + 8)
	for i := range len(subject) {
		c := subject[i]
		if 'A' <= c && c <= 'Z' {
			b.WriteByte('+')
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// decodeName gives the subject of a name that encodeName made.
func decodeName(name string) (string, bool) {
	var b strings.Builder
	b.Grow(len(name))
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '+':
			i++
			if i == len(name) || name[i] < 'a' || name[i] > 'z' {
				return "", false
			}
			b.WriteByte(name[i] - ('a' - 'A'))
		case 'A' <= c && c <= 'Z':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	subject := b.String()
	return subject, store.CheckSubject(subject) == nil
}

// journalPath is the file of a valid subject, below the directory.
func journalPath(subject string) string { return path.Join(journalDir, encodeName(subject)+suffix) }

// journalSubject is the subject of a file in the journal's directory.
func journalSubject(name string) (string, bool) {
	stem, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return "", false
	}
	return decodeName(stem)
}

package engine

import (
	"errors"
	"fmt"
	"strings"
)

// maxLine bounds a command line, in bytes.
const maxLine = 256 << 10

// Split cuts a command line the way a POSIX shell does, without expanding
// anything: quotes and backslashes are undone, `;`, `&&`, `||`, `|` and line ends
// come out as tokens of their own.
func Split(line string) ([]string, error) {
	if len(line) > maxLine {
		return nil, fmt.Errorf("a command line of %d bytes is longer than %d", len(line), maxLine)
	}
	line = strings.NewReplacer("\\\r\n", " ", "\\\n", " ").Replace(line)
	var out []string
	var word strings.Builder
	open, quote := false, byte(0)
	flush := func() {
		if open {
			out = append(out, word.String())
			word.Reset()
			open = false
		}
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'':
			if c == '\'' {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\\' && i+1 < len(line) && (quote == 0 || strings.IndexByte("\"\\$`", line[i+1]) >= 0):
			i++
			word.WriteByte(line[i])
			open = true
		case quote == '"':
			if c == '"' {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == ' ' || c == '\t' || c == '\r':
			flush()
		case c == '\n' || c == ';' || c == '|' || c == '&':
			flush()
			if n := len(out); n == 0 || out[n-1] != separator {
				out = append(out, separator)
			}
		case c == '#' && !open:
			if j := strings.IndexByte(line[i:], '\n'); j >= 0 {
				i += j - 1
			} else {
				i = len(line)
			}
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quotation mark is not closed")
	}
	flush()
	return out, nil
}

// separator stands between the commands of a line.
const separator = "\x00;"

// Expand resolves $(NAME), $NAME and ${NAME}, also ${NAME:-default}, with the
// values of env; what env lacks stays as it is.
func Expand(word string, env map[string]string) string {
	if !strings.Contains(word, "$") {
		return word
	}
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '$' || i+1 == len(word) {
			b.WriteByte(word[i])
			continue
		}
		name, fallback, end := reference(word[i+1:])
		v, ok := env[name]
		switch {
		case name == "":
			b.WriteByte('$')
			continue
		case ok && (v != "" || fallback == nil):
			b.WriteString(v)
		case fallback != nil:
			b.WriteString(*fallback)
		default:
			b.WriteString(word[i : i+1+end])
		}
		i += end
	}
	return b.String()
}

// reference reads what follows a dollar sign: the name, the default if one is
// written, and how many bytes it takes.
func reference(s string) (name string, fallback *string, end int) {
	pairs := map[byte]byte{'(': ')', '{': '}'}
	if shut, ok := pairs[s[0]]; ok {
		j := strings.IndexByte(s, shut)
		if j < 0 {
			return "", nil, 0
		}
		body := s[1:j]
		if s[0] == '{' {
			if n, d, ok := strings.Cut(body, ":-"); ok {
				body, fallback = n, &d
			}
		}
		if !isName(body) {
			return "", nil, 0
		}
		return body, fallback, j + 1
	}
	j := 0
	for j < len(s) && (s[j] == '_' || s[j] >= 'a' && s[j] <= 'z' || s[j] >= 'A' && s[j] <= 'Z' || j > 0 && s[j] >= '0' && s[j] <= '9') {
		j++
	}
	return s[:j], nil, j
}

func isName(s string) bool {
	if s == "" {
		return false
	}
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

package alertmanager

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Matcher compares one label, in Alertmanager's notation: severity="critical",
// namespace!="kube-system", alertname=~"GPU.*", team!~"ml|data". A label that an
// alert does not carry is the empty string, as there.
type Matcher struct {
	Label string
	// Op is one of = != =~ !~.
	Op    string
	Value string

	re *regexp.Regexp
}

// maxMatcher is the longest matcher, in bytes.
const maxMatcher = 4096

// ParseMatcher reads a matcher. The value may stand in double quotes, with the
// escapes \" \\ and \n; without them it is taken as it stands.
func ParseMatcher(s string) (Matcher, error) {
	var m Matcher
	refuse := func(why string) (Matcher, error) {
		return Matcher{}, fmt.Errorf("matcher %q: %s; write it as severity=\"critical\" or alertname=~\"GPU.*\"", clip(s, 200), why)
	}
	if len(s) > maxMatcher {
		return refuse(fmt.Sprintf("it is longer than %d bytes", maxMatcher))
	}
	if !utf8.ValidString(s) {
		return refuse("it is not valid UTF-8")
	}
	i := strings.IndexAny(s, "=!")
	if i < 0 {
		return refuse("it has none of = != =~ !~")
	}
	m.Label = strings.TrimSpace(s[:i])
	if !labelName(m.Label) {
		return refuse(fmt.Sprintf("%q is no label name", m.Label))
	}
	rest := s[i:]
	for _, op := range []string{"=~", "!~", "!=", "="} {
		if after, ok := strings.CutPrefix(rest, op); ok {
			m.Op, rest = op, strings.TrimSpace(after)
			break
		}
	}
	if m.Op == "" {
		return refuse("it has none of = != =~ !~")
	}
	var err error
	if m.Value, err = matcherValue(rest); err != nil {
		return refuse(err.Error())
	}
	if m.Op == "=~" || m.Op == "!~" {
		if m.re, err = regexp.Compile("^(?:" + m.Value + ")$"); err != nil {
			return refuse("the regular expression cannot be read: " + err.Error())
		}
	}
	return m, nil
}

func matcherValue(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		if strings.ContainsAny(s, `"`+"\n") {
			return "", errors.New("a quote stands within the value")
		}
		return s, nil
	}
	if len(s) < 2 || !strings.HasSuffix(s, `"`) {
		return "", errors.New("the closing quote is missing")
	}
	var b strings.Builder
	in := s[1 : len(s)-1]
	for i := 0; i < len(in); i++ {
		switch c := in[i]; {
		case c == '"':
			return "", errors.New("a quote within the value is not escaped")
		case c != '\\':
			b.WriteByte(c)
		case i+1 == len(in):
			return "", errors.New("the closing quote is escaped")
		default:
			i++
			switch in[i] {
			case 'n':
				b.WriteByte('\n')
			case '"', '\\':
				b.WriteByte(in[i])
			default: // as Alertmanager: regular expressions are full of them
				b.WriteByte('\\')
				b.WriteByte(in[i])
			}
		}
	}
	return b.String(), nil
}

func labelName(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// String gives the matcher with its value in quotes.
func (m Matcher) String() string {
	return m.Label + m.Op + `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(m.Value) + `"`
}

// Matches reports whether labels fit.
func (m Matcher) Matches(labels map[string]string) bool {
	v := labels[m.Label]
	switch m.Op {
	case "=":
		return v == m.Value
	case "!=":
		return v != m.Value
	case "=~":
		return m.re.MatchString(v)
	case "!~":
		return !m.re.MatchString(v)
	}
	return false
}

// parseMatchers reads the matchers of one place in the configuration.
func parseMatchers(in []string) ([]Matcher, error) {
	out := make([]Matcher, 0, len(in))
	var errs []error
	for _, s := range in {
		m, err := ParseMatcher(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, m)
	}
	return out, errors.Join(errs...)
}

// clip shortens a text for a sentence, at a boundary of runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// count writes a number with its noun: "1 alert", "3 alerts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

package actions

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// setting is a flag of a command line. A flag without a value is a switch.
type setting struct {
	name, value string
	valued      bool
}

func (s setting) String() string {
	if s.valued {
		return s.name + "=" + s.value
	}
	return s.name
}

func flagName(s string) bool {
	return regexp.MustCompile(`^--?[A-Za-z][A-Za-z0-9._-]*$`).MatchString(s)
}

// isFlag tells a flag from a value: a negative number is a value.
func isFlag(s string) bool {
	if !strings.HasPrefix(s, "-") || s == "-" {
		return false
	}
	_, err := strconv.ParseFloat(s, 64)
	return err != nil
}

// parseSettings reads flags as a person writes them: "--a=1 --b 2 --c". Values with
// spaces are quoted.
func parseSettings(s string) ([]setting, error) {
	words, err := splitWords(s)
	if err != nil {
		return nil, err
	}
	var out []setting
	for i := 0; i < len(words); i++ {
		name, value, valued := strings.Cut(words[i], "=")
		if !flagName(name) {
			return nil, fmt.Errorf("%q is no flag", words[i])
		}
		if !valued && i+1 < len(words) && !isFlag(words[i+1]) {
			i++
			value, valued = words[i], true
		}
		out = append(out, setting{name: name, value: value, valued: valued})
	}
	if len(out) == 0 {
		return nil, errors.New("there is no flag in it")
	}
	return out, nil
}

// splitWords splits at white space outside of quotes.
func splitWords(s string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote rune
	open := false
	for _, r := range s {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if open || word.Len() > 0 {
				out = append(out, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if open || word.Len() > 0 {
		out = append(out, word.String())
	}
	return out, nil
}

// sameFlag compares names as argparse does for engines: _ is -.
func sameFlag(a, b string) bool {
	return strings.ReplaceAll(a, "_", "-") == strings.ReplaceAll(b, "_", "-")
}

// errAmbiguous says that the word after a switch may be its value.
var errAmbiguous = errors.New("it cannot be told whether the next word is its value; give all arguments with args")

// setFlag sets a flag in a list of arguments, in the form it has there: "--a=1" or
// "--a 1", and in each place where it stands. It gives what it was before; found is
// false when it is not there.
func setFlag(args []string, s setting) (out []string, from string, found bool, err error) {
	out = slices.Clone(args)
	for i := 0; i < len(out); i++ {
		name, value, joined := strings.Cut(out[i], "=")
		if !flagName(name) || !sameFlag(name, s.name) {
			continue
		}
		found = true
		switch {
		case joined:
			from = value
			out[i] = name
			if s.valued {
				out[i] = name + "=" + s.value
			}
		case i+1 < len(out) && !isFlag(out[i+1]):
			if !s.valued {
				return nil, "", true, errAmbiguous
			}
			from = out[i+1]
			out[i+1] = s.value
			i++
		default:
			from = "(set)"
			if s.valued {
				out = slices.Insert(out, i+1, s.value)
				i++
			}
		}
	}
	return out, from, found, nil
}

// removeFlag takes a flag out of a list, with its value where that is part of the
// word or was given.
func removeFlag(args []string, s setting) (out []string, from string, found bool, err error) {
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if !flagName(name) || !sameFlag(name, s.name) {
			out = append(out, args[i])
			continue
		}
		found, from = true, "(set)"
		switch {
		case joined:
			from = value
		case i+1 < len(args) && !isFlag(args[i+1]):
			if !s.valued || args[i+1] != s.value {
				return nil, "", true, errAmbiguous
			}
			from = args[i+1]
			i++
		}
	}
	return out, from, found, nil
}

// inScript finds a flag with its value in a line that a shell runs.
func inScript(name string) *regexp.Regexp {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.ReplaceAll(name, "_", "-")), "-", "[-_]")
	return regexp.MustCompile(`(^|\s)(` + pattern + `)(?:(=|[ \t]+)("[^"\n]*"|'[^'\n]*'|[^\s;|&"'-][^\s;|&"']*|-[0-9.]+))?(\s|$)`)
}

// shellSafe are values that mean themselves to a shell.
func shellSafe(v string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9._:/,@%+-]+$`).MatchString(v)
}

// setInScript sets, or with remove takes out, a flag in a shell's line.
func setInScript(script string, s setting, remove bool) (out, from string, found bool, err error) {
	re := inScript(s.name)
	m := re.FindStringSubmatchIndex(script)
	if m == nil {
		return script, "", false, nil
	}
	from = "(set)"
	if m[8] >= 0 {
		from = strings.Trim(script[m[8]:m[9]], `"'`)
	}
	end := m[5] // of the name
	if m[8] >= 0 {
		end = m[9]
	}
	switch {
	case remove && m[8] >= 0 && m[6] >= 0 && script[m[6]:m[7]] != "=" && (!s.valued || s.value != from):
		return "", "", true, errAmbiguous
	case remove:
		return script[:m[3]] + strings.TrimLeft(script[end:], " \t"), from, true, nil
	case !s.valued && m[8] >= 0:
		return "", "", true, errAmbiguous
	case s.valued && !shellSafe(s.value):
		return "", "", true, fmt.Errorf("the value %q means something to the shell that reads it; give the whole command", s.value)
	case s.valued:
		sep := "="
		if m[6] >= 0 {
			sep = script[m[6]:m[7]]
		}
		return script[:m[5]] + sep + s.value + script[end:], from, true, nil
	}
	return script, from, true, nil
}

// appendToScript adds a flag at the end of a shell's line that is one plain command.
func appendToScript(script string, s setting) (string, error) {
	plain := strings.ReplaceAll(script, "\\\n", " ")
	if strings.ContainsAny(strings.TrimSpace(plain), ";|&<>`\n#") {
		return "", errors.New("the container runs a shell script of more than one plain command; give the whole command or args")
	}
	if s.valued && !shellSafe(s.value) {
		return "", fmt.Errorf("the value %q means something to the shell that reads it; give the whole command", s.value)
	}
	return strings.TrimRight(script, " \t\n\\") + " " + s.String(), nil
}

package investigate

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// claimed are the parts of a sentence that can be looked up in evidence.
type claimed struct {
	// ids are evidence ids mentioned in the sentence.
	ids []string
	// quoted texts, times, versions and images: found as they stand.
	quoted []string
	// names of objects: found as whole words.
	names []string
	// figures: found as numbers, whatever unit follows.
	figures []string
}

// lexicon holds the patterns of a sentence's parts, in the order in which they
// are taken out of it.
type lexicon struct {
	id, quoted, image, time, version, kind, path, name *regexp.Regexp
}

func newLexicon() lexicon {
	return lexicon{
		id:      regexp.MustCompile(`\bE[1-9][0-9]*\b`),
		quoted:  regexp.MustCompile("\"([^\"\n]{1,300})\"|`([^`\n]{1,300})`|“([^”\n]{1,300})”|(?:^|[\\s(=:])'([^'\n]{2,300})'(?:$|[\\s).,;:])"),
		image:   regexp.MustCompile(`[a-zA-Z0-9][\w.-]*(?::\d+)?(?:/[\w.-]+)+(?::[\w][\w.-]*\w|@sha256:[0-9a-f]{8,64})|[a-z0-9][\w.-]*(?:@sha256:[0-9a-f]{8,64}|:v\d[\w.-]*|:\d+\.[\w.-]*\w)`),
		time:    regexp.MustCompile(`\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?|\b\d\d:\d\d(?::\d\d)?\b`),
		version: regexp.MustCompile(`\bv?\d+(?:\.\d+){2,}(?:[-+][\w.]+)?\b`),
		kind: regexp.MustCompile(`\b(?i:pod|deployment|statefulset|daemonset|replicaset|job|cronjob|service|ingress|httproute|gateway|node|namespace|secret|configmap|` +
			`serviceaccount|\w*claim|\w*class|\w*template|\w*quota|\w*policy|\w*rule|limitrange|\w*volume|\w*webhook\w*|hpa|pdb|pvc|pv|container|image|device|driver)` +
			`\s+([a-z0-9][a-z0-9.-]*[a-z0-9](?:/[a-z0-9][a-z0-9.-]*[a-z0-9])*)`),
		path: regexp.MustCompile(`\b[a-z0-9]([a-z0-9.-]*[a-z0-9])?(?:/[a-z0-9]([a-z0-9.-]*[a-z0-9])?)+`),
		name: regexp.MustCompile(`\b[a-z0-9]+(?:[-.][a-z0-9]+)+\b`),
	}
}

// take removes what a pattern matches from the sentence and gives it.
func take(text *string, re *regexp.Regexp, keep func(string) bool) []string {
	var out []string
	*text = re.ReplaceAllStringFunc(*text, func(m string) string {
		found := m
		for _, g := range re.FindStringSubmatch(m)[1:] {
			if g != "" {
				found = g
			}
		}
		if keep != nil && !keep(m) {
			return m
		}
		out = append(out, found)
		return " "
	})
	return out
}

// read takes a sentence apart.
func (lx lexicon) read(text string) claimed {
	var c claimed
	c.quoted = take(&text, lx.quoted, nil)
	c.ids = take(&text, lx.id, nil)
	c.quoted = append(c.quoted, take(&text, lx.time, nil)...)
	c.quoted = append(c.quoted, take(&text, lx.image, nil)...)
	c.quoted = append(c.quoted, take(&text, lx.version, nil)...)
	for _, p := range take(&text, lx.kind, func(m string) bool { return strings.ContainsAny(m, "-/") || strings.ContainsFunc(m, unicode.IsDigit) }) {
		c.names = append(c.names, strings.Split(p, "/")...)
	}
	for _, p := range wholes(&text, lx.path) {
		c.names = append(c.names, strings.Split(p, "/")...)
	}
	c.names = append(c.names, take(&text, lx.name, objectLike)...)
	c.figures = figures(text)
	return c
}

// wholes takes "namespace/name" out, but leaves "and/or" and "read/write":
// one part at least looks like the name of an object.
func wholes(text *string, re *regexp.Regexp) []string {
	var out []string
	*text = re.ReplaceAllStringFunc(*text, func(m string) string {
		for part := range strings.SplitSeq(m, "/") {
			if objectLike(part) {
				out = append(out, m)
				return " "
			}
		}
		return m
	})
	return out
}

// objectLike tells "llama-ft-0" from "read-only": object names that are made up
// carry digits more often than not, and English compounds never do.
func objectLike(s string) bool {
	return !strings.HasSuffix(s, "k8s.io") && strings.ContainsFunc(s, unicode.IsDigit) && strings.ContainsFunc(s, unicode.IsLetter) && strings.ContainsAny(s, "-.")
}

// figures lists the numbers of a text in one spelling: "1,024" and "1024.0"
// are both "1024". A number inside a word (H200, x7k2p) is none; a unit may follow.
func figures(text string) []string {
	var out []string
	for i := 0; i < len(text); {
		if !digit(text[i]) {
			i++
			continue
		}
		start := i
		for i < len(text) && (digit(text[i]) || (text[i] == '.' || text[i] == ',') && i+1 < len(text) && digit(text[i+1]) && groups(text, i)) {
			i++
		}
		if start > 0 && wordByte(text[start-1]) || start > 1 && (text[start-1] == '-' || text[start-1] == '.') && wordByte(text[start-2]) {
			continue
		}
		if i+1 < len(text) && text[i] == '-' && wordByte(text[i+1]) && !digit(text[i+1]) {
			continue
		}
		if n, err := strconv.ParseFloat(strings.ReplaceAll(text[start:i], ",", ""), 64); err == nil {
			out = append(out, strconv.FormatFloat(n, 'f', -1, 64))
		}
	}
	return out
}

// groups reports whether the mark at i belongs to the number: a point always
// does, a comma only before exactly three digits.
func groups(text string, i int) bool {
	if text[i] == '.' {
		return true
	}
	n := 0
	for j := i + 1; j < len(text) && digit(text[j]); j++ {
		n++
	}
	return n == 3
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func wordByte(c byte) bool {
	return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

// hasToken reports whether a name occurs in a text as a whole: "llama-0" is in
// "pod llama-0." and not in "llama-0-gpu" or "my.llama-0".
func hasToken(text, name string) bool {
	if name == "" {
		return false
	}
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		i += from
		j := i + len(name)
		left := i == 0 || !wordByte(text[i-1]) && (!joins(text[i-1]) || i <= 1 || !wordByte(text[i-2]))
		right := j == len(text) || !wordByte(text[j]) && (!joins(text[j]) || j+1 >= len(text) || !wordByte(text[j+1]))
		if left && right {
			return true
		}
		from = i + 1
	}
}

// joins reports whether a byte continues a Kubernetes name.
func joins(c byte) bool { return c == '-' || c == '.' }

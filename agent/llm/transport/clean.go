package transport

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	masked = "[masked]"
	// maxText bounds a text of the server, maxLineText a whole message.
	maxText, maxLineText = 400, 600
)

// shapes of credentials that servers repeat in their messages. The first group
// of an expression, if any, stays.
var shapes = []*regexp.Regexp{
	regexp.MustCompile(`(?i)(bearer\s+)[a-z0-9._~+/=*-]{6,}`),
	regexp.MustCompile(`()\b(?:(?:sk|xai|nvapi)-[A-Za-z0-9_*-]{12,}|(?:hf|ghp|gsk)_[A-Za-z0-9]{16,}|AIza[A-Za-z0-9_-]{20,})`),
	regexp.MustCompile(`()[^\s"'=:]*\*{3,}[^\s"'.,]*`),
	regexp.MustCompile(`(?i)((?:api[-_ ]?key|access[-_ ]?token|secret|passw(?:or)?d|authorization)["']?\s*[:=]\s*["']?)[^\s"',}&]{4,}`),
	regexp.MustCompile(`(://)[^/\s@]+@`),
}

// cleaner makes text of a server fit to be shown: one line, short, masked.
type cleaner struct {
	known  *strings.Replacer
	redact func(string) string
}

func newCleaner(secrets []string, redact func(string) string) cleaner {
	var pairs []string
	for _, s := range secrets {
		if len(s) < 4 {
			continue // too short to be a secret, and it would mask ordinary words
		}
		pairs = append(pairs, s, masked)
		if q := url.QueryEscape(s); q != s {
			pairs = append(pairs, q, masked)
		}
	}
	return cleaner{known: strings.NewReplacer(pairs...), redact: redact}
}

// line makes one line.
func (c cleaner) line(text string) string { return shorten(c.mask(text), maxLineText) }

// short makes one short line, for use within another.
func (c cleaner) short(text string) string { return shorten(c.mask(text), maxText) }

func (c cleaner) mask(text string) string {
	// The known secrets go first, before anything changes their bytes.
	text = strings.ToValidUTF8(c.known.Replace(text), "\uFFFD")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	for _, re := range shapes {
		text = re.ReplaceAllString(text, "${1}"+masked)
	}
	if c.redact != nil {
		text = c.redact(text)
	}
	return text
}

func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "..."
}

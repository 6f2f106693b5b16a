package metric

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Selector writes a PromQL selector of the series of a metric whose labels equal
// the given ones. Names and values are quoted, so that no text from a cluster
// can change the query. An empty name selects by labels alone.
func Selector(name string, equal map[string]string) string {
	parts := make([]string, 0, len(equal)+1)
	plain := legacy(name, true)
	if name != "" && !plain {
		parts = append(parts, quote(name))
	}
	for _, n := range slices.Sorted(maps.Keys(equal)) {
		parts = append(parts, quoteName(n)+"="+quote(equal[n]))
	}
	if plain {
		if len(parts) == 0 {
			return name
		}
		return name + "{" + strings.Join(parts, ",") + "}"
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// AnyOf writes the regular expression that matches exactly the given values, to
// stand behind =~ in a selector: Prometheus anchors it. It is quoted.
func AnyOf(values ...string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return quote(strings.Join(quoted, "|"))
}

// quote writes a PromQL string. Bytes that are not UTF-8 are escaped, as Go does.
func quote(s string) string { return strconv.Quote(s) }

// quoteName writes a label name; names outside the classic alphabet are quoted,
// as Prometheus 3 reads them.
func quoteName(n string) string {
	if legacy(n, false) {
		return n
	}
	return quote(n)
}

// legacy reports whether a name needs no quotes: [a-zA-Z_][a-zA-Z0-9_]*, with
// colons allowed in names of metrics.
func legacy(n string, colon bool) bool {
	for i, c := range []byte(n) {
		switch {
		case c == '_', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case c >= '0' && c <= '9' && i > 0:
		case c == ':' && colon:
		default:
			return false
		}
	}
	return n != ""
}

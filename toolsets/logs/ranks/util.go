package ranks

import (
	"slices"
	"strconv"
	"unicode/utf8"
)

// atoi reads a number that a pattern found; -1 when it is none that fits.
func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func atoi64(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func firstOf(s []string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

func sortInts(s []int) { slices.Sort(s) }

// clip shortens to at most n bytes, at a rune's border.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

package openaichat

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// unquote decodes a valid JSON string byte by byte. Unlike encoding/json it
// keeps invalid UTF-8 and lone surrogates (as their three-byte form), because
// the rest of the character may be in the next event.
func unquote(raw []byte) []byte {
	raw = raw[1 : len(raw)-1]
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		if i >= len(raw) {
			break
		}
		switch raw[i] {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'u':
			if i+4 < len(raw) {
				n, err := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
				if err == nil {
					out = appendUnit(out, rune(n))
				}
			}
			i += 4
		default:
			out = append(out, raw[i])
		}
	}
	return out
}

// appendUnit appends a UTF-16 unit. A low surrogate joins the high one before it.
func appendUnit(out []byte, unit rune) []byte {
	if !utf16.IsSurrogate(unit) {
		return utf8.AppendRune(out, unit)
	}
	if high, ok := highSurrogate(out); ok && unit >= 0xDC00 {
		return utf8.AppendRune(out[:len(out)-3], utf16.DecodeRune(high, unit))
	}
	return append(out, 0xE0|byte(unit>>12), 0x80|byte(unit>>6)&0x3F, 0x80|byte(unit)&0x3F)
}

// highSurrogate reads a three-byte high surrogate at the end.
func highSurrogate(b []byte) (rune, bool) {
	if len(b) < 3 || b[len(b)-3] != 0xED {
		return 0, false
	}
	r := rune(0xD000) | rune(b[len(b)-2]&0x3F)<<6 | rune(b[len(b)-1]&0x3F)
	return r, r >= 0xD800 && r < 0xDC00
}

// joinHalves joins surrogate halves that came in different events, and
// replaces what is still no UTF-8.
func joinHalves(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		if b[0] == 0xED && len(b) >= 3 && b[1] >= 0xB0 && b[1] < 0xC0 && b[2]&0xC0 == 0x80 {
			out = appendUnit(out, rune(0xD000)|rune(b[1]&0x3F)<<6|rune(b[2]&0x3F))
			b = b[3:]
			continue
		}
		out, b = append(out, b[0]), b[1:]
	}
	return strings.ToValidUTF8(string(out), "\uFFFD")
}

// runes delivers text in whole characters.
type runes struct{ rest []byte }

// push takes bytes and gives the text that is whole.
func (r *runes) push(b text) string {
	if len(b) == 0 {
		return ""
	}
	r.rest = append(r.rest, b...)
	n := whole(r.rest)
	out := joinHalves(r.rest[:n])
	r.rest = append([]byte(nil), r.rest[n:]...)
	return out
}

// flush gives what is left, repaired.
func (r *runes) flush() string {
	out := joinHalves(r.rest)
	r.rest = nil
	return out
}

// whole gives the length without an unfinished character at the end.
func whole(b []byte) int {
	if _, ok := highSurrogate(b); ok {
		return len(b) - 3
	}
	for back := 1; back <= min(3, len(b)); back++ {
		c := b[len(b)-back]
		if !utf8.RuneStart(c) {
			continue
		}
		need := 1
		switch {
		case c >= 0xF0 && c < 0xF8:
			need = 4
		case c >= 0xE0 && c < 0xF0:
			need = 3
		case c >= 0xC0 && c < 0xE0:
			need = 2
		}
		if need > back {
			return len(b) - back
		}
		return len(b)
	}
	return len(b)
}

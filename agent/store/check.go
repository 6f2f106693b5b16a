package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// CheckSubject accepts names separated by dots, each of letters, digits, '-'
// and '_': "run.run-0f3a". Case counts.
func CheckSubject(s string) error {
	if s == "" || len(s) > MaxSubject {
		return fmt.Errorf("%w subject %.130q: it has 1 to %d bytes", ErrInvalid, s, MaxSubject)
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" {
			return fmt.Errorf("%w subject %q: a name between its dots is empty", ErrInvalid, s)
		}
		for i := range len(token) {
			if !wordByte(token[i]) {
				return fmt.Errorf("%w subject %q: %q is none of letters, digits, '-' and '_'", ErrInvalid, s, token[i])
			}
		}
	}
	return nil
}

func wordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// CheckPattern accepts a subject, a subject with a last name ">" for everything
// below it ("run.>"), and ">" for everything.
func CheckPattern(p string) error {
	if p == ">" {
		return nil
	}
	return CheckSubject(strings.TrimSuffix(p, ".>"))
}

// Match reports whether a subject is one of those a valid pattern means.
func Match(pattern, subject string) bool {
	if pattern == ">" {
		return true
	}
	if above, ok := strings.CutSuffix(pattern, ".>"); ok {
		return strings.HasPrefix(subject, above+".")
	}
	return pattern == subject
}

// maxType is the longest type of an entry, in bytes.
const maxType = 64

// CheckType accepts the type of an entry.
func CheckType(t string) error {
	if t == "" || len(t) > maxType {
		return fmt.Errorf("%w type %.70q: it has 1 to %d bytes", ErrInvalid, t, maxType)
	}
	for i := range len(t) {
		if c := t[i]; !wordByte(c) && c != '.' || 'A' <= c && c <= 'Z' {
			return fmt.Errorf("%w type %q: %q is none of lower-case letters, digits, '.', '-' and '_'", ErrInvalid, t, c)
		}
	}
	return nil
}

// CheckLease accepts how long a lease or a delay may be; zero is for delays only.
func CheckLease(d time.Duration, zero bool) error {
	if d < 0 || d > MaxLease || d == 0 && !zero {
		return fmt.Errorf("%w time %s: it is above zero and at most %s", ErrInvalid, d, MaxLease)
	}
	return nil
}

// CheckTimer accepts a timer; its entry comes back as it will be kept.
func CheckTimer(t Timer) (Timer, error) {
	if err := CheckSubject(t.Key); err != nil {
		return t, fmt.Errorf("timer key: %w", err)
	}
	if err := CheckSubject(t.Subject); err != nil {
		return t, fmt.Errorf("timer %s: %w", t.Key, err)
	}
	if t.At.IsZero() || t.At.Year() < 0 || t.At.Year() > 9999 {
		return t, fmt.Errorf("timer %s: %w time %s", t.Key, ErrInvalid, t.At)
	}
	es, err := CheckEntries([]Entry{t.Entry})
	if err != nil {
		return t, fmt.Errorf("timer %s: %w", t.Key, err)
	}
	t.At, t.Entry = t.At.UTC(), es[0]
	return t, nil
}

// CheckEntries accepts what one Append carries and gives it as it will be kept:
// every document compact.
func CheckEntries(entries []Entry) ([]Entry, error) {
	if len(entries) == 0 || len(entries) > MaxEntries {
		return nil, fmt.Errorf("%w append of %d entries: it carries 1 to %d", ErrInvalid, len(entries), MaxEntries)
	}
	out := make([]Entry, len(entries))
	sum := 0
	for i, e := range entries {
		if err := CheckType(e.Type); err != nil {
			return nil, err
		}
		data := []byte("null")
		if len(e.Data) > 0 {
			var b bytes.Buffer
			b.Grow(len(e.Data))
			if err := json.Compact(&b, e.Data); err != nil {
				return nil, fmt.Errorf("%w data of an entry of type %s: %w", ErrInvalid, e.Type, err)
			}
			data = b.Bytes()
		}
		if len(data) > MaxData {
			return nil, fmt.Errorf("an entry of type %s with %d bytes is %w: at most %d", e.Type, len(data), ErrTooLarge, MaxData)
		}
		if sum += len(data); sum > MaxAppend {
			return nil, fmt.Errorf("an append of more than %d bytes is %w", MaxAppend, ErrTooLarge)
		}
		out[i] = Entry{Type: e.Type, Data: data}
	}
	return out, nil
}

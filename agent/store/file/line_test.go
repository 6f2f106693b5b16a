package file

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

func sample() line {
	return line{Seq: 7, At: time.Date(2026, 11, 24, 3, 0, 0, 123456789, time.UTC), Type: "tool.finished", Data: json.RawMessage(`{"text":"a \"sum\":\"00000000\"} b"}`)}
}

// A line is one JSON document that any tool reads, and comes back as it was.
func TestLineRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		data, err := json.Marshal(rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.SliceOf(rapid.Int()), func(s []int) any { return s }),
			rapid.Map(rapid.MapOf(rapid.String(), rapid.String()), func(m map[string]string) any { return m }),
		).Draw(rt, "data"))
		if err != nil {
			rt.Fatal(err)
		}
		want := line{
			Seq:  rapid.Uint64Min(1).Draw(rt, "seq"),
			At:   time.Unix(rapid.Int64Range(0, 1<<36).Draw(rt, "at"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns")).UTC(),
			Type: rapid.StringMatching(`[a-z0-9._-]{1,64}`).Draw(rt, "type"), More: rapid.Bool().Draw(rt, "more"), Data: data,
		}
		raw := appendLine(nil, want)
		if n := bytes.Count(raw, []byte("\n")); n != 1 || raw[len(raw)-1] != '\n' || !json.Valid(raw) {
			rt.Fatalf("%q has %d ends of line, or is no JSON", raw, n)
		}
		got, err := decodeLine(raw[:len(raw)-1])
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// Whichever byte of a line is changed, it is told.
func TestLineChecksum(t *testing.T) {
	t.Parallel()
	raw := bytes.TrimSuffix(appendLine(nil, sample()), []byte("\n"))
	for i := range raw {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(raw)
			bad[i] ^= flip
			if l, err := decodeLine(bad); err == nil && !(i >= len(raw)-10 && cmp.Equal(l, sample())) {
				t.Errorf("byte %d ^ %#x: %q is read as %+v", i, flip, bad, l)
			}
		}
		if _, err := decodeLine(raw[:i]); err == nil {
			t.Errorf("the first %d bytes are read", i)
		}
	}
}

func TestLineRefusals(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no sequence": `{"at":"2026-01-01T00:00:00Z","type":"a","data":1`,
		"no time":     `{"seq":1,"type":"a","data":1`,
		"bad time":    `{"seq":1,"at":"yesterday","type":"a","data":1`,
		"no data":     `{"seq":1,"at":"2026-01-01T00:00:00Z","type":"a"`,
		"bad type":    `{"seq":1,"at":"2026-01-01T00:00:00Z","type":"A b","data":1`,
		"no JSON":     `{"seq":1,,`,
		"a list":      `[1`,
	} {
		raw := seal([]byte(body), 0)
		if l, err := decodeLine(raw[:len(raw)-1]); err == nil {
			t.Errorf("%s: read as %+v", name, l)
		}
	}
	for name, h := range map[string]header{
		"a later format": {Journal: formatVersion + 1, Subject: "run.a", At: sample().At},
		"a path":         {Journal: formatVersion, Subject: "../a", At: sample().At},
	} {
		raw := appendHeader(nil, h)
		if _, err := decodeHeader(raw[:len(raw)-1]); err == nil {
			t.Errorf("the header of %s is accepted", name)
		}
	}
}

// Whatever bytes a journal holds: no panic, and what is read as a record can be
// written and read again.
func FuzzDecodeLine(f *testing.F) {
	f.Add(bytes.TrimSuffix(appendLine(nil, sample()), []byte("\n")))
	f.Add(bytes.TrimSuffix(appendHeader(nil, header{Journal: 1, Subject: "run.a", At: sample().At}), []byte("\n")))
	f.Add([]byte(`{"seq":1,"sum":"00000000"}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = decodeHeader(raw)
		l, err := decodeLine(raw)
		if err != nil {
			// The checksum stops nearly everything; what stands behind it is
			// tried with one that is right.
			sealed := seal(bytes.Clone(raw), 0)
			if l, err = decodeLine(sealed[:len(sealed)-1]); err != nil {
				return
			}
		}
		es, err := store.CheckEntries([]store.Entry{{Type: l.Type, Data: l.Data}})
		if err != nil {
			t.Fatalf("%q is read, but no entry: %v", raw, err)
		}
		l.At, l.Data = l.At.UTC(), es[0].Data
		again := appendLine(nil, l)
		got, err := decodeLine(again[:len(again)-1])
		if err != nil || !cmp.Equal(l, got) {
			t.Fatalf("%q comes back as %+v, %v; want %+v", again, got, err, l)
		}
	})
}

// Whatever bytes a journal's file holds: a scan ends, gives sequences in order
// and a position within the file, and reading on from there gives nothing new.
func FuzzScan(f *testing.F) {
	whole := appendHeader(nil, header{Journal: 1, Subject: "run.a", At: sample().At})
	for seq := range uint64(5) {
		l := sample()
		l.Seq, l.More = seq+1, seq%2 == 0
		whole = appendLine(whole, l)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(bytes.Clone(whole), 0, 0, 0))
	f.Add(bytes.Replace(whole, []byte(`"seq":3`), []byte(`"seq":4`), 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		next := uint64(1)
		at, err := scan(bytes.NewReader(raw), pos{}, int64(len(raw)), "x", "run.a", func(batch []line, at pos) bool {
			for _, l := range batch {
				if l.Seq != next {
					t.Fatalf("sequence %d comes where %d is due", l.Seq, next)
				}
				next++
			}
			if at.seq != next-1 {
				t.Fatalf("the position is %+v behind sequence %d", at, next-1)
			}
			return true
		})
		if at.off < 0 || at.off > int64(len(raw)) || at.off > 0 && raw[at.off-1] != '\n' || at.seq != next-1 {
			t.Fatalf("the position is %+v behind sequence %d (%v)", at, next-1, err)
		}
		again, err2 := scan(bytes.NewReader(raw), at, int64(len(raw)), "x", "run.a", func([]line, pos) bool {
			t.Fatal("reading on gives more")
			return false
		})
		if again != at || (err == nil) != (err2 == nil) {
			t.Fatalf("reading on: %+v, %v; before %+v, %v", again, err2, at, err)
		}
		if l, ok, err := lastLine(bytes.NewReader(raw), int64(len(raw))); err != nil || ok && l.Seq == 0 {
			t.Fatalf("the last line is %+v, %v", l, err)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"run.a", "run.A", "../../etc/passwd", "a+b", "", ".", "run.\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if store.CheckSubject(s) == nil {
			name := encodeName(s)
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_+") != "" || name[0] == '.' || len(name)+len(suffix) > 255 {
				t.Fatalf("%q becomes the name %q", s, name)
			}
			if got, ok := decodeName(name); !ok || got != s {
				t.Fatalf("%q comes back as %q, %t", s, got, ok)
			}
		}
		if subject, ok := decodeName(s); ok && encodeName(subject) != s {
			t.Fatalf("two names, %q and %q, are one subject", s, encodeName(subject))
		}
	})
}

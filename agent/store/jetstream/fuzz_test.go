package jetstream_test

import (
	"bytes"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"1 0 0 1 1 1 00000000 - note", "1 7 0 1 1 100 ffffffff 2026-11-24T03:00:00Z run.ended", "1 7 8 2 3 1 0badcafe - note", "1 7 0 1 1 0 00000000 - ~deleted",
		"", "2 0 0 1 1 1 00000000 - note", "1 0 0 2 1 1 00000000 - note", "1 0 0 1 1 101 00000000 - note", "1 0 0 1 99999 1 0 - note", "1 -1 0 1 1 1 0 - note", "1 0 0 1 1 1 0 x note",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := jetstream.ParseHead(s)
		if err != nil {
			return
		}
		again, err := jetstream.ParseHead(out)
		if err != nil || again != out {
			t.Errorf("%q is written as %q and read as %q, %v", s, out, again, err)
		}
	})
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte("note 4\nnull\n"), 1)
	f.Add([]byte("note 3\n\"a\"\nend 2\n{}\n"), 2)
	f.Add([]byte("note -1\nnull\n"), 1)
	f.Add([]byte("note 99999999999999999999\nnull\n"), 1)
	f.Add([]byte("note 5\nnull\n"), 1)
	f.Add([]byte(""), 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		out, err := jetstream.DecodeEntries(b, n)
		if err != nil {
			return
		}
		if again, err := jetstream.DecodeEntries(out, n); err != nil || !bytes.Equal(again, out) {
			t.Errorf("%q is written as %q and read as %q, %v", b, out, again, err)
		}
	})
}

// Whatever a message of a stream holds, it is read or refused.
func FuzzMessage(f *testing.F) {
	f.Add("1 0 0 1 1 1 8a9136aa - note", []byte("note 4\nnull\n"))
	f.Add("1 0 0 1 1 2 00000000 - note", []byte("timer 2\n{}\nnote 4\nnull\n"))
	f.Add("1 7 0 1 1 0 00000000 - ~deleted", []byte(nil))
	f.Fuzz(func(_ *testing.T, header string, body []byte) {
		_ = jetstream.Take(header, body)
	})
}

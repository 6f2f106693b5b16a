package jetstream_test

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

func text(s string) store.Entry { return store.Entry{Type: "note", Data: []byte(`"` + s + `"`)} }

// large is an entry that needs several messages.
func large(s string) store.Entry { return text(s + strings.Repeat("x", 1_200_000)) }

func mustAppend(t *testing.T, s store.Appender, subject string, expect uint64, entries ...store.Entry) uint64 {
	t.Helper()
	last, err := s.Append(t.Context(), subject, expect, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// all loads the documents of a subject, their ends cut off.
func all(t *testing.T, s store.Loader, subject string) (out []string, err error) {
	t.Helper()
	for r, err := range s.Load(t.Context(), subject, 0) {
		if err != nil {
			return out, err
		}
		out = append(out, strings.Trim(strings.TrimRight(strings.Trim(string(r.Data), `"`), "x"), `"`))
	}
	return out, nil
}

func want(t *testing.T, s store.Loader, subject string, docs ...string) {
	t.Helper()
	got, err := all(t, s, subject)
	if err != nil || strings.Join(got, " ") != strings.Join(docs, " ") {
		t.Errorf("%s holds %q, %v; want %q", subject, got, err, docs)
	}
}

func names(t *testing.T, s store.Lister, pattern string) string {
	t.Helper()
	var out []string
	for i, err := range s.List(t.Context(), pattern) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, i.Subject)
	}
	return strings.Join(out, " ")
}

// pair opens two stores on one embedded server, as two processes would.
func pair(t *testing.T, change func(*jetstream.Config)) (*jetstream.Store, *jetstream.Store) {
	t.Helper()
	dir := t.TempDir()
	e := embed(t, dir)
	open := func() *jetstream.Store {
		cfg := jetstream.Config{Dir: dir, Poll: 20 * time.Millisecond}
		if change != nil {
			change(&cfg)
		}
		s, err := e.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	return open(), open()
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// patience bounds the wait for things that should happen at once.
const patience = 30 * time.Second

func collect(records iter.Seq2[store.Record, error]) (out []string, err error) {
	for r, err := range records {
		if err != nil {
			return out, err
		}
		out = append(out, string(r.Data))
	}
	return out, nil
}

func second[T any](_ T, err error) error { return err }

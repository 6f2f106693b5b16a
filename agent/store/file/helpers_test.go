package file_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// big is an output of a million bytes.
func big() (string, []byte) {
	raw := []byte(strings.Repeat("0123456789", 100_000))
	return digest(raw), raw
}

// names lists a directory of the store.
func names(t *testing.T, dir, sub string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func text(s string) store.Entry { return store.Entry{Type: "note", Data: []byte(`"` + s + `"`)} }

func mustAppend(t *testing.T, s *file.Store, subject string, expect uint64, entries ...store.Entry) uint64 {
	t.Helper()
	last, err := s.Append(t.Context(), subject, expect, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// all loads the documents of a subject.
func all(t *testing.T, s *file.Store, subject string) (out []string, err error) {
	t.Helper()
	for r, err := range s.Load(t.Context(), subject, 0) {
		if err != nil {
			return out, err
		}
		out = append(out, string(r.Data))
	}
	return out, nil
}

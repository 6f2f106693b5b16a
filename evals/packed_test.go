package evals_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gumshoe-ai/gumshoe/evals"
)

// tree reads all files of a directory of a file system.
func tree(t *testing.T, fsys fs.FS, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(fsys, p)
		out[p] = string(raw)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// What is embedded is what lies in evals/cases. Only what differs is written anew, so
// that a newer compressor does not rewrite every case.
func TestPackedCasesAreTheCases(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("cases")
	if err != nil {
		t.Fatal(err)
	}
	packed, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	cases := os.DirFS("cases")
	var stale, ids []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		id := e.Name()
		ids = append(ids, id)
		want, have := tree(t, cases, id), tree(t, packed, id)
		same := len(want) == len(have)
		for p, text := range want {
			same = same && have[p] == text
		}
		if same {
			continue
		}
		stale = append(stale, id)
		if *update {
			sub, err := fs.Sub(cases, id)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := evals.Pack(id, sub)
			if err == nil {
				err = os.WriteFile(filepath.Join("packed", id+".zip.zst"), raw, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	have, err := fs.ReadDir(packed, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range have {
		if slices.Contains(ids, e.Name()) {
			continue
		}
		stale = append(stale, e.Name())
		if *update {
			if err := os.Remove(filepath.Join("packed", e.Name()+".zip.zst")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(stale) > 0 && !*update {
		t.Errorf("evals/packed is not evals/cases for %s: run make cases", strings.Join(stale, ", "))
	}
}

func TestEmbeddedIsAFileSystem(t *testing.T) {
	t.Parallel()
	fsys, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	const id = "dra-selector-excludes-all"
	one, err := fs.Sub(fsys, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(one, "case.yaml", "bundle/bundle.yaml", "bundle/objects/_cluster/nodes.core.yaml"); err != nil {
		t.Error(err)
	}
	f, err := fsys.Open(".")
	if err != nil {
		t.Fatal(err)
	}
	root := f.(fs.ReadDirFile)
	first, err := root.ReadDir(1)
	if err != nil || len(first) != 1 || !first[0].IsDir() {
		t.Fatalf("%v %v", first, err)
	}
	rest, err := root.ReadDir(-1)
	if err != nil || slices.ContainsFunc(rest, func(e fs.DirEntry) bool { return e.Name() == first[0].Name() }) {
		t.Errorf("a directory is read on from where it was: %v", err)
	}
	for _, name := range []string{"none", "none/case.yaml", id + "/none", "/", "../x"} {
		if _, err := fsys.Open(name); err == nil {
			t.Errorf("%s opens", name)
		}
	}
}

func TestPackIsReproducible(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{"case.yaml": {Data: []byte("a: 1\n")}, "bundle/objects/x.yaml": {Data: bytes.Repeat([]byte("b: 2\n"), 500)}}
	a, err := evals.Pack("x", dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := evals.Pack("x", dir)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("two packings differ (%v)", err)
	}
	if len(a) > 600 {
		t.Errorf("%d bytes: what repeats is not packed", len(a))
	}
}

package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Probe finds out whether a store could be opened and written in a directory,
// and how many journals that match a pattern are there. It leaves nothing
// behind, and does not make the directory.
func Probe(dir, pattern string) (journals int, err error) {
	if err := store.CheckPattern(pattern); err != nil {
		return 0, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return 0, err
	}
	at := dir
	for {
		st, err := os.Stat(at)
		if err == nil && !st.IsDir() {
			return 0, fmt.Errorf("%s is not a directory", at)
		}
		if err == nil {
			break
		}
		if up := filepath.Dir(at); errors.Is(err, fs.ErrNotExist) && up != at {
			at = up
			continue
		}
		return 0, err
	}
	// A directory is what is made first.
	temp, err := os.MkdirTemp(at, tempPrefix+"gumshoe-")
	if err != nil {
		return 0, err
	}
	if err := os.Remove(temp); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, journalDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if subject, ok := journalSubject(e.Name()); ok && store.Match(pattern, subject) {
			journals++
		}
	}
	return journals, nil
}

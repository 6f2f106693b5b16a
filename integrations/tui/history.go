package tui

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of the history.
const (
	maxHistory     = 1000
	maxHistoryText = 16 << 10
	maxHistoryFile = 4 << 20
)

// history is what was typed, oldest first, and where the person stands in it. In the
// file each line is one JSON string, so that entries of several lines stay whole.
type history struct {
	file    string
	entries []string
	// at is the entry that is shown; len(entries) is the draft.
	at    int
	draft string
}

// openHistory reads the file; one that cannot be read is an error beside an empty
// history, which then stays in memory.
func openHistory(file string) (*history, error) {
	h := &history{}
	if file == "" {
		return h, nil
	}
	raw, err := readBounded(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, fmt.Errorf("the history of what was typed is not kept: %w", err)
	}
	h.file = file
	h.entries = parseHistory(raw)
	h.at = len(h.entries)
	return h, nil
}

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxHistoryFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", file, maxHistoryFile)
	}
	return os.ReadFile(file)
}

// parseHistory reads entries; lines that are none are passed over.
func parseHistory(raw []byte) []string {
	var out []string
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, maxHistoryFile+1)
	for sc.Scan() {
		var s string
		if json.Unmarshal(sc.Bytes(), &s) == nil && s != "" && len(s) <= maxHistoryText {
			out = append(out, s)
		}
	}
	return out[max(len(out)-maxHistory, 0):]
}

// add keeps an entry, in memory and in the file. A repetition of the last is not kept.
func (h *history) add(s string) error {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > maxHistoryText || len(h.entries) > 0 && h.entries[len(h.entries)-1] == s {
		h.at = len(h.entries)
		return nil
	}
	h.entries = append(h.entries, s)
	over := len(h.entries) > maxHistory
	if over {
		h.entries = slices.Clone(h.entries[len(h.entries)-maxHistory:])
	}
	h.at, h.draft = len(h.entries), ""
	if h.file == "" {
		return nil
	}
	if err := h.write(s); err != nil {
		h.file = ""
		return fmt.Errorf("the history of what was typed is not kept: %w", err)
	}
	return nil
}

// write appends an entry. The file is cut when it has grown to twice what is kept.
func (h *history) write(s string) error {
	if err := os.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return err
	}
	if info, err := os.Stat(h.file); err == nil && info.Size() > maxHistoryFile/2 {
		var b bytes.Buffer
		for _, e := range h.entries {
			line, err := json.Marshal(e)
			if err != nil {
				return err
			}
			b.Write(append(line, '\n'))
		}
		return os.WriteFile(h.file, b.Bytes(), 0o600)
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(h.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// back shows the entry before; what was being typed is the draft that forward returns to.
func (h *history) back(typed string) (string, bool) {
	if h.at == 0 {
		return "", false
	}
	if h.at == len(h.entries) {
		h.draft = typed
	}
	h.at--
	return h.entries[h.at], true
}

// forward shows the entry after, at the end the draft.
func (h *history) forward() (string, bool) {
	if h.at >= len(h.entries) {
		return "", false
	}
	h.at++
	if h.at == len(h.entries) {
		return h.draft, true
	}
	return h.entries[h.at], true
}

// find gives the newest entry before an index that contains a text, and its index.
func (h *history) find(text string, before int) (string, int, bool) {
	text = strings.ToLower(text)
	for i := min(before, len(h.entries)) - 1; i >= 0; i-- {
		if strings.Contains(strings.ToLower(h.entries[i]), text) {
			return h.entries[i], i, true
		}
	}
	return "", 0, false
}

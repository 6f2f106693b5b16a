package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// marks say for each stream how far it came, in a file beside the data of the
// embedded server: when a block of the data is damaged, the server drops what
// stands behind and goes on from there without a word.
type marks map[string]uint64

// checkMarks compares the streams with the marks.
func (s *Store) checkMarks(ctx context.Context) error {
	if s.server == nil {
		return nil
	}
	have, err := s.server.readMarks()
	if err != nil {
		return err
	}
	now, err := s.marks(ctx)
	if err != nil {
		return err
	}
	for stream, seq := range have {
		if at, ours := now[stream]; ours && at < seq {
			return fmt.Errorf("jetstream store %s: %w", s.where, &CorruptError{Subject: "stream " + stream, Seq: at * stride,
				Why: fmt.Sprintf("it was kept up to sequence %d, and what stood behind is lost; restore the directory, or remove %s to go on with what is left", seq*stride, s.server.markPath())})
		}
	}
	return nil
}

// marks gives how far each stream is.
func (s *Store) marks(ctx context.Context) (marks, error) {
	out := marks{}
	for _, stream := range append(s.journals(), s.stream(stateStream)) {
		info, err := s.streamInfo(ctx, stream, "", 0, untilDone)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", stream, err)
		}
		s.clock.set(info.Time)
		out[stream] = info.State.LastSeq
	}
	return out, nil
}

// mark keeps how far the streams are.
func (s *Store) mark(ctx context.Context) error {
	now, err := s.marks(ctx)
	if err != nil || s.server == nil {
		return err
	}
	return s.server.writeMarks(now)
}

func (e *embedded) markPath() string { return filepath.Join(e.dir, markFile) }

func (e *embedded) readMarks() (marks, error) {
	raw, err := os.ReadFile(e.markPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var m marks
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w; remove it to go on without", e.markPath(), err)
	}
	return m, nil
}

// writeMarks replaces the marks of the streams it names, in one step.
func (e *embedded) writeMarks(m marks) error {
	e.marking.Lock()
	defer e.marking.Unlock()
	all, err := e.readMarks()
	if err != nil {
		return err
	}
	if all == nil {
		all = marks{}
	}
	same := true
	for stream, seq := range m {
		same = same && all[stream] == seq
		all[stream] = seq
	}
	if same {
		return nil
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	temp := e.markPath() + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, e.markPath())
}

// markTime bounds the last mark, when the store is closed.
const markTime = 2 * time.Second

package file

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// maxState bounds the files of timers and claims, in bytes.
const maxState = 64 << 20

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".tmp-"

// full says of an error of a write that it was for want of room.
func full(err error) error {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", store.ErrFull, err)
		}
	}
	return err
}

// replace puts a file in its place in one step, so that a reader finds the old
// or the new, and a crash leaves one of them. durable waits for the disk.
func (s *Store) replace(name string, raw []byte, durable bool) error {
	dir := path.Dir(name)
	temp := path.Join(dir, tempPrefix+rand.Text())
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil && durable {
		err = s.cfg.Sync(f)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, s.root.Remove(temp))
	}
	if durable {
		return s.syncDir(dir)
	}
	return nil
}

// readState decodes a file that replace wrote; one that is not there changes
// nothing.
func (s *Store) readState(name string, into any) error {
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("file store %s: %w", s.dir, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("file store %s: %w", s.dir, err)
	}
	if st.Size() > maxState {
		return fmt.Errorf("%s has %d bytes, more than %d; move it away", s.path(name), st.Size(), maxState)
	}
	if err := json.NewDecoder(f).Decode(into); err != nil {
		return fmt.Errorf("%s is damaged: %w; mend it or move it away", s.path(name), err)
	}
	return nil
}

func (s *Store) writeState(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(raw) > maxState {
		return fmt.Errorf("file store %s: %s with %d bytes is %w: at most %d", s.dir, name, len(raw), store.ErrTooLarge, maxState)
	}
	if err := s.replace(name, append(raw, '\n'), true); err != nil {
		return fmt.Errorf("file store %s: %s: %w", s.dir, name, full(err))
	}
	return nil
}

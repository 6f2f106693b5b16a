package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// MaxOutput is the largest output that is kept, in bytes.
const MaxOutput = 64 << 20

// Outputs keeps full outputs of tools under their digest, one file each. An
// output that is kept twice is one file. It is safe for concurrent use.
type Outputs struct {
	ctx context.Context
	s   *Store
}

// Outputs gives the outputs of this directory; ctx bounds the wait for its lock.
func (s *Store) Outputs(ctx context.Context) *Outputs { return &Outputs{ctx: ctx, s: s} }

// outputPath is the file of a digest "sha256:<64 hex digits>".
func outputPath(digest string) (string, error) {
	hexes, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(hexes)
	if !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(hexes) != hexes {
		return "", fmt.Errorf("%w digest %.80q: it is sha256: and 64 hexadecimal digits", store.ErrInvalid, digest)
	}
	return path.Join(outputsDir, hexes), nil
}

func matches(digest string, raw []byte) bool {
	sum := sha256.Sum256(raw)
	return digest == "sha256:"+hex.EncodeToString(sum[:])
}

// Put keeps an output; raw has to be what the digest says. Keeping it again marks
// it as used now.
func (o *Outputs) Put(digest string, raw []byte) error {
	name, err := outputPath(digest)
	if err != nil {
		return err
	}
	if len(raw) > MaxOutput {
		return fmt.Errorf("an output of %d bytes is %w: at most %d", len(raw), store.ErrTooLarge, MaxOutput)
	}
	if !matches(digest, raw) {
		return fmt.Errorf("%w output: its digest is not %s", store.ErrInvalid, digest)
	}
	err = o.s.change(o.ctx, func() error {
		now := o.s.cfg.Now()
		// One of another size was cut off by the loss of power.
		if st, err := o.s.root.Lstat(name); err == nil && st.Mode().IsRegular() && st.Size() == int64(len(raw)) {
			return o.s.root.Chtimes(name, now, now)
		}
		if err := o.s.replace(name, raw, false); err != nil {
			return err
		}
		return o.s.root.Chtimes(name, now, now)
	})
	if err != nil {
		return fmt.Errorf("keep output %s: %w", digest, full(err))
	}
	return nil
}

// Get gives an output; store.ErrNotFound when it is not kept, or no longer. One
// that is damaged on the disk is an error, never what Put was given.
func (o *Outputs) Get(digest string) ([]byte, error) {
	name, err := outputPath(digest)
	if err != nil {
		return nil, err
	}
	f, err := o.s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("output %s is %w, or no longer", digest, store.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", digest, o.s.why(err))
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxOutput+1))
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", digest, err)
	}
	if !matches(digest, raw) {
		return nil, fmt.Errorf("output %s: %s is damaged: its digest differs; remove it", digest, o.s.path(name))
	}
	return raw, nil
}

// staleTemp is after how long a file that was never put in its place is removed.
const staleTemp = time.Hour

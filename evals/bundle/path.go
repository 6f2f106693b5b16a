package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxDepth and maxName bound the paths within an archive, so that making
	// them stays cheap. A bundle's own are at most five deep.
	maxDepth = 16
	maxName  = 1024
	// maxWindow is the zstd window that is decoded, in bytes. pack writes windows
	// of 8 MiB, zstd itself up to this without --ultra levels above 20 or --long.
	maxWindow = 32 << 20
	// maxTail is how much may follow the end mark of an archive, in bytes: tar
	// pads to whole records.
	maxTail = 1 << 20
)

// OpenPath opens a bundle directory or a .tar.zst. closer removes what had to be
// unpacked; it is never nil.
func OpenPath(name string, l Limits) (b *Bundle, closer func() error, err error) {
	closer = func() error { return nil }
	st, err := os.Stat(name)
	if err != nil {
		return nil, closer, fmt.Errorf("bundle %s cannot be read: %w", name, plain(err))
	}
	dir := name
	switch {
	case st.IsDir():
	case !st.Mode().IsRegular() || !strings.HasSuffix(name, ".tar.zst"):
		return nil, closer, fmt.Errorf("bundle %s is neither a directory nor a .tar.zst", name)
	default:
		if dir, err = unpack(name, l); err != nil {
			return nil, closer, fmt.Errorf("bundle %s: %w", name, err)
		}
		closer = func() error { return os.RemoveAll(dir) }
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, func() error { return nil }, errors.Join(fmt.Errorf("bundle %s cannot be read: %w", name, plain(err)), closer())
	}
	inner := closer
	closer = func() error { return errors.Join(root.Close(), inner()) }
	fsys := root.FS()
	if !st.IsDir() {
		fsys, err = inside(fsys)
	}
	if err == nil {
		b, err = Open(fsys, l)
	}
	if err != nil {
		return nil, func() error { return nil }, errors.Join(fmt.Errorf("bundle %s: %w", name, err), closer())
	}
	return b, closer, nil
}

// plain drops the path that an os error repeats.
func plain(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// inside goes into the one directory of an archive that was made from outside
// the bundle (tar -cf x.tar DIR).
func inside(fsys fs.FS) (fs.FS, error) {
	if _, err := fs.Stat(fsys, "bundle.yaml"); err == nil {
		return fsys, nil
	}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	if len(entries) == 1 && entries[0].IsDir() {
		return fs.Sub(fsys, entries[0].Name())
	}
	return fsys, nil
}

// unpack writes an archive into a directory of its own; nothing is left behind
// when it fails.
func unpack(name string, l Limits) (dir string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", plain(err)
	}
	defer f.Close()
	dir, err = os.MkdirTemp("", "gumshoe-bundle-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return dir, err
	}
	defer root.Close()
	return dir, extract(f, root, l)
}

// extract reads a zstd-compressed tar into root and writes nowhere else.
func extract(from io.Reader, root *os.Root, l Limits) error {
	z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	return untar(z, root, l)
}

// untar reads a tar into root and writes nowhere else.
func untar(from io.Reader, root *os.Root, l Limits) error {
	u := unpacker{root: root, l: l, left: l.TotalBytes}
	// Headers and padding count too: a kilobyte a file is more than they need.
	from = &budget{from: from, left: l.TotalBytes + 1024*int64(l.Files) + maxTail, limit: l.TotalBytes}
	r := tar.NewReader(from)
	// Directories are no files, but an endless row of them is no archive either.
	for range 2*l.Files + 1 {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return tail(from)
		}
		if err != nil {
			return damaged("", err)
		}
		if err := u.entry(h, r); err != nil {
			return err
		}
	}
	return fmt.Errorf("the archive has more than %d entries", 2*l.Files)
}

// tail reads what follows the end of an archive: padding, and then the
// checksum, which tells a truncated file.
func tail(z io.Reader) error {
	n, err := io.CopyN(io.Discard, z, maxTail)
	switch {
	case n == maxTail:
		return fmt.Errorf("the archive goes on for more than %d bytes after its end", maxTail)
	case !errors.Is(err, io.EOF):
		return damaged("", err)
	}
	return nil
}

// budget fails once more was unpacked than a bundle may have.
type budget struct {
	from        io.Reader
	left, limit int64
}

// errBudget is told apart from damage.
type errBudget struct{ limit int64 }

// Error implements error.
func (e errBudget) Error() string {
	return fmt.Sprintf("the archive unpacks to more than %d bytes", e.limit)
}

// Read implements io.Reader.
func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBudget{b.limit}
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func damaged(at string, err error) error {
	if at != "" {
		at = " at " + at
	}
	if e, ok := errors.AsType[errBudget](err); ok {
		return e
	}
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch):
		return fmt.Errorf("the file is not compressed with zstd: %w", err)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("the archive wants more than %d bytes of memory to be read: %w", maxWindow, err)
	}
	return fmt.Errorf("the archive is truncated or damaged%s: %w", at, err)
}

// unpacker writes the entries of an archive.
type unpacker struct {
	root *os.Root
	l    Limits
	// files seen, and bytes that may still be written.
	files int
	left  int64
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil // a comment, as git archive writes it
	case tar.TypeDir, tar.TypeReg:
	default:
		return fmt.Errorf("the archive holds %q, which is no regular file; a bundle has no links or devices", h.Name)
	}
	name := path.Clean(strings.TrimPrefix(h.Name, "./"))
	switch {
	case len(h.Name) > maxName || strings.Count(name, "/") >= maxDepth:
		return fmt.Errorf("the archive holds a path of %d bytes and %d parts; a bundle's are shorter", len(h.Name), strings.Count(name, "/")+1)
	case name == "." && h.Typeflag == tar.TypeReg, !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f }):
		return fmt.Errorf("the archive holds %q, which is no name of a file", h.Name)
	case !fs.ValidPath(name):
		return fmt.Errorf("the archive holds %q, which lies outside of it", h.Name)
	case h.Typeflag == tar.TypeDir:
		return nil
	case h.Size > u.l.FileBytes:
		return fmt.Errorf("%s has %d bytes, more than %d", name, h.Size, u.l.FileBytes)
	}
	if u.files++; u.files > u.l.Files {
		return fmt.Errorf("the archive has more than %d files", u.l.Files)
	}
	if u.left -= h.Size; u.left < 0 {
		return fmt.Errorf("the archive unpacks to more than %d bytes", u.l.TotalBytes)
	}
	if err := u.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return fmt.Errorf("the archive holds %q, whose directory is a file as well: %w", h.Name, err)
	}
	out, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the archive holds %q twice: %w", h.Name, err)
	}
	if err != nil {
		return fmt.Errorf("unpack %q: %w", h.Name, err)
	}
	if _, err = io.Copy(out, r); err != nil {
		return errors.Join(damaged(name, err), out.Close())
	}
	return out.Close()
}

// pack writes a directory as a .tar.zst, in a stable order and without owners
// or times.
func pack(dir, out string) (err error) {
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := zstd.NewWriter(f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	w := tar.NewWriter(z)
	defer func() { err = errors.Join(err, w.Close()) }()
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		st, err := in.Stat()
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: st.Size(), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		return err
	})
}

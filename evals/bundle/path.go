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

	"github.com/klauspost/compress/zstd"
)

// OpenPath opens a bundle directory or a .tar.zst. close removes what had to be
// unpacked; it is never nil.
func OpenPath(name string, l Limits) (b *Bundle, closer func() error, err error) {
	closer = func() error { return nil }
	st, err := os.Stat(name)
	if err != nil {
		return nil, closer, fmt.Errorf("bundle %s cannot be read: %w", name, errors.Unwrap(err))
	}
	dir := name
	if !st.IsDir() {
		if !strings.HasSuffix(name, ".tar.zst") {
			return nil, closer, fmt.Errorf("bundle %s is neither a directory nor a .tar.zst", name)
		}
		if dir, err = unpack(name, l); err != nil {
			return nil, closer, fmt.Errorf("bundle %s: %w", name, err)
		}
		closer = func() error { return os.RemoveAll(dir) }
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, closer, errors.Join(fmt.Errorf("bundle %s: %w", name, err), closer())
	}
	inner := closer
	closer = func() error { return errors.Join(root.Close(), inner()) }
	b, err = Open(root.FS(), l)
	if err != nil {
		return nil, func() error { return nil }, errors.Join(fmt.Errorf("bundle %s: %w", name, err), closer())
	}
	return b, closer, nil
}

// unpack writes an archive into a directory of its own; nothing is left behind
// when it fails.
func unpack(name string, l Limits) (dir string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxMemory(uint64(l.FileBytes)+64<<20))
	if err != nil {
		return "", err
	}
	defer z.Close()
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
	var total int64
	r := tar.NewReader(z)
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir, nil
		}
		if err != nil {
			return dir, fmt.Errorf("the archive is truncated or damaged: %w", err)
		}
		clean := path.Clean(strings.TrimPrefix(h.Name, "./"))
		switch {
		case !fs.ValidPath(clean):
			return dir, fmt.Errorf("the archive holds %q, which lies outside of it", h.Name)
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg:
			return dir, fmt.Errorf("the archive holds %q, which is no regular file", h.Name)
		case n >= l.Files:
			return dir, fmt.Errorf("the archive has more than %d files", l.Files)
		case h.Size > l.FileBytes:
			return dir, fmt.Errorf("%s has %d bytes, more than %d", clean, h.Size, l.FileBytes)
		}
		if total += h.Size; total > l.TotalBytes {
			return dir, fmt.Errorf("the archive unpacks to more than %d bytes", l.TotalBytes)
		}
		if err := root.MkdirAll(path.Dir(clean), 0o700); err != nil {
			return dir, err
		}
		out, err := root.OpenFile(clean, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return dir, fmt.Errorf("the archive holds %q twice or in the way of another: %w", h.Name, err)
		}
		_, err = io.Copy(out, io.LimitReader(r, h.Size))
		if err = errors.Join(err, out.Close()); err != nil {
			return dir, fmt.Errorf("the archive is truncated or damaged at %s: %w", clean, err)
		}
	}
}

// pack writes a directory as a .tar.zst, in a stable order and without owners.
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
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(raw)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	})
}

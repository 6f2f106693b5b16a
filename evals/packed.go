package evals

import (
	"archive/zip"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The cases are embedded packed, one file each: the tree itself would be an eighth of
// the binary. One file a case keeps a change of one case to one small file.
//
//go:embed packed
var embedded embed.FS

// packedSuffix ends the name of a packed case: a zip without compression of its own in
// a zstd stream, so that what the many files of a case have in common is kept once.
const packedSuffix = ".zip.zst"

// maxUnpacked bounds one unpacked case, in bytes.
const maxUnpacked = 64 << 20

// Embedded gives the cases that ship with the binary, laid out as evals/cases. A case
// is unpacked when something in it is opened, and stays.
func Embedded() (fs.FS, error) {
	dir, err := fs.Sub(embedded, "packed")
	if err != nil {
		return nil, err
	}
	return openPacked(dir)
}

// Pack packs one case. Paths in it begin with the id. The same files give the same
// bytes, as long as the compressor stays the same.
func Pack(id string, dir fs.FS) ([]byte, error) {
	var plain bytes.Buffer
	z := zip.NewWriter(&plain)
	err := fs.WalkDir(dir, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(dir, p)
		if err != nil {
			return err
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: path.Join(id, p), Method: zip.Store})
		if err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	})
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("pack case %s: %w", id, err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("pack case %s: %w", id, err)
	}
	return enc.EncodeAll(plain.Bytes(), nil), nil
}

// packed is a directory of packed cases as the tree they were packed from. It is safe
// for concurrent use.
type packed struct {
	ids   []string
	cases map[string]func() (fs.FS, error)
}

var _ fs.FS = (*packed)(nil)

func openPacked(dir fs.FS) (*packed, error) {
	files, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read packed cases: %w", err)
	}
	p := &packed{cases: map[string]func() (fs.FS, error){}}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), packedSuffix)
		if !ok {
			continue
		}
		p.ids = append(p.ids, id)
		p.cases[id] = sync.OnceValues(func() (fs.FS, error) { return unpack(dir, f.Name()) })
	}
	slices.Sort(p.ids)
	return p, nil
}

func unpack(dir fs.FS, name string) (fs.FS, error) {
	raw, err := fs.ReadFile(dir, name)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(raw, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	z, err := zip.NewReader(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return z, nil
}

// Open implements fs.FS.
func (p *packed) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return &packedRoot{ids: p.ids}, nil
	}
	id, _, _ := strings.Cut(name, "/")
	open, ok := p.cases[id]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	one, err := open()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return one.Open(name)
}

// packedRoot is the directory of all cases, opened.
type packedRoot struct {
	ids []string
	at  int
}

var _ fs.ReadDirFile = (*packedRoot)(nil)

// Stat implements fs.File.
func (r *packedRoot) Stat() (fs.FileInfo, error) { return packedDir("."), nil }

// Read implements fs.File.
func (r *packedRoot) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: errors.New("is a directory")}
}

// Close implements fs.File.
func (r *packedRoot) Close() error { return nil }

// ReadDir implements fs.ReadDirFile.
func (r *packedRoot) ReadDir(n int) ([]fs.DirEntry, error) {
	left := r.ids[r.at:]
	if n > 0 {
		if len(left) == 0 {
			return nil, io.EOF
		}
		left = left[:min(n, len(left))]
	}
	r.at += len(left)
	out := make([]fs.DirEntry, 0, len(left))
	for _, id := range left {
		out = append(out, fs.FileInfoToDirEntry(packedDir(id)))
	}
	return out, nil
}

// packedDir is a directory by its name.
type packedDir string

var _ fs.FileInfo = packedDir("")

// Name implements fs.FileInfo.
func (d packedDir) Name() string { return string(d) }

// Size implements fs.FileInfo.
func (packedDir) Size() int64 { return 0 }

// Mode implements fs.FileInfo.
func (packedDir) Mode() fs.FileMode { return fs.ModeDir | 0o555 }

// ModTime implements fs.FileInfo: packed cases keep no times.
func (packedDir) ModTime() time.Time { return time.Time{} }

// IsDir implements fs.FileInfo.
func (packedDir) IsDir() bool { return true }

// Sys implements fs.FileInfo.
func (packedDir) Sys() any { return nil }

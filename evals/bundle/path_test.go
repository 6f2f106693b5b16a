package bundle

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// entry of a tar that a test makes.
type entry struct {
	tar.Header
	body string
}

func reg(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(body)), Mode: 0o600}, body}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compressed(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// opened writes an archive into a directory of its own, opens it, and fails
// when anything beside it appears there or stays in the directory for
// temporary files.
func opened(t *testing.T, raw []byte, l Limits) (*Bundle, error) {
	t.Helper()
	outer := t.TempDir()
	tmp, home := filepath.Join(outer, "tmp"), filepath.Join(outer, "home")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	name := filepath.Join(home, "x.tar.zst")
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	b, closer, err := OpenPath(name, l)
	if err == nil {
		for _, u := range b.Objects {
			if u.GetName() == "" {
				t.Error("an object without a name")
			}
		}
	}
	if cerr := closer(); cerr != nil {
		t.Error(cerr)
	}
	for dir, want := range map[string]int{tmp: 0, home: 1, outer: 2} {
		left, rerr := os.ReadDir(dir)
		if rerr != nil || len(left) != want {
			t.Errorf("%s holds %v %v", dir, left, rerr)
		}
	}
	return b, err
}

// TestArchives does not run in parallel with others: it has a TMPDIR of its own.
func TestArchives(t *testing.T) {
	manifest, object := reg("bundle.yaml", header), reg("objects/a.yaml", pod("a"))
	for name, entries := range map[string][]entry{
		"plain":            {manifest, object},
		"with ./":          {{tar.Header{Name: "./", Typeflag: tar.TypeDir}, ""}, reg("./bundle.yaml", header), reg("./objects/a.yaml", pod("a"))},
		"with directories": {manifest, {tar.Header{Name: "objects/", Typeflag: tar.TypeDir}, ""}, object},
		"from outside":     {reg("my/bundle.yaml", header), reg("my/objects/a.yaml", pod("a"))},
		"of git":           {{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "abc"}}, ""}, manifest, object},
		"with a long name": {manifest, object, reg("metrics/"+strings.Repeat("x", 200), "")},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := opened(t, compressed(t, tarOf(t, entries...)), DefaultLimits())
			if err != nil || len(b.Objects) != 1 {
				t.Errorf("%v %v", b, err)
			}
		})
	}
}

func TestHostileArchives(t *testing.T) {
	manifest := reg("bundle.yaml", header)
	good := compressed(t, tarOf(t, manifest, reg("objects/a.yaml", pod("a")), reg("metrics/x", strings.Repeat("0123456789", 100_000))))
	link := func(kind byte, name, to string) entry {
		return entry{tar.Header{Name: name, Typeflag: kind, Linkname: to}, ""}
	}
	small := Limits{FileBytes: 1 << 20, TotalBytes: 3 << 20, Files: 50, Objects: 100, ObjectBytes: 1 << 20, DocumentBytes: 1 << 20}
	var dirs, files, pax []entry
	for i := range 200 {
		dirs = append(dirs, entry{tar.Header{Name: fmt.Sprintf("d%d/", i), Typeflag: tar.TypeDir}, ""})
		files = append(files, reg(fmt.Sprintf("metrics/%d", i), ""))
		pax = append(pax, entry{tar.Header{Name: "a", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"X.y": strings.Repeat("z", 900_000)}}, ""})
	}
	zeros := strings.Repeat("\x00", 1<<20)
	for name, c := range map[string]struct {
		raw  []byte
		says string
	}{
		"no zstd":               {[]byte("PK\x03\x04 this is no zstd"), "the file is not compressed with zstd"},
		"a plain tar":           {tarOf(t, manifest), "the file is not compressed with zstd"},
		"nothing":               {nil, "this is no bundle: it has no bundle.yaml"},
		"no tar":                {compressed(t, []byte(strings.Repeat("hello ", 1000))), "the archive is truncated or damaged"},
		"no bundle":             {compressed(t, tarOf(t, reg("x", "y"))), "this is no bundle: it has no bundle.yaml"},
		"half of it":            {good[:len(good)/2], "the archive is truncated or damaged"},
		"all but its end":       {good[:len(good)-3], "the archive is truncated or damaged"},
		"a bit is wrong":        {flip(good, len(good)/3), "the archive is truncated or damaged"},
		"the checksum is wrong": {flip(good, len(good)-2), "the archive is truncated or damaged"},
		"truncated in a file":   {compressed(t, tarOf(t, manifest, reg("metrics/x", strings.Repeat("x", 5000)))[:3000]), "the archive is truncated or damaged at metrics/x"},
		"goes on after its end": {compressed(t, append(tarOf(t, manifest), strings.Repeat("x", 2<<20)...)), "goes on for more than 1048576 bytes after its end"},
		"up":                    {compressed(t, tarOf(t, manifest, reg("../evil", "x"))), `the archive holds "../evil", which lies outside of it`},
		"up from within":        {compressed(t, tarOf(t, manifest, reg("objects/../../evil", "x"))), "which lies outside of it"},
		"from the root":         {compressed(t, tarOf(t, manifest, reg("/tmp/evil", "x"))), `the archive holds "/tmp/evil", which lies outside of it`},
		"up a directory":        {compressed(t, tarOf(t, manifest, entry{tar.Header{Name: "../evil/", Typeflag: tar.TypeDir}, ""})), "which lies outside of it"},
		"up the Windows way":    {compressed(t, tarOf(t, manifest, reg(`..\evil`, "x"))), "which is no name of a file"},
		"a symlink":             {compressed(t, tarOf(t, manifest, link(tar.TypeSymlink, "objects", "/"), reg("objects/etc/passwd", "x"))), `the archive holds "objects", which is no regular file`},
		"a hard link":           {compressed(t, tarOf(t, manifest, link(tar.TypeLink, "objects/a.yaml", "bundle.yaml"))), "which is no regular file"},
		"a device":              {compressed(t, tarOf(t, manifest, link(tar.TypeChar, "null", ""))), "which is no regular file"},
		"a pipe":                {compressed(t, tarOf(t, manifest, link(tar.TypeFifo, "bundle.pipe", ""))), "which is no regular file"},
		"a file twice":          {compressed(t, tarOf(t, manifest, manifest)), `the archive holds "bundle.yaml" twice`},
		"a file in a file":      {compressed(t, tarOf(t, manifest, reg("bundle.yaml/x", "x"))), "whose directory is a file as well"},
		"a NUL in a name":       {compressed(t, bytes.Replace(tarOf(t, manifest, reg("metrics/aXb/c", "")), []byte("aXb"), []byte("a\x01b"), 1)), "truncated or damaged"},
		"a newline in a name":   {compressed(t, tarOf(t, manifest, reg("metrics/a\nb", ""))), "which is no name of a file"},
		"no UTF-8 in a name":    {compressed(t, tarOf(t, manifest, entry{tar.Header{Name: "metrics/\xff\xfe", Typeflag: tar.TypeReg, Format: tar.FormatGNU}, ""})), "which is no name of a file"},
		"a deep path":           {compressed(t, tarOf(t, manifest, reg(strings.Repeat("a/", 400)+"b", ""))), "the archive holds a path of 801 bytes and 401 parts"},
		"a long path":           {compressed(t, tarOf(t, manifest, reg("metrics/"+strings.Repeat("a", 100_000), ""))), "the archive holds a path of 100008 bytes"},
		"the root as a file":    {compressed(t, tarOf(t, manifest, reg(".", "x"))), `the archive holds ".", which is no name of a file`},
		"a file too large":      {compressed(t, tarOf(t, manifest, reg("metrics/x", zeros+"1"))), "metrics/x has 1048577 bytes, more than 1048576"},
		"too much together":     {compressed(t, tarOf(t, manifest, reg("metrics/a", zeros), reg("metrics/b", zeros), reg("metrics/c", zeros))), "the archive unpacks to more than 3145728 bytes"},
		"too many files":        {compressed(t, tarOf(t, append([]entry{manifest}, files...)...)), "the archive has more than 50 files"},
		"too many directories":  {compressed(t, tarOf(t, append([]entry{manifest}, dirs...)...)), "the archive has more than 100 entries"},
		"a bomb of headers":     {compressed(t, tarOf(t, append([]entry{manifest}, pax...)...)), "the archive unpacks to more than 3145728 bytes"},
		"a bomb of zeros":       {compressed(t, bytes.Repeat([]byte(zeros), 64)), "goes on for more than"},
		"a window of 2 GiB":     {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00}, "wants more than 33554432 bytes of memory"},
		"a hostile object":      {compressed(t, tarOf(t, manifest, reg("objects/a.yaml", "a: &a b\nc: *a\n"))), "objects/a.yaml:2: YAML anchors with aliases"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := opened(t, c.raw, small)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %s", err, c.says)
			}
		})
	}
}

func flip(raw []byte, at int) []byte {
	out := bytes.Clone(raw)
	out[at] ^= 0x41
	return out
}

// TestSparse: a sparse file counts by the size it has when it is written out.
func TestSparse(t *testing.T) {
	// An old GNU sparse header: one byte at the end of 1 TiB of nothing.
	h := make([]byte, 512)
	copy(h, "metrics/x")
	copy(h[100:], "0000600\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], "00000000000\x0000000000000\x00")
	h[483] = 0x80
	h[483+7] = 1 // 2^32 bytes, in base 256
	sum := 8 * int(' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	_, err := opened(t, compressed(t, append(tarOf(t, reg("bundle.yaml", header))[:1024], append(h, make([]byte, 1024)...)...)), DefaultLimits())
	if err == nil {
		t.Error("a sparse file of 4 GiB is taken")
	}
}

func TestPackIsStable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"objects/b.yaml", "objects/a.yaml", "bundle.yaml"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	var packed [2][]byte
	for i := range packed {
		out := filepath.Join(t.TempDir(), "x.tar.zst")
		if err := pack(dir, out); err != nil {
			t.Fatal(err)
		}
		if err := pack(dir, out); err == nil {
			t.Error("an archive is written over")
		}
		packed[i], _ = os.ReadFile(out)
	}
	if !bytes.Equal(packed[0], packed[1]) || len(packed[0]) == 0 {
		t.Error("the same directory packs differently")
	}
}

// FuzzUnpack takes any tar. Nothing is written but plain files beneath the root.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, reg("bundle.yaml", header), reg("objects/a.yaml", pod("a"))), false)
	f.Add(tarOf(f, reg("../x", "y")), false)
	f.Add(tarOf(f, entry{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, ""}, reg("l/x", "y")), false)
	f.Add(tarOf(f, entry{tar.Header{Name: "a", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"path": "../../x"}}, ""}), false)
	f.Add(compressed(f, tarOf(f, reg("bundle.yaml", header))), true)
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00}, true)
	l := Limits{FileBytes: 1 << 16, TotalBytes: 1 << 18, Files: 20, Objects: 20, ObjectBytes: 1 << 16, DocumentBytes: 1 << 14}
	f.Fuzz(func(t *testing.T, raw []byte, isZstd bool) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		read := untar
		if isZstd {
			read = extract
		}
		xerr := read(bytes.NewReader(raw), root, l)
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Errorf("beside the root: %v %v", entries, err)
		}
		var total int64
		files := 0
		err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s is %v %v", p, d.Type(), err)
				return err
			}
			total += info.Size()
			files++
			return nil
		})
		if err != nil || total > l.TotalBytes || files > l.Files {
			t.Errorf("%d bytes in %d files, %v", total, files, err)
		}
		if xerr == nil {
			_, _ = Open(root.FS(), l)
		}
	})
}

// FuzzOpen takes any manifest, object file and name of a file.
func FuzzOpen(f *testing.F) {
	for _, c := range bad() {
		for name, text := range c.files {
			if len(text) > 10_000 {
				continue
			}
			if name == "bundle.yaml" {
				f.Add([]byte(text), []byte(pod("a")), "objects/a.yaml")
			} else {
				f.Add([]byte(header), []byte(text), name)
			}
		}
	}
	f.Add([]byte(header), []byte(pod("a")+"---\n...\n--- {a: b}\n"), "objects/a.yml")
	l := Limits{FileBytes: 1 << 20, TotalBytes: 1 << 20, Files: 20, Objects: 1000, ObjectBytes: 1 << 20, DocumentBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, manifest, object []byte, name string) {
		if !fs.ValidPath(name) || name == "." || name == "bundle.yaml" || strings.HasPrefix(name, "bundle.yaml/") {
			return
		}
		b, err := Open(tree(map[string]string{"bundle.yaml": string(manifest), name: string(object)}), l)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, u := range b.Objects {
			id := u.GetAPIVersion() + "|" + u.GetKind() + "|" + u.GetNamespace() + "|" + u.GetName()
			if u.GetName() == "" || u.GetKind() == "" || u.GetAPIVersion() == "" || seen[id] || strings.ContainsAny(u.GetName()+u.GetNamespace(), "/\x00\n") {
				t.Errorf("an object %q", id)
			}
			seen[id] = true
		}
		var out bytes.Buffer
		s := Inspect(b)
		if err := s.WriteText(&out); err != nil || strings.ContainsAny(out.String(), "\x1b\x00\r") {
			t.Errorf("%q %v", out.String(), err)
		}
	})
}

// FuzzLogPath asks for a log by any name: what is read lies beneath logs/.
func FuzzLogPath(f *testing.F) {
	f.Add("shop", "a", "m", false)
	f.Add("..", "..", "..", true)
	f.Add("shop/a", "", "m\x00", false)
	f.Add(".", "shop", "a/m", false)
	dir := f.TempDir()
	for name, text := range map[string]string{"bundle.yaml": header, "logs/shop/a/m.log": "log", "secret.log": "no"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, "b", name)), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "b", name), []byte(text), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	root, err := os.OpenRoot(filepath.Join(dir, "b"))
	if err != nil {
		f.Fatal(err)
	}
	b := &Bundle{fsys: root.FS()}
	f.Fuzz(func(t *testing.T, ns, pod, container string, previous bool) {
		r, err := b.Log(ns, pod, container, previous)
		if err != nil {
			return
		}
		defer r.Close()
		if raw, err := io.ReadAll(r); err != nil || string(raw) != "log" || ns != "shop" || pod != "a" || container != "m" || previous {
			t.Errorf("log of %q %q %q is %q %v", ns, pod, container, raw, err)
		}
	})
}

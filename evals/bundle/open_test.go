package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

const header = "formatVersion: 1\ncaptured: \"2026-03-01T12:00:00Z\"\n"

// tree is a bundle of files, with a bundle.yaml of its own where none is given.
func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{"bundle.yaml": {Data: []byte(header)}}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func pod(name string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: shop}\n"
}

func TestOpen(t *testing.T) {
	t.Parallel()
	b, err := Open(tree(map[string]string{
		"objects/shop/a.yaml": "# a comment\n%YAML 1.1\n---\n" + pod("a") + "---\n\n---\n# nothing\n--- # and\n" + pod("b") + "...\n" + pod("c"),
		"objects/shop/b.yml":  "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: d, namespace: shop}}\n",
		"objects/c.json":      `{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"e","namespace":"shop"},"spec":{"priority":3,"x":1.5}}]}`,
		"objects/empty.yaml":  "",
		"objects/.swp":        "\x00",
		"logs/shop/a/m.log":   "now\n", "logs/shop/a/m.previous.log": "before\n",
		"metrics/a.om": "", "rules/a.yaml": "", "nodes/n/nvml.json": "{}", "cloud/aws/x.json": "{}", "alerts.json": "[]", "flows.jsonl": "",
		"README.md": "hello", "NOTES": "", "notes.txt": "", ".DS_Store": "", ".git/config": "",
	}), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range b.Objects {
		got = append(got, u.GetKind()+" "+u.GetAPIVersion()+" "+u.GetNamespace()+"/"+u.GetName())
	}
	if want := "Pod v1 shop/e|Pod v1 shop/a|Pod v1 shop/b|Pod v1 shop/c|Pod v1 shop/d"; strings.Join(got, "|") != want {
		t.Errorf("objects %v", got)
	}
	spec, _ := b.Objects[0].Object["spec"].(map[string]any)
	if spec["priority"] != int64(3) || spec["x"] != 1.5 {
		t.Errorf("numbers are %T and %T", spec["priority"], spec["x"])
	}
	if b.Clock().Format("2006-01-02 15:04") != "2026-03-01 12:00" || !b.HasNamespace("any") {
		t.Errorf("clock %s", b.Clock())
	}
	if raw, err := fs.ReadFile(b.FS(), "nodes/n/nvml.json"); err != nil || string(raw) != "{}" {
		t.Errorf("the places of other sources: %q %v", raw, err)
	}
	for _, c := range []struct {
		pod      string
		previous bool
		want     string
	}{{"a", false, "now\n"}, {"a", true, "before\n"}} {
		f, err := b.Log("shop", c.pod, "m", c.previous)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(f)
		if string(raw) != c.want {
			t.Errorf("log %q", raw)
		}
		_ = f.Close()
	}
}

func TestLogNames(t *testing.T) {
	t.Parallel()
	b, err := Open(tree(map[string]string{"logs/shop/a/m.log": "x"}), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{{"shop", "a", "none"}, {"", "a", "m"}, {"shop", "", "m"}, {"shop", "a", ""}, {"..", "shop", "m"}, {".", "shop", "m"}, {"shop", "../shop", "m"}, {"shop", "a", "../m"}, {"shop", "a", "m\x00"}, {"shop", `a\b`, "m"}, {"/shop", "a", "m"}, {"shop", "a/m", "m"}, {"sh\xffop", "a", "m"}} {
		if f, err := b.Log(c[0], c[1], c[2], false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("log of %q: %v %v", c, f, err)
		}
	}
}

// bad are bundles that must be refused, with words of the refusal.
func bad() map[string]struct {
	files map[string]string
	says  string
} {
	type c = struct {
		files map[string]string
		says  string
	}
	f := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", 'b'+i, 'b'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i)
	}
	return map[string]c{
		"an empty manifest":           {f("bundle.yaml", ""), "bundle.yaml: formatVersion 0; this gumshoe reads 1"},
		"a newer format":              {f("bundle.yaml", "formatVersion: 2\nshape: new\n"), "bundle.yaml: formatVersion 2 is newer than this gumshoe reads (1): use a newer gumshoe"},
		"an odd format":               {f("bundle.yaml", "formatVersion: one\n"), "bundle.yaml:1: "},
		"no time":                     {f("bundle.yaml", "formatVersion: 1\n"), "bundle.yaml: captured is required"},
		"no such time":                {f("bundle.yaml", "formatVersion: 1\ncaptured: yesterday\n"), "bundle.yaml:1: "},
		"an unknown field":            {f("bundle.yaml", header+"color: red\n"), `unknown field "color"`},
		"a broken manifest":           {f("bundle.yaml", header+"\ta: b\n"), "bundle.yaml:3: "},
		"a binary manifest":           {f("bundle.yaml", "\x00\x01\x02"), "bundle.yaml:1: control characters are not allowed"},
		"a manifest that is a list":   {f("bundle.yaml", "[1]"), "bundle.yaml:1: "},
		"a manifest with aliases":     {f("bundle.yaml", header+"cluster: &a x\nserverVersion: *a\n"), "bundle.yaml:4: YAML anchors with aliases"},
		"a resource without a plural": {f("bundle.yaml", header+"resources:\n- {version: v1, kind: Pod}\n"), "bundle.yaml: resources[0].plural is required"},
		"a resource that is a path":   {f("bundle.yaml", header+"resources:\n- {version: v1, kind: Pod, plural: ../pods}\n"), `bundle.yaml: resources[0]: "../pods" is no name of an API`},
		"a right to nothing":          {f("bundle.yaml", header+"denied:\n- {verb: get}\n"), "bundle.yaml: denied[0]: verb and resource are required"},
		"left out nothing":            {f("bundle.yaml", header+"leftOut:\n- {why: x}\n"), "bundle.yaml: leftOut[0].what is required"},
		"left out with a success":     {f("bundle.yaml", header+"leftOut:\n- {what: pods, why: x, code: 200}\n"), "bundle.yaml: leftOut[0].code 200 is no HTTP error status"},
		"a namespace without a name":  {f("bundle.yaml", header+"namespaces: [a, '']\n"), "bundle.yaml: namespaces[1] is empty"},
		"a misspelt directory":        {f("object/a.yaml", pod("a")), "object/a.yaml: a bundle has no such place; it has bundle.yaml, objects/, logs/"},
		"a misspelt file":             {f("alert.json", "[]"), "alert.json: a bundle has no such place"},
		"objects beside":              {f("objects", pod("a")), "objects: objects are in"},
		"objects of no form":          {f("objects/a.yalm", pod("a")), "objects/a.yalm: objects are in .yaml, .yml or .json files"},
		"a log too high":              {f("logs/shop/a.log", ""), "logs/shop/a.log: a log lies at logs/NAMESPACE/POD/CONTAINER.log"},
		"a log too deep":              {f("logs/a/b/c/d.log", ""), "a log lies at"},
		"a log by another name":       {f("logs/a/b/c.txt", ""), "a log lies at"},
		"a file for metrics":          {f("metrics", ""), "metrics: a bundle has no such place"},
		"broken YAML":                 {f("objects/a.yaml", pod("a")+"---\n"+pod("b")+"spec:\n\t- x\n"), "objects/a.yaml:9: "},
		"YAML that ends too soon":     {f("objects/a.yaml", pod("a")+"---\nspec: {a: [b\n"), "objects/a.yaml:5: "},
		"a key twice":                 {f("objects/a.yaml", "\n\n"+pod("a")+"kind: Node\n"), `objects/a.yaml:6: key "kind" already set in map`},
		"no object":                   {f("objects/a.yaml", "just words\n"), "objects/a.yaml:1: the document is no object"},
		"a list":                      {f("objects/a.yaml", "- a\n"), "objects/a.yaml:1: the document is no object"},
		"no kind":                     {f("objects/a.yaml", pod("a")+"---\napiVersion: v1\nmetadata: {name: x}\n"), "objects/a.yaml:4: apiVersion, kind and metadata.name are required"},
		"no name":                     {f("objects/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {}\n"), "apiVersion, kind and metadata.name are required"},
		"no name in a list":           {f("objects/a.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod}\n"), "objects/a.yaml:1: items[1]: apiVersion, kind and metadata.name are required"},
		"words in a list":             {f("objects/a.yaml", "apiVersion: v1\nkind: List\nitems: [a]\n"), "objects/a.yaml:1: items[0] is no object"},
		"an apiVersion of three":      {f("objects/a.yaml", "apiVersion: a/b/c\nkind: Pod\nmetadata: {name: a}\n"), `apiVersion "a/b/c" is neither VERSION nor GROUP/VERSION`},
		"a name that is a path":       {f("objects/a.yaml", pod("../../etc/passwd")), `"../../etc/passwd" is no name of an object`},
		"a name with a NUL":           {f("objects/a.yaml", pod(`"a\0b"`)), "is no name of an object"},
		"a namespace that is a path":  {f("objects/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: a/b}\n"), `"a/b" is no name of an object`},
		"a number for a name":         {f("objects/a.yaml", pod("7")), "apiVersion, kind and metadata.name are required"},
		"a bool for a namespace":      {f("objects/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\n"), "metadata.namespace is bool, not a string; quote it"},
		"a number for a label":        {f("objects/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {b: 1}}\n"), "metadata.labels.b is int64, not a string; quote it"},
		"words for annotations":       {f("objects/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: b}\n"), "metadata.annotations is no object"},
		"no time of creation":         {f("objects/a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, creationTimestamp: now}\n"), `metadata.creationTimestamp "now" is no time`},
		"an object twice":             {f("objects/a.yaml", pod("a"), "objects/b.yaml", pod("b")+"---\n"+pod("a")), "objects/b.yaml:4: Pod shop/a is in the bundle already, at objects/a.yaml:1"},
		"a NUL":                       {f("objects/a.yaml", "a: \x00\n"), "objects/a.yaml:1: control characters are not allowed"},
		"no UTF-8":                    {f("objects/a.yaml", pod("a")+"x: \xff\xfe\xfd\n"), "objects/a.yaml:"},
		"a bomb of aliases":           {f("objects/a.yaml", bomb), "objects/a.yaml:2: YAML anchors with aliases"},
		"a bomb of one long alias":    {f("objects/a.yaml", "a: &a "+strings.Repeat("x", 1<<20)+"\nb: ["+strings.Repeat("*a,", 100_000)+"]\n"), "objects/a.yaml:2: YAML anchors with aliases"},
		"a merge key":                 {f("objects/a.yaml", "a: &a {b: c}\nd:\n  <<: *a\n"), "objects/a.yaml:3: YAML anchors with aliases"},
		"an alias to itself":          {f("objects/a.yaml", "a: &a [*a]\n"), "objects/a.yaml:1: "},
		"deep flow":                   {f("objects/a.yaml", "a: "+strings.Repeat("[", 100_000)), "exceeded max depth"},
		"deep flow of maps":           {f("objects/a.yaml", strings.Repeat("{a: ", 50_000)+"1"+strings.Repeat("}", 50_000)), "exceeded max depth"},
		"deep blocks":                 {f("objects/a.yaml", strings.Repeat("- ", 100_000)), "exceeded max depth"},
		"deep JSON":                   {f("objects/a.json", strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000)), "exceeded max depth"},
		"a document too large":        {f("objects/a.yaml", pod("a")+"---\n"+pod("b")+"x: "+strings.Repeat("y", 9<<20)), "objects/a.yaml:4: the document has"},
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range bad() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := Open(tree(c.files), DefaultLimits())
			if err == nil {
				t.Fatalf("opened with %d objects", len(b.Objects))
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
				t.Errorf("says %q, want %q", err, c.says)
			}
		})
	}
	if _, err := Open(fstest.MapFS{"objects/a.yaml": {}}, DefaultLimits()); err == nil || !strings.Contains(err.Error(), "this is no bundle: it has no bundle.yaml") {
		t.Errorf("without a bundle.yaml: %v", err)
	}
}

func TestOpenLimits(t *testing.T) {
	t.Parallel()
	small := Limits{FileBytes: 200, TotalBytes: 500, Files: 4, Objects: 3, ObjectBytes: 300, DocumentBytes: 100}
	for says, files := range map[string]map[string]string{
		"objects/a.yaml has 201 bytes, more than 200": {"objects/a.yaml": strings.Repeat("#", 201)},
		"the bundle has more than 500 bytes":          {"metrics/a": strings.Repeat("#", 200), "metrics/b": strings.Repeat("#", 200), "metrics/c": strings.Repeat("#", 200)},
		"objects/ has more than 300 bytes":            {"objects/a.yaml": strings.Repeat("#", 160), "objects/b.yaml": strings.Repeat("#", 160)},
		"the bundle has more than 4 files":            {"metrics/a": "", "metrics/b": "", "metrics/c": "", "metrics/d": ""},
		"the bundle has more than 4 directories":      {"metrics/a/b/c/d/e/f": ""},
		"the document has 101 bytes, more than 100":   {"objects/a.yaml": strings.Repeat("#", 101)},
		"the bundle has more than 3 objects":          {"objects/a.json": `{"kind":"NList","apiVersion":"v","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}},{"metadata":{"name":"c"}},{"metadata":{"name":"d"}}]}`},
	} {
		l := small
		if strings.Contains(says, "objects") && !strings.Contains(says, "bytes") {
			l.DocumentBytes = 1000
		}
		if _, err := Open(tree(files), l); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
	if _, err := Open(tree(map[string]string{"bundle.yaml": header + "#" + strings.Repeat("x", 5<<20)}), DefaultLimits()); err == nil || !strings.Contains(err.Error(), "bundle.yaml: more than 4194304 bytes") {
		t.Errorf("a manifest of 5 MiB: %v", err)
	}
	// A file that grows while it is read.
	if _, err := readLimited(growing{}, "x", 1000); err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Errorf("a file without an end: %v", err)
	}
}

// growing is a file system whose one file has no end.
type growing struct{}

func (growing) Open(string) (fs.File, error) { return endless{}, nil }

type endless struct{ fs.File }

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }
func (endless) Close() error               { return nil }

// TestOpenDirectory has what only a real directory can hold.
func TestOpenDirectory(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string]string{"bundle.yaml": header, "objects/shop/a.yaml": pod("a"), "logs/shop/a/m.log": "x\n"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	refused := func(t *testing.T, name, says string) {
		t.Helper()
		_, closer, err := OpenPath(name, DefaultLimits())
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
		if err := closer(); err != nil {
			t.Error(err)
		}
	}
	t.Run("a good one", func(t *testing.T) {
		t.Parallel()
		b, closer, err := OpenPath(write(t), DefaultLimits())
		if err != nil || len(b.Objects) != 1 {
			t.Fatalf("%v %v", b, err)
		}
		if err := closer(); err != nil {
			t.Error(err)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		refused(t, filepath.Join(t.TempDir(), "none"), "none cannot be read: no such file or directory")
		refused(t, "", "cannot be read")
		refused(t, t.TempDir(), "this is no bundle: it has no bundle.yaml")
	})
	t.Run("a file", func(t *testing.T) {
		t.Parallel()
		refused(t, filepath.Join(write(t), "bundle.yaml"), "is neither a directory nor a .tar.zst")
	})
	t.Run("unreadable", func(t *testing.T) {
		t.Parallel()
		dir := write(t)
		if err := os.Chmod(filepath.Join(dir, "objects/shop/a.yaml"), 0); err != nil {
			t.Fatal(err)
		}
		if f, err := os.Open(filepath.Join(dir, "objects/shop/a.yaml")); err == nil {
			_ = f.Close()
			t.Skip("this user reads everything")
		}
		refused(t, dir, "objects/shop/a.yaml: ")
	})
	for name, link := range map[string]func(string) error{
		"a link out":            func(at string) error { return os.Symlink("/etc/passwd", at) },
		"a link within":         func(at string) error { return os.Symlink("../objects/shop/a.yaml", at) },
		"a link to nothing":     func(at string) error { return os.Symlink("nowhere", at) },
		"a link to a directory": func(at string) error { return os.Symlink("/", at) },
		"a pipe":                func(at string) error { return syscall.Mkfifo(at, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t)
			if err := link(filepath.Join(dir, "objects", "x.yaml")); err != nil {
				t.Skip(err)
			}
			refused(t, dir, "objects/x.yaml is no regular file; a bundle has no links or devices")
			dir = write(t)
			if err := errors.Join(os.Remove(filepath.Join(dir, "bundle.yaml")), link(filepath.Join(dir, "bundle.yaml"))); err != nil {
				t.Skip(err)
			}
			refused(t, dir, "bundle.yaml")
			dir = write(t)
			if err := errors.Join(os.RemoveAll(filepath.Join(dir, "logs")), link(filepath.Join(dir, "logs"))); err != nil {
				t.Skip(err)
			}
			refused(t, dir, "logs is no regular file")
		})
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	b, err := Open(tree(map[string]string{
		"bundle.yaml":       header + "cluster: \"prod\\x1b[31m\"\nserverVersion: v1.37.2\nnamespaces: [shop]\nacross: [resourceclaims.resource.k8s.io]\nleftOut:\n- {what: leases, namespace: shop, why: \"no\\nway\"}\ndenied:\n- {verb: list, group: apps, resource: deployments, namespace: shop}\n- {verb: '*', resource: nodes}\n",
		"objects/a.yaml":    pod("a") + "---\n" + pod("b") + "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\n",
		"logs/shop/a/m.log": "x", "logs/shop/a/.m.log.swp": "x", "metrics/a": "", "nodes/x/nvml.json": "", "README.md": "x",
	}), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	s := Inspect(b)
	if s.Objects != 3 || s.Kinds["Pod"] != 2 || s.Logs != 1 || strings.Join(s.Places, " ") != "metrics nodes" || strings.Join(s.Namespaces, " ") != "shop" || s.Bytes == 0 {
		t.Errorf("%+v", s)
	}
	var out bytes.Buffer
	if err := s.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	want := `cluster     prod?[31m v1.37.2
captured    2026-03-01T12:00:00Z
limited to  shop
and of all  resourceclaims.resource.k8s.io
namespaces  shop
objects     3: 1 Node, 2 Pod
logs        1
size        ` + fmt.Sprint(s.Bytes) + ` bytes
also holds  metrics, nodes
left out    leases in shop: no?way
denied      list deployments.apps in namespace shop
denied      * nodes everywhere
`
	if out.String() != want {
		t.Errorf("writes\n%s\nwant\n%s", out.String(), want)
	}
	if err := s.WriteText(full{}); err == nil {
		t.Error("a full disk is no error")
	}
}

// full is a disk that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

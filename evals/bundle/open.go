package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Limits bound what Open reads, against hostile bundles. Sizes are in bytes.
type Limits struct {
	FileBytes  int64
	TotalBytes int64
	Files      int
	Objects    int
	// ObjectBytes bounds the files beneath objects/ together: they are held in memory.
	ObjectBytes int64
	// DocumentBytes bounds one YAML document. etcd takes no object beyond about
	// 1.5 MiB (its --max-request-bytes).
	DocumentBytes int64
}

// DefaultLimits fit a capture of a large cluster.
func DefaultLimits() Limits {
	return Limits{FileBytes: 256 << 20, TotalBytes: 2 << 30, Files: 200_000, Objects: 1_000_000, ObjectBytes: 1 << 30, DocumentBytes: 8 << 20}
}

// maxManifest bounds bundle.yaml in bytes.
const maxManifest = 4 << 20

// Open reads a bundle. Errors name the file and, for broken YAML, the line.
func Open(fsys fs.FS, l Limits) (*Bundle, error) {
	b := &Bundle{fsys: fsys}
	if err := b.readManifest(min(l.FileBytes, maxManifest)); err != nil {
		return nil, err
	}
	if err := b.index(l); err != nil {
		return nil, err
	}
	r := reader{b: b, l: l, seen: map[identity]place{}}
	for _, f := range b.files {
		if !strings.HasPrefix(f.name, "objects/") || ignored(f.name) {
			continue
		}
		if err := r.file(f); err != nil {
			return nil, err
		}
	}
	complete(b.Objects)
	return b, nil
}

func (b *Bundle) readManifest(limit int64) error {
	const name = "bundle.yaml"
	switch st, err := fs.Stat(b.fsys, name); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("this is no bundle: it has no bundle.yaml: %w", err)
	case err != nil:
		return fmt.Errorf("bundle.yaml: %w", err)
	case !st.Mode().IsRegular():
		// Reading a pipe or device might never end.
		return errors.New("bundle.yaml is no regular file")
	}
	raw, err := readLimited(b.fsys, name, limit)
	if err != nil {
		return fmt.Errorf("bundle.yaml: %w", err)
	}
	if line := aliasLine(raw); line > 0 {
		return located(name, line, errAlias)
	}
	// The version goes first: a newer format has fields that are unknown here.
	var v struct {
		FormatVersion int `json:"formatVersion"`
	}
	if err := yaml.Unmarshal(raw, &v); err != nil {
		return located(name, 1, err)
	}
	switch {
	case v.FormatVersion > FormatVersion:
		return fmt.Errorf("bundle.yaml: formatVersion %d is newer than this gumshoe reads (%d): use a newer gumshoe", v.FormatVersion, FormatVersion)
	case v.FormatVersion != FormatVersion:
		return fmt.Errorf("bundle.yaml: formatVersion %d; this gumshoe reads %d", v.FormatVersion, FormatVersion)
	}
	if err := yaml.UnmarshalStrict(raw, &b.Manifest); err != nil {
		return located(name, 1, err)
	}
	if err := b.Manifest.validate(); err != nil {
		return fmt.Errorf("bundle.yaml: %w", err)
	}
	return nil
}

// index lists the files and refuses anything that is not a plain file in one
// of the places of a bundle: what is misplaced would silently be missing.
func (b *Bundle) index(l Limits) error {
	var total, objects int64
	dirs := 0
	err := fs.WalkDir(b.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			if dirs++; dirs > l.Files {
				return fmt.Errorf("the bundle has more than %d directories", l.Files)
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file; a bundle has no links or devices", name)
		}
		if err := placed(name); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		if strings.HasPrefix(name, "objects/") {
			objects += info.Size()
		}
		b.files = append(b.files, fileInfo{name: name, size: info.Size()})
		switch {
		case info.Size() > l.FileBytes:
			return fmt.Errorf("%s has %d bytes, more than %d", name, info.Size(), l.FileBytes)
		case total > l.TotalBytes:
			return fmt.Errorf("the bundle has more than %d bytes", l.TotalBytes)
		case objects > l.ObjectBytes:
			return fmt.Errorf("objects/ has more than %d bytes", l.ObjectBytes)
		case len(b.files) > l.Files:
			return fmt.Errorf("the bundle has more than %d files", l.Files)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read bundle: %w", err)
	}
	return nil
}

// placed says what is wrong with where a file lies.
func placed(name string) error {
	if ignored(name) {
		return nil
	}
	parts := strings.Split(name, "/")
	ext := path.Ext(name)
	switch parts[0] {
	case "bundle.yaml", "alerts.json", "alertmanager.json", "flows.jsonl":
		if len(parts) == 1 {
			return nil
		}
	case "objects":
		if len(parts) == 1 || (ext != ".yaml" && ext != ".yml" && ext != ".json") {
			return fmt.Errorf("%s: objects are in .yaml, .yml or .json files beneath objects/", name)
		}
		return nil
	case "logs":
		if len(parts) != 4 || ext != ".log" {
			return fmt.Errorf("%s: a log lies at logs/NAMESPACE/POD/CONTAINER.log or CONTAINER.previous.log", name)
		}
		return nil
	case "metrics", "rules", "nodes", "cloud", "oci", "flows":
		if len(parts) > 1 {
			return nil
		}
	}
	if len(parts) == 1 {
		switch ext {
		case ".md", ".txt", "":
			// A note beside the bundle.
			if ext != "" || strings.ToUpper(name) == name {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: a bundle has no such place; it has bundle.yaml, objects/, logs/, metrics/, rules/, flows/, nodes/, cloud/, oci/, alerts.json, alertmanager.json and flows.jsonl", name)
}

// ignored are the hidden files that editors and desktops leave.
func ignored(name string) bool { return strings.HasPrefix(path.Base(name), ".") }

// identity tells objects apart.
type identity struct{ apiVersion, kind, namespace, name string }

// reader collects the objects of a bundle.
type reader struct {
	b    *Bundle
	l    Limits
	seen map[identity]place
}

// place is where an object was read.
type place struct {
	file string
	line int
}

func (r *reader) file(f fileInfo) error {
	raw, err := readLimited(r.b.fsys, f.name, r.l.FileBytes)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	for line, doc := range documents(raw) {
		if int64(len(doc)) > r.l.DocumentBytes {
			return fmt.Errorf("%s:%d: the document has %d bytes, more than %d; no object of a cluster is that large, a list of objects may be split", f.name, line, len(doc), r.l.DocumentBytes)
		}
		if blank(doc) {
			continue
		}
		obj, err := DecodeYAML(doc)
		if err != nil {
			return located(f.name, line, err)
		}
		if obj == nil {
			continue
		}
		if err := r.object(place{f.name, line}, &unstructured.Unstructured{Object: obj}); err != nil {
			return fmt.Errorf("%s:%d: %w", f.name, line, err)
		}
	}
	return nil
}

// object takes one object, or each of a list as `kubectl get -o yaml` writes it.
func (r *reader) object(at place, u *unstructured.Unstructured) error {
	items, isList := u.Object["items"].([]any)
	if kind, ok := strings.CutSuffix(u.GetKind(), "List"); ok && isList && u.GetName() == "" {
		for i, item := range items {
			m, ok := item.(map[string]any)
			if !ok {
				return fmt.Errorf("items[%d] is no object", i)
			}
			o := &unstructured.Unstructured{Object: m}
			if o.GetKind() == "" && kind != "" {
				o.SetKind(kind)
				o.SetAPIVersion(u.GetAPIVersion())
			}
			if err := r.one(at, o); err != nil {
				return fmt.Errorf("items[%d]: %w", i, err)
			}
		}
		return nil
	}
	return r.one(at, u)
}

func (r *reader) one(at place, u *unstructured.Unstructured) error {
	id := identity{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}
	if id.apiVersion == "" || id.kind == "" || id.name == "" {
		return errors.New("apiVersion, kind and metadata.name are required")
	}
	if strings.Count(id.apiVersion, "/") > 1 {
		return fmt.Errorf("apiVersion %q is neither VERSION nor GROUP/VERSION", id.apiVersion)
	}
	for _, part := range []string{strings.ReplaceAll(id.apiVersion, "/", ""), id.kind, id.namespace, id.name} {
		if !plainName(part) {
			return fmt.Errorf("%q is no name of an object", part)
		}
	}
	if err := checkMetadata(u); err != nil {
		return err
	}
	if first, dup := r.seen[id]; dup {
		return fmt.Errorf("%s %s is in the bundle already, at %s:%d", id.kind, strings.TrimPrefix(id.namespace+"/"+id.name, "/"), first.file, first.line)
	}
	r.seen[id] = at
	r.b.Objects = append(r.b.Objects, u)
	if len(r.b.Objects) > r.l.Objects {
		return fmt.Errorf("the bundle has more than %d objects", r.l.Objects)
	}
	return nil
}

// checkMetadata checks what every reader of an object relies on: clients decode whole
// lists, so one wrong type hides all objects of a kind.
func checkMetadata(u *unstructured.Unstructured) error {
	md, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		return errors.New("metadata is no object")
	}
	for _, f := range []string{"name", "generateName", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"} {
		v := md[f]
		if v == nil {
			continue
		}
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("metadata.%s is %T, not a string; quote it", f, v)
		}
		if strings.HasSuffix(f, "Timestamp") {
			if _, err := time.Parse(time.RFC3339, text); err != nil {
				return fmt.Errorf("metadata.%s %q is no time: write it like 2026-01-31T15:04:05Z", f, text)
			}
		}
	}
	for _, f := range []string{"labels", "annotations"} {
		if md[f] == nil {
			continue
		}
		m, ok := md[f].(map[string]any)
		if !ok {
			return fmt.Errorf("metadata.%s is no object", f)
		}
		for k, v := range m {
			if _, ok := v.(string); !ok {
				return fmt.Errorf("metadata.%s.%s is %T, not a string; quote it", f, k, v)
			}
		}
	}
	return nil
}

// readLimited reads a file and refuses one that is longer than it says.
func readLimited(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return raw, nil
}

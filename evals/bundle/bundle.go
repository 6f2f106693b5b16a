// Package bundle is a recorded cluster: objects, events and logs in plain files
// that people can read and write, and that serve as tests.
//
//	bundle.yaml                          versions, time, cluster, what was left out
//	objects/**/*.yaml                    Kubernetes YAML, one or many documents a file
//	logs/<ns>/<pod>/<container>.log      and <container>.previous.log
//	metrics/ rules/ alerts.json flows.jsonl nodes/ cloud/   places of other sources
//
// Open reads one from any fs.FS, OpenPath from a directory or a .tar.zst,
// Capture makes one from a live cluster. Package apiserver serves one.
package bundle

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// FormatVersion of the bundles this package writes and reads.
const FormatVersion = 1

// Manifest is bundle.yaml.
type Manifest struct {
	FormatVersion int    `json:"formatVersion"`
	Gumshoe       string `json:"gumshoe,omitempty"`
	// Captured is the clock of everything that reads the bundle.
	Captured time.Time `json:"captured"`
	Cluster  string    `json:"cluster,omitempty"`
	// ServerVersion is the API server's gitVersion, for example "v1.37.2".
	ServerVersion string `json:"serverVersion,omitempty"`
	// Namespaces that were captured; empty means all.
	Namespaces []string `json:"namespaces,omitempty"`
	// Resources the cluster served; empty means the built-in ones of a current
	// Kubernetes, plus whatever the objects are.
	Resources []Resource `json:"resources,omitempty"`
	LeftOut   []LeftOut  `json:"leftOut,omitempty"`
	// Denied rights: a reader of the bundle is refused what the capture was.
	Denied []Denied `json:"denied,omitempty"`
}

// Resource is one served kind.
type Resource struct {
	Group        string   `json:"group,omitempty"`
	Version      string   `json:"version"`
	Kind         string   `json:"kind"`
	Plural       string   `json:"plural"`
	Singular     string   `json:"singular,omitempty"`
	Namespaced   bool     `json:"namespaced,omitempty"`
	ShortNames   []string `json:"shortNames,omitempty"`
	Subresources []string `json:"subresources,omitempty"`
}

// LeftOut is something that is not in the bundle, and why.
type LeftOut struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Denied is a right that the reader lacks. An empty Namespace denies it everywhere.
type Denied struct {
	Verb      string `json:"verb"`
	Group     string `json:"group,omitempty"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
}

// Bundle is an opened bundle.
type Bundle struct {
	Manifest Manifest
	// Objects in the order of their files; all have apiVersion, kind and name.
	Objects []*unstructured.Unstructured
	fsys    fs.FS
	files   []fileInfo
}

type fileInfo struct {
	name string
	size int64
}

// Limits bound what Open reads, against hostile bundles.
type Limits struct {
	FileBytes  int64
	TotalBytes int64
	Files      int
	Objects    int
}

// DefaultLimits fit a capture of a large cluster.
func DefaultLimits() Limits {
	return Limits{FileBytes: 256 << 20, TotalBytes: 2 << 30, Files: 200_000, Objects: 1_000_000}
}

// Open reads a bundle. Errors name the file and, for broken YAML, the line.
func Open(fsys fs.FS, l Limits) (*Bundle, error) {
	b := &Bundle{fsys: fsys}
	raw, err := readLimited(fsys, "bundle.yaml", l.FileBytes)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("this is no bundle: it has no bundle.yaml: %w", err)
		}
		return nil, fmt.Errorf("bundle.yaml: %w", err)
	}
	if err := yaml.UnmarshalStrict(raw, &b.Manifest); err != nil {
		return nil, fmt.Errorf("bundle.yaml: %w", err)
	}
	if v := b.Manifest.FormatVersion; v != FormatVersion {
		return nil, fmt.Errorf("bundle.yaml: formatVersion %d; this gumshoe reads %d", v, FormatVersion)
	}
	if b.Manifest.Captured.IsZero() {
		return nil, errors.New("bundle.yaml: captured is required: the time is the clock of every judgement")
	}
	if err := b.index(l); err != nil {
		return nil, err
	}
	seen := map[string]string{}
	for _, f := range b.files {
		if !strings.HasPrefix(f.name, "objects/") || (path.Ext(f.name) != ".yaml" && path.Ext(f.name) != ".yml") {
			continue
		}
		if err := b.readObjects(f.name, l, seen); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// index lists the files and refuses anything that is not a plain file.
func (b *Bundle) index(l Limits) error {
	var total int64
	err := fs.WalkDir(b.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file; a bundle has no links or devices", name)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		b.files = append(b.files, fileInfo{name: name, size: info.Size()})
		switch {
		case info.Size() > l.FileBytes:
			return fmt.Errorf("%s has %d bytes, more than %d", name, info.Size(), l.FileBytes)
		case total > l.TotalBytes:
			return fmt.Errorf("the bundle has more than %d bytes", l.TotalBytes)
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

func (b *Bundle) readObjects(name string, l Limits, seen map[string]string) error {
	raw, err := readLimited(b.fsys, name, l.FileBytes)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	line := 1
	for doc := range documents(raw) {
		at := line
		line += bytes.Count(doc, []byte("\n"))
		if blank(doc) {
			continue
		}
		obj := map[string]any{}
		raw, err := yaml.YAMLToJSONStrict(doc)
		if err == nil {
			err = utiljson.Unmarshal(raw, &obj)
		}
		if err != nil {
			return fmt.Errorf("%s, document at line %d: %w", name, at, err)
		}
		if len(obj) == 0 {
			continue
		}
		u := &unstructured.Unstructured{Object: obj}
		if u.GetKind() == "" || u.GetAPIVersion() == "" || u.GetName() == "" {
			return fmt.Errorf("%s, document at line %d: apiVersion, kind and metadata.name are required", name, at)
		}
		key := strings.Join([]string{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}, "|")
		if first, dup := seen[key]; dup {
			return fmt.Errorf("%s, document at line %d: %s %s/%s is in %s already", name, at, u.GetKind(), u.GetNamespace(), u.GetName(), first)
		}
		seen[key] = name
		b.Objects = append(b.Objects, u)
		if len(b.Objects) > l.Objects {
			return fmt.Errorf("the bundle has more than %d objects", l.Objects)
		}
	}
	return nil
}

// documents yields the YAML documents of a file, each with its leading marker
// line, so that counting newlines gives line numbers.
func documents(raw []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(raw) > 0 {
			end := len(raw)
			for at := bytes.IndexByte(raw, '\n'); at >= 0 && at+1 < len(raw); {
				if isMarker(raw[at+1:]) {
					end = at + 1
					break
				}
				next := bytes.IndexByte(raw[at+1:], '\n')
				if next < 0 {
					break
				}
				at += 1 + next
			}
			if !yield(raw[:end]) {
				return
			}
			raw = raw[end:]
		}
	}
}

func isMarker(b []byte) bool {
	return bytes.HasPrefix(b, []byte("---")) && (len(b) == 3 || b[3] == '\n' || b[3] == '\r' || b[3] == ' ')
}

func blank(doc []byte) bool {
	for l := range bytes.Lines(doc) {
		l = bytes.TrimSpace(l)
		if len(l) > 0 && l[0] != '#' && !bytes.Equal(l, []byte("---")) {
			return false
		}
	}
	return true
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

// FS gives the files of the bundle, for the sources whose places lie beside
// objects/ and logs/. They are plain files within the limits of Open, as long
// as nobody changes them.
func (b *Bundle) FS() fs.FS { return b.fsys }

// Clock gives the time of the capture.
func (b *Bundle) Clock() time.Time { return b.Manifest.Captured }

// Log opens a container's log; fs.ErrNotExist when the bundle has none.
func (b *Bundle) Log(namespace, pod, container string, previous bool) (io.ReadCloser, error) {
	for _, part := range []string{namespace, pod, container} {
		if part == "" || strings.ContainsAny(part, "/\\") || part == ".." {
			return nil, fmt.Errorf("log of %q: %w", part, fs.ErrNotExist)
		}
	}
	name := container + ".log"
	if previous {
		name = container + ".previous.log"
	}
	return b.fsys.Open(path.Join("logs", namespace, pod, name))
}

// sortObjects orders objects for a stable capture.
func sortObjects(objs []*unstructured.Unstructured) {
	slices.SortFunc(objs, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
}

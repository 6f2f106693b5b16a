// Package bundle is a recorded cluster: objects, events and logs in plain files
// that people can read and write, and that serve as tests.
//
//	bundle.yaml                          versions, time, cluster, what was left out
//	objects/**/*.yaml                    Kubernetes YAML, one or many documents a file
//	logs/<ns>/<pod>/<container>.log      and <container>.previous.log
//	metrics/ rules/ alerts.json alertmanager.json           Prometheus and Alertmanager
//	flows.jsonl flows/*.jsonl                               what Hubble saw, one JSON object a line
//	nodes/ cloud/ oci/                                      places of other sources
//
// Open reads one from any fs.FS, OpenPath from a directory or a .tar.zst,
// Capture makes one from a live cluster. Package apiserver serves one.
package bundle

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	// Namespaces that were captured; empty means all. A reader is refused what
	// lies in others, and lists across all namespaces: half a list would pass
	// for a whole one. Events of cluster-scoped objects, which the API server
	// keeps in namespace "default", are there in any case.
	Namespaces []string `json:"namespaces,omitempty"`
	// Across lists resources ("resourceclaims.resource.k8s.io") that were captured
	// in all namespaces all the same: who holds a device is a fact of the cluster.
	Across []string `json:"across,omitempty"`
	// LogTimestamps says that each line of the logs begins with the container
	// runtime's RFC 3339 time and a space, which a reader sees only on request.
	LogTimestamps bool `json:"logTimestamps,omitempty"`
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
	// Categories are the groups of kinds that `kubectl get all` and the like mean.
	Categories []string `json:"categories,omitempty"`
	// Verbs the server offers for the kind; empty means the usual ones.
	Verbs []string `json:"verbs,omitempty"`
}

// LeftOut is something that is not in the bundle, and why.
type LeftOut struct {
	// What is the plural name of a resource, or a few words. A resource that was
	// left out is refused to a reader: an empty list would pass for an answer.
	What string `json:"what"`
	// Group of the resource. Without it, What must be the name of one resource
	// only to be taken for it.
	Group string `json:"group,omitempty"`
	// Namespace that the resource was left out of; empty means all.
	Namespace string `json:"namespace,omitempty"`
	// Code is the HTTP status a reader gets; 0 means 403. A capture keeps the
	// one it got itself.
	Code int    `json:"code,omitempty"`
	Why  string `json:"why"`
}

// Denied is a right that the reader lacks. An empty Namespace denies it everywhere.
type Denied struct {
	Verb      string `json:"verb"`
	Group     string `json:"group,omitempty"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
}

// validate names the field that is wrong, its value and the way out.
func (m Manifest) validate() error {
	if m.Captured.IsZero() {
		return fmt.Errorf("captured is required: the time is the clock of every judgement")
	}
	for i, r := range m.Resources {
		for _, f := range []struct{ field, value string }{{"version", r.Version}, {"kind", r.Kind}, {"plural", r.Plural}} {
			if f.value == "" {
				return fmt.Errorf("resources[%d].%s is required", i, f.field)
			}
		}
		for _, v := range []string{r.Group, r.Version, r.Kind, r.Plural} {
			if !plainName(v) {
				return fmt.Errorf("resources[%d]: %q is no name of an API", i, v)
			}
		}
	}
	for i, d := range m.Denied {
		if d.Verb == "" || d.Resource == "" {
			return fmt.Errorf("denied[%d]: verb and resource are required; \"*\" means any", i)
		}
	}
	for i, l := range m.LeftOut {
		if l.What == "" {
			return fmt.Errorf("leftOut[%d].what is required", i)
		}
		if l.Code != 0 && (l.Code < 400 || l.Code > 599) {
			return fmt.Errorf("leftOut[%d].code %d is no HTTP error status", i, l.Code)
		}
	}
	for i, ns := range m.Namespaces {
		if ns == "" {
			return fmt.Errorf("namespaces[%d] is empty; leave the list out for all", i)
		}
	}
	return nil
}

// plainName reports whether a name can be a part of a path.
func plainName(s string) bool {
	return s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '/' || r == '\\' || r == 0x7f || r == '\uFFFD' })
}

// Bundle is an opened bundle. It is safe for concurrent use as long as nobody
// changes its objects.
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

// Clock gives the time of the capture.
func (b *Bundle) Clock() time.Time { return b.Manifest.Captured }

// FS gives the files of the bundle, for the sources whose places lie beside
// objects/ and logs/. They are plain files within the limits of Open, as long
// as nobody changes them.
func (b *Bundle) FS() fs.FS { return b.fsys }

// Log opens a container's log; fs.ErrNotExist when the bundle has none.
func (b *Bundle) Log(namespace, pod, container string, previous bool) (io.ReadCloser, error) {
	for _, part := range []string{namespace, pod, container} {
		if part == "" || !plainName(part) || !fs.ValidPath(part) {
			return nil, fmt.Errorf("log of %q: %w", part, fs.ErrNotExist)
		}
	}
	name := container + ".log"
	if previous {
		name = container + ".previous.log"
	}
	return b.fsys.Open(path.Join("logs", namespace, pod, name))
}

// HasNamespace reports whether the capture reached into a namespace.
func (b *Bundle) HasNamespace(name string) bool {
	return len(b.Manifest.Namespaces) == 0 || slices.Contains(b.Manifest.Namespaces, name)
}

// HasAcross reports whether a resource was captured in all namespaces.
func (b *Bundle) HasAcross(gr schema.GroupResource) bool {
	return len(b.Manifest.Namespaces) == 0 || slices.Contains(b.Manifest.Across, gr.String())
}

package apiserver

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// change is one entry of the watch history.
type change struct {
	version  uint64
	resource schema.GroupVersionResource
	// before is nil for an object that is new, after for one that is gone.
	before, after *unstructured.Unstructured
}

// table holds the objects of a resource by namespace and name. An object in it
// is never changed, only replaced.
type table struct{ items []row }

type row struct {
	namespace, name string
	object          *unstructured.Unstructured
}

func compare(a, b row) int {
	return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
}

// add appends; the caller sorts when all are in.
func (t *table) add(u *unstructured.Unstructured) {
	t.items = append(t.items, row{u.GetNamespace(), u.GetName(), u})
}

func (t *table) sort() { slices.SortFunc(t.items, compare) }

func (t *table) get(namespace, name string) *unstructured.Unstructured {
	if i, ok := slices.BinarySearchFunc(t.items, row{namespace: namespace, name: name}, compare); ok {
		return t.items[i].object
	}
	return nil
}

func (t *table) put(u *unstructured.Unstructured) {
	r := row{u.GetNamespace(), u.GetName(), u}
	i, ok := slices.BinarySearchFunc(t.items, r, compare)
	if ok {
		t.items[i] = r
		return
	}
	t.items = slices.Insert(t.items, i, r)
}

func (t *table) drop(namespace, name string) {
	if i, ok := slices.BinarySearchFunc(t.items, row{namespace: namespace, name: name}, compare); ok {
		t.items = slices.Delete(t.items, i, i+1)
	}
}

// in gives the objects of a namespace, all of them when it is empty. The slice
// is the table's own.
func (t *table) in(namespace string) []row {
	if namespace == "" {
		return t.items
	}
	i, _ := slices.BinarySearchFunc(t.items, row{namespace: namespace}, compare)
	j := i
	for j < len(t.items) && t.items[j].namespace == namespace {
		j++
	}
	return t.items[i:j]
}

// table gives the table of a resource. The caller holds the lock; a reader gets
// an empty one for a resource that has none yet.
func (s *Server) table(r schema.GroupVersionResource) *table {
	t := s.tables[r]
	if t == nil {
		t = &table{}
		if s.oldest == 0 { // still being made: nobody reads
			s.tables[r] = t
		}
	}
	return t
}

// store puts a new state in and tells the watches. It gives the object with its
// new resourceVersion. The caller holds the lock.
func (s *Server) store(r schema.GroupVersionResource, before, after *unstructured.Unstructured) *unstructured.Unstructured {
	t := s.tables[r]
	if t == nil {
		t = &table{}
		s.tables[r] = t
	}
	s.version++
	if after == nil {
		t.drop(before.GetNamespace(), before.GetName())
	} else {
		after.SetResourceVersion(strconv.FormatUint(s.version, 10))
		t.put(after)
	}
	if len(s.log) >= s.keep+s.keep/2 {
		cut := len(s.log) - s.keep
		s.oldest = s.log[cut-1].version
		s.log = append(make([]change, 0, len(s.log)), s.log[cut:]...)
	}
	s.log = append(s.log, change{version: s.version, resource: r, before: before, after: after})
	close(s.changed)
	s.changed = make(chan struct{})
	if after == nil {
		return before
	}
	return after
}

// since gives the changes after a version. The caller holds the lock.
func (s *Server) since(version uint64) []change {
	i, _ := slices.BinarySearchFunc(s.log, version+1, func(c change, v uint64) int { return cmp.Compare(c.version, v) })
	return s.log[i:]
}

// snapshot gives the objects of a namespace (empty: all) as they were at a
// version, 0 being now, and that version. It fails when the history does not
// go back so far.
func (s *Server) snapshot(r schema.GroupVersionResource, namespace string, at uint64) ([]*unstructured.Unstructured, uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if at == 0 {
		at = s.version
	}
	if at > s.version {
		return nil, 0, tooLarge(at, s.version)
	}
	if at < s.oldest {
		return nil, 0, tooOld(at, s.oldest)
	}
	rows := s.table(r).in(namespace)
	out := make([]*unstructured.Unstructured, 0, len(rows))
	changes := s.since(at)
	if !slices.ContainsFunc(changes, func(c change) bool { return c.resource == r }) {
		for _, row := range rows {
			out = append(out, row.object)
		}
		return out, at, nil
	}
	then := table{items: slices.Clone(s.table(r).items)}
	for _, c := range slices.Backward(changes) {
		switch {
		case c.resource != r:
		case c.before != nil:
			then.put(c.before)
		default:
			then.drop(c.after.GetNamespace(), c.after.GetName())
		}
	}
	for _, row := range then.in(namespace) {
		out = append(out, row.object)
	}
	return out, at, nil
}

func tooOld(at, oldest uint64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", at, oldest))
}

// tooLarge is what a real server says after waiting for a version that does
// not come.
func tooLarge(at, version uint64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", at, version), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

// versionOf reads an object's resourceVersion; ok is false when it is none that
// this server could have given.
func versionOf(u *unstructured.Unstructured) (version uint64, ok bool) {
	v, err := strconv.ParseUint(u.GetResourceVersion(), 10, 64)
	return v, err == nil && v > 0 && v < 1<<62
}

// complete fills in what every object of a real server has. An object that has
// it all is shared, not copied.
func (s *Server) complete(u *unstructured.Unstructured) *unstructured.Unstructured {
	_, versioned := versionOf(u)
	created := u.GetCreationTimestamp()
	if u.GetUID() != "" && versioned && !created.IsZero() {
		return u
	}
	u = u.DeepCopy()
	if u.GetUID() == "" {
		u.SetUID(s.uid())
	}
	if !versioned {
		u.SetResourceVersion(strconv.FormatUint(s.version, 10))
	}
	if created.IsZero() {
		u.SetCreationTimestamp(metaTime(s.now().Add(-time.Hour)))
	}
	return u
}

func namespaces() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
}

// addNamespaces makes the namespaces of a hand-written bundle exist.
func (s *Server) addNamespaces() {
	seen := map[string]bool{}
	t := s.table(namespaces())
	for _, r := range t.items {
		seen[r.name] = true
	}
	for _, u := range s.bundle.Objects {
		ns := u.GetNamespace()
		if ns == "" || seen[ns] {
			continue
		}
		seen[ns] = true
		t.add(s.complete(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace",
			"metadata": map[string]any{"name": ns, "labels": map[string]any{"kubernetes.io/metadata.name": ns}},
			"spec":     map[string]any{"finalizers": []any{"kubernetes"}}, "status": map[string]any{"phase": "Active"}}}))
	}
	t.sort()
}

func metaTime(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }

// uid makes identities that are the same in every run of the same bundle. The
// caller holds the lock.
func (s *Server) uid() types.UID {
	s.uids++
	sum := sha256.Sum256(strconv.AppendUint([]byte(s.bundle.Manifest.Cluster+"/"), s.uids, 10))
	h := hex.EncodeToString(sum[:16])
	return types.UID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

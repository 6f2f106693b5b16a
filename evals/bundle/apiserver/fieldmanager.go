package apiserver

import (
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// fieldManagers keep who wrote which field, with the API server's own library.
// Built-in kinds are merged by the schemas that client-go carries, others by
// what their values look like: their lists are replaced whole. The callers hold
// the server's lock.
type fieldManagers struct {
	// builtin is made when the first write comes: reading the schemas takes a while.
	builtin managedfields.TypeConverter
	byKind  map[managerKey]*managedfields.FieldManager
}

type managerKey struct {
	gvk         schema.GroupVersionKind
	subresource string
}

func newFieldManagers() *fieldManagers {
	return &fieldManagers{byKind: map[managerKey]*managedfields.FieldManager{}}
}

func (f *fieldManagers) of(q request) (*managedfields.FieldManager, error) {
	key := managerKey{q.resource.gvk, q.subresource}
	if m := f.byKind[key]; m != nil {
		return m, nil
	}
	if f.builtin == nil {
		f.builtin = applyconfigurations.NewTypeConverter(scheme.Scheme)
	}
	types := managedfields.NewDeducedTypeConverter()
	if q.resource.typed {
		if _, err := f.builtin.ObjectToTyped(blankOf(q.resource.gvk)); err == nil {
			types = f.builtin
		}
	}
	m, err := managedfields.NewDefaultCRDFieldManager(types, asIs{}, asIs{}, asIs{}, q.resource.gvk, q.resource.gvk.GroupVersion(), q.subresource, nil)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", q.resource.gvk, err)
	}
	f.byKind[key] = m
	return m, nil
}

func blankOf(gvk schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(gvk)
	return u
}

// update records in next what a manager has changed since old; old is nil for a
// new object. Where that cannot be told, next keeps the managers of old.
func (f *fieldManagers) update(q request, old, next *unstructured.Unstructured, manager string, now time.Time) {
	live := blankOf(q.resource.gvk)
	if old != nil {
		live = old.DeepCopy()
	}
	before := live.GetManagedFields()
	bare := next.DeepCopy()
	live.SetManagedFields(tracked(before))
	bare.SetManagedFields(tracked(bare.GetManagedFields()))
	m, err := f.of(q)
	var out runtime.Object
	if err == nil {
		out, err = m.Update(live, bare, manager)
	}
	u, ok := out.(*unstructured.Unstructured)
	if err != nil || !ok {
		next.SetManagedFields(before)
		return
	}
	next.SetManagedFields(dated(before, u.GetManagedFields(), now))
}

// apply merges what a manager wants into live.
func (f *fieldManagers) apply(q request, live, intent *unstructured.Unstructured, o options, now time.Time) (*unstructured.Unstructured, error) {
	m, err := f.of(q)
	if err != nil {
		return nil, err
	}
	live = live.DeepCopy()
	before := live.GetManagedFields()
	live.SetManagedFields(tracked(before))
	out, err := m.Apply(live, intent.DeepCopy(), o.manager, o.force)
	if err != nil {
		if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
			return nil, err
		}
		return nil, apierrors.NewBadRequest(err.Error())
	}
	u, ok := out.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("apply gave %T", out)
	}
	u.SetManagedFields(dated(before, u.GetManagedFields(), now))
	return u, nil
}

// tracked gives the entries that name fields. A capture keeps only who wrote,
// and when.
func tracked(list []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	return slices.DeleteFunc(slices.Clone(list), func(e metav1.ManagedFieldsEntry) bool { return e.FieldsV1 == nil })
}

// dated gives new entries the time of the bundle's clock, and keeps those of
// the capture.
func dated(before, after []metav1.ManagedFieldsEntry, now time.Time) []metav1.ManagedFieldsEntry {
	at := metaTime(now)
	for i, e := range after {
		old := slices.IndexFunc(before, func(b metav1.ManagedFieldsEntry) bool {
			return b.Manager == e.Manager && b.Operation == e.Operation && b.Subresource == e.Subresource && b.APIVersion == e.APIVersion && b.Time.Equal(e.Time)
		})
		if old < 0 {
			after[i].Time = &at
		}
	}
	for _, b := range before {
		if b.FieldsV1 == nil {
			after = append(after, b)
		}
	}
	return after
}

// sameManagers reports whether the same managers own the same fields.
func sameManagers(a, b *unstructured.Unstructured) bool {
	x, y := a.GetManagedFields(), b.GetManagedFields()
	return slices.EqualFunc(x, y, func(x, y metav1.ManagedFieldsEntry) bool {
		fields := func(e metav1.ManagedFieldsEntry) string {
			if e.FieldsV1 == nil {
				return ""
			}
			return string(e.FieldsV1.GetRawBytes())
		}
		return x.Manager == y.Manager && x.Operation == y.Operation && x.Subresource == y.Subresource && fields(x) == fields(y)
	})
}

// asIs converts, defaults and creates nothing: a bundle has each kind in one
// version, as it was stored.
type asIs struct{}

var (
	_ runtime.ObjectConvertor = asIs{}
	_ runtime.ObjectDefaulter = asIs{}
	_ runtime.ObjectCreater   = asIs{}
)

// Convert implements runtime.ObjectConvertor.
func (asIs) Convert(in, _, _ any) error { return fmt.Errorf("no conversion of %T", in) }

// ConvertToVersion implements runtime.ObjectConvertor.
func (asIs) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (asIs) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// Default implements runtime.ObjectDefaulter.
func (asIs) Default(runtime.Object) {}

// New implements runtime.ObjectCreater.
func (asIs) New(gvk schema.GroupVersionKind) (runtime.Object, error) { return blankOf(gvk), nil }

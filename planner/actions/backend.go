package actions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

const (
	// Annotation marks what a plan wrote: "<plan>/<write>". It makes a write that is
	// repeated after a crash known, and the admission policy asks for it.
	Annotation = "gumshoe.ai/plan"
	// Freeze on an object or its namespace keeps gumshoe's hands off it, whatever was
	// approved. Its value is the reason; "false" does not count.
	Freeze = "gumshoe.ai/freeze"
	// Manager is the field manager of every write.
	Manager = "gumshoe"
)

// Backend sends writes to the Kubernetes API with the executor's identity.
type Backend struct {
	dyn dynamic.Interface
	// sleep waits between two attempts at an eviction.
	sleep func(context.Context, time.Duration) error
}

var _ planner.Backend = (*Backend)(nil)

// NewBackend makes the backend of one cluster. The client is the executor's; for
// planning it is one whose transport refuses whatever is no dry run (DryOnly).
func NewBackend(dyn dynamic.Interface) *Backend { return &Backend{dyn: dyn, sleep: timer} }

// Waiting has the backend wait with a function in place of a timer.
func (b *Backend) Waiting(sleep func(context.Context, time.Duration) error) *Backend {
	return &Backend{dyn: b.dyn, sleep: sleep}
}

// timer waits, or ends early with the context's error.
func timer(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (b *Backend) resource(w incident.Write) dynamic.ResourceInterface {
	r := b.dyn.Resource(schema.GroupVersionResource{Group: w.Ref.Group, Version: w.Version, Resource: w.Resource})
	if w.Ref.Namespace != "" {
		return r.Namespace(w.Ref.Namespace)
	}
	return r
}

func drift(r incident.Ref, why string, args ...any) error {
	return &planner.Drift{Ref: r, Why: fmt.Sprintf(why, args...)}
}

// meant reads the object of a write and holds it against the preconditions.
func (b *Backend) meant(ctx context.Context, w incident.Write) (*unstructured.Unstructured, error) {
	u, err := b.resource(w).Get(ctx, w.Ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if w.UID != "" && string(u.GetUID()) != w.UID {
		return u, drift(w.Ref, "it was deleted and made anew (uid %s, planned on %s)", u.GetUID(), w.UID)
	}
	if w.Digest != "" && Digest(u) != w.Digest {
		return u, drift(w.Ref, "%s", changed(u))
	}
	return u, nil
}

// changed says who changed an object last, as far as its managed fields tell.
func changed(u *unstructured.Unstructured) string {
	var last metav1.ManagedFieldsEntry
	for _, m := range u.GetManagedFields() {
		// Of two in the same second the one that is not gumshoe's is the news.
		if m.Subresource == "" && m.Time != nil && (last.Time == nil || last.Time.Before(m.Time) || last.Time.Equal(m.Time) && m.Manager != Manager) {
			last = m
		}
	}
	if last.Time == nil {
		return "its labels or its spec have changed"
	}
	return fmt.Sprintf("its labels or its spec have changed (last written by %s at %s)", last.Manager, last.Time.UTC().Format(time.RFC3339))
}

// frozen refuses what an annotation keeps from being changed.
func (b *Backend) frozen(ctx context.Context, r incident.Ref, u *unstructured.Unstructured) error {
	if why := u.GetAnnotations()[Freeze]; why != "" && why != "false" {
		return drift(r, "it is frozen (%s: %s)", Freeze, why)
	}
	if r.Namespace == "" {
		return nil
	}
	ns, err := b.dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(ctx, r.Namespace, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("whether namespace %s is frozen cannot be seen: %w", r.Namespace, err)
	}
	if why := ns.GetAnnotations()[Freeze]; why != "" && why != "false" {
		return drift(r, "namespace %s is frozen (%s: %s)", r.Namespace, Freeze, why)
	}
	return nil
}

// Hold implements planner.Backend.
func (b *Backend) Hold(ctx context.Context, t incident.Target) error {
	if t.UID == "" { // the plan itself makes it
		return nil
	}
	w := incident.Write{Ref: t.Ref, Version: t.Version, Resource: t.Resource, UID: t.UID, Digest: t.Digest}
	u, err := b.meant(ctx, w)
	if apierrors.IsNotFound(err) {
		return drift(t.Ref, "it is gone")
	}
	if err != nil {
		return err
	}
	return b.frozen(ctx, t.Ref, u)
}

func mark(plan string, w incident.Write) string { return plan + "/" + w.ID }

func result(w incident.Write, u *unstructured.Unstructured) incident.WriteResult {
	r := incident.WriteResult{Write: w.ID, Done: true}
	if u != nil {
		r.UID, r.ResourceVersion, r.Digest = string(u.GetUID()), u.GetResourceVersion(), Digest(u)
	}
	return r
}

// State implements planner.Backend.
func (b *Backend) State(ctx context.Context, plan string, w incident.Write) (incident.WriteResult, error) {
	not := incident.WriteResult{Write: w.ID}
	u, err := b.resource(w).Get(ctx, w.Ref.Name, metav1.GetOptions{})
	gone := apierrors.IsNotFound(err)
	if err != nil && !gone {
		return not, fmt.Errorf("read %s: %w", w.Ref, err)
	}
	switch w.Verb {
	case incident.VerbDelete, incident.VerbEvict:
		if gone || w.UID != "" && string(u.GetUID()) != w.UID || u.GetDeletionTimestamp() != nil {
			return incident.WriteResult{Write: w.ID, Done: true, Found: true}, nil
		}
	default:
		if !gone && u.GetAnnotations()[Annotation] == mark(plan, w) {
			r := result(w, u)
			r.Found = true
			return r, nil
		}
	}
	return not, nil
}

// Do implements planner.Backend.
func (b *Backend) Do(ctx context.Context, plan string, w incident.Write) (incident.WriteResult, error) {
	if was, err := b.State(ctx, plan, w); err != nil || was.Done {
		return was, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout(w))
	defer cancel()
	u, err := b.send(ctx, plan, w, nil)
	if err != nil {
		return incident.WriteResult{Write: w.ID, Error: err.Error()}, err
	}
	return result(w, u), nil
}

func timeout(w incident.Write) time.Duration {
	if w.Timeout > 0 {
		return time.Duration(w.Timeout) * time.Second
	}
	return 30 * time.Second
}

// send makes the request of a write; with dry it is a dry run. It gives the object
// as the server answered it, nil where it is deleted.
func (b *Backend) send(ctx context.Context, plan string, w incident.Write, dry []string) (*unstructured.Unstructured, error) {
	switch w.Verb {
	case incident.VerbCreate:
		return b.create(ctx, plan, w, dry)
	case incident.VerbPatch:
		return b.patch(ctx, plan, w, dry)
	case incident.VerbDelete:
		return nil, b.delete(ctx, plan, w, dry)
	case incident.VerbEvict:
		return nil, b.evict(ctx, plan, w, dry)
	}
	return nil, fmt.Errorf("write %s: the Kubernetes API has no verb %q here", w.ID, w.Verb)
}

func (b *Backend) create(ctx context.Context, plan string, w incident.Write, dry []string) (*unstructured.Unstructured, error) {
	var u unstructured.Unstructured
	if err := json.Unmarshal(w.Body, &u.Object); err != nil {
		return nil, fmt.Errorf("write %s: the object is no JSON: %w", w.ID, err)
	}
	if u.GetName() != w.Ref.Name || u.GetNamespace() != w.Ref.Namespace || u.GetKind() != w.Ref.Kind {
		return nil, fmt.Errorf("write %s: the object in the body is %s %s/%s, the write names %s", w.ID, u.GetKind(), u.GetNamespace(), u.GetName(), w.Ref)
	}
	if w.Ref.Namespace != "" {
		if err := b.frozen(ctx, w.Ref, &u); err != nil {
			return nil, err
		}
	}
	notes := u.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	notes[Annotation] = mark(plan, w)
	u.SetAnnotations(notes)
	out, err := b.resource(w).Create(ctx, &u, metav1.CreateOptions{FieldManager: Manager, DryRun: dry})
	if apierrors.IsAlreadyExists(err) {
		return nil, drift(w.Ref, "an object of this name is there already")
	}
	return out, err
}

// guard makes a patch apply to one state of one object only.
func guard(u *unstructured.Unstructured) []any {
	return []any{
		map[string]any{"op": "test", "path": "/metadata/uid", "value": string(u.GetUID())},
		map[string]any{"op": "replace", "path": "/metadata/resourceVersion", "value": u.GetResourceVersion()},
	}
}

// races is how often a write is repeated because the object's status moved on
// between reading and writing.
const races = 8

func (b *Backend) patch(ctx context.Context, plan string, w incident.Write, dry []string) (*unstructured.Unstructured, error) {
	var ops []any
	if len(w.Body) > 0 {
		if err := json.Unmarshal(w.Body, &ops); err != nil {
			return nil, fmt.Errorf("write %s: the body is no JSON patch: %w", w.ID, err)
		}
	}
	for try := 1; ; try++ {
		u, err := b.meant(ctx, w)
		if apierrors.IsNotFound(err) {
			return nil, drift(w.Ref, "it is gone")
		}
		if err != nil {
			return nil, err
		}
		if err := b.frozen(ctx, w.Ref, u); err != nil {
			return nil, err
		}
		body, err := json.Marshal(slices.Concat(guard(u), ops, annotate(u, ops, mark(plan, w))))
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", w.ID, err)
		}
		out, err := b.resource(w).Patch(ctx, w.Ref.Name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: Manager, DryRun: dry})
		if apierrors.IsConflict(err) && try < races {
			continue
		}
		return out, err
	}
}

// annotate sets the mark, on an object whose annotations the patch before it may
// make or remove.
func annotate(u *unstructured.Unstructured, ops []any, value string) []any {
	there := u.GetAnnotations() != nil
	for _, o := range ops {
		if m, ok := o.(map[string]any); ok && m["path"] == "/metadata/annotations" {
			there = m["op"] != "remove"
		}
	}
	if !there {
		return []any{map[string]any{"op": "add", "path": "/metadata/annotations", "value": map[string]any{Annotation: value}}}
	}
	return []any{map[string]any{"op": "add", "path": "/metadata/annotations/" + strings.ReplaceAll(Annotation, "/", "~1"), "value": value}}
}

func (b *Backend) delete(ctx context.Context, plan string, w incident.Write, dry []string) error {
	o := metav1.DeleteOptions{DryRun: dry, PropagationPolicy: new(metav1.DeletePropagationBackground)}
	if w.Grace >= 0 {
		o.GracePeriodSeconds = new(w.Grace)
	}
	// The mark comes first: admission sees by it whose delete this is.
	m := w
	m.Body = nil
	u, err := b.patch(ctx, plan, m, dry)
	if err != nil {
		return err
	}
	o.Preconditions = &metav1.Preconditions{UID: new(u.GetUID())}
	err = b.resource(w).Delete(ctx, w.Ref.Name, o)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (b *Backend) evict(ctx context.Context, plan string, w incident.Write, dry []string) error {
	u, err := b.meant(ctx, w)
	if err != nil {
		return err
	}
	if err := b.frozen(ctx, w.Ref, u); err != nil {
		return err
	}
	options := map[string]any{"preconditions": map[string]any{"uid": string(u.GetUID())}}
	if w.Grace >= 0 {
		options["gracePeriodSeconds"] = w.Grace
	}
	e := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata":      map[string]any{"name": w.Ref.Name, "namespace": w.Ref.Namespace, "annotations": map[string]any{Annotation: mark(plan, w)}},
		"deleteOptions": options,
	}}
	// The server refuses while a budget is spent; how long it is asked again is the
	// write's own time.
	next := &backoff.ExponentialBackOff{InitialInterval: 500 * time.Millisecond, Multiplier: 1.6, RandomizationFactor: 0.2, MaxInterval: 5 * time.Second}
	next.Reset()
	for waited := time.Duration(0); ; {
		_, err := b.resource(w).Create(ctx, e.DeepCopy(), metav1.CreateOptions{FieldManager: Manager, DryRun: dry}, "eviction")
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsTooManyRequests(err) || len(dry) > 0 {
			return err
		}
		d := next.NextBackOff()
		if s, ok := apierrors.SuggestsClientDelay(err); ok && s > 0 {
			d = time.Duration(s) * time.Second
		}
		if waited += d; waited > timeout(w) {
			return fmt.Errorf("%s was not evicted within %s: %s", w.Ref, timeout(w), budget(status(err)))
		}
		if err := b.sleep(ctx, d); err != nil {
			return fmt.Errorf("%s was not evicted within %s: %s", w.Ref, timeout(w), budget(status(err)))
		}
	}
}

// status gives the API server's answer to a failed request, empty when it gave none.
func status(err error) metav1.Status {
	var s apierrors.APIStatus
	if errors.As(err, &s) {
		return s.Status()
	}
	return metav1.Status{}
}

// budget gives the server's words on why an eviction is not allowed, with the budget.
func budget(s metav1.Status) string {
	text := s.Message
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			if c.Message != "" && !strings.Contains(text, c.Message) {
				text += " " + c.Message
			}
		}
	}
	return text
}

// DryServer in Write.Dry says that the diff is the server's own.
const DryServer = "server"

// Dry implements planner.Backend.
func (b *Backend) Dry(ctx context.Context, w incident.Write) (string, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	before, err := b.resource(w).Get(ctx, w.Ref.Name, metav1.GetOptions{})
	if apierrors.IsForbidden(err) {
		return w.Diff, "the server was not asked: this identity may not get " + w.Resource, nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return "", "", fmt.Errorf("read %s: %w", w.Ref, err)
	}
	if err != nil {
		before = nil
	}
	after, err := b.send(ctx, "dry-run", w, []string{metav1.DryRunAll})
	switch {
	case err == nil:
		if w.Verb == incident.VerbEvict {
			return "", DryServer, nil
		}
		return unified(w.Ref, before, after), DryServer, nil
	case apierrors.IsForbidden(err):
		return w.Diff, "the server was not asked: this identity may not " + w.Verb + " " + w.Resource, nil
	case apierrors.IsTooManyRequests(err):
		return w.Diff, "the server would not allow it now: " + budget(status(err)), nil
	case apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "dry run"), strings.Contains(err.Error(), "does not support dry run"):
		return w.Diff, "an admission webhook does not support dry runs: " + err.Error(), nil
	}
	return "", "", err
}

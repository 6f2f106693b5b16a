package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

var _ planner.Sourcer = (*Catalogue)(nil)

// net is what a step makes of one object.
type net struct {
	ref           incident.Ref
	before, after *unstructured.Unstructured
}

// Source implements planner.Sourcer: the change of the repository that the targets of
// a step are delivered from, nil when nobody delivers them. A restart, and a field that
// the tool demonstrably leaves to others (replicas, paused, suspend), is not set back
// and stays a direct change; so is what ends as it was, such as a Job made anew.
func (c *Catalogue) Source(ctx context.Context, step incident.Step) (*incident.SourcePatch, error) {
	k := c.cluster.session()
	nets, err := k.nets(ctx, step)
	if err != nil {
		return nil, err
	}
	for _, n := range nets {
		if n.before == nil {
			continue
		}
		by, ok := delivered(n)
		if !ok {
			continue
		}
		from := k.origin(ctx, by)
		p := &incident.SourcePatch{Tool: by.tool, Owner: from.owner, Where: from.where}
		var changes []string
		for _, x := range nets {
			p.Diff += unified(x.ref, x.before, x.after)
			changes = append(changes, x.lines()...)
		}
		p.Body = body(step, n, by, from, changes)
		return p, nil
	}
	return nil, nil
}

// nets follows the writes of a step through the objects that they change. Pods that a
// controller makes anew are in no repository.
func (c *Cluster) nets(ctx context.Context, step incident.Step) ([]*net, error) {
	var out []*net
	for _, w := range step.Writes {
		if w.API != incident.APIKubernetes || w.Verb == incident.VerbEvict {
			continue
		}
		i := slices.IndexFunc(out, func(n *net) bool { return n.ref == w.Ref })
		if i < 0 {
			n := &net{ref: w.Ref}
			o, err := c.Get(ctx, kindOf(w.Ref), w.Ref.Namespace, w.Ref.Name)
			switch {
			case apierrors.IsNotFound(err):
			case err != nil:
				return nil, err
			default:
				n.before, n.after = o.Unstructured, o.DeepCopy()
			}
			out = append(out, n)
			i = len(out) - 1
		}
		if err := out[i].apply(w); err != nil {
			return nil, fmt.Errorf("write %s of %s: %w", w.ID, w.Ref, err)
		}
	}
	return slices.DeleteFunc(out, func(n *net) bool {
		if n.before != nil && n.after == nil && metav1.GetControllerOf(n.before) != nil {
			return true
		}
		return len(n.changes()) == 0
	}), nil
}

func (n *net) apply(w incident.Write) error {
	switch w.Verb {
	case incident.VerbDelete:
		n.after = nil
		return nil
	case incident.VerbCreate:
		n.after = &unstructured.Unstructured{}
		return json.Unmarshal(w.Body, &n.after.Object)
	}
	if n.after == nil { // an earlier step of the plan makes it
		return nil
	}
	patch, err := jsonpatch.DecodePatch(w.Body)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(n.after.Object)
	if err != nil {
		return err
	}
	if raw, err = patch.Apply(raw); err != nil {
		return err
	}
	n.after = &unstructured.Unstructured{}
	return n.after.UnmarshalJSON(raw)
}

// fieldChange is a field that comes out otherwise. A step of its path is a name, or
// "[2]" in a list.
type fieldChange struct {
	path     []string
	from, to any
}

// changes lists the fields that the step leaves otherwise, without what the server
// and admission write. An object that goes or comes is one change.
func (n *net) changes() []fieldChange {
	clean := func(u *unstructured.Unstructured) any {
		if u == nil {
			return nil
		}
		x := fresh(&Object{Unstructured: u, Ref: n.ref})
		unstructured.RemoveNestedField(x.Object, "apiVersion")
		return x.Object
	}
	a, b := clean(n.before), clean(n.after)
	if a == nil || b == nil {
		if a == nil && b == nil {
			return nil
		}
		return []fieldChange{{from: a, to: b}}
	}
	return compared(nil, a, b)
}

// compared compares two values: maps by name, lists of one length by place.
func compared(path []string, a, b any) []fieldChange {
	x, xm := a.(map[string]any)
	y, ym := b.(map[string]any)
	l, ll := a.([]any)
	m, ml := b.([]any)
	var out []fieldChange
	switch {
	case xm && ym, xm && b == nil && len(x) > 0, ym && a == nil && len(y) > 0:
		all := map[string]bool{}
		for k := range x {
			all[k] = true
		}
		for k := range y {
			all[k] = true
		}
		for _, k := range sorted(all) {
			out = append(out, compared(append(slices.Clone(path), k), x[k], y[k])...)
		}
	case ll && ml && len(l) == len(m):
		for i := range l {
			out = append(out, compared(append(slices.Clone(path), fmt.Sprintf("[%d]", i)), l[i], m[i])...)
		}
	case jsonText(a) != jsonText(b) && (!empties(a) || !empties(b)):
		out = append(out, fieldChange{path, a, b})
	}
	return out
}

// empties reports whether a value is nothing: servers write {} and leave it out.
func empties(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(x) == 0
	case []any:
		return len(x) == 0
	}
	return false
}

// String writes the path as CheckField does.
func (f fieldChange) String() string {
	s := ""
	for _, step := range f.path {
		if strings.HasPrefix(step, "[") {
			s += step
			continue
		}
		s = dotted(s, step)
	}
	return s
}

// lines say which fields come out otherwise.
func (n *net) lines() []string {
	var out []string
	for _, f := range n.changes() {
		switch {
		case len(f.path) == 0 && f.to == nil:
			out = append(out, n.ref.String()+" goes")
		case len(f.path) == 0:
			out = append(out, n.ref.String()+" is new")
		default:
			out = append(out, fmt.Sprintf("%s, %s: from %s to %s", n.ref, f, jsonText(f.from), jsonText(f.to)))
		}
	}
	return out
}

// delivered tells who would set the change of an object back, if anybody.
func delivered(n *net) (keeper, bool) {
	by, marked := keeperOf(n.before)
	if !marked {
		return by, false
	}
	known, owned := false, false
	for _, m := range n.before.GetManagedFields() {
		if k := managers()[m.Manager]; k.tool != by.tool || k.kind != by.kind || m.Subresource != "" || m.FieldsV1 == nil {
			continue
		}
		var fields map[string]any
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		known = true
		for _, f := range n.changes() {
			owned = owned || owns(fields, n.before.Object, f.path)
		}
	}
	if by.name == "" && known && !owned { // only a field manager tells, and not of these fields
		return by, false
	}
	if slices.ContainsFunc(n.changes(), func(f fieldChange) bool { return !direct(f, known && !owned) }) {
		return by, true
	}
	return by, false
}

// direct reports whether a field is left alone by delivery tools: the annotation of a
// restart always, those of day-to-day operation when the tool does not own them.
func direct(f fieldChange, unowned bool) bool {
	if slices.Contains(f.path, restartedAt) {
		return true
	}
	return unowned && slices.Contains([]string{"spec.replicas", "spec.paused", "spec.suspend", "spec.unschedulable"}, f.String())
}

// owns reports whether a manager's fields (FieldsV1) hold the field at a path, as a
// whole or in part. An element of a list is found by the keys that name it.
func owns(fields map[string]any, object any, path []string) bool {
	for _, step := range path {
		var next any
		switch x := object.(type) {
		case []any:
			var i int
			if _, err := fmt.Sscanf(step, "[%d]", &i); err != nil || i >= len(x) {
				return false
			}
			object = x[i]
			next = element(fields, object)
		default:
			m, _ := object.(map[string]any)
			next, object = fields["f:"+step], m[step]
		}
		under, ok := next.(map[string]any)
		if !ok {
			return false
		}
		if len(under) == 0 {
			return true
		}
		fields = under
	}
	return true
}

// element finds the entry of a list element: k:{"name":"serve"} or v:"a".
func element(fields map[string]any, v any) any {
	for key, under := range fields {
		if raw, ok := strings.CutPrefix(key, "v:"); ok && raw == jsonText(v) {
			return under
		}
		raw, ok := strings.CutPrefix(key, "k:")
		if !ok {
			continue
		}
		var want map[string]any
		m, isMap := v.(map[string]any)
		if json.Unmarshal([]byte(raw), &want) != nil || !isMap {
			continue
		}
		all := true
		for k, w := range want {
			all = all && jsonText(m[k]) == jsonText(w)
		}
		if all {
			return under
		}
	}
	return nil
}

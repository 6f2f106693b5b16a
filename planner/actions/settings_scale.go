package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// patchAutoscaler changes bounds, target or a resource metric. An autoscaler that a
// ScaledObject makes is changed there.
func patchAutoscaler(ctx context.Context, c *Cluster, p params) (*draft, error) {
	asked, err := c.either(ctx, p, "HorizontalPodAutoscaler.autoscaling", "ScaledObject.keda.sh")
	if err != nil {
		return nil, err
	}
	o := asked
	if r := controlled(asked); r != nil {
		above, err := c.climber().up(ctx, asked)
		if err != nil {
			return nil, err
		}
		if above == nil || above.Ref.Kind != "ScaledObject" {
			return nil, p.refuse(fmt.Sprintf("change %s %s", r.Kind, r.Name), "%s is made by %s %s, which sets a change back", asked.Ref, r.Kind, r.Name)
		}
		o = above
	}
	low, high := "minReplicas", "maxReplicas"
	if o.Ref.Kind == "ScaledObject" {
		low, high = "minReplicaCount", "maxReplicaCount"
	}
	after := o.DeepCopy()
	var changes []string
	var checks []incident.Check
	note := func(path, from, to string) {
		changes = append(changes, fmt.Sprintf("%s from %s to %s", path[strings.LastIndex(path, ".")+1:], from, to))
		checks = append(checks, fieldIs(o, path, to, path+" is "+to))
	}
	for param, field := range map[string]string{"min": low, "max": high} {
		if p.str(param) == "" {
			continue
		}
		to := p.num(param, 0)
		from := "none"
		if n, ok, _ := unstructured.NestedInt64(after.Object, "spec", field); ok {
			from = fmt.Sprint(n)
		}
		if from == fmt.Sprint(to) {
			continue
		}
		if err := unstructured.SetNestedField(after.Object, to, "spec", field); err != nil {
			return nil, err
		}
		note("spec."+field, from, fmt.Sprint(to))
	}
	if err := sane(p, o, after, low, high); err != nil {
		return nil, err
	}
	if t := p.str("target"); t != "" {
		if err := c.retarget(ctx, p, o, after, t, note); err != nil {
			return nil, err
		}
	}
	if p.str("resource") != "" || p.str("utilization") != "" {
		if err := utilization(p, o, after, note); err != nil {
			return nil, err
		}
	}
	if len(changes) == 0 {
		return nil, p.missing("max", "say what of %s shall change; now %s", o.Ref, autoscalerText(o.Unstructured, low, high))
	}
	slices.Sort(changes)
	say := fmt.Sprintf("Change %s: %s", o.Ref, strings.Join(changes, ", "))
	d := c.draft("%s", say)
	if o != asked {
		d.target(asked, "controlled by "+o.Ref.String())
		d.Warnings = append(d.Warnings, asked.Ref.String()+" is made by "+o.Ref.String()+", which is changed instead")
	}
	if err := d.patch(o, say, func(u *unstructured.Unstructured) error {
		u.Object = after.Object
		return nil
	}); err != nil {
		return nil, err
	}
	d.Warnings = append(d.Warnings, "it may start or stop pods as soon as it decides again")
	slices.SortFunc(checks, func(a, b incident.Check) int { return strings.Compare(a.Params["path"], b.Params["path"]) })
	d.Verify = checks
	return d, nil
}

// sane refuses bounds that no autoscaler takes.
func sane(p params, o *Object, after *unstructured.Unstructured, low, high string) error {
	lo, given, _ := unstructured.NestedInt64(after.Object, "spec", low)
	hi, bounded, _ := unstructured.NestedInt64(after.Object, "spec", high)
	switch {
	case given && lo < 0, given && lo == 0 && o.Ref.Kind == "HorizontalPodAutoscaler" && p.str("min") != "":
		return p.missing("min", "%d is too few for %s", lo, o.Ref)
	case bounded && hi < 1:
		return p.missing("max", "%d is too few for %s", hi, o.Ref)
	case given && bounded && lo > hi:
		return p.missing("max", "%s would have min %d above max %d", o.Ref, lo, hi)
	}
	return nil
}

func (c *Cluster) retarget(ctx context.Context, p params, o *Object, after *unstructured.Unstructured, target string, note func(path, from, to string)) error {
	kind, name, ok := strings.Cut(target, "/")
	if !ok {
		return p.missing("target", "write it as Kind/name")
	}
	w, err := c.Get(ctx, kind, o.GetNamespace(), name)
	if notThere(err) {
		return p.missing("target", "there is no %s %s/%s", kind, o.GetNamespace(), name)
	}
	if err != nil {
		return err
	}
	was, _, _ := unstructured.NestedStringMap(after.Object, "spec", "scaleTargetRef")
	if was["kind"] == w.Ref.Kind && was["name"] == name {
		return nil
	}
	ref := map[string]any{"apiVersion": w.GetAPIVersion(), "kind": w.Ref.Kind, "name": name}
	if err := unstructured.SetNestedMap(after.Object, ref, "spec", "scaleTargetRef"); err != nil {
		return err
	}
	if was["kind"] != w.Ref.Kind {
		note("spec.scaleTargetRef.kind", orNone(was["kind"]), w.Ref.Kind)
	}
	if was["name"] != name {
		note("spec.scaleTargetRef.name", orNone(was["name"]), name)
	}
	return nil
}

// utilization sets the target of a resource metric, or adds the metric.
func utilization(p params, o *Object, after *unstructured.Unstructured, note func(path, from, to string)) error {
	if o.Ref.Kind != "HorizontalPodAutoscaler" {
		return p.refuse("change its triggers in its manifest", "%s has triggers and no resource metrics", o.Ref)
	}
	res, want := p.str("resource"), p.num("utilization", 0)
	if res == "" {
		return p.missing("resource", "say whose utilisation is meant, such as cpu")
	}
	if want < 1 {
		return p.missing("utilization", "say the target in percent of the request")
	}
	list, _, _ := unstructured.NestedSlice(after.Object, "spec", "metrics")
	at := slices.IndexFunc(list, func(v any) bool {
		m, _ := v.(map[string]any)
		r, _ := m["resource"].(map[string]any)
		return text(r, "name") == res
	})
	from := "none"
	metric := map[string]any{"type": "Resource", "resource": map[string]any{"name": res, "target": map[string]any{"type": "Utilization", "averageUtilization": want}}}
	if at < 0 {
		at = len(list)
		list = append(list, metric)
	} else {
		m, _ := list[at].(map[string]any)
		if n, ok, _ := unstructured.NestedInt64(m, "resource", "target", "averageUtilization"); ok {
			from = fmt.Sprint(n)
		}
		list[at] = metric
	}
	if from == fmt.Sprint(want) {
		return p.missing("utilization", "the target of %s is %d%% already", res, want)
	}
	note(fmt.Sprintf("spec.metrics[%d].resource.target.averageUtilization", at), from, fmt.Sprint(want))
	return unstructured.SetNestedSlice(after.Object, list, "spec", "metrics")
}

func autoscalerText(u *unstructured.Unstructured, low, high string) string {
	spec, _ := u.Object["spec"].(map[string]any)
	ref, _, _ := unstructured.NestedStringMap(u.Object, "spec", "scaleTargetRef")
	return fmt.Sprintf("%s %v, %s %v, target %s/%s, metrics %s", low, spec[low], high, spec[high], ref["kind"], ref["name"], jsonText(spec["metrics"]))
}

// pvc reads the claim and what it asks for.
func (c *Cluster) pvc(ctx context.Context, p params) (o *Object, phase string, size resource.Quantity, err error) {
	if o, err = c.Get(ctx, "PersistentVolumeClaim", p.str("namespace"), p.str("name")); err != nil {
		return nil, "", size, err
	}
	phase, _, _ = unstructured.NestedString(o.Object, "status", "phase")
	s, _, _ := unstructured.NestedString(o.Object, "spec", "resources", "requests", "storage")
	if size, err = resource.ParseQuantity(s); err != nil {
		return nil, "", size, fmt.Errorf("%s: spec.resources.requests.storage %q: %w", o.Ref, s, err)
	}
	return o, phase, size, nil
}

// storageClass reads the StorageClass of a claim; nil when it names none.
func (c *Cluster) storageClass(ctx context.Context, p params, param, name string) (*Object, error) {
	if name == "" {
		return nil, nil
	}
	o, err := c.Get(ctx, "StorageClass.storage.k8s.io", "", name)
	if notThere(err) {
		var there []string
		list, err := c.List(ctx, "StorageClass.storage.k8s.io", "", "", "")
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			there = append(there, s.GetName())
		}
		return nil, p.missing(param, "there is no StorageClass %s; there are %s", name, orNone(strings.Join(there, ", ")))
	}
	return o, err
}

func recreatePVC(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, phase, _, err := c.pvc(ctx, p)
	if err != nil {
		return nil, err
	}
	if phase != "Pending" {
		return nil, p.refuse("copy the data to another claim, or pvc_expand", "%s is %s: with the claim its data may go", o.Ref, orNone(phase))
	}
	if v, _, _ := unstructured.NestedString(o.Object, "spec", "volumeName"); v != "" {
		return nil, p.refuse("look at PersistentVolume "+v, "%s names the volume %s, which may hold data", o.Ref, v)
	}
	if r := controlled(o); r != nil {
		return nil, p.refuse(fmt.Sprintf("change the volume in the template of %s %s", r.Kind, r.Name), "%s is made by %s %s", o.Ref, r.Kind, r.Name)
	}
	if set, err := c.setOf(ctx, o); err != nil {
		return nil, err
	} else if set != "" {
		return nil, p.refuse("change volumeClaimTemplates there, which means to delete it with orphaned pods and create it again", "%s is made from a template of StatefulSet %s, which makes it anew at once", o.Ref, set)
	}
	class, _, _ := unstructured.NestedString(o.Object, "spec", "storageClassName")
	var changes []string
	next := fresh(o)
	set := func(what, from, to string, v any, path ...string) error {
		if to == "" || from == to {
			return nil
		}
		changes = append(changes, fmt.Sprintf("%s from %s to %s", what, orNone(from), to))
		return unstructured.SetNestedField(next.Object, v, append([]string{"spec"}, path...)...)
	}
	modes, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "accessModes")
	size, _, _ := unstructured.NestedString(o.Object, "spec", "resources", "requests", "storage")
	for _, err := range []error{
		set("StorageClass", class, p.str("storage_class"), p.str("storage_class"), "storageClassName"),
		set("size", size, p.str("size"), p.str("size"), "resources", "requests", "storage"),
		set("access mode", strings.Join(modes, ","), p.str("access_mode"), []any{p.str("access_mode")}, "accessModes"),
	} {
		if err != nil {
			return nil, err
		}
	}
	if len(changes) == 0 {
		return nil, p.missing("storage_class", "say what of %s shall be other: storage_class (now %s), size (now %s) or access_mode (now %s)", o.Ref, orNone(class), size, strings.Join(modes, ","))
	}
	sc, err := c.storageClass(ctx, p, "storage_class", p.str("storage_class"))
	if err != nil {
		return nil, err
	}
	say := fmt.Sprintf("Delete %s and create it with %s", o.Ref, strings.Join(changes, ", "))
	d := c.draft("%s", say)
	if err := d.replace(o, "create "+o.Ref.String()+" with "+strings.Join(changes, ", "), func(u *unstructured.Unstructured) error {
		u.Object = next.Object
		return nil
	}); err != nil {
		return nil, err
	}
	d.Verify = []incident.Check{{Kind: CheckExists, Subject: o.Ref, Say: o.Ref.String() + " is there", Within: 60}}
	if sc != nil {
		if mode, _, _ := unstructured.NestedString(sc.Object, "volumeBindingMode"); mode != "WaitForFirstConsumer" {
			d.Verify = append(d.Verify, fieldIs(o, "status.phase", "Bound", o.Ref.String()+" is bound"))
			d.Verify[1].Within = 300
		} else {
			d.Warnings = append(d.Warnings, "its class binds when the first pod that uses it is scheduled")
		}
	}
	return d, nil
}

// setOf names the StatefulSet from whose template a claim is made: template, set and
// ordinal are its name (kubernetes.io, StatefulSets, stable storage).
func (c *Cluster) setOf(ctx context.Context, o *Object) (string, error) {
	list, err := c.List(ctx, "StatefulSet.apps", o.GetNamespace(), "", "")
	if err != nil {
		return "", err
	}
	for _, s := range list {
		templates, _, _ := unstructured.NestedSlice(s.Object, "spec", "volumeClaimTemplates")
		for _, v := range templates {
			m, _ := v.(map[string]any)
			name, _, _ := unstructured.NestedString(m, "metadata", "name")
			if rest, ok := strings.CutPrefix(o.GetName(), name+"-"+s.GetName()+"-"); ok && strings.Trim(rest, "0123456789") == "" && rest != "" {
				return s.GetName(), nil
			}
		}
	}
	return "", nil
}

func expandPVC(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, phase, size, err := c.pvc(ctx, p)
	if err != nil {
		return nil, err
	}
	class, _, _ := unstructured.NestedString(o.Object, "spec", "storageClassName")
	if phase != "Bound" {
		return nil, p.refuse("pvc_recreate, since it holds nothing", "%s is %s: only a bound claim grows", o.Ref, orNone(phase))
	}
	sc, err := c.storageClass(ctx, p, "name", class)
	if err != nil {
		return nil, err
	}
	allowed := false
	if sc != nil {
		allowed, _, _ = unstructured.NestedBool(sc.Object, "allowVolumeExpansion")
	}
	if !allowed {
		return nil, p.refuse("copy the data to a larger claim", "StorageClass %s does not allow volumes to grow (allowVolumeExpansion)", orNone(class))
	}
	if p.str("size") == "" {
		return nil, p.missing("size", "say how large %s shall be; now %s", o.Ref, size.String())
	}
	want, err := resource.ParseQuantity(p.str("size"))
	if err != nil {
		return nil, p.missing("size", "%v", err)
	}
	if want.Cmp(size) <= 0 {
		return nil, p.missing("size", "%s is no more than the %s that it asks for now: a volume does not shrink", p.str("size"), size.String())
	}
	say := fmt.Sprintf("Expand %s from %s to %s", o.Ref, size.String(), p.str("size"))
	d := c.draft("%s", say)
	if err := d.patch(o, say, func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedField(u.Object, p.str("size"), "spec", "resources", "requests", "storage")
	}); err != nil {
		return nil, err
	}
	d.Undo, d.Lasting = nil, "the size: a volume does not shrink"
	d.Warnings = append(d.Warnings, "some drivers grow the file system only when the pod that uses it starts anew")
	d.Verify = []incident.Check{{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": "status.capacity.storage", "value": p.str("size")}, Say: "the volume has " + p.str("size"), Within: 900}}
	return d, nil
}

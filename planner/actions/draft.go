package actions

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/rogpeppe/go-internal/diff"
	"gomodules.xyz/jsonpatch/v2"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// draft builds a planner.Draft on a cluster: each change leaves its request, its
// undo, its target, and what later steps of the plan will see.
type draft struct {
	planner.Draft
	c *Cluster
}

func (c *Cluster) draft(say string, args ...any) *draft {
	return &draft{Draft: planner.Draft{Say: fmt.Sprintf(say, args...)}, c: c}
}

// target names an object that the step relies on or changes, once.
func (d *draft) target(o *Object, observed string) {
	for i, t := range d.Targets {
		if t.Ref == o.Ref {
			if d.Targets[i].Observed == "" {
				d.Targets[i].Observed = observed
			}
			return
		}
	}
	t := incident.Target{
		Ref: o.Ref, Version: o.GVR.Version, Resource: o.GVR.Resource, UID: string(o.GetUID()), ResourceVersion: o.GetResourceVersion(), Labels: o.GetLabels(),
		Observed: observed, Owner: owner(o.Unstructured), System: system(o.Unstructured),
	}
	// What an earlier step changes is checked by the write itself, not before the plan begins.
	if _, earlier := d.c.planned[o.Ref]; !earlier {
		t.Digest = Digest(o.Unstructured)
	}
	d.Targets = append(d.Targets, t)
}

func (d *draft) write(o *Object, verb, say string) incident.Write {
	return incident.Write{
		API: incident.APIKubernetes, Verb: verb, Ref: o.Ref, Version: o.GVR.Version, Resource: o.GVR.Resource,
		UID: string(o.GetUID()), Digest: Digest(o.Unstructured), Say: say,
	}
}

// patch changes an object in place. Undo puts back what was there, unless somebody
// else changed the object in between.
func (d *draft) patch(o *Object, say string, change func(u *unstructured.Unstructured) error) error {
	after := o.DeepCopy()
	if err := change(after); err != nil {
		return err
	}
	body, err := jsonPatch(o.Unstructured, after)
	if err != nil {
		return err
	}
	back, err := jsonPatch(after, o.Unstructured)
	if err != nil {
		return err
	}
	if body == nil {
		return fmt.Errorf("%s already is as the change wants it: there is nothing to do", o.Ref)
	}
	d.target(o, "")
	w := d.write(o, incident.VerbPatch, say)
	w.Body, w.Diff = body, unified(o.Ref, o.Unstructured, after)
	d.add(w, incident.Write{API: w.API, Verb: incident.VerbPatch, Ref: w.Ref, Version: w.Version, Resource: w.Resource, UID: w.UID, Body: back, Say: "put back " + o.Ref.String()})
	d.c.planned[o.Ref] = after
	return nil
}

// create makes an object; undo deletes it again.
func (d *draft) create(kind string, u *unstructured.Unstructured, say string) error {
	m, err := d.c.mapping(kind)
	if err != nil {
		return err
	}
	u.SetGroupVersionKind(m.GroupVersionKind)
	body, err := json.Marshal(u.Object)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, u.GetName(), err)
	}
	o := d.c.object(m, u)
	w := d.write(o, incident.VerbCreate, say)
	w.UID, w.Digest, w.Body, w.Diff = "", "", body, unified(o.Ref, nil, u)
	d.add(w, incident.Write{API: w.API, Verb: incident.VerbDelete, Ref: w.Ref, Version: w.Version, Resource: w.Resource, Grace: -1, Say: "delete " + o.Ref.String() + " again"})
	d.c.planned[o.Ref] = u.DeepCopy()
	return nil
}

// remove deletes an object and waits until it is gone; undo creates it again as it
// was, which makes another object of the same name.
func (d *draft) remove(o *Object, say string, within int) error {
	d.target(o, "")
	w := d.write(o, incident.VerbDelete, say)
	w.Grace = -1
	w.Await, w.Diff = []incident.Check{Gone(o, within)}, unified(o.Ref, o.Unstructured, nil)
	body, err := json.Marshal(anew(o.Unstructured).Object)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Ref, err)
	}
	d.add(w, incident.Write{API: w.API, Verb: incident.VerbCreate, Ref: w.Ref, Version: w.Version, Resource: w.Resource, Body: body, Say: "create " + o.Ref.String() + " as it was"})
	d.c.planned[o.Ref] = nil
	return nil
}

// evict asks for the eviction of a pod, which honours disruption budgets, and waits
// until it is gone. A pod is not brought back by an undo: its controller makes a new one.
func (d *draft) evict(pod *Object, say string, within int) {
	d.target(pod, "")
	w := d.write(pod, incident.VerbEvict, say)
	w.Grace, w.Timeout = -1, within
	w.Digest = "" // labels of a pod may change; its uid is what counts
	w.Await = []incident.Check{Gone(pod, within)}
	d.Writes = append(d.Writes, w)
	d.c.planned[pod.Ref] = nil
}

// add appends a write, and its undo before those of earlier writes. The ids are
// given by the planner; until then Of holds the place of the write.
func (d *draft) add(w, undo incident.Write) {
	d.Writes = append(d.Writes, w)
	undo.Of = fmt.Sprint(len(d.Writes))
	d.Undo = slices.Insert(d.Undo, 0, undo)
}

// Gone is the check that an object is no longer there.
func Gone(o *Object, within int) incident.Check {
	return incident.Check{Kind: CheckGone, Subject: o.Ref, Params: map[string]string{"uid": string(o.GetUID())}, Say: o.Ref.String() + " is gone", Within: within}
}

// anew is an object as it would be created again: without what the server gives.
func anew(u *unstructured.Unstructured) *unstructured.Unstructured {
	n := u.DeepCopy()
	for _, f := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"} {
		unstructured.RemoveNestedField(n.Object, "metadata", f)
	}
	unstructured.RemoveNestedField(n.Object, "status")
	return n
}

// jsonPatch is the least JSON patch (RFC 6902) between two states of an object,
// without status and the server's own fields. Only what changes is in it, so that a
// plan does not carry the rest of an object about.
func jsonPatch(before, after *unstructured.Unstructured) (json.RawMessage, error) {
	a, err := json.Marshal(anew(before).Object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", before.GetName(), err)
	}
	b, err := json.Marshal(anew(after).Object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", before.GetName(), err)
	}
	ops, err := jsonpatch.CreatePatch(a, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", before.GetName(), err)
	}
	if len(ops) == 0 {
		return nil, nil
	}
	return json.Marshal(ops)
}

// unified shows what a change makes of an object, as YAML; a side that is nil is not there.
func unified(ref incident.Ref, before, after *unstructured.Unstructured) string {
	text := func(u *unstructured.Unstructured) []byte {
		if u == nil {
			return nil
		}
		n := anew(u)
		if notes := n.GetAnnotations(); len(notes) > 0 {
			delete(notes, "kubectl.kubernetes.io/last-applied-configuration")
			delete(notes, Annotation)
			n.SetAnnotations(notes)
			if len(notes) == 0 {
				unstructured.RemoveNestedField(n.Object, "metadata", "annotations")
			}
		}
		raw, err := yaml.Marshal(n.Object)
		if err != nil {
			return []byte(err.Error())
		}
		return raw
	}
	return string(diff.Diff("a/"+ref.Path(), text(before), "b/"+ref.Path(), text(after)))
}

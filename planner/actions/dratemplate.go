package actions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// dra are the actions on claims, templates, classes, slices, taint rules and drivers.
func dra(c *Cluster) []*action {
	claims := planner.Right{Group: "resource.k8s.io", Resources: []string{"resourceclaims", "resourceclaimtemplates", "deviceclasses"}, Verbs: []string{"get", "list"}}
	remake := []planner.Right{
		claims,
		{Resources: []string{"pods"}, Verbs: []string{"get", "list", "create", "delete", "patch"}},
		{Resources: []string{"pods/eviction"}, Verbs: []string{"create"}},
		{Group: "apps", Resources: []string{"deployments", "statefulsets", "daemonsets", "replicasets"}, Verbs: []string{"get", "list", "patch"}},
		{Group: "batch", Resources: []string{"jobs", "cronjobs"}, Verbs: []string{"get", "list", "create", "delete", "patch"}},
		{Group: "leaderworkerset.x-k8s.io", Resources: []string{"leaderworkersets"}, Verbs: []string{"get", "list", "patch"}},
		{Group: "jobset.x-k8s.io", Resources: []string{"jobsets"}, Verbs: []string{"get", "list", "create", "delete", "patch"}},
		{Group: "ray.io", Resources: []string{"rayclusters", "rayservices", "rayjobs"}, Verbs: []string{"get", "list", "create", "delete", "patch"}},
	}
	namespace := planner.Param{Name: "namespace", Required: true, Text: "the namespace of the claim"}
	workload := []planner.Param{
		{Name: "workload", Object: true, Text: "the workload whose pods change, where several use the template"},
		{Name: "workload_kind", Text: "the kind of the workload"},
	}
	sources := []string{"k8s.io/api/resource/v1, ResourceClaimTemplateSpec: the spec is immutable", "kubernetes.io/docs/concepts/workloads/controllers/statefulset, forced rollback"}
	list := []*action{
		{c: c, compile: replaceTemplate, info: planner.Info{
			Name: "claim_template_replace", Family: planner.DRA, Text: "Make a corrected ResourceClaimTemplate and point the workload's pods at it; the old one stays", Risk: incident.RiskMedium,
			Params: slices.Concat([]planner.Param{namespace,
				{Name: "template", Required: true, Object: true, Text: "the ResourceClaimTemplate whose spec is wrong"},
				{Name: "claim", Object: true, Text: "the claim that was made from it for the pod in question"}}, changeParams(), workload),
			Rights: append(slices.Clone(remake), planner.Right{Group: "resource.k8s.io", Resources: []string{"resourceclaimtemplates"}, Verbs: []string{"create", "delete", "patch"}}),
			Undo:   "the workload is pointed at the old template again and the new one is deleted; pods are made by their controller", Verify: "every pod of the workload has a node and its claims are allocated", Sources: sources,
		}},
	}
	return slices.Concat(list, claimActions(c, namespace, remake), deviceActions(c))
}

// Replaces is on a template that was made in the place of another and names that one.
const Replaces = "gumshoe.ai/replaces"

// replaceTemplate makes a new template, points the workload at it, and lets pods
// that would wait for ever on the old one be made anew.
func replaceTemplate(ctx context.Context, c *Cluster, p params) (*draft, error) {
	namespace, name := p.str("namespace"), p.str("template")
	old, err := c.Get(ctx, "ResourceClaimTemplate.resource.k8s.io", namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, p.missing("template", "there is no ResourceClaimTemplate %s in namespace %s", name, namespace)
	}
	if err != nil {
		return nil, err
	}
	fresh, k, err := changedTemplate(ctx, c, p, old)
	if err != nil {
		return nil, err
	}
	ref := toTemplate(name)
	u, err := c.user(ctx, p, namespace, p.str("claim"), ref)
	if err != nil {
		return nil, err
	}
	d := c.draft("Replace ResourceClaimTemplate %s for %s %s: %s", name, u.root.GetKind(), u.root.GetName(), strings.Join(k.said, ", "))
	d.Warnings = append(d.Warnings, k.warnings...)
	if o := metav1.GetControllerOf(old); o != nil {
		d.Warnings = append(d.Warnings, fmt.Sprintf("template %s is made by %s %s, which knows nothing of the new one", name, o.Kind, o.Name))
	}
	d.target(old, "its spec is what is replaced; it stays")
	if err := d.newTemplate(ctx, p, fresh); err != nil {
		return nil, err
	}
	if err := d.repoint(ctx, p, u, ref, toTemplate(fresh.GetName())); err != nil {
		return nil, err
	}
	return d, nil
}

// changedTemplate is the template with the change made, under a name that follows
// from its content, so that making the same change again makes nothing new.
func changedTemplate(ctx context.Context, c *Cluster, p params, old *Object) (*unstructured.Unstructured, *claimChange, error) {
	fresh := portable(old.Unstructured)
	outer, _ := fresh.Object["spec"].(map[string]any)
	spec, _ := outer["spec"].(map[string]any)
	if spec == nil {
		return nil, nil, fmt.Errorf("%s has no spec", old.Ref)
	}
	k := &claimChange{c: c, p: p}
	if err := k.apply(ctx, spec); err != nil {
		return nil, nil, err
	}
	raw, err := json.Marshal(outer)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", old.Ref, err)
	}
	sum := sha256.Sum256(raw)
	base := old.GetName()
	if from := old.GetAnnotations()[Replaces]; from != "" && regexp.MustCompile(`-[0-9a-f]{8}$`).MatchString(base) {
		base = base[:len(base)-9]
	}
	fresh.SetName(base[:min(len(base), 253-9)] + "-" + hex.EncodeToString(sum[:4]))
	notes := fresh.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	notes[Replaces] = old.GetName()
	fresh.SetAnnotations(notes)
	return fresh, k, nil
}

// newTemplate creates the template, unless an equal one is there already.
func (d *draft) newTemplate(ctx context.Context, p params, fresh *unstructured.Unstructured) error {
	there, err := d.c.Get(ctx, "ResourceClaimTemplate.resource.k8s.io", fresh.GetNamespace(), fresh.GetName())
	if err == nil {
		if !sameSpec(there.Unstructured, fresh) {
			return p.missing("template", "a template %s is there and has another spec: delete it or give it another name", fresh.GetName())
		}
		d.target(there, "it already has the corrected spec")
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return err
	}
	if err := d.create("ResourceClaimTemplate.resource.k8s.io", fresh, "Create ResourceClaimTemplate "+fresh.GetName()+" with the corrected spec"); err != nil {
		return err
	}
	ref := d.Writes[len(d.Writes)-1].Ref
	d.Verify = append(d.Verify, incident.Check{Kind: CheckExists, Subject: ref, Say: ref.String() + " is there", Within: 30})
	return nil
}

func sameSpec(a, b *unstructured.Unstructured) bool {
	x, err := json.Marshal(a.Object["spec"])
	if err != nil {
		return false
	}
	y, err := json.Marshal(b.Object["spec"])
	return err == nil && string(x) == string(y)
}

// portable is an object as a copy under another name is made: without what ties it
// to its owner or to the tool that delivers the original, which would delete the copy.
func portable(u *unstructured.Unstructured) *unstructured.Unstructured {
	n := anew(u)
	unstructured.RemoveNestedField(n.Object, "metadata", "ownerReferences")
	unstructured.RemoveNestedField(n.Object, "metadata", "finalizers")
	unstructured.RemoveNestedField(n.Object, "metadata", "generateName")
	keep := func(in map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range in {
			domain, _, _ := strings.Cut(k, "/")
			switch {
			case k == "kubectl.kubernetes.io/last-applied-configuration", k == Annotation, k == Replaces, k == "app.kubernetes.io/managed-by", k == "app.kubernetes.io/instance",
				strings.HasSuffix(domain, "argoproj.io"), strings.HasSuffix(domain, "fluxcd.io"), strings.HasSuffix(domain, "helm.sh"), strings.HasPrefix(domain, "objectset.rio.cattle.io"):
			default:
				out[k] = v
			}
		}
		return out
	}
	n.SetLabels(keep(n.GetLabels()))
	n.SetAnnotations(keep(n.GetAnnotations()))
	return n
}

// repoint makes a workload's pods name something else in their resourceClaims, in an
// order that leaves nothing waiting for ever.
func (d *draft) repoint(ctx context.Context, p params, u *user, from, to reference) error {
	how := follows(kindKey(u.root))
	switch {
	case u.above != "":
		return p.refuse("change it in "+u.above, "%s makes %s and would take the change back", u.above, u.root.Ref)
	case how == "":
		return p.refuse("change "+u.root.Ref.String()+" by hand, or by its own operator's means", "how %s replaces its pods is not known here", u.root.GetKind())
	}
	if paused, _, _ := unstructured.NestedBool(u.root.Object, "spec", "paused"); paused {
		return p.refuse("resume the rollout first (resume_rollout)", "%s is paused: no pod would follow the change", u.root.Ref)
	}
	change := func(x *unstructured.Unstructured) error {
		for _, e := range from.in(x.Object) {
			delete(e, from.field)
			e[to.field] = to.name
		}
		return nil
	}
	say := fmt.Sprintf("Let the pods of %s %s use %s", u.root.GetKind(), u.root.GetName(), to.name)
	if how == anewAll {
		return d.remakeUser(ctx, u, change)
	}
	if err := d.partitioned(p, u); err != nil {
		return err
	}
	if err := d.patch(u.root, say, change); err != nil {
		return err
	}
	if how == byHand {
		d.seen(u.root)
	}
	for _, o := range u.between { // a Job of a CronJob stays as it was made
		if follows(kindKey(o)) == anewAll && !over(o) {
			if err := d.remake(ctx, o, change, podsOf(u.pods, o)); err != nil {
				return err
			}
			d.judge(o, podsOf(u.pods, o))
		}
	}
	waits := u.waiting()
	if how == byHand {
		for _, pod := range waits {
			d.evict(pod, "Delete pod "+pod.GetName()+", which waits on "+from.name+": its controller makes it anew", 120)
		}
		if len(waits) > 0 {
			d.Lasting = "the pods that waited are made anew by their controller; one that waits on the new template when it is undone has to be deleted by hand"
		}
	}
	if how != nextRun {
		if err := d.hurt(ctx, u.running()); err != nil {
			return err
		}
		d.judge(u.root, u.pods)
	}
	return d.fitAfter(ctx, waits, change)
}

// partitioned refuses a StatefulSet whose partition keeps the change from the pods
// that wait, and mentions an update strategy that touches no running pod.
func (d *draft) partitioned(p params, u *user) error {
	if u.root.GetKind() != "StatefulSet" {
		return nil
	}
	if s, _, _ := unstructured.NestedString(u.root.Object, "spec", "updateStrategy", "type"); s == "OnDelete" {
		d.Warnings = append(d.Warnings, u.root.Ref.String()+" has the update strategy OnDelete: pods that run keep the old template until they are deleted")
	}
	part, _, _ := unstructured.NestedInt64(u.root.Object, "spec", "updateStrategy", "rollingUpdate", "partition")
	for _, pod := range u.waiting() {
		n := pod.GetName()
		if i, err := strconv.ParseInt(n[strings.LastIndex(n, "-")+1:], 10, 64); err == nil && i < part {
			return p.refuse("lower spec.updateStrategy.rollingUpdate.partition first", "%s has the partition %d: pod %s would be made from the old revision again", u.root.Ref, part, n)
		}
	}
	return nil
}

// seen lets the next write wait until the controller has seen the patch before it:
// a pod that is deleted earlier may be made from the old revision again.
func (d *draft) seen(o *Object) {
	after := d.c.planned[o.Ref]
	if _, ok, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); !ok || o.GetGeneration() == 0 {
		return
	}
	after.SetGeneration(o.GetGeneration() + 1)
	w := &d.Writes[len(d.Writes)-1]
	w.Await = append(w.Await, incident.Check{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": "status.observedGeneration", "value": strconv.FormatInt(after.GetGeneration(), 10)},
		Say: "the controller of " + o.Ref.String() + " has seen the change", Within: 60})
}

func podsOf(pods []*Object, owner *Object) []*Object {
	return slices.DeleteFunc(slices.Clone(pods), func(p *Object) bool {
		o := metav1.GetControllerOf(p)
		return o == nil || o.UID != owner.GetUID()
	})
}

// remakeUser makes a workload anew that cannot be changed in place.
func (d *draft) remakeUser(ctx context.Context, u *user, change func(*unstructured.Unstructured) error) error {
	if u.root.GetKind() == "Pod" {
		if err := d.remake(ctx, u.root, change, nil); err != nil {
			return err
		}
		if onNode(u.root) && !podOver(u.root) {
			if err := d.hurt(ctx, u.pods); err != nil {
				return err
			}
		}
	} else if err := d.remake(ctx, u.root, change, u.pods); err != nil {
		return err
	}
	d.judge(u.root, u.pods)
	return d.fitAfter(ctx, u.waiting(), change)
}

// remake deletes an object and creates it again with a change. Undo does the same
// with the object as it was.
func (d *draft) remake(ctx context.Context, o *Object, change func(*unstructured.Unstructured) error, pods []*Object) error {
	again := renewed(o.Unstructured)
	say := "Delete " + o.Ref.String() + ": its pod template cannot be changed in place"
	if o.GetKind() == "Pod" {
		say = "Delete " + o.Ref.String() + ": the claims of a pod cannot be changed in place"
	}
	if err := d.remove(o, say, 300); err != nil {
		return err
	}
	body, err := json.Marshal(again.Object)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Ref, err)
	}
	d.Undo[0].Body = body
	fresh := again.DeepCopy()
	if err := change(fresh); err != nil {
		return err
	}
	kind := kindKey(o)
	if err := d.create(kind, fresh, "Create "+o.Ref.String()+" with the change"); err != nil {
		return err
	}
	d.Lasting = "what " + o.Ref.String() + " had done is not brought back: it starts again"
	running := slices.DeleteFunc(slices.Clone(pods), func(p *Object) bool { return !onNode(p) || podOver(p) })
	return d.hurt(ctx, running)
}

// renewed is an object as it is created again: what the server, a controller or the
// scheduler put into it when it was made is left out.
func renewed(u *unstructured.Unstructured) *unstructured.Unstructured {
	n := anew(u)
	switch u.GetKind() {
	case "Pod":
		renewPod(n)
	case "Job":
		if manual, _, _ := unstructured.NestedBool(n.Object, "spec", "manualSelector"); !manual {
			unstructured.RemoveNestedField(n.Object, "spec", "selector")
			for _, at := range [][]string{{"metadata", "labels"}, {"spec", "template", "metadata", "labels"}} {
				for _, l := range []string{"controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"} {
					unstructured.RemoveNestedField(n.Object, append(slices.Clone(at), l)...)
				}
			}
		}
	}
	return n
}

// renewPod takes out the node, and the token that admission mounts and mounts again.
func renewPod(n *unstructured.Unstructured) {
	unstructured.RemoveNestedField(n.Object, "spec", "nodeName")
	unstructured.RemoveNestedField(n.Object, "spec", "ephemeralContainers")
	unstructured.RemoveNestedField(n.Object, "metadata", "generateName")
	spec, _ := n.Object["spec"].(map[string]any)
	token := func(name string) bool { return strings.HasPrefix(name, "kube-api-access-") }
	without := func(m map[string]any, field, key string) {
		list, _ := m[field].([]any)
		kept := slices.DeleteFunc(slices.Clone(list), func(x any) bool {
			v, _ := x.(map[string]any)
			return token(text(v, key))
		})
		if m[field] = kept; len(kept) == 0 {
			delete(m, field)
		}
	}
	if spec == nil {
		return
	}
	without(spec, "volumes", "name")
	for _, field := range []string{"containers", "initContainers"} {
		for _, k := range mappings(spec[field]) {
			without(k, "volumeMounts", "name")
		}
	}
}

// judge adds what must hold before and after: pods that wait now are scheduled then.
func (d *draft) judge(o *Object, pods []*Object) {
	if slices.ContainsFunc(pods, func(p *Object) bool { return !onNode(p) && !podOver(p) }) {
		d.Before = append(d.Before, incident.Check{Kind: CheckPending, Subject: o.Ref, Say: o.Ref.String() + " still waits for a node"})
	} else {
		d.Warnings = append(d.Warnings, "no pod of "+o.Ref.String()+" waits for a node now")
	}
	d.Verify = append(d.Verify, incident.Check{Kind: CheckScheduled, Subject: o.Ref, Say: "every pod of " + o.Ref.String() + " has a node and its claims are allocated", Within: 300, Hold: 5})
}

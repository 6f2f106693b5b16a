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
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// claimKind and claimFinalizer: k8s.io/api/resource/v1. The finalizer stays while a
// claim is allocated or reserved; the claim controller takes it away.
const (
	claimKind      = "ResourceClaim.resource.k8s.io"
	claimFinalizer = "resource.kubernetes.io/delete-protection"
)

func claimActions(c *Cluster, namespace planner.Param, remake []planner.Right) []*action {
	claims := planner.Right{Group: "resource.k8s.io", Resources: []string{"resourceclaims"}, Verbs: []string{"get", "list", "create", "delete", "patch"}}
	sources := []string{"k8s.io/api/resource/v1, ResourceClaimSpec: immutable; the finalizer resource.kubernetes.io/delete-protection", "k8s.io/kubernetes pkg/controller/resourceclaim: deallocation once nobody is reserved"}
	return []*action{
		{c: c, compile: recreateClaim, info: planner.Info{
			Name: "claim_recreate", Family: planner.DRA, Text: "Delete a ResourceClaim and create it with a corrected spec; pods that wait for it take the new one", Risk: incident.RiskMedium,
			Params: slices.Concat([]planner.Param{namespace, {Name: "claim", Required: true, Object: true, Text: "the ResourceClaim whose spec is wrong"},
				{Name: "pod", Object: true, Text: "the running pod that may be stopped, where one holds the claim"}}, changeParams()),
			Rights: append(slices.Clone(remake), claims), Undo: "the claim is created again as it was, without its allocation", Verify: "the claim is allocated and its pods have a node", Sources: sources,
		}},
		{c: c, compile: deleteClaim, info: planner.Info{
			Name: "claim_delete", Family: planner.DRA, Text: "Delete a ResourceClaim that is reserved for nobody that exists", Risk: incident.RiskMedium,
			Params: []planner.Param{namespace, {Name: "claim", Required: true, Object: true, Text: "the ResourceClaim"}},
			Rights: []planner.Right{claims, {Resources: []string{"pods"}, Verbs: []string{"get", "list"}}},
			Undo:   "the claim is created again as it was, without its allocation", Verify: "the claim is gone", Sources: sources,
		}},
	}
}

func (c *Cluster) claim(ctx context.Context, p params) (*Object, error) {
	o, err := c.Get(ctx, claimKind, p.str("namespace"), p.str("claim"))
	if apierrors.IsNotFound(err) {
		return nil, p.missing("claim", "there is no ResourceClaim %s in namespace %s", p.str("claim"), p.str("namespace"))
	}
	return o, err
}

// recreateClaim deletes the claim first: from then on the scheduler gives it to no
// pod, so that a pod its controller makes anew cannot take the old one again. What
// holds it goes next, which lets the claim go; then the new claim is made.
func recreateClaim(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.claim(ctx, p)
	if err != nil {
		return nil, err
	}
	if owner := metav1.GetControllerOf(o); owner != nil {
		return nil, p.refuse("replace its template (claim_template_replace), or change "+owner.Kind+" "+owner.Name, "claim %s is made by %s %s, which would not take another", o.GetName(), owner.Kind, owner.Name)
	}
	if o.GetDeletionTimestamp() != nil {
		return nil, p.refuse("wait until it is gone, then create it", "claim %s is being deleted already", o.GetName())
	}
	fresh := anew(o.Unstructured)
	unstructured.RemoveNestedField(fresh.Object, "metadata", "finalizers")
	was := fresh.DeepCopy()
	spec, _ := fresh.Object["spec"].(map[string]any)
	k := &claimChange{c: c, p: p}
	if err := k.apply(ctx, spec); err != nil {
		return nil, err
	}
	users, err := c.users(ctx, o.GetNamespace(), toClaim(o.GetName()))
	if err != nil {
		return nil, err
	}
	d := c.draft("Make ResourceClaim %s anew: %s", o.GetName(), strings.Join(k.said, ", "))
	d.Warnings = append(d.Warnings, k.warnings...)
	if err := d.remove(o, "Delete "+o.Ref.String()+": its spec cannot be changed in place", 300); err != nil {
		return nil, err
	}
	awaits := d.Writes[0].Await
	if d.Undo[0].Body, err = json.Marshal(was.Object); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Ref, err)
	}
	holders, err := d.stopHolders(ctx, p, o, users)
	if err != nil {
		return nil, err
	}
	if len(holders.stopped) > 0 {
		// The finalizer stays until the last holder is gone.
		d.Writes[0].Await = nil
		last := &d.Writes[len(d.Writes)-1]
		last.Await = append(last.Await, awaits...)
	}
	if err := d.create(claimKind, fresh, "Create "+o.Ref.String()+" with the corrected spec"); err != nil {
		return nil, err
	}
	for _, pod := range holders.bare {
		if err := d.create("Pod", pod, "Create pod "+pod.GetName()+" as it was"); err != nil {
			return nil, err
		}
	}
	if _, allocated, _ := unstructured.NestedMap(o.Object, "status", "allocation"); allocated {
		d.Lasting = "the devices that the claim holds now: another allocation is made when it is needed"
	}
	d.judgeClaim(o, users)
	var waits []*Object
	for _, u := range users {
		waits = append(waits, u.waiting()...)
	}
	return d, d.fitAfter(ctx, waits, func(*unstructured.Unstructured) error { return nil })
}

type holders struct {
	stopped []*Object
	// bare are those that no controller makes anew.
	bare []*unstructured.Unstructured
}

// stopHolders stops the pods that run with a claim. Only the pod that is named may
// be stopped.
func (d *draft) stopHolders(ctx context.Context, p params, claim *Object, users []*user) (holders, error) {
	var h holders
	for _, u := range users {
		for _, pod := range u.running() {
			if pod.GetName() != p.str("pod") {
				return h, p.refuse("name it as pod, if it may be stopped", "pod %s runs with claim %s", pod.GetName(), claim.GetName())
			}
			h.stopped = append(h.stopped, pod)
		}
	}
	for _, pod := range h.stopped {
		if metav1.GetControllerOf(pod) != nil {
			d.evict(pod, "Evict pod "+pod.GetName()+", which holds the claim: its controller makes it anew", 300)
			continue
		}
		again := renewed(pod.Unstructured)
		if err := d.remove(pod, "Delete pod "+pod.GetName()+", which holds the claim", 300); err != nil {
			return h, err
		}
		body, err := json.Marshal(again.Object)
		if err != nil {
			return h, fmt.Errorf("%s: %w", pod.Ref, err)
		}
		d.Undo[0].Body = body
		h.bare = append(h.bare, again)
	}
	return h, d.hurt(ctx, h.stopped)
}

// judgeClaim adds what must hold before and after a claim is made anew.
func (d *draft) judgeClaim(o *Object, users []*user) {
	for _, u := range users {
		if follows(kindKey(u.root)) == nextRun {
			continue
		}
		if len(u.waiting()) > 0 {
			d.Before = append(d.Before, incident.Check{Kind: CheckPending, Subject: u.root.Ref, Say: u.root.Ref.String() + " still waits for a node"})
		}
		d.Verify = append(d.Verify, incident.Check{Kind: CheckScheduled, Subject: u.root.Ref, Say: "every pod of " + u.root.Ref.String() + " has a node and its claims are allocated", Within: 300, Hold: 5})
	}
	if len(users) == 0 {
		// Nobody waits for it, so that it is not allocated: devices are given when a pod asks.
		d.Verify = append(d.Verify, incident.Check{Kind: CheckExists, Subject: o.Ref, Say: o.Ref.String() + " is there", Within: 30})
		d.Warnings = append(d.Warnings, "no pod uses "+o.Ref.String()+": whether it can be allocated shows when one does")
		return
	}
	d.Verify = append(d.Verify, incident.Check{Kind: CheckAllocated, Subject: o.Ref, Say: o.Ref.String() + " is allocated", Within: 300})
}

// deleteClaim deletes a claim that nobody that exists holds or waits for.
func deleteClaim(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.claim(ctx, p)
	if err != nil {
		return nil, err
	}
	if o.GetDeletionTimestamp() != nil {
		return nil, p.refuse("see who has to take the finalizers away", "claim %s is being deleted already and waits for its finalizers (%s)", o.GetName(), strings.Join(o.GetFinalizers(), ", "))
	}
	if err := c.unused(ctx, p, o); err != nil {
		return nil, err
	}
	results, _, _ := unstructured.NestedSlice(o.Object, "status", "allocation", "devices", "results")
	d := c.draft("Delete ResourceClaim %s, which nobody uses", o.GetName())
	if err := d.remove(o, d.Say, 120); err != nil {
		return nil, err
	}
	was := anew(o.Unstructured)
	unstructured.RemoveNestedField(was.Object, "metadata", "finalizers")
	if d.Undo[0].Body, err = json.Marshal(was.Object); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Ref, err)
	}
	if len(results) > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%s become free for others at once; a paused or queued workload that comes back to the claim finds none", plural(int64(len(results)), "device")))
		d.Lasting = "the devices that the claim holds now may be given to others in between"
	}
	for _, f := range o.GetFinalizers() {
		if f != claimFinalizer {
			d.Warnings = append(d.Warnings, "the finalizer "+f+" keeps the claim until its own controller has let it go")
		}
	}
	unused := incident.Check{Kind: CheckUnused, Subject: o.Ref, Say: o.Ref.String() + " is reserved for nobody that exists"}
	d.Before = []incident.Check{unused}
	d.Verify = []incident.Check{Gone(o, 120)}
	return d, nil
}

// unused refuses unless nobody that exists holds a claim or waits for it. What
// cannot be seen counts as a user.
func (c *Cluster) unused(ctx context.Context, p params, o *Object) error {
	const way = "delete the consumer first, if it is not needed"
	if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == "Pod" {
		pod, err := c.Get(ctx, "Pod", o.GetNamespace(), owner.Name)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err == nil && pod.GetUID() == owner.UID && !podOver(pod) {
			return p.refuse(way, "claim %s was made for pod %s, which is there", o.GetName(), owner.Name)
		}
	}
	reserved, _, _ := unstructured.NestedSlice(o.Object, "status", "reservedFor")
	for _, r := range mappings(reserved) {
		kind, err := c.mapper.KindFor(schema.GroupVersionResource{Group: text(r, "apiGroup"), Resource: text(r, "resource")})
		if err != nil {
			return p.refuse("ask the owner of the consumer", "claim %s is reserved for %s %s, and the cluster serves no such kind: whether it is there cannot be seen", o.GetName(), text(r, "resource"), text(r, "name"))
		}
		holder, err := c.Get(ctx, kind.GroupKind().String(), o.GetNamespace(), text(r, "name"))
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if string(holder.GetUID()) == text(r, "uid") && (holder.GetKind() != "Pod" || !podOver(holder)) {
			return p.refuse(way, "claim %s is reserved for %s", o.GetName(), holder.Ref)
		}
	}
	users, err := c.users(ctx, o.GetNamespace(), toClaim(o.GetName()))
	if err != nil {
		return err
	}
	for _, u := range users {
		if len(u.pods) == 0 || len(u.waiting())+len(u.running()) > 0 {
			return p.refuse(way, "%s names claim %s and would wait for it for ever", u.root.Ref, o.GetName())
		}
	}
	return nil
}

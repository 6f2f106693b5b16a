package dra

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// world is one consistent picture of the cluster for the allocator.
type world struct {
	api     served
	assume  allocator.Assumption
	nodes   []*corev1.Node
	byName  map[string]*corev1.Node
	fleet   *fleet
	claims  []*resourceapi.ResourceClaim
	classes allocator.Classes
	rules   []*resourceapi.DeviceTaintRule
	use     *usage
	limits  []incident.Gap
}

// load reads everything the allocator needs, in parallel. Slices and classes are
// indispensable; what else is refused becomes a limit.
func (r *reader) load(ctx context.Context) (*world, error) {
	return r.world.Get(ctx, "", func(ctx context.Context) (*world, error) {
		w := &world{byName: map[string]*corev1.Node{}}
		var err error
		if w.api, err = r.api(ctx); err != nil {
			return nil, err
		}
		if w.api.version == "" {
			return nil, &tool.Error{Kind: tool.NotServed, User: "the API server does not serve resource.k8s.io"}
		}
		var nodesErr, claimsErr, rulesErr, fleetErr, classErr error
		run := []func(){
			func() { w.nodes, nodesErr = r.listNodes(ctx) },
			func() { w.fleet, fleetErr = r.listFleet(ctx) },
			func() { w.claims, claimsErr = r.listClaims(ctx) },
			func() { w.classes, classErr = r.listClasses(ctx) },
			func() { w.rules, rulesErr = r.listRules(ctx) },
		}
		inParallel(run)
		for _, e := range []error{fleetErr, classErr} {
			if e != nil {
				return nil, e
			}
		}
		soft := func(resource string, err error) error {
			if err == nil {
				return nil
			}
			if k := tool.KindOf(err); k != tool.Forbidden && k != tool.NotServed {
				return err
			}
			w.limits = append(w.limits, gap(resource, err))
			return nil
		}
		for _, e := range []error{soft("nodes", nodesErr), soft("resourceclaims", claimsErr), soft("devicetaintrules", rulesErr)} {
			if e != nil {
				return nil, e
			}
		}
		if nodesErr != nil {
			w.nodes = w.fleet.guessNodes()
		}
		for _, n := range w.nodes {
			w.byName[n.Name] = n
		}
		w.finish()
		return w, nil
	})
}

// around reads only what concerns the devices of one claim: the slices of their
// pools (by field selector), the claims and the taint rules. A picture of the
// whole cluster that is fresh is used instead.
func (r *reader) around(ctx context.Context, c *resourceapi.ResourceClaim) (*world, error) {
	if w, ok := r.world.Peek(ctx, ""); ok {
		return w, nil
	}
	api, err := r.api(ctx)
	if err != nil {
		return nil, err
	}
	w := &world{api: api, fleet: newFleet(), classes: allocator.Classes{}, byName: map[string]*corev1.Node{}}
	done := map[poolID]bool{}
	for _, d := range devicesOf(c) {
		id := poolID{d.driver, d.pool}
		if done[id] {
			continue
		}
		done[id] = true
		sel := fields.Set{resourceapi.ResourceSliceSelectorDriver: d.driver, resourceapi.ResourceSliceSelectorPoolName: d.pool}.AsSelector().String()
		err := pages(ctx, metav1.ListOptions{Limit: slicePage, FieldSelector: sel}, r.dra.ResourceSlices().List, func(l *resourceapi.ResourceSliceList) {
			for i := range l.Items {
				if s := &l.Items[i]; s.Spec.Driver == d.driver && s.Spec.Pool.Name == d.pool {
					w.fleet.add(s)
				}
			}
		})
		if err != nil {
			return nil, failure(err, "list", "resourceslices.resource.k8s.io", "", "")
		}
	}
	w.fleet.seal()
	if w.claims, err = r.listClaims(ctx); err != nil && tool.KindOf(err) != tool.Forbidden {
		return nil, err
	}
	if w.rules, err = r.listRules(ctx); err != nil && tool.KindOf(err) != tool.Forbidden {
		return nil, err
	}
	w.finish()
	return w, nil
}

// at reads only what concerns one node: its own slices (by field selector), and,
// when there are any, the classes, claims and taint rules.
func (r *reader) at(ctx context.Context, node string) (*world, error) {
	if w, ok := r.world.Peek(ctx, ""); ok {
		return w, nil
	}
	api, err := r.api(ctx)
	if err != nil {
		return nil, err
	}
	n, err := r.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return nil, failure(err, "get", "nodes", "", node)
	}
	w := &world{api: api, fleet: newFleet(), classes: allocator.Classes{}, nodes: []*corev1.Node{n}, byName: map[string]*corev1.Node{node: n}}
	sel := fields.Set{resourceapi.ResourceSliceSelectorNodeName: node}.AsSelector().String()
	err = pages(ctx, metav1.ListOptions{Limit: slicePage, FieldSelector: sel}, r.dra.ResourceSlices().List, func(l *resourceapi.ResourceSliceList) {
		for i := range l.Items {
			if s := &l.Items[i]; s.Spec.NodeName != nil && *s.Spec.NodeName == node {
				w.fleet.add(s)
			}
		}
	})
	if err != nil {
		return nil, failure(err, "list", "resourceslices.resource.k8s.io", "", "")
	}
	w.fleet.seal()
	if len(w.fleet.slices) > 0 {
		var classErr, claimsErr, rulesErr error
		inParallel([]func(){
			func() { w.classes, classErr = r.listClasses(ctx) },
			func() { w.claims, claimsErr = r.listClaims(ctx) },
			func() { w.rules, rulesErr = r.listRules(ctx) },
		})
		for _, err := range []error{classErr, claimsErr, rulesErr} {
			if err == nil {
				continue
			}
			if tool.KindOf(err) != tool.Forbidden {
				return nil, err
			}
			w.limits = append(w.limits, gap(apiGroup, err))
		}
	}
	w.finish()
	return w, nil
}

func inParallel(fs []func()) {
	done := make(chan struct{}, len(fs))
	for _, f := range fs {
		go func() { f(); done <- struct{}{} }()
	}
	for range fs {
		<-done
	}
}

// finish derives what follows from the lists.
func (w *world) finish() {
	classes, _ := w.classes.List()
	slices.SortFunc(classes, func(a, b *resourceapi.DeviceClass) int { return strings.Compare(a.Name, b.Name) })
	w.assume = allocator.ForServer(w.api.minor).Observe(w.fleet.witnesses(), w.claims, classes, w.api.rules != "")
	w.use = newUsage(w.claims, w.assume.Features)
}

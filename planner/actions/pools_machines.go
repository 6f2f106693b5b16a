package actions

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// machinePools are MachineDeployments: templates are never changed in place, so the
// way back is to refer to those of an earlier MachineSet (cluster.x-k8s.io).
type machinePools struct{}

const (
	machineRevision = "machinedeployment.clusters.x-k8s.io/revision"
	autoscaleMin    = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size"
	topologyMark    = "topology.cluster.x-k8s.io/owned"
)

func (machinePools) describe(ctx context.Context, c *Cluster, name string, _ []*corev1.Node) (*PoolState, error) {
	list, err := c.List(ctx, "MachineDeployment.cluster.x-k8s.io", "", "", "")
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(o *Object) bool { return o.GetName() != name })
	switch len(list) {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, fmt.Errorf("%d namespaces have a MachineDeployment %s", len(list), name)
	}
	o := list[0]
	spec, _ := o.Object["spec"].(map[string]any)
	version, _, _ := unstructured.NestedString(o.Object, "spec", "template", "spec", "version")
	s := &PoolState{Provider: clusterAPI, Ref: o.Ref, Phase: PhaseIdle, Version: strings.TrimPrefix(version, "v"), Count: int(number(spec["replicas"])), Min: -1, Max: -1, Token: o.GetResourceVersion(), object: o, Why: map[string]string{
		PoolStart: "Cluster API has no blue-green upgrade", PoolCommit: "Cluster API has no soak", PoolRevert: "Cluster API has no blue nodes; pool_rollback refers to the earlier templates",
		PoolAbort: "Cluster API has no upgrade that could be stopped; pool_pause keeps the machines",
	}}
	s.Autoscale = o.GetAnnotations()[autoscaleMin] != ""
	paused, _ := spec["paused"].(bool)
	status, _ := o.Object["status"].(map[string]any)
	upToDate := cmp.Or(number(status["upToDateReplicas"]), number(status["updatedReplicas"]))
	s.State = fmt.Sprintf("%d replicas, %d up to date, %d ready", s.Count, upToDate, number(status["readyReplicas"]))
	switch {
	case paused:
		s.Phase = PhasePaused
	case conditionIs(o.Unstructured, "RollingOut", "True") || int(upToDate) < s.Count:
		s.Phase = PhaseUpdating
	}
	if _, ok := o.GetLabels()[topologyMark]; ok {
		for _, k := range []string{PoolRollback, PoolPause, PoolResume, PoolScale} {
			s.Why[k] = "it follows the topology of its Cluster, which would set it back"
		}
		return s, nil
	}
	if paused {
		s.Can = append(s.Can, PoolResume)
		s.Why[PoolPause] = "it is paused already"
	} else {
		s.Can = append(s.Can, PoolPause)
		s.Why[PoolResume] = "it is not paused"
	}
	if s.Autoscale {
		s.Why[PoolScale] = "the cluster autoscaler sets its replicas"
	} else {
		s.Can = append(s.Can, PoolScale)
	}
	sets, err := machineSets(ctx, c, o)
	if err != nil {
		return nil, err
	}
	if len(sets) > 0 {
		s.Can = append(s.Can, PoolRollback)
	} else {
		s.Why[PoolRollback] = "no MachineSet of an earlier revision is left"
	}
	return s, nil
}

// machineSets gives the MachineSets of earlier revisions, newest first.
func machineSets(ctx context.Context, c *Cluster, md *Object) ([]*Object, error) {
	list, err := c.List(ctx, "MachineSet.cluster.x-k8s.io", md.GetNamespace(), "", "")
	if err != nil {
		return nil, err
	}
	now, _ := strconv.Atoi(md.GetAnnotations()[machineRevision])
	list = slices.DeleteFunc(list, func(o *Object) bool {
		k := controllerOf(o.GetOwnerReferences())
		r := revisionOf(o)
		return k == nil || k.UID != md.GetUID() || r == 0 || r >= now
	})
	slices.SortFunc(list, func(a, b *Object) int { return cmp.Compare(revisionOf(b), revisionOf(a)) })
	return list, nil
}

func revisionOf(o *Object) int {
	n, _ := strconv.Atoi(o.GetAnnotations()[machineRevision])
	return n
}

func (machinePools) change(ctx context.Context, p params, d *draft, s *PoolState, ch PoolChange) error {
	set := func(v any, path ...string) func(u *unstructured.Unstructured) error {
		return func(u *unstructured.Unstructured) error { return unstructured.SetNestedField(u.Object, v, path...) }
	}
	switch ch.Kind {
	case PoolPause:
		d.Verify = []incident.Check{phaseOf(s, PhasePaused)}
		return d.patch(s.object, "pause "+s.Ref.String(), set(true, "spec", "paused"))
	case PoolResume:
		d.Verify = []incident.Check{{Kind: CheckField, Subject: s.Ref, Params: map[string]string{"path": "spec.paused", "value": ""}, Say: s.Ref.String() + " is not paused", Within: 30}}
		err := d.patch(s.object, "resume "+s.Ref.String(), func(u *unstructured.Unstructured) error {
			unstructured.RemoveNestedField(u.Object, "spec", "paused")
			return nil
		})
		if err != nil || s.State == "" {
			return err
		}
		d.warn("machines that are not up to date are replaced now: %s", s.State)
		return d.disturbPool(ctx, p, s)
	case PoolScale:
		if err := d.patch(s.object, fmt.Sprintf("set the replicas of %s to %d", s.Ref, ch.Count), set(int64(ch.Count), "spec", "replicas")); err != nil {
			return err
		}
		d.Verify = []incident.Check{{Kind: CheckField, Subject: s.Ref, Params: map[string]string{"path": "status.readyReplicas", "value": scaled(ch.Count)}, Say: fmt.Sprintf("%s has %s ready", s.Ref, count(ch.Count, "replica")), Within: 3600}}
		if ch.Count > s.Count {
			d.Capacity = append(d.Capacity, incident.Claim{Text: "whether the provider has machines for " + count(ch.Count-s.Count, "more node") + " is not known: it says so only when they are asked for"})
			return nil
		}
		d.warn("Cluster API chooses which machines go, and drains them")
		d.Lasting = "machines that were deleted are made anew, not brought back"
		return d.disturbPool(ctx, p, s)
	}
	return rollMachines(ctx, p, d, s)
}

// scaled is the value of a count that Kubernetes leaves out at zero.
func scaled(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// rollMachines refers a MachineDeployment to the templates of an earlier revision.
func rollMachines(ctx context.Context, p params, d *draft, s *PoolState) error {
	sets, err := machineSets(ctx, d.c, s.object)
	if err != nil {
		return err
	}
	to := sets[0]
	if want := int(p.num("revision", 0)); want != 0 {
		i := slices.IndexFunc(sets, func(o *Object) bool { return revisionOf(o) == want })
		if i < 0 {
			var have []string
			for _, o := range sets {
				have = append(have, strconv.Itoa(revisionOf(o)))
			}
			return p.missing("revision", "there are revisions %s", strings.Join(have, ", "))
		}
		to = sets[i]
	}
	spec, _, err := unstructured.NestedMap(to.Object, "spec", "template", "spec")
	if err != nil {
		return fmt.Errorf("%s: %w", to.Ref, err)
	}
	for _, ref := range [][]string{{"infrastructureRef"}, {"bootstrap", "configRef"}} {
		if err := templateThere(ctx, p, d, s.Ref.Namespace, spec, ref); err != nil {
			return err
		}
	}
	d.target(to, fmt.Sprintf("revision %d", revisionOf(to)))
	err = d.patch(s.object, fmt.Sprintf("refer to the templates of revision %d", revisionOf(to)), func(u *unstructured.Unstructured) error {
		now, _, err := unstructured.NestedMap(u.Object, "spec", "template", "spec")
		if err != nil {
			return err
		}
		next := maps.Clone(now)
		for _, k := range []string{"infrastructureRef", "bootstrap", "version"} {
			if v, ok := spec[k]; ok {
				next[k] = v
			} else {
				delete(next, k)
			}
		}
		return unstructured.SetNestedMap(u.Object, next, "spec", "template", "spec")
	})
	if err != nil {
		return err
	}
	d.Say += fmt.Sprintf(" (revision %d)", revisionOf(to))
	if s.Phase == PhasePaused {
		d.warn("the MachineDeployment is paused: nothing is replaced until pool_resume")
	}
	d.Lasting = "machines that were replaced meanwhile are replaced once more"
	want := incident.Check{Kind: CheckField, Subject: s.Ref, Params: map[string]string{"path": "status.updatedReplicas", "value": scaled(s.Count)}, Say: fmt.Sprintf("all %d replicas of %s are up to date", s.Count, s.Ref), Within: 7200}
	if s.object.GVR.Version != "v1beta1" {
		want.Params["path"] = "status.upToDateReplicas"
	}
	d.Verify = []incident.Check{want}
	d.Capacity = append(d.Capacity, incident.Claim{Text: "machines are made before the old ones go (maxSurge); whether the provider has them is not known"})
	return d.disturbPool(ctx, p, s)
}

// templateThere refuses to refer to a template that is gone.
func templateThere(ctx context.Context, p params, d *draft, namespace string, spec map[string]any, path []string) error {
	ref, ok, _ := unstructured.NestedMap(spec, path...)
	if !ok {
		return nil
	}
	kind, _ := ref["kind"].(string)
	name, _ := ref["name"].(string)
	group, _ := ref["apiGroup"].(string)
	if v, _ := ref["apiVersion"].(string); group == "" {
		group, _, _ = strings.Cut(v, "/")
	}
	_, err := d.c.Get(ctx, kind+"."+group, namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return p.refuse("create it again, or choose another revision", "the template %s %s/%s of that revision is gone", kind, namespace, name)
	case err != nil:
		d.warn("whether the template %s %s/%s is still there cannot be seen: %v", kind, namespace, name, err)
	}
	return nil
}

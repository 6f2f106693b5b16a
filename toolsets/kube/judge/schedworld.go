package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
)

// number reads an integer of an object, 0 if there is none.
func number(obj map[string]any, path ...string) int64 {
	x, ok, err := unstructured.NestedFieldNoCopy(obj, path...)
	if !ok || err != nil {
		return 0
	}
	switch n := x.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

// fresh is how old the scheduler's word may be to stand for now. It tries a pod that
// waits again after 5 minutes at most (pkg/scheduler/backend/queue
// DefaultPodMaxInUnschedulablePodsDuration) and changes the pod's condition when the
// word changes; that it said the same again is written every 30 minutes (client-go
// tools/events refreshTime).
const fresh = 35 * time.Minute

// bare reads the filters' world without the pods of the cluster, which may be tens of
// thousands, for a pod that every node refuses for its devices alone by the scheduler's
// event and the pod's condition: its room was seen by then. Not ok where pods matter
// otherwise, or where the nodes as they are now refuse the pod.
func (j *judge) bare(ctx context.Context, p *corev1.Pod, said filters.Said, at time.Time) (filters.World, bool) {
	c := condition(p, corev1.PodScheduled)
	if !said.OnlyClaims() || c == nil || !filters.Read(c.Message).OnlyClaims() || j.now().Sub(at) > fresh {
		return filters.World{}, false
	}
	_, gang := groupName(p)
	a := p.Spec.Affinity
	if gang || len(claimNames(p)) > 0 || len(p.Spec.TopologySpreadConstraints) > 0 || a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil) {
		return filters.World{}, false
	}
	nodes, err := j.src.Nodes(ctx)
	if err != nil || len(nodes) != said.Nodes {
		return filters.World{}, false
	}
	w := filters.World{Pod: p, Nodes: nodes, NamespaceLabels: j.labelsOf(ctx), Delegated: j.delegation(ctx)}
	return w, !slices.ContainsFunc(filters.New(w).Run(), func(v filters.Verdict) bool { return !v.Fits() })
}

// world reads what the filters need. What may not be read is told as a limit;
// only the nodes are indispensable.
func (j *judge) world(ctx context.Context, p *corev1.Pod) (filters.World, []string, error) {
	var limits []string
	w := filters.World{Pod: p}
	var err, nodesErr error
	var nodes sync.WaitGroup
	nodes.Go(func() { w.Nodes, nodesErr = j.src.Nodes(ctx) })
	w.Pods, err = j.src.Pods(ctx, "")
	if nodes.Wait(); nodesErr != nil {
		return w, nil, nodesErr
	}
	if err != nil {
		if tool.KindOf(err) != tool.Forbidden {
			return w, nil, err
		}
		limits = append(limits, "pods of other namespaces ("+tool.UserText(err)+"): free resources are upper bounds")
		w.Pods, _ = j.src.Pods(ctx, p.Namespace)
	}
	w.NamespaceLabels, w.Delegated = j.labelsOf(ctx), j.delegation(ctx)
	if w.Volumes, err = j.volumeNeeds(ctx, p, w.Pods); err != nil {
		limits = append(limits, tool.UserText(err))
	}
	if slices.ContainsFunc(w.Volumes, func(v filters.VolumeNeed) bool { return v.Driver != "" }) {
		w.FreeAttachments = j.attachments(ctx, w.Pods)
	}
	return w, limits, nil
}

// labelsOf reads the labels of a namespace when a filter asks.
func (j *judge) labelsOf(ctx context.Context) func(string) (map[string]string, bool) {
	return func(name string) (map[string]string, bool) {
		ns, err := j.src.Namespace(ctx, name)
		if err != nil {
			return nil, false
		}
		return ns.Labels, true
	}
}

// delegation reads the mapped resources once, when a filter asks.
func (j *judge) delegation(ctx context.Context) func(corev1.ResourceName) bool {
	mapped := sync.OnceValue(func() map[string]bool { return j.delegated(ctx) })
	return func(name corev1.ResourceName) bool { return mapped()[string(name)] }
}

// delegated lists the extended resources that DeviceClasses map: explicitly by
// spec.extendedResourceName, or by the name every class has (Kubernetes 1.34).
func (j *judge) delegated(ctx context.Context) map[string]bool {
	out := map[string]bool{}
	classes, err := j.src.List(ctx, "deviceclasses.resource.k8s.io", "", selectors(""))
	if err != nil {
		return out
	}
	for _, c := range classes {
		out["deviceclass.resource.kubernetes.io/"+c.GetName()] = true
		if name, ok, _ := unstructured.NestedString(c.Object, "spec", "extendedResourceName"); ok && name != "" {
			out[name] = true
		}
	}
	return out
}

// whereClaimsAre keeps the nodes on which the allocated claims of a pod can be used,
// and says which those are. Without an allocated claim that is every node.
func (j *judge) whereClaimsAre(ctx context.Context, p *corev1.Pod, nodes []*corev1.Node) ([]*corev1.Node, string) {
	names := map[string]bool{}
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			names[*c.ResourceClaimName] = true
		}
	}
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.ResourceClaimName != nil {
			names[*s.ResourceClaimName] = true
		}
	}
	for name := range names {
		u, err := j.src.Get(ctx, j.ref("resource.k8s.io", "ResourceClaim", p.Namespace, name))
		if err != nil {
			continue
		}
		m, ok, err := unstructured.NestedMap(u.Object, "status", "allocation", "nodeSelector")
		var sel corev1.NodeSelector
		if !ok || err != nil || runtime.DefaultUnstructuredConverter.FromUnstructured(m, &sel) != nil {
			continue
		}
		match, err := nodeaffinity.NewNodeSelector(&sel)
		if err != nil {
			continue
		}
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool { return !match.Match(n) })
	}
	where := make([]string, 0, 3)
	for _, n := range limit(nodes, 3) {
		where = append(where, n.Name)
	}
	return nodes, strings.Join(where, ", ")
}

// claimNames lists the PersistentVolumeClaims of a pod.
func claimNames(p *corev1.Pod) []string {
	var out []string
	for _, vol := range p.Spec.Volumes {
		name := ""
		switch {
		case vol.PersistentVolumeClaim != nil:
			name = vol.PersistentVolumeClaim.ClaimName
		case vol.Ephemeral != nil:
			name = p.Name + "-" + vol.Name
		}
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func (j *judge) volumeNeeds(ctx context.Context, p *corev1.Pod, pods []*corev1.Pod) ([]filters.VolumeNeed, error) {
	var out []filters.VolumeNeed
	var refused error
	for _, name := range claimNames(p) {
		pvc, err := j.src.PVC(ctx, p.Namespace, name)
		if err != nil {
			if !missing(err) {
				refused = err
			}
			continue
		}
		need := filters.VolumeNeed{Claim: name, PV: pvc.Spec.VolumeName, Attached: map[string]bool{}}
		if slices.Contains(pvc.Spec.AccessModes, corev1.ReadWriteOncePod) {
			need.HeldBy = userOf(p, name, pods)
		}
		if pvc.Spec.VolumeName == "" {
			if sc := j.classOf(ctx, pvc); sc != nil {
				need.Topologies = sc.AllowedTopologies
			}
			out = append(out, need)
			continue
		}
		pv, err := j.src.PV(ctx, pvc.Spec.VolumeName)
		if err != nil {
			if !missing(err) {
				refused = err
			}
			continue
		}
		if pv.Spec.NodeAffinity != nil {
			need.Affinity = pv.Spec.NodeAffinity.Required
		}
		if need.Affinity == nil {
			need.Affinity = zoneOf(pv)
		}
		if pv.Spec.CSI != nil {
			need.Driver = pv.Spec.CSI.Driver
		}
		for _, o := range pods {
			if o.Namespace == p.Namespace && o.Spec.NodeName != "" && !over(o) && slices.Contains(claimNames(o), name) {
				need.Attached[o.Spec.NodeName] = true
			}
		}
		out = append(out, need)
	}
	return out, refused
}

// zoneOf turns the zone labels of an old volume into the node affinity they
// stand for (scheduler plugin VolumeZone).
func zoneOf(pv *corev1.PersistentVolume) *corev1.NodeSelector {
	var t corev1.NodeSelectorTerm
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion} {
		if v := pv.Labels[key]; v != "" {
			t.MatchExpressions = append(t.MatchExpressions, corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: strings.Split(v, "__")})
		}
	}
	if len(t.MatchExpressions) == 0 {
		return nil
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{t}}
}

func userOf(p *corev1.Pod, claim string, pods []*corev1.Pod) string {
	for _, o := range pods {
		if o.Namespace == p.Namespace && o.Name != p.Name && o.Spec.NodeName != "" && !over(o) && slices.Contains(claimNames(o), claim) {
			return o.Namespace + "/" + o.Name
		}
	}
	return ""
}

func (j *judge) classOf(ctx context.Context, c *corev1.PersistentVolumeClaim) *storagev1.StorageClass {
	if c.Spec.StorageClassName == nil || *c.Spec.StorageClassName == "" {
		return nil
	}
	sc, err := j.src.StorageClass(ctx, *c.Spec.StorageClassName)
	if err != nil {
		return nil
	}
	return sc
}

// attachments counts how many more volumes of a driver each node takes, from
// what its pods use and what its CSINode allows.
func (j *judge) attachments(ctx context.Context, pods []*corev1.Pod) func(string, string) (int, bool) {
	type key struct{ node, driver string }
	limits := map[key]int{}
	infos, err := j.src.CSINodes(ctx)
	if err != nil {
		return nil
	}
	for _, i := range infos {
		for _, d := range i.Spec.Drivers {
			if d.Allocatable != nil && d.Allocatable.Count != nil {
				limits[key{i.Name, d.Name}] = int(*d.Allocatable.Count)
			}
		}
	}
	if len(limits) == 0 {
		return nil
	}
	handles := map[string]string{} // namespace/claim to volume
	drivers := map[string]string{} // volume to driver
	pvcs, err := j.src.PVCs(ctx, "")
	if err != nil {
		return nil
	}
	pvs, err := j.src.PVs(ctx)
	if err != nil {
		return nil
	}
	for _, c := range pvcs {
		handles[c.Namespace+"/"+c.Name] = c.Spec.VolumeName
	}
	for _, v := range pvs {
		if v.Spec.CSI != nil {
			drivers[v.Name] = v.Spec.CSI.Driver
		}
	}
	used := map[key]map[string]bool{}
	for _, p := range pods {
		if p.Spec.NodeName == "" || over(p) {
			continue
		}
		for _, c := range claimNames(p) {
			pv := handles[p.Namespace+"/"+c]
			if d := drivers[pv]; d != "" {
				k := key{p.Spec.NodeName, d}
				if used[k] == nil {
					used[k] = map[string]bool{}
				}
				used[k][pv] = true
			}
		}
	}
	return func(node, driver string) (int, bool) {
		most, limited := limits[key{node, driver}]
		return most - len(used[key{node, driver}]), limited
	}
}

// waitsForVolume says which claim keeps the scheduler from asking any node: one
// that is missing, going, lost, or not bound though it need not wait for a pod.
func (j *judge) waitsForVolume(ctx context.Context, v *verdict, p *corev1.Pod) string {
	for _, name := range claimNames(p) {
		to := j.ref("", "PersistentVolumeClaim", p.Namespace, name)
		v.edge(v.subject, graph.Mounts, to)
		c, err := j.src.PVC(ctx, p.Namespace, name)
		switch {
		case missing(err):
			return fmt.Sprintf("PersistentVolumeClaim %s exists", name)
		case err != nil:
			continue
		case c.DeletionTimestamp != nil:
			return fmt.Sprintf("PersistentVolumeClaim %s is there to stay: it is being deleted", name)
		case c.Status.Phase == corev1.ClaimLost:
			return fmt.Sprintf("PersistentVolumeClaim %s has its volume back", name)
		case c.Status.Phase == corev1.ClaimPending && !waitsForConsumer(j.classOf(ctx, c)):
			return fmt.Sprintf("PersistentVolumeClaim %s is bound", name)
		}
	}
	return ""
}

// waitsForConsumer reports whether a class binds only once a pod has a node.
func waitsForConsumer(sc *storagev1.StorageClass) bool {
	return sc != nil && sc.VolumeBindingMode != nil && *sc.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

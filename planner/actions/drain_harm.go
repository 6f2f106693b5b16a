package actions

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func controllerOf(refs []metav1.OwnerReference) *metav1.OwnerReference {
	for i := range refs {
		if refs[i].Controller != nil && *refs[i].Controller {
			return &refs[i]
		}
	}
	return nil
}

func ownerKind(o *metav1.OwnerReference) string {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil || gv.Group == "" {
		return o.Kind
	}
	return o.Kind + "." + gv.Group
}

// controllerLives reports whether the controller of a pod is still there.
func (c *Cluster) controllerLives(ctx context.Context, p *corev1.Pod) (bool, error) {
	k := controllerOf(p.OwnerReferences)
	o, err := c.Get(ctx, ownerKind(k), p.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return k.UID == "" || o.GetUID() == k.UID, nil
}

// workload names what people call the workload of a pod: its controller, or the
// Deployment above a ReplicaSet.
func (c *Cluster) workload(ctx context.Context, p *corev1.Pod) (incident.Ref, error) {
	k := controllerOf(p.OwnerReferences)
	if k == nil {
		return incident.Ref{Cluster: c.name, Namespace: p.Namespace, Kind: "Pod", Name: p.Name}, nil
	}
	gv, err := schema.ParseGroupVersion(k.APIVersion)
	if err != nil {
		return incident.Ref{}, fmt.Errorf("pod %s/%s: its owner has the apiVersion %q: %w", p.Namespace, p.Name, k.APIVersion, err)
	}
	ref := incident.Ref{Cluster: c.name, Namespace: p.Namespace, Group: gv.Group, Kind: k.Kind, Name: k.Name}
	if k.Kind != "ReplicaSet" {
		return ref, nil
	}
	o, err := c.Get(ctx, ownerKind(k), p.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return ref, nil
	}
	if err != nil {
		return ref, err
	}
	if up := controllerOf(o.GetOwnerReferences()); up != nil {
		if gv, err = schema.ParseGroupVersion(up.APIVersion); err == nil {
			ref.Group, ref.Kind, ref.Name = gv.Group, up.Kind, up.Name
		}
	}
	return ref, nil
}

// gang is a set of pods that work together: when one goes, all stop.
type gang struct {
	ref incident.Ref
	// labels select its pods; group is a PodGroup of the scheduler instead.
	labels, group string
}

// gangOf tells the gang of a pod by the labels that its framework puts on it; nil
// when it works alone.
func (c *Cluster) gangOf(ctx context.Context, p *corev1.Pod) (*gang, error) {
	ref := func(group, kind, name string) incident.Ref {
		return incident.Ref{Cluster: c.name, Namespace: p.Namespace, Group: group, Kind: kind, Name: name}
	}
	by := func(keys ...string) string {
		set := labels.Set{}
		for _, k := range keys {
			if v, ok := p.Labels[k]; ok {
				set[k] = v
			}
		}
		return set.String()
	}
	l := p.Labels
	switch {
	case l["leaderworkerset.sigs.k8s.io/name"] != "":
		g := &gang{ref: ref("leaderworkerset.x-k8s.io", "LeaderWorkerSet", l["leaderworkerset.sigs.k8s.io/name"]), labels: by("leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/group-index")}
		return g, nil
	case l["jobset.sigs.k8s.io/jobset-name"] != "":
		return &gang{ref: ref("jobset.x-k8s.io", "JobSet", l["jobset.sigs.k8s.io/jobset-name"]), labels: by("jobset.sigs.k8s.io/jobset-name")}, nil
	case l["training.kubeflow.org/job-name"] != "":
		kind, group := "PyTorchJob", "kubeflow.org"
		if k := controllerOf(p.OwnerReferences); k != nil {
			kind = k.Kind
		}
		return &gang{ref: ref(group, kind, l["training.kubeflow.org/job-name"]), labels: by("training.kubeflow.org/job-name")}, nil
	case l["ray.io/cluster"] != "":
		return &gang{ref: ref("ray.io", "RayCluster", l["ray.io/cluster"]), labels: by("ray.io/cluster")}, nil
	case p.Spec.SchedulingGroup != nil && p.Spec.SchedulingGroup.PodGroupName != nil:
		return &gang{ref: ref("scheduling.k8s.io", "PodGroup", *p.Spec.SchedulingGroup.PodGroupName), group: *p.Spec.SchedulingGroup.PodGroupName}, nil
	case l["scheduling.x-k8s.io/pod-group"] != "":
		return &gang{ref: ref("scheduling.x-k8s.io", "PodGroup", l["scheduling.x-k8s.io/pod-group"]), labels: by("scheduling.x-k8s.io/pod-group")}, nil
	case l["volcano.sh/job-name"] != "":
		return &gang{ref: ref("batch.volcano.sh", "Job", l["volcano.sh/job-name"]), labels: by("volcano.sh/job-name")}, nil
	case l["kueue.x-k8s.io/pod-group-name"] != "":
		return &gang{ref: ref("kueue.x-k8s.io", "Workload", l["kueue.x-k8s.io/pod-group-name"]), labels: by("kueue.x-k8s.io/pod-group-name")}, nil
	}
	k := controllerOf(p.OwnerReferences)
	if k == nil || k.Kind != "Job" || !strings.HasPrefix(k.APIVersion, "batch/") {
		return nil, nil
	}
	o, err := c.Get(ctx, "Job.batch", p.Namespace, k.Name)
	if err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	// Pods of a Job that run side by side are taken for one computation; whether they
	// are is not written anywhere.
	spec, _ := o.Object["spec"].(map[string]any)
	if number(spec["completions"]) > 1 && number(spec["parallelism"]) > 1 {
		for _, key := range []string{"batch.kubernetes.io/job-name", "job-name"} {
			if l[key] != "" {
				return &gang{ref: o.Ref, labels: by(key)}, nil
			}
		}
	}
	return nil, nil
}

func number(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

// members reads the pods of a gang that have not ended.
func (c *Cluster) members(ctx context.Context, g *gang) ([]*corev1.Pod, error) {
	list, err := c.List(ctx, "Pod", g.ref.Namespace, g.labels, "")
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for _, o := range list {
		p, err := as[corev1.Pod](o)
		if err != nil {
			return nil, err
		}
		mine := g.group == "" || p.Spec.SchedulingGroup != nil && p.Spec.SchedulingGroup.PodGroupName != nil && *p.Spec.SchedulingGroup.PodGroupName == g.group
		if mine && !finished(p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// harm counts whom the eviction of pods hurts: the pods, the rest of their gangs,
// the GPUs that they hold and the work that is lost.
func (d *draft) harm(ctx context.Context, pods []*corev1.Pod) error {
	b := &d.Blast
	seen := map[types.UID]bool{}
	for _, p := range pods {
		seen[p.UID] = true
	}
	hit := slices.Clone(pods)
	gangs := map[incident.Ref]bool{}
	for _, p := range pods {
		g, err := d.c.gangOf(ctx, p)
		if err != nil || g == nil || gangs[g.ref] && g.labels == "" {
			continue // that it could not be read is told where the pods are sorted
		}
		rest, err := d.c.members(ctx, g)
		if err != nil {
			d.warn("the other pods of %s cannot be read: %v", g.ref, err)
			continue
		}
		gangs[g.ref] = true
		more := 0
		for _, o := range rest {
			if !seen[o.UID] {
				seen[o.UID] = true
				hit = append(hit, o)
				more++
			}
		}
		if more > 0 {
			d.note("%s stops as a whole: %s on other nodes with it", g.ref, count(more, "pod"))
		}
	}
	held := d.c.claimed(ctx, hit, d)
	b.PodCount += len(hit)
	for _, p := range hit {
		ref := incident.Ref{Cluster: d.c.name, Namespace: p.Namespace, Kind: "Pod", Name: p.Name}
		if len(b.Pods) < maxNamed {
			b.Pods = append(b.Pods, ref)
		}
		w, err := d.c.workload(ctx, p)
		if err != nil {
			return err
		}
		if !slices.Contains(b.Workloads, w) {
			b.Workloads = append(b.Workloads, w)
		}
		gpus := gpusOf(p) + held[p.UID]
		b.GPUs += gpus
		if hours := d.lost(p, w); hours > 0 && gpus > 0 {
			b.GPUHours += hours * float64(gpus)
		}
		if slices.Contains(pods, p) {
			d.volumes(p)
		}
	}
	b.GPUHours = math.Round(b.GPUHours*10) / 10
	return nil
}

// lost is how many hours of work a pod loses: since it started, unless it keeps
// checkpoints. A replica of a Deployment serves and keeps no work.
func (d *draft) lost(p *corev1.Pod, w incident.Ref) float64 {
	if w.Kind == "Deployment" || w.Kind == "ReplicaSet" || p.Status.StartTime == nil || checkpoints(p) {
		return 0
	}
	return max(d.c.now().Sub(p.Status.StartTime.Time).Hours(), 0)
}

// checkpoints reports whether a pod says that it keeps checkpoints, or has a volume
// that outlives it.
func checkpoints(p *corev1.Pod) bool {
	for k, v := range p.Annotations {
		if strings.Contains(strings.ToLower(k), "checkpoint") && v != "" && v != "false" {
			return true
		}
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil })
}

// volumes notes what a pod leaves behind on its node.
func (d *draft) volumes(p *corev1.Pod) {
	var lost, left []string
	for _, v := range p.Spec.Volumes {
		switch {
		case v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory:
			lost = append(lost, v.Name)
		case v.Ephemeral != nil:
			lost = append(lost, v.Name)
		case v.HostPath != nil:
			left = append(left, v.HostPath.Path)
		}
	}
	if len(lost) > 0 {
		d.note("pod %s/%s loses its local volumes %s", p.Namespace, p.Name, some(lost))
	}
	if len(left) > 0 {
		d.note("pod %s/%s leaves behind on node %s: %s", p.Namespace, p.Name, p.Spec.NodeName, some(left))
	}
}

// gpusOf counts the GPUs and other accelerators that a pod asks a device plugin for.
func gpusOf(p *corev1.Pod) int {
	n := 0
	for name, q := range resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}) {
		if accelerator(string(name)) {
			n += int(q.Value())
		}
	}
	return n
}

// claimed counts the accelerators that pods hold through ResourceClaims, a shared
// one for its first pod only.
func (c *Cluster) claimed(ctx context.Context, pods []*corev1.Pod, d *draft) map[types.UID]int {
	out := map[types.UID]int{}
	if !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return len(p.Spec.ResourceClaims) > 0 }) {
		return out
	}
	list, err := c.List(ctx, "ResourceClaim.resource.k8s.io", "", "", "")
	if err != nil {
		if !meta.IsNoMatchError(err) {
			d.warn("the devices that the pods hold cannot be counted: %v", err)
		}
		return out
	}
	byUID := map[types.UID]bool{}
	for _, p := range pods {
		byUID[p.UID] = true
	}
	counted := map[string]bool{}
	for _, o := range list {
		k, err := as[resourceapi.ResourceClaim](o)
		if err != nil || k.Status.Allocation == nil || k.Annotations[resourceapi.ExtendedResourceClaimAnnotation] != "" { // what is asked as an extended resource is counted by the request
			continue
		}
		i := slices.IndexFunc(k.Status.ReservedFor, func(r resourceapi.ResourceClaimConsumerReference) bool { return byUID[r.UID] })
		if i < 0 {
			continue
		}
		for _, r := range k.Status.Allocation.Devices.Results {
			id := r.Driver + "/" + r.Pool + "/" + r.Device
			if acceleratorDriver(r.Driver) && (r.AdminAccess == nil || !*r.AdminAccess) && !counted[id] {
				counted[id] = true
				out[k.Status.ReservedFor[i].UID]++
			}
		}
	}
	return out
}

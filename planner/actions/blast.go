package actions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// maxNamed is how many pods a blast radius names; all are counted.
const maxNamed = 50

// accelerators are the beginnings of extended resources that are whole accelerators
// or parts of one, as the vendors' device plugins name them.
func accelerators() []string {
	return []string{"nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "gpu.intel.com/", "habana.ai/gaudi", "aws.amazon.com/neuron", "google.com/tpu"}
}

// accelerator reports whether an extended resource is counted as GPUs.
func accelerator(resource string) bool {
	return slices.ContainsFunc(accelerators(), func(p string) bool { return strings.HasPrefix(resource, p) })
}

// acceleratorDriver reports whether a DRA driver's devices are counted as GPUs; those
// of network drivers are not.
func acceleratorDriver(driver string) bool {
	return slices.ContainsFunc([]string{"gpu", "tpu", "neuron", "gaudi"}, func(p string) bool { return strings.Contains(driver, p) })
}

// gangs are the labels by which pods stop and start together, and what they are called.
func gangs() map[string]string {
	return map[string]string{
		"leaderworkerset.sigs.k8s.io/name": "LeaderWorkerSet", "jobset.sigs.k8s.io/jobset-name": "JobSet",
		"training.kubeflow.org/job-name": "training job", "ray.io/cluster": "RayCluster",
		"scheduling.x-k8s.io/pod-group": "PodGroup", "pod-group.scheduling.sigs.k8s.io": "PodGroup",
		"grove.io/podgang": "PodGang", "volcano.sh/job-name": "Volcano Job",
	}
}

// blast is whom it hurts when these pods are stopped: the pods and their workloads,
// the GPUs that they hold with the hours of work so far, the budgets that allow
// fewer disruptions, and data that is lost with a pod. Pods that have ended hold
// nothing and are left out. Nodes is not filled: stopping pods touches no node.
func (c *Cluster) blast(ctx context.Context, pods []*corev1.Pod) (incident.Blast, error) {
	var b incident.Blast
	pods = slices.DeleteFunc(slices.Clone(pods), ended)
	slices.SortStableFunc(pods, func(x, y *corev1.Pod) int {
		return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name))
	})
	b.PodCount = len(pods)
	if b.PodCount == 0 {
		return b, nil
	}
	b.Requests = -1 // the cluster's API does not tell
	held, up := map[string]bool{}, c.climber()
	for _, p := range pods {
		if len(b.Pods) < maxNamed {
			b.Pods = append(b.Pods, incident.Ref{Cluster: c.name, Namespace: p.Namespace, Kind: "Pod", Name: p.Name})
		}
		if w, ok := up.root(ctx, p); ok && !slices.Contains(b.Workloads, w) {
			b.Workloads = append(b.Workloads, w)
		}
		n, err := c.gpus(ctx, p, held)
		if err != nil {
			return b, err
		}
		b.GPUs += n
		if p.Status.StartTime != nil {
			b.GPUHours += float64(n) * max(0, c.now().Sub(p.Status.StartTime.Time).Hours())
		}
	}
	var err error
	if b.BelowBudget, err = c.belowBudget(ctx, pods); err != nil {
		return b, err
	}
	b.Notes = slices.Concat(gangNotes(pods), lossNotes(pods))
	return b, nil
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// gpus counts what a pod holds: extended resources as requested, and the devices of
// its allocated claims. Devices that another pod shares are counted once, by held.
func (c *Cluster) gpus(ctx context.Context, p *corev1.Pod, held map[string]bool) (int, error) {
	n := requestedGPUs(&p.Spec)
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.ResourceClaimName == nil {
			continue
		}
		o, err := c.Get(ctx, "ResourceClaim.resource.k8s.io", p.Namespace, *s.ResourceClaimName)
		if notThere(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		claim, err := as[resourcev1.ResourceClaim](o)
		if err != nil {
			return 0, err
		}
		if claim.Status.Allocation == nil {
			continue
		}
		for _, d := range claim.Status.Allocation.Devices.Results {
			id := d.Driver + "/" + d.Pool + "/" + d.Device
			if !acceleratorDriver(d.Driver) || d.AdminAccess != nil && *d.AdminAccess || held[id] {
				continue
			}
			held[id] = true
			n++
		}
	}
	return n, nil
}

// requestedGPUs counts the accelerators that a pod asks for as extended resources.
func requestedGPUs(s *corev1.PodSpec) int {
	var n int64
	for name, q := range resourcehelper.PodLimits(&corev1.Pod{Spec: *s}, resourcehelper.PodResourcesOptions{}) {
		if accelerator(string(name)) {
			n += q.Value()
		}
	}
	return int(n)
}

// belowBudget names the budgets that allow fewer disruptions than the pods need. A
// pod that is not ready costs its budget nothing where the budget's policy lets it
// go (kubernetes.io/docs/tasks/run-application/configure-pdb, unhealthy pods).
func (c *Cluster) belowBudget(ctx context.Context, pods []*corev1.Pod) ([]string, error) {
	by := map[string][]*corev1.Pod{}
	for _, p := range pods {
		by[p.Namespace] = append(by[p.Namespace], p)
	}
	var out []string
	for ns, mine := range by {
		list, err := c.List(ctx, "PodDisruptionBudget.policy", ns, "", "")
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			pdb, err := as[policyv1.PodDisruptionBudget](o)
			if err != nil {
				return nil, err
			}
			sel, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
			if err != nil {
				return nil, fmt.Errorf("%s: spec.selector: %w", o.Ref, err)
			}
			need := 0
			for _, p := range mine {
				if sel.Matches(labels.Set(p.Labels)) && !free(pdb, p) {
					need++
				}
			}
			if allowed := int(pdb.Status.DisruptionsAllowed); need > allowed {
				out = append(out, fmt.Sprintf("%s/%s allows %d, %d needed", ns, pdb.Name, allowed, need))
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

func free(b *policyv1.PodDisruptionBudget, p *corev1.Pod) bool {
	if podReady(p) {
		return false
	}
	if u := b.Spec.UnhealthyPodEvictionPolicy; u != nil && *u == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.DesiredHealthy > 0 && b.Status.CurrentHealthy >= b.Status.DesiredHealthy
}

func gangNotes(pods []*corev1.Pod) []string {
	seen := map[string]bool{}
	for _, p := range pods {
		for label, what := range gangs() {
			if name := p.Labels[label]; name != "" {
				seen[fmt.Sprintf("%s %s/%s works as a whole: its other pods stop or wait with these", what, p.Namespace, name)] = true
			}
		}
	}
	return sorted(seen)
}

// lossNotes say what goes with a pod: its emptyDir volumes, and what only its node has.
func lossNotes(pods []*corev1.Pod) []string {
	empty, host, bare := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range pods {
		for _, v := range p.Spec.Volumes {
			switch {
			case v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory:
				empty[v.Name] = true
			case v.HostPath != nil && !strings.HasPrefix(v.HostPath.Path, "/dev") && !strings.HasPrefix(v.HostPath.Path, "/sys") && !strings.HasPrefix(v.HostPath.Path, "/proc"):
				host[v.HostPath.Path] = true
			}
		}
		if metav1.GetControllerOf(p) == nil {
			bare[p.Namespace+"/"+p.Name] = true
		}
	}
	var out []string
	if len(empty) > 0 {
		out = append(out, "data in emptyDir volumes is lost: "+some(sorted(empty)))
	}
	if len(host) > 0 {
		out = append(out, "data below hostPath stays on the node, and a new pod may start elsewhere: "+some(sorted(host)))
	}
	if len(bare) > 0 {
		out = append(out, "no controller makes these pods anew: "+some(sorted(bare)))
	}
	return out
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// some names at most eight of a list.
func some(list []string) string {
	const few = 8
	if len(list) <= few {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:few], ", "), len(list)-few)
}

// climber goes from objects to the controllers above them, reading each once.
type climber struct {
	c    *Cluster
	seen map[types.UID]*Object
}

func (c *Cluster) climber() *climber { return &climber{c: c, seen: map[types.UID]*Object{}} }

// up reads the controller of an object. It gives nil without an error when there is
// none, or none of that uid any more.
func (k *climber) up(ctx context.Context, o metav1.Object) (*Object, error) {
	r := metav1.GetControllerOf(o)
	if r == nil {
		return nil, nil
	}
	if got, ok := k.seen[r.UID]; ok {
		return got, nil
	}
	got, err := k.c.Get(ctx, groupKind(r), o.GetNamespace(), r.Name)
	if notThere(err) || err == nil && got.GetUID() != r.UID {
		got, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.seen[r.UID] = got
	return got, nil
}

func groupKind(r *metav1.OwnerReference) string {
	gv, err := schema.ParseGroupVersion(r.APIVersion)
	if err != nil || gv.Group == "" {
		return r.Kind
	}
	return r.Kind + "." + gv.Group
}

// root names the topmost controller that can be read, as far as owners lead. False
// means that nothing controls the pod. A Node, which owns static pods, is no workload.
func (k *climber) root(ctx context.Context, p *corev1.Pod) (incident.Ref, bool) {
	var at metav1.Object = p
	ref, found := incident.Ref{}, false
	for range maxClimb {
		r := metav1.GetControllerOf(at)
		if r == nil || r.Kind == "Node" {
			break
		}
		gv, _ := schema.ParseGroupVersion(r.APIVersion) // a group that does not parse stays empty
		ref, found = incident.Ref{Cluster: k.c.name, Namespace: p.Namespace, Group: gv.Group, Kind: r.Kind, Name: r.Name}, true
		o, err := k.up(ctx, at)
		if err != nil || o == nil { // what cannot be read is named by its reference
			break
		}
		at = o
	}
	return ref, found
}

// maxClimb bounds how many owners are followed.
const maxClimb = 10

// under reports whether an object is, or is controlled by, the object with the uid.
func (k *climber) under(ctx context.Context, o metav1.Object, uid types.UID) (bool, error) {
	for range maxClimb {
		r := metav1.GetControllerOf(o)
		if r == nil {
			return false, nil
		}
		if r.UID == uid {
			return true, nil
		}
		above, err := k.up(ctx, o)
		if err != nil || above == nil {
			return false, err
		}
		o = above
	}
	return false, nil
}

// podsOf gives the pods that an object controls, directly or through others, sorted
// by name; of a pod, itself. Pods that have ended are among them.
func (c *Cluster) podsOf(ctx context.Context, o *Object) ([]*corev1.Pod, error) {
	if o.Ref.Kind == "Pod" {
		p, err := as[corev1.Pod](o)
		return []*corev1.Pod{p}, err
	}
	selector := ""
	if m, ok, _ := unstructured.NestedMap(o.Object, "spec", "selector"); ok && core(o) {
		var s metav1.LabelSelector
		if err := convert(m, &s); err != nil {
			return nil, fmt.Errorf("%s: spec.selector: %w", o.Ref, err)
		}
		sel, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			return nil, fmt.Errorf("%s: spec.selector: %w", o.Ref, err)
		}
		selector = sel.String()
	}
	list, err := c.List(ctx, "Pod", o.GetNamespace(), selector, "")
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	up := c.climber()
	for _, u := range list {
		in, err := up.under(ctx, u, o.GetUID())
		if err != nil {
			return nil, err
		}
		if !in {
			continue
		}
		p, err := as[corev1.Pod](u)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// core reports whether an object is a workload of Kubernetes itself, whose
// spec.selector is known to select its pods.
func core(o *Object) bool { return o.Ref.Group == "apps" || o.Ref.Group == "batch" }

// notThere reports whether an error says that an object, or its whole kind, does
// not exist.
func notThere(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }

// convert reads a part of an object into a typed one.
func convert(m map[string]any, into any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(m, into)
}

// leaving orders pods by who goes first when a workload shrinks: the highest ordinal
// of a StatefulSet, else those without a node, not ready, and newest
// (kubernetes.io, ReplicaSet, scaling).
func leaving(o *Object) func(a, b *corev1.Pod) int {
	rank := func(p *corev1.Pod) int {
		switch {
		case p.Spec.NodeName == "":
			return 0
		case !podReady(p):
			return 1
		}
		return 2
	}
	ordinal := func(p *corev1.Pod) int {
		n, err := strconv.Atoi(p.Name[strings.LastIndex(p.Name, "-")+1:])
		if err != nil {
			return -1
		}
		return n
	}
	return func(a, b *corev1.Pod) int {
		if o.Ref.Kind == "StatefulSet" {
			return cmp.Compare(ordinal(b), ordinal(a))
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time))
	}
}

package judge

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// serves says that an earlier revision of a workload still works while nothing of the
// newest one does.
const serves = "kube.previous_revision_serves"

// serving is a revision of a workload that has available pods.
type serving struct {
	revision  string
	available int
	template  corev1.PodTemplateSpec
}

// troubled reports whether a judgement found what stands in the way.
func (v *verdict) troubled() bool {
	return slices.ContainsFunc(v.findings, func(f incident.Finding) bool { return f.Role == incident.Fault })
}

// fallback tells of a pod in trouble that its workload has an earlier revision that
// serves. It is said of pods of the newest revision only. What keeps a pod from its
// node is judged elsewhere, so one that waits for a node is in trouble.
func (j *judge) fallback(ctx context.Context, v *verdict, p *corev1.Pod) {
	o, ok := j.owner(p)
	if !ok || o.Group != "apps" || !v.troubled() && p.Spec.NodeName != "" {
		return
	}
	switch o.Kind {
	case "ReplicaSet":
		r, err := j.src.ReplicaSet(ctx, o.Namespace, o.Name)
		if err != nil {
			return
		}
		up, ok := j.owner(r)
		if !ok || up.Kind != "Deployment" {
			return
		}
		d, err := j.src.Deployment(ctx, up.Namespace, up.Name)
		if err != nil {
			return
		}
		sets := j.ownedSets(ctx, d)
		if now := currentSet(d, sets); now != nil && now.UID == r.UID {
			j.fallbackOf(v, up, d.Spec.Template, servingSet(d, now, sets))
		}
	case "StatefulSet":
		s, err := j.src.StatefulSet(ctx, o.Namespace, o.Name)
		if err != nil || p.Labels[appsv1.ControllerRevisionHashLabelKey] != s.Status.UpdateRevision {
			return
		}
		j.fallbackOf(v, o, s.Spec.Template, j.servingRevision(ctx, s))
	}
}

// fallbackOf says what the template of a workload has that the revision that serves
// has not.
func (j *judge) fallbackOf(v *verdict, w incident.Ref, now corev1.PodTemplateSpec, before *serving) {
	if before == nil {
		return
	}
	images, program, place := differing(&before.template.Spec, &now.Spec)
	objects := slices.DeleteFunc(needs(&now), func(o string) bool { return slices.Contains(needs(&before.template), o) })
	if len(images) == 0 && !program && !place {
		return // the same pod would come of it
	}
	v.context(serves, fmt.Sprintf("nothing of the newest revision of %s is available; revision %s has %d available pods", w, before.revision, before.available), params(
		"kind", w.Kind, "namespace", w.Namespace, "name", w.Name, "revision", before.revision, "available", strconv.Itoa(before.available),
		"images", strings.Join(images, ","), "containers", differ(program), "scheduling", differ(place), "objects", strings.Join(objects, ",")))
}

func differ(b bool) string {
	if b {
		return "differ"
	}
	return ""
}

// servingSet is the newest earlier revision of a Deployment with available pods, while
// the newest one has none.
func servingSet(d *appsv1.Deployment, now *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet) *serving {
	if d.Spec.Paused || d.Status.ObservedGeneration < d.Generation || now.Status.AvailableReplicas > 0 {
		return nil
	}
	number := func(r *appsv1.ReplicaSet) int64 {
		n, err := strconv.ParseInt(r.Annotations["deployment.kubernetes.io/revision"], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	var best *appsv1.ReplicaSet
	for _, r := range sets {
		// What is about to go is no revision to return to.
		if r.UID == now.UID || r.Status.AvailableReplicas == 0 || replicasOf(r.Spec.Replicas) == 0 || number(r) == 0 || number(r) >= number(now) {
			continue
		}
		if best == nil || number(r) > number(best) {
			best = r
		}
	}
	if best == nil {
		return nil
	}
	return &serving{strconv.FormatInt(number(best), 10), int(best.Status.AvailableReplicas), best.Spec.Template}
}

// servingRevision is the revision that a StatefulSet is updated from, while it has
// ready pods and the one it is updated to has none.
func (j *judge) servingRevision(ctx context.Context, s *appsv1.StatefulSet) *serving {
	from, to := s.Status.CurrentRevision, s.Status.UpdateRevision
	if from == "" || to == "" || from == to || s.Status.ObservedGeneration < s.Generation {
		return nil
	}
	sel, err := metav1.LabelSelectorAsSelector(s.Spec.Selector)
	if err != nil {
		return nil
	}
	pods, err := j.src.PodsMatching(ctx, s.Namespace, sel)
	if err != nil {
		return nil
	}
	n := 0
	for _, p := range pods {
		if !metav1.IsControlledBy(p, s) || !ready(p) || p.DeletionTimestamp != nil {
			continue
		}
		switch p.Labels[appsv1.ControllerRevisionHashLabelKey] {
		case to:
			return nil
		case from:
			n++
		}
	}
	r, err := j.src.ControllerRevision(ctx, s.Namespace, from)
	if n == 0 || err != nil || !metav1.IsControlledBy(r, s) {
		return nil
	}
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if json.Unmarshal(r.Data.Raw, &data) != nil || len(data.Spec.Template.Spec.Containers) == 0 {
		return nil
	}
	return &serving{strconv.FormatInt(r.Revision, 10), n, data.Spec.Template}
}

// differing compares two pod specs: the containers with another image, whether what
// runs in the containers differs otherwise, and whether where they may run does.
// Sizes count for both: they decide on nodes and on memory limits.
func differing(a, b *corev1.PodSpec) (images []string, program, place bool) {
	was := map[string]string{}
	for _, c := range slices.Concat(a.InitContainers, a.Containers) {
		was[c.Name] = c.Image
	}
	for _, c := range slices.Concat(b.InitContainers, b.Containers) {
		if image, ok := was[c.Name]; !ok || image != c.Image {
			images = append(images, c.Name)
		}
	}
	placed := func(s *corev1.PodSpec) *corev1.PodSpec {
		out := &corev1.PodSpec{
			NodeSelector: s.NodeSelector, Affinity: s.Affinity, Tolerations: s.Tolerations, TopologySpreadConstraints: s.TopologySpreadConstraints,
			PriorityClassName: s.PriorityClassName, SchedulerName: s.SchedulerName, SchedulingGates: s.SchedulingGates, ResourceClaims: s.ResourceClaims,
			NodeName: s.NodeName, HostNetwork: s.HostNetwork, Volumes: s.Volumes, RuntimeClassName: s.RuntimeClassName, Resources: s.Resources,
		}
		for _, c := range slices.Concat(s.InitContainers, s.Containers) {
			out.Containers = append(out.Containers, corev1.Container{Name: c.Name, Resources: c.Resources, Ports: hostPorts(c.Ports)})
		}
		return out
	}
	runs := func(s *corev1.PodSpec) *corev1.PodSpec {
		c := s.DeepCopy()
		c.NodeSelector, c.Affinity, c.Tolerations, c.TopologySpreadConstraints, c.SchedulingGates = nil, nil, nil, nil, nil
		c.PriorityClassName, c.SchedulerName, c.NodeName, c.Priority = "", "", "", nil
		return c
	}
	return images, !equality.Semantic.DeepEqual(runs(a), runs(b)), !equality.Semantic.DeepEqual(placed(a), placed(b))
}

func hostPorts(all []corev1.ContainerPort) []corev1.ContainerPort {
	return slices.DeleteFunc(slices.Clone(all), func(p corev1.ContainerPort) bool { return p.HostPort == 0 })
}

// needs lists the objects and images that a pod template names, "Kind/name".
func needs(t *corev1.PodTemplateSpec) []string {
	s := &t.Spec
	var out []string
	add := func(kind, name string) {
		if o := kind + "/" + name; name != "" && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	for _, r := range refsOf(&corev1.Pod{Spec: *s}) {
		add(r.kind, r.name)
	}
	for _, v := range s.Volumes {
		if v.PersistentVolumeClaim != nil {
			add("PersistentVolumeClaim", v.PersistentVolumeClaim.ClaimName)
		}
	}
	for _, c := range s.ResourceClaims {
		if c.ResourceClaimTemplateName != nil {
			add("ResourceClaimTemplate", *c.ResourceClaimTemplateName)
		}
		if c.ResourceClaimName != nil {
			add("ResourceClaim", *c.ResourceClaimName)
		}
	}
	for _, r := range s.ImagePullSecrets {
		add("Secret", r.Name)
	}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		add("Image", c.Image)
	}
	add("ServiceAccount", cmp.Or(s.ServiceAccountName, "default"))
	add("PriorityClass", s.PriorityClassName)
	if s.RuntimeClassName != nil {
		add("RuntimeClass", *s.RuntimeClassName)
	}
	return out
}

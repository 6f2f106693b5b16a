package supply

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// revision is one pod template of a workload.
type revision struct {
	name   string
	number int64
	at     time.Time
	// ready is how many pods of it are ready; -1 when that is not known.
	ready int
	spec  corev1.PodSpec
	// hash is the value of the label by which its pods are known.
	hash string
}

// workloadRef names the workload that a pod belongs to; ok is false when it is none
// whose revisions are kept.
func (t *Toolset) workloadRef(ctx context.Context, p *corev1.Pod) (incident.Ref, bool) {
	ref := func(kind, name string) incident.Ref {
		return incident.Ref{Cluster: t.cfg.Cluster, Group: "apps", Kind: kind, Namespace: p.Namespace, Name: name}
	}
	o := metav1.GetControllerOf(p)
	if o == nil || !strings.HasPrefix(o.APIVersion, "apps/") {
		return incident.Ref{}, false
	}
	switch o.Kind {
	case "StatefulSet", "DaemonSet":
		return ref(o.Kind, o.Name), true
	case "ReplicaSet":
		all, err := t.cfg.History.ReplicaSets(ctx, p.Namespace)
		if err != nil {
			return incident.Ref{}, false
		}
		for _, rs := range all {
			if rs.Name == o.Name {
				if d := metav1.GetControllerOf(rs); d != nil && d.Kind == "Deployment" {
					return ref("Deployment", d.Name), true
				}
			}
		}
	}
	return incident.Ref{}, false
}

// revisions lists the templates of a workload, newest first, with its pods.
func (t *Toolset) revisions(ctx context.Context, w incident.Ref) ([]revision, []*corev1.Pod, error) {
	obj, err := t.cfg.History.Get(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	pods, err := t.podsOf(ctx, w, obj)
	if err != nil {
		return nil, nil, err
	}
	var out []revision
	switch w.Kind {
	case "Deployment":
		all, err := t.cfg.History.ReplicaSets(ctx, w.Namespace)
		if err != nil {
			return nil, nil, err
		}
		for _, rs := range all {
			if !controlled(rs, w) {
				continue
			}
			n, _ := strconv.ParseInt(rs.Annotations["deployment.kubernetes.io/revision"], 10, 64)
			out = append(out, revision{name: rs.Name, number: n, at: rs.CreationTimestamp.Time, ready: int(rs.Status.ReadyReplicas), spec: rs.Spec.Template.Spec, hash: rs.Labels["pod-template-hash"]})
		}
	case "StatefulSet", "DaemonSet":
		all, err := t.cfg.History.ControllerRevisions(ctx, w.Namespace)
		if err != nil {
			return nil, nil, err
		}
		for _, cr := range all {
			if !controlled(cr, w) {
				continue
			}
			var patch struct {
				Spec struct {
					Template corev1.PodTemplateSpec `json:"template"`
				} `json:"spec"`
			}
			if json.Unmarshal(cr.Data.Raw, &patch) != nil {
				continue
			}
			r := revision{name: cr.Name, number: cr.Revision, at: cr.CreationTimestamp.Time, spec: patch.Spec.Template.Spec, hash: cr.Name}
			for _, p := range pods {
				if h := p.Labels["controller-revision-hash"]; (h == cr.Name || strings.HasSuffix(cr.Name, "-"+h) && h != "") && isReady(p) {
					r.ready++
				}
			}
			out = append(out, r)
		}
	default:
		return nil, nil, &tool.Error{Kind: tool.Invalid, User: "no revisions are kept of a " + w.Kind, Fix: "name a Deployment, StatefulSet or DaemonSet, or two images"}
	}
	slices.SortFunc(out, func(a, b revision) int {
		return cmp.Or(cmp.Compare(b.number, a.number), b.at.Compare(a.at))
	})
	return out, pods, nil
}

func controlled(o metav1.Object, w incident.Ref) bool {
	c := metav1.GetControllerOf(o)
	return c != nil && c.Kind == w.Kind && c.Name == w.Name
}

// podsOf lists the pods that a workload selects.
func (t *Toolset) podsOf(ctx context.Context, w incident.Ref, obj *unstructured.Unstructured) ([]*corev1.Pod, error) {
	raw, _, _ := unstructured.NestedMap(obj.Object, "spec", "selector")
	b, err := json.Marshal(raw)
	if err != nil {
		return nil, tool.Errorf(tool.Internal, "%s: selector: %w", w, err)
	}
	var sel metav1.LabelSelector
	if err := json.Unmarshal(b, &sel); err != nil {
		return nil, tool.Errorf(tool.Invalid, "%s: selector: %w", w, err)
	}
	s, err := metav1.LabelSelectorAsSelector(&sel)
	if err != nil || s.Empty() {
		return nil, tool.Errorf(tool.Invalid, "%s selects its pods by nothing", w)
	}
	return t.cfg.Pods.PodsMatching(ctx, w.Namespace, s)
}

// siblings lists the other pods of a pod's template: they run the same spec.
func (t *Toolset) siblings(ctx context.Context, p *corev1.Pod) ([]*corev1.Pod, error) {
	for _, k := range []string{"pod-template-hash", "controller-revision-hash"} {
		v := p.Labels[k]
		if v == "" {
			continue
		}
		all, err := t.cfg.Pods.PodsMatching(ctx, p.Namespace, labels.Set{k: v}.AsSelector())
		if err != nil {
			return nil, err
		}
		own := metav1.GetControllerOf(p)
		return slices.DeleteFunc(slices.Clone(all), func(q *corev1.Pod) bool {
			o := metav1.GetControllerOf(q)
			return own == nil || o == nil || o.UID != own.UID
		}), nil
	}
	return nil, nil
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// imageOf gives the image of a container of a template by name.
func imageOf(s corev1.PodSpec, container string) string {
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		if c.Name == container {
			return c.Image
		}
	}
	return ""
}

// running gives the status of a container.
func running(p *corev1.Pod, container string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == container {
				return &list[i]
			}
		}
	}
	return nil
}

// digestOf takes the digest out of what a runtime reports: "repo@sha256:...", with
// "docker-pullable://" before it in older ones. A bare "sha256:..." is the digest of
// a configuration, which no registry knows.
func digestOf(imageID string) string {
	_, d, ok := strings.Cut(imageID, "@")
	if !ok || !strings.HasPrefix(d, "sha256:") || len(d) != len("sha256:")+64 {
		return ""
	}
	return d
}

// pinned names an image by the digest that is known to run, else as it was written.
func pinned(image, digest string) string {
	if digest == "" {
		return image
	}
	repo, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndex(repo, ":"); i > strings.LastIndex(repo, "/") {
		repo = repo[:i]
	}
	return repo + "@" + digest
}

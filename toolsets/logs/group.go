package logs

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// mark is how a controller marks the pods of one job: all labels together select
// them, and the first one's value names the object.
type mark struct {
	labels      []string
	group, kind string
}

// marks are the groups whose members compute together, the widest first: the Jobs
// of a JobSet are one job.
func marks() []mark {
	return []mark{
		{[]string{"leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/group-index"}, "leaderworkerset.x-k8s.io", "LeaderWorkerSet"},
		{[]string{"jobset.sigs.k8s.io/jobset-name"}, "jobset.x-k8s.io", "JobSet"},
		{[]string{"training.kubeflow.org/job-name"}, "kubeflow.org", ""},
		{[]string{"ray.io/cluster"}, "ray.io", "RayCluster"},
		{[]string{"volcano.sh/job-name"}, "batch.volcano.sh", "Job"},
		{[]string{"grove.io/podgang"}, "scheduler.grove.io", "PodGang"},
		{[]string{"batch.kubernetes.io/job-name"}, "batch", "Job"},
		{[]string{"job-name"}, "batch", "Job"},
	}
}

// kubeflow are the kinds of kubeflow.org whose pods carry one and the same label.
func kubeflow() []string {
	return []string{"PyTorchJob", "MPIJob", "TFJob", "XGBoostJob", "PaddleJob", "JAXJob"}
}

// job is one group of pods that compute together.
type job struct {
	ref  incident.Ref
	pods []*corev1.Pod
}

// distributed reports whether a kind's pods may be the ranks of one job.
func distributed(r incident.Ref) bool {
	switch r.Group {
	case "batch", "batch.volcano.sh":
		return r.Kind == "Job"
	case "apps":
		return r.Kind == "StatefulSet"
	case "leaderworkerset.x-k8s.io":
		return r.Kind == "LeaderWorkerSet"
	case "jobset.x-k8s.io":
		return r.Kind == "JobSet"
	case "trainer.kubeflow.org":
		return r.Kind == "TrainJob"
	case "kubeflow.org":
		return slices.Contains(kubeflow(), r.Kind)
	case "ray.io":
		return r.Kind == "RayJob" || r.Kind == "RayCluster"
	}
	return false
}

// kindOf finds the API group of a kind that was asked about by name alone.
func kindOf(kind string) (group, name string, ok bool) {
	word := strings.ToLower(kind)
	for _, r := range []incident.Ref{
		{Group: "batch", Kind: "Job"}, {Group: "apps", Kind: "StatefulSet"}, {Group: "leaderworkerset.x-k8s.io", Kind: "LeaderWorkerSet"},
		{Group: "jobset.x-k8s.io", Kind: "JobSet"}, {Group: "trainer.kubeflow.org", Kind: "TrainJob"}, {Group: "ray.io", Kind: "RayJob"}, {Group: "ray.io", Kind: "RayCluster"},
	} {
		if low := strings.ToLower(r.Kind); word == low || word == low+"s" {
			return r.Group, r.Kind, true
		}
	}
	for _, k := range kubeflow() {
		if low := strings.ToLower(k); word == low || word == low+"s" {
			return "kubeflow.org", k, true
		}
	}
	if word == "lws" {
		return "leaderworkerset.x-k8s.io", "LeaderWorkerSet", true
	}
	return "", "", false
}

// jobOf finds the job that a pod is a member of; nil when it is none's.
func (t *Toolset) jobOf(ctx context.Context, p *corev1.Pod) (*job, error) {
	for _, m := range marks() {
		set := labels.Set{}
		for _, k := range m.labels {
			if v := p.Labels[k]; v != "" {
				set[k] = v
			}
		}
		if len(set) != len(m.labels) {
			continue
		}
		pods, err := t.cfg.Pods.PodsMatching(ctx, p.Namespace, set.AsSelector())
		if err != nil {
			return nil, err
		}
		kind := m.kind
		if kind == "" {
			kind = "PyTorchJob"
			for _, o := range p.OwnerReferences {
				if slices.Contains(kubeflow(), o.Kind) {
					kind = o.Kind
				}
			}
		}
		return &job{ref: t.ref(m.group, kind, p.Namespace, p.Labels[m.labels[0]]), pods: pods}, nil
	}
	for _, o := range p.OwnerReferences {
		if o.Kind == "StatefulSet" && o.Controller != nil && *o.Controller {
			return t.statefulSet(ctx, t.ref("apps", "StatefulSet", p.Namespace, o.Name))
		}
	}
	return nil, nil
}

func (t *Toolset) statefulSet(ctx context.Context, r incident.Ref) (*job, error) {
	o, err := t.cfg.Objects.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	match, _, err := unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
	if err != nil || len(match) == 0 {
		return nil, tool.Errorf(tool.Invalid, "%s selects its pods by no labels", r)
	}
	pods, err := t.cfg.Pods.PodsMatching(ctx, r.Namespace, labels.Set(match).AsSelector())
	if err != nil {
		return nil, err
	}
	own := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool {
		return !slices.ContainsFunc(p.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "StatefulSet" && o.Name == r.Name })
	})
	return &job{ref: r, pods: own}, nil
}

// jobsOf finds the groups of pods of an object: one, or one for each replica of a
// LeaderWorkerSet.
func (t *Toolset) jobsOf(ctx context.Context, r incident.Ref) ([]*job, error) {
	by := func(label, value string) ([]*job, error) {
		pods, err := t.cfg.Pods.PodsMatching(ctx, r.Namespace, labels.Set{label: value}.AsSelector())
		return []*job{{ref: r, pods: pods}}, err
	}
	switch r.Kind {
	case "StatefulSet":
		j, err := t.statefulSet(ctx, r)
		return []*job{j}, err
	case "LeaderWorkerSet":
		all, err := by("leaderworkerset.sigs.k8s.io/name", r.Name)
		if err != nil {
			return nil, err
		}
		groups := map[string]*job{}
		for _, p := range all[0].pods {
			i := p.Labels["leaderworkerset.sigs.k8s.io/group-index"]
			if groups[i] == nil {
				groups[i] = &job{ref: r}
			}
			groups[i].pods = append(groups[i].pods, p)
		}
		var out []*job
		for _, k := range sortedKeys(groups) {
			out = append(out, groups[k])
		}
		return out, nil
	case "JobSet", "TrainJob":
		// A TrainJob makes a JobSet of its own name (kubeflow/trainer).
		return by("jobset.sigs.k8s.io/jobset-name", r.Name)
	case "RayCluster":
		return by("ray.io/cluster", r.Name)
	case "RayJob":
		o, err := t.cfg.Objects.Get(ctx, r)
		if err != nil {
			return nil, err
		}
		name, _, _ := unstructured.NestedString(o.Object, "status", "rayClusterName")
		if name == "" {
			return nil, tool.Errorf(tool.NotFound, "%s names no RayCluster in its status yet", r)
		}
		return by("ray.io/cluster", name)
	case "Job":
		if r.Group == "batch.volcano.sh" {
			return by("volcano.sh/job-name", r.Name)
		}
		jobs, err := by("batch.kubernetes.io/job-name", r.Name)
		if err == nil && len(jobs[0].pods) == 0 {
			// The label's name before Kubernetes 1.27.
			jobs, err = by("job-name", r.Name)
		}
		if err != nil || len(jobs[0].pods) == 0 {
			return jobs, err
		}
		// The Job may be a part of something wider.
		if j, err := t.jobOf(ctx, jobs[0].pods[0]); err == nil && j != nil && j.ref.Kind != "Job" {
			return []*job{j}, nil
		}
		return jobs, nil
	}
	return by("training.kubeflow.org/job-name", r.Name)
}

// index tells a pod's place in its job, from 0; -1 when nothing tells it.
func index(p *corev1.Pod) int {
	if env := literal(p, "NODE_RANK", "GROUP_RANK", "PET_NODE_RANK"); env != "" {
		if n, err := strconv.Atoi(env); err == nil && n >= 0 {
			return n
		}
	}
	num := func(s string) (int, bool) {
		n, err := strconv.Atoi(s)
		return n, err == nil && n >= 0
	}
	if i, ok := num(p.Labels["training.kubeflow.org/replica-index"]); ok {
		if t := p.Labels["training.kubeflow.org/replica-type"]; t == "worker" && p.Labels["training.kubeflow.org/job-role"] != "master" && hasMaster(p) {
			return i + 1
		}
		return i
	}
	for _, k := range []string{"leaderworkerset.sigs.k8s.io/worker-index", "jobset.sigs.k8s.io/job-global-index", "batch.kubernetes.io/job-completion-index", "apps.kubernetes.io/pod-index", "volcano.sh/task-index"} {
		if k == "jobset.sigs.k8s.io/job-global-index" && p.Labels["batch.kubernetes.io/job-completion-index"] != "" && p.Labels["batch.kubernetes.io/job-completion-index"] != "0" {
			// Several pods in each Job of a JobSet: neither number alone is the place.
			continue
		}
		if i, ok := num(p.Labels[k]); ok {
			return i
		}
	}
	if i, ok := num(p.Annotations["batch.kubernetes.io/job-completion-index"]); ok {
		return i
	}
	return -1
}

// hasMaster reports whether the job of a PyTorchJob's worker has a master, which
// then is rank 0: the operator gives workers its address.
func hasMaster(p *corev1.Pod) bool {
	for _, c := range p.Spec.Containers {
		for _, e := range c.Env {
			if (e.Name == "MASTER_ADDR" || e.Name == "PET_RDZV_ENDPOINT") && strings.Contains(e.Value, "-master-0") {
				return true
			}
		}
	}
	return false
}

func literal(p *corev1.Pod, names ...string) string {
	for _, n := range names {
		for _, c := range p.Spec.Containers {
			for _, e := range c.Env {
				if e.Name == n && e.ValueFrom == nil {
					return e.Value
				}
			}
		}
	}
	return ""
}

// processes is how many ranks a pod runs: what its environment says, else one a
// GPU, else one.
func processes(p *corev1.Pod) int {
	if n, err := strconv.Atoi(literal(p, "PET_NPROC_PER_NODE", "NPROC_PER_NODE", "LOCAL_WORLD_SIZE")); err == nil && n > 0 && n <= 64 {
		return n
	}
	n := int64(0)
	for _, c := range p.Spec.Containers {
		for name, q := range c.Resources.Limits {
			if name == "nvidia.com/gpu" || name == "amd.com/gpu" {
				n += q.Value()
			}
		}
	}
	return int(min(max(n, 1), 64))
}

// mainContainer is the one whose log is the rank's.
func mainContainer(p *corev1.Pod) string {
	if d := p.Annotations["kubectl.kubernetes.io/default-container"]; d != "" {
		for _, c := range p.Spec.Containers {
			if c.Name == d {
				return d
			}
		}
	}
	if len(p.Spec.Containers) == 0 {
		return ""
	}
	return p.Spec.Containers[0].Name
}

func words(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

package actions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/planner"
)

// spot is where a kind keeps pod templates. In a path, "name[key]" is each element
// of a list, called by its field key, and "{}" each value of a map, called by its key.
type spot struct {
	// kinds are written "Kind.group"; "*" is every other kind.
	kinds string
	path  string
	// part names the template where a kind has several and the path gives no name.
	part string
	// bare says that at path there is a pod spec itself, without a template around it.
	bare bool
	// single is a field beside the containers that is a container itself, and what
	// its container in the pod is called.
	single, called string
	// label of a pod whose value is the part, and what its values stand for.
	label  string
	values map[string]string
}

// spots are the kinds whose pods are made from templates, by the definitions of
// their APIs: apps/v1, batch/v1, leaderworkerset.x-k8s.io/v1, jobset.x-k8s.io/v1alpha2,
// ray.io/v1, kubeflow.org/v1, batch.volcano.sh/v1alpha1, serving.kserve.io/v1beta1 and
// v1alpha1 (LLMInferenceService).
func spots() []spot {
	const lws, ray, kubeflow = "leaderworkerset.sigs.k8s.io/worker-index", "ray.io/group", "training.kubeflow.org/replica-type"
	head := map[string]string{"headgroup": "head"}
	return []spot{
		{kinds: "CronJob.batch", path: "spec.jobTemplate.spec.template"},
		{kinds: "LeaderWorkerSet.leaderworkerset.x-k8s.io", path: "spec.leaderWorkerTemplate.leaderTemplate", part: "leader", label: lws, values: map[string]string{"0": "leader", "": "worker"}},
		{kinds: "LeaderWorkerSet.leaderworkerset.x-k8s.io", path: "spec.leaderWorkerTemplate.workerTemplate", part: "worker", label: lws, values: map[string]string{"0": "leader", "": "worker"}},
		{kinds: "JobSet.jobset.x-k8s.io", path: "spec.replicatedJobs[name].template.spec.template", label: "jobset.sigs.k8s.io/replicatedjob-name"},
		{kinds: "RayCluster.ray.io", path: "spec.headGroupSpec.template", part: "head", label: ray, values: head},
		{kinds: "RayCluster.ray.io", path: "spec.workerGroupSpecs[groupName].template", label: ray, values: head},
		{kinds: "RayService.ray.io", path: "spec.rayClusterConfig.headGroupSpec.template", part: "head", label: ray, values: head},
		{kinds: "RayService.ray.io", path: "spec.rayClusterConfig.workerGroupSpecs[groupName].template", label: ray, values: head},
		{kinds: "RayJob.ray.io", path: "spec.rayClusterSpec.headGroupSpec.template", part: "head", label: ray, values: head},
		{kinds: "RayJob.ray.io", path: "spec.rayClusterSpec.workerGroupSpecs[groupName].template", label: ray, values: head},
		{kinds: "PyTorchJob.kubeflow.org", path: "spec.pytorchReplicaSpecs.{}.template", label: kubeflow},
		{kinds: "TFJob.kubeflow.org", path: "spec.tfReplicaSpecs.{}.template", label: kubeflow},
		{kinds: "MPIJob.kubeflow.org", path: "spec.mpiReplicaSpecs.{}.template", label: kubeflow},
		{kinds: "Job.batch.volcano.sh", path: "spec.tasks[name].template", label: "volcano.sh/task-spec"},
		{kinds: "InferenceService.serving.kserve.io", path: "spec.predictor", part: "predictor", bare: true, single: "model", called: "kserve-container", label: "component"},
		{kinds: "InferenceService.serving.kserve.io", path: "spec.transformer", part: "transformer", bare: true, label: "component"},
		{kinds: "LLMInferenceService.serving.kserve.io", path: "spec.template", part: "decode", bare: true},
		{kinds: "LLMInferenceService.serving.kserve.io", path: "spec.worker", part: "worker", bare: true},
		{kinds: "LLMInferenceService.serving.kserve.io", path: "spec.prefill.template", part: "prefill", bare: true},
		{kinds: "LLMInferenceService.serving.kserve.io", path: "spec.prefill.worker", part: "prefill worker", bare: true},
		{kinds: "Pod", path: "", bare: false},
		{kinds: "*", path: "spec.template"},
	}
}

// template is one pod template inside an object. Its maps are the object's own: what
// is changed in them is changed in the object.
type template struct {
	spot
	// at is the path of the pod spec in the object, as CheckField writes it.
	at string
	// part names it among several; empty where there is only one.
	part string
	// holder has the fields metadata and spec; nil for a bare pod spec.
	holder map[string]any
	spec   map[string]any
}

// templates finds the pod templates of an object; none when its kind keeps none
// where they are known to be.
func templates(u *unstructured.Unstructured) []*template {
	gk := u.GroupVersionKind().GroupKind()
	var out []*template
	named := false
	for _, p := range spots() {
		if p.kinds != gk.String() && (p.kinds != "*" || named) {
			continue
		}
		named = true
		for _, f := range walk(u.Object, p.path) {
			t := &template{spot: p, part: cmp.Or(f.name, p.part), at: f.path}
			if p.bare {
				t.spec = f.at
			} else {
				t.holder = f.at
				t.spec, _ = f.at["spec"].(map[string]any)
				t.at = strings.TrimPrefix(t.at+".spec", ".")
			}
			if t.spec != nil && len(t.containers()) > 0 {
				out = append(out, t)
			}
		}
	}
	return out
}

type found struct {
	name, path string
	at         map[string]any
}

// walk follows a path of a spot through an object.
func walk(u map[string]any, path string) []found {
	at := []found{{at: u}}
	if path == "" {
		return at
	}
	for step := range strings.SplitSeq(path, ".") {
		field, key, list := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		var next []found
		for _, f := range at {
			switch {
			case step == "{}":
				for _, k := range keys(f.at) {
					if m, ok := f.at[k].(map[string]any); ok {
						next = append(next, found{name: k, path: dotted(f.path, k), at: m})
					}
				}
			case list:
				items, _ := f.at[field].([]any)
				for i, item := range items {
					if m, ok := item.(map[string]any); ok {
						name, _ := m[key].(string)
						next = append(next, found{name: name, path: fmt.Sprintf("%s[%d]", dotted(f.path, field), i), at: m})
					}
				}
			default:
				if m, ok := f.at[field].(map[string]any); ok {
					next = append(next, found{name: f.name, path: dotted(f.path, field), at: m})
				}
			}
		}
		at = next
	}
	return at
}

// dotted appends a field to a path of CheckField.
func dotted(path, field string) string {
	field = strings.ReplaceAll(field, ".", `\.`)
	if path == "" {
		return field
	}
	return path + "." + field
}

func keys(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// container is one container of a template; m is the object's own map.
type container struct {
	name string
	init bool
	// at is the path of the container in the object.
	at string
	m  map[string]any
}

// containers gives the containers of a template, those that run first.
func (t *template) containers() []container {
	var out []container
	if t.single != "" {
		if m, ok := t.spec[t.single].(map[string]any); ok {
			name, _ := m["name"].(string)
			out = append(out, container{name: cmp.Or(name, t.called), at: dotted(t.at, t.single), m: m})
		}
	}
	for _, list := range []string{"containers", "initContainers"} {
		items, _ := t.spec[list].([]any)
		for i, item := range items {
			if m, ok := item.(map[string]any); ok {
				name, _ := m["name"].(string)
				out = append(out, container{name: name, init: list == "initContainers", at: fmt.Sprintf("%s[%d]", dotted(t.at, list), i), m: m})
			}
		}
	}
	return out
}

func (t *template) container(name string) (container, bool) {
	for _, k := range t.containers() {
		if k.name == name {
			return k, true
		}
	}
	return container{}, false
}

// names lists the containers of a template.
func (t *template) names() []string {
	var out []string
	for _, k := range t.containers() {
		n := k.name
		if k.init {
			n += " (init)"
		}
		out = append(out, n)
	}
	return out
}

// typed reads the pod spec.
func (t *template) typed() (*corev1.PodSpec, error) {
	var s corev1.PodSpec
	if err := convert(t.spec, &s); err != nil {
		return nil, fmt.Errorf("%s is no pod spec: %w", t.at, err)
	}
	return &s, nil
}

// edit is a workload that is to be changed, and the template in it.
type edit struct {
	*Object
	// asked is the object that the parameters name; another than Object when a
	// controller above it has to be changed.
	asked *Object
	// t is the template in Object; whole says that all its templates are meant, of
	// which t is the first.
	t     *template
	whole bool
}

// what names the object, and the part of it where it has several.
func (e *edit) what() string {
	if !e.whole && e.t.part != "" && len(templates(e.Unstructured)) > 1 {
		return e.Ref.String() + ", " + e.t.part
	}
	return e.Ref.String()
}

// find reads the workload that the parameters kind, namespace and name mean and
// climbs to the one that a change has to be made on: a controller sets back what is
// changed below it. Container and part choose the template.
func (c *Cluster) find(ctx context.Context, p params) (*edit, error) {
	asked, err := c.Get(ctx, p.str("kind"), p.str("namespace"), p.str("name"))
	if err != nil {
		return nil, err
	}
	o, below, err := c.top(ctx, p, asked)
	if err != nil {
		return nil, err
	}
	e := &edit{Object: o, asked: asked}
	all := templates(o.Unstructured)
	if len(all) == 0 {
		return nil, p.refuse("change it where its pods are described", "%s has no pod template where gumshoe knows to look for one", o.Ref)
	}
	e.t, err = pick(p, o, all, below)
	return e, err
}

// findWhole is find for a change of a workload as a whole: its number or a restart of
// all its pods. Where the parts have numbers of their own, as in Ray, one is meant.
func (c *Cluster) findWhole(ctx context.Context, p params) (*edit, error) {
	e, err := c.find(ctx, p)
	if e == nil || e.t != nil && err == nil {
		return e, err
	}
	if p.str("part") != "" || e.Ref.Group == "ray.io" {
		return nil, err
	}
	e.t, e.whole = templates(e.Unstructured)[0], true
	return e, nil
}

// top climbs from an object to the topmost controller that has pod templates. The
// labels are those of the lowest object passed, which tell the part it came from.
func (c *Cluster) top(ctx context.Context, p params, o *Object) (*Object, map[string]string, error) {
	up, below := c.climber(), o.GetLabels()
	for range maxClimb {
		r := metav1.GetControllerOf(o)
		if r == nil {
			return o, below, nil
		}
		if r.Kind == "Node" {
			return nil, nil, p.refuse("change its manifest on the node", "%s is a static pod of node %s", o.Ref, r.Name)
		}
		above, err := up.up(ctx, o)
		if err != nil {
			return nil, nil, fmt.Errorf("%s is controlled by %s %s, which cannot be read: %w", o.Ref, r.Kind, r.Name, err)
		}
		if above == nil { // left behind by a controller that is gone
			return o, below, nil
		}
		if len(templates(above.Unstructured)) == 0 {
			return nil, nil, p.refuse("change "+above.Ref.String(), "%s is made by %s, which sets a change back, and gumshoe does not know where that keeps the pod's description", o.Ref, above.Ref)
		}
		o = above
	}
	return nil, nil, p.refuse("change the topmost owner", "%s has more than %d controllers above it", o.Ref, maxClimb)
}

// pick chooses the template: by the parameter part, by the labels of the pod that
// was asked about, or by the container.
func pick(p params, o *Object, all []*template, below map[string]string) (*template, error) {
	want := p.str("part")
	if want == "" && all[0].label != "" && below[all[0].label] != "" {
		want = below[all[0].label]
		if v, ok := all[0].values[want]; ok {
			want = v
		} else if v, ok := all[0].values[""]; ok {
			want = v
		}
	}
	var fit []*template
	for _, t := range all {
		if want != "" && !strings.EqualFold(t.part, want) && len(all) > 1 {
			continue
		}
		if name := p.str("container"); name != "" && len(all) > 1 && want == "" {
			if _, ok := t.container(name); !ok {
				continue
			}
		}
		fit = append(fit, t)
	}
	var parts []string
	for _, t := range all {
		parts = append(parts, t.part)
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0:
		return nil, p.missing("part", "%s has no part %q with that container; it has %s", o.Ref, want, strings.Join(parts, ", "))
	}
	return nil, p.missing("part", "%s has several pod templates; say which: %s", o.Ref, strings.Join(parts, ", "))
}

// container gives the container that the parameter means: the named one, the only
// one, or the one that kubectl takes by default.
func (e *edit) container(p params) (container, error) {
	if name := p.str("container"); name != "" {
		if k, ok := e.t.container(name); ok {
			return k, nil
		}
		return container{}, p.missing("container", "%s has no container %q; it has %s", e.what(), name, strings.Join(e.t.names(), ", "))
	}
	run := slices.DeleteFunc(e.t.containers(), func(k container) bool { return k.init })
	if len(run) == 1 {
		return run[0], nil
	}
	if e.t.holder != nil {
		if name, _, _ := unstructured.NestedString(e.t.holder, "metadata", "annotations", "kubectl.kubernetes.io/default-container"); name != "" {
			if k, ok := e.t.container(name); ok {
				return k, nil
			}
		}
	}
	return container{}, p.missing("container", "%s has several containers; say which: %s", e.what(), strings.Join(e.t.names(), ", "))
}

// in finds the same template in a copy of the object.
func (e *edit) in(u *unstructured.Unstructured) (*template, error) {
	for _, t := range templates(u) {
		if t.part == e.t.part && t.path == e.t.path {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%s: the pod template is gone from the copy", e.what())
}

// pods gives the pods that are made from the template and have not ended.
func (c *Cluster) templatePods(ctx context.Context, e *edit) ([]*corev1.Pod, error) {
	all, err := c.podsOf(ctx, e.Object)
	if err != nil {
		return nil, err
	}
	// A group of a LeaderWorkerSet is one replica: its pods go together.
	several := len(templates(e.Unstructured)) > 1 && !e.whole && e.Ref.Kind != "LeaderWorkerSet"
	return slices.DeleteFunc(all, func(pod *corev1.Pod) bool {
		if ended(pod) {
			return true
		}
		if !several || e.t.label == "" || pod.Labels[e.t.label] == "" {
			return false
		}
		part := pod.Labels[e.t.label]
		if v, ok := e.t.values[part]; ok {
			part = v
		} else if v, ok := e.t.values[""]; ok {
			part = v
		}
		return !strings.EqualFold(part, e.t.part)
	}), nil
}

// matching counts the nodes that carry labels.
func (c *Cluster) matching(ctx context.Context, want map[string]string) (int, error) {
	list, err := c.List(ctx, "Node", "", labels.SelectorFromSet(want).String(), "")
	return len(list), err
}

// workloadParams are the parameters by which every action on a workload finds it.
func workloadParams(more ...planner.Param) []planner.Param {
	return append([]planner.Param{
		{Name: "kind", Required: true, Text: "the workload's kind, such as Deployment or LeaderWorkerSet.leaderworkerset.x-k8s.io"},
		{Name: "namespace", Required: true, Text: "its namespace"},
		{Name: "name", Required: true, Object: true, Text: "its name; a pod or ReplicaSet stands for the workload above it"},
	}, more...)
}

// containerParam and partParam choose inside a workload.
func containerParam() planner.Param {
	return planner.Param{Name: "container", Text: "the container; needed where there are several"}
}

func partParam() planner.Param {
	return planner.Param{Name: "part", Text: "the pod template where a kind has several: leader or worker, head or a worker group, a replicated job"}
}

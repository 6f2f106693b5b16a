package gpu

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// workloadKinds are the kinds behind which pods with GPUs stand, with their groups.
func workloadKinds() map[string]string {
	return map[string]string{
		"Service": "", "Deployment": "apps", "StatefulSet": "apps", "Job": "batch", "JobSet": "jobset.x-k8s.io", "LeaderWorkerSet": "leaderworkerset.x-k8s.io",
		"PyTorchJob": "kubeflow.org", "MPIJob": "kubeflow.org", "TrainJob": "trainer.kubeflow.org", "RayCluster": "ray.io", "RayJob": "ray.io", "RayService": "ray.io",
		"InferenceService": "serving.kserve.io", "LLMInferenceService": "serving.kserve.io", "Workspace": "kaito.sh", "DynamoGraphDeployment": "nvidia.com",
	}
}

// ownerLabels are the labels by which operators mark the pods of their objects,
// beside those of gangs.
func ownerLabels() []string {
	return append(gangLabels(), "serving.kserve.io/inferenceservice", "kaito.sh/workspace", "nvidia.com/dynamo-graph-deployment-name", "ray.io/originated-from-cr-name", "trainer.kubeflow.org/trainjob-name", "app.kubernetes.io/instance")
}

// behind lists the pods that a workload or a Service stands for.
func (t *Toolset) behind(ctx context.Context, in SurveyIn) (incident.Ref, []*corev1.Pod, error) {
	ref := t.ref(workloadKinds()[in.Kind], in.Kind, in.Namespace, in.Name)
	if _, ok := workloadKinds()[in.Kind]; !ok {
		return ref, nil, tool.Errorf(tool.Invalid, "kind %s is none behind which pods with GPUs are looked for", in.Kind)
	}
	o, err := t.Details.Get(ctx, ref)
	if err != nil {
		return ref, nil, err
	}
	all, err := t.Lists.Pods(ctx, in.Namespace)
	if err != nil {
		return ref, nil, err
	}
	sel := selector(o.Object, in.Kind)
	var out []*corev1.Pod
	for _, p := range all {
		mine := sel != nil && sel.Matches(labels.Set(p.Labels))
		if sel == nil {
			owner := metav1.GetControllerOf(p)
			mine = owner != nil && owner.Kind == in.Kind && owner.Name == in.Name
			mine = mine || slices.ContainsFunc(ownerLabels(), func(l string) bool { return p.Labels[l] == in.Name })
		}
		if mine && usesGPU(p) && !over(p) {
			out = append(out, p)
		}
	}
	return ref, out, nil
}

// selector reads the pods' selector of an object; nil where its kind has none.
func selector(o map[string]any, kind string) labels.Selector {
	path := []string{"spec", "selector", "matchLabels"}
	if kind == "Service" {
		path = path[:2]
	}
	set, ok, err := unstructured.NestedStringMap(o, path...)
	if err != nil || !ok || len(set) == 0 {
		return nil
	}
	return labels.SelectorFromSet(set)
}

// relationTo is how a workload leads to its pods.
func relationTo(kind string) string {
	if kind == "Service" {
		return graph.Selects
	}
	return graph.Owns
}

// maxReplicas is of how many replicas the GPUs are compared within each.
const maxReplicas = 16

// inStep compares the GPUs of the pods of one job, on behalf of the whole.
func (t *Toolset) inStep(ctx context.Context, v *verdict, pods []*corev1.Pod, out *Survey) {
	if len(pods) == 0 {
		return
	}
	g := gangOf(pods[0])
	if !g.step && len(pods) > maxReplicas {
		// Replicas are judged each by itself already; comparing within many of them
		// costs more than it tells.
		pods = pods[:maxReplicas]
	}
	said := Peers{Group: firstOf(gangOf(pods[0]).name, "the workload")}
	peers := t.gather(ctx, pods, &said)
	if !g.step {
		// Replicas do not wait for each other; the GPUs of one pod do.
		for _, p := range pods {
			own := slices.DeleteFunc(slices.Clone(peers), func(o peer) bool { return o.pod != p })
			t.compare(v, gang{}, p, own, &Peers{Group: "pod " + p.Namespace + "/" + p.Name})
		}
	} else {
		t.compare(v, g, pods[0], peers, &said)
	}
	for _, n := range said.Notes {
		if !slices.Contains(out.Notes, n) {
			out.Notes = append(out.Notes, n)
		}
	}
}

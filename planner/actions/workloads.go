package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// workloads are the actions on what makes pods, and on single pods.
func workloads(c *Cluster) []*action {
	return slices.Concat(rollouts(c), settersOf(c), podActions(c), jobActions(c))
}

// workloadRights are those on every kind that keeps pod templates. Jobs and pods
// cannot be changed in place and are made anew.
func workloadRights() []planner.Right {
	change, renew := []string{"get", "patch"}, []string{"get", "patch", "delete", "create"}
	return []planner.Right{
		{Group: "apps", Resources: []string{"deployments", "statefulsets", "daemonsets", "replicasets"}, Verbs: change},
		{Group: "batch", Resources: []string{"cronjobs"}, Verbs: change},
		{Group: "leaderworkerset.x-k8s.io", Resources: []string{"leaderworkersets"}, Verbs: change},
		{Group: "ray.io", Resources: []string{"rayclusters", "rayservices"}, Verbs: change},
		{Group: "serving.kserve.io", Resources: []string{"inferenceservices", "llminferenceservices"}, Verbs: change},
		{Group: "argoproj.io", Resources: []string{"rollouts"}, Verbs: change},
		{Resources: []string{"pods", "replicationcontrollers"}, Verbs: renew},
		{Group: "batch", Resources: []string{"jobs"}, Verbs: renew},
		{Group: "batch.volcano.sh", Resources: []string{"jobs"}, Verbs: renew},
		{Group: "jobset.x-k8s.io", Resources: []string{"jobsets"}, Verbs: renew},
		{Group: "kubeflow.org", Resources: []string{"pytorchjobs", "tfjobs", "mpijobs"}, Verbs: renew},
		{Group: "ray.io", Resources: []string{"rayjobs"}, Verbs: renew},
	}
}

// runsOnce reports whether a kind runs to completion: its template is fixed once it
// runs, so that a change needs a new object.
func runsOnce(o *Object) bool {
	switch o.GroupVersionKind().GroupKind().String() {
	case "Job.batch", "Job.batch.volcano.sh", "JobSet.jobset.x-k8s.io", "PyTorchJob.kubeflow.org", "TFJob.kubeflow.org", "MPIJob.kubeflow.org", "RayJob.ray.io", "Pod":
		return true
	}
	return false
}

// rolls reports whether a change of the template makes a built-in controller replace
// the pods one after another.
func rolls(o *Object) bool {
	return o.Ref.Group == "apps" && (o.Ref.Kind == "Deployment" || o.Ref.Kind == "StatefulSet" || o.Ref.Kind == "DaemonSet")
}

// rollout changes the template of a workload and says what comes of it: the pods that
// stop, the proof, and what a colleague would mention.
func (d *draft) rollout(ctx context.Context, e *edit, say string, change func(t *template) error) error {
	pods, err := d.c.templatePods(ctx, e)
	if err != nil {
		return err
	}
	d.climbed(e)
	edited := func(u *unstructured.Unstructured) error {
		t, err := e.in(u)
		if err != nil {
			return err
		}
		return change(t)
	}
	if runsOnce(e.Object) {
		err = d.replace(e.Object, say, edited)
		d.Warnings = append(d.Warnings, "the template of "+e.Ref.String()+" cannot be changed in place: it is deleted and created again, and its progress is lost")
	} else {
		err = d.patch(e.Object, say, edited)
	}
	if err != nil {
		return err
	}
	return d.restarts(ctx, e, pods)
}

// climbed says that another object is changed than the one that was named.
func (d *draft) climbed(e *edit) {
	if e.asked.Ref != e.Ref {
		d.target(e.asked, "controlled by "+e.Ref.String())
		d.Warnings = append(d.Warnings, e.asked.Ref.String()+" is made by "+e.Ref.String()+", which is changed instead")
	}
}

// restarts fills blast radius, proof and warnings of a template change.
func (d *draft) restarts(ctx context.Context, e *edit, pods []*corev1.Pod) error {
	o := e.Object
	spec, _ := o.Object["spec"].(map[string]any)
	switch {
	case o.Ref.Kind == "CronJob":
		d.Warnings = append(d.Warnings, "it holds from the next run on: runs that have begun keep the old template")
		return nil
	case o.Ref.Kind == "ReplicaSet" || o.Ref.Kind == "ReplicationController":
		d.Warnings = append(d.Warnings, "running pods stay as they are: a "+o.Ref.Kind+" does not replace them; delete them one by one afterwards")
		return nil
	case o.Ref.Kind == "Deployment" && spec["paused"] == true:
		d.Warnings = append(d.Warnings, "the rollout is paused: no pod changes until it is resumed (resume_rollout)")
		return nil
	}
	strategy, _, _ := unstructured.NestedString(o.Object, "spec", "updateStrategy", "type")
	if strategy == "OnDelete" {
		d.Warnings = append(d.Warnings, "the update strategy is OnDelete: a pod changes when it is deleted, not before")
		return nil
	}
	var err error
	if d.Blast, err = d.c.blast(ctx, pods); err != nil {
		return err
	}
	if d.Blast.PodCount > 0 {
		d.Lasting = "what the stopped pods held in memory and in emptyDir volumes"
	}
	d.Warnings = append(d.Warnings, d.hitches(e)...)
	d.Verify = append(d.Verify, proofOf(e, len(pods))...)
	return nil
}

// hitches are why a rollout of the workload may hang or hurt.
func (d *draft) hitches(e *edit) []string {
	var out []string
	o := e.Object
	spec, err := e.t.typed()
	gpus := 0
	if err == nil {
		gpus = requestedGPUs(spec) + len(spec.ResourceClaims)
	}
	switch o.GroupVersionKind().GroupKind().String() {
	case "Deployment.apps":
		strategy, _, _ := unstructured.NestedString(o.Object, "spec", "strategy", "type")
		surge, unavailable := budgets(o)
		switch {
		case strategy == "Recreate":
			out = append(out, "the strategy is Recreate: all pods stop before a new one starts")
		case gpus > 0 && unavailable == 0:
			out = append(out, fmt.Sprintf("no pod may be missing (maxUnavailable comes to 0), so %d new pod(s) must find free GPUs first; without, the rollout hangs: see rollout_strategy_patch", surge))
		}
	case "StatefulSet.apps":
		if n, ok, _ := unstructured.NestedInt64(o.Object, "spec", "updateStrategy", "rollingUpdate", "partition"); ok && n > 0 {
			out = append(out, fmt.Sprintf("the update strategy has partition %d: pods of lower ordinals stay as they are", n))
		}
	case "RayCluster.ray.io":
		if s, _, _ := unstructured.NestedString(o.Object, "spec", "upgradeStrategy", "type"); s != "Recreate" {
			out = append(out, "KubeRay makes running pods anew only with spec.upgradeStrategy.type Recreate: delete the pods of the group afterwards")
		}
	case "RayService.ray.io":
		out = append(out, "KubeRay starts a second cluster beside the running one before it switches: GPUs for both are needed")
	case "LeaderWorkerSet.leaderworkerset.x-k8s.io":
		out = append(out, "whole groups are made anew, leader and workers together")
	}
	return out
}

// budgets gives how many pods a Deployment may have more and less during a rollout.
// Percentages are rounded up for surge and down for unavailable; both at 0 means one
// unavailable (apps/v1, DeploymentStrategy).
func budgets(o *Object) (surge, unavailable int) {
	replicas, ok, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	if !ok {
		replicas = 1
	}
	get := func(name string, up bool) int {
		v, ok, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "strategy", "rollingUpdate", name)
		if !ok {
			v = "25%"
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(intOrString(v), int(replicas), up)
		if err != nil {
			return 0
		}
		return n
	}
	surge, unavailable = get("maxSurge", true), get("maxUnavailable", false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func intOrString(v any) *intstr.IntOrString {
	x := intstr.Parse(fmt.Sprint(v))
	return &x
}

// proofOf is how a changed workload shows that its pods work.
func proofOf(e *edit, pods int) []incident.Check {
	within := rolloutTime(e, pods)
	o := e.Object
	if rolls(o) {
		return []incident.Check{{Kind: CheckRollout, Subject: o.Ref, Say: "the newest revision of " + o.Ref.String() + " is rolled out", Within: within}}
	}
	if o.Ref.Group == "batch" || o.Ref.Group == "batch.volcano.sh" {
		return []incident.Check{{Kind: CheckScheduled, Subject: o.Ref, Say: "the pods of " + o.Ref.String() + " have nodes", Within: within}}
	}
	return []incident.Check{{Kind: CheckReady, Subject: o.Ref, Say: "the pods of " + o.Ref.String() + " are ready", Within: within, Hold: 30}}
}

// rolloutTime is how many seconds a rollout may take: what the startup probe allows a
// pod, times the rounds, between five minutes and two hours.
func rolloutTime(e *edit, pods int) int {
	start := 180
	if e.t != nil {
		if s, err := e.t.typed(); err == nil {
			for _, k := range s.Containers {
				if p := k.StartupProbe; p != nil {
					start = max(start, int(p.InitialDelaySeconds+max(1, p.FailureThreshold)*max(1, p.PeriodSeconds)))
				}
			}
		}
	}
	rounds := max(1, pods)
	if e.Ref.Kind == "Deployment" {
		rounds = min(rounds, 4) // a quarter at a time unless the strategy says otherwise
	}
	return min(7200, max(300, start*rounds+120))
}

// replace deletes an object and creates it again with a change, without what the
// server and the nodes wrote into it. The undo of the deletion is as clean.
func (d *draft) replace(o *Object, say string, change func(u *unstructured.Unstructured) error) error {
	clean := fresh(o)
	next := clean.DeepCopy()
	if err := change(next); err != nil {
		return err
	}
	if err := d.removeFor(o, clean, "delete "+o.Ref.String()+", to create it again"); err != nil {
		return err
	}
	if err := d.create(o.GroupVersionKind().GroupKind().String(), next, say); err != nil {
		return err
	}
	// The name is free for the old object only once the new one is gone.
	d.Undo[0].Await = []incident.Check{{Kind: CheckGone, Subject: o.Ref, Say: o.Ref.String() + " is gone", Within: 300}}
	return nil
}

// removeFor deletes an object; undo creates the given form of it.
func (d *draft) removeFor(o *Object, back *unstructured.Unstructured, say string) error {
	if err := d.remove(o, say, 300); err != nil {
		return err
	}
	body, err := json.Marshal(back.Object)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Ref, err)
	}
	d.Undo[0].Body = body
	return nil
}

// jobLabels are what the Job controller writes into a Job's selector and template.
func jobLabels() []string {
	return []string{"controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"}
}

// fresh is an object as its author would create it again: without the server's
// fields, a Job's generated selector, and what admission and scheduler wrote into a pod.
func fresh(o *Object) *unstructured.Unstructured {
	u := anew(o.Unstructured)
	notes := u.GetAnnotations()
	maps.DeleteFunc(notes, func(k, _ string) bool {
		return k == Annotation || strings.HasPrefix(k, "cni.") || strings.HasPrefix(k, "k8s.v1.cni.cncf.io/") || k == "kubectl.kubernetes.io/last-applied-configuration" || strings.HasPrefix(k, "batch.kubernetes.io/") || strings.HasPrefix(k, "volume.kubernetes.io/") || strings.HasPrefix(k, "volume.beta.kubernetes.io/storage-provisioner")
	})
	u.SetAnnotations(notes)
	if len(notes) == 0 {
		unstructured.RemoveNestedField(u.Object, "metadata", "annotations")
	}
	switch {
	case o.Ref.Kind == "Job" && o.Ref.Group == "batch":
		if manual, _, _ := unstructured.NestedBool(u.Object, "spec", "manualSelector"); !manual {
			unstructured.RemoveNestedField(u.Object, "spec", "selector")
			for _, l := range jobLabels() {
				unstructured.RemoveNestedField(u.Object, "metadata", "labels", l)
				unstructured.RemoveNestedField(u.Object, "spec", "template", "metadata", "labels", l)
			}
		}
		unstructured.RemoveNestedField(u.Object, "spec", "template", "metadata", "creationTimestamp")
	case o.Ref.Kind == "Pod":
		freshPod(u)
	case o.Ref.Kind == "PersistentVolumeClaim":
		unstructured.RemoveNestedField(u.Object, "metadata", "finalizers") // pvc-protection puts its own there
	}
	return u
}

// freshPod removes from a pod what admission, the scheduler and the kubelet add.
func freshPod(u *unstructured.Unstructured) {
	spec, _ := u.Object["spec"].(map[string]any)
	for _, f := range []string{"nodeName", "ephemeralContainers", "priority", "preemptionPolicy", "serviceAccount"} {
		delete(spec, f)
	}
	token := func(v any) bool {
		m, _ := v.(map[string]any)
		name, _ := m["name"].(string)
		return strings.HasPrefix(name, "kube-api-access-")
	}
	drop := func(m map[string]any, field string, gone func(any) bool) {
		list, ok := m[field].([]any)
		if !ok {
			return
		}
		if list = slices.DeleteFunc(list, gone); len(list) == 0 {
			delete(m, field)
			return
		}
		m[field] = list
	}
	drop(spec, "volumes", token)
	for _, list := range []string{"containers", "initContainers"} {
		items, _ := spec[list].([]any)
		for _, k := range items {
			if m, ok := k.(map[string]any); ok {
				drop(m, "volumeMounts", token)
			}
		}
	}
	// The default tolerations that admission adds (DefaultTolerationSeconds).
	drop(spec, "tolerations", func(v any) bool {
		m, _ := v.(map[string]any)
		key, _ := m["key"].(string)
		return (key == "node.kubernetes.io/not-ready" || key == "node.kubernetes.io/unreachable") && fmt.Sprint(m["tolerationSeconds"]) == "300"
	})
}

// fieldIs is the check that a field has a value.
func fieldIs(o *Object, path, value, say string) incident.Check {
	return incident.Check{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": path, "value": value}, Say: say, Within: 30}
}

// controlled reports the controller of an object, nil when there is none.
func controlled(o *Object) *metav1.OwnerReference { return metav1.GetControllerOf(o) }

package actions_test

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// fleet is two GPU nodes and a little of everything on the first one.
func fleet() *world {
	w := &world{}
	w.node("a", "pool: x").node("b", "pool: x")
	w.owner("ReplicaSet", "apps/v1", "ml", "web-1", ", ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: o-web, controller: true}]").owner("Deployment", "apps/v1", "ml", "web", "")
	w.owner("StatefulSet", "apps/v1", "ml", "train", "").owner("DaemonSet", "apps/v1", "kube-system", "plugin", "")
	w.pod("ml", "web-1-a", "a", "ReplicaSet apps/v1 web-1", "app: web", 2)
	w.pod("ml", "train-0", "a", "StatefulSet apps/v1 train", "app: train", 4, `  volumes: [{name: scratch, emptyDir: {}}, {name: shm, emptyDir: {medium: Memory}}]`)
	w.pod("kube-system", "plugin-a", "a", "DaemonSet apps/v1 plugin", "app: plugin", 0)
	return w
}

func TestDrain(t *testing.T) {
	t.Parallel()
	w := fleet()
	w.add(`
apiVersion: v1
kind: Pod
metadata: {name: static-a, namespace: kube-system, uid: p-static, annotations: {kubernetes.io/config.mirror: abc}}
spec: {nodeName: a, containers: [{name: m, image: i}]}
status: {phase: Running}
`)
	s := newScene(t, w.String())
	before := s.specs("Node")
	d := s.draft("drain", "node", "a")
	same(t, "writes", []string{"patch a", "evict train-0", "evict web-1-a"}, names(d.Writes))
	if d.Writes[1].UID != "p-train-0" || d.Writes[1].Timeout != 330 || len(d.Writes[1].Await) != 1 || d.Writes[1].Await[0].Kind != actions.CheckGone {
		t.Errorf("%+v", d.Writes[1])
	}
	same(t, "capacity", []string{"pod ml/train-0 fits on node b: 8 of 8 nvidia.com/gpu free", "pod ml/web-1-a fits on node b: 4 of 8 nvidia.com/gpu free"}, texts(d.Capacity))
	if d.Risk != incident.RiskHigh || len(d.Warnings) > 0 {
		t.Errorf("risk %s, warnings %q", d.Risk, d.Warnings)
	}
	// Ten hours of training on four GPUs are lost; the web pod serves.
	if d.Blast.PodCount != 2 || d.Blast.GPUs != 6 || d.Blast.GPUHours != 40 {
		t.Errorf("blast %+v", d.Blast)
	}
	says(t, "notes", d.Blast.Notes, "pod ml/train-0 loses its local volumes scratch")
	if len(d.Blast.Notes) != 1 || !strings.Contains(d.Lasting, "do not come back") {
		t.Errorf("notes %q, lasting %q", d.Blast.Notes, d.Lasting)
	}
	var checks []string
	for _, c := range d.Verify {
		checks = append(checks, c.Kind+" "+c.Subject.Kind+" "+c.Subject.Name)
	}
	same(t, "verify", []string{"pods_scheduled StatefulSet train", "pods_scheduled Deployment web", "node_empty Node a"}, checks)

	s.do(d.Writes)
	if on, _, _ := nested(s.get("Node", "", "a"), "spec", "unschedulable"); on != true {
		t.Error("node a is not cordoned")
	}
	for pod, there := range map[string]bool{"ml/train-0": false, "ml/web-1-a": false, "kube-system/plugin-a": true, "kube-system/static-a": true} {
		ns, name, _ := strings.Cut(pod, "/")
		if (s.get("Pod", ns, name) != nil) != there {
			t.Errorf("pod %s: want there %v", pod, there)
		}
	}
	s.undo(d)
	same(t, "nodes after the undo", before, s.specs("Node"))
}

func TestDrainRefuses(t *testing.T) {
	t.Parallel()
	pdb := func(spec, status string) string {
		return "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web, namespace: ml, generation: 1}\nspec: {selector: {matchLabels: {app: web}}, " + spec + "}\nstatus: {observedGeneration: 1, " + status + "}\n"
	}
	for name, c := range map[string]struct {
		more string
		says []string
	}{
		"a bare pod":                         {"apiVersion: v1\nkind: Pod\nmetadata: {name: lone, namespace: ml}\nspec: {nodeName: a, containers: [{name: m, image: i}]}\nstatus: {phase: Running}\n", []string{"ml/lone", "make"}},
		"a pod whose controller is gone":     {"apiVersion: v1\nkind: Pod\nmetadata: {name: orphan, namespace: ml, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: gone, uid: x, controller: true}]}\nspec: {nodeName: a, containers: [{name: m, image: i}]}\nstatus: {phase: Running}\n", []string{"ml/orphan"}},
		"maxUnavailable 0":                   {pdb("maxUnavailable: 0", "expectedPods: 1, currentHealthy: 1, desiredHealthy: 1, disruptionsAllowed: 0"), []string{"ml/web never allows", "maxUnavailable is 0"}},
		"maxUnavailable 0%":                  {pdb(`maxUnavailable: "0%"`, "expectedPods: 3, currentHealthy: 3, desiredHealthy: 3, disruptionsAllowed: 0"), []string{"maxUnavailable is 0%"}},
		"minAvailable of all":                {pdb("minAvailable: 2", "expectedPods: 2, currentHealthy: 2, desiredHealthy: 2, disruptionsAllowed: 0"), []string{"minAvailable is 2 of 2 pods"}},
		"minAvailable that rounds up to all": {pdb(`minAvailable: "90%"`, "expectedPods: 5, currentHealthy: 5, desiredHealthy: 5, disruptionsAllowed: 0"), []string{"minAvailable is 90% of 5 pods"}},
		"two budgets for one pod":            {pdb("maxUnavailable: 1", "expectedPods: 2, currentHealthy: 2, desiredHealthy: 1, disruptionsAllowed: 1") + "---\n" + strings.Replace(pdb("maxUnavailable: 1", "expectedPods: 2"), "{name: web,", "{name: web2,", 1), []string{"2 PodDisruptionBudgets (web, web2)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := fleet()
			w.WriteString("---\n" + c.more)
			newScene(t, w.String()).refused(c.says, "drain", "node", "a")
		})
	}
}

func TestDrainWaitsForBudgets(t *testing.T) {
	t.Parallel()
	w := fleet()
	w.add(`
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: ml, generation: 1}
spec: {selector: {matchLabels: {app: web}}, minAvailable: 1}
status: {observedGeneration: 1, expectedPods: 2, currentHealthy: 1, desiredHealthy: 1, disruptionsAllowed: 0}
`)
	s := newScene(t, w.String())
	d := s.draft("drain", "node", "a", "wait", "0")
	// What may not go now is asked first, before anything else has been stopped.
	same(t, "writes", []string{"patch a", "evict web-1-a", "evict train-0"}, names(d.Writes))
	says(t, "below budget", d.Blast.BelowBudget, "ml/web allows 0 of 1: 1 healthy, 1 needed")
	says(t, "warnings", d.Warnings, "PodDisruptionBudget ml/web allows 0 of 1 eviction now")

	s.do(d.Writes[:1])
	d.Writes[1].Timeout = 1
	if _, err := s.backend.Do(t.Context(), "plan-1", d.Writes[1]); err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("the eviction went through: %v", err)
	}
	if s.get("Pod", "ml", "web-1-a") == nil {
		t.Error("the pod is gone against its budget")
	}
}

func TestDrainCountsGangs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ labels, spec, owner, kind string }{
		"LeaderWorkerSet": {"leaderworkerset.sigs.k8s.io/name: big, leaderworkerset.sigs.k8s.io/group-index: '0'", "", "StatefulSet apps/v1 big", "LeaderWorkerSet"},
		"JobSet":          {"jobset.sigs.k8s.io/jobset-name: big", "", "Job batch/v1 big", "JobSet"},
		"PyTorchJob":      {"training.kubeflow.org/job-name: big", "", "StatefulSet apps/v1 big", "StatefulSet"},
		"RayCluster":      {"ray.io/cluster: big", "", "StatefulSet apps/v1 big", "RayCluster"},
		"PodGroup":        {"a: b", "  schedulingGroup: {podGroupName: big}", "Job batch/v1 big", "PodGroup"},
		"Job":             {"batch.kubernetes.io/job-name: big", "", "Job batch/v1 big", "Job"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{}
			w.node("a", "pool: x").node("b", "pool: x").node("c", "pool: x")
			w.add("apiVersion: batch/v1\nkind: Job\nmetadata: {name: big, namespace: ml, uid: o-big}\nspec: {completions: 3, parallelism: 3}")
			w.add("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: big, namespace: ml, uid: o-big}\nspec: {}")
			w.pod("ml", "big-0", "a", c.owner, c.labels, 8, c.spec).pod("ml", "big-1", "b", c.owner, c.labels, 8, c.spec)
			w.pod("ml", "other", "b", "StatefulSet apps/v1 big", "app: other", 0)
			d := newScene(t, w.String()).draft("drain", "node", "a")
			same(t, "writes", []string{"patch a", "evict big-0"}, names(d.Writes))
			if d.Blast.PodCount != 2 || d.Blast.GPUs != 16 || d.Blast.GPUHours != 160 {
				t.Errorf("%+v", d.Blast)
			}
			says(t, "notes", d.Blast.Notes, c.kind, "stops as a whole: 1 pod on other nodes with it")
		})
	}
}

func TestDrainKnowsCheckpoints(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("a", "pool: x").node("b", "pool: x").owner("StatefulSet", "apps/v1", "ml", "train", "")
	w.pod("ml", "train-0", "a", "StatefulSet apps/v1 train", "app: t", 4, "  volumes: [{name: out, persistentVolumeClaim: {claimName: out}}]")
	if d := newScene(t, w.String()).draft("drain", "node", "a"); d.Blast.GPUs != 4 || d.Blast.GPUHours != 0 {
		t.Errorf("%+v", d.Blast)
	}
}

func TestDrainNothing(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("a", "pool: x", "{unschedulable: true}")
	if _, err := newScene(t, w.String()).try("drain", "node", "a"); err == nil || !strings.Contains(err.Error(), "nothing to do") {
		t.Error(err)
	}
}

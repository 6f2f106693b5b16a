package actions

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// blastOf asks for the blast radius of the pods with these names.
func blastOf(t *testing.T, d *deck, names ...string) (pods []*corev1.Pod, c *Cluster) {
	t.Helper()
	c = d.cat.cluster.session()
	for _, n := range names {
		o, err := c.Get(t.Context(), "Pod", "ml", n)
		if err != nil {
			t.Fatal(err)
		}
		p, err := as[corev1.Pod](o)
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
	}
	return pods, c
}

func TestBlast(t *testing.T) {
	t.Parallel()
	d := newDeck(t, "workloads.yaml")
	pods, c := blastOf(t, d, "serve-3-b", "serve-1-a", "train-x", "llm-0", "lonely")
	b, err := c.blast(t.Context(), pods)
	if err != nil {
		t.Fatal(err)
	}
	if b.PodCount != 5 || b.Pods[0].Name != "llm-0" || b.Requests >= 0 {
		t.Errorf("%d pods from %s, %v requests", b.PodCount, b.Pods[0], b.Requests)
	}
	// Two by two pods as extended resources, eight of the leader, two of four devices by claim.
	if b.GPUs != 14 {
		t.Errorf("%d GPUs", b.GPUs)
	}
	// 2 GPUs for 5 h, 2 for half an hour, 2 for 2 h, 8 for 1 h.
	if b.GPUHours != 10+1+4+8 {
		t.Errorf("%v GPU hours", b.GPUHours)
	}
	var workloads []string
	for _, w := range b.Workloads {
		workloads = append(workloads, w.String())
	}
	slices.Sort(workloads)
	if want := []string{"Deployment ml/serve", "Job ml/train", "LeaderWorkerSet ml/llm"}; !slices.Equal(workloads, want) {
		t.Errorf("workloads %q, want %q", workloads, want)
	}
	// The pod that is not ready needs the budget as well: it is not met.
	if want := []string{"ml/serve allows 0, 2 needed"}; !slices.Equal(b.BelowBudget, want) {
		t.Errorf("budgets %q", b.BelowBudget)
	}
	notes := strings.Join(b.Notes, "\n")
	for _, want := range []string{"LeaderWorkerSet ml/llm works as a whole", "emptyDir volumes is lost: scratch", "hostPath stays on the node", "no controller makes these pods anew: ml/lonely"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note %q in %q", want, b.Notes)
		}
	}
	for _, p := range pods {
		p.Status.Phase = corev1.PodSucceeded
	}
	if b, err := c.blast(t.Context(), pods); err != nil || b.PodCount != 0 || b.GPUs != 0 || b.Requests != 0 {
		t.Errorf("pods that have ended are hurt: %+v %v", b, err)
	}
}

func TestBudgetOfPodsThatAreNotReady(t *testing.T) {
	t.Parallel()
	pdb := func(policy, healthy string) string {
		return strings.NewReplacer("POLICY", policy, "HEALTHY", healthy).Replace(`apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: other, namespace: ml}
spec: {minAvailable: 1, unhealthyPodEvictionPolicy: POLICY, selector: {matchLabels: {pod-template-hash: "3"}}}
status: {disruptionsAllowed: 0, currentHealthy: HEALTHY, desiredHealthy: 1, expectedPods: 2}
`)
	}
	for name, x := range map[string]struct {
		policy, healthy string
		blocked         bool
	}{
		"always allowed":              {"AlwaysAllow", "0", false},
		"allowed while others are":    {"IfHealthyBudget", "1", false},
		"not allowed when none is up": {"IfHealthyBudget", "0", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeck(t, "workloads.yaml", pdb(x.policy, x.healthy))
			pods, c := blastOf(t, d, "serve-3-b")
			b, err := c.blast(t.Context(), pods)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(b.BelowBudget, "ml/other allows 0, 1 needed"); got != x.blocked {
				t.Errorf("budgets %q", b.BelowBudget)
			}
		})
	}
}

// TestBlastSharedDevice counts a device that two pods share once.
func TestBlastSharedDevice(t *testing.T) {
	t.Parallel()
	d := newDeck(t, "workloads.yaml")
	pods, c := blastOf(t, d, "train-x")
	twin := pods[0].DeepCopy()
	twin.Name = "train-y"
	b, err := c.blast(t.Context(), append(pods, twin))
	if err != nil || b.GPUs != 2 || b.PodCount != 2 {
		t.Errorf("%d GPUs of %d pods, %v", b.GPUs, b.PodCount, err)
	}
}

func TestPodsOf(t *testing.T) {
	t.Parallel()
	d := newDeck(t, "workloads.yaml", `apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: ml, labels: {app: serve}}
spec: {containers: [{name: c, image: a}]}
`)
	c := d.cat.cluster.session()
	for at, want := range map[[2]string][]string{
		{"Deployment", "serve"}:                             {"serve-1-a", "serve-3-b"},
		{"LeaderWorkerSet.leaderworkerset.x-k8s.io", "llm"}: {"llm-0"},
		{"Job", "train"}:                                    {"train-x"},
		{"Pod", "lonely"}:                                   {"lonely"},
		{"CronJob", "nightly"}:                              nil,
	} {
		o, err := c.Get(t.Context(), at[0], "ml", at[1])
		if err != nil {
			t.Fatal(err)
		}
		pods, err := c.podsOf(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range pods {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pods of %s: %q, want %q", o.Ref, got, want)
		}
	}
}

// TestSpots finds the template of every kind in the table.
func TestSpots(t *testing.T) {
	t.Parallel()
	pod := map[string]any{"containers": []any{map[string]any{"name": "c", "image": "i"}}}
	whole := map[string]any{"spec": pod}
	for _, p := range spots() {
		gk := strings.SplitN(p.kinds, ".", 2)
		u := &unstructured.Unstructured{Object: map[string]any{}}
		leaf := any(whole)
		if p.bare {
			leaf = pod
		}
		if p.kinds == "Pod" {
			u.Object["spec"] = pod
		} else {
			steps := strings.Split(p.path, ".")
			for _, step := range slices.Backward(steps) {
				field, key, list := strings.Cut(strings.TrimSuffix(step, "]"), "[")
				switch {
				case step == "{}":
					leaf = map[string]any{"Worker": leaf}
				case list:
					leaf.(map[string]any)[key] = "g"
					leaf = map[string]any{field: []any{leaf}}
				default:
					leaf = map[string]any{field: leaf}
				}
			}
			u.Object = leaf.(map[string]any)
		}
		u.SetAPIVersion("v1")
		if u.SetKind(gk[0]); p.kinds == "*" {
			u.SetKind("Anything")
		}
		if len(gk) > 1 {
			u.SetAPIVersion(gk[1] + "/v1")
		}
		list := templates(u)
		if len(list) != 1 || len(list[0].containers()) != 1 || list[0].containers()[0].name != "c" {
			t.Errorf("%s %s: %d templates", p.kinds, p.path, len(list))
			continue
		}
		if want := strings.TrimSuffix(list[0].containers()[0].at, "[0]"); !strings.HasSuffix(want, "containers") {
			t.Errorf("%s: container at %s", p.kinds, want)
		}
	}
	if got := templates(&unstructured.Unstructured{Object: map[string]any{"kind": "ConfigMap", "apiVersion": "v1"}}); len(got) != 0 {
		t.Errorf("a ConfigMap has %d templates", len(got))
	}
}

package triage

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// labels reads "namespace=train pod=a-0".
func labels(s string) map[string]string {
	out := map[string]string{}
	for f := range strings.FieldsSeq(s) {
		k, v, _ := strings.Cut(f, "=")
		out[k] = v
	}
	return out
}

// The labels that the rules of kube-prometheus, kube-prometheus-stack,
// node_exporter and dcgm-exporter put on their alerts.
func TestAlertSubjects(t *testing.T) {
	t.Parallel()
	const ksm = " job=kube-state-metrics instance=10.1.2.3:8080 endpoint=http container=kube-state-metrics service=kube-prometheus-stack-kube-state-metrics pod=kube-prometheus-stack-kube-state-metrics-7c8f9-x2k4p"
	tests := []struct{ alert, labels, want string }{
		{"KubePodCrashLooping", "namespace=train pod=a-0 container=main job=kube-state-metrics service=kube-state-metrics reason=CrashLoopBackOff", "Pod train/a-0"},
		{"KubePodNotReady", "namespace=train pod=a-0", "Pod train/a-0"},
		{"KubeContainerWaiting", "namespace=train pod=a-0 container=main reason=ImagePullBackOff job=kube-state-metrics", "Pod train/a-0"},
		{"CPUThrottlingHigh", "namespace=train pod=a-0 container=main", "Pod train/a-0"},
		{"a pod scraped for its own metrics", "namespace=serve pod=vllm-0 job=vllm instance=10.0.0.1:8000 service=vllm node=n1", "Pod serve/vllm-0"},
		{"exported labels win", "namespace=monitoring pod=ksm exported_namespace=train exported_pod=a-0", "Pod train/a-0"},
		{"KubeDeploymentReplicasMismatch", "namespace=shop deployment=web" + ksm, "Deployment shop/web"},
		{"KubeStatefulSetReplicasMismatch", "namespace=shop statefulset=db" + ksm, "StatefulSet shop/db"},
		{"KubeDaemonSetRolloutStuck", "namespace=gpu daemonset=plugin" + ksm, "DaemonSet gpu/plugin"},
		{"KubeJobFailed", "namespace=train job_name=tune" + ksm, "Job train/tune"},
		{"KubeJobFailed", "namespace=train job_name=tune job=kube-state-metrics", "Job train/tune"},
		{"KubeHpaMaxedOut", "namespace=shop horizontalpodautoscaler=web" + ksm, "HorizontalPodAutoscaler shop/web"},
		{"KubePdbNotEnoughHealthyPods", "namespace=shop poddisruptionbudget=web" + ksm, "PodDisruptionBudget shop/web"},
		{"KubeNodeNotReady", "namespace=monitoring node=gpu-7 condition=Ready status=true" + ksm, "Node gpu-7"},
		{"KubeNodeUnreachable", "node=gpu-7 key=node.kubernetes.io/unreachable effect=NoSchedule" + ksm, "Node gpu-7"},
		{"KubeletTooManyPods", "node=gpu-7", "Node gpu-7"},
		{"KubePersistentVolumeFillingUp", "namespace=train persistentvolumeclaim=data node=n1 job=kubelet instance=10.0.0.1:10250 metrics_path=/metrics service=kubelet", "PersistentVolumeClaim train/data"},
		{"KubePersistentVolumeErrors", "persistentvolume=pvc-1 phase=Failed" + ksm, "PersistentVolume pvc-1"},
		{"KubeQuotaAlmostFull", "namespace=team resource=requests.nvidia.com/gpu" + ksm, "Namespace team"},
		{"kube-state-metrics itself crashes: KubePodCrashLooping", "namespace=monitoring" + ksm, "Namespace monitoring"},
		{"KubePodCrashLooping", "namespace=monitoring" + ksm, "Pod monitoring/kube-prometheus-stack-kube-state-metrics-7c8f9-x2k4p"},
		{"an exporter itself crashes", "namespace=monitoring pod=node-exporter-x2k4p container=node-exporter job=kube-state-metrics", "Pod monitoring/node-exporter-x2k4p"},
		{"NodeFilesystemAlmostOutOfSpace", "namespace=monitoring pod=node-exporter-x2k4p container=node-exporter job=node-exporter instance=gpu-7 service=node-exporter device=/dev/sda1", "Node gpu-7"},
		{"with a port", "namespace=monitoring pod=node-exporter-x2k4p container=node-exporter job=node-exporter instance=gpu-7.dc.local:9100", "Node gpu-7.dc.local"},
		{"an address names no node, so the exporter's pod leads there", "namespace=monitoring pod=node-exporter-x2k4p container=node-exporter job=node-exporter instance=10.0.0.7:9100", "Pod monitoring/node-exporter-x2k4p"},
		{"an IPv6 address", "namespace=monitoring pod=node-exporter-x2k4p container=node-exporter job=node-exporter instance=[fd00::7]:9100", "Pod monitoring/node-exporter-x2k4p"},
		{"DCGM of a GPU in use", "namespace=gpu-operator pod=nvidia-dcgm-exporter-abcde exported_namespace=train exported_pod=a-0 exported_container=main Hostname=gpu-7 gpu=3 job=nvidia-dcgm-exporter", "Pod train/a-0"},
		{"DCGM of a GPU nobody uses", "namespace=gpu-operator pod=nvidia-dcgm-exporter-abcde container=nvidia-dcgm-exporter Hostname=gpu-7 gpu=3 job=nvidia-dcgm-exporter UUID=GPU-1", "Node gpu-7"},
		{"TargetDown", "namespace=monitoring job=kube-state-metrics service=kube-state-metrics", "Service monitoring/kube-state-metrics"},
		{"TargetDown of an application", "namespace=serve job=vllm service=vllm", "Service serve/vllm"},
		{"a workload by its type", "namespace=shop workload=web workload_type=deployment", "Deployment shop/web"},
		{"of a type that is not known", "namespace=shop workload=web workload_type=rollout", "Namespace shop"},
		{"the same twice", "namespace=shop deployment=web workload=web workload_type=deployment", "Deployment shop/web"},
		{"a claim", "namespace=train resourceclaim=gpu-x", "ResourceClaim train/gpu-x"},
		{"a claim and its pod", "namespace=train pod=a-0 resourceclaim=gpu-x", "Pod train/a-0, ResourceClaim train/gpu-x"},
		{"an ingress", "namespace=shop ingress=front", "Ingress shop/front"},
		{"a node pool", "nodepool=gpu", "NodePool gpu"},
		{"namespace only", "namespace=shop severity=page", "Namespace shop"},
		{"a pod without namespace", "pod=a-0 severity=page", ""},
		{"empty labels", "namespace= pod= node=", ""},
		{"Watchdog", "severity=none", ""},
		{"no labels", "", ""},
	}
	for _, tc := range tests {
		var got []string
		for _, r := range AlertSubjects(incident.Alert{Name: tc.alert, Labels: labels(tc.labels)}, cluster) {
			if r.Cluster != cluster {
				t.Errorf("%s: %+v is of no cluster", tc.alert, r)
			}
			got = append(got, r.String())
		}
		if diff := cmp.Diff(tc.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s (%s): %s", tc.alert, tc.labels, diff)
		}
	}
	if diff := cmp.Diff([]incident.Ref{ref("Deployment shop/web")}, AlertSubjects(incident.Alert{Labels: labels("namespace=shop deployment=web")}, cluster)); diff != "" {
		t.Errorf("the group is missing: %s", diff)
	}
}

// An alert that is pasted into a question is read as one.
func TestPastedAlerts(t *testing.T) {
	t.Parallel()
	voc := newVocabulary()
	for text, want := range map[string]string{
		`[FIRING:1] KubePodNotReady {alertname="KubePodNotReady", namespace="train", pod="llama-0", severity="warning"}`:                                      "KubePodNotReady Pod train/llama-0",
		"Labels:\n - alertname = KubePodCrashLooping\n - namespace = train\n - pod = llama-0\nAnnotations:\n - description = Pod train/llama-0 is in waiting": "KubePodCrashLooping Pod train/llama-0",
		`{"receiver":"x","alerts":[{"status":"firing","labels":{"alertname":"KubeNodeNotReady","node":"gpu-7"},"startsAt":"2026-03-01T10:00:00Z"}]}`:          "KubeNodeNotReady Node gpu-7",
		`{"alerts":[{"labels":{"alertname":"A","namespace":"train","pod":"a-0"}},{"labels":{"alertname":"B","namespace":"shop","pod":"b-0","node":"n1"}}]}`:   "A Pod train/a-0",
		"alertname: KubeJobFailed\nnamespace: train\njob_name: tune":                                                                                          "KubeJobFailed Job train/tune",
		"why is pod=llama-0 in namespace=train down": "none",
		"alertname=": "none",
		"":           "none",
	} {
		got := "none"
		if a := voc.pasted(text); a != nil {
			got = a.Name
			for _, r := range AlertSubjects(*a, cluster) {
				got += " " + r.String()
			}
		}
		if got != want {
			t.Errorf("%q gives %s, want %s", text, got, want)
		}
	}
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	world := func() *lab {
		return town(t).says("Pod train/llama-0", "symptom", "down", 0.6).edge("Pod train/llama-0 -needs-> Node n1").says("Node n1", "fault", "not_ready", 0.95).exist("Pod train/llama-1")
	}
	about := func(q incident.Question) string { t.Helper(); return subjects(world(), q) }
	alert := func(name, l string) incident.Question {
		return incident.Question{Alert: &incident.Alert{Name: name, Labels: labels(l)}}
	}
	equal(t, "pod", about(alert("KubePodNotReady", "namespace=train pod=llama-0")), "Pod train/llama-0")
	equal(t, "pasted", about(incident.Question{Text: `{alertname="KubePodNotReady", namespace="train", pod="llama-0"}`}), "Pod train/llama-0")
	// The alert outlived its pod.
	equal(t, "gone", about(alert("KubePodNotReady", "namespace=train pod=llama-9")), "| Pod train/llama-9 does not exist; near it: Pod train/llama-0, Pod train/llama-1")
	equal(t, "one of two is gone", about(alert("X", "namespace=train pod=llama-9 job_name=tune")), "Job train/tune | Pod train/llama-9 does not exist; near it: Pod train/llama-0, Pod train/llama-1")
	equal(t, "no such namespace", about(alert("X", "namespace=ghost pod=a-0")), "| Pod ghost/a-0 does not exist (there is no namespace ghost)")
	// Labels that name nothing: the annotations are read, and no word of theirs is
	// held to be a name that must exist.
	q := alert("GPUDown", "severity=page")
	q.Alert.Annotations = map[string]string{"summary": "GPU node n1 is down", "runbook_url": "https://runbooks.example.com/gpu-down-99"}
	equal(t, "annotations", about(q), "Node n1")
	q.Alert.Annotations = map[string]string{"description": "the scrape-pool of job-that-never-was is down"}
	equal(t, "prose", about(q), "Cluster lab | nothing here is called scrape-pool, so the cluster was looked at as a whole; name an object to narrow it")
	equal(t, "nothing", about(alert("Watchdog", "severity=none")), "Cluster lab")
	equal(t, "in the surface's namespace", about(incident.Question{Namespace: "train", Alert: &incident.Alert{Name: "Watchdog"}}), "Namespace train")

	// Where names cannot be looked up the labels are taken at their word.
	l := world()
	l.noResolver = true
	equal(t, "no resolver", subjects(l, alert("X", "namespace=train pod=llama-0")), "Pod train/llama-0")
	l = world()
	l.lookup = &tool.Error{Kind: tool.Forbidden, User: "may not list"}
	equal(t, "may not look", subjects(l, alert("X", "namespace=train pod=llama-0")), "Pod train/llama-0")

	got := answer(world().assess(alert("KubePodNotReady", "namespace=train pod=llama-0"), setup{}))
	equal(t, "answer", got, lines("root_cause", "cause lab.not_ready on Node n1 0.95"))
}

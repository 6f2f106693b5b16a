package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

func parse(t *testing.T, doc string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m", 2 * time.Hour: "2h", 150 * time.Minute: "2h30m",
		26*time.Hour + 5*time.Minute: "26h", 48 * time.Hour: "2d", 53 * time.Hour: "2d5h", 30 * 24 * time.Hour: "30d",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestParseSince(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{"": time.Hour, "90s": 90 * time.Second, "2h": 2 * time.Hour, "1d": 24 * time.Hour, "1d12h": 36 * time.Hour, " 5m ": 5 * time.Minute} {
		if got, err := parseSince(in, time.Hour); err != nil || got != want {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"soon", "-1h", "0s", "d", "1d-1h", "99999999d", "1w"} {
		if got, err := parseSince(in, time.Hour); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
}

func TestTextHelpers(t *testing.T) {
	t.Parallel()
	if got := clip("größe", 3); got != "gr..." {
		t.Errorf("%q", got)
	}
	if got := oneLine(" a\n\tb  c ", 80); got != "a b c" {
		t.Errorf("%q", got)
	}
	if diff := cmp.Diff("A   B\nxx  y\nz\n", table([]string{"A", "B"}, [][]string{{"xx", "y"}, {"z", ""}})); diff != "" {
		t.Error(diff)
	}
	if got := (tally{"b": 1, "a": 1, "c": 3}).String(); got != "3 c, 1 a, 1 b" {
		t.Errorf("%q", got)
	}
}

func TestStateOf(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		`{kind: Pod, status: {phase: Pending}}`:                                                                                                                                    "Pending",
		`{kind: Pod, metadata: {deletionTimestamp: "2026-11-24T11:00:00Z"}, status: {phase: Running}}`:                                                                             "Terminating",
		`{kind: Pod, status: {phase: Failed, reason: Evicted}}`:                                                                                                                    "Evicted",
		`{kind: Pod, status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ImagePullBackOff}}}]}}`:                                                               "ImagePullBackOff",
		`{kind: Pod, status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ContainerCreating}}}]}}`:                                                              "ContainerCreating",
		`{kind: Pod, status: {phase: Pending, initContainerStatuses: [{state: {waiting: {reason: CrashLoopBackOff}}}]}}`:                                                           "Init:CrashLoopBackOff",
		`{kind: Pod, status: {phase: Pending, initContainerStatuses: [{state: {terminated: {exitCode: 0}}}], containerStatuses: [{state: {waiting: {reason: PodInitializing}}}]}}`: "Pending",
		`{kind: Pod, status: {phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 137, reason: OOMKilled}}}]}}`:                                                     "OOMKilled",
		`{kind: Pod, status: {phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 3}}}]}}`:                                                                          "ExitCode:3",
		`{kind: Pod, status: {phase: Succeeded, conditions: [{type: Ready, status: "False"}]}}`:                                                                                    "Succeeded",
		`{kind: Pod, status: {phase: Running, conditions: [{type: Ready, status: "False"}]}}`:                                                                                      "NotReady",
		`{kind: Pod}`: "Unknown",
		`{kind: Node, status: {conditions: [{type: Ready, status: "True"}]}}`:                               "Ready",
		`{kind: Node, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: Unknown}]}}`: "Unknown,SchedulingDisabled",
		`{kind: Node, status: {conditions: [{type: Ready, status: "False"}]}}`:                              "NotReady",
		`{kind: Deployment, spec: {replicas: 3}, status: {readyReplicas: 3}}`:                               "Ready",
		`{kind: Deployment, spec: {replicas: 3}, status: {readyReplicas: 1}}`:                               "NotReady",
		`{kind: Deployment, spec: {replicas: 0}}`:                                                           "ScaledToZero",
		`{kind: ResourceClaim, status: {allocation: {devices: {}}, reservedFor: [{name: p}]}}`:              "allocated,reserved",
		`{kind: ResourceClaim, status: {allocation: {devices: {}}}}`:                                        "allocated,unreserved",
		`{kind: ResourceClaim}`:                                                                         "unallocated",
		`{kind: PersistentVolumeClaim, status: {phase: Bound}}`:                                         "Bound",
		`{kind: Job, status: {conditions: [{type: Complete, status: "True"}]}}`:                         "Complete",
		`{kind: Job, status: {conditions: [{type: Failed, status: "True"}]}}`:                           "Failed",
		`{kind: Job, status: {conditions: [{type: Failed, status: "False"}]}}`:                          "",
		`{kind: Gateway, status: {conditions: [{type: Programmed, status: "False", reason: Invalid}]}}`: "NotProgrammed:Invalid",
		`{kind: RayCluster, status: {state: suspended}}`:                                                "suspended",
		`{kind: ConfigMap, data: {a: b}}`:                                                               "",
	} {
		if got := stateOf(parse(t, "{apiVersion: v1, "+strings.TrimPrefix(doc, "{"))); got != want {
			t.Errorf("%s: %q, want %q", doc, got, want)
		}
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	src := sourcetest.Start(t).Source(func() time.Time { return time.Unix(0, 0) })
	for name, tc := range map[string]struct {
		doc  string
		want []string
	}{
		"pod": {`
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: web}
spec:
  nodeName: n1
  serviceAccountName: sa
  priorityClassName: high
  runtimeClassName: nvidia
  imagePullSecrets: [{name: pull}]
  resourceClaims: [{name: a, resourceClaimName: shared}, {name: b, resourceClaimTemplateName: tpl}]
  initContainers: [{name: i, envFrom: [{configMapRef: {name: cm1}}]}]
  containers: [{name: c, envFrom: [{secretRef: {name: s1}}], env: [{name: A, valueFrom: {configMapKeyRef: {name: cm1, key: k}}}, {name: B, valueFrom: {fieldRef: {fieldPath: x}}}, {name: C, value: plain}]}]
  volumes:
  - {name: v1, projected: {sources: [{configMap: {name: cm2}}, {secret: {name: s2}}, {serviceAccountToken: {path: x}}]}}
  - {name: v2, csi: {driver: d, nodePublishSecretRef: {name: s3}}}
  - {name: v3, secret: {secretName: s4}}
  - {name: v4, emptyDir: {}}
status: {resourceClaimStatuses: [{name: b, resourceClaimName: p-b-x2k4p}, {name: c}]}
`, []string{"runs-on Node n1", "uses ServiceAccount web/sa", "uses PriorityClass high", "uses RuntimeClass nvidia", "uses Secret web/pull", "uses ConfigMap web/cm2", "uses Secret web/s2",
			"uses Secret web/s3", "uses Secret web/s4", "uses ConfigMap web/cm1", "uses Secret web/s1", "claims ResourceClaim web/shared", "from-template ResourceClaimTemplate web/tpl", "claims ResourceClaim web/p-b-x2k4p"}},
		"autoscaler": {`{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h, namespace: web}, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: llama}}}`,
			[]string{"scales Deployment web/llama"}},
		"route": {`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: web}, spec: {parentRefs: [{name: gw, namespace: infra}], rules: [{backendRefs: [{name: svc, port: 80}, {group: inference.networking.k8s.io, kind: InferencePool, name: pool}]}]}}`,
			[]string{"uses Gateway infra/gw", "routes-to Service web/svc", "routes-to InferencePool web/pool"}},
		"custom": {`{apiVersion: x.io/v1, kind: Thing, metadata: {name: t, namespace: web}, spec: {issuerRef: {kind: ClusterIssuer, group: cert-manager.io, name: ca}, modelRef: {name: nameless-kind}, poolReference: {kind: Pool, name: p}}}`,
			[]string{"uses ClusterIssuer ca", "uses Pool web/p"}},
		"nothing": {`{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: web}, data: {aRef: "x"}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, r := range referencesOf(src, parse(t, tc.doc)) {
				got = append(got, r.Relation+" "+r.To.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFieldsAreBounded(t *testing.T) {
	t.Parallel()
	deep := map[string]any{"leaf": "x"}
	for range 40 {
		deep = map[string]any{"down": deep, "side": []any{map[string]any{"a": []any{}}}}
	}
	u := &unstructured.Unstructured{Object: map[string]any{"kind": "Thing", "metadata": map[string]any{"name": "x"}, "spec": deep, "status": map[string]any{"conditions": []any{}, "lastSeen": "now"}}}
	many := map[string]any{}
	for i := range 300 {
		many[strings.Repeat("k", i+1)] = map[string]any{"v": strings.Repeat("long ", 200)}
	}
	u.Object["data"] = many
	fields, more := fieldsOf(u)
	if len(fields) != maxFields || more < 200 {
		t.Errorf("%d fields, %d more", len(fields), more)
	}
	for _, f := range fields {
		if len(f.Value) > maxValue+3 || strings.HasPrefix(f.Path, "metadata") || f.Path == "kind" {
			t.Errorf("%+v", f)
		}
	}
}

func TestFieldsOf(t *testing.T) {
	t.Parallel()
	got, _ := fieldsOf(parse(t, `
apiVersion: x.io/v1
kind: Thing
metadata: {name: t}
spec:
  hosts: [a, b]
  limits: {cpu: 1, gpu: 8}
  rules: [{name: first, to: {port: 80, tls: {mode: true}}}, {to: {port: 81, list: [{x: 1}]}}]
  template: {spec: {containers: [{name: c, image: i}]}}
status: {observedGeneration: 3, conditions: [{type: Ready}], count: 7}
topLevel: yes-too
`))
	want := []Field{
		{"spec.hosts", "a, b"}, {"spec.limits", "cpu=1 gpu=8"}, {"spec.rules[first].name", "first"}, {"spec.rules[first].to.port", "80"}, {"spec.rules[first].to.tls", "mode=true"},
		{"spec.rules[1].to.list[0]", "x=1"}, {"spec.rules[1].to.port", "81"}, {"status.count", "7"}, {"topLevel", "yes-too"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDiffTemplates(t *testing.T) {
	t.Parallel()
	template := func(change func(*corev1.PodTemplateSpec)) corev1.PodTemplateSpec {
		p := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x", "pod-template-hash": "1"}}}
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i:1", Env: []corev1.EnvVar{{Name: "A", Value: "1"}}, Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": resource.MustParse("1Gi")}}}}
		change(&p)
		return p
	}
	same := func(*corev1.PodTemplateSpec) {}
	for name, tc := range map[string]struct {
		change func(*corev1.PodTemplateSpec)
		want   []string
	}{
		"nothing": {func(p *corev1.PodTemplateSpec) { p.Labels["pod-template-hash"] = "2" }, []string{"no difference that matters in the pod template"}},
		"image":   {func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Image = "i:2" }, []string{"image of c: i:1 -> i:2"}},
		"equal quantity, other writing": {func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Resources.Limits["memory"] = resource.MustParse("1024Mi")
		}, []string{"no difference that matters in the pod template"}},
		"memory": {func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Resources.Limits["memory"] = resource.MustParse("512Mi")
		}, []string{"limits of c memory: 1Gi -> 512Mi"}},
		"environment": {func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "B", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, Key: "k"}}}}
		}, []string{`env of c A: "1" -> none`, "env of c B: none -> ConfigMap cm key k"}},
		"probe": {func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}, InitialDelaySeconds: 5}
		}, []string{"livenessProbe of c: none -> TCP :80 after 5s"}},
		"containers": {func(p *corev1.PodTemplateSpec) {
			p.Spec.Containers = []corev1.Container{{Name: "d", Image: "j"}}
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "k"}}
		}, []string{"init container setup added with image k", "d added with image j", "c removed"}},
		"node selector and claims": {func(p *corev1.PodTemplateSpec) {
			p.Spec.NodeSelector = map[string]string{"gpu": "h200"}
			name := "tpl"
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "g", ResourceClaimTemplateName: &name}}
			p.Spec.SchedulerName, p.Spec.PriorityClassName = "volcano", "low"
		}, []string{"nodeSelector gpu: none -> h200", `resourceClaims: none -> [{"name":"g","resourceClaimTemplateName":"tpl"}]`, "priorityClassName: none -> low", "schedulerName: none -> volcano"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, diffTemplates(template(same), template(tc.change))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOwnedFields(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string][]string{
		`{"f:spec":{"f:replicas":{},"f:template":{"f:spec":{}}},"f:status":{"f:x":{}}}`: {"spec.replicas", "spec.template"},
		`{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:immutable":{}}`:                {"immutable", "metadata.labels"},
		`{"f:status":{"f:conditions":{}}}`:                                              nil,
		`not json`:                                                                      nil,
		`{}`:                                                                            nil,
	} {
		if diff := cmp.Diff(want, ownedFields(metav1.NewFieldsV1(raw))); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	}
	if ownedFields(nil) != nil {
		t.Error("fields of nothing")
	}
}

func TestNearness(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		written, other string
		far            int
		ok             bool
	}{
		{"web", "web", 0, true}, {"GPU-1", "gpu-1", 0, true},
		{"web-7d9f8b6c5d-x2k4p", "web-55c9d8f7b-q9zzt", 1, true}, {"trainer-7", "trainer-0", 1, true}, {"job-x2k4p", "job-q9zzt", 1, true}, {"job-3-x2k4p", "job-4-zz2k4", 1, true},
		{"web-7d9f8b6c5d-x2k4p", "web", 2, true}, {"llama", "llama-7c5d8f9b44-x2k4p", 2, true}, {"llama", "llama-server", 2, true}, {"trainer-3", "trainer", 2, true},
		{"lama", "llama", 3, true}, {"vllm-serving", "vllm-servng", 3, true}, {"lama-ft", "llama-ft-0", 4, true},
		{"web", "api", 0, false}, {"db", "dbx", 3, true}, {"a", "b", 3, true}, {"pending", "ending-soon", 0, false}, {"web-proxy", "web-cache", 0, false},
	} {
		far, ok := newNearness(tc.written).distance(tc.other)
		if far != tc.far || ok != tc.ok {
			t.Errorf("%q for %q: %d %v, want %d %v", tc.other, tc.written, far, ok, tc.far, tc.ok)
		}
	}
}

func TestContainerWords(t *testing.T) {
	t.Parallel()
	at := metav1.NewTime(time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC))
	for _, tc := range []struct {
		state corev1.ContainerState
		ready bool
		want  string
	}{
		{corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "Back-off\npulling"}}, false, "waiting ImagePullBackOff Back-off pulling"},
		{corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, true, "running, ready"},
		{corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, false, "running, not ready"},
		{corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 139, Signal: 11, FinishedAt: at, Message: "boom"}}, false, "ended Error exit code 139 signal 11 at 2026-11-24T11:00:00Z: boom"},
		{corev1.ContainerState{}, false, ""},
	} {
		if got := containerState(tc.state, tc.ready); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	v := viewContainer(corev1.Container{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 81}},
		Resources:    corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "gpu", Request: "one"}, {Name: "nic"}}},
		StartupProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9}}, PeriodSeconds: 3}, ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"ls", "-l"}}}}})
	if diff := cmp.Diff("container c: image i; claims gpu/one,nic; ports http:80,81; probes startup gRPC :9 every 3s; readiness exec ls -l", v.text()); diff != "" {
		t.Error(diff)
	}
}

func TestPickContainer(t *testing.T) {
	t.Parallel()
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "setup"}}, Containers: []corev1.Container{{Name: "app"}, {Name: "proxy"}}}}
		change(p)
		return p
	}
	failed := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"first": {pod(func(*corev1.Pod) {}), "app"},
		"default": {pod(func(p *corev1.Pod) {
			p.Annotations = map[string]string{"kubectl.kubernetes.io/default-container": "proxy"}
		}), "proxy"},
		"bad name": {pod(func(p *corev1.Pod) {
			p.Annotations = map[string]string{"kubectl.kubernetes.io/default-container": "zzz"}
		}), "app"},
		"failed init": {pod(func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "setup", State: failed}}
		}), "setup"},
		"finished init is fine": {pod(func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "setup", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
		}), "app"},
		"waits after a crash": {pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app"}, {Name: "proxy", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}, LastTerminationState: failed}}
		}), "proxy"},
	} {
		if got, _, err := pickContainer(tc.pod, ""); err != nil || got != tc.want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if _, _, err := pickContainer(&corev1.Pod{}, ""); err == nil {
		t.Error("a container of a pod without containers")
	}
}

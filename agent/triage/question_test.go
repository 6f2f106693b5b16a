package triage

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// told writes a reading on one line: "ns shop; firm Pod train/a, b; soft Job c".
func told(r reading) string {
	var parts []string
	list := func(what string, ms []tool.Mention) {
		var names []string
		for _, m := range ms {
			n := m.Name
			if m.Namespace != "" {
				n = m.Namespace + "/" + n
			}
			names = append(names, strings.TrimSpace(m.Kind+" "+n))
		}
		if len(names) > 0 {
			parts = append(parts, what+" "+strings.Join(names, ", "))
		}
	}
	if r.namespace != "" {
		parts = append(parts, "ns "+r.namespace)
	}
	list("firm", r.firm)
	list("soft", r.soft)
	list("loose", r.loose)
	if len(r.places) > 0 {
		parts = append(parts, "in "+strings.Join(r.places, ", "))
	}
	if len(r.alerts) > 0 {
		parts = append(parts, "alerts "+strings.Join(r.alerts, ", "))
	}
	if !r.trouble {
		parts = append(parts, "calm")
	}
	return strings.Join(parts, "; ")
}

// Questions as people write them, and what they name.
func TestRead(t *testing.T) {
	t.Parallel()
	voc := newVocabulary()
	for text, want := range map[string]string{
		"": "calm",
		// Kind and name in all their orders and spellings.
		"Why is pod train/llama-ft-0 pending?":                       "firm Pod train/llama-ft-0",
		"Why is Pod Train/Llama-0 Pending?!":                         "firm Pod train/llama-0",
		"why is deploy/web stuck":                                    "firm Deployment web",
		"deployment.apps/web is not ready":                           "firm Deployment web",
		"job.batch/tune-1 failed":                                    "firm Job tune-1",
		"po/llama-0 -n train":                                        "ns train; firm Pod llama-0; calm",
		"pods/llama-0 --namespace=train is stuck":                    "ns train; firm Pod llama-0",
		"pod:llama-0 ns:train is stuck":                              "ns train; firm Pod llama-0",
		"namespace: train, pod: llama-0":                             "ns train; firm Pod llama-0; calm",
		"resourceclaim/ml/big-claim is not allocated":                "firm ResourceClaim ml/big-claim",
		"rayclusters/ml/foo is stuck":                                "firm RayCluster ml/foo",
		"namespaces/train/pods/llama-0 fails":                        "firm Pod train/llama-0",
		"(train/llama-0), please check.":                             "firm train/llama-0",
		"Node \"n1\" is not ready.":                                  "firm Node n1",
		"why is `web` pending":                                       "firm web",
		"why is ‘x’ pending, I mean “web”":                           "firm web",
		"statefulset 'web' in namespace \"shop\" is down":            "ns shop; firm StatefulSet web",
		"the pod named web keeps crashing":                           "firm Pod web",
		"pod with name web is stuck":                                 "firm Pod web",
		"pod name web-0 is stuck":                                    "firm Pod web-0",
		"GPU node gpu-7 NotReady?":                                   "firm Node gpu-7; alerts NotReady",
		"the node gpu-node-3 is not ready":                           "firm Node gpu-node-3",
		"what is wrong with node worker1":                            "firm Node worker1",
		"why is ip-10-0-1-5.ec2.internal not ready":                  "firm ip-10-0-1-5.ec2.internal",
		"gpu-7 is down":                                              "loose gpu-7",
		"claim big-0 of pod big in ns ml":                            "ns ml; firm ResourceClaim big-0, Pod big; calm",
		"Why is pod llama-0's claim not allocated":                   "firm Pod llama-0",
		"node/gpu-7's kubelet is down":                               "firm Node gpu-7",
		"job x fails":                                                "firm Job x",
		"persistent volume claim data-0 is pending":                  "firm PersistentVolumeClaim data-0",
		"resource claim template big is wrong":                       "firm ResourceClaimTemplate big",
		"the config map settings is missing":                         "soft ConfigMap settings",
		"node pool gpu-a cannot scale":                               "soft NodePool gpu-a",
		"rayjob training-1 pending":                                  "firm RayJob training-1",
		"isvc llm down":                                              "firm InferenceService llm",
		"is the nvidia-device-plugin daemonset healthy":              "firm DaemonSet nvidia-device-plugin",
		"web deployment is down":                                     "loose Deployment web",
		"why does the api service have no endpoints":                 "loose Service api",
		"pod train/llama_0 is pending":                               "firm Pod train/llama_0",
		"my-app-7d9f8b6c5d-x2k4p is CrashLoopBackOff":                "firm my-app-7d9f8b6c5d-x2k4p; alerts CrashLoopBackOff",
		"kubectl get pods -n ml shows llama-0 0/1 Pending":           "ns ml; firm llama-0",
		"503 from ingress shop/front":                                "firm Ingress shop/front",
		"why is deployment foo-bar in ns x crashlooping?":            "ns x; firm Deployment foo-bar",
		"container vllm-server in pod llm-0 keeps restarting":        "firm Pod llm-0",
		"vLLM pod crashed with CUDA out of memory":                   "",
		"warum startet pod llama-0 nicht":                            "firm Pod llama-0; loose warum, Pod startet, nicht; calm",
		"node gpu-a-1 has taint nvidia.com/gpu=true:NoSchedule, why": "firm Node gpu-a-1; alerts NoSchedule",
		"--tensor-parallel-size 8 makes pod llm-0 fail":              "firm Pod llm-0",
		"error opening /dev/nvidia0 or ~/x/y-0 in pod train/a-0":     "firm Pod train/a-0",
		"why is pod web. Deployment api is fine":                     "firm Pod web, Deployment api",
		"why no pods? web-0 is gone":                                 "firm web-0",
		"why is pod " + strings.Repeat("x", 300) + " pending":        "firm Pod " + strings.Repeat("x", 300),
		"what about pod a_b.c-d":                                     "firm Pod a_b.c-d",
		"does pod ünïcode-0 run":                                     "calm",
		// Lists.
		"pods web-0, web-1 and web-2 are crashing":        "firm Pod web-0, Pod web-1, Pod web-2",
		"pods web and api are crashing":                   "soft Pod web, Pod api",
		"why did node gpu-1, gpu-2 and gpu-3 go NotReady": "firm Node gpu-1, Node gpu-2, Node gpu-3; alerts NotReady",
		"deployment web deployment api both fail":         "firm Deployment web, Deployment api",
		"check namespaces train and serve":                "firm Namespace train, Namespace serve",
		// DNS names, URLs, images.
		"service/foo.bar.svc.cluster.local is down":                  "firm Service bar/foo",
		"FOO.BAR.SVC:8080 refuses":                                   "firm Service bar/foo",
		"llama-0.llama.train.svc.cluster.local does not answer":      "firm Pod train/llama-0; loose answer",
		"http://vllm.serve:8000/v1/models times out, why":            "soft Service serve/vllm",
		"http://vllm:8000 refuses":                                   "soft Service vllm",
		"http://web.shop.svc.cluster.local/x?y=a/b fails":            "firm Service shop/web",
		"https://huggingface.co/meta-llama/Llama-3.1-8B fails":       "",
		"http://10.0.0.7:9100/metrics fails":                         "",
		"vllm/vllm-openai:v0.6.1 cannot be pulled by deployment llm": "firm Deployment llm",
		"why can't it pull nvcr.io/nvidia/vllm?":                     "",
		"why can't it pull localhost:5000/a/b@sha256:0123abcd":       "",
		"meta-llama/Llama-3.1-8B-Instruct does not load":             "soft meta-llama/llama-3.1-8b-instruct",
		"openai/whisper-large does not load":                         "soft openai/whisper-large",
		// Namespaces, also where an ordinary word is one.
		"what is wrong in namespace train-prod?":           "ns train-prod",
		"what is wrong in the shop namespace":              "ns shop",
		"what is wrong in the default namespace":           "ns default",
		"what is wrong in namespace gpu?":                  "ns gpu",
		"what is wrong in the gpu namespace":               "ns gpu",
		"what is wrong in namespace a?":                    "ns a",
		"ns/a is in trouble":                               "ns a",
		"why are the pod/s and node/s down":                "",
		"pod/a is down":                                    "firm Pod a",
		"is namespace memory ok?":                          "ns memory",
		"why are the pods of job tune in ns queue pending": "ns queue; firm Job tune",
		"which namespace is broken?":                       "",
		"why is my namespace broken":                       "",
		"is the namespace healthy":                         "",
		"why is every namespace failing":                   "",
		"ns/train is in trouble":                           "ns train",
		"Namespace `Train` is in trouble":                  "ns train",
		"why is llama-0 pending in ml?":                    "firm llama-0; in ml",
		"what's wrong with training in ml":                 "loose training; in ml",
		"why is everything in kube-system failing":         "firm kube-system; in kube-system",
		"why do my pods in production keep crashing":       "loose production; in production",
		"why are pods in test pending":                     "loose test; in test",
		"why are pods in the training job pending":         "loose Job training",
		"monitoring is broken":                             "loose monitoring",
		// No name at all: states, verbs and English after a kind.
		"why is my pod crashlooping?":                               "",
		"why are pods flapping":                                     "",
		"why does my pod hang":                                      "",
		"the node freezes":                                          "",
		"why is the pod misbehaving":                                "soft Pod misbehaving",
		"which pods are evicted":                                    "",
		"why is the pod OOMKilled":                                  "",
		"my pod ImagePullBackOff":                                   "alerts ImagePullBackOff",
		"pods cannot get nvidia.com/gpu since v1.37.2":              "",
		"pod out-of-memory, why":                                    "soft Pod out-of-memory",
		"why is time-to-first-token bad?":                           "",
		"llama-7b keeps crashing with out-of-memory":                "firm llama-7b",
		"my multi-node job on 8-gpu nodes is stuck in namespace ml": "ns ml",
		"my training job has been pending since last night":         "loose Job training",
		"pods are pending since 12:30 on 2026-03-01":                "",
		"why are and/or CPU/GPU pods/nodes 24/7 at 0/6":             "",
		"prefill/decode pods crash":                                 "soft prefill/decode",
		"tp/pp/dp is wrong":                                         "soft tp pp/dp",
		"config.yaml is wrong":                                      "loose config.yaml",
		"why is h100-80gb not offered":                              "loose h100-80gb",
		"Is everything ok?":                                         "",
		"hello":                                                     "calm",
		"what can you do":                                           "",
		"-":                                                         "calm",
		"/////":                                                     "calm",
	} {
		got := told(voc.read(incident.Question{Text: text}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
}

// The surface's namespace holds unless the text names another.
func TestReadNamespace(t *testing.T) {
	t.Parallel()
	voc := newVocabulary()
	for text, want := range map[string]string{
		"why is pod web pending":                          "ns shop; firm Pod web",
		"why is pod web pending in namespace train":       "ns train; firm Pod web",
		"why is pod web pending in train":                 "ns shop; firm Pod web; loose train; in train",
		"why is pod web pending in namespace":             "ns shop; firm Pod web",
		"why is pod other/web pending":                    "ns shop; firm Pod other/web",
		"why is pod web pending -n a --namespace b or -n": "ns a; firm Pod web",
	} {
		if diff := cmp.Diff(want, told(voc.read(incident.Question{Text: text, Namespace: "shop"}))); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// A question is read so far and no further, and cut between letters.
func TestReadLongQuestion(t *testing.T) {
	t.Parallel()
	r := newVocabulary().read(incident.Question{Text: "pod train/a-0 " + strings.Repeat("ä/ö-1 `x", maxQuestion) + " pod train/b-0"})
	if len(r.firm) == 0 || r.firm[0].Name != "a-0" {
		t.Errorf("%v", limit(r.firm, 3))
	}
	for _, m := range r.firm {
		if m.Name == "b-0" {
			t.Error("the end of an endless question was read")
		}
	}
}

func TestAlertWords(t *testing.T) {
	t.Parallel()
	r := newVocabulary().read(incident.Question{Text: "KubePodNotReady and GPUNodeDown fired; iPhone, NVIDIA, kubePod and Llama did not"})
	if diff := cmp.Diff([]string{"KubePodNotReady", "GPUNodeDown"}, r.alerts); diff != "" {
		t.Error(diff)
	}
}

// Whatever is asked: names are names, and each is told once.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"why is pod a/b pending in namespace c", "`\"'//// -n  ns= a/b/c/d", "http://a.b.svc:1/x?y {alertname=\"X\", pod=\"a\"}", "pods web, api and \u2019s “x” the the the named", "a.b.c/d:latest@sha256:00", "persistent volume claim resource claim template"} {
		f.Add(s, "")
	}
	f.Add("pod web", "shop")
	voc := newVocabulary()
	f.Fuzz(func(t *testing.T, text, namespace string) {
		r := voc.read(incident.Question{Text: text, Namespace: namespace})
		seen := map[tool.Mention]bool{}
		for _, m := range append(append([]tool.Mention{}, r.firm...), r.soft...) {
			if m.Name == "" || strings.ToLower(m.Name) != m.Name || strings.ContainsAny(m.Name+m.Namespace, " /:\x00\n") {
				t.Fatalf("%q gives the mention %+v", text, m)
			}
			if strings.ContainsAny(m.Namespace, ".") {
				t.Fatalf("%q gives a namespace with a dot: %+v", text, m)
			}
			if seen[m] && !slices.Contains(r.firm, m) {
				t.Fatalf("%q gives %+v twice", text, m)
			}
			seen[m] = true
		}
		if r.namespace == "" && namespace != "" || len(r.places) > 3 {
			t.Fatalf("%q in %q: namespace %q, places %v", text, namespace, r.namespace, r.places)
		}
		if r.alert != nil && r.alert.Name == "" {
			t.Fatalf("%q is an alert without a name", text)
		}
	})
}

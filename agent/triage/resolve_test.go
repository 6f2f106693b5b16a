package triage

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// town is a lab with things of many names.
func town(t testing.TB) *lab {
	return newLab(t).exist(
		"Namespace shop", "Namespace train", "Namespace monitoring", "Namespace web", "Namespace gpu", "Namespace argocd",
		"Pod shop/web-0", "Deployment shop/web", "Service shop/web", "ConfigMap train/web", "Application argocd/web",
		"Pod train/llama-0", "ResourceClaim train/llama-0", "Job train/tune", "Pod train/trainer", "Pod shop/trainer",
		"Node gpu-7", "Node n1", "Pod train/n1", "Deployment monitoring/grafana", "StatefulSet gpu/burn", "Service train/vllm",
		"Job train/training", "PersistentVolumeClaim shop/data")
}

// subjects asks a question and gives what it was taken to be about, and what was
// said to that.
func subjects(l *lab, q incident.Question) string {
	l.t.Helper()
	a := l.assess(q, setup{})
	var out []string
	for _, r := range a.Subjects {
		out = append(out, r.String())
	}
	s := strings.Join(out, ", ")
	if a.Diagnosis.Ask != nil {
		s += " | " + a.Diagnosis.Ask.Text
	}
	return strings.TrimSpace(s)
}

func TestResolve(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"why is pod shop/web-0 down":                   "Pod shop/web-0",
		"why is Pod Shop/Web-0 down":                   "Pod shop/web-0",
		"why is llama-0 pending":                       "Pod train/llama-0",
		"why is resource claim llama-0 not allocated":  "ResourceClaim train/llama-0",
		"why are pods web-0 and llama-0 down":          "Pod shop/web-0, Pod train/llama-0",
		"service/web.shop.svc.cluster.local is down":   "Service shop/web",
		"http://vllm.train:8000 refuses, why":          "Service train/vllm",
		"why is gpu-7 not ready":                       "Node gpu-7",
		"GPU node gpu-7 NotReady?":                     "Node gpu-7",
		"what is wrong in namespace train":             "Namespace train",
		"what is wrong in namespace gpu":               "Namespace gpu",
		"what is wrong in the web namespace":           "Namespace web",
		"ns/train is broken":                           "Namespace train",
		"what is wrong in train":                       "Namespace train",
		"monitoring is broken":                         "Namespace monitoring",
		"is everything fine":                           "Cluster lab",
		"what is wrong with this cluster?":             "Cluster lab",
		"why are my pods pending":                      "Cluster lab",
		"pods cannot get nvidia.com/gpu, why":          "Cluster lab",
		"my training job is pending since last night":  "Job train/training",
		"why is the tune job slow":                     "Job train/tune",
		"what is wrong with namespaces train and shop": "Namespace train, Namespace shop",
		"pvc data is pending":                          "PersistentVolumeClaim shop/data",
		"deployment web in ns shop has problems":       "Deployment shop/web",
		"the web deployment has problems":              "Deployment shop/web",

		// One name of several kinds: what runs, wherever that is.
		"`web` is slow":         "Deployment shop/web",
		"why is `n1` not ready": "Pod train/n1",

		// A place in the text narrows, and is no second subject.
		"why is trainer pending in train":    "Pod train/trainer",
		"why is `trainer` pending in train":  "Pod train/trainer",
		"why is llama-0 pending in train":    "Pod train/llama-0",
		"why is trainer stuck in production": "Pod shop/trainer, Pod train/trainer",
		"my pods in monitoring do not start": "Namespace monitoring",
		// An ordinary word that is a namespace too does not outweigh the one said.
		"monitoring says that pods fail in namespace train": "Namespace train | monitoring is a namespace too; namespace train was looked at, as said",

		// Names that are not there.
		"why is pod shop/wbe-0 down":             "| Pod shop/wbe-0 does not exist",
		"why is pod shop/web-1 down":             "| Pod shop/web-1 does not exist; near it: Pod shop/web-0",
		"why is pod ghost/web-0 down":            "| Pod ghost/web-0 does not exist (there is no namespace ghost); near it: Pod shop/web-0",
		"why is `ghost` down":                    "| ghost does not exist",
		"why are pods ghost-1 and ghost-2 down":  "| Pod ghost-1, Pod ghost-2 do not exist",
		"what is wrong in namespace ghost":       "| Namespace ghost does not exist",
		"what is wrong in namespace trains":      "| Namespace trains does not exist; near it: Namespace train",
		"why is deployment web in ns train down": "| Deployment train/web does not exist",
		// Of several names one is not there: the others are answered, and it is said.
		"claim ghost-0 of pod llama-0 is not allocated": "Pod train/llama-0 | ResourceClaim ghost-0 does not exist",
		// What is prose behind a kind is not held to be a name; what comes near is.
		"why does the pod tremble":            "Cluster lab | nothing here is called tremble, so the cluster was looked at as a whole; name an object to narrow it",
		"why does the pod trainee hang":       "| Pod trainee does not exist; near it: Pod train/trainer, Pod shop/trainer",
		"prefill/decode pods crash":           "Cluster lab | nothing here is called decode, so the cluster was looked at as a whole; name an object to narrow it",
		"shop/unknown is down":                "| shop/unknown does not exist",
		"meta-llama/Llama-3-8B does not load": "| meta-llama/llama-3-8b does not exist (there is no namespace meta-llama); near it: Pod train/llama-0, ResourceClaim train/llama-0",

		// Nothing at all.
		"hello there": "| the question names nothing in this cluster; name an object (\"why is pod train/llama-0 pending\") or ask \"what is wrong in namespace X\"",
		"":            "| the question names nothing in this cluster; name an object (\"why is pod train/llama-0 pending\") or ask \"what is wrong in namespace X\"",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got := subjects(town(t), incident.Question{Text: text})
			// The remark on several namespaces has a test of its own.
			got, _, _ = strings.Cut(got, " | trainer exists")
			equal(t, text, got, want)
		})
	}
}

func TestResolveInNamespace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"why is pod trainer pending":                   "Pod train/trainer",
		"why is pod shop/trainer pending":              "Pod shop/trainer",
		"why is pod trainer pending in namespace shop": "Pod shop/trainer",
		"why is node n1 not ready":                     "Node n1",
		"what is wrong":                                "Namespace train",
		"what is wrong in shop":                        "Namespace train | shop is a namespace too; namespace train was looked at, as said",
		"why is pod web-0 down":                        "| Pod train/web-0 does not exist; near it: Pod shop/web-0",
	} {
		got := subjects(town(t), incident.Question{Text: text, Namespace: "train"})
		if strings.Contains(text, "web-0") && !strings.HasPrefix(got, "| Pod train/web-0 does not exist") || !strings.Contains(text, "web-0") && got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// A name in several namespaces is answered for each; with too many the person is
// asked which one is meant. Nothing is merged.
func TestSeveralNamespaces(t *testing.T) {
	t.Parallel()
	l := town(t).says("Pod train/trainer", "symptom", "down", 0.6)
	a := l.assess(incident.Question{Text: "why is pod trainer down"}, setup{})
	if diff := cmp.Diff([]incident.Ref{ref("Pod shop/trainer"), ref("Pod train/trainer")}, a.Subjects); diff != "" {
		t.Error(diff)
	}
	if a.Diagnosis.Ask == nil || !strings.Contains(a.Diagnosis.Ask.Text, "trainer exists in several namespaces; each is answered") || len(a.Diagnosis.Ask.Choices) != 2 {
		t.Errorf("%+v", a.Diagnosis.Ask)
	}
	for i := range 6 {
		l.exist(fmt.Sprintf("Pod ns%d/worker", i))
	}
	a = l.assess(incident.Question{Text: "why is pod worker down"}, setup{})
	if len(a.Subjects) > 0 || a.Diagnosis.Outcome != incident.Inconclusive || a.Diagnosis.Ask == nil || len(a.Diagnosis.Ask.Choices) != 6 || !strings.Contains(a.Diagnosis.Ask.Text, "exists in 6 namespaces") {
		t.Errorf("%+v", a)
	}
	// Another mention that names one of them settles it.
	if got := subjects(town(t), incident.Question{Text: "pod train/trainer is down. what is `trainer` doing"}); got != "Pod train/trainer" {
		t.Error(got)
	}
}

// What could not be looked up is not said to be missing.
func TestLookupFails(t *testing.T) {
	t.Parallel()
	l := town(t)
	l.lookup = &tool.Error{Kind: tool.Forbidden, User: "may not list pods", Fix: "bind view"}
	got := l.ask("why is pod shop/web-0 down")
	equal(t, "pod", got, lines("inconclusive", "not seen looking up web-0: may not list pods; bind view", "says Pod shop/web-0 could not be looked up: may not list pods; bind view"))
	// A namespace whose existence is not known is surveyed all the same.
	l = town(t).says("Pod train/llama-0", "fault", "bad", 0.95)
	l.lookup = &tool.Error{Kind: tool.Forbidden, User: "may not list namespaces"}
	if got := l.ask("what is wrong in namespace train"); !strings.Contains(got, "cause lab.bad on Pod train/llama-0") {
		t.Error(got)
	}
	// Without anything that looks names up, a namespace is taken at its word.
	l = town(t).says("Pod train/llama-0", "fault", "bad", 0.95)
	l.noResolver = true
	if got := l.ask("what is wrong in namespace train"); !strings.Contains(got, "cause lab.bad on Pod train/llama-0") {
		t.Error(got)
	}
}

func TestManyNames(t *testing.T) {
	t.Parallel()
	l := town(t)
	text := "why are these down: pods "
	for i := range 12 {
		l.exist(fmt.Sprintf("Pod shop/w-%d", i))
		text += fmt.Sprintf("w-%d, ", i)
	}
	a := l.assess(incident.Question{Text: text}, setup{})
	if len(a.Subjects) != maxMentions || len(l.called("resolve")) != maxMentions {
		t.Errorf("%d subjects, %d look-ups", len(a.Subjects), len(l.called("resolve")))
	}
	if !slices.ContainsFunc(a.Diagnosis.NotSeen, func(g incident.Gap) bool { return strings.Contains(g.Why, "more than 8 names") }) {
		t.Errorf("it is not said that names were left out: %v", a.Diagnosis.NotSeen)
	}
}

// A question about one cluster is not answered from another.
func TestOtherCluster(t *testing.T) {
	t.Parallel()
	l := town(t)
	equal(t, "other", subjects(l, incident.Question{Text: "why is pod shop/web-0 down", Cluster: "prod"}), "| the question is about cluster prod, and this is lab: ask there")
	if len(l.calls) > 0 {
		t.Errorf("the wrong cluster was asked: %v", l.calls)
	}
	equal(t, "this", subjects(l, incident.Question{Text: "why is pod shop/web-0 down", Cluster: "lab"}), "Pod shop/web-0")
	equal(t, "subjects that the surface knows", subjects(l, incident.Question{Text: "why?", Subjects: []incident.Ref{ref("Pod train/llama-0")}}), "Pod train/llama-0")
}

func TestPrefer(t *testing.T) {
	t.Parallel()
	for want, in := range map[string]string{
		"":                               "",
		"Deployment a/x":                 "Service a/x, Deployment a/x, ConfigMap a/x, Namespace x",
		"Deployment a/x; Deployment b/x": "Deployment a/x, Service b/x, Deployment b/x",
		"Pod a/x":                        "ResourceClaim a/x, Pod a/x, Deployment a/x",
		"LeaderWorkerSet a/x":            "StatefulSet a/x, Service a/x, LeaderWorkerSet a/x",
		"Node x":                         "Node x, Namespace x, PersistentVolumeClaim a/x",
		"Service a/x; Service b/x":       "Namespace x, Service a/x, Service b/x",
		"Namespace x":                    "Namespace x, ConfigMap a/x, Application b/x",
		"ConfigMap a/x; Odd b/x":         "ConfigMap a/x, Odd b/x",
	} {
		var refs []incident.Ref
		for s := range strings.SplitSeq(in, ", ") {
			if s != "" {
				refs = append(refs, ref(s))
			}
		}
		for range 2 {
			var got []string
			for _, r := range prefer(refs, nil, false) {
				got = append(got, r.String())
			}
			if strings.Join(got, "; ") != want {
				t.Errorf("of %s: %s, want %s", in, strings.Join(got, "; "), want)
			}
			slices.Reverse(refs)
		}
	}
	of := []incident.Ref{ref("Deployment a/x"), ref("InferencePool a/x"), ref("Service a/x")}
	if got := prefer(of, nil, true); len(got) != 1 || got[0].Kind != "InferencePool" {
		t.Errorf("who asks about requests means the pool, got %v", got)
	}
	if got := prefer(of, nil, false); len(got) != 1 || got[0].Kind != "Deployment" {
		t.Errorf("who does not means what runs, got %v", got)
	}
}

package triage

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func TestRead(t *testing.T) {
	t.Parallel()
	type want struct {
		ns    string
		firm  []tool.Mention
		loose []string
	}
	tests := []struct {
		text string
		ns   string
		want want
	}{
		{text: "Why is pod train/llama-ft-0 pending?", want: want{firm: []tool.Mention{{Kind: "Pod", Namespace: "train", Name: "llama-ft-0"}}}},
		{text: "why is deploy/web stuck", want: want{firm: []tool.Mention{{Kind: "Deployment", Name: "web"}}}},
		{text: "Why is deployment web not ready in namespace shop?", want: want{ns: "shop", firm: []tool.Mention{{Kind: "Deployment", Name: "web"}}}},
		{text: "what is wrong in namespace train-prod?", want: want{ns: "train-prod"}},
		{text: "what is wrong in the shop namespace", want: want{ns: "shop"}},
		{text: "what is wrong in namespace gpu?", want: want{ns: "gpu"}},
		{text: "which namespace is broken?", want: want{}},
		{text: "why does the api service have no endpoints", ns: "shop", want: want{ns: "shop", loose: []string{"api", "endpoints"}}},
		{text: "the node gpu-node-3 is not ready", want: want{firm: []tool.Mention{{Kind: "Node", Name: "gpu-node-3"}}}},
		{text: "llama-7b keeps crashing with out-of-memory", want: want{firm: []tool.Mention{{Name: "llama-7b"}}}},
		{text: "is time-to-first-token bad?", want: want{loose: []string{"bad"}}},
		{text: "pods cannot get nvidia.com/gpu since v1.37.2", ns: "ml", want: want{ns: "ml"}},
		{text: "why is `web` pending", want: want{firm: []tool.Mention{{Name: "web"}}}},
		{text: "resourceclaim/ml/big-claim is not allocated", want: want{firm: []tool.Mention{{Kind: "ResourceClaim", Namespace: "ml", Name: "big-claim"}}}},
		{text: "claim big-0 of pod big in ns ml", want: want{ns: "ml", firm: []tool.Mention{{Kind: "ResourceClaim", Name: "big-0"}, {Kind: "Pod", Name: "big"}}}},
		{text: "", want: want{}},
	}
	for _, tc := range tests {
		t.Run(tc.text, func(t *testing.T) {
			t.Parallel()
			r := read(incident.Question{Text: tc.text, Namespace: tc.ns})
			var loose []string
			for _, m := range r.loose {
				loose = append(loose, m.Name)
			}
			got := want{ns: r.namespace, firm: r.firm, loose: loose}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAlertSubjects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		labels map[string]string
		want   []incident.Ref
	}{
		{"pod", map[string]string{"namespace": "train", "pod": "a-0", "service": "kube-state-metrics"}, []incident.Ref{{Cluster: "c", Namespace: "train", Kind: "Pod", Name: "a-0"}}},
		{"exported labels win", map[string]string{"namespace": "monitoring", "pod": "ksm", "exported_namespace": "train", "exported_pod": "a-0"}, []incident.Ref{{Cluster: "c", Namespace: "train", Kind: "Pod", Name: "a-0"}}},
		{"deployment", map[string]string{"namespace": "web", "deployment": "api"}, []incident.Ref{{Cluster: "c", Namespace: "web", Group: "apps", Kind: "Deployment", Name: "api"}}},
		{"job is the scrape job, job_name the Job", map[string]string{"namespace": "web", "job": "kube-state-metrics", "job_name": "migrate"}, []incident.Ref{{Cluster: "c", Namespace: "web", Group: "batch", Kind: "Job", Name: "migrate"}}},
		{"node", map[string]string{"node": "n1"}, []incident.Ref{{Cluster: "c", Kind: "Node", Name: "n1"}}},
		{"namespace only", map[string]string{"namespace": "web"}, []incident.Ref{{Cluster: "c", Kind: "Namespace", Name: "web"}}},
		{"nothing", map[string]string{"severity": "page"}, nil},
	}
	for _, tc := range tests {
		if diff := cmp.Diff(tc.want, alertSubjects(incident.Alert{Labels: tc.labels}, "c")); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("why is pod a/b pending in namespace c")
	f.Add("`\"'//// -n  ns= a/b/c/d")
	f.Fuzz(func(t *testing.T, text string) {
		r := read(incident.Question{Text: text})
		for _, m := range r.firm {
			if m.Name == "" {
				t.Fatalf("%q gives a mention without a name", text)
			}
		}
	})
}

package kube_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.AddYAML(`
apiVersion: v1
kind: Pod
metadata: {name: trainer-0, namespace: web}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: big-gpu, namespace: train}
---
apiVersion: v1
kind: Event
metadata: {name: old, namespace: train}
reason: Evicted
involvedObject: {apiVersion: v1, kind: Pod, namespace: train, name: lonely-pod-x}
`)
	ts := newToolset(t, srv, "")
	for _, tc := range []struct {
		name        string
		m           tool.Mention
		exact, near []string
		noNamespace bool
	}{
		{"pod", tool.Mention{Namespace: "web", Name: "llama-7c5d8f9b44-x2k4p"}, []string{"Pod web/llama-7c5d8f9b44-x2k4p"}, nil, false},
		{"no namespace said", tool.Mention{Name: "llama"}, []string{"Deployment web/llama"}, nil, false},
		{"several namespaces", tool.Mention{Name: "trainer-0"}, []string{"Pod train/trainer-0", "Pod web/trainer-0"}, nil, false},
		{"one of them", tool.Mention{Namespace: "web", Name: "trainer-0"}, []string{"Pod web/trainer-0"}, nil, false},
		{"several kinds", tool.Mention{Name: "deepseek"}, []string{"StatefulSet web/deepseek", "LeaderWorkerSet web/deepseek"}, nil, false},
		{"kind said", tool.Mention{Kind: "lws", Name: "deepseek"}, []string{"LeaderWorkerSet web/deepseek"}, nil, false},
		{"kind in the name", tool.Mention{Name: "deploy/llama"}, []string{"Deployment web/llama"}, nil, false},
		{"namespace in the name", tool.Mention{Name: "train/trainer-0"}, []string{"Pod train/trainer-0"}, nil, false},
		{"claim", tool.Mention{Kind: "claim", Name: "big-gpu", Namespace: "train"}, []string{"ResourceClaim train/big-gpu"}, nil, false},
		{"cluster-scoped beside a namespace", tool.Mention{Name: "gpu-1", Namespace: "web"}, []string{"Node gpu-1"}, nil, false},
		{"node with a namespace", tool.Mention{Kind: "node", Name: "gpu-1", Namespace: "web"}, []string{"Node gpu-1"}, nil, false},
		{"namespace", tool.Mention{Kind: "Namespace", Name: "train"}, []string{"Namespace train"}, nil, false},
		{"kind nobody serves", tool.Mention{Kind: "unicorn", Name: "llama"}, []string{"Deployment web/llama"}, nil, false},
		{"wrong kind is offered, not merged", tool.Mention{Kind: "sts", Name: "llama"}, nil, []string{"Deployment web/llama"}, false},
		{"wrong namespace is offered, not merged", tool.Mention{Namespace: "train", Name: "llama"}, nil, []string{"Deployment web/llama"}, false},
		{"no such namespace", tool.Mention{Namespace: "wbe", Name: "llama"}, nil, []string{"Deployment web/llama"}, true},
		{"gone pod whose owner lives", tool.Mention{Namespace: "web", Name: "llama-6d9f8b6c5d-abcde"}, nil, []string{}, false},
		{"gone pod of an earlier revision", tool.Mention{Namespace: "web", Name: "llama-6d9f8b6c5d-zz2k4"}, nil, []string{"Pod web/llama-7c5d8f9b44-q9zzt", "Pod web/llama-7c5d8f9b44-x2k4p", "Deployment web/llama"}, false},
		{"gone ordinal", tool.Mention{Namespace: "train", Name: "trainer-7"}, nil, []string{"Pod train/trainer-0", "StatefulSet train/trainer"}, false},
		{"a letter too few", tool.Mention{Name: "lama"}, nil, []string{"Deployment web/llama"}, false},
		{"gone pod with events only", tool.Mention{Namespace: "train", Name: "lonely-pod-x"}, []string{"Pod train/lonely-pod-x"}, nil, false},
		{"nothing like it", tool.Mention{Name: "zebra-crossing-42"}, nil, nil, false},
		{"no name at all", tool.Mention{Name: "what? (now)"}, nil, nil, false},
		{"selector characters", tool.Mention{Name: "a,metadata.namespace=b"}, nil, nil, false},
		{"too long", tool.Mention{Name: strings.Repeat("a", 300)}, nil, nil, false},
		{"empty", tool.Mention{}, nil, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := ts.Resolve(t.Context(), tc.m)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]string{}, tc.exact...), refs(got.Exact)); diff != "" {
				t.Errorf("exact: %s", diff)
			}
			if tc.near == nil || len(tc.near) > 0 {
				near := refs(got.Near)
				if len(tc.near) > 0 && len(near) > len(tc.near) {
					near = near[:len(tc.near)]
				}
				if diff := cmp.Diff(append([]string{}, tc.near...), near); diff != "" {
					t.Errorf("near: %s", diff)
				}
			}
			if got.NoNamespace != tc.noNamespace {
				t.Errorf("NoNamespace %v", got.NoNamespace)
			}
			for _, r := range append(got.Exact, got.Near...) {
				if r.Cluster != "test" {
					t.Errorf("%v carries no cluster", r)
				}
			}
		})
	}
}

func TestResolveGroupsAreServed(t *testing.T) {
	t.Parallel()
	got, err := newToolset(t, startWorld(t), "").Resolve(t.Context(), tool.Mention{Name: "deepseek"})
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for _, r := range got.Exact {
		groups = append(groups, r.Group)
	}
	if diff := cmp.Diff([]string{"apps", "leaderworkerset.x-k8s.io"}, groups); diff != "" {
		t.Error(diff)
	}
}

func TestResolveNarrowsOnTheServer(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	if _, err := newToolset(t, srv, "").Resolve(t.Context(), tool.Mention{Name: "llama"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range srv.Requests() {
		if strings.Contains(r, "limit=500") && !strings.Contains(r, "fieldSelector=metadata.name%3Dllama") {
			t.Errorf("a whole list was read for an exact name: %s", r)
		}
	}
}

func TestResolvePlainWordsDoNotListPods(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	if _, err := newToolset(t, srv, "").Resolve(t.Context(), tool.Mention{Name: "pending"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range srv.Requests() {
		if strings.Contains(r, "/pods?limit=500") && !strings.Contains(r, "fieldSelector") {
			t.Errorf("all pods were listed for a plain word: %s", r)
		}
	}
}

func TestResolveWithFewRights(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.Forbid = func(_, resource, ns string) bool { return ns != "web" }
	ts := newToolset(t, srv, "web")
	got, err := ts.Resolve(t.Context(), tool.Mention{Name: "llama"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Deployment web/llama"}, refs(got.Exact)); diff != "" {
		t.Error(diff)
	}
	// Nothing may be read at all: that is said, not taken for "does not exist".
	srv2 := startWorld(t)
	srv2.Forbid = func(_, _, _ string) bool { return true }
	if _, err := newToolset(t, srv2, "").Resolve(t.Context(), tool.Mention{Name: "llama"}); tool.KindOf(err) != tool.Forbidden || !strings.Contains(tool.UserText(err), "name the namespace") {
		t.Errorf("%v", err)
	}
}

func TestResolveOnADeadServer(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	ts := newToolset(t, srv, "")
	srv.Stop()
	if _, err := ts.Resolve(t.Context(), tool.Mention{Name: "llama"}); tool.KindOf(err) != tool.Unreachable {
		t.Errorf("%v", err)
	}
}

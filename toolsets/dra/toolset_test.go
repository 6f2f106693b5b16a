package dra

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

var update = flag.Bool("update", false, "rewrite golden files")

func call(t testing.TB, ts *Toolset, name string, args any) (tool.Result, error) {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	for _, tl := range ts.Tools() {
		if tl.Info().Name == name {
			return tl.Call(context.Background(), raw)
		}
	}
	t.Fatalf("no tool %s", name)
	return tool.Result{}, nil
}

func forbid(cs *fake.Clientset, verb string, resources ...string) {
	for _, res := range resources {
		cs.PrependReactor(verb, res, func(k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: "resource.k8s.io", Resource: res}, "", fmt.Errorf("no"))
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		forbid  []string
		absent  bool
		want    tool.State
		reason  string
		limited int
	}{
		{name: "ready", want: tool.Ready},
		{name: "absent", absent: true, want: tool.Absent, reason: "does not serve resource.k8s.io"},
		{name: "denied", forbid: []string{"resourceclaims", "resourceslices"}, want: tool.Denied, reason: "neither resourceclaims nor resourceslices", limited: 2},
		{name: "without slices", forbid: []string{"resourceslices"}, want: tool.Ready, limited: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cs := serverOf(t, caseDoc{}, nil)
			if tc.absent {
				cs.Resources = nil
			}
			forbid(cs, "list", tc.forbid...)
			ts, err := New(Config{Client: cs, Cluster: "test", Now: clock(t, "")})
			if err != nil {
				t.Fatal(err)
			}
			st := ts.Status(context.Background())
			if st.State != tc.want || !strings.Contains(st.Reason, tc.reason) || len(st.Limits) != tc.limited {
				t.Errorf("status %+v", st)
			}
			if st.State == tool.Denied && !strings.Contains(st.Fix, "resourceslices") {
				t.Errorf("fix names no right: %s", st.Fix)
			}
		})
	}
}

func TestNewNeedsClient(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Fatal("no error")
	}
}

// TestForbiddenSlices: without the right to list slices the life-cycle is still
// judged, and the answer says which right is missing.
func TestForbiddenSlices(t *testing.T) {
	t.Parallel()
	c, objs := loadCase(t, "testdata/cases/f14-selector-product.yaml")
	cs := serverOf(t, c, objs)
	forbid(cs, "list", "resourceslices")
	ts, err := New(Config{Client: cs, Cluster: "test", Now: clock(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	res, err := call(t, ts, "dra_explain", c.Args)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(res.Text, "this identity may not list resourceslices.resource.k8s.io") || len(res.Findings) != 0 {
		t.Errorf("text %s\nfindings %v", res.Text, res.Findings)
	}
	if _, err := call(t, ts, "dra_overview", map[string]any{}); tool.KindOf(err) != tool.Forbidden || !strings.Contains(tool.UserText(err), "grant verb list") {
		t.Errorf("overview: %v", err)
	}
}

// TestForbiddenNodes: node names are taken from the slices then.
func TestForbiddenNodes(t *testing.T) {
	t.Parallel()
	c, objs := loadCase(t, "testdata/cases/f14-selector-product.yaml")
	cs := serverOf(t, c, objs)
	forbid(cs, "list", "nodes")
	ts, err := New(Config{Client: cs, Cluster: "test", Now: clock(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	res, err := call(t, ts, "dra_explain", c.Args)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(res.Text, "not seen: Kubernetes API: nodes") || len(res.Findings) == 0 || res.Findings[0].Code != "dra.selector_excludes_all" {
		t.Errorf("text %s\nfindings %v", res.Text, res.Findings)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, caseDoc{}, nil)
	for _, tc := range []struct {
		tool string
		args map[string]any
		kind tool.Kind
		says string
	}{
		{"dra_explain", map[string]any{"namespace": "ml"}, tool.Invalid, "a pod or a claim"},
		{"dra_explain", map[string]any{"namespace": "ml", "pod": "x"}, tool.NotFound, "ml/x does not exist"},
		{"dra_explain", map[string]any{"namespace": "ml", "claim": "x"}, tool.NotFound, "ml/x does not exist"},
		{"dra_explain", map[string]any{"namespace": "ml", "nope": "x"}, tool.Invalid, "nope"},
		{"dra_claim", map[string]any{"namespace": "ml", "name": "x"}, tool.NotFound, "ml/x does not exist"},
		{"dra_driver", map[string]any{"driver": "x"}, tool.NotFound, "knows a driver x"},
		{"dra_topology", map[string]any{"node": "x"}, tool.NotFound, "node x does not exist"},
		{"dra_devices", map[string]any{"expression": "1 +"}, tool.Invalid, "does not compile"},
		{"dra_what_if", map[string]any{"namespace": "ml"}, tool.Invalid, "a pod or a claim"},
	} {
		_, err := call(t, ts, tc.tool, tc.args)
		if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.says) {
			t.Errorf("%s %v: %s %v, want %s %q", tc.tool, tc.args, tool.KindOf(err), err, tc.kind, tc.says)
		}
	}
}

// TestListedOnce: the tools of one triage share one picture of the cluster.
func TestListedOnce(t *testing.T) {
	t.Parallel()
	c, objs := loadCase(t, "testdata/cases/f14-selector-product.yaml")
	cs := serverOf(t, c, objs)
	var lists atomic.Int32
	cs.PrependReactor("list", "resourceslices", func(k8stesting.Action) (bool, runtime.Object, error) {
		lists.Add(1)
		return false, nil, nil
	})
	now := clock(t, "")()
	var mu sync.Mutex
	ts, err := New(Config{Client: cs, Cluster: "test", Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		for _, one := range []struct {
			name string
			args any
		}{{"dra_explain", c.Args}, {"dra_overview", map[string]any{}}, {"dra_topology", map[string]any{}}, {"dra_what_if", c.Args}} {
			wg.Go(func() {
				if _, err := call(t, ts, one.name, one.args); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if n := lists.Load(); n != 1 {
		t.Errorf("slices were listed %d times", n)
	}
	mu.Lock()
	now = now.Add(DefaultTTL)
	mu.Unlock()
	if _, err := call(t, ts, "dra_explain", c.Args); err != nil {
		t.Fatal(err)
	}
	if n := lists.Load(); n != 2 {
		t.Errorf("after the time to live slices were listed %d times, want 2", n)
	}
}

// TestGolden pins the words of the main case.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"f14-selector-product", "f15-pcie-virtualised", "in-use", "f23-taint-rule", "f03-plugin-down"} {
		c, objs := loadCase(t, "testdata/cases/"+name+".yaml")
		ts := newToolset(t, c, objs)
		tl := c.Tool
		if tl == "" {
			tl = "dra_explain"
		}
		res, err := call(t, ts, tl, c.Args)
		if err != nil {
			t.Fatal(err)
		}
		path := "testdata/golden/" + name + ".txt"
		if *update {
			if err := os.WriteFile(path, []byte(res.Text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), res.Text+"\n"); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestOldServers: claims and slices come from whatever version is served, and
// the features assumed follow the server.
func TestOldServers(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	answer := func(path string, body any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	slices := `{"apiVersion":"resource.k8s.io/v1beta1","kind":"ResourceSliceList","metadata":{},"items":[{"metadata":{"name":"n0-x"},"spec":{"driver":"gpu.acme.io","nodeName":"n0","pool":{"name":"n0","generation":1,"resourceSliceCount":1},"devices":[{"name":"gpu-0","basic":{"attributes":{"model":{"string":"A1"}}}}]}}]}`
	claim := `{"apiVersion":"resource.k8s.io/v1beta1","kind":"ResourceClaim","metadata":{"name":"c","namespace":"ml","uid":"c"},"spec":{"devices":{"requests":[{"name":"gpu","deviceClassName":"gpu","allocationMode":"ExactCount","count":1,"selectors":[{"cel":{"expression":"device.attributes[\"gpu.acme.io\"].model == \"B1\""}}]}]}}}`
	answer("/version", map[string]string{"major": "1", "minor": "33"})
	answer("/apis", metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: "resource.k8s.io", Versions: []metav1.GroupVersionForDiscovery{{GroupVersion: "resource.k8s.io/v1beta1", Version: "v1beta1"}}}}})
	answer("/api", metav1.APIVersions{})
	answer("/apis/resource.k8s.io/v1beta1", metav1.APIResourceList{GroupVersion: "resource.k8s.io/v1beta1", APIResources: []metav1.APIResource{{Name: "resourceclaims"}, {Name: "resourceslices"}, {Name: "deviceclasses"}}})
	answer("/apis/resource.k8s.io/v1beta1/resourceslices", json.RawMessage(slices))
	answer("/apis/resource.k8s.io/v1beta1/namespaces/ml/resourceclaims/c", json.RawMessage(claim))
	answer("/apis/resource.k8s.io/v1beta1/resourceclaims", json.RawMessage(`{"apiVersion":"resource.k8s.io/v1beta1","kind":"ResourceClaimList","items":[`+claim+`]}`))
	answer("/apis/resource.k8s.io/v1beta1/deviceclasses", json.RawMessage(`{"apiVersion":"resource.k8s.io/v1beta1","kind":"DeviceClassList","items":[{"metadata":{"name":"gpu"},"spec":{"selectors":[{"cel":{"expression":"device.driver == \"gpu.acme.io\""}}]}}]}`))
	answer("/api/v1/nodes", json.RawMessage(`{"apiVersion":"v1","kind":"NodeList","items":[{"metadata":{"name":"n0"}}]}`))
	answer("/api/v1/namespaces/ml/pods", json.RawMessage(`{"apiVersion":"v1","kind":"PodList","items":[]}`))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	cs, err := kubernetes.NewForConfig(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	ts, err := New(Config{Client: cs, Cluster: "old", Now: clock(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	if st := ts.Status(context.Background()); st.State != tool.Ready {
		t.Fatalf("status %+v", st)
	}
	res, err := call(t, ts, "dra_explain", ExplainIn{Namespace: "ml", Claim: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Findings) == 0 || res.Findings[0].Code != "dra.selector_excludes_all" || !strings.Contains(res.Text, "default gates of Kubernetes 1.33") {
		t.Errorf("%v\n%s", res.Findings, res.Text)
	}
}

// TestOldTaintRules reads rules of v1alpha3 through the dynamic client; one that
// selects by CEL is not applied, because without it it would taint too much.
func TestOldTaintRules(t *testing.T) {
	t.Parallel()
	c, objs := loadCase(t, "testdata/cases/ok-fits.yaml")
	c.Server, c.Rules = "34", "v1alpha3"
	cs := serverOf(t, c, objs)
	rule := func(name string, sel map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "resource.k8s.io/v1alpha3", "kind": "DeviceTaintRule", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"deviceSelector": sel, "taint": map[string]any{"key": "k", "effect": "NoSchedule"}}}}
	}
	gvr := schema.GroupVersionResource{Group: "resource.k8s.io", Version: "v1alpha3", Resource: "devicetaintrules"}
	for _, tc := range []struct {
		rule *unstructured.Unstructured
		want string
		says string
	}{
		{rule("all-acme", map[string]any{"driver": "gpu.acme.io"}), "does_not_fit", "DeviceTaintRule all-acme"},
		{rule("by-cel", map[string]any{"driver": "gpu.acme.io", "selectors": []any{map[string]any{"cel": map[string]any{"expression": "false"}}}}), "fits", "not followed"},
	} {
		dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{gvr: "DeviceTaintRuleList"}, tc.rule)
		ts, err := New(Config{Client: cs, Dynamic: dyn, Cluster: "test", Now: clock(t, "")})
		if err != nil {
			t.Fatal(err)
		}
		res, err := call(t, ts, "dra_explain", c.Args)
		if err != nil {
			t.Fatal(err)
		}
		var out Explanation
		if err := json.Unmarshal(res.Data, &out); err != nil {
			t.Fatal(err)
		}
		if out.Verdict != tc.want || !strings.Contains(res.Text, tc.says) {
			t.Errorf("%s: verdict %s, want %s\n%s", tc.rule.GetName(), out.Verdict, tc.want, res.Text)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"ok-fits": {"n0", "n1"}, "f14-selector-product": nil, "f13-cel-runtime": nil, "ok-shared": {"n0"}, "f37-pinned": nil,
		"f12-class-missing": nil, "f30-claim-missing": nil, "ok-extended-explain": {"n0", "n1"}, "refused-nodes": nil,
	} {
		c, objs := loadCase(t, "testdata/cases/"+name+".yaml")
		got, err := newToolset(t, c, objs).Verdict(context.Background(), "ml", map[bool]string{true: "llama-ft-0", false: "job-0"}[name == "f14-selector-product"], nil)
		if name == "f14-selector-product" {
			if err == nil {
				t.Errorf("%s: pod of another namespace was found", name)
			}
			continue
		}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", name, got, err, want)
		}
	}
}

func TestChecksAndCodes(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, caseDoc{}, nil)
	names := map[string]tool.Tool{}
	size := 0
	for _, tl := range ts.Tools() {
		i := tl.Info()
		names[i.Name] = tl
		raw, err := json.Marshal(i.Input)
		if err != nil {
			t.Fatal(err)
		}
		size += len(i.Name) + len(i.Text) + len(raw)
		if i.Effect != tool.Read {
			t.Errorf("%s is not read-only", i.Name)
		}
	}
	if size > 12_000 {
		t.Errorf("names, texts and schemas take %d bytes of every prompt", size)
	}
	for _, c := range ts.Checks() {
		tl := names[c.Tool]
		if tl == nil {
			t.Errorf("check %s names no tool of ours: %s", c.Name, c.Tool)
			continue
		}
		for _, kind := range []string{"Pod", "ResourceClaim", "Driver", "DeviceClass", "Namespace", "Cluster"} {
			ref := incident.Ref{Cluster: "test", Namespace: "ml", Kind: kind, Name: "x"}
			if !c.Applies(ref) {
				continue
			}
			raw, err := json.Marshal(c.Args(ref))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tl.Call(context.Background(), raw); tool.KindOf(err) == tool.Invalid && err != nil {
				t.Errorf("check %s of %s: %v", c.Name, kind, err)
			}
			if c.Applies(incident.Ref{Cluster: "other", Kind: kind}) {
				t.Errorf("check %s judges another cluster", c.Name)
			}
		}
	}
	seen := map[string]bool{}
	for _, c := range ts.Codes() {
		if seen[c.Code] || !strings.HasPrefix(c.Code, "dra.") || c.Text == "" || len(c.Kinds) == 0 {
			t.Errorf("code row %+v", c)
		}
		seen[c.Code] = true
	}
}

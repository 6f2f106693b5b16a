package kube_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	answer := func(code int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, tc := range map[string]struct {
		h           http.HandlerFunc
		reason, fix string
	}{
		"expired token": {answer(401, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}`), "401 Unauthorized", "log in again"},
		"login page":    {answer(200, "text/html", "<html><title>Sign in</title></html>"), "not as a Kubernetes API server", "proxy or login page"},
		"broken server": {answer(500, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500,"message":"etcd"}`), "cannot answer", ""},
		"silence": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, "did not answer in time", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tc.h)
			defer srv.Close()
			st := fromConfig(t, &rest.Config{Host: srv.URL, QPS: -1, Timeout: time.Second}).Status(t.Context())
			if st.State != tool.Broken || !strings.Contains(st.Reason, tc.reason) || !strings.Contains(st.Fix, tc.fix) {
				t.Errorf("%+v", st)
			}
		})
	}
	dead := httptest.NewServer(nil)
	dead.Close()
	if st := fromConfig(t, &rest.Config{Host: dead.URL, QPS: -1}).Status(t.Context()); st.State != tool.Broken || !strings.Contains(st.Reason, "cannot be reached") || st.Fix == "" {
		t.Errorf("%+v", st)
	}
}

func fromConfig(t *testing.T, cfg *rest.Config) *kube.Toolset {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := kube.New(kube.Config{Client: client, Dynamic: dyn, Cluster: "test", Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestStatusByRights(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		forbid    func(verb, resource, ns string) bool
		namespace string
		state     tool.State
		limits    []string
	}{
		"administrator":        {nil, "", tool.Ready, nil},
		"viewer without nodes": {func(_, res, _ string) bool { return res == "nodes" }, "", tool.Ready, []string{"this identity may not list nodes"}},
		"one namespace":        {func(_, _, ns string) bool { return ns != "web" }, "web", tool.Ready, []string{"may not list nodes", "may not list persistentvolumes"}},
		"nothing, nowhere":     {func(_, _, _ string) bool { return true }, "web", tool.Denied, nil},
		"nothing cluster-wide": {func(_, _, ns string) bool { return true }, "", tool.Ready, []string{"may not list pods"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := startWorld(t)
			srv.Forbid = tc.forbid
			st := newToolset(t, srv, tc.namespace).Status(t.Context())
			if st.State != tc.state {
				t.Errorf("%+v", st)
			}
			var whys []string
			for _, g := range st.Limits {
				whys = append(whys, g.Why)
				if g.Source == "" || g.Fix == "" {
					t.Errorf("gap without source or way out: %+v", g)
				}
			}
			contains(t, strings.Join(whys, "\n"), tc.limits...)
			if tc.limits == nil && len(whys) > 0 {
				t.Errorf("limits: %v", whys)
			}
			if st.State == tool.Denied && (st.Reason == "" || st.Fix == "") {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestNewNeedsClients(t *testing.T) {
	t.Parallel()
	if _, err := kube.New(kube.Config{}); err == nil || !strings.Contains(err.Error(), "Client is required") {
		t.Errorf("%v", err)
	}
}

// Every tool is called with arguments that make it work; the test server fails
// the test on any verb but GET and the self-subject reviews.
func TestNothingWrites(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.SetLog("web", llamaPod, "server", "x\n")
	ts := newToolset(t, srv, "")
	called := 0
	for _, tl := range ts.Tools() {
		info := tl.Info()
		if info.Effect != tool.Read {
			t.Errorf("%s has effect %q", info.Name, info.Effect)
		}
		raw := sample(t, info)
		if _, err := tl.Call(t.Context(), raw); err != nil && tool.KindOf(err) == tool.Invalid {
			t.Errorf("%s %s: %v", info.Name, raw, err)
		}
		called++
	}
	if called < 17 {
		t.Errorf("%d tools", called)
	}
	ts.Status(t.Context())
	if _, err := ts.Resolve(t.Context(), tool.Mention{Name: "llama"}); err != nil {
		t.Error(err)
	}
	for _, r := range srv.Requests() {
		if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "POST /apis/authorization.k8s.io/v1/selfsubject") {
			t.Errorf("a toolset must not write: %s", r)
		}
	}
}

// sample builds arguments for a tool from the names of its inputs.
func sample(t *testing.T, info tool.Info) json.RawMessage {
	t.Helper()
	values := map[string]any{"namespace": "web", "pod": llamaPod, "kind": "Pod", "name": llamaPod, "pvc": "models"}
	switch info.Name {
	case "kube_workload":
		values["kind"], values["name"] = "Deployment", "llama"
	case "kube_network":
		values["kind"], values["name"] = "Service", "llama"
	case "kube_node":
		values["name"] = "gpu-1"
	}
	in := map[string]any{}
	for name := range info.Input.Properties {
		if v, ok := values[name]; ok {
			in[name] = v
		}
	}
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestToolsAreWellDescribed(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, startWorld(t), "")
	names := map[string]bool{}
	total := 0
	for _, tl := range ts.Tools() {
		info := tl.Info()
		if names[info.Name] || !regexp.MustCompile(`^kube_[a-z_]+$`).MatchString(info.Name) {
			t.Errorf("name %q is odd or double", info.Name)
		}
		names[info.Name] = true
		schema, err := json.Marshal(info.Input)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(schema), `"null"`) {
			t.Errorf("%s has a union type: %s", info.Name, schema)
		}
		total += len(info.Name) + len(info.Text) + len(schema)
	}
	// About four bytes a token; all toolsets together have 6k tokens.
	if total > 3000*4 {
		t.Errorf("the tools take %d bytes of every request", total)
	}
	t.Logf("%d tools, %d bytes", len(names), total)
	for _, name := range []string{"kube_get", "kube_list", "kube_describe", "kube_events", "kube_logs", "kube_changes", "kube_access"} {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestChecksCallToolsThatExistWithArgumentsTheyTake(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, startWorld(t), "")
	tools := map[string]tool.Tool{}
	for _, tl := range ts.Tools() {
		tools[tl.Info().Name] = tl
	}
	kinds := []incident.Ref{
		{Kind: "Pod", Namespace: "web", Name: llamaPod}, {Group: "apps", Kind: "Deployment", Namespace: "web", Name: "llama"}, {Kind: "Node", Name: "gpu-1"},
		{Group: "leaderworkerset.x-k8s.io", Kind: "LeaderWorkerSet", Namespace: "web", Name: "deepseek"}, {Kind: "Namespace", Name: "web"}, {Kind: "Cluster", Name: "test"},
		{Kind: "Service", Namespace: "web", Name: "llama"}, {Kind: "PersistentVolumeClaim", Namespace: "web", Name: "models"},
	}
	custom := 0
	for _, c := range ts.Checks() {
		tl, ok := tools[c.Tool]
		if !ok {
			t.Errorf("check %q calls %s, which does not exist", c.Name, c.Tool)
			continue
		}
		for _, ref := range kinds {
			if !c.Applies(ref) {
				continue
			}
			if c.Tool == "kube_describe" {
				custom++
			}
			raw, err := json.Marshal(c.Args(ref))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tl.Call(t.Context(), raw); tool.KindOf(err) == tool.Invalid && err != nil {
				t.Errorf("check %q of %s: %v", c.Name, ref, err)
			}
		}
	}
	if custom != 1 {
		t.Errorf("the check of custom objects applies to %d of the kinds, want the LeaderWorkerSet only", custom)
	}
}

func TestCodesAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range newToolset(t, startWorld(t), "").Codes() {
		if seen[c.Code] {
			t.Errorf("%s is listed twice", c.Code)
		}
		seen[c.Code] = true
		if !strings.HasPrefix(c.Code, "kube.") || c.Text == "" || len(c.Kinds) == 0 || c.Role == "" || c.Severity == "" {
			t.Errorf("incomplete: %+v", c)
		}
	}
	for _, code := range []string{"kube.log_errors", "kube.object_not_ready"} {
		if !seen[code] {
			t.Errorf("%s is emitted and not listed", code)
		}
	}
}

func FuzzInputs(f *testing.F) {
	for _, s := range []string{".spec.x", "{.items[*].a}", "{range .x[*]}{end}", ".a[?(@.b==1)]", ".a[0:10:0]", ".a[-5:]", "..", "{..name}", "a(b", "[z-a]", "(?P<x>.)", "\\", "{", ".spec.containers[1:0]", "{.a.b['c']}", "{\"x\"}"} {
		f.Add(s)
	}
	srv := startWorld(f)
	srv.SetLog("web", llamaPod, "server", "one\ntwo\n")
	ts := newToolset(f, srv, "")
	f.Fuzz(func(t *testing.T, s string) {
		for _, tl := range ts.Tools() {
			var in args
			switch tl.Info().Name {
			case "kube_get":
				in = args{"kind": "pod", "namespace": "web", "name": llamaPod, "path": s}
			case "kube_list":
				in = args{"kind": "pod", "namespace": "web", "columns": []string{s}}
			case "kube_logs":
				in = args{"namespace": "web", "pod": llamaPod, "container": "server", "grep": s}
			case "kube_events":
				in = args{"namespace": "web", "since": s}
			default:
				continue
			}
			raw, err := json.Marshal(in)
			if err != nil {
				t.Skip()
			}
			if _, err := tl.Call(t.Context(), raw); err != nil && tool.KindOf(err) != tool.Invalid {
				t.Errorf("%s %s: %v", tl.Info().Name, raw, err)
			}
		}
		if _, err := ts.Resolve(t.Context(), tool.Mention{Name: s}); err != nil {
			t.Errorf("resolve %q: %v", s, err)
		}
	})
}

func BenchmarkResolve20kPods(b *testing.B) {
	srv := startWorld(b)
	var docs strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&docs, "\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: job-%d-x2k4p, namespace: train}\n", i)
	}
	srv.AddYAML(docs.String())
	ts := newToolset(b, srv, "")
	for b.Loop() {
		if _, err := ts.Resolve(b.Context(), tool.Mention{Name: "jbo-77-x2k4p"}); err != nil {
			b.Fatal(err)
		}
	}
}

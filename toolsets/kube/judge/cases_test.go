package judge_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

// run asks the case's tool of a real client over a real connection.
func (s *scene) run(t *testing.T) tool.Result {
	t.Helper()
	srv := sourcetest.Start(t)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "Gateway", "gateways", true)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses", false)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", true)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes", true)
	srv.ServeKind("cert-manager.io", "v1", "Certificate", "certificates", true)
	srv.ServeKind("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", true)
	srv.ServeKind("kueue.x-k8s.io", "v1beta1", "Workload", "workloads", true)
	srv.ServeKind("scheduling.x-k8s.io", "v1alpha1", "PodGroup", "podgroups", true)
	for _, o := range s.objects {
		srv.Add(&unstructured.Unstructured{Object: o})
	}
	for at, text := range s.Logs {
		p := strings.SplitN(at, "/", 2)
		srv.SetLog("ml", p[0], p[1], text)
	}
	srv.Forbid = func(_, resource, _ string) bool { return slices.Contains(s.Forbid, resource) }
	sc := srv.SourceConfig(func() time.Time { return noon })
	ts, err := kube.New(kube.Config{Client: sc.Client, Dynamic: sc.Dynamic, Metadata: sc.Metadata, Cluster: "test", Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	args, err := json.Marshal(s.Args)
	if err != nil {
		t.Fatal(err)
	}
	for _, tl := range ts.Tools() {
		if tl.Info().Name == s.Tool {
			res, err := tl.Call(context.WithoutCancel(t.Context()), args)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
	}
	t.Fatalf("no tool %q", s.Tool)
	return tool.Result{}
}

// check holds an answer against the expectations and against the catalogue.
func (s *scene) check(t *testing.T, res tool.Result) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("text:\n%s", res.Text)
			for _, f := range res.Findings {
				t.Logf("%s %s %.2f %s: %s %v", f.Role, f.Code, f.Confidence, f.Subject, f.Message, f.Params)
			}
		}
	}()
	for _, f := range res.Findings {
		trouble := f.Role == incident.Fault || f.Role == incident.Symptom
		switch {
		case s.Healthy && trouble:
			t.Errorf("healthy, and yet %s %s on %s", f.Role, f.Code, f.Subject)
		case s.Quiet && f.Role == incident.Fault:
			t.Errorf("no fault is wanted, and yet %s on %s", f.Code, f.Subject)
		case slices.Contains(s.Absent, f.Code):
			t.Errorf("must not say %s: %s", f.Code, f.Message)
		case trouble && slices.Contains(s.NoneOf, f.Code):
			t.Errorf("must not find %s", f.Code)
		case f.Role == incident.Fault && slices.Contains(s.broken, f.Code) && !s.wants(f.Code):
			t.Errorf("the twin of %q finds %s too", s.Like, f.Code)
		}
		catalogued(t, f)
	}
	for _, w := range s.Findings {
		w.among(t, res.Findings)
	}
	edge := func(e string) bool {
		return slices.ContainsFunc(res.Edges, func(o incident.Edge) bool { return o.From.String()+" -"+o.Relation+"-> "+o.To.String() == e })
	}
	for _, e := range s.Edges {
		if !edge(e) {
			t.Errorf("no edge %s among %v", e, edges(res.Edges))
		}
	}
	for _, e := range s.NoEdge {
		if edge(e) {
			t.Errorf("edge %s is drawn", e)
		}
	}
	for _, w := range s.Text {
		if !strings.Contains(res.Text, w) {
			t.Errorf("the text lacks %q", w)
		}
	}
	for _, w := range s.NoText {
		if strings.Contains(res.Text, w) {
			t.Errorf("the text says %q", w)
		}
	}
}

func (s *scene) wants(code string) bool {
	return slices.ContainsFunc(s.Findings, func(w expected) bool { return w.Code == code })
}

func edges(es []incident.Edge) []string {
	var out []string
	for _, e := range es {
		out = append(out, e.From.String()+" -"+e.Relation+"-> "+e.To.String())
	}
	return out
}

func (w expected) among(t *testing.T, have []incident.Finding) {
	t.Helper()
	role := w.Role
	for _, f := range have {
		if f.Code != w.Code || w.Subject != "" && f.Subject.String() != w.Subject || role != "" && string(f.Role) != role {
			continue
		}
		for k, v := range w.Params {
			if f.Params[k] != v {
				t.Errorf("%s: param %s is %q, want %q", w.Code, k, f.Params[k], v)
			}
		}
		for _, k := range w.Lacks {
			if v, ok := f.Params[k]; ok {
				t.Errorf("%s: param %s is there (%q)", w.Code, k, v)
			}
		}
		for _, x := range w.Says {
			if !strings.Contains(f.Message, x) {
				t.Errorf("%s: message lacks %q: %s", w.Code, x, f.Message)
			}
		}
		if w.Below > 0 && f.Confidence >= w.Below || w.Above > 0 && f.Confidence <= w.Above {
			t.Errorf("%s: confidence %.2f, want below %.2f or above %.2f", w.Code, f.Confidence, w.Below, w.Above)
		}
		return
	}
	t.Errorf("no %s %s on %s", w.Role, w.Code, w.Subject)
}

// catalogued holds a finding against the list of codes: kind of subject, and the
// params that every finding of the code carries, none of them empty.
func catalogued(t *testing.T, f incident.Finding) {
	t.Helper()
	if !strings.HasPrefix(f.Code, "kube.") {
		return // of another toolset's catalogue
	}
	i := slices.IndexFunc(kube.Codes(), func(c tool.Code) bool { return c.Code == f.Code })
	if i < 0 {
		t.Errorf("%s is not in the catalogue", f.Code)
		return
	}
	c := kube.Codes()[i]
	if !slices.Contains(c.Kinds, f.Subject.Kind) && !slices.Contains(c.Kinds, "*") {
		t.Errorf("%s is about a %s, the catalogue says %v", f.Code, f.Subject.Kind, c.Kinds)
	}
	for k, v := range f.Params {
		if v == "" {
			t.Errorf("%s has an empty param %s", f.Code, k)
		}
	}
	if f.Role != c.Role {
		return
	}
	for _, p := range c.Params {
		if f.Params[p] == "" {
			t.Errorf("%s lacks the param %s: %v", f.Code, p, f.Params)
		}
	}
}

func fixtures(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	return paths
}

// TestCases runs every case of every fixture.
func TestCases(t *testing.T) {
	t.Parallel()
	for _, path := range fixtures(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			t.Parallel()
			for _, s := range loadScenes(t, path) {
				t.Run(s.Name, func(t *testing.T) {
					t.Parallel()
					s.check(t, s.run(t))
				})
			}
		})
	}
}

func symptom(code string) bool {
	return slices.ContainsFunc(kube.Codes(), func(c tool.Code) bool { return c.Code == code && c.Role == incident.Symptom })
}

// elsewhere are codes that other rooms of the toolset report and test.
var elsewhere = []string{"kube.object_not_ready", "kube.object_failed"}

// TestEveryCodeHasACaseAndATwin: for each finding code a broken object that yields
// it, and a healthy twin of that object that does not.
func TestEveryCodeHasACaseAndATwin(t *testing.T) {
	t.Parallel()
	yields, twin := map[string]bool{}, map[string]bool{}
	for _, path := range fixtures(t) {
		for _, s := range loadScenes(t, path) {
			for _, w := range s.Findings {
				yields[w.Code] = true
			}
			for _, code := range s.broken {
				twin[code] = twin[code] || !s.wants(code) && (s.Healthy || !symptom(code))
			}
			for _, code := range s.NoneOf {
				twin[code] = true
			}
		}
	}
	for _, c := range kube.Codes() {
		if slices.Contains(elsewhere, c.Code) {
			continue
		}
		if !yields[c.Code] {
			t.Errorf("no case yields %s", c.Code)
		}
		if (c.Role == incident.Fault || c.Role == incident.Symptom) && !twin[c.Code] {
			t.Errorf("no twin shows that %s stays quiet", c.Code)
		}
	}
}

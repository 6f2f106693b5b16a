package supply_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/oci"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/registry"
)

type tail struct{ src *source.Source }

func (l tail) Tail(ctx context.Context, namespace, pod, container string, previous bool, lines int) (string, error) {
	log, err := l.src.Logs(ctx, namespace, pod, source.LogQuery{Container: container, Previous: previous, Tail: lines})
	return log.Text, err
}

// open makes the toolset over a case's recorded cluster and registries; change may
// alter what it is given.
func open(t *testing.T, name string, change func(*supply.Config)) *supply.Toolset {
	t.Helper()
	b, err := bundle.Open(os.DirFS("../../evals/cases/"+name+"/bundle"), bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(srv.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(srv.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.New(source.Config{Client: client, Dynamic: dyn, Cluster: "test", Now: b.Clock})
	if err != nil {
		t.Fatal(err)
	}
	images, err := oci.Open(t.Context(), b.FS(), oci.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	c := supply.Config{Pods: src, History: src, Images: registry.NewClient(registry.Config{Allowed: images.Has, Transport: images.Transport(), Now: b.Clock}), Logs: tail{src}, Cluster: "test"}
	if change != nil {
		change(&c)
	}
	ts, err := supply.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func call[Out any](t *testing.T, ts *supply.Toolset, name, args string) (Out, tool.Result, error) {
	t.Helper()
	var out Out
	for _, one := range ts.Tools() {
		if one.Info().Name == name {
			res, err := one.Call(t.Context(), json.RawMessage(args))
			if err == nil {
				err = json.Unmarshal(res.Data, &out)
			}
			return out, res, err
		}
	}
	t.Fatalf("no tool %s", name)
	return out, tool.Result{}, nil
}

func codes(fs []incident.Finding) string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Code)
	}
	return strings.Join(out, " ")
}

func TestWhatChangedAndWhatFailsOnIt(t *testing.T) {
	t.Parallel()
	out, res, err := call[supply.WorkloadOut](t, open(t, "supply-nccl-downgraded", nil), "supply_workload", `{"namespace":"serve","pod":"chat-7bd9-xk2p9"}`)
	if err != nil || codes(res.Findings) != "supply.library_changed" {
		t.Fatalf("%s %v", codes(res.Findings), err)
	}
	f := res.Findings[0]
	if f.Params["library"] != "libnccl2" || f.Params["from"] != "2.27.3-1+cuda12.9" || f.Params["to"] != "2.19.3-1+cuda12.3" || f.Params["workload"] != "chat" || f.Confidence != 0.9 {
		t.Errorf("%+v", f)
	}
	if c := out.Containers[0]; c.BeforeReady != 2 || len(c.Changes) != 2 || c.Changes[0].Part != "NCCL" || !c.Trouble {
		t.Errorf("%+v", c)
	}
	if len(res.Edges) != 1 || res.Edges[0].To != f.Subject {
		t.Errorf("%+v", res.Edges)
	}
	// A pod that is well costs no look at a registry.
	out, res, err = call[supply.WorkloadOut](t, open(t, "supply-nccl-downgraded", func(c *supply.Config) { c.Images = refusing{t} }), "supply_workload", `{"namespace":"serve","pod":"chat-6c4f-ab0cd"}`)
	if err != nil || len(res.Findings) != 0 || out.Containers[0].Digest == "" {
		t.Errorf("%+v %v", out, err)
	}
}

// refusing fails a test that asks it.
type refusing struct{ t *testing.T }

func (r refusing) Image(context.Context, string, string) (registry.Image, error) {
	r.t.Error("a registry was asked")
	return registry.Image{}, nil
}

func (r refusing) Allowed(string) bool { return true }

// down is a registry that cannot be asked.
type down struct{ err error }

func (d down) Image(context.Context, string, string) (registry.Image, error) {
	return registry.Image{}, d.err
}

func (d down) Allowed(string) bool { return d.err != nil }

func TestWithoutARegistryNothingIsClaimed(t *testing.T) {
	t.Parallel()
	for want, images := range map[string]supply.Images{
		"supply.registry_unread": down{tool.Errorf(tool.Forbidden, "registry wants a login")},
		"":                       down{},
	} {
		out, res, err := call[supply.WorkloadOut](t, open(t, "supply-nccl-downgraded", func(c *supply.Config) { c.Images = images }), "supply_workload", `{"namespace":"serve","pod":"chat-7bd9-xk2p9"}`)
		if err != nil || codes(res.Findings) != want || len(out.Containers[0].Notes) != 1 {
			t.Errorf("%q: %s %+v %v", want, codes(res.Findings), out.Containers[0].Notes, err)
		}
	}
	// The digests of pods need no registry.
	_, res, err := call[supply.WorkloadOut](t, open(t, "supply-tag-moved", func(c *supply.Config) { c.Images = down{} }), "supply_workload", `{"namespace":"data","pod":"feature-1"}`)
	if err != nil || codes(res.Findings) != "supply.tag_moved" {
		t.Errorf("%s %v", codes(res.Findings), err)
	}
}

// An error that names no changed library blames none, although much changed.
func TestAChangeIsNotACause(t *testing.T) {
	t.Parallel()
	_, res, err := call[supply.WorkloadOut](t, open(t, "supply-twin-config", nil), "supply_workload", `{"namespace":"serve","pod":"sum-7bd9-xk2p9"}`)
	if err != nil || codes(res.Findings) != "supply.image_changed" || res.Findings[0].Role != incident.Context {
		t.Errorf("%s %v", codes(res.Findings), err)
	}
	_, res, err = call[supply.WorkloadOut](t, open(t, "supply-twin-tag-moved-well", nil), "supply_workload", `{"namespace":"data","pod":"feature-1"}`)
	if err != nil || codes(res.Findings) != "supply.digests_differ" || res.Findings[0].Role != incident.Context {
		t.Errorf("%s %v", codes(res.Findings), err)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	ts := open(t, "supply-engine-flag-gone", nil)
	byName, res, err := call[supply.DiffOut](t, ts, "supply_diff", `{"kind":"Deployment","namespace":"serve","name":"rag"}`)
	if err != nil || !byName.Compared || byName.Container != "engine" || byName.Changes[0].Name != "vllm" || !strings.Contains(res.Text, "engine: vllm 0.14.1 to 0.15.0 (newer)") {
		t.Fatalf("%+v %v", byName, err)
	}
	byImage, _, err := call[supply.DiffOut](t, ts, "supply_diff", `{"from":"registry.example.com/serve/rag:0.14","to":"registry.example.com/serve/rag:0.15"}`)
	if err != nil || byImage.Total != byName.Total {
		t.Errorf("%+v %v", byImage, err)
	}
	none, res, err := call[supply.DiffOut](t, open(t, "supply-twin-oom", nil), "supply_diff", `{"kind":"deployments","namespace":"serve","name":"big"}`)
	if err != nil || none.Compared || !strings.Contains(res.Text, "neither image has a bill of materials") {
		t.Errorf("no bill passes for no change: %+v %v", none, err)
	}
	for args, want := range map[string]string{
		`{}`: "give from and to",
		`{"kind":"Job","namespace":"serve","name":"x"}`:                                          "no revisions are kept",
		`{"kind":"Deployment","namespace":"serve","name":"nope"}`:                                "nope",
		`{"from":"registry.example.com/serve/rag:0.14","to":"elsewhere.example.com/x:1"}`:        "not listed",
		`{"from":"registry.example.com/serve/rag:0.14","to":"registry.example.com/serve/rag:9"}`: "has no image",
	} {
		if _, _, err := call[supply.DiffOut](t, ts, "supply_diff", args); err == nil || !strings.Contains(tool.UserText(err), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	ts := open(t, "supply-cuda-too-new", nil)
	out, res, err := call[supply.ImageOut](t, ts, "supply_image", `{"image":"registry.example.com/serve/embed:3.2"}`)
	if err != nil || out.Image.Env["CUDA_VERSION"] != "13.0.1" || out.Stack[0].Name != "cuda-cudart-13-0" || !strings.Contains(res.Text, "https://git.example.com/ml/serve.git") {
		t.Fatalf("%+v %v", out, err)
	}
	if _, _, err = call[supply.ImageOut](t, ts, "supply_image", `{"namespace":"serve","pod":"embed-6c4f-ab0cd","container":"nope"}`); tool.KindOf(err) != tool.Invalid {
		t.Error(err)
	}
}

func TestStatusAndCatalogue(t *testing.T) {
	t.Parallel()
	if _, err := supply.New(supply.Config{}); err == nil {
		t.Error("a toolset without eyes")
	}
	for want, err := range map[tool.State]error{tool.Ready: nil, tool.Broken: errors.New("refused")} {
		ts := open(t, "supply-arm-only", func(c *supply.Config) { c.Reach = func(context.Context) error { return err } })
		if st := ts.Status(t.Context()); st.State != want {
			t.Errorf("%+v", st)
		}
	}
	known := map[string]incident.Role{}
	for _, k := range supply.Codes() {
		known[k.Code] = k.Role
	}
	for name, args := range map[string]string{
		"supply-arm-only":     `{"namespace":"web","pod":"router-0"}`,
		"supply-cuda-too-new": `{"namespace":"serve","pod":"embed-7bd9-xk2p9"}`,
		"supply-tag-moved":    `{"namespace":"data","pod":"feature-3"}`,
		"supply-twin-config":  `{"namespace":"serve","pod":"sum-7bd9-xk2p9"}`,
	} {
		_, res, err := call[supply.WorkloadOut](t, open(t, name, nil), "supply_workload", args)
		if err != nil || len(res.Findings) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range res.Findings {
			if known[f.Code] != f.Role {
				t.Errorf("%s: %s is a %s, the catalogue says %q", name, f.Code, f.Role, known[f.Code])
			}
		}
	}
}

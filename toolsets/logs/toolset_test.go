package logs_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs"
)

// cluster is a recorded cluster behind the real Kubernetes protocol.
type cluster struct {
	src   *source.Source
	tails atomic.Int64
	// deny lets the logs of these pods be refused.
	deny []string
}

func (c *cluster) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return c.src.Pod(ctx, namespace, name)
}

func (c *cluster) PodsMatching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error) {
	return c.src.PodsMatching(ctx, namespace, sel)
}

func (c *cluster) Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error) {
	return c.src.Get(ctx, ref)
}

func (c *cluster) Tail(ctx context.Context, k logs.Container, lines int) (string, bool, error) {
	c.tails.Add(1)
	if slices.Contains(c.deny, k.Pod) {
		return "", false, tool.Errorf(tool.Forbidden, "this identity may not read the log of %s", k.Pod)
	}
	l, err := c.src.Logs(ctx, k.Namespace, k.Pod, source.LogQuery{Container: k.Name, Previous: k.Previous, Tail: lines})
	return l.Text, l.Cut, err
}

// open opens the bundle of a case.
func open(t *testing.T, name string) (*cluster, time.Time) {
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
	return &cluster{src: src}, b.Clock()
}

func toolset(t *testing.T, c *cluster, now time.Time, store logs.Store) *logs.Toolset {
	t.Helper()
	ts, err := logs.New(logs.Config{Pods: c, Objects: c, Logs: c, Store: store, Cluster: "test", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func call(t *testing.T, ts *logs.Toolset, args string) (logs.RanksOut, tool.Result, error) {
	t.Helper()
	res, err := ts.Tools()[0].Call(t.Context(), json.RawMessage(args))
	var out logs.RanksOut
	if err == nil {
		if err := json.Unmarshal(res.Data, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out, res, err
}

func TestRanksOfAJobAndOfItsPods(t *testing.T) {
	t.Parallel()
	c, now := open(t, "logs-oom-rank-first")
	ts := toolset(t, c, now, nil)
	var texts []string
	for _, args := range []string{
		`{"namespace":"train","kind":"PyTorchJob","name":"llm-pre"}`,
		`{"namespace":"train","pod":"llm-pre-master-0"}`,
		`{"namespace":"train","pod":"llm-pre-worker-1"}`,
	} {
		out, res, err := call(t, ts, args)
		if err != nil {
			t.Fatal(err)
		}
		j := out.Jobs[0]
		if j.Verdict != "failed_first" || !slices.Equal(j.Pods, []string{"llm-pre-worker-1"}) || len(j.Members) != 4 {
			t.Fatalf("%s: %+v", args, j)
		}
		f := res.Findings[slices.IndexFunc(res.Findings, func(f incident.Finding) bool { return f.Code == "logs.rank_failed_first" })]
		if f.Params["rank"] != "2" || f.Params["later"] != "10m1s" || f.Subject.Name != "llm-pre-worker-1" {
			t.Errorf("%+v", f)
		}
		texts = append(texts, res.Text)
	}
	if texts[0] != texts[1] || texts[1] != texts[2] {
		t.Errorf("three answers about one job differ:\n%s\n%s", texts[0], texts[1])
	}
	// One reading serves all: a current log a member, and the ends before.
	if n := c.tails.Load(); n > 8 {
		t.Errorf("%d logs were read for 4 members", n)
	}
}

func TestRanksSaysWhatItCouldNotRead(t *testing.T) {
	t.Parallel()
	c, now := open(t, "logs-rank-silent")
	c.deny = []string{"clip-1"}
	out, res, err := call(t, toolset(t, c, now, nil), `{"namespace":"vision","kind":"StatefulSet","name":"clip"}`)
	if err != nil {
		t.Fatal(err)
	}
	if out.Jobs[0].Verdict == "rank_silent" || out.Jobs[0].Members[1].Role != "log_not_read" || !strings.Contains(res.Text, "may not read the log of clip-1") {
		t.Errorf("a refused log passes for silence: %+v", out.Jobs[0])
	}
}

// stored is a log store that remembers the run before.
type stored struct {
	logs map[string]string
	err  error
}

func (s stored) PodLog(_ context.Context, _, pod, _ string, _, _ time.Time) (string, bool, error) {
	return s.logs[pod], false, s.err
}

func TestStoreTellsOfRunsTheClusterForgot(t *testing.T) {
	t.Parallel()
	c, now := open(t, "logs-twin-job-runs")
	args := `{"namespace":"research","kind":"JobSet","name":"tune"}`
	out, _, err := call(t, toolset(t, c, now, nil), args)
	if err != nil || out.Jobs[0].Verdict != "quiet" {
		t.Fatalf("%+v %v", out, err)
	}
	mem := map[string]string{}
	for i, m := range out.Jobs[0].Members {
		line := "2026-11-25T06:20:00Z [rank0]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600001 milliseconds\n"
		if i == 1 {
			line = "2026-11-25T06:10:00Z [rank1]: torch.OutOfMemoryError: CUDA out of memory.\n"
		}
		mem[m.Pod] = line
	}
	out, res, err := call(t, toolset(t, c, now, stored{logs: mem}), args)
	if err != nil {
		t.Fatal(err)
	}
	if j := out.Jobs[0]; j.Verdict != "failed_first" || j.Source == "" {
		t.Errorf("%+v", j)
	}
	// The pods have run since: what was is history and accuses nobody.
	for _, f := range res.Findings {
		if f.Role != incident.History {
			t.Errorf("%s %s", f.Role, f.Code)
		}
	}
	out, _, err = call(t, toolset(t, c, now, stored{err: tool.Errorf(tool.Unreachable, "down")}), args)
	if err != nil || out.Jobs[0].Verdict != "quiet" {
		t.Errorf("a store that is down: %+v %v", out, err)
	}
}

func TestRanksRefusals(t *testing.T) {
	t.Parallel()
	c, now := open(t, "logs-rank-silent")
	ts := toolset(t, c, now, nil)
	for args, want := range map[string]string{
		`{"namespace":"vision"}`:                                                "give pod, or kind and name",
		`{"namespace":"vision","kind":"Deployment","name":"x"}`:                 "no kind whose pods are ranks",
		`{"namespace":"vision","pod":"clip-0","kind":"StatefulSet","name":"x"}`: "either pod or kind",
		`{"namespace":"vision","pod":"nope"}`:                                   "nope",
		`{"namespace":"vision","kind":"StatefulSet","name":"nope"}`:             "nope",
	} {
		if _, _, err := call(t, ts, args); err == nil || !strings.Contains(tool.UserText(err), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	out, _, err := call(t, ts, `{"namespace":"vision","kind":"Job","name":"none"}`)
	if err != nil || out.Note == "" || len(out.Jobs) != 0 {
		t.Errorf("a job without pods: %+v %v", out, err)
	}
}

func TestAPlainStatefulSetIsNotRead(t *testing.T) {
	t.Parallel()
	c, now := open(t, "twin-whole-cluster")
	ts := toolset(t, c, now, nil)
	for _, ns := range []string{"default", "kube-system", "shop"} {
		pods, err := c.src.Pods(t.Context(), ns)
		if err != nil {
			continue
		}
		for _, p := range pods {
			if _, _, err := call(t, ts, `{"namespace":"`+ns+`","pod":"`+p.Name+`"}`); err != nil {
				t.Error(err)
			}
		}
	}
	if n := c.tails.Load(); n != 0 {
		t.Errorf("%d logs were read of pods that are no ranks", n)
	}
}

func TestStatusAndCodes(t *testing.T) {
	t.Parallel()
	c, _ := open(t, "logs-rank-silent")
	cfg := logs.Config{Pods: c, Objects: c, Logs: c, Cluster: "test"}
	for want, err := range map[tool.State]error{tool.Ready: tool.Errorf(tool.Forbidden, "no"), tool.Broken: errors.New("refused")} {
		cfg.Reach = func(context.Context) error { return err }
		ts, nerr := logs.New(cfg)
		if nerr != nil {
			t.Fatal(nerr)
		}
		if st := ts.Status(t.Context()); st.State != want {
			t.Errorf("%v gives %+v", err, st)
		}
	}
	if _, err := logs.New(logs.Config{}); err == nil {
		t.Error("a toolset without eyes")
	}
	known := map[string]incident.Role{}
	for _, k := range logs.Codes() {
		known[k.Code] = k.Role
	}
	for _, name := range []string{"logs-oom-rank-first", "logs-rank-behind", "logs-first-collective", "logs-collectives-differ", "logs-worker-missing", "logs-hang-undecided", "logs-twin-fail-alike"} {
		c, now := open(t, name)
		ts := toolset(t, c, now, nil)
		pods, err := c.src.Pods(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		_, res, err := call(t, ts, `{"namespace":"`+pods[0].Namespace+`","pod":"`+pods[0].Name+`"}`)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Findings) == 0 {
			t.Errorf("%s: no findings", name)
		}
		for _, f := range res.Findings {
			if known[f.Code] != f.Role {
				t.Errorf("%s: %s is a %s, the catalogue says %q", name, f.Code, f.Role, known[f.Code])
			}
		}
	}
}

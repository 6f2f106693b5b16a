package serving

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
)

func TestEngineOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		container   corev1.Container
		kind, names string
		port        int
	}{
		"flags":         {corev1.Container{Name: "e", Image: "vllm/vllm-openai:v0.14.1", Args: []string{"--model", "a/b", "--served-model-name", "x", "y", "--port=9000"}}, vllm, "x,y", 9000},
		"serve":         {corev1.Container{Name: "e", Image: "acme/img:1", Command: []string{"vllm", "serve", "a/b", "--max_num_seqs", "8"}}, vllm, "a/b", 0},
		"shell":         {corev1.Container{Name: "e", Image: "acme/img:1", Command: []string{"bash", "-c", "ray start --head && \\\n vllm serve a/b --served-model-name=z"}}, vllm, "z", 0},
		"sglang":        {corev1.Container{Name: "e", Image: "lmsysorg/sglang:v1", Args: []string{"python3", "-m", "sglang.launch_server", "--model-path", "q/r"}}, sglang, "q/r", 0},
		"dynamo sglang": {corev1.Container{Name: "e", Image: "registry/dynamo/sglang-runtime:1", Args: []string{"-m", "dynamo.sglang", "--model-path", "q/r"}}, sglang, "q/r", 0},
		"frontend":      {corev1.Container{Name: "e", Image: "registry/dynamo/frontend:1", Args: []string{"python3", "-m", "dynamo.frontend"}}, front, "", 0},
		"triton":        {corev1.Container{Name: "e", Image: "nvcr.io/nvidia/tritonserver:26.07-py3", Args: []string{"tritonserver"}}, triton, "", 0},
		"picker":        {corev1.Container{Name: "e", Image: "registry.k8s.io/gateway-api-inference-extension/epp:v1.6.0"}, picker, "", 0},
		"lora":          {corev1.Container{Name: "e", Image: "vllm/vllm-openai:v1", Args: []string{"--model", "a/b", "--lora-modules", "ad1=/x", "ad2=/y"}}, vllm, "a/b,ad1,ad2", 0},
		"bad port":      {corev1.Container{Name: "e", Image: "vllm/vllm-openai:v1", Args: []string{"--port", "99999999999"}}, vllm, "", 0},
		"registry only": {corev1.Container{Name: "e", Image: "vllm.example.com/team/web:1"}, "", "", 0},
		"web server":    {corev1.Container{Name: "e", Image: "nginx:1"}, "", "", 0},
	} {
		e, ok := engineOf(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "side", Image: "busybox"}, c.container}}})
		if ok != (c.kind != "") || e.kind != c.kind || strings.Join(e.names, ",") != c.names || e.port != c.port {
			t.Errorf("%s: %v %q %v port %d", name, ok, e.kind, e.names, e.port)
		}
	}
}

// An object at a version that nobody here knows is read by its fields, and said so.
func TestUnknownVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `apiVersion: ray.io/v7
kind: RayService
metadata: {name: chat, namespace: llm, creationTimestamp: "2026-11-27T09:00:00Z", generation: 1}
status: {activeServiceStatus: {rayClusterName: rc, applicationStatuses: {llm: {status: DEPLOY_FAILED, message: "ImportError: no acme"}}}, newThing: [{a: 1}]}`)
	r, err := call(t, w.toolset(t), "serving_explain", `{"kind":"RayService","namespace":"llm","name":"chat"}`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Text, "version v7 of ray.io is not one that is known here") || !slices.Contains(codes(r, incident.Fault), "ray_app_failed RayService/chat") {
		t.Errorf("%v\n%s", codes(r, incident.Fault), r.Text)
	}
	r, err = call(t, w.toolset(t), "serving_overview", `{}`)
	if err != nil || !strings.Contains(r.Text, "ray.io/v7") || !strings.Contains(r.Text, "KServe") {
		t.Errorf("%v\n%s", err, r.Text)
	}
	if _, err := call(t, w.toolset(t), "serving_explain", `{"kind":"Workspace","namespace":"llm","name":"chat"}`); tool.KindOf(err) != tool.NotServed {
		t.Errorf("a kind that is not served: %v", err)
	}
	if _, err := call(t, w.toolset(t), "serving_queue", `{"kind":"Workload","namespace":"llm","name":"chat"}`); tool.KindOf(err) != tool.NotServed {
		t.Errorf("Kueue that is not served: %v", err)
	}
}

// What may not be listed is said, and nothing is claimed of it.
func TestDeniedListsClaimNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `apiVersion: ray.io/v1
kind: RayService
metadata: {name: chat, namespace: llm, creationTimestamp: "2026-11-27T09:00:00Z", generation: 1}`)
	w.denied["Deployment"] = true
	r, err := call(t, w.toolset(t), "serving_explain", `{"kind":"RayService","namespace":"llm","name":"chat"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := codes(r, incident.Fault); len(got) != 0 || !slices.Contains(codes(r, incident.Symptom), "not_reconciled RayService/chat") || !strings.Contains(r.Text, "may not be listed") {
		t.Errorf("%v\n%s", got, r.Text)
	}
	w.denied["Deployment"] = false
	if r, err = call(t, w.toolset(t), "serving_explain", `{"kind":"RayService","namespace":"llm","name":"chat"}`); err != nil || !slices.Contains(codes(r, incident.Fault), "operator_missing RayService/chat") {
		t.Errorf("%v %v", err, codes(r, incident.Fault))
	}
}

// Old and new pools are read alike; a pool's port counts only where its pods say
// on which ports they listen.
func TestPools(t *testing.T) {
	t.Parallel()
	svc := "apiVersion: v1\nkind: Service\nmetadata: {name: epp, namespace: llm}\nspec: {ports: [{port: 9002}], selector: {app: epp}}"
	pool := func(spec string) string {
		return "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: p, namespace: llm, generation: 1, creationTimestamp: \"2026-11-27T09:00:00Z\"}\nspec: " + spec
	}
	for name, c := range map[string]struct {
		docs  []string
		group string
		want  string
	}{
		"well":         {[]string{svc, pool(`{selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}], endpointPickerRef: {name: epp, port: {number: 9002}}}`), enginePod("a", "app: a", ""), enginePod("e", "app: epp", "")}, "", ""},
		"port":         {[]string{svc, pool(`{selector: {matchLabels: {app: a}}, targetPorts: [{number: 9999}]}`), enginePod("a", "app: a", "")}, "", "pool_port_mismatch InferencePool/p"},
		"one of ports": {[]string{svc, pool(`{selector: {matchLabels: {app: a}}, targetPorts: [{number: 9999}, {number: 8000}]}`), enginePod("a", "app: a", "")}, "", ""},
		"picker port":  {[]string{svc, pool(`{selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}], endpointPickerRef: {name: epp, port: {number: 9003}}}`), enginePod("a", "app: a", ""), enginePod("e", "app: epp", "")}, "", "picker_port_mismatch InferencePool/p"},
		"no picker":    {[]string{pool(`{selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}], endpointPickerRef: {name: gone, port: {number: 9002}}}`), enginePod("a", "app: a", "")}, "", "picker_missing InferencePool/p"},
		"selects none": {[]string{pool(`{selector: {matchLabels: {app: b}}, targetPorts: [{number: 8000}]}`), enginePod("a", "app: a", "")}, "", "pool_selects_nothing InferencePool/p"},
		"two models":   {[]string{pool(`{selector: {matchLabels: {t: x}}, targetPorts: [{number: 8000}]}`), enginePod("a", "t: x", `"--model", "m/one"`), enginePod("b", "t: x", `"--model", "m/two"`)}, "", "pool_mixed_models InferencePool/p"},
		"old": {[]string{svc, "apiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferencePool\nmetadata: {name: p, namespace: llm}\nspec: {selector: {app: a}, targetPortNumber: 7000, extensionRef: {name: epp, portNumber: 9002}}",
			enginePod("a", "app: a", ""), enginePod("e", "app: epp", "")}, "inference.networking.x-k8s.io", "pool_port_mismatch InferencePool/p"},
	} {
		r, err := call(t, newWorld(t, c.docs...).toolset(t), "serving_route", fmt.Sprintf(`{"kind":"InferencePool","namespace":"llm","name":"p","group":%q}`, c.group))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Join(codes(r, incident.Fault), ", "); got != c.want {
			t.Errorf("%s: %s\n%s", name, got, r.Text)
		}
	}
}

// level is a series that holds one value and then another.
func level(pod string, minutes int, was, is float64) metric.Series {
	s := metric.Series{Labels: map[string]string{"pod": pod, "namespace": "llm"}}
	for i := range 180 {
		v := was
		if 180-i <= minutes {
			v = is
		}
		s.Points = append(s.Points, metric.Point{At: clock.Add(time.Duration(i-179) * time.Minute), Value: v})
	}
	return s
}

// A figure alone accuses nobody: all signals of a reading must agree.
func TestReadings(t *testing.T) {
	t.Parallel()
	type m = map[string][]metric.Series
	docs := []string{enginePod("a", "app: a", `"--max-num-seqs", "16"`), enginePod("b", "app: a", `"--max-num-seqs", "16"`), enginePod("c", "app: a", `"--max-num-seqs", "16"`),
		"apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: llm}\nspec: {selector: {app: a}}"}
	each := func(v float64, minutes int, odd float64) []metric.Series {
		return []metric.Series{level("a", 180, v, v), level("b", minutes, v, odd), level("c", 180, v, v)}
	}
	flat := func(v float64) []metric.Series { return each(v, 0, v) }
	for name, c := range map[string]struct {
		series   m
		faults   string
		symptoms string
	}{
		"well":                {m{"num_requests_waiting": flat(0), "num_requests_running": flat(8), "kv_cache_usage": flat(0.97), "num_preemptions": flat(0)}, "", ""},
		"full but no queue":   {m{"num_requests_waiting": flat(0), "num_requests_running": flat(8), "kv_cache_usage": flat(0.99), "num_preemptions": flat(0.2)}, "", ""},
		"queue but no swap":   {m{"num_requests_waiting": flat(3), "num_requests_running": flat(8), "kv_cache_usage": flat(0.99), "num_preemptions": flat(0)}, "", ""},
		"all full":            {m{"num_requests_waiting": flat(9), "num_requests_running": flat(8), "kv_cache_usage": flat(0.99), "num_preemptions": flat(0.5)}, "kv_exhausted Service/s", ""},
		"one full":            {m{"num_requests_waiting": each(0, 30, 3), "num_requests_running": flat(8), "kv_cache_usage": each(0.3, 30, 0.99), "num_preemptions": each(0, 30, 0.5)}, "kv_exhausted Pod/b", ""},
		"hung":                {m{"num_requests_waiting": each(0, 20, 3), "num_requests_running": flat(8), "generation_tokens": each(900, 20, 0)}, "engine_hung Pod/b", ""},
		"idle is not hung":    {m{"num_requests_waiting": flat(0), "num_requests_running": flat(0), "generation_tokens": flat(0)}, "", ""},
		"hung for a moment":   {m{"num_requests_waiting": each(0, 2, 3), "num_requests_running": flat(8), "generation_tokens": each(900, 2, 0)}, "", ""},
		"slow":                {m{"inter_token_latency": each(0.02, 40, 0.09)}, "", "itl_high Service/s, itl_high Pod/b, replica_slow Pod/b, uneven Service/s"},
		"all alike and slow":  {m{"inter_token_latency": flat(0.4)}, "", ""},
		"hot":                 {m{"num_requests_waiting": each(0, 40, 50), "kv_cache_usage": flat(0.3)}, "", "replica_hot Pod/b, uneven Service/s"},
		"hot by a little":     {m{"num_requests_waiting": each(3, 40, 8), "kv_cache_usage": flat(0.3)}, "", ""},
		"limit":               {m{"num_requests_waiting": flat(12), "num_requests_running": flat(16), "kv_cache_usage": flat(0.2)}, "batch_limit Pod/a, batch_limit Pod/b, batch_limit Pod/c", ""},
		"below the limit":     {m{"num_requests_waiting": flat(12), "num_requests_running": flat(9), "kv_cache_usage": flat(0.2)}, "", ""},
		"transfers":           {m{"nixl_num_failed_transfers": each(0, 30, 0.3)}, "kv_transfer_failing Pod/b", ""},
		"not a number":        {m{"num_requests_waiting": {level("a", 180, nan(), nan())}}, "", ""},
		"of pods not its own": {m{"num_requests_waiting": {level("zz", 180, 99, 99)}, "kv_cache_usage": {level("zz", 180, 1, 1)}, "num_preemptions": {level("zz", 180, 9, 9)}}, "", ""},
	} {
		w := newWorld(t, docs...)
		w.series = c.series
		r, err := call(t, w.toolset(t), "serving_diagnose", `{"kind":"Service","namespace":"llm","name":"s"}`)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f, s := strings.Join(codes(r, incident.Fault), ", "), strings.Join(codes(r, incident.Symptom), ", "); f != c.faults || s != c.symptoms {
			t.Errorf("%s: faults %q, symptoms %q\n%s", name, f, s, r.Text)
		}
		for _, f := range r.Findings {
			if f.Role != incident.Context && !strings.Contains(r.Text, strings.Fields(f.Message)[0]) {
				t.Errorf("%s: the text does not carry %q", name, f.Message)
			}
		}
	}
}

func nan() float64 { var z float64; return z / z }

// Without a Prometheus one moment of each engine is read through the API server;
// nothing is said of rates then.
func TestMetricsThroughTheProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginePod("a", "app: a", ""), enginePod("b", "app: a", ""), "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: llm}\nspec: {selector: {app: a}}")
	w.engines["a:8000"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(rw, r)
			return
		}
		_, _ = io.WriteString(rw, "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"m\",engine=\"0\"} 30\nvllm:num_requests_waiting{model_name=\"m\",engine=\"1\"} 12\n# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc{engine=\"1\"} NaN\n")
	})
	r, err := call(t, w.toolset(t), "serving_diagnose", `{"kind":"Service","namespace":"llm","name":"s"}`)
	if err != nil {
		t.Fatal(err)
	}
	var d Diagnosis
	if err := json.Unmarshal(r.Data, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Replicas) != 2 || d.Replicas[0].Waiting != 42 || d.Replicas[0].KV != 0.5 || d.Replicas[1].Waiting != -1 || !strings.Contains(d.Metrics, "one moment") {
		t.Errorf("%+v\n%s", d, r.Text)
	}
	if len(codes(r, incident.Fault)) != 0 {
		t.Errorf("one moment accuses: %v", codes(r, incident.Fault))
	}
}

// One request of one token, and what it is answered.
func TestProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginePod("a", "app: a", `"--model", "m/one", "--served-model-name", "one"`), enginePod("dead", "app: a", `"--port", "8100"`))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, `{"data":[{"id":"one"}]}`) })
	mux.HandleFunc("POST /v1/completions", func(rw http.ResponseWriter, r *http.Request) {
		var in struct {
			Model string `json:"model"`
			Max   int    `json:"max_tokens"`
		}
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.Max != 1 {
			http.Error(rw, "bad", http.StatusBadRequest)
			return
		}
		if in.Model != "one" {
			rw.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprintf(rw, `{"object":"error","message":"The model %s does not exist"}`, in.Model)
			return
		}
		_, _ = io.WriteString(rw, `{"choices":[{"text":" 2","finish_reason":"length"}]}`)
	})
	w.engines["a:8000"] = mux
	for args, want := range map[string]string{
		`{"namespace":"llm","pod":"a"}`:                 "completed a request of one token; /health answers 200; /v1/models lists one",
		`{"namespace":"llm","pod":"a","model":"m/one"}`: "does not complete a request",
		`{"namespace":"llm","pod":"dead"}`:              "does not complete a request",
	} {
		r, err := call(t, w.toolset(t), "serving_probe", args)
		if err != nil || !strings.Contains(r.Text, want) {
			t.Errorf("%s: %v %s", args, err, r.Text)
		}
	}
	for _, x := range w.toolset(t).Tools() {
		if probes := x.Info().Effect == tool.Probe; probes != (x.Info().Name == "serving_probe") {
			t.Errorf("%s has effect %s", x.Info().Name, x.Info().Effect)
		}
	}
	for _, c := range w.toolset(t).Checks() {
		if c.Tool == "serving_probe" {
			t.Error("a check probes")
		}
	}
}

func FuzzMetricsText(f *testing.F) {
	f.Add([]byte("# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"m\"} 3\n"))
	f.Add([]byte("vllm:cache_config_info{block_size=\"16\"} 1\nsglang_token_usage 0.4 1700000000000\n"))
	f.Add([]byte("vllm:kv_cache_usage_perc +Inf\n\xff{"))
	table, err := alias.Load()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, _, err := parseText(raw, table, clock)
		if err != nil && len(got) > 0 {
			t.Fatal("an error together with figures")
		}
		for name, points := range got {
			if len(points) != 1 || !metric.Finite(points[0].Value) && points[0].Value == points[0].Value && len(raw) < 64 {
				t.Fatalf("%s: %v", name, points)
			}
			if _, ok := table.Signal(name); !ok {
				t.Fatalf("unknown signal %s", name)
			}
		}
	})
}

func FuzzProbeAnswer(f *testing.F) {
	f.Add([]byte(`{"choices":[{"text":"a","finish_reason":"stop"}]}`))
	f.Add([]byte(`{"object":"error","message":"x"}`))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		served, text := completed(raw)
		if served && !json.Valid(raw) || len([]rune(text)) > 1000 || strings.Contains(text, "\n") {
			t.Fatalf("%v %q", served, text)
		}
	})
}

func TestQueueWords(t *testing.T) {
	t.Parallel()
	for msg, want := range map[string]string{
		"couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 4 more needed":                 "nvidia.com/gpu h100 4",
		"couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor a100, request > maximum capacity (64 > 16)": "nvidia.com/gpu a100 ",
		"couldn't assign flavors to pod set main: insufficient unused quota in cohort for cpu in flavor default, 2500m more needed":           "cpu default 2500m",
		"the workload is waiting for its turn": "",
	} {
		got := ""
		if m := shortOf().FindStringSubmatch(msg); m != nil {
			got = m[1] + " " + m[2] + " " + m[3]
		}
		if got != want {
			t.Errorf("%q: %q, want %q", msg, got, want)
		}
	}
	if count("16") != 16 || count("2500m") != 0 || count("") != 0 || count(strings.Repeat("9", 30)) != 0 {
		t.Error("quantities")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Objects, Pods and Logs") {
		t.Errorf("%v", err)
	}
	b, err := loadBook()
	if err != nil {
		t.Fatal(err)
	}
	for pattern, c := range map[string][2]string{
		"kuberay-operator":                    {"kuberay-operator", "kuberay-operator-helper"},
		"*dynamo-operator-controller-manager": {"dynamo-platform-dynamo-operator-controller-manager", "dynamo-operator"},
		"kserve-controller-manager":           {"prod-kserve-controller-manager", "kserve-controller-managers"},
	} {
		if !matches(pattern, c[0]) || matches(pattern, c[1]) {
			t.Errorf("%s: %v", pattern, c)
		}
	}
	if b.system("nvidia.com", "ClusterPolicy") != nil || b.system("nvidia.com", "DynamoModel") == nil {
		t.Error("nvidia.com is not Dynamo's alone")
	}
}

package judge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

// noon is the clock of the fixtures. "@5m" in a fixture is five minutes before it.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// scene is one document "kind: Case" of a fixture with the objects that follow it.
type scene struct {
	Name string         `json:"name"`
	Tool string         `json:"tool"`
	Args map[string]any `json:"args"`
	// Like takes everything of an earlier case of the file: tool, arguments, objects,
	// logs and refusals. The findings of that case must be gone: this is its twin.
	Like string `json:"like"`
	// Also keeps findings of the case it is like, and is no twin then.
	Also bool `json:"also"`
	// Change merges into objects ("Pod/web-0"), Drop leaves objects out.
	Change map[string]any    `json:"change"`
	Drop   []string          `json:"drop"`
	Logs   map[string]string `json:"logs"`
	// Forbid lists resources that may not be read, "secrets" or "pods/log".
	Forbid   []string   `json:"forbid"`
	Findings []expected `json:"findings"`
	// Healthy: neither symptom nor fault. Quiet: no fault.
	Healthy bool     `json:"healthy"`
	Quiet   bool     `json:"quiet"`
	NoneOf  []string `json:"none_of"`
	Edges   []string `json:"edges"`
	NoEdge  []string `json:"no_edge"`
	Text    []string `json:"text"`

	objects []map[string]any
	broken  []string
}

type expected struct {
	Code    string            `json:"code"`
	Subject string            `json:"subject"`
	Role    string            `json:"role"`
	Params  map[string]string `json:"params"`
	Lacks   []string          `json:"lacks"`
	Says    []string          `json:"says"`
	// Below and Above bound the confidence.
	Below float64 `json:"below"`
	Above float64 `json:"above"`
}

// loadScenes reads a fixture. Objects before the first case are in every case.
func loadScenes(t testing.TB, path string) []*scene {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw = regexp.MustCompile(`"?@(\d+[dhms](?:\d+[ms])?)"?`).ReplaceAllFunc(raw, func(m []byte) []byte {
		text := strings.Trim(string(m), `"@`)
		if d, ok := strings.CutSuffix(text, "d"); ok {
			text = d + "h"
			h, err := time.ParseDuration(text)
			if err != nil {
				t.Fatalf("%s: %q: %v", path, m, err)
			}
			text = (24 * h).String()
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %q: %v", path, m, err)
		}
		return []byte(`"` + noon.Add(-d).Format(time.RFC3339) + `"`)
	})
	var base []map[string]any
	var scenes []*scene
	r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var o map[string]any
		if err := yaml.Unmarshal(doc, &o); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, doc)
		}
		switch {
		case o == nil:
		case o["kind"] == "Case":
			var s scene
			delete(o, "kind")
			doc, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.UnmarshalStrict(doc, &s); err != nil {
				t.Fatalf("%s: %v\n%s", path, err, doc)
			}
			s.inherit(t, path, base, scenes)
			scenes = append(scenes, &s)
		case len(scenes) == 0:
			base = append(base, complete(t, o))
		default:
			s := scenes[len(scenes)-1]
			s.put(complete(t, o))
		}
	}
	for _, s := range scenes {
		s.alter(t, path)
	}
	return scenes
}

func key(o map[string]any) string {
	u := unstructured.Unstructured{Object: o}
	return u.GetKind() + "/" + u.GetName()
}

// put adds an object, in the place of one of its name.
func (s *scene) put(o map[string]any) {
	s.objects = slices.DeleteFunc(s.objects, func(x map[string]any) bool {
		a, b := unstructured.Unstructured{Object: x}, unstructured.Unstructured{Object: o}
		return key(x) == key(o) && a.GetNamespace() == b.GetNamespace()
	})
	s.objects = append(s.objects, o)
}

func (s *scene) inherit(t testing.TB, path string, base []map[string]any, before []*scene) {
	t.Helper()
	if s.Like == "" {
		for _, o := range base {
			s.objects = append(s.objects, (&unstructured.Unstructured{Object: o}).DeepCopy().Object)
		}
		return
	}
	i := slices.IndexFunc(before, func(o *scene) bool { return o.Name == s.Like })
	if i < 0 {
		t.Fatalf("%s: case %q is like %q, which does not stand before it", path, s.Name, s.Like)
	}
	o := before[i]
	o.alter(t, path)
	for _, x := range o.objects {
		s.objects = append(s.objects, (&unstructured.Unstructured{Object: x}).DeepCopy().Object)
	}
	if s.Tool == "" {
		s.Tool = o.Tool
	}
	if s.Args == nil {
		s.Args = o.Args
	}
	logs := maps.Clone(o.Logs)
	if logs == nil {
		logs = map[string]string{}
	}
	maps.Copy(logs, s.Logs)
	s.Logs = logs
	if s.Forbid == nil {
		s.Forbid = o.Forbid
	}
	if s.Also {
		return
	}
	for _, f := range o.Findings {
		if f.Role == "" || f.Role == "fault" || f.Role == "symptom" {
			s.broken = append(s.broken, f.Code)
		}
	}
}

// alter applies Change and Drop, once.
func (s *scene) alter(t testing.TB, path string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(s.Change)) {
		i := slices.IndexFunc(s.objects, func(o map[string]any) bool { return key(o) == name })
		if i < 0 {
			t.Fatalf("%s: case %q changes %s, which is not there", path, s.Name, name)
		}
		o, _ := merge(s.objects[i], s.Change[name]).(map[string]any)
		s.objects[i] = complete(t, o)
	}
	for _, name := range s.Drop {
		n := len(s.objects)
		s.objects = slices.DeleteFunc(s.objects, func(o map[string]any) bool { return key(o) == name })
		if len(s.objects) == n {
			t.Fatalf("%s: case %q drops %s, which is not there", path, s.Name, name)
		}
	}
	s.Change, s.Drop = nil, nil
}

// merge is a JSON merge patch (RFC 7386).
func merge(into, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	o, ok := into.(map[string]any)
	if !ok {
		o = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(o, k)
			continue
		}
		o[k] = merge(o[k], v)
	}
	return o
}

// complete gives an object what its author left out and an API server would have
// set: apiVersion, namespace "ml", an age of an hour, uids. An Event says what it is
// "about", when it was seen "first" and "last".
func complete(t testing.TB, o map[string]any) map[string]any {
	t.Helper()
	u := unstructured.Unstructured{Object: o}
	if u.GetAPIVersion() == "" {
		v, ok := apiVersions()[u.GetKind()]
		if !ok {
			t.Fatalf("kind %s needs its apiVersion", u.GetKind())
		}
		u.SetAPIVersion(v)
	}
	clustered := strings.Contains(" Node Namespace PersistentVolume StorageClass IngressClass GatewayClass PriorityClass RuntimeClass APIService ValidatingWebhookConfiguration MutatingWebhookConfiguration CSINode DeviceClass ", " "+u.GetKind()+" ")
	if u.GetNamespace() == "" && !clustered {
		u.SetNamespace("ml")
	}
	if u.GetKind() == "Event" {
		completeEvent(t, &u)
	}
	if ts := u.GetCreationTimestamp(); ts.IsZero() {
		_ = unstructured.SetNestedField(o, noon.Add(-time.Hour).Format(time.RFC3339), "metadata", "creationTimestamp")
	}
	if u.GetUID() == "" {
		_ = unstructured.SetNestedField(o, uidOf(u.GetKind(), u.GetName()), "metadata", "uid")
	}
	refs, _, _ := unstructured.NestedSlice(o, "metadata", "ownerReferences")
	for _, r := range refs {
		m := r.(map[string]any)
		kind, _ := m["kind"].(string)
		name, _ := m["name"].(string)
		if m["apiVersion"] == nil {
			m["apiVersion"] = apiVersions()[kind]
		}
		if m["controller"] == nil {
			m["controller"] = true
		}
		if m["uid"] == nil {
			m["uid"] = uidOf(kind, name)
		}
	}
	if refs != nil {
		_ = unstructured.SetNestedSlice(o, refs, "metadata", "ownerReferences")
	}
	// The lists of YAML hold what the API's JSON would: no Go types are lost here.
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func uidOf(kind, name string) string { return strings.ToLower(kind + "-" + name) }

func completeEvent(t testing.TB, u *unstructured.Unstructured) {
	t.Helper()
	o := u.Object
	on, ok := o["about"].(string)
	if !ok {
		t.Fatalf("an Event says what it is about: %v", o)
	}
	kind, name, _ := strings.Cut(on, "/")
	ns := u.GetNamespace()
	about := map[string]any{"kind": kind, "name": name, "apiVersion": apiVersions()[kind], "uid": uidOf(kind, name), "namespace": ns}
	if kind == "Node" {
		about["uid"] = name
		delete(about, "namespace")
		u.SetNamespace("default")
	}
	if c, ok := o["container"].(string); ok {
		about["fieldPath"] = "spec.containers{" + c + "}"
	}
	o["involvedObject"] = about
	last, ok := o["last"].(string)
	if !ok {
		last = noon.Add(-time.Minute).Format(time.RFC3339)
	}
	first, ok := o["first"].(string)
	if !ok {
		first = last
	}
	o["lastTimestamp"], o["firstTimestamp"] = last, first
	if o["type"] == nil {
		o["type"] = "Warning"
	}
	if u.GetName() == "" {
		u.SetName(name + "." + strings.ToLower(fmt.Sprint(o["reason"])))
	}
	for _, k := range []string{"about", "container", "last", "first"} {
		delete(o, k)
	}
}

func apiVersions() map[string]string {
	out := map[string]string{}
	for group, kinds := range map[string]string{
		"v1":                              "Pod Node Namespace Service ConfigMap Secret ServiceAccount Event ResourceQuota LimitRange PersistentVolume PersistentVolumeClaim",
		"apps/v1":                         "Deployment ReplicaSet StatefulSet DaemonSet",
		"batch/v1":                        "Job CronJob",
		"autoscaling/v2":                  "HorizontalPodAutoscaler",
		"policy/v1":                       "PodDisruptionBudget",
		"networking.k8s.io/v1":            "Ingress IngressClass NetworkPolicy",
		"storage.k8s.io/v1":               "StorageClass CSINode VolumeAttachment",
		"admissionregistration.k8s.io/v1": "ValidatingWebhookConfiguration MutatingWebhookConfiguration",
		"apiregistration.k8s.io/v1":       "APIService",
		"gateway.networking.k8s.io/v1":    "Gateway GatewayClass HTTPRoute GRPCRoute",
		"cilium.io/v2":                    "CiliumNetworkPolicy",
		"resource.k8s.io/v1":              "DeviceClass ResourceClaim",
		"kueue.x-k8s.io/v1beta1":          "Workload",
		"scheduling.x-k8s.io/v1alpha1":    "PodGroup",
		"scheduling.k8s.io/v1":            "PriorityClass",
		"node.k8s.io/v1":                  "RuntimeClass",
	} {
		for k := range strings.FieldsSeq(kinds) {
			out[k] = group
		}
	}
	return out
}

// run asks the case's tool of a real client over a real connection.
func (s *scene) run(t *testing.T) tool.Result {
	t.Helper()
	srv := sourcetest.Start(t)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "Gateway", "gateways", true)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses", false)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", true)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes", true)
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
var elsewhere = []string{"kube.object_not_ready"}

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

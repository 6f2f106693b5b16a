package incident_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// refs draws references that often differ in one field only.
func refs() *rapid.Generator[incident.Ref] {
	few := func(label string, s ...string) func(*rapid.T) string {
		return func(t *rapid.T) string { return rapid.SampledFrom(s).Draw(t, label) }
	}
	return rapid.Custom(func(t *rapid.T) incident.Ref {
		return incident.Ref{
			Cluster: few("cluster", "", "a", "b")(t), Namespace: few("namespace", "", "train")(t), Group: few("group", "", "apps", "batch")(t),
			Kind: few("kind", "Pod", "pod", "Job")(t), Name: few("name", "x", "y")(t),
			Driver: few("driver", "", "gpu", "nic")(t), Pool: few("pool", "", "p", "q")(t), Device: few("device", "", "d", "e")(t),
		}
	})
}

// Less is a total order that agrees with ==, so that sorting gives one result.
func TestLessIsATotalOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := refs().Draw(t, "a"), refs().Draw(t, "b"), refs().Draw(t, "c")
		if n := count(a.Less(b), b.Less(a), a == b); n != 1 {
			t.Fatalf("%+v and %+v: %d of less, greater and equal hold", a, b, n)
		}
		if a.Less(b) && b.Less(c) && !a.Less(c) {
			t.Fatalf("%+v, %+v, %+v: not transitive", a, b, c)
		}
	})
}

func count(bs ...bool) int {
	n := 0
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

func TestLessOrdersByPlaceThenKind(t *testing.T) {
	t.Parallel()
	want := []incident.Ref{
		{Kind: "Node", Name: "z"}, {Namespace: "a", Kind: "Job", Name: "z"}, {Namespace: "a", Kind: "Pod", Name: "a"}, {Namespace: "a", Kind: "Pod", Name: "b"},
		{Namespace: "b", Kind: "Job", Name: "a"}, {Cluster: "c", Kind: "Node", Name: "a"}, incident.DeviceRef("c", "gpu", "p", "gpu-0"), incident.DeviceRef("c", "gpu", "p", "gpu-1"),
	}
	slices.SortFunc(want, func(a, b incident.Ref) int { return strings.Compare(a.Kind, b.Kind) })
	slices.SortFunc(want, func(a, b incident.Ref) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	var got []string
	for _, r := range want {
		got = append(got, strings.TrimSpace(r.Cluster+" "+r.String()))
	}
	if diff := cmp.Diff([]string{"Node z", "Job a/z", "Pod a/a", "Pod a/b", "Job b/a", "c Device gpu/p/gpu-0", "c Device gpu/p/gpu-1", "c Node a"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSameProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := refs().Draw(t, "a"), refs().Draw(t, "b")
		if !a.Same(a) {
			t.Fatalf("%+v is not the same as itself", a)
		}
		if a.Same(b) != b.Same(a) {
			t.Fatalf("%+v and %+v: one way only", a, b)
		}
		if a == b && !a.Same(b) {
			t.Fatalf("%+v equals %+v and is not the same", a, b)
		}
		if a.Same(b) && (a.Name != b.Name || a.Namespace != b.Namespace) {
			t.Fatalf("%+v and %+v are the same", a, b)
		}
		if a.Same(b) && a.Cluster != "" && b.Cluster != "" && a.Cluster != b.Cluster {
			t.Fatalf("%+v and %+v: a fact of one cluster answers for another", a, b)
		}
		blind := a
		blind.Cluster, blind.Group = "", ""
		if !blind.Same(a) {
			t.Fatalf("%+v: what is not said counts against it", a)
		}
	})
}

func TestSame(t *testing.T) {
	t.Parallel()
	pod := incident.Ref{Cluster: "a", Namespace: "train", Kind: "Pod", Name: "x"}
	for name, tc := range map[string]struct {
		o    incident.Ref
		want bool
	}{
		"equal":             {pod, true},
		"cluster not said":  {incident.Ref{Namespace: "train", Kind: "Pod", Name: "x"}, true},
		"kind in any case":  {incident.Ref{Cluster: "a", Namespace: "train", Kind: "pod", Name: "x"}, true},
		"group said":        {incident.Ref{Cluster: "a", Namespace: "train", Group: "g", Kind: "Pod", Name: "x"}, true},
		"another cluster":   {incident.Ref{Cluster: "b", Namespace: "train", Kind: "Pod", Name: "x"}, false},
		"another namespace": {incident.Ref{Cluster: "a", Namespace: "infer", Kind: "Pod", Name: "x"}, false},
		"no namespace":      {incident.Ref{Cluster: "a", Kind: "Pod", Name: "x"}, false},
		"another kind":      {incident.Ref{Cluster: "a", Namespace: "train", Kind: "Job", Name: "x"}, false},
		"name in other case": {incident.Ref{Cluster: "a", Namespace: "train", Kind: "Pod", Name: "X"},
			false},
	} {
		if got := pod.Same(tc.o); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if incident.DeviceRef("a", "gpu", "p", "0").Same(incident.DeviceRef("a", "gpu", "q", "0")) {
		t.Error("a device of another pool is the same")
	}
}

func TestStringAndPath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ref        incident.Ref
		text, path string
	}{
		{incident.Ref{Namespace: "train", Kind: "Pod", Name: "x"}, "Pod train/x", "train/x"},
		{incident.Ref{Cluster: "c", Kind: "Node", Name: "n1"}, "Node n1", "n1"},
		{incident.DeviceRef("c", "gpu.nvidia.com", "n1", "gpu-0"), "Device gpu.nvidia.com/n1/gpu-0", "gpu.nvidia.com/n1/gpu-0"},
		{incident.Ref{Name: "x"}, "x", "x"},
		{incident.Ref{Kind: "Pod"}, "Pod", ""},
		{incident.Ref{}, "", ""},
	} {
		if tc.ref.String() != tc.text || tc.ref.Path() != tc.path {
			t.Errorf("%+v: %q and %q", tc.ref, tc.ref.String(), tc.ref.Path())
		}
		if tc.ref.IsZero() != (tc.ref == incident.Ref{}) {
			t.Errorf("%+v: IsZero %v", tc.ref, tc.ref.IsZero())
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for o, want := range map[incident.Outcome]bool{incident.RootCause: true, incident.Healthy: true, incident.Recovered: true, incident.Inconclusive: true, "": false, "Healthy": false, "unknown": false} {
		if o.Valid() != want {
			t.Errorf("%q valid: %v", o, o.Valid())
		}
	}
}

func TestSeverities(t *testing.T) {
	t.Parallel()
	order := []incident.Severity{incident.Info, incident.Warning, incident.Critical}
	for i, s := range order {
		if s.Weight() != i {
			t.Errorf("%s weighs %d", s, s.Weight())
		}
	}
	// What is not known counts least.
	for _, s := range []incident.Severity{"", "CRITICAL", "odd"} {
		if s.Weight() != 0 {
			t.Errorf("%q weighs %d", s, s.Weight())
		}
	}
	last := 0.0
	for _, s := range order {
		f := incident.Finding{Severity: s}
		if f.Score() <= last || f.Score() >= 1 {
			t.Errorf("%s scores %v after %v", s, f.Score(), last)
		}
		last = f.Score()
		f.Confidence = 0.42
		if f.Score() != 0.42 {
			t.Errorf("%s: its own confidence gives way to %v", s, f.Score())
		}
	}
}

// fill sets every field of a value, so that a new field cannot be forgotten here.
func fill(v reflect.Value, depth int) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 3, 1, 10, 0, depth, 0, time.UTC)))
		return
	case reflect.TypeFor[json.RawMessage]():
		v.Set(reflect.ValueOf(json.RawMessage(`{"a":[1,null,"x"]}`)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text <&> \u2028 ✗ " + v.Type().Name())
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(depth + 1))
	case reflect.Float64:
		v.SetFloat(0.25)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k, depth+1)
		fill(e, depth+1)
		m.SetMapIndex(k, e)
		v.Set(m)
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(f, depth+1)
		}
	default:
		panic("no value for " + v.Type().String())
	}
}

func full[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), 0)
	return v
}

func roundTrip[T any](t *testing.T) {
	t.Helper()
	for name, v := range map[string]T{"full": full[T](), "zero": *new(T)} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		var back T
		if err := dec.Decode(&back); err != nil {
			t.Fatalf("%s %T: %v", name, v, err)
		}
		if diff := cmp.Diff(v, back); diff != "" {
			t.Errorf("%s %T: %s", name, v, diff)
		}
	}
}

// What is written to a journal comes back as it was, every field of it.
func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	roundTrip[incident.Report](t)
	roundTrip[incident.Assessment](t)
	roundTrip[incident.Question](t)
	roundTrip[incident.Hypothesis](t)
}

// The fields that other programs rely on keep their names; those that a caller
// ranges over are there also when they are empty.
func TestReportFields(t *testing.T) {
	t.Parallel()
	var got map[string]any
	raw, err := json.Marshal(incident.Report{Diagnosis: incident.Diagnosis{Causes: []incident.Cause{{Subject: incident.Ref{Kind: "Pod", Name: "x"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	has := func(m any, keys ...string) {
		t.Helper()
		for _, k := range keys {
			if _, ok := m.(map[string]any)[k]; !ok {
				t.Errorf("%v has no %q", m, k)
			}
		}
	}
	has(got, "question", "diagnosis", "evidence", "usage", "stop")
	has(got["diagnosis"], "outcome", "causes", "chain", "checked", "not_seen", "proposals")
	has(got["usage"], "steps", "tool_calls", "input_tokens", "output_tokens", "cost", "seconds")
	cause := got["diagnosis"].(map[string]any)["causes"].([]any)[0]
	has(cause, "subject", "code", "statement", "confidence", "evidence")
	raw, err = json.Marshal(full[incident.Evidence]())
	if err != nil {
		t.Fatal(err)
	}
	var ev any
	if err := json.Unmarshal(raw, &ev); err != nil {
		t.Fatal(err)
	}
	has(ev, "id", "tool", "args", "cluster", "at", "text", "error")
}

// The published schema takes every report, and nothing that is none.
func TestSchema(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	schema, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(doc []byte) error {
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	for name, r := range map[string]incident.Report{"full": full[incident.Report](), "zero": {}} {
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(raw); err != nil {
			t.Errorf("%s report: %v", name, err)
		}
	}
	for name, doc := range map[string]string{"nothing": `{}`, "a list": `[]`, "a report with something more": strings.Replace(string(mustJSON(t, incident.Report{})), "{", `{"verdict":"x",`, 1),
		"a report whose causes are a text": strings.Replace(string(mustJSON(t, incident.Report{})), `"causes":null`, `"causes":"none"`, 1)} {
		if check([]byte(doc)) == nil {
			t.Errorf("%s is taken for a report", name)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

package selector

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/dynamic-resource-allocation/cel"
)

func compiler() *Compiler { return NewCompiler(cel.NewCache(64, cel.Features{})) }

func TestParse(t *testing.T) {
	t.Parallel()
	attr := func(id string) Field { return Field{Attribute, "gpu.example.com", id} }
	for _, tc := range []struct {
		expr string
		want []Part
	}{
		{`device.driver == "gpu.example.com"`, []Part{{Predicates: []Predicate{{Field: Field{Kind: Driver}, Op: "==", Want: "gpu.example.com", Type: "string"}}}}},
		{`device.attributes["gpu.example.com"].productName.contains("H200")`, []Part{{Predicates: []Predicate{{Field: attr("productName"), Op: "contains", Want: "H200", Type: "string"}}}}},
		{`device.attributes["gpu.example.com"].?model.orValue("") == "x"`, []Part{{Predicates: []Predicate{{Field: attr("model"), Op: "==", Want: "x", Type: "string", Guarded: true}}}}},
		{`device.attributes["gpu.example.com"]["model"] == "x"`, []Part{{Predicates: []Predicate{{Field: attr("model"), Op: "==", Want: "x", Type: "string"}}}}},
		{`device.capacity["gpu.example.com"].memory.compareTo(quantity("80Gi")) >= 0`, []Part{{Predicates: []Predicate{{Field: Field{Capacity, "gpu.example.com", "memory"}, Op: ">=", Want: "80Gi", Type: "quantity"}}}}},
		{`device.attributes["gpu.example.com"].driverVersion.isGreaterThan(semver("570.1.0"))`, []Part{{Predicates: []Predicate{{Field: attr("driverVersion"), Op: ">", Want: "570.1.0", Type: "version"}}}}},
		{`"model" in device.attributes["gpu.example.com"] && 3 < device.attributes["gpu.example.com"].index`, []Part{
			{Predicates: []Predicate{{Field: attr("model"), Op: "exists", Guarded: true}}},
			{Predicates: []Predicate{{Field: attr("index"), Op: ">", Want: "3", Type: "int"}}},
		}},
		{`has(device.attributes["gpu.example.com"].model) && device.attributes["gpu.example.com"].model in ["a", "b"]`, []Part{
			{Predicates: []Predicate{{Field: attr("model"), Op: "exists", Guarded: true}}},
			{Predicates: []Predicate{{Field: attr("model"), Op: "in", Want: "a, b", Type: "list"}}},
		}},
		{`device.attributes["gpu.example.com"].model.lowerAscii().contains("h200") || !device.attributes["gpu.example.com"].mig`, []Part{{Predicates: []Predicate{
			{Field: attr("model"), Op: "contains", Want: "h200", Type: "string", Fold: true},
			{Field: attr("mig"), Op: "is", Want: "false", Type: "bool"},
		}}}},
		{`device.attributes["gpu.example.com"].a == device.attributes["gpu.example.com"].b`, []Part{{}}},
	} {
		e := compiler().Parse(tc.expr)
		if e.Err != "" {
			t.Errorf("%s: %s", tc.expr, e.Err)
			continue
		}
		for i := range e.Parts {
			if e.Parts[i].Text == "" {
				t.Errorf("%s: part %d has no text", tc.expr, i)
			}
			e.Parts[i].Text = ""
		}
		if diff := cmp.Diff(tc.want, e.Parts); diff != "" {
			t.Errorf("%s: %s", tc.expr, diff)
		}
		if !e.Exact {
			t.Errorf("%s: fields are not exact", tc.expr)
		}
	}
}

func TestInexact(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{
		`device.attributes.exists(d, d == "x")`,
		`device.attributes["a.example.com"].exists(k, k == "x")`,
		`device.attributes[device.driver].model == "x"`,
	} {
		e := compiler().Parse(expr)
		if e.Err != "" {
			t.Fatalf("%s: %s", expr, e.Err)
		}
		if e.Exact {
			t.Errorf("%s reads more than constant names and is called exact", expr)
		}
	}
}

func TestCompileError(t *testing.T) {
	t.Parallel()
	e := compiler().Parse(`device.nope == 1`)
	if e.Err == "" {
		t.Fatal("no error")
	}
	if _, err := e.Matches(context.Background(), cel.Device{}); err == nil {
		t.Fatal("evaluated what does not compile")
	}
}

func TestFailingAndWith(t *testing.T) {
	t.Parallel()
	model := "A100"
	d := cel.Device{Driver: "gpu.example.com",
		Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{"model": {StringValue: &model}},
		Capacity:   map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"memory": {Value: resource.MustParse("40Gi")}}}
	e := compiler().Parse(`device.driver == "gpu.example.com" && device.attributes["gpu.example.com"].model == "H100" && device.capacity["gpu.example.com"].memory.compareTo(quantity("40Gi")) >= 0`)
	if got := e.Failing(context.Background(), d); !cmp.Equal(got, []int{1}) {
		t.Errorf("failing parts %v, want [1]", got)
	}
	changed := compiler().Parse(e.With(1, `device.attributes["gpu.example.com"].model == "A100"`))
	if ok, err := changed.Matches(context.Background(), d); err != nil || !ok {
		t.Errorf("%s: %v %v", changed.Text, ok, err)
	}
	if got := compiler().Parse(e.With(0, "")).OfDriver(); got != "" {
		t.Errorf("dropped part still there: %s", got)
	}
	if got := e.OfDriver(); got != "gpu.example.com" {
		t.Errorf("driver %q", got)
	}
	if ok, err := compiler().Parse(`device.attributes["gpu.example.com"].nope == "x"`).Matches(context.Background(), d); err == nil || ok {
		t.Errorf("missing key gave %v, %v", ok, err)
	}
}

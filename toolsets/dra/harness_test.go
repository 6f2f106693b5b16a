package dra

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
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

// fleetDoc is a test-only document that stands for many nodes and slices of one shape.
type fleetDoc struct {
	Nodes  int               `json:"nodes"`
	Prefix string            `json:"prefix"`
	Labels map[string]string `json:"labels"`
	Taints []corev1.Taint    `json:"taints"`
	// Allocatable of each node beside nothing.
	Allocatable corev1.ResourceList `json:"allocatable"`
	Driver      string              `json:"driver"`
	// Bare makes nodes without slices.
	Bare bool `json:"bare"`
	// SlicesOnly leaves the Node objects to another document.
	SlicesOnly bool `json:"slicesOnly"`
	Generation int64
	// Want is resourceSliceCount, 1 when absent.
	Want    int64         `json:"want"`
	Devices []devicesDoc  `json:"devices"`
	Sets    []counterSets `json:"counters"`
}

type counterSets = resourceapi.CounterSet

type devicesDoc struct {
	Count  int    `json:"count"`
	Prefix string `json:"prefix"`
	// Attributes: a list value is dealt out over the devices in turn.
	Attributes map[string]any    `json:"attributes"`
	Versions   map[string]string `json:"versions"`
	resourceapi.Device
}

type caseDoc struct {
	Name      string         `json:"name"`
	Now       string         `json:"now"`
	Server    string         `json:"server"`
	Rules     string         `json:"rules"`
	Tool      string         `json:"tool"`
	Args      map[string]any `json:"args"`
	Verdict   string         `json:"verdict"`
	Findings  []findingDoc   `json:"findings"`
	Only      bool           `json:"only"`
	Edges     []string       `json:"edges"`
	WouldFit  []string       `json:"would_fit"`
	Text      []string       `json:"text"`
	NoneOf    []string       `json:"none_of"`
	Healthy   bool           `json:"healthy"`
	Relations []string       `json:"relations"`
}

type findingDoc struct {
	Code    string            `json:"code"`
	Subject string            `json:"subject"`
	Params  map[string]string `json:"params"`
	Role    string            `json:"role"`
	// Lacks are params that must not be there.
	Lacks []string `json:"lacks"`
}

// instant is the clock of the tests: the hour every fixture lives in.
const instant = "2026-11-24T12:00:00Z"

func clock(t testing.TB, at string) func() time.Time {
	t.Helper()
	if at == "" {
		at = instant
	}
	now, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	return func() time.Time { return now }
}

// loadCase reads a fixture: one Case document, Fleet documents, objects.
func loadCase(t testing.TB, path string) (caseDoc, []runtime.Object) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c caseDoc
	var objs []runtime.Object
	r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var meta metav1.TypeMeta
		if err := sigsyaml.Unmarshal(doc, &meta); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch meta.Kind {
		case "":
		case "Case":
			if err := sigsyaml.Unmarshal(doc, &c); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		case "Fleet":
			var f fleetDoc
			if err := sigsyaml.Unmarshal(doc, &f); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			objs = append(objs, f.expand(t)...)
		default:
			o, _, err := scheme.Codecs.UniversalDeserializer().Decode(doc, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", path, err, doc)
			}
			fill(o)
			objs = append(objs, o)
		}
	}
	return c, objs
}

// fill gives objects what an API server would.
func fill(o runtime.Object) {
	m, ok := o.(metav1.Object)
	if !ok {
		return
	}
	if m.GetUID() == "" {
		m.SetUID(types.UID(m.GetNamespace() + "-" + m.GetName()))
	}
	if ts := m.GetCreationTimestamp(); ts.IsZero() {
		at, _ := time.Parse(time.RFC3339, instant)
		m.SetCreationTimestamp(metav1.NewTime(at.Add(-time.Hour)))
	}
	for i := range m.GetOwnerReferences() {
		refs := m.GetOwnerReferences()
		if refs[i].UID == "" {
			refs[i].UID = types.UID(m.GetNamespace() + "-" + refs[i].Name)
		}
		m.SetOwnerReferences(refs)
	}
	if c, ok := o.(*resourceapi.ResourceClaim); ok {
		defaults(&c.Spec)
		for i := range c.Status.ReservedFor {
			r := &c.Status.ReservedFor[i]
			if r.UID == "" {
				r.UID = types.UID(c.Namespace + "-" + r.Name)
			}
		}
	}
	if c, ok := o.(*resourceapi.ResourceClaimTemplate); ok {
		defaults(&c.Spec.Spec)
	}
}

func defaults(s *resourceapi.ResourceClaimSpec) {
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if r.Exactly != nil {
			if r.Exactly.AllocationMode == "" {
				r.Exactly.AllocationMode = resourceapi.DeviceAllocationModeExactCount
			}
			if r.Exactly.Count == 0 && r.Exactly.AllocationMode == resourceapi.DeviceAllocationModeExactCount {
				r.Exactly.Count = 1
			}
		}
		for j := range r.FirstAvailable {
			f := &r.FirstAvailable[j]
			if f.AllocationMode == "" {
				f.AllocationMode = resourceapi.DeviceAllocationModeExactCount
			}
			if f.Count == 0 && f.AllocationMode == resourceapi.DeviceAllocationModeExactCount {
				f.Count = 1
			}
		}
	}
}

func (f fleetDoc) expand(t testing.TB) []runtime.Object {
	t.Helper()
	var out []runtime.Object
	for i := range f.Nodes {
		name := fmt.Sprintf("%s%d", f.Prefix, i)
		if !f.SlicesOnly {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
			maps.Copy(n.Labels, f.Labels)
			n.Spec.Taints = f.Taints
			n.Status.Allocatable = f.Allocatable
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
			fill(n)
			out = append(out, n)
		}
		if !f.Bare {
			out = append(out, f.slices(name)...)
		}
	}
	return out
}

func (f fleetDoc) slices(node string) []runtime.Object {
	want := f.Want
	if want == 0 {
		want = 1
		if len(f.Sets) > 0 {
			want = 2
		}
	}
	base := resourceapi.ResourceSliceSpec{Driver: f.Driver, NodeName: &node, Pool: resourceapi.ResourcePool{Name: node, Generation: f.Generation, ResourceSliceCount: want}}
	s := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-" + f.Driver}, Spec: *base.DeepCopy()}
	s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID("-" + node)}}
	for _, d := range f.Devices {
		for j := range max(d.Count, 1) {
			dev := *d.DeepCopy()
			if dev.Name == "" {
				dev.Name = fmt.Sprintf("%s%d", d.Prefix, j)
			}
			dev.Attributes = map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{}
			for k, v := range d.Attributes {
				if l, ok := v.([]any); ok {
					v = l[j%len(l)]
				}
				dev.Attributes[resourceapi.QualifiedName(k)] = attribute(v)
			}
			for k, v := range d.Versions {
				dev.Attributes[resourceapi.QualifiedName(k)] = resourceapi.DeviceAttribute{VersionValue: &v}
			}
			s.Spec.Devices = append(s.Spec.Devices, dev)
		}
	}
	fill(s)
	out := []runtime.Object{s}
	if len(f.Sets) > 0 {
		c := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-" + f.Driver + "-counters"}, Spec: *base.DeepCopy()}
		c.Spec.SharedCounters = f.Sets
		fill(c)
		out = append(out, c)
	}
	return out
}

func attribute(v any) resourceapi.DeviceAttribute {
	switch x := v.(type) {
	case string:
		return resourceapi.DeviceAttribute{StringValue: &x}
	case bool:
		return resourceapi.DeviceAttribute{BoolValue: &x}
	case float64:
		n := int64(x)
		return resourceapi.DeviceAttribute{IntValue: &n}
	}
	return resourceapi.DeviceAttribute{}
}

// serverOf makes a fake API server that says it is of a version.
func serverOf(t testing.TB, c caseDoc, objs []runtime.Object) *fake.Clientset {
	t.Helper()
	cs := fake.NewClientset(objs...)
	minor := c.Server
	if minor == "" {
		minor = "37"
	}
	d, ok := cs.Discovery().(*fakediscovery.FakeDiscovery)
	if !ok {
		t.Fatal("no fake discovery")
	}
	d.FakedServerVersion = &version.Info{Major: "1", Minor: minor}
	main := &metav1.APIResourceList{GroupVersion: "resource.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "resourceclaims"}, {Name: "resourceslices"}, {Name: "deviceclasses"}, {Name: "resourceclaimtemplates"}}}
	cs.Resources = append(cs.Resources, main)
	switch c.Rules {
	case "", "v1":
		if minor == "37" {
			main.APIResources = append(main.APIResources, metav1.APIResource{Name: "devicetaintrules"})
		}
	case "none":
	default:
		cs.Resources = append(cs.Resources, &metav1.APIResourceList{GroupVersion: "resource.k8s.io/" + c.Rules, APIResources: []metav1.APIResource{{Name: "devicetaintrules"}}})
	}
	return cs
}

func newToolset(t testing.TB, c caseDoc, objs []runtime.Object) *Toolset {
	t.Helper()
	ts, err := New(Config{Client: serverOf(t, c, objs), Cluster: "test", Now: clock(t, c.Now)})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// TestCases runs every fixture of testdata/cases.
func TestCases(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/cases/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, p := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(p), ".yaml"), func(t *testing.T) {
			t.Parallel()
			c, objs := loadCase(t, p)
			ts := newToolset(t, c, objs)
			name := c.Tool
			if name == "" {
				name = "dra_explain"
			}
			for _, tl := range ts.Tools() {
				if tl.Info().Name != name {
					continue
				}
				if c.Args == nil {
					c.Args = map[string]any{}
				}
				args, err := json.Marshal(c.Args)
				if err != nil {
					t.Fatal(err)
				}
				res, err := tl.Call(context.Background(), args)
				if err != nil {
					t.Fatal(err)
				}
				c.check(t, res)
				return
			}
			t.Fatalf("no tool %s", name)
		})
	}
}

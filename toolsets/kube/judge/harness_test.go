package judge_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
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
	// Absent are codes that must not be found in any role.
	Absent []string `json:"absent"`
	Edges  []string `json:"edges"`
	NoEdge []string `json:"no_edge"`
	Text   []string `json:"text"`
	NoText []string `json:"no_text"`

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

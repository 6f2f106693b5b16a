package storage_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
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
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
	"github.com/gumshoe-ai/gumshoe/toolsets/storage"
)

// noon is the clock of the fixtures. "@5m" in a fixture is five minutes before it.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// scene is one document "kind: Case" of a fixture; the objects after it, and those
// before the first one, are its cluster.
type scene struct {
	Name string         `json:"name"`
	Tool string         `json:"tool"`
	Args map[string]any `json:"args"`
	// Like takes tool, arguments and objects of an earlier case; an object after it
	// replaces the one of its kind and name.
	Like string `json:"like"`
	// Drop leaves objects out, "Pod/a-0".
	Drop []string `json:"drop"`
	// Forbid lists resources that may not be read.
	Forbid []string `json:"forbid"`
	// Findings, "code on Kind ns/name"; no other symptom or fault may be there.
	Findings []string `json:"findings"`
	Says     []string `json:"says"`
	// Reads is what the containers read together, in MB/s, a point a minute.
	Reads []float64 `json:"reads"`
	Edges []string  `json:"edges"`

	objects []map[string]any
}

func loadScenes(t *testing.T, path string) []*scene {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw = regexp.MustCompile(`"@(\d+[hms](?:\d+[ms])?)"`).ReplaceAllFunc(raw, func(m []byte) []byte {
		d, err := time.ParseDuration(strings.Trim(string(m), `"@`))
		if err != nil {
			t.Fatal(err)
		}
		return []byte(`"` + noon.Add(-d).Format(time.RFC3339) + `"`)
	})
	var base []map[string]any
	var scenes []*scene
	r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return scenes
		}
		if err != nil {
			t.Fatal(err)
		}
		var o map[string]any
		if err := yaml.Unmarshal(doc, &o); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		switch {
		case o == nil:
		case o["kind"] == "Case":
			delete(o, "kind")
			js, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			s := &scene{}
			if err := yaml.UnmarshalStrict(js, s); err != nil {
				t.Fatalf("%v\n%s", err, doc)
			}
			s.objects = slices.Clone(base)
			if s.Like != "" {
				i := slices.IndexFunc(scenes, func(x *scene) bool { return x.Name == s.Like })
				if i < 0 {
					t.Fatalf("%s is like %s, which is not there", s.Name, s.Like)
				}
				s.objects = slices.Clone(scenes[i].objects)
				if s.Tool == "" {
					s.Tool, s.Args = scenes[i].Tool, scenes[i].Args
				}
			}
			s.objects = slices.DeleteFunc(s.objects, func(o map[string]any) bool { return slices.Contains(s.Drop, key(o)) })
			scenes = append(scenes, s)
		case len(scenes) == 0:
			base = append(base, o)
		default:
			s := scenes[len(scenes)-1]
			s.objects = slices.DeleteFunc(s.objects, func(x map[string]any) bool { return key(x) == key(o) })
			s.objects = append(s.objects, o)
		}
	}
}

func key(o map[string]any) string {
	u := unstructured.Unstructured{Object: o}
	return u.GetKind() + "/" + u.GetName()
}

// apiVersions of the kinds in fixtures, which leave them out.
var apiVersions = map[string]string{
	"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "DaemonSet": "apps/v1", "StatefulSet": "apps/v1",
	"StorageClass": "storage.k8s.io/v1", "VolumeAttachment": "storage.k8s.io/v1", "CSINode": "storage.k8s.io/v1", "CSIDriver": "storage.k8s.io/v1",
}

func (s *scene) start(t *testing.T) *storage.Toolset {
	t.Helper()
	srv := sourcetest.Start(t)
	srv.Forbid = func(_, resource, _ string) bool { return slices.Contains(s.Forbid, resource) }
	for _, o := range s.objects {
		u := (&unstructured.Unstructured{Object: o}).DeepCopy()
		if u.GetAPIVersion() == "" {
			u.SetAPIVersion("v1")
			if v := apiVersions[u.GetKind()]; v != "" {
				u.SetAPIVersion(v)
			}
		}
		namespaced := !slices.Contains([]string{"Node", "PersistentVolume", "StorageClass", "VolumeAttachment", "CSINode", "CSIDriver"}, u.GetKind())
		if namespaced && u.GetNamespace() == "" {
			u.SetNamespace("ml")
		}
		if u.GetCreationTimestamp().Time.IsZero() {
			unstructuredTime(u, noon.Add(-30*time.Minute))
		}
		doc, err := yaml.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		srv.AddYAML(string(doc))
	}
	if s.Reads != nil {
		return toolsetWith(t, srv, fixedMetrics(s.Reads))
	}
	return toolsetOf(t, srv)
}

// fixedMetrics answers every range with the same points.
type fixedMetrics []float64

func (m fixedMetrics) Range(_ context.Context, expr string, _, to time.Time, step time.Duration) ([]metric.Series, error) {
	if len(m) == 0 || !strings.Contains(expr, "container_fs_reads_bytes_total") {
		return nil, &tool.Error{Kind: tool.NotServed, User: "no Prometheus"}
	}
	var out metric.Series
	for i, v := range m {
		out.Points = append(out.Points, metric.Point{At: to.Add(-time.Duration(len(m)-i) * step), Value: v * 1e6})
	}
	return []metric.Series{out}, nil
}

func unstructuredTime(u *unstructured.Unstructured, at time.Time) {
	meta, _ := u.Object["metadata"].(map[string]any)
	meta["creationTimestamp"] = at.Format(time.RFC3339)
}

func toolsetOf(t *testing.T, srv *sourcetest.Server) *storage.Toolset {
	return toolsetWith(t, srv, nil)
}

func toolsetWith(t *testing.T, srv *sourcetest.Server, m storage.Metrics) *storage.Toolset {
	t.Helper()
	s := srv.Source(func() time.Time { return noon })
	ts, err := storage.New(storage.Config{Cluster: "test", Metrics: m, Now: func() time.Time { return noon }, Reads: storage.Reads{
		Pod: s.Pod, Pods: s.Pods, PodsOnNode: s.PodsOnNode, Node: s.Node, Nodes: s.Nodes, Claim: s.PVC, Volume: s.PV, Volumes: s.PVs, Class: s.StorageClass,
		Attachments: s.VolumeAttachments, CSINode: s.CSINode, CSINodes: s.CSINodes, Driver: s.CSIDriver, Deployment: s.Deployment,
		ReplicaSet: s.ReplicaSet, Deployments: s.Deployments, StatefulSets: s.StatefulSets, DaemonSets: s.DaemonSets,
		Events: func(ctx context.Context, kind, namespace, name string) ([]storage.Event, error) {
			evs, err := s.Events(ctx, namespace, incident.Ref{Kind: kind, Namespace: namespace, Name: name})
			var out []storage.Event
			for _, e := range evs {
				out = append(out, storage.Event{Kind: e.Involved.Kind, Name: e.Involved.Name, Reason: e.Reason, Message: e.Message, Warning: e.Warning(), Count: e.Count, First: e.First, Last: e.Last})
			}
			return out, err
		},
		Allowed: func(ctx context.Context, verb, group, resource string) (bool, error) {
			return s.Allowed(ctx, verb, group, resource, "", "")
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func call(t *testing.T, ts *storage.Toolset, name string, args any) (tool.Result, error) {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts.Tools() {
		if x.Info().Name == name {
			return x.Call(t.Context(), raw)
		}
	}
	t.Fatalf("no tool %s", name)
	return tool.Result{}, nil
}

package nodepool_test

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
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
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
	Edges    []string `json:"edges"`
	// Cloud is what the provider's API says of the pools.
	Cloud []nodepool.CloudPool `json:"cloud"`

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
				if s.Cloud == nil {
					s.Cloud = scenes[i].Cloud
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
	"Deployment": "apps/v1", "NodePool": "karpenter.sh/v1", "NodeClaim": "karpenter.sh/v1", "EC2NodeClass": "karpenter.k8s.aws/v1", "MachineDeployment": "cluster.x-k8s.io/v1beta2", "Machine": "cluster.x-k8s.io/v1beta2",
}

func (s *scene) start(t *testing.T) *nodepool.Toolset {
	t.Helper()
	srv := sourcetest.Start(t)
	srv.ServeKind("karpenter.sh", "v1", "NodePool", "nodepools", false)
	srv.ServeKind("karpenter.sh", "v1", "NodeClaim", "nodeclaims", false)
	srv.ServeKind("karpenter.k8s.aws", "v1", "EC2NodeClass", "ec2nodeclasses", false)
	srv.ServeKind("cluster.x-k8s.io", "v1beta2", "MachineDeployment", "machinedeployments", true)
	srv.ServeKind("cluster.x-k8s.io", "v1beta2", "Machine", "machines", true)
	srv.Forbid = func(_, resource, _ string) bool { return slices.Contains(s.Forbid, resource) }
	for _, o := range s.objects {
		u := (&unstructured.Unstructured{Object: o}).DeepCopy()
		if u.GetAPIVersion() == "" {
			u.SetAPIVersion("v1")
			if v := apiVersions[u.GetKind()]; v != "" {
				u.SetAPIVersion(v)
			}
		}
		namespaced := !slices.Contains([]string{"Node", "PersistentVolume", "NodePool", "NodeClaim", "EC2NodeClass"}, u.GetKind())
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
	if s.Cloud != nil {
		return toolsetOf(t, srv, fixedCloud{s.Cloud})
	}
	return toolsetOf(t, srv)
}

// fixedCloud is a provider that says the same each time.
type fixedCloud struct{ pools []nodepool.CloudPool }

func (fixedCloud) Name() string { return "AKS" }

func (c fixedCloud) Pools(context.Context) ([]nodepool.CloudPool, error) { return c.pools, nil }

func unstructuredTime(u *unstructured.Unstructured, at time.Time) {
	meta, _ := u.Object["metadata"].(map[string]any)
	meta["creationTimestamp"] = at.Format(time.RFC3339)
}

func toolsetOf(t *testing.T, srv *sourcetest.Server, clouds ...nodepool.Cloud) *nodepool.Toolset {
	t.Helper()
	s := srv.Source(func() time.Time { return noon })
	ts, err := nodepool.New(nodepool.Config{Cluster: "test", Now: func() time.Time { return noon }, Clouds: clouds, Reads: nodepool.Reads{
		Nodes: s.Nodes, Node: s.Node, MayList: func(ctx context.Context) error { _, err := s.Nodes(ctx); return err }, Pod: s.Pod, Pods: s.Pods, Claim: s.PVC, Volume: s.PV, Deployments: s.Deployments,
		ConfigMap: func(ctx context.Context, namespace, name string) (map[string]string, error) {
			o, err := s.Get(ctx, s.Ref("", "ConfigMap", namespace, name))
			if err != nil {
				return nil, err
			}
			data, _, err := unstructured.NestedStringMap(o.Object, "data")
			return data, err
		},
		List: func(ctx context.Context, kind string) ([]*unstructured.Unstructured, error) {
			return s.List(ctx, kind, "", source.Selectors{})
		},
		Events: func(ctx context.Context, kind, namespace, name string) ([]nodepool.Event, error) {
			evs, err := s.Events(ctx, namespace, incident.Ref{Kind: kind, Namespace: namespace, Name: name})
			var out []nodepool.Event
			for _, e := range evs {
				out = append(out, nodepool.Event{Kind: e.Involved.Kind, Name: e.Involved.Name, Reason: e.Reason, Message: e.Message, Warning: e.Warning(), Source: e.Source, Count: e.Count, First: e.First, Last: e.Last})
			}
			return out, err
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func call(t *testing.T, ts *nodepool.Toolset, name string, args any) (tool.Result, error) {
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

package app

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
)

// newNodepool wires the nodepool toolset to the reads, and so to the cache, of kube.
func newNodepool(src *source, k *kube.Toolset) (*nodepool.Toolset, error) {
	s := k.Source()
	return nodepool.New(nodepool.Config{
		Cluster: src.cluster, Now: src.now, Clouds: src.clouds,
		Reads: nodepool.Reads{
			Nodes: s.Nodes, Node: s.Node, MayList: func(ctx context.Context) error {
				m, err := s.Find(ctx, "nodes")
				if err == nil {
					_, err = s.Count(ctx, m, "", kubesource.Selectors{})
				}
				return err
			},
			Pod: s.Pod, Pods: s.Pods, Claim: s.PVC, Volume: s.PV, Deployments: s.Deployments,
			ConfigMap: func(ctx context.Context, namespace, name string) (map[string]string, error) {
				o, err := s.Get(ctx, s.Ref("", "ConfigMap", namespace, name))
				if err != nil {
					return nil, err
				}
				data, _, err := unstructured.NestedStringMap(o.Object, "data")
				if err != nil {
					return nil, tool.Errorf(tool.Internal, "configmap %s/%s: %w", namespace, name, err)
				}
				return data, nil
			},
			List: func(ctx context.Context, kind string) ([]*unstructured.Unstructured, error) {
				return s.List(ctx, kind, "", kubesource.Selectors{})
			},
			Events: func(ctx context.Context, kind, namespace, name string) ([]nodepool.Event, error) {
				evs, err := s.Events(ctx, namespace, incident.Ref{Kind: kind, Namespace: namespace, Name: name})
				if err != nil {
					return nil, err
				}
				out := make([]nodepool.Event, 0, len(evs))
				for _, e := range evs {
					out = append(out, nodepool.Event{Kind: e.Involved.Kind, Name: e.Involved.Name, Reason: e.Reason, Message: e.Message, Warning: e.Warning(), Source: e.Source, Count: e.Count, First: e.First, Last: e.Last})
				}
				return out, nil
			},
		},
	})
}

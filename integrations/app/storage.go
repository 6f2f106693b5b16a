package app

import (
	"context"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/storage"
)

// newStorage wires the storage toolset to the reads, and so to the cache, of kube.
func newStorage(src *source, k *kube.Toolset) (*storage.Toolset, error) {
	s := k.Source()
	return storage.New(storage.Config{
		Cluster: src.cluster, Now: src.now, Metrics: src.promClient(),
		Reads: storage.Reads{
			Pod: s.Pod, Pods: s.Pods, PodsOnNode: s.PodsOnNode, Node: s.Node, Nodes: s.Nodes,
			Claim: s.PVC, Volume: s.PV, Volumes: s.PVs, Class: s.StorageClass, Attachments: s.VolumeAttachments,
			CSINode: s.CSINode, CSINodes: s.CSINodes, Driver: s.CSIDriver,
			Deployment: s.Deployment, ReplicaSet: s.ReplicaSet, Deployments: s.Deployments, StatefulSets: s.StatefulSets, DaemonSets: s.DaemonSets,
			Events: func(ctx context.Context, kind, namespace, name string) ([]storage.Event, error) {
				evs, err := s.Events(ctx, namespace, incident.Ref{Kind: kind, Namespace: namespace, Name: name})
				if err != nil {
					return nil, err
				}
				out := make([]storage.Event, 0, len(evs))
				for _, e := range evs {
					out = append(out, storage.Event{Kind: e.Involved.Kind, Name: e.Involved.Name, Reason: e.Reason, Message: e.Message, Warning: e.Warning(), Source: e.Source, Count: e.Count, First: e.First, Last: e.Last})
				}
				return out, nil
			},
			Allowed: func(ctx context.Context, verb, group, resource string) (bool, error) {
				return s.Allowed(ctx, verb, group, resource, "", "")
			},
		},
	})
}

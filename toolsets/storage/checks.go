package storage

import (
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	kind := func(group, want string) func(incident.Ref) bool {
		return func(r incident.Ref) bool {
			return r.Group == group && r.Kind == want && (r.Cluster == "" || r.Cluster == t.cluster)
		}
	}
	return []tool.Check{
		{
			Name: "volumes of", Tool: "storage_volumes", Applies: kind("", "Pod"),
			Args:   func(r incident.Ref) any { return VolumesIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.Mounts},
		},
		{
			Name: "attachment of", Tool: "storage_volumes", Applies: kind("", "PersistentVolumeClaim"),
			Args:   func(r incident.Ref) any { return VolumesIn{Namespace: r.Namespace, PVC: r.Name} },
			Follow: []string{graph.BoundTo, graph.HeldBy, graph.LimitedBy, graph.ServedBy, graph.Class},
		},
		{
			// A volume says nothing of itself; what it is attached by does.
			Name: "volume", Tool: "storage_volumes", Applies: kind("", "PersistentVolume"), Through: true,
			Args:   func(r incident.Ref) any { return VolumesIn{PV: r.Name} },
			Follow: []string{graph.AttachedBy, graph.AttachedTo, graph.ServedBy},
		},
		{
			Name: "attachment", Tool: "storage_volumes", Applies: kind(storageGroup, "VolumeAttachment"),
			Args:   func(r incident.Ref) any { return VolumesIn{Attachment: r.Name} },
			Follow: []string{graph.AttachedTo, graph.ServedBy},
		},
		{
			Name: "CSI drivers of node", Tool: "storage_drivers", Applies: kind(storageGroup, "CSINode"),
			Args:   func(r incident.Ref) any { return DriversIn{Node: r.Name} },
			Follow: []string{graph.ServedBy},
		},
		{
			Name: "CSI driver", Tool: "storage_drivers", Applies: kind(storageGroup, "CSIDriver"),
			Args: func(r incident.Ref) any { return DriversIn{Driver: r.Name} },
		},
		{
			Name: "image pulls and weights of", Tool: "storage_pulls", Applies: kind("", "Pod"),
			Args:   func(r incident.Ref) any { return PullsIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.RunsOn},
		},
	}
}

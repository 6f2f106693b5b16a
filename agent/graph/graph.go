// Package graph is the dependency graph that evidence builds: things and the
// named relations between them. An edge From -relation-> To says that From
// depends on To.
package graph

import (
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Relations used by the toolsets that ship. A toolset may add its own; triage
// follows what a check lists, not this table.
const (
	Claims       = "claims"        // Pod -> ResourceClaim
	FromTemplate = "from-template" // ResourceClaim or Pod -> ResourceClaimTemplate
	Class        = "class"         // ResourceClaim -> DeviceClass; PVC -> StorageClass; Ingress -> IngressClass
	OfferedBy    = "offered-by"    // DeviceClass -> driver (Kind "Driver") or Node
	Allocated    = "allocated"     // ResourceClaim -> Device
	HeldBy       = "held-by"       // Device or ResourceClaim -> the claim or Pod that holds what is wanted
	TaintedBy    = "tainted-by"    // Device -> DeviceTaintRule
	Publishes    = "published-by"  // Driver or Node -> the DaemonSet or Pod of the plugin
	RunsOn       = "runs-on"       // Pod -> Node
	Owns         = "owns"          // controller -> what it makes: Deployment -> ReplicaSet -> Pod
	Controlled   = "controlled-by" // Pod -> ReplicaSet -> Deployment
	Uses         = "uses"          // Pod -> ConfigMap, Secret, ServiceAccount, PriorityClass, RuntimeClass
	Mounts       = "mounts"        // Pod -> PersistentVolumeClaim
	BoundTo      = "bound-to"      // PVC -> PersistentVolume
	Selects      = "selects"       // Service -> Pod; PodDisruptionBudget -> Pod
	RoutesTo     = "routes-to"     // Ingress, HTTPRoute -> Service, InferencePool
	PickedBy     = "picked-by"     // InferencePool -> the Service of its endpoint picker
	Scales       = "scales"        // HorizontalPodAutoscaler -> Deployment
	LimitedBy    = "limited-by"    // ReplicaSet, Pod -> ResourceQuota, LimitRange
	GuardedBy    = "guarded-by"    // anything -> admission webhook configuration; webhook -> Service
	IsolatedBy   = "isolated-by"   // Pod -> NetworkPolicy
	GatedBy      = "gated-by"      // Pod -> what keeps it from the queue
	Contains     = "contains"      // Namespace -> the abnormal things in it
	Calls        = "calls"         // Pod -> the Service that its log says it wants
	ServedBy     = "served-by"     // PersistentVolumeClaim, Pod -> the workload or agent pod that has to act for it
	GroupedWith  = "grouped-with"  // Pod -> the failed peer of its group that it is a victim of
	BlockedBy    = "blocked-by"    // Pod -> what the scheduler counts against it (Node, quota)
	AttachedBy   = "attached-by"   // PersistentVolume -> VolumeAttachment
	AttachedTo   = "attached-to"   // VolumeAttachment -> Node; a volume on one machine -> Node
	UsedBy       = "used-by"       // PersistentVolumeClaim -> the workload whose own pods share it
	InPool       = "in-pool"       // Node -> NodePool, MachineDeployment
	GrownBy      = "grown-by"      // Pod, ResourceClaim -> the NodePool or NodeClaim that has to add a node for it
	Has          = "has"           // Node -> a Device in it, or the pod that looks after its devices; what runs on the node does not depend on it for that, see Path
	PartOf       = "part-of"       // Device (a MIG instance) -> the Device it is cut from; Pod -> the Service or pool whose replicas share a trouble
	LinkedTo     = "linked-to"     // Device -> the Device at the other end of its links
)

// Graph collects edges; it is not safe for concurrent use.
type Graph struct {
	out   map[incident.Ref][]incident.Edge
	nodes []incident.Ref
	seen  map[incident.Ref]bool
	// at finds an edge in out: a survey of a large cluster adds thousands from
	// one node.
	at map[key]int
}

type key struct {
	from     incident.Ref
	relation string
	to       incident.Ref
}

// New makes an empty graph.
func New() *Graph {
	return &Graph{out: map[incident.Ref][]incident.Edge{}, seen: map[incident.Ref]bool{}, at: map[key]int{}}
}

func (g *Graph) node(r incident.Ref) {
	if !g.seen[r] {
		g.seen[r] = true
		g.nodes = append(g.nodes, r)
	}
}

// Add puts edges in. The same edge from several looks keeps all its evidence.
func (g *Graph) Add(edges ...incident.Edge) {
	for _, e := range edges {
		g.node(e.From)
		g.node(e.To)
		k := key{e.From, e.Relation, e.To}
		i, known := g.at[k]
		if !known {
			g.at[k] = len(g.out[e.From])
			ids := e.Evidence
			e.Evidence = nil
			for _, id := range ids {
				e.Evidence = addNew(e.Evidence, id)
			}
			g.out[e.From] = append(g.out[e.From], e)
			continue
		}
		have := &g.out[e.From][i]
		if have.Note == "" {
			have.Note = e.Note
		}
		for _, id := range e.Evidence {
			have.Evidence = addNew(have.Evidence, id)
		}
	}
}

func addNew(ids []string, id string) []string {
	if slices.Contains(ids, id) {
		return ids
	}
	return append(ids, id)
}

// Nodes lists every thing in the order in which it was first named.
func (g *Graph) Nodes() []incident.Ref { return slices.Clone(g.nodes) }

// Out lists the edges leaving a thing, in the order in which they were added.
// The slice is the caller's own; the evidence of its edges is shared.
func (g *Graph) Out(r incident.Ref) []incident.Edge { return slices.Clone(g.out[r]) }

// Edges lists all edges in a stable order.
func (g *Graph) Edges() []incident.Edge {
	var all []incident.Edge
	for _, n := range g.nodes {
		all = append(all, g.out[n]...)
	}
	return all
}

// step is a thing on a way, and whether the way came over the machine it runs on.
type step struct {
	at   incident.Ref
	over bool
}

// next gives the step over an edge. A machine has parts that what runs on it need
// not use: a way that came to the machine because something runs there does not
// lead on to its parts.
func (s step) next(e incident.Edge) (step, bool) {
	if s.over && e.Relation == Has {
		return step{}, false
	}
	return step{e.To, s.over || e.Relation == RunsOn}, true
}

// Path gives a shortest chain of edges from one thing to another, nil if there
// is none or both are the same. Of several shortest chains it is the one whose
// edges were added first.
func (g *Graph) Path(from, to incident.Ref) []incident.Edge {
	if from == to {
		return nil
	}
	type link struct {
		edge incident.Edge
		back step
	}
	start := step{at: from}
	came := map[step]link{}
	queue := []step{start}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, e := range g.out[n.at] {
			s, ok := n.next(e)
			if _, visited := came[s]; !ok || visited || e.To == from {
				continue
			}
			came[s] = link{e, n}
			if e.To == to {
				var path []incident.Edge
				for at := s; at != start; at = came[at].back {
					path = append(path, came[at].edge)
				}
				slices.Reverse(path)
				return path
			}
			queue = append(queue, s)
		}
	}
	return nil
}

// Depth gives the number of edges on a shortest way from one thing to another,
// -1 if there is none.
func (g *Graph) Depth(from, to incident.Ref) int {
	if d, ok := g.Reach(from)[to]; ok {
		return d
	}
	return -1
}

// Reach gives everything a thing depends on, itself included, with the number
// of edges on a shortest way. Whoever asks about many pairs asks this once.
func (g *Graph) Reach(from incident.Ref) map[incident.Ref]int {
	depth := map[incident.Ref]int{from: 0}
	start := step{at: from}
	seen := map[step]int{start: 0}
	queue := []step{start}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, e := range g.out[n.at] {
			s, ok := n.next(e)
			if _, visited := seen[s]; !ok || visited {
				continue
			}
			seen[s] = seen[n] + 1
			if _, known := depth[e.To]; !known {
				depth[e.To] = seen[s]
			}
			queue = append(queue, s)
		}
	}
	return depth
}

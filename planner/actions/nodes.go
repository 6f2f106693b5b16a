package actions

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// nodes are the actions on single nodes.
func nodes(c *Cluster) []*action {
	node := planner.Param{Name: "node", Required: true, Object: true, Text: "the node"}
	rights := []planner.Right{{Resources: []string{"nodes"}, Verbs: []string{"get", "patch"}}}
	return []*action{
		{c: c, compile: cordon(true), info: planner.Info{
			Name: "cordon", Family: planner.Placement, Text: "Keep new pods off a node", Params: []planner.Param{node}, Risk: incident.RiskLow, Rights: rights,
			Contains: true, Undo: "the node takes pods again", Verify: "spec.unschedulable is true", Sources: []string{"kubernetes.io/docs/concepts/architecture/nodes, manual node administration"},
		}},
		{c: c, compile: cordon(false), info: planner.Info{
			Name: "uncordon", Family: planner.Placement, Text: "Let new pods onto a node again", Params: []planner.Param{node}, Risk: incident.RiskLow, Rights: rights,
			Undo: "the node is cordoned again", Verify: "spec.unschedulable is not set", Sources: []string{"kubernetes.io/docs/concepts/architecture/nodes, manual node administration"},
		}},
	}
}

func cordon(on bool) func(context.Context, *Cluster, params) (*draft, error) {
	return func(ctx context.Context, c *Cluster, p params) (*draft, error) {
		o, err := c.Get(ctx, "Node", "", p.str("node"))
		if err != nil {
			return nil, err
		}
		say, want := "Let new pods onto node "+o.GetName(), ""
		if on {
			say, want = "Keep new pods off node "+o.GetName(), "true"
		}
		d := c.draft("%s", say)
		err = d.patch(o, say, func(u *unstructured.Unstructured) error {
			if !on {
				unstructured.RemoveNestedField(u.Object, "spec", "unschedulable")
				return nil
			}
			return unstructured.SetNestedField(u.Object, true, "spec", "unschedulable")
		})
		if err != nil {
			return nil, err
		}
		d.Blast.Nodes = []incident.Ref{nodeRef(c.name, o.GetName())}
		d.Verify = []incident.Check{{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": "spec.unschedulable", "value": want}, Say: say + ": the field says so", Within: 30}}
		return d, nil
	}
}

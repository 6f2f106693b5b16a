package actions

import (
	"context"
	"fmt"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// onNodes counts the pods of a workload that are on nodes with labels.
func onNodes(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	pods, v, saw := k.pods(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	list, err := k.cluster.List(ctx, "Node", "", c.Params["selector"], "")
	if err != nil {
		return incident.Unclear, err.Error()
	}
	there := map[string]bool{}
	for _, o := range list {
		there[o.GetName()] = true
	}
	n, least := int64(0), atLeast(c, 1)
	for _, p := range pods {
		if there[p.Spec.NodeName] {
			n++
		}
	}
	return verdict(n >= least), fmt.Sprintf("%d of %d pods of %s are on nodes with %s, %d wanted", n, len(pods), c.Subject, c.Params["selector"], least)
}

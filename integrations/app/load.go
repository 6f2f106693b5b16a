package app

import (
	"context"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

// inFlight sums the requests that engines in pods execute at the moment, by the names
// that the engines give the metric. It is false where no engine of them is measured.
func (a *App) inFlight(ctx context.Context, pods []incident.Ref) (float64, bool) {
	names, err := alias.Load()
	if err != nil {
		return 0, false
	}
	wanted := map[[2]string]bool{}
	spaces := map[string]bool{}
	for _, p := range pods {
		wanted[[2]string{p.Namespace, p.Name}] = true
		spaces[p.Namespace] = true
	}
	client := prom.NewClient(a.src.metrics)
	sum, seen := 0.0, false
	for ns := range spaces {
		expr, err := names.Expr("engine.running", map[string]string{"namespace": ns}, "")
		if err != nil {
			return 0, false
		}
		samples, err := client.Instant(ctx, expr)
		if err != nil {
			return 0, false
		}
		for _, s := range samples {
			if wanted[[2]string{s.Labels["namespace"], s.Labels["pod"]}] && metric.Finite(s.Value) {
				sum, seen = sum+s.Value, true
			}
		}
	}
	return sum, seen
}

package prom

import (
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Prometheus' HTTP API v1 (or what speaks it: Thanos, Mimir, VictoriaMetrics) and Alertmanager's API v2: queries within bounds, alerts, rules, targets, silences.",
		Rights: []tool.Right{
			{Verbs: []string{"list"}, Resources: []string{"services"}, For: "finding the servers in the cluster"},
			{Verbs: []string{"get"}, Resources: []string{"services/proxy"}, For: "reaching them through the API server from outside the cluster"},
		},
		Config: "prometheus",
		Found:  "well-known Services and labels of the usual charts; from outside the cluster through the API server's proxy",
		Sources: []string{
			"prometheus.io/docs/prometheus/latest/querying/api",
			"Alertmanager's OpenAPI specification v2",
			"metric names of dcgm-exporter, vLLM, SGLang, TensorRT-LLM, Triton, KServe and the Gateway API Inference Extension, each alias with its version",
		},
	}
}

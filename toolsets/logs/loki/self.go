package loki

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Grafana Loki's HTTP API v1: the logs of pods and of earlier runs that the cluster no longer keeps.",
		Rights: []tool.Right{
			{Verbs: []string{"list"}, Resources: []string{"services"}, For: "finding Loki in the cluster"},
			{Verbs: []string{"get"}, Resources: []string{"services/proxy"}, For: "reaching it through the API server from outside the cluster"},
		},
		Config: "loki",
		Found:  "well-known Services of the usual charts; from outside the cluster through the API server's proxy",
		Sources: []string{
			"grafana.com/docs/loki: HTTP API, query_range, LogQL",
		},
	}
}

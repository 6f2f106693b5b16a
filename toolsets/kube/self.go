package kube

import (
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	d := tool.Description{
		Reads:  "The Kubernetes API: pods, workloads, nodes, scheduling, Services, volumes, quotas, admission, events, logs, and objects of any kind that the server knows. Secrets are read as metadata only.",
		Config: "kubernetes",
		Found:  "the kubeconfig as kubectl finds it; in a pod, the pod's own identity",
		Sources: []string{
			"Kubernetes 1.37: API reference, kube-scheduler's filters, the kubelet's events and container states",
			"kubernetes.io/docs/reference/using-api/api-concepts (lists, pages, watch)",
		},
	}
	for _, w := range wants() {
		d.Rights = append(d.Rights, tool.Right{Verbs: []string{w.verb}, Resources: []string{w.name()}, For: w.shows})
	}
	return d
}

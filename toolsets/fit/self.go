package fit

import (
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "The dimensions of a model (config.json), the settings of an engine (its arguments and log) and the GPUs of the cluster: whether it fits, with what margin, and where it runs cheapest.",
		Rights: []tool.Right{
			{Verbs: []string{"get"}, Resources: []string{"pods", "nodes", "configmaps"}, For: "a serving pod's arguments, its GPUs, a mounted config.json"},
			{Verbs: []string{"get"}, Resources: []string{"pods/log"}, For: "what the engine measured itself"},
			{Verbs: []string{"list"}, Resources: []string{"resourceslices.resource.k8s.io", "resourceclaims.resource.k8s.io"}, For: "free devices to place a model on"},
		},
		Found: "it needs no system; figures of GPUs, models and prices ship with it, each with source and date",
		Sources: []string{
			"docs/fit.md: the error against published logs, row by row",
			"Hugging Face config.json of the models that ship; documentation of vLLM, SGLang and TensorRT-LLM",
			"NVIDIA and AMD data sheets; public price lists, dated",
		},
	}
}

package logs

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "The logs of the pods of one distributed job side by side (JobSet, LeaderWorkerSet, PyTorchJob, MPIJob, RayJob, StatefulSet): which rank failed, stalled or fell silent first, and who only waited for it.",
		Rights: []tool.Right{
			{Verbs: []string{"get", "list"}, Resources: []string{"pods"}, For: "the members of the job"},
			{Verbs: []string{"get"}, Resources: []string{"pods/log"}, For: "their logs, also of the run before"},
			{Verbs: []string{"get"}, Resources: []string{"the job's own kind"}, For: "how many members there should be"},
		},
		Found: "the API server's pod logs",
		Sources: []string{
			"PyTorch: ProcessGroupNCCL watchdog and flight recorder messages, torchrun's error reports",
			"NCCL 2.2x: warnings and asynchronous errors",
		},
	}
}

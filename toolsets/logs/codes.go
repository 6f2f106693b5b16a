package logs

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset emits.
func Codes() []tool.Code {
	strs := func(s ...string) []string { return s }
	jobs := strs("JobSet", "Job", "PyTorchJob", "MPIJob", "TFJob", "XGBoostJob", "PaddleJob", "JAXJob", "TrainJob", "LeaderWorkerSet", "RayJob", "RayCluster", "StatefulSet", "PodGang")
	return []tool.Code{
		{Code: "logs.rank_failed_first", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("pod", "rank", "what", "line", "victims"), Optional: strs("later"), Text: "One rank failed of its own before the others reported it in collectives (F16, F17)."},
		{Code: "logs.rank_stalled", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("pod", "rank", "line", "why"), Optional: strs("sequence", "operation"), Text: "One rank did not enter the collective that the others wait in (F16)."},
		{Code: "logs.rank_silent", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("pod", "rank", "line", "why"), Optional: strs("sequence", "operation"), Text: "One rank fell silent and did not report the timeout that all others report (F16)."},
		{Code: "logs.collective_never_worked", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ProcessGroup"), Params: strs("operation", "members", "line"), Text: "The first collective of the job timed out on all ranks: they never reached each other (F16, SeqNum 1)."},
		{Code: "logs.collective_mismatch", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ProcessGroup"), Params: strs("sequence", "why"), Text: "Ranks called different collectives at the same place: the program diverges between ranks."},
		{Code: "logs.collective_hangs", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("ProcessGroup"), Params: strs("sequence", "operation", "members"), Text: "Every rank entered a collective and none left it; the logs do not tell who holds it up."},
		{Code: "logs.job_interrupted", Role: incident.Symptom, Severity: incident.Warning, Kinds: jobs, Params: strs("verdict", "why"), Text: "Members of a distributed job complain of a peer or wait for one."},
		{Code: "logs.job_went_on", Role: incident.History, Severity: incident.Info, Kinds: jobs, Params: strs("why"), Text: "A distributed job was interrupted and has gone on since."},
		{Code: "logs.ranks_fail_alike", Role: incident.Context, Severity: incident.Info, Kinds: jobs, Params: strs("members", "line"), Text: "Most ranks fail alike and at once: no single rank is to blame."},
		{Code: "logs.rank_victim", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("line"), Optional: strs("sequence", "operation"), Text: "The rank ends or hangs because of a peer: a collective timed out or a connection closed."},
		{Code: "logs.rank_waits", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("line", "for"), Text: "The rank waits for members of its job that have not started or do not answer."},
	}
}

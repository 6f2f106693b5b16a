package fit

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
)

// Codes lists every finding code this toolset may emit; Fnn are the modes of the
// serving failure catalogue.
func Codes() []tool.Code {
	pod := []string{"Pod"}
	with := func(more ...string) []string { return append([]string{"container", "model", "change"}, more...) }
	return []tool.Code{
		{Code: "fit.does_not_fit", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("gpu", "weights", "budget"), Optional: []string{"gpus"}, Text: "The model's weights leave no room for a KV cache on the pod's GPUs (F02, F03)."},
		{Code: "fit.context_too_long", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("gpu", "context", "longest"), Text: "The weights fit; one sequence of the engine's maximum length does not (F01)."},
		{Code: "fit.tight", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("gpu"), Optional: []string{"gpus"}, Text: "The model fits only if the engine needs little beside weights and cache; it does not start (F04, F06)."},
		{Code: "fit.tp_indivisible", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("reason"), Optional: []string{"gpus"}, Text: "The model's heads or experts cannot be split over that many GPUs (F11)."},
		{Code: "fit.gpu_count", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("need", "have"), Text: "The engine's parallel sizes need more GPUs than the container gets (F12)."},
		{Code: "fit.quantisation_unaligned", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("reason"), Optional: []string{"gpus"}, Text: "Quantised weights cannot be split over that many GPUs in whole blocks (F13)."},
		{Code: "fit.context_exceeds_model", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("context", "longest"), Text: "The engine is told a longer context than the model was made for."},
		{Code: "fit.dtype_unsupported", Role: incident.Fault, Severity: incident.Critical, Kinds: pod, Params: with("gpu", "reason"), Text: "The GPU's generation does not compute in the model's data type (F20)."},
		{Code: "fit.fits", Role: incident.Context, Severity: incident.Info, Kinds: []string{"Pod", "Model"}, Params: []string{"model", "gpu"}, Text: "The model fits, by the arithmetic or because it runs."},
		{Code: "fit.unlikely", Role: incident.Context, Severity: incident.Warning, Kinds: []string{"Pod", "Model"}, Params: []string{"model", "gpu", "verdict"}, Text: "By the arithmetic the model does not fit or only just; nothing shows that it failed for that."},
		{Code: "fit.model_unknown", Role: incident.Context, Severity: incident.Info, Kinds: pod, Params: []string{"model"}, Text: "The dimensions of the model that the pod serves are not known, so nothing is said about its memory."},
	}
}

// remarks are the findings of a question that a person or model asked: what if is
// no trouble, so they explain nothing.
func (t *Toolset) remarks(c Check) []incident.Finding {
	if c.Result == nil {
		return nil
	}
	f := incident.Finding{
		Code: "fit.fits", Severity: incident.Info, Role: incident.Context, Subject: incident.Ref{Cluster: t.cluster, Kind: "Model", Name: c.Model.Name},
		Message: string(c.Result.Verdict) + ": " + c.Result.Limit, Params: map[string]string{"model": c.Model.Name, "gpu": c.GPU.Name},
	}
	if c.Result.Verdict != estimate.Fits {
		f.Code, f.Severity = "fit.unlikely", incident.Warning
		f.Params["verdict"] = string(c.Result.Verdict)
	}
	return []incident.Finding{f}
}

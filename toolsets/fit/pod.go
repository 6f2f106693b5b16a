package fit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
)

// PodIn names a pod.
type PodIn struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// PodFit is what a pod's own words say about its model's memory.
type PodFit struct {
	// Serving says that the pod starts a serving engine at all.
	Serving   bool   `json:"serving"`
	Container string `json:"container,omitempty"`
	Engine    string `json:"engine,omitempty"`
	Settings  string `json:"settings,omitempty"`
	Model     string `json:"model,omitempty"`
	// Source of the model's dimensions; Unknown says why they are not known.
	Source  string `json:"source,omitempty"`
	Unknown string `json:"unknown,omitempty"`
	GPU     string `json:"gpu,omitempty"`
	// GPUs the container gets; 0 if they are not counted resources.
	GPUs     int                `json:"gpus"`
	Phase    string             `json:"phase,omitempty"`
	Log      logFacts           `json:"log"`
	Result   *estimate.Result   `json:"result,omitempty"`
	Remedies []estimate.Remedy  `json:"remedies"`
	Findings []incident.Finding `json:"findings"`
}

// tailLines is how much of a log is read: an engine's traceback has a few hundred.
const tailLines = 2000

func (t *Toolset) podTool() (tool.Tool, error) {
	logs := newLogReader()
	return read("fit_pod", func(ctx context.Context, in PodIn) (tool.Output[PodFit], error) {
		if t.objects == nil {
			return tool.Output[PodFit]{}, tool.Errorf(tool.NotServed, "fit_pod: no cluster is configured")
		}
		p, err := t.objects.Pod(ctx, in.Namespace, in.Name)
		if err != nil {
			return tool.Output[PodFit]{}, err
		}
		j := &podJudge{t: t, ref: incident.Ref{Cluster: t.cluster, Kind: "Pod", Namespace: in.Namespace, Name: in.Name}}
		j.out = PodFit{Remedies: []estimate.Remedy{}, Findings: []incident.Finding{}}
		s, ok := engineOf(p)
		if !ok {
			return tool.Output[PodFit]{Data: j.out, Text: "pod " + j.ref.Path() + " starts no serving engine"}, nil
		}
		j.serving = s
		j.out.Serving, j.out.Container, j.out.GPUs = true, s.container, s.gpus
		j.out.Engine, j.out.Settings, j.out.Model = s.settings.Title(), s.settings.String(), s.settings.Model
		j.life = lifeOf(p, s.container)
		j.out.Phase = string(j.life.phase)
		if j.life.phase == isFailing && t.logs != nil {
			j.readLog(ctx, logs, in, j.life.restarts > 0)
		}
		k, why := t.modelOf(ctx, p, s)
		j.out.Source, j.out.Unknown = k.about, why
		g, about, noGPU := t.gpuOf(ctx, p)
		j.out.GPU, j.gpuAbout = g.Name, about
		j.judge(k, why, g, noGPU)
		return tool.Output[PodFit]{Data: j.out, Text: j.text(), Findings: j.out.Findings}, nil
	})
}

// podJudge collects the judgement of one pod.
type podJudge struct {
	t        *Toolset
	ref      incident.Ref
	serving  serving
	life     life
	out      PodFit
	gpuAbout string
	lines    []string
	// logSeen says that some of the failed run's log was read.
	logSeen bool
}

func (j *podJudge) line(format string, args ...any) {
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// readLog reads the run that failed: the previous one after a restart.
func (j *podJudge) readLog(ctx context.Context, r *logReader, in PodIn, restarted bool) {
	for _, previous := range []bool{restarted, !restarted} {
		text, err := j.t.logs.Tail(ctx, in.Namespace, in.Name, j.serving.container, previous, tailLines)
		if err != nil {
			j.line("the log of %s cannot be read: %s", j.serving.container, tool.UserText(err))
			continue
		}
		f := r.read(text)
		if f.Reason != "" || j.out.Log == (logFacts{}) {
			j.out.Log = f
		}
		j.logSeen = j.logSeen || strings.TrimSpace(text) != ""
		if f.Reason != "" {
			break
		}
	}
	if l := j.out.Log; l.Reason != "" {
		j.line("log: %s", l.Line)
	} else if l.Other != "" {
		j.line("log: %s", l.Other)
	}
}

// judge evaluates what is known and turns it into findings. Only a container that
// fails gets a fault, and only when its log says so or says nothing else.
func (j *podJudge) judge(k known, why string, g estimate.GPU, noGPU string) {
	s, ph := j.serving, j.life.phase
	if s.argErr != nil {
		j.line("an argument cannot be read: %v", s.argErr)
		j.context("fit.model_unknown", "its arguments cannot be read: "+s.argErr.Error(), nil)
		return
	}
	if why != "" {
		j.line("not judged: %s", why)
		if l := j.out.Log; ph == isFailing && l.Reason == tooLong && l.Longest > 0 {
			// The engine's own figures need no dimensions.
			j.tooLong(estimate.Result{Context: l.MaxLen}, estimate.GPU{Name: cmp.Or(g.Name, "its GPU")})
			return
		}
		j.context("fit.model_unknown", "pod "+j.ref.Path()+": "+why, nil)
		return
	}
	in := estimate.Input{Model: k.model, Engine: s.settings, GPU: g, Weights: k.bytes, WeightsFrom: k.from, Context: j.contextOf(k), Available: s.gpus}
	if s.spread {
		in.Available = 0
		j.line("the engine spans several pods, so the number of GPUs is not checked")
	}
	if noGPU != "" {
		// Shape can be judged without memory.
		j.line("memory is not judged: %s", noGPU)
		in.GPU = estimate.GPU{Name: "an unknown GPU", Bytes: 1 << 50}
	}
	if l := j.out.Log; l.LoadedGiB > 0 {
		in.WeightsFrom = "the engine's log"
		in.Weights = int64(l.LoadedGiB * estimate.GiB * float64(s.settings.Tensor()*s.settings.Pipe()))
	}
	r, err := estimate.Evaluate(in)
	if err != nil {
		j.line("not judged: %v", err)
		j.context("fit.model_unknown", err.Error(), nil)
		return
	}
	if noGPU == "" {
		j.out.Result = &r
		j.line("%s on %d x %s (%s): %s, %s", k.model.Name, r.GPUs, g.Name, j.gpuAbout, r.Verdict, r.Limit)
		j.out.Remedies = append(j.out.Remedies, estimate.Remedies(in, r, j.t.desk.larger())...)
	}
	for _, m := range j.out.Remedies {
		j.line("would do: %s (%s)", m.Setting, m.Verdict)
	}
	switch ph {
	case isServing:
		j.context("fit.fits", fmt.Sprintf("%s runs on %s", k.model.Name, cmp.Or(g.Name, "its GPUs")), nil)
	case isFailing:
		j.faults(in, r, noGPU == "")
	case isStarting, isWaiting:
		j.forecast(r, g, noGPU == "")
	}
}

// contextOf is the length the engine must have room for.
func (j *podJudge) contextOf(k known) int {
	s := j.serving.settings
	switch {
	case j.out.Log.MaxLen > 0 && j.out.Log.Reason == tooLong:
		return j.out.Log.MaxLen
	case s.MaxLen > 0:
		return s.MaxLen
	case s.AutoLen || s.File != "" || k.model.MaxContext == 0:
		// The engine shrinks it, or a file that is not seen may say it.
		return 1
	}
	return k.model.MaxContext
}

// faults names what keeps a failing engine from starting.
func (j *podJudge) faults(in estimate.Input, r estimate.Result, memory bool) {
	l := j.out.Log
	for _, p := range r.Problems {
		if j.problem(p, in, r) {
			return
		}
	}
	if len(r.Blocking()) > 0 {
		j.context("fit.unlikely", "it cannot start like this ("+r.Blocking()[0]+"); its log names something else", map[string]string{"verdict": string(r.Verdict)})
		return
	}
	if !memory {
		return
	}
	says := l.Reason == noCache || l.Reason == outOfMemory
	switch {
	case l.Reason == occupied:
		j.context("fit.unlikely", "the GPU is not empty when the engine starts: "+l.Line, map[string]string{"verdict": string(r.Verdict)})
	case l.Reason == tooLong:
		j.tooLong(r, in.GPU)
	case says && r.Verdict == estimate.Fits:
		j.context("fit.unlikely", fmt.Sprintf("the log says that memory ran out, the arithmetic leaves at least %s: something else holds the GPU's memory, or is not counted", estimate.Size(r.PerGPU.Cache.High)), map[string]string{"verdict": string(r.Verdict)})
	case r.Verdict == estimate.Fits:
	case !says && j.logSeen:
		// An engine that lacks memory says so.
		j.context("fit.unlikely", fmt.Sprintf("by the arithmetic it is %s (%s); its log does not say so", r.Verdict, r.Limit), map[string]string{"verdict": string(r.Verdict)})
	case !says && j.serving.settings.File != "":
		j.context("fit.unlikely", fmt.Sprintf("by the arithmetic it is %s (%s), as far as its settings are seen", r.Verdict, r.Limit), map[string]string{"verdict": string(r.Verdict)})
	case !says && j.life.killed:
		j.context("fit.unlikely", fmt.Sprintf("by the arithmetic it is %s (%s); it was killed from outside before it could say so", r.Verdict, r.Limit), map[string]string{"verdict": string(r.Verdict)})
	default:
		j.memory(r, in.GPU, says)
	}
}

// memory names what is missing: room for the weights, or for one sequence.
func (j *podJudge) memory(r estimate.Result, g estimate.GPU, says bool) {
	conf := 0.6
	if says {
		conf = 0.96
	}
	b, l := r.PerGPU, j.out.Log
	switch {
	case l.Cache && l.CacheGiB <= 0 && l.LoadedGiB > 0:
		// The engine measured it.
		j.fault("fit.does_not_fit", conf, fmt.Sprintf("%s does not fit %d x %s: weights of %.2f GiB a GPU leave %.2f GiB for the KV cache", j.out.Model, r.GPUs, g.Name, l.LoadedGiB, l.CacheGiB), g,
			map[string]string{"weights": fmt.Sprintf("%.2f GiB", l.LoadedGiB), "budget": estimate.Size(b.Budget)})
	case r.Verdict == estimate.Tight:
		j.fault("fit.tight", conf-0.04, fmt.Sprintf("%s only just fits %s: %s", j.out.Model, g.Name, r.Limit), g, nil)
	case b.Cache.Low > 0:
		j.tooLong(r, g)
	default:
		j.fault("fit.does_not_fit", conf, fmt.Sprintf("%s does not fit %d x %s: %s", j.out.Model, r.GPUs, g.Name, r.Limit), g,
			map[string]string{"weights": estimate.Size(b.Weights), "budget": estimate.Size(b.Budget)})
	}
}

// tooLong says that one sequence of the engine's length has no room. Where the
// engine itself said so, its figures stand.
func (j *podJudge) tooLong(r estimate.Result, g estimate.GPU) {
	l := j.out.Log
	longest, conf := r.Capacity.Mid.MaxContext, 0.6
	text := r.Limit
	if l.Reason == tooLong {
		conf = 0.97
		if l.Longest > 0 {
			longest = l.Longest
		}
		text = l.Line
		if l.NeededGiB > 0 {
			text = fmt.Sprintf("one sequence of %d tokens takes %.2f GiB of KV cache, the engine found %.2f GiB", l.MaxLen, l.NeededGiB, l.CacheGiB)
		}
	}
	context := cmp.Or(l.MaxLen, r.Context)
	p := map[string]string{"context": fmt.Sprint(context), "longest": fmt.Sprint(longest)}
	if longest > 0 {
		p["change"] = fmt.Sprintf("%s %d", j.serving.settings.LenFlag(), longest)
	}
	j.fault("fit.context_too_long", conf, fmt.Sprintf("%s on %s: %s; the longest that fits is %d", j.out.Model, g.Name, text, longest), g, p)
}

// problem turns a structural problem into a fault where the log agrees or names
// nothing else; it reports whether it did.
func (j *podJudge) problem(p estimate.Problem, in estimate.Input, r estimate.Result) bool {
	kinds := map[string]struct {
		code   string
		reason reason
	}{
		"tp_indivisible": {"fit.tp_indivisible", indivisible}, "quantisation_unaligned": {"fit.quantisation_unaligned", unaligned},
		"gpu_count": {"fit.gpu_count", tooFewGPUs}, "context_exceeds_model": {"fit.context_exceeds_model", beyondModel}, "dtype_unsupported": {"fit.dtype_unsupported", dtypeRefused},
	}
	k, ok := kinds[p.Code]
	if !ok || p.Code == "context_exceeds_model" && j.serving.longAllowed {
		return false
	}
	l := j.out.Log
	conf := 0.97
	if l.Reason != k.reason {
		// Without its own words the log must at least not name another reason.
		bare := l.Bare && (p.Code == "tp_indivisible" || p.Code == "quantisation_unaligned")
		if l.Reason != "" || l.Other != "" || !p.Blocking || j.life.killed || j.logSeen && !bare {
			return false
		}
		conf = 0.7
		if bare {
			conf = 0.93
		}
	}
	params := map[string]string{"reason": p.Text, "need": fmt.Sprint(in.Engine.GPUs()), "have": fmt.Sprint(in.Available), "context": fmt.Sprint(in.Context), "longest": fmt.Sprint(in.Model.MaxContext)}
	if p.Fix != "" {
		params["change"] = p.Fix
	}
	if len(j.out.Remedies) > 0 && p.Code != "dtype_unsupported" && p.Code != "context_exceeds_model" {
		params["change"] = j.out.Remedies[0].Setting
	}
	j.fault(k.code, conf, fmt.Sprintf("%s: %s", j.out.Model, p.Text), in.GPU, params)
	return true
}

// forecast says what is to be expected of an engine that has not started yet.
func (j *podJudge) forecast(r estimate.Result, g estimate.GPU, memory bool) {
	switch {
	case len(r.Blocking()) > 0:
		j.context("fit.unlikely", "it will not start: "+r.Blocking()[0], map[string]string{"verdict": string(estimate.No)})
	case memory && r.Verdict != estimate.Fits:
		j.context("fit.unlikely", fmt.Sprintf("by the arithmetic it is %s: %s", r.Verdict, r.Limit), map[string]string{"verdict": string(r.Verdict)})
	case memory:
		j.context("fit.fits", fmt.Sprintf("%s fits %d x %s: %s", j.out.Model, r.GPUs, g.Name, r.Limit), nil)
	}
}

// context records what explains nothing by itself.
func (j *podJudge) context(code, message string, params map[string]string) {
	p := map[string]string{"model": cmp.Or(j.out.Model, "(not named)"), "gpu": cmp.Or(j.out.GPU, "(not known)")}
	maps.Copy(p, params)
	sev := incident.Info
	if code == "fit.unlikely" {
		sev = incident.Warning
	}
	j.out.Findings = append(j.out.Findings, incident.Finding{Code: code, Role: incident.Context, Severity: sev, Subject: j.ref, Message: message, Params: p})
}

// fault records what keeps the engine from starting.
func (j *podJudge) fault(code string, confidence float64, message string, g estimate.GPU, params map[string]string) {
	p := map[string]string{"container": j.serving.container, "model": cmp.Or(j.out.Model, "(not named)"), "gpu": g.Name, "change": "a larger GPU, more of them, or a smaller model"}
	if len(j.out.Remedies) > 0 {
		p["change"] = j.out.Remedies[0].Setting
	}
	maps.Copy(p, params)
	if n := j.split(p["change"]); n > cmp.Or(j.out.GPUs, j.serving.settings.GPUs()) {
		p["gpus"] = fmt.Sprint(n)
	}
	j.out.Findings = append(j.out.Findings, incident.Finding{Code: code, Role: incident.Fault, Severity: incident.Critical, Subject: j.ref, Message: message, Params: p, Confidence: confidence})
}

// split is over how many GPUs a change of the settings splits a model; 0 when it says
// nothing of it.
func (j *podJudge) split(change string) int {
	m := regexp.MustCompile(`--(?:tensor-parallel-size|tp-size|tp)[ =](\d+)`).FindStringSubmatch(change)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// text writes the answer; every name and figure of the findings is in it.
func (j *podJudge) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pod %s, container %s: %s serves %s (%s), %s\n", j.ref.Path(), j.out.Container, j.out.Engine, cmp.Or(j.out.Model, "no named model"), j.out.Settings, j.out.Phase)
	if j.out.Source != "" {
		fmt.Fprintf(&b, "  dimensions: %s\n", j.out.Source)
	}
	if j.out.GPUs > 0 {
		fmt.Fprintf(&b, "  GPUs of the container: %d\n", j.out.GPUs)
	}
	for _, l := range j.lines {
		b.WriteString("  " + l + "\n")
	}
	for _, f := range j.out.Findings {
		fmt.Fprintf(&b, "  %s %s: %s", f.Role, f.Code, f.Message)
		if c := f.Params["change"]; c != "" {
			fmt.Fprintf(&b, "; change: %s", c)
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

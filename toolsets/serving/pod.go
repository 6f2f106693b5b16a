package serving

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// PodIn names a pod.
type PodIn struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

const (
	// tailLines is how much of a log is read: an engine's traceback has a few hundred.
	tailLines = 1500
	// recentLog is how old a line may be to speak of the present of an engine that serves.
	recentLog = 30 * time.Minute
)

func (t *Toolset) podTool() (tool.Tool, error) {
	return read("serving_pod", func(ctx context.Context, in PodIn) (tool.Output[Judged], error) {
		p, err := t.pods.Pod(ctx, in.Namespace, in.Name)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		v := t.judgePod(ctx, p)
		d, text := v.judged()
		return tool.Output[Judged]{Data: d, Text: text, Findings: v.findings, Edges: v.edges}, nil
	})
}

// judgePod says what an engine's own log and settings tell of its trouble.
func (t *Toolset) judgePod(ctx context.Context, p *corev1.Pod) *verdict {
	v := newVerdict(t.podRef(p))
	v.state = podState(p)
	e, serving := engineOf(p)
	if serving {
		v.system = e.kind
		v.fact("engine", e.kind)
		v.fact("model", e.model)
		v.fact("served_names", strings.Join(e.names, ", "))
		v.line("container %s runs %s, model %s, served as %s", e.container, e.kind, cmp.Or(e.model, "(not said)"), cmp.Or(strings.Join(e.names, ", "), "(not said)"))
	}
	t.podQueue(ctx, v, p)
	if !serving && !usesGPU(p) && groupOf(p) == nil {
		v.line("no serving engine, and no GPU")
		return v
	}
	for _, c := range p.Spec.Containers {
		if serving && c.Name == e.container && e.kind != picker && c.ReadinessProbe == nil {
			v.context("serving.no_readiness_probe", fmt.Sprintf("container %s of pod %s has no readiness probe: it counts as ready before it can answer", c.Name, v.subject.Path()), params("container", c.Name))
		}
	}
	var all []hit
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Name == e.container || usesGPU(p) || groupOf(p) != nil {
			all = append(all, t.container(ctx, v, p, c)...)
		}
	}
	t.victims(ctx, v, p, all)
	if e.kind == vllm || e.kind == sglang {
		t.askedFor(v, all, e)
		t.sideChannel(v, p, e, all)
	}
	return v
}

func podState(p *corev1.Pod) string {
	switch {
	case ready(p):
		return healthy
	case p.Status.Phase == corev1.PodFailed:
		return failed
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.RestartCount > 0 {
			return failed
		}
	}
	return progressing
}

// container reads one container's logs and turns what they show into findings.
func (t *Toolset) container(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.Container) []hit {
	st, ok := statusOf(p, c.Name)
	if !ok || st.State.Running == nil && st.State.Terminated == nil && st.LastTerminationState.Terminated == nil {
		return nil
	}
	down := !st.Ready && (st.RestartCount > 0 || st.State.Terminated != nil && st.State.Terminated.ExitCode != 0)
	since := time.Time{}
	if st.Ready {
		since = t.now().Add(-recentLog)
	}
	var hits []hit
	var log string
	// The run that failed tells why: the previous one after a restart.
	for _, previous := range []bool{down && st.State.Terminated == nil, down && st.State.Terminated != nil && st.RestartCount > 0} {
		if log != "" && !previous {
			break
		}
		text, err := t.logs.Tail(ctx, p.Namespace, p.Name, c.Name, previous, tailLines)
		if err != nil {
			v.line("the log of %s cannot be read: %s", c.Name, tool.UserText(err))
			continue
		}
		if hits = t.signs.read(text, since); len(hits) > 0 || log == "" {
			log = text
		}
		if len(hits) > 0 {
			break
		}
	}
	if down && len(hits) == 0 && st.State.Terminated == nil {
		// A container that just started again may say it already.
		if text, err := t.logs.Tail(ctx, p.Namespace, p.Name, c.Name, false, tailLines); err == nil {
			hits = t.signs.read(text, since)
			if log == "" {
				log = text
			}
		}
	}
	hits = slices.DeleteFunc(hits, func(h hit) bool { return h.sign.Phase == atStart && st.Ready || h.sign.Phase == atServe && !st.Ready })
	t.heard(v, p, c, st, hits)
	if down {
		t.killedWhileLoading(v, p, c, st, log)
		t.busError(v, p, c, st, hits)
	}
	if !st.Ready && st.State.Running != nil && !down {
		if line := lastMatch(log, loading()); line != "" {
			v.context("serving.loading", fmt.Sprintf("container %s of pod %s has run for %s and is loading: %s", c.Name, v.subject.Path(), t.ago(st.State.Running.StartedAt.Time), line), params("container", c.Name, "line", line))
		}
	}
	return hits
}

func statusOf(p *corev1.Pod, name string) (corev1.ContainerStatus, bool) {
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.Name == name {
			return c, true
		}
	}
	return corev1.ContainerStatus{}, false
}

// heard turns signatures into findings: one fault a container, the surest.
func (t *Toolset) heard(v *verdict, p *corev1.Pod, c corev1.Container, st corev1.ContainerStatus, hits []hit) {
	best, have := decisive(hits)
	for _, h := range hits {
		times := ""
		if h.count > 1 {
			times = fmt.Sprintf(" (%d times)", h.count)
		}
		v.line("log of %s, %s: %s%s; %s", c.Name, h.sign.ID, h.line, times, h.sign.Meaning)
		ps := params("container", c.Name, "line", h.line, "mode", h.sign.ID, "meaning", h.sign.Meaning, "way", h.sign.Way, "count", fmt.Sprint(h.count))
		if h.sign.Within {
			ps["within"] = "program"
		}
		if s := setting(h.sign.Code, h.line); s != "" {
			ps["set"] = s
		}
		f := incident.Finding{Code: h.sign.Code, Role: h.sign.Role, Severity: incident.Warning, Subject: v.subject, Params: ps, FirstSeen: h.first, LastSeen: h.last,
			Message: fmt.Sprintf("container %s of pod %s: %s: %s%s", c.Name, v.subject.Path(), h.sign.Meaning, h.line, times)}
		switch h.sign.Role {
		case incident.Fault:
			if !have || h.sign != best.sign {
				continue
			}
			f.Severity, f.Confidence = incident.Critical, h.sign.Confidence
			if h.sign.Code == "serving.shm_too_small" && !sharedMemory(p, c) {
				f.Confidence = 0.94
				f.Message += "; nothing is mounted at /dev/shm, so it has the runtime's 64 MiB"
			}
			if st.Ready {
				// It serves all the same: what its log complains of is not the whole truth.
				f.Confidence = min(f.Confidence, 0.8)
			}
		case incident.Context:
			f.Severity = incident.Info
		}
		v.add(f)
	}
}

// setting is the flag that an engine itself asks for in a line, "--flag=value"; empty
// when it gives no value. vLLM names the longest context that its cache can hold, and
// takes a LoRA rank of its own list only (vllm/config/lora.py, MaxLoRARanks).
func setting(code, line string) string {
	switch code {
	case "serving.engine_memory":
		if m := regexp.MustCompile(`estimated maximum model length is (\d+)`).FindStringSubmatch(line); m != nil && m[1] != "0" {
			return "--max-model-len=" + m[1]
		}
	case "serving.lora_refused":
		m := regexp.MustCompile(`LoRA rank (\d+) is greater than max_lora_rank`).FindStringSubmatch(line)
		if m == nil {
			return ""
		}
		n, err := strconv.Atoi(m[1])
		for _, r := range []int{8, 16, 32, 64, 128, 256, 320, 512} {
			if err == nil && n <= r {
				return "--max-lora-rank=" + strconv.Itoa(r)
			}
		}
	}
	return ""
}

// sharedMemory reports whether a container has memory of its own size at /dev/shm.
func sharedMemory(p *corev1.Pod, c corev1.Container) bool {
	for _, m := range c.VolumeMounts {
		if strings.TrimSuffix(m.MountPath, "/") != "/dev/shm" {
			continue
		}
		for _, vol := range p.Spec.Volumes {
			if vol.Name == m.Name && (vol.EmptyDir == nil || vol.EmptyDir.Medium == corev1.StorageMediumMemory) {
				return true
			}
		}
	}
	return p.Spec.HostIPC
}

// busError explains SIGBUS of an engine of several GPUs without shared memory of
// its own: pages of /dev/shm beyond its size cannot be touched.
func (t *Toolset) busError(v *verdict, p *corev1.Pod, c corev1.Container, st corev1.ContainerStatus, hits []hit) {
	end := cmp.Or(st.State.Terminated, st.LastTerminationState.Terminated)
	if end == nil || end.ExitCode != 135 || gpusOf(p) < 2 || sharedMemory(p, c) || len(hits) > 0 {
		return
	}
	v.fault("serving.shm_too_small", 0.86, v.subject, fmt.Sprintf("container %s of pod %s ends with a bus error (exit code 135); it uses %d GPUs and nothing is mounted at /dev/shm, so it has the runtime's 64 MiB", c.Name, v.subject.Path(), gpusOf(p)),
		params("container", c.Name, "line", "exit code 135 (SIGBUS)", "mode", "F14", "meaning", "/dev/shm is too small for the processes of one engine to talk through", "way", "mount an emptyDir of medium Memory at /dev/shm, 8 to 20 GiB, and raise the memory limit by as much", "count", "1", "within", "program"))
}

// loading are the words of an engine on its way up, and up those of one that is.
func loading() *regexp.Regexp {
	return regexp.MustCompile(`(?i)loading (?:safetensors|pt|model|weights|checkpoint)|checkpoint shards:|capturing (?:the )?(?:cuda )?graph|torch\.compile|compiling (?:a )?graph|downloading|fetching \d+ files|starting to load model|memory profiling|warm(?:ing)? ?up`)
}

func up() *regexp.Regexp {
	return regexp.MustCompile(`(?i)application startup complete|uvicorn running on|the server is fired up|started http|started grpcinferenceservice|server is ready`)
}

// killedWhileLoading finds the probe that ends an engine which was still loading:
// it lived just as long as its probe allows, each time.
func (t *Toolset) killedWhileLoading(v *verdict, p *corev1.Pod, c corev1.Container, st corev1.ContainerStatus, log string) {
	end := st.LastTerminationState.Terminated
	if end == nil {
		end = st.State.Terminated
	}
	if end == nil || end.Reason == "OOMKilled" || end.ExitCode != 137 && end.ExitCode != 143 && end.ExitCode != 0 || st.RestartCount == 0 {
		return
	}
	line := lastMatch(log, loading())
	if line == "" || lastMatch(log, up()) != "" {
		return
	}
	lived := end.FinishedAt.Sub(end.StartedAt.Time)
	grace := 30 * time.Second
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	for _, x := range []struct {
		name  string
		probe *corev1.Probe
	}{{"startup", c.StartupProbe}, {"liveness", c.LivenessProbe}} {
		if x.probe == nil {
			continue
		}
		period, tries := cmp.Or(x.probe.PeriodSeconds, 10), cmp.Or(x.probe.FailureThreshold, 3)
		budget := time.Duration(x.probe.InitialDelaySeconds+period*tries) * time.Second
		slack := time.Duration(2*period)*time.Second + grace + 15*time.Second
		if lived < budget-time.Duration(period)*time.Second || lived > budget+slack {
			continue
		}
		v.fault("serving.probe_kills_loading", 0.95, v.subject, fmt.Sprintf("the %s probe of container %s in pod %s gives it %s, and it was ended after %s while it was still loading: %s", x.name, c.Name, v.subject.Path(), budget, lived.Round(time.Second), line),
			params("container", c.Name, "probe", x.name, "budget", budget.String(), "lived", lived.Round(time.Second).String(), "line", line))
		return
	}
}

// victims ties a Ray process that does not reach its head, or waits for peers, to
// those that are in trouble of their own. Collectives are compared rank by rank by
// the logs toolset.
func (t *Toolset) victims(ctx context.Context, v *verdict, p *corev1.Pod, hits []hit) {
	set := groupOf(p)
	if set == nil || !slices.ContainsFunc(hits, func(h hit) bool {
		return h.sign.Code == "serving.head_unreachable" || h.sign.Code == "serving.group_waiting"
	}) {
		return
	}
	peers, err := t.pods.Matching(ctx, p.Namespace, labels.SelectorFromSet(set))
	if err != nil {
		return
	}
	for _, q := range peers {
		if q.Name == p.Name || over(q) || ready(q) {
			continue
		}
		if own := t.ownTrouble(ctx, q); own != "" {
			v.line("peer %s is in trouble of its own: %s", q.Name, own)
			v.edge(v.subject, graph.GroupedWith, t.podRef(q))
		}
	}
}

// ownTrouble says what a peer suffers that is not its peers' doing, empty if
// nothing is seen.
func (t *Toolset) ownTrouble(ctx context.Context, q *corev1.Pod) string {
	if q.Spec.NodeName == "" {
		return "it has no node"
	}
	for _, c := range q.Spec.Containers {
		st, _ := statusOf(q, c.Name)
		if end := st.LastTerminationState.Terminated; end != nil && end.Reason == "OOMKilled" {
			return "OOMKilled"
		}
		for _, previous := range []bool{false, true} {
			if previous && st.RestartCount == 0 {
				continue
			}
			log, err := t.logs.Tail(ctx, q.Namespace, q.Name, c.Name, previous, tailLines)
			if err != nil {
				continue
			}
			if h, ok := decisive(t.signs.read(log, time.Time{})); ok {
				return h.line
			}
		}
	}
	return ""
}

// askedFor compares the names that clients ask for with those that are served.
func (t *Toolset) askedFor(v *verdict, hits []hit, e engine) {
	i := slices.IndexFunc(hits, func(h hit) bool { return h.sign.Code == "serving.model_name_unknown" })
	if i < 0 || len(e.names) == 0 {
		return
	}
	m := regexp.MustCompile("The model [`'\"]*([^`'\" ]+)[`'\"]* does not exist").FindStringSubmatch(hits[i].line)
	if m == nil || slices.Contains(e.names, m[1]) {
		return
	}
	v.fault("serving.model_name_mismatch", 0.82, v.subject, fmt.Sprintf("clients ask for model %s, %d times in the log that was read; pod %s serves %s", m[1], hits[i].count, v.subject.Path(), strings.Join(e.names, ", ")),
		params("asked", m[1], "served", strings.Join(e.names, ", "), "where", "the engine's log"))
}

// sideChannel looks behind a failing KV transfer: the address that an engine gives
// to its peers must be the pod's own.
func (t *Toolset) sideChannel(v *verdict, p *corev1.Pod, e engine, hits []hit) {
	if !slices.ContainsFunc(hits, func(h hit) bool { return h.sign.Code == "serving.kv_transfer_failing" }) {
		return
	}
	t.hostOf(v, p, e)
}

// hostOf compares the address that an engine gives to its peers with the pod's own.
func (t *Toolset) hostOf(v *verdict, p *corev1.Pod, e engine) {
	const name = "VLLM_NIXL_SIDE_CHANNEL_HOST"
	if host := e.env[name]; host != "" && host != "$(status.podIP)" && host != p.Status.PodIP {
		v.fault("serving.side_channel_host", 0.9, t.podRef(p), fmt.Sprintf("%s of pod %s is %s, and its address is %s: the other side cannot reach it for KV blocks", name, t.podRef(p).Path(), host, p.Status.PodIP), params("host", host, "ip", p.Status.PodIP, "container", e.container))
	}
}

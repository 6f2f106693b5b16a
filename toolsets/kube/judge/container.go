package judge

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// Times a container may take before its state is trouble.
const (
	// creating: volumes, sandbox and devices without a complaint of the kubelet.
	creating = 5 * time.Minute
	// fetching: a large image; GPU images take many minutes.
	fetching = 20 * time.Minute
	// preparing: an init container that works, a download of weights for example.
	preparing = 30 * time.Minute
	// calm: a container that has been ready for so long has recovered.
	calm = 10 * time.Minute
	// flapping: restarts that far apart belong to one trouble.
	flapping = 20 * time.Minute
)

// startup says that a bound pod's containers do not start.
func (j *judge) startup(ctx context.Context, v *verdict, p *corev1.Pod, evs []source.Event) {
	if p.Status.Phase != corev1.PodPending {
		return
	}
	since := j.boundAt(p)
	waited := j.now().Sub(since)
	warned := slices.ContainsFunc(evs, func(e source.Event) bool {
		// The kubelet repeats what stays wrong within two minutes.
		return e.Warning() && e.Reason != "FailedScheduling" && e.Last.After(since.Add(-settle)) && j.now().Sub(e.Last) < creating
	})
	said := slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
		return c.State.Waiting != nil && !quiet(c.State.Waiting.Reason)
	})
	if !said && !warned {
		grace := creating
		working := waited
		if c, at, ok := initRunning(p); ok {
			grace, working = preparing, j.now().Sub(at)
			v.line("init container %s runs for %s", c, j.ago(at))
		} else if len(evs) > 0 && evs[0].Reason == "Pulling" {
			grace, working = fetching, j.now().Sub(evs[0].Last)
		}
		if working < grace {
			v.line("starting since %s", j.ago(since))
			return
		}
	}
	if waited < settle && !said {
		return
	}
	v.symptom("kube.pod_creating", incident.Warning, fmt.Sprintf("Pod %s does not start its containers since %s (%s)", v.subject.Path(), j.ago(since), v.state), params("reason", v.state))
	if e, ok := has(evs, []string{"FailedCreatePodSandBox", "NetworkNotReady"}); ok && !mounted(p) && e.Warning() && j.now().Sub(e.Last) < creating {
		j.agents(ctx, v, p.Spec.NodeName, e.Message)
		v.fault("kube.sandbox_failed", incident.Critical, 0.88, v.subject, fmt.Sprintf("the sandbox of pod %s cannot be created on %s: %s", v.subject.Path(), p.Spec.NodeName, e.Message), params("message", e.Message))
	}
}

// mounted reports whether the kubelet got past volumes and sandbox: it says so itself
// (Kubernetes 1.29), or a container has come as far as its image.
func mounted(p *corev1.Pod) bool {
	if c := condition(p, corev1.PodReadyToStartContainers); c != nil && c.Status == corev1.ConditionTrue {
		return true
	}
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
		return c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil || c.State.Waiting != nil && !quiet(c.State.Waiting.Reason)
	})
}

// boundAt is when the pod got its node.
func (j *judge) boundAt(p *corev1.Pod) time.Time {
	if c := condition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return p.CreationTimestamp.Time
}

// quiet reasons say only that the container's turn has not come.
func quiet(reason string) bool {
	return reason == "" || reason == "ContainerCreating" || reason == "PodInitializing"
}

// initRunning finds the init container that is at work, sidecars left out.
func initRunning(p *corev1.Pod) (string, time.Time, bool) {
	for _, c := range p.Status.InitContainerStatuses {
		if c.State.Running != nil && !restartable(p, c.Name) {
			return c.Name, c.State.Running.StartedAt.Time, true
		}
	}
	return "", time.Time{}, false
}

// containers judges each container; it reports whether any is in trouble.
func (j *judge) containers(ctx context.Context, v *verdict, p *corev1.Pod, evs []source.Event) bool {
	before := len(abnormal(v.findings))
	for i, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		init := i < len(p.Status.InitContainerStatuses) && !restartable(p, c.Name)
		if init && c.State.Terminated != nil && c.State.Terminated.ExitCode == 0 {
			continue
		}
		v.line("container %s: %s, %d restarts", c.Name, stateWord(c.State), c.RestartCount)
		switch {
		case c.State.Waiting != nil:
			j.waiting(ctx, v, p, c, init, evs)
		case c.State.Terminated != nil:
			if t := c.State.Terminated; !ready(p) && (t.ExitCode != 0 || p.Spec.RestartPolicy == corev1.RestartPolicyAlways && c.RestartCount > 2) {
				j.ended(ctx, v, p, c, t, init)
			}
		case c.State.Running != nil && init:
			j.preparing(ctx, v, p, c)
		case c.State.Running != nil:
			j.running(ctx, v, p, c, evs)
		}
	}
	return len(abnormal(v.findings)) > before
}

func abnormal(fs []incident.Finding) []incident.Finding {
	return slices.DeleteFunc(slices.Clone(fs), func(f incident.Finding) bool { return f.Role != incident.Symptom && f.Role != incident.Fault })
}

func stateWord(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		return "waiting " + s.Waiting.Reason
	case s.Terminated != nil:
		return fmt.Sprintf("ended %s with exit code %d", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Running != nil:
		return "running"
	}
	return "not started"
}

// waiting judges a container that does not run, by the kubelet's own reason.
func (j *judge) waiting(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus, init bool, evs []source.Event) {
	w := c.State.Waiting
	switch {
	case pulling(w.Reason):
		j.image(ctx, v, p, c.Name, imageOf(p, c), w, evs)
	case w.Reason == "CrashLoopBackOff":
		t := c.LastTerminationState.Terminated
		if t == nil {
			t = &corev1.ContainerStateTerminated{Reason: "Unknown", ExitCode: -1}
		}
		v.fault("kube.container_crash_loop", incident.Warning, 0.45, v.subject, fmt.Sprintf("container %s of pod %s ends again and again (%d restarts, last exit code %d%s)", c.Name, v.subject.Path(), c.RestartCount, t.ExitCode, signalOf(t.ExitCode)),
			params("container", c.Name, "exit_code", strconv.Itoa(int(t.ExitCode)), "restarts", strconv.Itoa(int(c.RestartCount))))
		if t.Reason != "OOMKilled" && j.killedByProbe(v, p, c, t, evs) {
			return
		}
		j.ended(ctx, v, p, c, t, init)
	case w.Reason == "CreateContainerConfigError":
		j.configError(ctx, v, p, c.Name, w.Message)
	case !quiet(w.Reason):
		v.fault("kube.container_start_error", incident.Critical, 0.9, v.subject, fmt.Sprintf("container %s of pod %s cannot be started: %s", c.Name, v.subject.Path(), firstOf(w.Message, w.Reason)), params("container", c.Name, "message", firstOf(w.Message, w.Reason)))
	}
}

// killedByProbe reports whether the kubelet, and not the program, ended the
// container: it was told to go, and a probe that restarts failed.
func (j *judge) killedByProbe(v *verdict, p *corev1.Pod, c corev1.ContainerStatus, t *corev1.ContainerStateTerminated, evs []source.Event) bool {
	killing := slices.ContainsFunc(evs, func(e source.Event) bool { return killedBy(e, c.Name) })
	if !killing && t.ExitCode != 137 && t.ExitCode != 143 {
		return false
	}
	return j.probeEvents(v, p, probes{container: c.Name, started: t.StartedAt.Time, killed: true}, evs)
}

func imageOf(p *corev1.Pod, c corev1.ContainerStatus) string {
	if s := containerSpec(p, c.Name); s != nil {
		return s.Image
	}
	return c.Image
}

// preparing looks at an init container that has been at work for long: it may
// wait for something that never comes, and its log says so.
func (j *judge) preparing(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus) {
	since := c.State.Running.StartedAt.Time
	if j.now().Sub(since) < creating {
		return
	}
	l := j.decisive(ctx, p, c.Name, false)
	if l.weight < 4 && !j.awaited(v, p, c.Name, &l) {
		return
	}
	v.line("log of %s says: %s", c.Name, l.line)
	v.symptom("kube.pod_creating", incident.Warning, fmt.Sprintf("Pod %s waits for its init container %s since %s", v.subject.Path(), c.Name, j.ago(since)), params("reason", v.state))
	j.heard(ctx, v, p, c.Name, l.line)
	v.fault("kube.init_container_failing", incident.Critical, 0.75, v.subject, fmt.Sprintf("init container %s of pod %s does not end since %s: %s", c.Name, v.subject.Path(), j.ago(since), l.line), params("container", c.Name, "log", l.line, "within", within(l), "below", below(l.line)))
}

// running judges a container that runs: a recent restart, a failing probe.
func (j *judge) running(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus, evs []source.Event) {
	started := c.State.Running.StartedAt.Time
	last := c.LastTerminationState.Terminated
	up := j.now().Sub(started)
	a := probes{container: c.Name, started: started, ready: c.Ready}
	if last != nil && c.RestartCount > 0 {
		restarted := params("container", c.Name, "exit_code", strconv.Itoa(int(last.ExitCode)), "restarts", strconv.Itoa(int(c.RestartCount)))
		switch {
		case c.Ready && up > calm:
			code, why := "kube.container_crash_loop", fmt.Sprintf("exit code %d", last.ExitCode)
			if last.Reason == "OOMKilled" {
				code, why = "kube.container_oom_killed", "OOMKilled"
				restarted["limit"] = firstOf(memoryLimit(p, c.Name), "none")
			}
			v.history(code, fmt.Sprintf("container %s of pod %s restarted %d times, last %s ago (%s); it runs since", c.Name, v.subject.Path(), c.RestartCount, j.ago(last.FinishedAt.Time), why), last.FinishedAt.Time, restarted)
			return
		case j.now().Sub(last.FinishedAt.Time) < flapping && (c.RestartCount > 2 || last.Reason == "OOMKilled" || j.probeKilled(evs, c.Name)):
			if !j.killedByProbe(v, p, c, last, evs) {
				j.ended(ctx, v, p, c, last, false)
			}
			if ready(p) && len(abnormal(v.findings)) > 0 {
				v.symptom("kube.pod_not_ready", incident.Warning, fmt.Sprintf("Pod %s restarts its container %s again and again (%d times)", v.subject.Path(), c.Name, c.RestartCount), params("reason", "Restarting"))
			}
			return
		case c.Ready:
			v.history("kube.container_crash_loop", fmt.Sprintf("container %s of pod %s restarted %s ago (exit code %d%s); it is ready again", c.Name, v.subject.Path(), j.ago(last.FinishedAt.Time), last.ExitCode, signalOf(last.ExitCode)), last.FinishedAt.Time, restarted)
			return
		}
	}
	if c.Ready {
		return
	}
	found := j.probeEvents(v, p, a, evs)
	if found || up > creating {
		j.runningLog(ctx, v, p, c)
	}
}

// killedBy reports an event with which the kubelet says that it restarts a container
// for a probe: "Container app failed liveness probe, will be restarted".
func killedBy(e source.Event, container string) bool {
	return e.Reason == "Killing" && strings.HasPrefix(e.Message, "Container "+container+" failed ") && containsAny(e.Message, "liveness probe", "startup probe")
}

func (j *judge) probeKilled(evs []source.Event, container string) bool {
	return slices.ContainsFunc(evs, func(e source.Event) bool {
		return killedBy(e, container) && j.now().Sub(e.Last) < probeAge
	})
}

// runningLog quotes what a container that runs and is not ready complains of.
// A complaint explains little by itself, save a right the API server refuses.
func (j *judge) runningLog(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus) {
	l := j.decisive(ctx, p, c.Name, false)
	if l.weight < 2 {
		// What only waits is no complaint, and says for whom.
		if victim.MatchString(l.line) || patient.MatchString(l.line) {
			v.line("log of %s says: %s", c.Name, l.line)
			j.heard(ctx, v, p, c.Name, l.line)
		}
		return
	}
	v.line("log of %s says: %s", c.Name, l.line)
	j.heard(ctx, v, p, c.Name, l.line)
	v.context("kube.log_errors", fmt.Sprintf("container %s of pod %s writes: %s", c.Name, v.subject.Path(), l.line), params("container", c.Name, "pattern", l.line, "count", strconv.Itoa(l.count)))
}

// ended judges why a container ended.
func (j *judge) ended(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus, t *corev1.ContainerStateTerminated, init bool) {
	code := strconv.Itoa(int(t.ExitCode))
	start := t.Reason == "StartError" || t.Reason == "ContainerCannotRun" || t.ExitCode == 126 || t.ExitCode == 127 || (t.ExitCode == 128 && t.Message != "")
	switch {
	case t.Reason == "OOMKilled" || t.ExitCode == 137 && j.nodeOOM(ctx, p, t):
		j.oom(v, p, c, t)
		return
	case start && t.Message != "":
		v.fault("kube.container_start_error", incident.Critical, 0.92, v.subject, fmt.Sprintf("container %s of pod %s cannot be started: %s", c.Name, v.subject.Path(), t.Message), params("container", c.Name, "message", t.Message))
		return
	}
	l := j.decisive(ctx, p, c.Name, c.State.Terminated == nil)
	line := firstOf(l.line, oneLine(t.Message, 300))
	said := ""
	if line != "" {
		v.line("log of %s says: %s", c.Name, line)
		said = ": " + line
	}
	j.heard(ctx, v, p, c.Name, line)
	if line == "" && l.denied && !start {
		v.line("the log of %s may not be read", c.Name)
		v.unexplained(c.Name, code)
		return
	}
	switch {
	case start || containsAny(line, "exec format error"):
		if containsAny(line, "exec format error") {
			said += j.architecture(ctx, p)
		}
		v.fault("kube.container_start_error", incident.Critical, 0.9, v.subject, fmt.Sprintf("container %s of pod %s cannot be started (exit code %s)%s", c.Name, v.subject.Path(), code, said), params("container", c.Name, "message", firstOf(line, "exit code "+code)))
	case init:
		v.fault("kube.init_container_failing", incident.Critical, 0.9, v.subject, fmt.Sprintf("init container %s of pod %s ends with exit code %s%s%s", c.Name, v.subject.Path(), code, signalOf(t.ExitCode), said), params("container", c.Name, "exit_code", code, "log", line, "within", within(l), "below", below(line)))
	case t.ExitCode == 0:
		v.fault("kube.container_exit_error", incident.Critical, 0.8, v.subject, fmt.Sprintf("container %s of pod %s ends with exit code 0 though it should keep running (restartPolicy %s)%s", c.Name, v.subject.Path(), p.Spec.RestartPolicy, said), params("container", c.Name, "exit_code", code, "log", line, "within", within(l), "below", below(line)))
	case t.ExitCode < 0:
		// Nothing is known of how it ended.
	default:
		conf := 0.82
		switch {
		case (t.ExitCode == 137 || t.ExitCode == 143) && l.weight < 3:
			// It was told to go, and nothing that is seen says by whom.
			conf, said = 0.6, "; what ended it is not said"+said
		case line == "":
			// That it ends says nothing of why.
			conf = 0.48
		}
		v.fault("kube.container_exit_error", incident.Critical, conf, v.subject, fmt.Sprintf("container %s of pod %s ends with exit code %s%s%s", c.Name, v.subject.Path(), code, signalOf(t.ExitCode), said), params("container", c.Name, "exit_code", code, "log", line, "within", within(l), "below", below(line)))
	}
}

func (j *judge) oom(v *verdict, p *corev1.Pod, c corev1.ContainerStatus, t *corev1.ContainerStateTerminated) {
	limit := memoryLimit(p, c.Name)
	text := "at its memory limit " + limit
	if limit == "" {
		text = "without a memory limit of its own: the node ran out of memory"
	}
	v.fault("kube.container_oom_killed", incident.Critical, 0.95, v.subject, fmt.Sprintf("container %s of pod %s was OOMKilled %s (exit code %d, %d restarts)", c.Name, v.subject.Path(), text, t.ExitCode, c.RestartCount), params("container", c.Name, "limit", firstOf(limit, "none"), "within", map[bool]string{true: "limit"}[limit != ""]))
}

// nodeOOM reports whether the node says that it killed for memory when the
// container was killed.
func (j *judge) nodeOOM(ctx context.Context, p *corev1.Pod, t *corev1.ContainerStateTerminated) bool {
	if p.Spec.NodeName == "" || t.FinishedAt.IsZero() {
		return false
	}
	evs, err := j.src.Events(ctx, "", j.ref("", "Node", "", p.Spec.NodeName))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(evs, func(e source.Event) bool {
		return (e.Reason == "SystemOOM" || e.Reason == "OOMKilling") && e.Last.Sub(t.FinishedAt.Time).Abs() < 2*time.Minute
	})
}

// logRight reads a refused right out of a log line: then the ServiceAccount, or
// rather what it lacks, is at fault.
func (j *judge) logRight(v *verdict, p *corev1.Pod, line string) {
	m := refusedRight.FindStringSubmatch(line)
	if m == nil {
		return
	}
	to := j.ref("", "ServiceAccount", firstOf(m[1], p.Namespace), firstOf(m[2], p.Spec.ServiceAccountName, "default"))
	where := firstOf(m[6], "the whole cluster")
	v.edge(v.subject, graph.Uses, to)
	v.fault("kube.rbac_forbidden", incident.Critical, 0.93, to, fmt.Sprintf("ServiceAccount %s of pod %s may not %s %s in %s", to.Path(), v.subject.Path(), m[3], m[4], where), params("verb", m[3], "resource", m[4], "group", m[5], "namespace", m[6]))
}

func memoryLimit(p *corev1.Pod, container string) string {
	if c := containerSpec(p, container); c != nil {
		if q, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
			return q.String()
		}
	}
	if p.Spec.Resources != nil {
		if q, ok := p.Spec.Resources.Limits[corev1.ResourceMemory]; ok {
			return q.String()
		}
	}
	return ""
}

func firstOf(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}

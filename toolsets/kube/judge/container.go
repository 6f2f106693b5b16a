package judge

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// startup says that a bound pod's containers do not start.
func (j *judge) startup(v *verdict, p *corev1.Pod, evs []source.Event) {
	if p.Status.Phase != corev1.PodPending {
		return
	}
	since := p.CreationTimestamp.Time
	if p.Status.StartTime != nil {
		since = p.Status.StartTime.Time
	}
	_, warned := has(slices.DeleteFunc(slices.Clone(evs), func(e source.Event) bool { return !e.Warning() || e.Reason == "FailedScheduling" }), nil)
	if j.now().Sub(since) < 2*settle && !warned {
		v.line("starting since %s", j.ago(since))
		return
	}
	v.symptom("kube.pod_creating", incident.Warning, fmt.Sprintf("Pod %s does not start its containers since %s (%s)", v.subject.Path(), j.ago(since), v.state), params("reason", v.state))
	if e, ok := has(evs, []string{"FailedCreatePodSandBox"}); ok {
		v.fault("kube.sandbox_failed", incident.Critical, 0.88, v.subject, fmt.Sprintf("the sandbox of pod %s cannot be created on %s: %s", v.subject.Path(), p.Spec.NodeName, e.Message), params("message", e.Message))
	}
}

// containers judges each container; it reports whether any is in trouble.
func (j *judge) containers(ctx context.Context, v *verdict, p *corev1.Pod, evs []source.Event) bool {
	before := len(v.findings)
	for i, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		init := i < len(p.Status.InitContainerStatuses)
		v.line("container %s: %s, %d restarts", c.Name, stateWord(c.State), c.RestartCount)
		if w := c.State.Waiting; w != nil {
			j.waiting(ctx, v, p, c, w, init, evs)
		}
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 && !ready(p) {
			j.ended(ctx, v, p, c, t, init)
		}
		if r := c.State.Running; r != nil {
			j.running(ctx, v, p, c, r.StartedAt.Time, init, evs)
		}
	}
	return len(v.findings) > before
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
func (j *judge) waiting(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus, w *corev1.ContainerStateWaiting, init bool, evs []source.Event) {
	image := imageOf(p, c)
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable":
		text := w.Message
		for _, e := range evs {
			if e.Reason == "Failed" && containsAny(e.Message, "pull") {
				text += " " + e.Message
			}
		}
		j.image(v, p, c.Name, image, w.Reason, text)
	case "CrashLoopBackOff":
		t := c.LastTerminationState.Terminated
		if t == nil {
			t = &corev1.ContainerStateTerminated{Reason: "Unknown"}
		}
		v.fault("kube.container_crash_loop", incident.Warning, 0.55, v.subject, fmt.Sprintf("container %s of pod %s ends again and again (%d restarts, last exit code %d)", c.Name, v.subject.Path(), c.RestartCount, t.ExitCode),
			params("container", c.Name, "exit_code", strconv.Itoa(int(t.ExitCode)), "restarts", strconv.Itoa(int(c.RestartCount))))
		j.ended(ctx, v, p, c, t, init)
		j.probeEvents(v, p, c.Name, evs, false)
	case "CreateContainerConfigError":
		j.configError(v, p, c.Name, w.Message)
	case "CreateContainerError", "RunContainerError", "PreStartHookError", "PostStartHookError":
		v.fault("kube.container_start_error", incident.Critical, 0.9, v.subject, fmt.Sprintf("container %s of pod %s cannot be started: %s", c.Name, v.subject.Path(), w.Message), params("container", c.Name, "message", w.Message))
	}
}

func imageOf(p *corev1.Pod, c corev1.ContainerStatus) string {
	for _, s := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if s.Name == c.Name {
			return s.Image
		}
	}
	return c.Image
}

// image tells the reasons of a failed pull apart, by the words of containerd,
// CRI-O and the registries behind them.
func (j *judge) image(v *verdict, p *corev1.Pod, container, image, reason, text string) {
	code, what := "kube.image_pull_failed", "cannot be pulled"
	switch {
	case reason == "ErrImageNeverPull":
		code, what = "kube.image_never_pull", "is not on the node and imagePullPolicy is Never"
	case reason == "InvalidImageName" || containsAny(text, "invalid reference format", "couldn't parse image"):
		code, what = "kube.image_invalid_name", "is no valid image reference"
	case containsAny(text, "unauthorized", "authentication required", "authorization failed", "no basic auth", "failed to authorize", "401", "403 forbidden", "denied:", "access denied", "insufficient_scope", "pull access denied", "not authorized"):
		code, what = "kube.image_unauthorized", "is refused by the registry: the credentials are wrong or missing"
	case containsAny(text, "not found", "manifest unknown", "manifest for", "name unknown", "does not exist", "404", "no such image", "no match for platform"):
		code, what = "kube.image_not_found", "does not exist in the registry"
	case containsAny(text, "no such host", "connection refused", "i/o timeout", "dial tcp", "tls handshake", "x509", "network is unreachable", "context deadline exceeded", "temporary failure in name resolution", "server misbehaving", "toomanyrequests", "429", "503 service"):
		code, what = "kube.image_registry_unreachable", "cannot be fetched: the registry does not answer as it should"
	}
	secrets := make([]string, 0, len(p.Spec.ImagePullSecrets))
	for _, s := range p.Spec.ImagePullSecrets {
		secrets = append(secrets, s.Name)
	}
	v.line("image %s: %s", image, text)
	v.fault(code, incident.Critical, 0.95, v.subject, fmt.Sprintf("image %s of container %s in pod %s %s", image, container, v.subject.Path(), what), params("image", image, "container", container, "pull_secret", strings.Join(secrets, ", ")))
}

// running judges a container that runs: a recent restart, a failing probe.
func (j *judge) running(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus, started time.Time, init bool, evs []source.Event) {
	last := c.LastTerminationState.Terminated
	again := last != nil && c.RestartCount > 0
	calm := c.Ready && j.now().Sub(started) > 10*time.Minute
	switch {
	case again && calm:
		v.history("kube.container_crash_loop", fmt.Sprintf("container %s of pod %s restarted %d times, last %s ago; it runs since", c.Name, v.subject.Path(), c.RestartCount, j.ago(last.FinishedAt.Time)), last.FinishedAt.Time, params("container", c.Name, "exit_code", strconv.Itoa(int(last.ExitCode)), "restarts", strconv.Itoa(int(c.RestartCount))))
		return
	case again && c.RestartCount > 2 && j.now().Sub(last.FinishedAt.Time) < 20*time.Minute:
		if !j.probeEvents(v, p, c.Name, evs, true) {
			j.ended(ctx, v, p, c, last, init)
		}
		if len(v.findings) > 0 && ready(p) {
			v.symptom("kube.pod_not_ready", incident.Warning, fmt.Sprintf("Pod %s restarts its container %s again and again (%d times)", v.subject.Path(), c.Name, c.RestartCount), params("reason", "Restarting"))
		}
		return
	}
	if !c.Ready && !init {
		j.probeEvents(v, p, c.Name, evs, false)
	}
}

// probeEvents names the probe that fails, from the kubelet's events. With
// killed set only a probe that restarts the container counts.
func (j *judge) probeEvents(v *verdict, p *corev1.Pod, container string, evs []source.Event, killed bool) bool {
	kinds := []struct{ word, code, probe string }{
		{"Startup probe failed", "kube.startup_probe_failing", "startup"},
		{"Liveness probe failed", "kube.liveness_probe_failing", "liveness"},
		{"Readiness probe failed", "kube.readiness_probe_failing", "readiness"},
	}
	for _, k := range kinds {
		if killed && k.probe == "readiness" {
			continue
		}
		e, ok := has(evs, []string{"Unhealthy"}, k.word)
		if !ok || (e.Container() != "" && e.Container() != container) || j.now().Sub(e.Last) > 15*time.Minute {
			continue
		}
		probe := probeOf(p, container, k.probe)
		v.line("%s probe of %s: %s; %s", k.probe, container, describeProbe(probe), e.Message)
		v.fault(k.code, incident.Critical, 0.9, v.subject, fmt.Sprintf("the %s probe of container %s in pod %s fails: %s", k.probe, container, v.subject.Path(), strings.TrimPrefix(e.Message, k.word+": ")),
			params("container", container, "probe", describeProbe(probe), "message", e.Message))
		return true
	}
	return false
}

func probeOf(p *corev1.Pod, container, kind string) *corev1.Probe {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Name == container {
			return map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe}[kind]
		}
	}
	return nil
}

func describeProbe(p *corev1.Probe) string {
	switch {
	case p == nil:
		return "unknown"
	case p.HTTPGet != nil:
		return fmt.Sprintf("GET %s on port %s", p.HTTPGet.Path, p.HTTPGet.Port.String())
	case p.TCPSocket != nil:
		return "TCP port " + p.TCPSocket.Port.String()
	case p.GRPC != nil:
		return fmt.Sprintf("gRPC port %d", p.GRPC.Port)
	case p.Exec != nil:
		return "command " + strings.Join(p.Exec.Command, " ")
	}
	return "unknown"
}

// ended judges why a container ended.
func (j *judge) ended(ctx context.Context, v *verdict, p *corev1.Pod, c corev1.ContainerStatus, t *corev1.ContainerStateTerminated, init bool) {
	code := strconv.Itoa(int(t.ExitCode))
	switch {
	case t.Reason == "OOMKilled":
		limit := memoryLimit(p, c.Name)
		v.fault("kube.container_oom_killed", incident.Critical, 0.95, v.subject, fmt.Sprintf("container %s of pod %s was OOMKilled at its memory limit %s (exit code %s, %d restarts)", c.Name, v.subject.Path(), limit, code, c.RestartCount), params("container", c.Name, "limit", limit))
		return
	case t.Reason == "StartError" || t.Reason == "ContainerCannotRun" || t.ExitCode == 127 || (t.ExitCode == 128 && t.Message != ""):
		v.fault("kube.container_start_error", incident.Critical, 0.92, v.subject, fmt.Sprintf("container %s of pod %s cannot be started: %s", c.Name, v.subject.Path(), firstOf(t.Message, t.Reason+", exit code "+code)), params("container", c.Name, "message", t.Message))
		return
	}
	line := j.decisive(ctx, p, c.Name, c.State.Terminated == nil)
	if line == "" {
		line = oneLine(t.Message, 200)
	}
	said := ""
	if line != "" {
		v.line("log of %s says: %s", c.Name, line)
		said = ": " + line
	}
	if m := forbidden().FindStringSubmatch(line); m != nil {
		sa := firstOf(p.Spec.ServiceAccountName, "default")
		to := j.ref("", "ServiceAccount", p.Namespace, sa)
		v.edge(v.subject, graph.Uses, to)
		v.fault("kube.rbac_forbidden", incident.Critical, 0.93, to, fmt.Sprintf("ServiceAccount %s/%s of pod %s may not %s %s", p.Namespace, sa, v.subject.Path(), m[1], m[2]), params("verb", m[1], "resource", m[2], "namespace", p.Namespace))
	}
	if init {
		v.fault("kube.init_container_failing", incident.Critical, 0.9, v.subject, fmt.Sprintf("init container %s of pod %s ends with exit code %s%s", c.Name, v.subject.Path(), code, said), params("container", c.Name, "exit_code", code))
		return
	}
	v.fault("kube.container_exit_error", incident.Critical, 0.82, v.subject, fmt.Sprintf("container %s of pod %s ends with exit code %s%s", c.Name, v.subject.Path(), code, said), params("container", c.Name, "exit_code", code, "log", line))
}

// forbidden reads the API server's refusal out of a log line.
func forbidden() *regexp.Regexp {
	return regexp.MustCompile(`cannot (get|list|watch|create|update|patch|delete|use) resource "([^"]+)"`)
}

func memoryLimit(p *corev1.Pod, container string) string {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if q, ok := c.Resources.Limits[corev1.ResourceMemory]; ok && c.Name == container {
			return q.String()
		}
	}
	return "of the node"
}

func firstOf(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}

// decisive finds the line of a log that says why the process ended: the last
// one that names an error, else the last one. The text is quoted, never obeyed.
func (j *judge) decisive(ctx context.Context, p *corev1.Pod, container string, previous bool) string {
	log, err := j.src.Logs(ctx, p.Namespace, p.Name, source.LogQuery{Container: container, Previous: previous, Tail: 200, Limit: 64 << 10})
	if err != nil || strings.TrimSpace(log.Text) == "" {
		if log, err = j.src.Logs(ctx, p.Namespace, p.Name, source.LogQuery{Container: container, Previous: !previous, Tail: 200, Limit: 64 << 10}); err != nil {
			return ""
		}
	}
	lines := strings.Split(strings.TrimSpace(log.Text), "\n")
	best, weight := "", 0
	for _, l := range lines {
		if w := telling(l); w >= weight && w > 0 {
			best, weight = l, w
		}
	}
	if best == "" && len(lines) > 0 {
		best = lines[len(lines)-1]
	}
	return oneLine(best, 240)
}

// telling weighs how much a log line says about a failure: concrete causes
// before cries of woe.
func telling(l string) int {
	switch {
	case containsAny(l, "connection refused", "no such file", "permission denied", "cannot resource", "is forbidden", "no such host", "out of memory", "cuda error", "nccl", "address already in use",
		"exec format error", "no space left", "certificate", "unauthorized", "authentication failed", "already exists", "module not found", "modulenotfounderror", "importerror", "keyerror", "valueerror", "runtimeerror", "is not set", "missing required", "invalid", "timed out", "i/o timeout", "unable to"):
		return 3
	case containsAny(l, "panic:", "traceback", "fatal", "exception", "segmentation fault"):
		return 2
	case containsAny(l, "error", "failed", "err="):
		return 1
	}
	return 0
}

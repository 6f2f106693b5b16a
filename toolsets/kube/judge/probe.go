package judge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// probeAge is how recent a failed probe must be to speak of the present. The
// kubelet repeats the event as long as the probe fails.
const probeAge = 15 * time.Minute

// probes is what is asked about the probes of a container.
type probes struct {
	container string
	started   time.Time
	// killed: the container was restarted, so only probes that restart count.
	killed bool
	// ready is the container's own word.
	ready bool
}

// probeEvents names the probe that fails, from the kubelet's events.
func (j *judge) probeEvents(v *verdict, p *corev1.Pod, a probes, evs []source.Event) bool {
	kinds := []struct{ word, code, kind string }{
		{"Startup probe", "kube.startup_probe_failing", "startup"},
		{"Liveness probe", "kube.liveness_probe_failing", "liveness"},
		{"Readiness probe", "kube.readiness_probe_failing", "readiness"},
	}
	for _, k := range kinds {
		if (a.killed || a.ready) && k.kind == "readiness" {
			continue
		}
		e, ok := probeEvent(evs, k.word, a.container)
		if !ok || j.now().Sub(e.Last) > probeAge {
			continue
		}
		probe := probeOf(p, a.container, k.kind)
		if !a.killed && !j.overdue(a.started, probe, k.kind) {
			v.line("%s probe of %s fails and still has time: %s", k.kind, a.container, e.Message)
			continue
		}
		said := strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(e.Message, k.word), " failed:"), " errored:"))
		v.line("%s probe of %s: %s; %s", k.kind, a.container, describeProbe(probe), e.Message)
		v.fault(k.code, incident.Critical, 0.9, v.subject, fmt.Sprintf("the %s probe of container %s in pod %s (%s) fails: %s", k.kind, a.container, v.subject.Path(), describeProbe(probe), said),
			params("container", a.container, "probe", describeProbe(probe), "message", e.Message, "value", asksRightly(probe, e.Message)))
		j.probePort(v, p, a.container, k.kind, probe, e.Message)
		return true
	}
	return false
}

// probeEvent finds the newest failure of a kind of probe of a container.
func probeEvent(evs []source.Event, word, container string) (source.Event, bool) {
	for _, e := range evs {
		if e.Reason == "Unhealthy" && strings.HasPrefix(e.Message, word) && (e.Container() == "" || e.Container() == container) {
			return e, true
		}
	}
	return source.Event{}, false
}

// overdue reports whether a probe has had the time its own settings give it. A
// startup probe that still has tries left fails as planned, and a server that
// just started is not ready yet.
func (j *judge) overdue(started time.Time, p *corev1.Probe, kind string) bool {
	if p == nil || started.IsZero() {
		return true
	}
	period, tries := max(p.PeriodSeconds, 1), max(p.FailureThreshold, 1)
	if p.PeriodSeconds == 0 {
		period = 10
	}
	if p.FailureThreshold == 0 {
		tries = 3
	}
	budget := time.Duration(p.InitialDelaySeconds+period*tries) * time.Second
	if kind != "startup" {
		budget += 2 * settle
	}
	return j.now().Sub(started) > budget
}

// probePort finds a probe that asks a port nothing listens on, as far as the
// container declares: a name it does not have, or a number beside others.
func (j *judge) probePort(v *verdict, p *corev1.Pod, container, kind string, probe *corev1.Probe, message string) {
	c := containerSpec(p, container)
	port, ok := portOf(probe)
	if c == nil || !ok {
		return
	}
	var have []string
	for _, cp := range c.Ports {
		if port.Type == intstr.String && cp.Name == port.StrVal || port.Type == intstr.Int && cp.ContainerPort == port.IntVal {
			return
		}
		have = append(have, strings.TrimPrefix(fmt.Sprintf("%s/%d", cp.Name, cp.ContainerPort), "/"))
	}
	conf := 0.95
	if port.Type == intstr.Int {
		// Declaring ports is optional: only beside others, and refused, it tells.
		if len(have) == 0 || !containsAny(message, "connection refused") {
			return
		}
		conf = 0.92
	}
	slices.Sort(have)
	declared := strings.Join(have, ", ")
	if declared == "" {
		declared = "no port"
	}
	v.fault("kube.probe_port_mismatch", incident.Critical, conf, v.subject, fmt.Sprintf("the %s probe of container %s in pod %s asks port %s; the container declares %s", kind, container, v.subject.Path(), port.String(), declared),
		params("container", container, "probe", kind, "port", port.String(), "to", onlyPort(c)))
}

func portOf(p *corev1.Probe) (intstr.IntOrString, bool) {
	switch {
	case p == nil:
	case p.HTTPGet != nil:
		return p.HTTPGet.Port, true
	case p.TCPSocket != nil:
		return p.TCPSocket.Port, true
	case p.GRPC != nil:
		return intstr.FromInt32(p.GRPC.Port), true
	}
	return intstr.IntOrString{}, false
}

func containerSpec(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func probeOf(p *corev1.Pod, container, kind string) *corev1.Probe {
	c := containerSpec(p, container)
	if c == nil {
		return nil
	}
	return map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe}[kind]
}

func describeProbe(p *corev1.Probe) string {
	switch {
	case p == nil:
		return "unknown"
	case p.HTTPGet != nil:
		return fmt.Sprintf("GET %s on port %s", firstOf(p.HTTPGet.Path, "/"), p.HTTPGet.Port.String())
	case p.TCPSocket != nil:
		return "TCP port " + p.TCPSocket.Port.String()
	case p.GRPC != nil:
		return fmt.Sprintf("gRPC port %d", p.GRPC.Port)
	case p.Exec != nil:
		return "command " + strings.Join(p.Exec.Command, " ")
	}
	return "unknown"
}

package kube

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// ContainerView is what matters about a container of a pod or a pod template.
type ContainerView struct {
	// At is the template's field for a workload, empty for a pod.
	At   string `json:"at,omitempty"`
	Name string `json:"name"`
	Init bool   `json:"init,omitempty"`
	// Image as the spec has it.
	Image    string            `json:"image"`
	Requests map[string]string `json:"requests"`
	Limits   map[string]string `json:"limits"`
	Claims   []string          `json:"claims"`
	Ports    []string          `json:"ports"`
	Probes   []string          `json:"probes"`
	// State, Restarts and LastExit are of a pod's container.
	State    string `json:"state,omitempty"`
	Restarts int32  `json:"restarts"`
	LastExit string `json:"last_exit,omitempty"`
}

// containersOf views every container of an object's pod templates.
func containersOf(u *unstructured.Unstructured) []ContainerView {
	out := []ContainerView{}
	statuses := map[string]corev1.ContainerStatus{}
	if u.GetKind() == "Pod" {
		var pod corev1.Pod
		if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod) == nil {
			for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
				statuses[s.Name] = s
			}
		}
	}
	for _, t := range templatesOf(u) {
		at := t.at
		if u.GetKind() == "Pod" {
			at = ""
		}
		for i, c := range slices.Concat(t.spec.InitContainers, t.spec.Containers) {
			v := viewContainer(c)
			v.At, v.Init = at, i < len(t.spec.InitContainers)
			if s, ok := statuses[c.Name]; ok {
				v.Restarts = s.RestartCount
				v.State = containerState(s.State, s.Ready)
				if l := s.LastTerminationState.Terminated; l != nil {
					v.LastExit = exitText(l)
				}
			}
			out = append(out, v)
		}
	}
	return out
}

func viewContainer(c corev1.Container) ContainerView {
	v := ContainerView{Name: c.Name, Image: c.Image, Requests: quantities(c.Resources.Requests), Limits: quantities(c.Resources.Limits), Claims: []string{}, Ports: []string{}, Probes: []string{}}
	for _, cl := range c.Resources.Claims {
		name := cl.Name
		if cl.Request != "" {
			name += "/" + cl.Request
		}
		v.Claims = append(v.Claims, name)
	}
	for _, p := range c.Ports {
		port := fmt.Sprint(p.ContainerPort)
		if p.Name != "" {
			port = p.Name + ":" + port
		}
		v.Ports = append(v.Ports, port)
	}
	for _, p := range []struct {
		name  string
		probe *corev1.Probe
	}{{"startup", c.StartupProbe}, {"liveness", c.LivenessProbe}, {"readiness", c.ReadinessProbe}} {
		if p.probe != nil {
			v.Probes = append(v.Probes, p.name+" "+probeText(p.probe))
		}
	}
	return v
}

func quantities(l corev1.ResourceList) map[string]string {
	out := map[string]string{}
	for k, q := range l {
		out[string(k)] = q.String()
	}
	return out
}

// probeText writes a probe as people say it: "GET :8000/health every 10s, 3 failures".
func probeText(p *corev1.Probe) string {
	what := "?"
	switch {
	case p.HTTPGet != nil:
		what = fmt.Sprintf("GET :%s%s", p.HTTPGet.Port.String(), p.HTTPGet.Path)
	case p.TCPSocket != nil:
		what = "TCP :" + p.TCPSocket.Port.String()
	case p.GRPC != nil:
		what = fmt.Sprintf("gRPC :%d", p.GRPC.Port)
	case p.Exec != nil:
		what = "exec " + oneLine(strings.Join(p.Exec.Command, " "), 80)
	}
	if p.PeriodSeconds > 0 {
		what += fmt.Sprintf(" every %ds", p.PeriodSeconds)
	}
	if p.InitialDelaySeconds > 0 {
		what += fmt.Sprintf(" after %ds", p.InitialDelaySeconds)
	}
	if p.FailureThreshold > 0 {
		what += fmt.Sprintf(", %d failures", p.FailureThreshold)
	}
	return what
}

func containerState(s corev1.ContainerState, ready bool) string {
	switch {
	case s.Waiting != nil:
		return strings.TrimSpace("waiting " + s.Waiting.Reason + " " + oneLine(s.Waiting.Message, 300))
	case s.Terminated != nil:
		return exitText(s.Terminated)
	case s.Running != nil && ready:
		return "running, ready"
	case s.Running != nil:
		return "running, not ready"
	}
	return ""
}

func exitText(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("ended %s exit code %d", t.Reason, t.ExitCode)
	if t.Signal != 0 {
		text += fmt.Sprintf(" signal %d", t.Signal)
	}
	if !t.FinishedAt.IsZero() {
		text += " at " + t.FinishedAt.UTC().Format("2006-01-02T15:04:05Z")
	}
	if t.Message != "" {
		text += ": " + oneLine(t.Message, 300)
	}
	return text
}

func (v ContainerView) text() string {
	kind := "container"
	if v.Init {
		kind = "init container"
	}
	parts := []string{kind + " " + v.Name + ": image " + v.Image}
	if v.At != "" {
		parts[0] = v.At + " " + parts[0]
	}
	add := func(label, s string) {
		if s != "" {
			parts = append(parts, strings.TrimSpace(label+" "+s))
		}
	}
	plain := func(m map[string]string) string {
		any := map[string]any{}
		for k, s := range m {
			any[k] = s
		}
		return inlineMap(any)
	}
	add("", v.State)
	if v.Restarts > 0 {
		add("restarts", fmt.Sprint(v.Restarts))
	}
	if v.LastExit != "" {
		add("last run", v.LastExit)
	}
	add("requests", plain(v.Requests))
	add("limits", plain(v.Limits))
	add("claims", strings.Join(v.Claims, ","))
	add("ports", strings.Join(v.Ports, ","))
	add("probes", strings.Join(v.Probes, "; "))
	return strings.Join(parts, "; ")
}

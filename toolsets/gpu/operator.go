package gpu

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// component is a part of the GPU software of a node.
type component struct {
	// name for people, rank in the order in which they need each other.
	name string
	rank int
	// like are fragments of the pod's name or its app labels.
	like []string
	// needed says that pods get no GPU without it.
	needed bool
}

// components of the GPU operator, of AKS and of the DRA driver, in the order in
// which they wait for each other: the driver, then what mounts it, then the rest.
func components() []component {
	return []component{
		{"driver", 0, []string{"nvidia-driver-daemonset", "nvidia-gpu-driver", "nvidia-vgpu-manager"}, true},
		{"container toolkit", 1, []string{"nvidia-container-toolkit"}, true},
		{"MIG manager", 2, []string{"nvidia-mig-manager"}, false},
		{"MPS control daemon", 3, []string{"mps-control-daemon", "device-plugin-mps-control-daemon"}, true},
		{"device plugin", 4, []string{"nvidia-device-plugin"}, true},
		{"DRA kubelet plugin", 4, []string{"nvidia-dra-driver-gpu-kubelet-plugin"}, true},
		{"operator validator", 5, []string{"nvidia-operator-validator", "nvidia-cuda-validator"}, false},
		{"DCGM", 6, []string{"nvidia-dcgm"}, false},
		{exporter, 7, []string{"dcgm-exporter"}, false},
	}
}

const exporter = "DCGM exporter"

// componentOf tells which component a pod is; the longest name wins, since
// "nvidia-dcgm" is in "nvidia-dcgm-exporter".
func componentOf(p *corev1.Pod) (component, bool) {
	o := metav1.GetControllerOf(p)
	if o == nil || o.Kind != "DaemonSet" && o.Kind != "ReplicaSet" {
		return component{}, false
	}
	in := strings.Join([]string{p.Name, p.Labels["app"], p.Labels["app.kubernetes.io/name"]}, " ")
	best, length := component{}, 0
	for _, c := range components() {
		for _, l := range c.like {
			if strings.Contains(in, l) && len(l) > length {
				best, length = c, len(l)
			}
		}
	}
	return best, length > 0
}

// agent is a pod of a component on a node.
type agent struct {
	component
	pod *corev1.Pod
	why string
}

// agents lists the node's GPU software, in order.
func (m *machine) agents() []agent {
	var out []agent
	for _, p := range m.pods {
		if c, ok := componentOf(p); ok {
			out = append(out, agent{c, p, broken(p)})
		}
	}
	slices.SortStableFunc(out, func(a, b agent) int { return a.rank - b.rank })
	return out
}

// broken says what keeps a pod from being ready, empty if it is.
func broken(p *corev1.Pod) string {
	if well(p) || p.Status.Phase == corev1.PodSucceeded {
		return ""
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range list {
			w, l := s.State.Waiting, s.LastTerminationState.Terminated
			switch {
			case w != nil && w.Reason != "" && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating":
				why := fmt.Sprintf("container %s: %s, %d restarts", s.Name, w.Reason, s.RestartCount)
				if l != nil {
					why += fmt.Sprintf(", last exit code %d", l.ExitCode)
				}
				return why
			case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
				return fmt.Sprintf("container %s ended with exit code %d", s.Name, s.State.Terminated.ExitCode)
			case s.State.Running != nil && !s.Ready && strings.Contains(s.Name, "validation"):
				return fmt.Sprintf("container %s waits", s.Name)
			case s.State.Running != nil && !s.Ready && s.RestartCount > 0:
				return fmt.Sprintf("container %s is not ready, %d restarts", s.Name, s.RestartCount)
			}
		}
	}
	if r := p.Status.Reason; r != "" {
		return r
	}
	return "not ready"
}

// software judges the node's GPU software: of several parts that wait for each
// other the first one in their order is what is broken.
func (v *verdict) software(m *machine) {
	if v.t.Now().Sub(m.node.CreationTimestamp.Time) < settle {
		return
	}
	node := v.t.nodeRef(m.name)
	agents := m.agents()
	named := false
	for _, a := range agents {
		if a.why == "" || v.t.Now().Sub(a.pod.CreationTimestamp.Time) < settle && !strings.Contains(a.why, "BackOff") {
			continue
		}
		ref := v.t.podRef(a.pod.Namespace, a.pod.Name)
		v.line("%s: pod %s/%s: %s", a.name, a.pod.Namespace, a.pod.Name, a.why)
		switch {
		case a.name == exporter:
			v.find(incident.Finding{Code: "gpu.exporter_down", Subject: node, Confidence: unproven,
				Message: fmt.Sprintf("GPU telemetry of node %s is not seen: pod %s/%s of the DCGM exporter is not ready: %s", m.name, a.pod.Namespace, a.pod.Name, a.why), Params: params("pod", a.pod.Namespace+"/"+a.pod.Name, "why", a.why)})
			v.edge(incident.Edge{From: node, Relation: graph.Has, To: ref})
		case a.name == "MPS control daemon":
			v.ofNode(incident.Finding{Code: "gpu.mps_down", Subject: node, Confidence: 0.87,
				Message: fmt.Sprintf("the MPS control daemon of node %s is down: pod %s/%s: %s; programs that share its GPUs by MPS cannot connect", m.name, a.pod.Namespace, a.pod.Name, a.why),
				Params:  params("pod", a.pod.Namespace+"/"+a.pod.Name, "why", a.why, "agents", a.pod.Name)})
			v.looksAfter(node, ref)
		case named:
			// It waits for what is named already.
		case a.needed || a.name == "operator validator":
			named = true
			v.ofNode(incident.Finding{Code: "gpu.software_failed", Subject: node, Confidence: 0.86,
				Message: fmt.Sprintf("the %s of node %s does not come up: pod %s/%s: %s", a.name, m.name, a.pod.Namespace, a.pod.Name, a.why),
				Params:  params("component", a.name, "pod", a.pod.Namespace+"/"+a.pod.Name, "why", a.why, "agents", a.pod.Name)})
			v.looksAfter(node, ref)
		}
	}
}

// looksAfter ties a node, and the pod that is judged if there is one, to the pod
// that has to act for their GPUs.
func (v *verdict) looksAfter(node, agent incident.Ref) {
	v.edge(incident.Edge{From: node, Relation: graph.Has, To: agent})
	if !v.pod.IsZero() {
		v.edge(incident.Edge{From: v.pod, Relation: graph.ServedBy, To: agent})
	}
}

// exporterState says why there is no telemetry of a node, as far as its pods tell.
func (m *machine) exporterState() string {
	found := false
	for _, a := range m.agents() {
		if a.name != exporter {
			continue
		}
		found = true
		if a.why != "" {
			return fmt.Sprintf("pod %s/%s of the DCGM exporter is not ready: %s", a.pod.Namespace, a.pod.Name, a.why)
		}
	}
	if found {
		return "the DCGM exporter runs there, and Prometheus holds no series of it"
	}
	return "no DCGM exporter runs there"
}

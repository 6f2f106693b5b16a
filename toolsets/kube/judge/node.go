package judge

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// NodeIn names a node.
type NodeIn struct {
	Name string `json:"name"`
}

func (j *judge) nodeTool(ctx context.Context, in NodeIn) (tool.Output[Judged], error) {
	n, err := j.src.Node(ctx, in.Name)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	v := j.judgeNode(n)
	for i, f := range v.findings {
		if f.Code == "kube.node_network_unavailable" || f.Code == "kube.node_not_ready" && containsAny(f.Message, "cni", "network plugin") {
			if sick := j.agents(ctx, v, n.Name, f.Message); sick != "" {
				v.findings[i].Params["agents"] = sick
			}
		}
	}
	j.devicesMissing(ctx, v, n)
	return v.output(), nil
}

// judgeNode judges the conditions of a node by what they mean and say.
func (j *judge) judgeNode(n *corev1.Node) *verdict {
	v := newVerdict(j.ref("", "Node", "", n.Name))
	v.state = "ready"
	v.fact("kubelet", n.Status.NodeInfo.KubeletVersion)
	for _, c := range n.Status.Conditions {
		bad := harmful(c)
		if bad {
			v.line("condition %s is %s since %s: %s %s", c.Type, c.Status, j.ago(c.LastTransitionTime.Time), c.Reason, c.Message)
		}
		f := incident.Finding{Role: incident.Fault, Severity: incident.Critical, FirstSeen: c.LastTransitionTime.Time, LastSeen: c.LastHeartbeatTime.Time}
		switch {
		case !bad:
			continue
		case c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown:
			v.state = "unreachable"
			f.Code, f.Confidence = "kube.node_unreachable", 0.95
			f.Message = fmt.Sprintf("the kubelet of node %s stopped reporting %s ago: %s", n.Name, j.ago(c.LastTransitionTime.Time), c.Message)
			f.Params = params("since", j.ago(c.LastTransitionTime.Time))
		case c.Type == corev1.NodeReady:
			v.state = "not ready"
			f.Code, f.Confidence = "kube.node_not_ready", 0.95
			f.Message = fmt.Sprintf("node %s is not ready since %s: %s: %s", n.Name, j.ago(c.LastTransitionTime.Time), c.Reason, c.Message)
			f.Params = params("reason", c.Reason, "message", c.Message, "since", j.ago(c.LastTransitionTime.Time))
		case c.Type == corev1.NodeNetworkUnavailable:
			f.Code, f.Confidence = "kube.node_network_unavailable", 0.9
			f.Message = fmt.Sprintf("the network of node %s is not set up: %s", n.Name, c.Message)
			f.Params = params("message", c.Message)
		case strings.HasSuffix(string(c.Type), "Pressure"):
			f.Code, f.Confidence = "kube.node_pressure", 0.85
			f.Message = fmt.Sprintf("node %s reports %s: %s", n.Name, c.Type, c.Message)
			f.Params = params("condition", string(c.Type), "message", c.Message)
		default:
			f.Code, f.Confidence, f.Severity = "kube.node_condition", 0.7, incident.Warning
			f.Message = fmt.Sprintf("node %s reports %s=%s: %s: %s", n.Name, c.Type, c.Status, c.Reason, c.Message)
			f.Params = params("condition", string(c.Type), "reason", c.Reason, "message", c.Message)
		}
		v.find(f)
	}
	if n.Spec.Unschedulable {
		v.line("cordoned")
		v.context("kube.node_cordoned", fmt.Sprintf("node %s is cordoned", n.Name), nil)
	}
	for name, capacity := range n.Status.Capacity {
		if free := n.Status.Allocatable[name]; strings.Contains(string(name), "/") && free.Cmp(capacity) < 0 && !strings.HasPrefix(string(name), "hugepages") {
			v.line("allocatable %s of %s, capacity %s: the device plugin holds some back", free.String(), name, capacity.String())
			v.fault("kube.node_condition", incident.Warning, 0.65, v.subject, fmt.Sprintf("node %s offers %s of its %s %s: the device plugin reports the others unhealthy", n.Name, free.String(), capacity.String(), name),
				params("condition", string(name), "reason", "DevicesUnhealthy"))
		}
	}
	return v
}

// harmful judges a condition by its meaning and status. A name that states a
// good is harm when False, a name that states a problem is harm when True; a
// name that states neither is never accused.
func harmful(c corev1.NodeCondition) bool {
	switch c.Type {
	case corev1.NodeReady:
		return c.Status != corev1.ConditionTrue
	case corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeNetworkUnavailable:
		return c.Status == corev1.ConditionTrue
	}
	switch polarity(string(c.Type)) {
	case good:
		return c.Status == corev1.ConditionFalse
	case bad:
		return c.Status == corev1.ConditionTrue
	}
	return false
}

const (
	neither = iota
	good
	bad
)

// polarity reads the words of a condition's name. Problems are looked for
// first: "Unhealthy" holds "Healthy".
func polarity(name string) int {
	joined := " " + strings.ToLower(strings.Join(wordsOf(name), " ")) + " "
	if strings.Contains(joined, " no ") || strings.Contains(joined, " without ") {
		return neither
	}
	for _, w := range []string{"unhealthy", "not ready", "unready", "unavailable", "unreachable", "problem", "problems", "failed", "failure", "failing", "error", "errors", "deadlock", "readonly", "read only", "corrupt", "corruption", "frequent", "degraded", "lost", "stuck",
		"pressure", "exhausted", "expired", "hung", "oops", "panic", "faulty", "fault", "dead", "broken", "overheated", "throttled", "missing", "mismatch", "down", "outage", "full", "leak", "terminating", "preempted", "stale", "disconnected", "flapping", "crashed", "crashing", "overheating", "throttling", "hang", "timeout", "insufficient"} {
		if strings.Contains(joined, " "+w+" ") || (strings.HasPrefix(w, "corrupt") && strings.Contains(joined, " corrupt")) {
			return bad
		}
	}
	for _, w := range []string{"ready", "healthy", "available", "initialized", "ok", "up", "running", "succeeded", "installed", "validated", "synced", "configured", "connected", "established", "operational", "active", "online", "provisioned"} {
		if strings.HasSuffix(joined, " "+w+" ") {
			return good
		}
	}
	return neither
}

// wordsOf takes a name in camel case apart; capitals in a row are one word, save
// the last, which begins the next: "GPUXIDErrors" is "GPUXID Errors".
func wordsOf(name string) []string {
	name = regexp.MustCompile(`([a-z0-9])([A-Z])`).ReplaceAllString(name, "$1 $2")
	name = regexp.MustCompile(`([A-Z])([A-Z][a-z])`).ReplaceAllString(name, "$1 $2")
	return regexp.MustCompile(`[A-Za-z]+|\d+`).FindAllString(name, -1)
}

package judge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
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
	j.lease(ctx, v, n)
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

// silent is how old a node's lease may be. The kubelet renews it every 10 seconds,
// and after 40 the control plane calls the node unreachable.
const silent = 5 * time.Minute

// lease finds the node that is called ready and whose kubelet has long stopped
// reporting: nobody judges nodes any more.
func (j *judge) lease(ctx context.Context, v *verdict, n *corev1.Node) {
	l, err := j.src.Lease(ctx, corev1.NamespaceNodeLease, n.Name)
	if err != nil || l.Spec.RenewTime == nil || nodeReady(n) != corev1.ConditionTrue {
		return
	}
	if since := l.Spec.RenewTime.Time; j.now().Sub(since) > silent {
		v.state = "silent"
		text := fmt.Sprintf("the kubelet of node %s renewed its lease last %s ago, and the node is still called ready: the node controller does not run", n.Name, j.ago(since))
		v.line("%s", text)
		v.fault("kube.node_unreachable", incident.Critical, 0.75, v.subject, text, params("since", j.ago(since)))
	}
}

// judgeNode judges the conditions of a node by what they mean and say.
func (j *judge) judgeNode(n *corev1.Node) *verdict {
	v := newVerdict(j.ref("", "Node", "", n.Name))
	v.state = "ready"
	v.fact("kubelet", n.Status.NodeInfo.KubeletVersion)
	for _, c := range n.Status.Conditions {
		if !harmful(c) {
			continue
		}
		since := j.ago(c.LastTransitionTime.Time)
		v.line("condition %s is %s since %s: %s %s", c.Type, c.Status, since, c.Reason, c.Message)
		f := incident.Finding{Role: incident.Fault, Severity: incident.Critical, FirstSeen: c.LastTransitionTime.Time, LastSeen: c.LastHeartbeatTime.Time}
		f.Params = params("condition", string(c.Type), "reason", firstOf(c.Reason, string(c.Type)), "message", firstOf(c.Message, c.Reason, string(c.Type)), "since", since)
		switch {
		case c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown:
			v.state = "unreachable"
			f.Code, f.Confidence = "kube.node_unreachable", 0.95
			f.Message = fmt.Sprintf("the kubelet of node %s stopped reporting %s ago: %s", n.Name, since, c.Message)
		case c.Type == corev1.NodeReady:
			v.state = "not ready"
			f.Code, f.Confidence = "kube.node_not_ready", 0.95
			f.Message = fmt.Sprintf("node %s is not ready since %s: %s: %s", n.Name, since, c.Reason, c.Message)
		case c.Type == corev1.NodeNetworkUnavailable:
			f.Code, f.Confidence = "kube.node_network_unavailable", 0.9
			f.Message = fmt.Sprintf("the network of node %s is not set up: %s", n.Name, c.Message)
		case strings.HasSuffix(string(c.Type), "Pressure"):
			f.Code, f.Confidence = "kube.node_pressure", 0.85
			f.Message = fmt.Sprintf("node %s reports %s: %s", n.Name, c.Type, c.Message)
		default:
			f.Code, f.Confidence, f.Severity = "kube.node_condition", 0.7, incident.Warning
			f.Message = fmt.Sprintf("node %s reports %s=%s: %s: %s", n.Name, c.Type, c.Status, c.Reason, c.Message)
		}
		v.find(f)
	}
	if n.Spec.Unschedulable {
		v.line("cordoned")
		v.context("kube.node_cordoned", fmt.Sprintf("node %s is cordoned", n.Name), params("by", cordonedBy(n)))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Status.Capacity)) {
		capacity, free := n.Status.Capacity[name], n.Status.Allocatable[name]
		if filters.IsExtended(string(name)) && free.Cmp(capacity) < 0 {
			text := fmt.Sprintf("node %s offers %s of its %s %s: the device plugin reports the others unhealthy", n.Name, free.String(), capacity.String(), name)
			v.line("%s", text)
			v.fault("kube.node_condition", incident.Warning, 0.65, v.subject, text, params("condition", string(name), "reason", "DevicesUnhealthy", "message", text))
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

// wordsOf takes a name apart where its case changes: "SyslogXIDError" is syslog xid
// error, "GPUHealthy" is gpu healthy.
func wordsOf(name string) string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			r = ' '
		case i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])):
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return " " + strings.Join(strings.Fields(b.String()), " ") + " "
}

// polarity reads the words of a condition's name. Problems are looked for
// first: "Unhealthy" holds "Healthy".
func polarity(name string) int {
	joined := wordsOf(name)
	// "NoDeadlock" denies, and work on a node ("UpgradeRunning") is neither good nor harm.
	for _, w := range []string{"no", "without", "maintenance", "upgrade", "update", "drain", "draining", "reboot", "repair", "scheduled"} {
		if strings.Contains(joined, " "+w+" ") {
			return neither
		}
	}
	goods := []string{"ready", "healthy", "available", "initialized", "ok", "up", "running", "succeeded", "installed", "validated", "synced", "configured", "connected", "established", "operational", "active", "online", "provisioned"}
	for _, w := range []string{"unhealthy", "unready", "unavailable", "unreachable", "problem", "problems", "failed", "failure", "failures", "failing", "error", "errors", "deadlock", "readonly", "read only", "corrupt", "corruption", "frequent", "degraded", "lost", "stuck",
		"pressure", "exhausted", "expired", "hung", "oops", "panic", "faulty", "fault", "faults", "dead", "broken", "overheated", "throttled", "missing", "mismatch", "down", "outage", "full", "leak", "terminating", "preempted", "stale", "disconnected", "inactive", "offline", "crashed", "fatal", "shutdown", "flapping", "crashing", "overheating", "throttling", "hang", "timeout", "insufficient"} {
		if strings.Contains(joined, " "+w+" ") {
			return bad
		}
	}
	for _, w := range goods {
		if strings.Contains(joined, " not "+w+" ") {
			return bad
		}
	}
	if strings.Contains(joined, " corrupt") {
		return bad
	}
	for _, w := range goods {
		if strings.HasSuffix(joined, " "+w+" ") {
			return good
		}
	}
	return neither
}

package kube

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// settle is how long a custom object may be on its way before its own "not
// ready" counts: controllers take minutes to bring up a group of pods.
const settle = 5 * time.Minute

// objectChecks extends the walk to custom kinds: from a LeaderWorkerSet,
// RayCluster, JobSet or whatever a cluster has, to what it owns and refers to.
func objectChecks() []tool.Check {
	return []tool.Check{{
		Name: "custom object", Tool: "kube_describe", Applies: judged,
		Args: func(r incident.Ref) any {
			return describeIn{Kind: r.Kind + "." + r.Group, Name: r.Name, Namespace: r.Namespace}
		},
		Follow: []string{graph.Owns, graph.Claims, graph.FromTemplate, graph.Uses, graph.Mounts},
	}}
}

// judged reports whether a reference is of a custom kind, which no check of
// this toolset knows by heart.
func judged(r incident.Ref) bool {
	return strings.Contains(r.Group, ".") && !builtinGroup(r.Group) && r.Group != "gateway.networking.k8s.io" && r.Device == ""
}

// notReadyFinding gives the symptom of a custom object whose own conditions say that
// it is not ready or has failed, by the conventions of conditions: Ready or
// Available False, Failed or Degraded True. Objects that are suspended, being
// deleted, finished, scaled to zero or still settling are fine.
func notReadyFinding(now time.Time, u *unstructured.Unstructured, d DescribeOut) []incident.Finding {
	if !d.Deleting.IsZero() || stopped(u) {
		return nil
	}
	for _, c := range d.Conditions {
		if c.Status == "True" && (c.Type == "Completed" || c.Type == "Complete" || c.Type == "Succeeded" || c.Type == "Finished" || c.Type == "Suspended") {
			return nil
		}
	}
	for _, c := range d.Conditions {
		bad := c.Status == "False" && (c.Type == "Ready" || c.Type == "Available") ||
			c.Status == "True" && (c.Type == "Failed" || c.Type == "Degraded" || c.Type == "Stalled")
		since := c.Since
		if since.IsZero() {
			since = d.Created
		}
		if !bad || now.Sub(since) < settle {
			continue
		}
		msg := fmt.Sprintf("%s has condition %s %s", d.Ref, c.Type, c.Status)
		if c.Reason != "" {
			msg += " " + c.Reason
		}
		if c.Message != "" {
			msg += ": " + oneLine(c.Message, 400)
		}
		return []incident.Finding{{
			Code: "kube.object_not_ready", Severity: incident.Warning, Role: incident.Symptom, Subject: d.Ref, Message: msg,
			Params:    map[string]string{"condition": c.Type, "status": c.Status, "reason": c.Reason, "message": oneLine(c.Message, 400)},
			FirstSeen: c.Since, LastSeen: now,
		}}
	}
	return nil
}

// stopped reports whether an object is meant to have nothing running.
func stopped(u *unstructured.Unstructured) bool {
	for _, p := range [][]string{{"spec", "suspend"}, {"spec", "suspended"}, {"spec", "paused"}, {"spec", "runPolicy", "suspend"}} {
		if on, _, _ := unstructured.NestedBool(u.Object, p...); on {
			return true
		}
	}
	n, ok, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	return ok && n == 0
}

package kube

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
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
		Follow:  []string{graph.Owns, graph.Claims, graph.FromTemplate, graph.ServedBy, graph.Uses, graph.Mounts},
		Through: true,
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
		if c.Status == "True" && (c.Type == "Completed" || c.Type == "Complete" || c.Type == "Succeeded" || c.Type == "Finished" || c.Type == "Suspended" || c.Type == "Stopped") {
			return nil
		}
	}
	sums := slices.ContainsFunc(d.Conditions, func(c Condition) bool { return c.Type == "Ready" || c.Type == "Available" })
	// A condition that tells an error says more than one that only waits.
	conds := slices.Clone(d.Conditions)
	slices.SortStableFunc(conds, func(a, b Condition) int {
		tells := func(c Condition) int {
			if errorWords.MatchString(c.Reason + " " + c.Message) {
				return len(c.Message)
			}
			return -1
		}
		return tells(b) - tells(a)
	})
	off := slices.ContainsFunc(conds, func(c Condition) bool { return c.Status == "False" && (c.Type == "Ready" || c.Type == "Available") })
	for _, c := range conds {
		bad := c.Status == "False" && (c.Type == "Ready" || c.Type == "Available" || (!sums || off) && part(c.Type)) ||
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
		f := incident.Finding{
			Code: "kube.object_not_ready", Severity: incident.Warning, Role: incident.Symptom, Subject: d.Ref, Message: msg,
			Params:    map[string]string{"condition": c.Type, "status": c.Status, "reason": c.Reason, "message": oneLine(c.Message, 400)},
			FirstSeen: c.Since, LastSeen: now,
		}
		return append([]incident.Finding{f}, failure(f)...)
	}
	return failedState(now, u, d)
}

// part reports whether a condition states that one part of an object is there,
// by the end of its name: "NodeClaimReady", "RayClusterProvisioned", "Launched".
// It counts only where no condition sums the parts up.
func part(name string) bool {
	return slices.ContainsFunc([]string{"Ready", "Available", "Healthy", "Provisioned", "Launched", "Initialized"}, func(end string) bool { return strings.HasSuffix(name, end) })
}

// failedState gives the symptom of an object without telling conditions whose
// state is a word for failure.
func failedState(now time.Time, u *unstructured.Unstructured, d DescribeOut) []incident.Finding {
	if slices.ContainsFunc(d.Conditions, func(c Condition) bool { return c.Type == "Ready" || c.Type == "Available" }) || now.Sub(d.Created) < settle {
		return nil
	}
	state := d.State
	for _, f := range []string{"status", "phase", "state"} {
		if s, ok, _ := unstructured.NestedString(u.Object, "status", f); ok && s != "" {
			state = s
			break
		}
	}
	switch strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(state)) {
	case "notready", "failed", "failure", "error", "errored", "degraded", "unhealthy", "rejected", "invalid":
	default:
		return nil
	}
	msg, _, _ := unstructured.NestedString(u.Object, "status", "message")
	reason, _, _ := unstructured.NestedString(u.Object, "status", "reason")
	text := fmt.Sprintf("%s says that it is %s", d.Ref, state)
	if why := strings.TrimSpace(reason + " " + msg); why != "" {
		text += ": " + oneLine(why, 400)
	}
	f := incident.Finding{
		Code: "kube.object_not_ready", Severity: incident.Warning, Role: incident.Symptom, Subject: d.Ref, Message: text,
		Params: map[string]string{"condition": "state", "status": state, "reason": reason, "message": oneLine(msg, 400)}, LastSeen: now,
	}
	return append([]incident.Finding{f}, failure(f)...)
}

// errorWords tell a condition that reports an error from one that waits.
var errorWords = regexp.MustCompile(`(?i)fail|error|invalid|denied|forbidden|unauthorized|exceed|quota|not ?found|does ?n.t exist|not exist|missing|conflict|unsupported|incompatible|refused|timed? ?out|timeout`)

// failure gives the fault of an object whose own words tell an error, rather than
// that it waits for others. Faults of what it owns explain it, being more severe.
func failure(symptom incident.Finding) []incident.Finding {
	words := symptom.Params["reason"] + " " + symptom.Params["message"]
	if !errorWords.MatchString(words) {
		return nil
	}
	f := symptom
	f.Code, f.Role, f.Confidence = "kube.object_failed", incident.Fault, 0.6
	return []incident.Finding{f}
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

// untouched finds an object that no controller has looked at, because the one that
// looks like its own is not ready. An object that just has no status says nothing.
func (r *reader) untouched(ctx context.Context, m source.Mapping, u *unstructured.Unstructured, d DescribeOut) ([]incident.Finding, []incident.Edge) {
	status, _, _ := unstructured.NestedMap(u.Object, "status")
	seen, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if len(status) > 0 && (seen == 0 || seen >= u.GetGeneration()) || d.ChildCount > 0 && len(status) == 0 || r.src.Now().Sub(d.Created) < settle {
		return nil, nil
	}
	deployments, err := r.src.Deployments(ctx, "")
	if err != nil {
		return nil, nil
	}
	tokens := []string{strings.ToLower(m.Kind)}
	for _, t := range strings.FieldsFunc(m.GVR.Group, func(r rune) bool { return r == '.' || r == '-' }) {
		if len(t) > 2 && !slices.Contains([]string{"k8s", "com", "org", "dev", "net", "sigs", "www"}, t) {
			tokens = append(tokens, t)
		}
	}
	var fs []incident.Finding
	var es []incident.Edge
	for _, dep := range deployments {
		name := dep.Namespace + "/" + dep.Name
		if !slices.ContainsFunc([]string{"operator", "controller", "manager"}, func(w string) bool { return strings.Contains(dep.Name, w) }) ||
			!slices.ContainsFunc(tokens, func(t string) bool { return strings.Contains(name, t) }) || dep.Status.ReadyReplicas > 0 {
			continue
		}
		to := r.src.Ref("apps", "Deployment", dep.Namespace, dep.Name)
		es = append(es, incident.Edge{From: d.Ref, Relation: graph.ServedBy, To: to})
		if len(fs) == 0 {
			fs = append(fs, incident.Finding{Code: "kube.object_not_ready", Severity: incident.Warning, Role: incident.Symptom, Subject: d.Ref,
				Message: fmt.Sprintf("%s is not looked at: its status is not that of generation %d, and %s, which looks like its controller, has no ready replica", d.Ref, u.GetGeneration(), to),
				Params:  map[string]string{"condition": "status", "status": "missing", "reason": "NoController", "message": ""}})
		}
	}
	return fs, es
}

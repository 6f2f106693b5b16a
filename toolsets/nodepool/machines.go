package nodepool

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// machines judges the machines of a MachineDeployment of Cluster API, where its
// objects are in this cluster. Both generations of its API are read: failureMessage
// and phase of v1beta1, conditions of either.
func (l *look) machines(ctx context.Context, q *pool) bool {
	if q.provider != capi {
		return false
	}
	md := byName(l.list(ctx, "machinedeployments.cluster.x-k8s.io"), q.name)
	if md == nil {
		return false
	}
	q.namespace = md.GetNamespace()
	ref := l.t.poolRef(q)
	before := len(l.v.findings)
	want, _, _ := unstructured.NestedInt64(md.Object, "spec", "replicas")
	have, _, _ := unstructured.NestedInt64(md.Object, "status", "readyReplicas")
	l.v.line("MachineDeployment %s/%s: %d of %d machines are ready", q.namespace, q.name, have, want)
	paused, _, _ := unstructured.NestedBool(md.Object, "spec", "paused")
	_, annotated := md.GetAnnotations()["cluster.x-k8s.io/paused"]
	if (paused || annotated) && have < want {
		l.v.find("nodepool.paused", 0.9, ref, map[string]string{"pool": q.name}, "MachineDeployment %s/%s is paused while %d of %d machines are ready: no machine is made", q.namespace, q.name, have, want)
	}
	for _, m := range l.list(ctx, "machines.cluster.x-k8s.io") {
		if m.GetNamespace() == q.namespace && m.GetLabels()["cluster.x-k8s.io/deployment-name"] == q.name && m.GetDeletionTimestamp() == nil {
			l.machine(q, m)
		}
	}
	return len(l.v.findings) > before
}

// machine judges one Machine by its phase and what it says of its infrastructure.
func (l *look) machine(q *pool, m *unstructured.Unstructured) {
	name := m.GetName()
	ref, pool := l.t.ref(capiGroup, "Machine", m.GetNamespace(), name), l.t.poolRef(q)
	phase, _, _ := unstructured.NestedString(m.Object, "status", "phase")
	msg := nested(m, []string{"status", "failureMessage"}, []string{"status", "deprecated", "v1beta1", "failureMessage"})
	why := nested(m, []string{"status", "failureReason"}, []string{"status", "deprecated", "v1beta1", "failureReason"})
	infra := ""
	for _, kind := range []string{"InfrastructureReady", "BootstrapConfigReady", "BootstrapReady"} {
		if c, ok := conditionOf(m, kind); ok && c.status == "False" && c.message != "" {
			infra = strings.TrimSpace(c.reason + " " + c.message)
			break
		}
	}
	age := l.t.now().Sub(m.GetCreationTimestamp().Time)
	node := nested(m, []string{"status", "nodeRef", "name"})
	switch {
	case phase == "Failed" || msg != "":
		if s := l.t.read(msg); msg != "" && s.ID != "other" {
			l.failed(pool, q.name, why, msg, m.GetCreationTimestamp().Time, 0.92, fmt.Sprintf("Machine %s of MachineDeployment %s failed", name, q.name))
			return
		}
		l.v.edge(pool, graph.Owns, ref)
		l.v.find("nodepool.machine_failed", 0.9, ref, map[string]string{"pool": q.name, "message": orWord(oneLine(msg, 400), "no reason is said"), "reason": why},
			"Machine %s of MachineDeployment %s failed: %s", name, q.name, strings.TrimSpace(why+" "+orWord(oneLine(msg, 400), "no reason is said")))
	case node != "" || phase == "Running" || phase == "Deleting":
	case infra != "" && (age >= patience || l.t.read(infra).ID != "other"):
		l.failed(pool, q.name, "", infra, m.GetCreationTimestamp().Time, 0.9, fmt.Sprintf("Machine %s of MachineDeployment %s is %s", name, q.name, orWord(phase, "not there")))
	case age < patience:
		l.v.find("nodepool.scaling_up", 0, ref, map[string]string{"pool": q.name, "since": span(age)}, "Machine %s of MachineDeployment %s is %s for %s", name, q.name, orWord(phase, "being made"), span(age))
	default:
		l.v.edge(pool, graph.Owns, ref)
		l.v.find("nodepool.node_not_registered", 0.88, ref, map[string]string{"pool": q.name, "since": span(age)}, "Machine %s of MachineDeployment %s is %s for %s and has not become a node", name, q.name, orWord(phase, "not running"), span(age))
	}
}

// nested gives the first of several fields that is there.
func nested(u *unstructured.Unstructured, paths ...[]string) string {
	for _, p := range paths {
		if s, _, _ := unstructured.NestedString(u.Object, p...); s != "" {
			return s
		}
	}
	return ""
}

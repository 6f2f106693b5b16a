package actions_test

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// standalone is a claim that a person made, and a pod that names it.
func standalone(status, pod string) string {
	return `
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: own, namespace: ml, labels: {team: llm}, finalizers: [resource.kubernetes.io/delete-protection]}
spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.nvidia.com, allocationMode: ExactCount, count: 2}}]}}
` + status + "\n---\n" + pod
}

func user(name, spec, status string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `, namespace: ml, uid: uid-` + name + `}
spec:
  ` + spec + `
  containers: [{name: main, image: busybox}]
  resourceClaims: [{name: gpu, resourceClaimName: own}]
status: ` + status + `
---
`
}

const heldBy = "status: {allocation: {devices: {results: [{request: gpu, driver: gpu.nvidia.com, pool: n1, device: gpu-0}]}}, reservedFor: [{resource: pods, name: "

// A claim is made anew while pods wait for it by name; they take the new one.
func TestClaimIsMadeAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t, gpus+standalone("", user("p", "priority: 0", "{phase: Pending}")))
	before := b.state()
	d := b.draft("claim_recreate", "namespace=ml claim=own count=1")
	if got := verbs(d.Writes); got != "delete ResourceClaim; create ResourceClaim" {
		t.Errorf("the writes are %s", got)
	}
	if len(d.Before) != 1 || d.Before[0].Kind != "pods_pending" || d.Verify[len(d.Verify)-1].Kind != "claim_allocated" {
		t.Errorf("before %+v, verify %+v", d.Before, d.Verify)
	}
	done := b.sendReleased(d)
	if got := differ(before, b.state()); got != "~ResourceClaim ml/own" {
		t.Errorf("changed: %s", got)
	}
	if got := b.state()["ResourceClaim ml/own"]; !strings.Contains(got, `"count":1`) || !strings.Contains(got, `"team":"llm"`) {
		t.Errorf("it stands as %s", got)
	}
	b.undo(d, done)
	if got := differ(before, b.state()); got != "" {
		t.Errorf("undone: %s", got)
	}
}

// What runs with a claim is stopped only when it is named, and only after the claim
// is being deleted, so that its successor cannot take the old one.
func TestHoldersOfAClaim(t *testing.T) {
	t.Parallel()
	objects := gpus + standalone(heldBy+"p, uid: uid-p}]}", user("p", "nodeName: n1", "{phase: Running, startTime: \"2026-03-01T10:00:00Z\"}"))
	b := newBench(t, objects)
	_, err := b.compile("claim_recreate", "namespace=ml claim=own count=1")
	refusal(t, err, "refused", "pod p runs with claim own")
	before := b.state()
	d := b.draft("claim_recreate", "namespace=ml claim=own count=1 pod=p")
	if got := verbs(d.Writes); got != "delete ResourceClaim; delete Pod; create ResourceClaim; create Pod" {
		t.Errorf("the writes are %s", got)
	}
	if len(d.Writes[0].Await) != 0 || len(d.Writes[1].Await) != 2 {
		t.Errorf("the claim is waited for before its holder is gone: %+v", d.Writes[:2])
	}
	if d.Blast.PodCount != 1 || d.Lasting == "" {
		t.Errorf("blast %+v, lasting %q", d.Blast, d.Lasting)
	}
	done := b.sendReleased(d)
	after := b.state()
	if got := differ(before, after); got != "~Pod ml/p; ~ResourceClaim ml/own" {
		t.Errorf("changed: %s", got)
	}
	if strings.Contains(after["Pod ml/p"], "nodeName") {
		t.Errorf("the pod is bound to where it ran: %s", after["Pod ml/p"])
	}
	b.undo(d, done)
	if got := b.state(); got["ResourceClaim ml/own"] != before["ResourceClaim ml/own"] || strings.Contains(got["Pod ml/p"], "nodeName") {
		t.Errorf("undone: %s", differ(before, got))
	}
}

func TestClaimIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, objects, params, kind, why string }{
		{"nothing to change", standalone("", ""), "claim=own", "missing change", "parameters"},
		{"none there", "", "claim=own count=1", "missing claim", "there is no ResourceClaim"},
		{"made from a template", waiting("p", ""), "claim=p-gpu-1 count=2", "refused", "made by Pod p"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := newBench(t, gpus+c.objects).compile("claim_recreate", "namespace=ml "+c.params)
			refusal(t, err, c.kind, c.why)
		})
	}
}

// A claim goes only when nobody that exists holds it or waits for it.
func TestClaimIsDeleted(t *testing.T) {
	t.Parallel()
	leaked := "status: {allocation: {devices: {results: [{request: gpu, driver: gpu.nvidia.com, pool: n1, device: gpu-0}]}}}"
	for _, c := range []struct{ name, objects, kind, why string }{
		{"leaked", standalone(leaked, ""), "", ""},
		{"reserved for a pod that is gone", standalone(heldBy+"gone, uid: x}]}", ""), "", ""},
		{"reserved for an earlier pod of the name", standalone(heldBy+"p, uid: earlier}]}", user("q", "priority: 0", "{phase: Succeeded}")), "", ""},
		{"reserved for a pod", standalone(heldBy+"p, uid: uid-p}]}", user("p", "nodeName: n1", "{phase: Running}")), "refused", "reserved for Pod ml/p"},
		{"reserved for what cannot be seen", standalone("status: {reservedFor: [{apiGroup: example.com, resource: engines, name: e, uid: e}]}", ""), "refused", "cannot be seen"},
		{"waited for", standalone("", user("p", "priority: 0", "{phase: Pending}")), "refused", "would wait for it for ever"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, gpus+c.objects)
			if c.kind != "" {
				_, err := b.compile("claim_delete", "namespace=ml claim=own")
				refusal(t, err, c.kind, c.why)
				return
			}
			before := b.state()
			d := b.draft("claim_delete", "namespace=ml claim=own")
			if len(d.Before) != 1 || d.Before[0].Kind != "claim_unused" || !strings.Contains(strings.Join(d.Warnings, " "), "become free") {
				t.Errorf("before %+v, warnings %q", d.Before, d.Warnings)
			}
			done := b.sendReleased(d)
			if got := differ(before, b.state()); got != "-ResourceClaim ml/own" {
				t.Errorf("changed: %s", got)
			}
			b.undo(d, done)
			if got := differ(before, b.state()); got != "" {
				t.Errorf("undone: %s", got)
			}
		})
	}
	b := newBench(t, gpus+waiting("p", ""))
	_, err := b.compile("claim_delete", "namespace=ml claim=p-gpu-1")
	refusal(t, err, "refused", "made for pod p")
}

func verbs(writes []incident.Write) string {
	var out []string
	for _, w := range writes {
		out = append(out, w.Verb+" "+w.Ref.Kind)
	}
	return strings.Join(out, "; ")
}

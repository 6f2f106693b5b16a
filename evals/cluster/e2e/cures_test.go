package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra"
)

// trouble is a pod whose claims cannot be allocated, with devices of its own so
// that all troubles may live in one cluster.
type trouble struct {
	// name is also the namespace; the pod is called "wants".
	name  string
	fleet []scenario.Group
	// before is applied first; pods named in runs then have to run.
	before string
	runs   []string
	apply  string
	// code and kind of the expected first cause.
	code, kind string
	drivers    []string
	// change begins the change that would fit.
	change string
	// cure mends what no change of the claim can; nil where change does it.
	cure func(ctx context.Context, l *live) error
}

// driver of a trouble, and its class.
func (tr trouble) driver() string { return tr.name + ".example.com" }

func gpus(name string, nodes, devices int, change ...func(*scenario.Group)) scenario.Group {
	driver := name + ".example.com"
	g := scenario.Group{Prefix: name, Count: nodes, Labels: map[string]string{"pool": name}, Devices: []scenario.Devices{{
		Driver: driver, Name: "gpu", PerNode: devices, PCIeGroup: 1, Numa: 2,
		Attributes: map[string]string{"productName": "Example H100 80GB", "driverVersion": "version:570.86.15"}, Capacity: map[string]string{"memory": "80Gi"}}}}
	for _, c := range change {
		c(&g)
	}
	return g
}

// wants is a pod "wants" with a claim of one request, from a template.
func wants(name string, count int, selector string) string {
	return fmt.Sprintf(`{{class %q %q}}{{hold %q "wants" %q %d %q}}`, name+".example.com", name+".example.com", name, name+".example.com", count, selector)
}

// wantsSpec is a pod "wants" with a claim of its own.
func wantsSpec(name, devices string) string {
	return fmt.Sprintf("{{class %q %q}}\napiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nmetadata: {name: wants, namespace: %s}\nspec: {devices: %s}\n{{claimPod %q \"wants\" \"wants\"}}", name+".example.com", name+".example.com", name, devices, name)
}

// holds is a pod that has devices of the trouble's class.
func holds(name, pod string, count int) string {
	return fmt.Sprintf(`{{class %q %q}}{{hold %q %q %q %d ""}}`, name+".example.com", name+".example.com", name, pod, name+".example.com", count)
}

func sliceDoc(name, node, devices string, of int) string {
	return fmt.Sprintf("---\napiVersion: resource.k8s.io/v1\nkind: ResourceSlice\nmetadata: {name: %[2]s-more}\nspec:\n  driver: %[1]s.example.com\n  nodeName: %[2]s\n  pool: {name: %[2]s, generation: 1, resourceSliceCount: %[4]d}\n  %[3]s\n---\n", name, node, devices, of)
}

func troubles() []trouble {
	nic := func(g *scenario.Group) {
		g.Devices = append(g.Devices, scenario.Devices{Driver: "nic." + g.Devices[0].Driver, Name: "nic", PerNode: g.Devices[0].PerNode, PCIeGroup: 1, PCIePrefix: "pci0101:", Numa: 2, Attributes: map[string]string{"rdma": "bool:true"}})
	}
	shared := "devices: [{name: nic-0, allowMultipleAllocations: true, capacity: {bandwidth: {value: 100G, requestPolicy: {default: 10G, validRange: {min: 1G, max: 100G}}}}}]"
	bandwidth := func(g string) string {
		return "{requests: [{name: nic, exactly: {deviceClassName: capacity.example.com, capacity: {requests: {bandwidth: " + g + "}}}}]}"
	}
	return []trouble{
		{name: "selector", fleet: []scenario.Group{gpus("selector", 2, 8)}, code: "dra.selector_excludes_all", kind: "ResourceClaim", change: "request gpu asking for productName",
			apply: wants("selector", 1, `device.attributes['selector.example.com'].productName.contains('H200')`)},
		{name: "version", fleet: []scenario.Group{gpus("version", 1, 2)}, code: "dra.selector_excludes_all", kind: "ResourceClaim", change: "request gpu asking for driverVersion 570.86.15",
			apply: wants("version", 1, `device.attributes['version.example.com'].driverVersion.isGreaterThan(semver('580.0.0'))`)},
		{name: "count", fleet: []scenario.Group{gpus("count", 2, 4)}, code: "dra.count_exceeds_node", kind: "ResourceClaim", change: "request gpu with count 4",
			apply: wants("count", 6, "")},
		{name: "many", fleet: []scenario.Group{gpus("many", 1, 40)}, code: "dra.too_many_devices", kind: "ResourceClaim", change: "request gpu with count 32",
			apply: wants("many", 40, "")},
		{name: "busy", fleet: []scenario.Group{gpus("busy", 1, 2)}, code: "dra.devices_in_use", kind: "ResourceClaim", change: "claim busy/runs-gpu-",
			before: holds("busy", "runs", 2), runs: []string{"runs"}, apply: wants("busy", 1, "")},
		{name: "all", fleet: []scenario.Group{gpus("all", 1, 3)}, code: "dra.all_mode_busy", kind: "ResourceClaim", change: "claim all/runs-gpu-",
			before: holds("all", "runs", 1), runs: []string{"runs"}, apply: wantsSpec("all", "{requests: [{name: gpu, exactly: {deviceClassName: all.example.com, allocationMode: All}}]}")},
		{name: "tainted", fleet: []scenario.Group{gpus("tainted", 2, 2, func(g *scenario.Group) {
			g.Devices[0].Taints = []resourceapi.DeviceTaint{{Key: "example.com/ecc", Value: "bad", Effect: resourceapi.DeviceTaintEffectNoSchedule}}
		})}, code: "dra.devices_tainted", kind: "ResourceClaim", change: "request gpu tolerating the taint", apply: wants("tainted", 1, "")},
		{name: "rule", fleet: []scenario.Group{gpus("rule", 1, 2)}, code: "dra.devices_tainted", kind: "DeviceTaintRule", change: "request gpu tolerating the taint",
			before: "apiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\nmetadata: {name: maintenance}\nspec: {deviceSelector: {driver: rule.example.com}, taint: {key: example.com/maintenance, effect: NoSchedule}}\n", apply: wants("rule", 1, "")},
		{name: "constraint", fleet: []scenario.Group{gpus("constraint", 2, 4, nic)}, code: "dra.constraint_unsatisfiable", kind: "ResourceClaim", change: "constraint 0 of claim wants with matchAttribute resource.kubernetes.io/numaNode",
			drivers: []string{"nic.constraint.example.com"},
			apply: `{{class "nic.constraint.example.com" "nic.constraint.example.com"}}` +
				wantsSpec("constraint", "{requests: [{name: gpu, exactly: {deviceClassName: constraint.example.com}}, {name: nic, exactly: {deviceClassName: nic.constraint.example.com}}], constraints: [{matchAttribute: resource.kubernetes.io/pcieRoot}]}")},
		{name: "capacity", fleet: []scenario.Group{{Prefix: "capacity", Count: 1, Labels: map[string]string{"pool": "capacity"}}}, code: "dra.capacity_exhausted", kind: "ResourceClaim", change: "claim capacity/flow released by pod flow",
			before: sliceDoc("capacity", "capacity-1", shared, 1) + "{{class \"capacity.example.com\" \"capacity.example.com\"}}\napiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nmetadata: {name: flow, namespace: capacity}\nspec: {devices: " + bandwidth("80G") + "}\n{{claimPod \"capacity\" \"flow\" \"flow\"}}",
			runs:   []string{"flow"}, apply: wantsSpec("capacity", bandwidth("40G"))},
		{name: "counters", fleet: []scenario.Group{{Prefix: "counters", Count: 1, Labels: map[string]string{"pool": "counters"}}}, code: "dra.counters_exhausted", kind: "ResourceClaim", change: "claim counters/whole released by pod whole",
			before: sliceDoc("counters", "counters-1", "sharedCounters: [{name: gpu-0, counters: {memory: {value: 80Gi}}}]", 2) +
				strings.Replace(sliceDoc("counters", "counters-1", "devices: [{name: gpu-0, attributes: {type: {string: gpu}}, consumesCounters: [{counterSet: gpu-0, counters: {memory: {value: 80Gi}}}]}, {name: mig-0, attributes: {type: {string: mig}}, consumesCounters: [{counterSet: gpu-0, counters: {memory: {value: 10Gi}}}]}]", 2), "-more}", "-devices}", 1) +
				"{{class \"counters.example.com\" \"counters.example.com\"}}{{claim \"counters\" \"whole\" \"counters.example.com\" 1 \"device.attributes['counters.example.com'].type == 'gpu'\"}}{{claimPod \"counters\" \"whole\" \"whole\"}}",
			runs: []string{"whole"}, apply: wants("counters", 1, "device.attributes['counters.example.com'].type == 'mig'")},
		{name: "cordoned", fleet: []scenario.Group{gpus("cordoned", 2, 2, func(g *scenario.Group) { g.Unschedulable = true })}, code: "dra.fits_only_refused_nodes", kind: "Pod", change: "the pod allowed on these nodes (unschedulable on 2)",
			apply: wants("cordoned", 1, "")},
		{name: "reserved", fleet: []scenario.Group{gpus("reserved", 1, 2, func(g *scenario.Group) {
			g.Taints = []corev1.Taint{{Key: "dedicated", Value: "inference", Effect: corev1.TaintEffectNoSchedule}}
		})}, code: "dra.fits_only_refused_nodes", kind: "Pod", change: "the pod allowed on these nodes (node taint dedicated=inference:NoSchedule on 1)",
			apply: wants("reserved", 1, "")},
		{name: "class", fleet: []scenario.Group{gpus("class", 1, 2)}, code: "dra.class_missing", kind: "DeviceClass", change: "request gpu with class class.example.com",
			apply: `{{class "class.example.com" "class.example.com"}}{{hold "class" "wants" "clas.example.com" 1 ""}}`},
		{name: "error", fleet: []scenario.Group{gpus("error", 1, 2)}, code: "dra.cel_runtime_error", kind: "ResourceClaim", change: "selector 0 guarded: ",
			before: sliceDoc("error", "error-1", "devices: [{name: odd, attributes: {fabric: {int: 3}}}]", 2) + "apiVersion: resource.k8s.io/v1\nkind: ResourceSlice\nmetadata: {name: error-1-error-example-com}\nspec: {pool: {name: error-1, generation: 1, resourceSliceCount: 2}}\n",
			apply:  wants("error", 1, `device.attributes['error.example.com'].fabric == 3`)},
		{name: "incomplete", fleet: []scenario.Group{gpus("incomplete", 1, 2, func(g *scenario.Group) { g.Devices[0].SliceCount = 2 })}, code: "dra.pool_incomplete", kind: "ResourcePool",
			apply: wants("incomplete", 1, ""),
			cure: func(ctx context.Context, l *live) error {
				return l.hands.Apply(ctx, []byte(sliceDoc("incomplete", "incomplete-1", "devices: [{name: last}]", 2)))
			}},
	}
}

// What gumshoe says of a claim that the real scheduler cannot allocate is true:
// the cause, every device in its place, each claim with its evidence; and the
// change it names, once made, gets the pod scheduled.
func TestNamedChangeSchedules(t *testing.T) {
	t.Parallel()
	l := start(t, controlplane.Options{Kwok: true})
	for _, tr := range troubles() {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			l.trouble(t, tr)
		})
	}
}

// trouble makes one, lets gumshoe explain it, and makes the change it names.
func (l *live) trouble(t *testing.T, tr trouble) {
	l.run(t, tr.fleet)
	if tr.before != "" {
		l.apply(t, tr.before)
	}
	for _, name := range tr.runs {
		l.run(t, nil, scenario.Step{Wait: &scenario.FieldWait{Object: scenario.Object{APIVersion: "v1", Kind: "Pod", Namespace: tr.name, Name: name}, Path: "status.phase", Value: "Running"}})
	}
	l.apply(t, tr.apply)
	said := l.refused(t, tr.name, "wants")

	r := ask(t, l.cp.Kubeconfig(), "why is pod "+tr.name+"/wants pending?")
	if r.Diagnosis.Outcome != incident.RootCause || len(r.Diagnosis.Causes) == 0 {
		t.Fatalf("the scheduler says %q; gumshoe says %s", said, tell(r))
	}
	if c := r.Diagnosis.Causes[0]; c.Code != tr.code || c.Subject.Kind != tr.kind {
		t.Errorf("the first cause is %s on %s, not %s on a %s: %s", c.Code, c.Subject, tr.code, tr.kind, tell(r))
	}
	proved(t, r, incident.Ref{Kind: "Pod", Namespace: tr.name, Name: "wants"})
	x := explained(t, r)
	accounted(t, l, x, append(tr.drivers, tr.driver())...)

	if tr.cure != nil {
		if !slices.ContainsFunc(x.Counterfactuals, func(c dra.Counterfactual) bool { return c.FitsOn > 0 }) {
			t.Errorf("no relaxation makes it fit: %+v", x.Counterfactuals)
		}
		if err := tr.cure(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		l.scheduled(t, tr.name, "wants")
		return
	}
	i := slices.IndexFunc(x.WouldFit, func(w dra.WouldFit) bool { return strings.HasPrefix(w.Change, tr.change) })
	if i < 0 {
		t.Fatalf("no change begins with %q: %+v", tr.change, x.WouldFit)
	}
	l.follow(t, r, x.WouldFit[i])
}

// follow asks what-if for a change, makes it, and waits for the scheduler to agree.
func (l *live) follow(t *testing.T, r incident.Report, w dra.WouldFit) {
	t.Helper()
	x := explained(t, r)
	p, err := l.patient(t.Context(), x.Namespace, x.Pod, r.Findings)
	if err != nil {
		t.Fatal(err)
	}
	p.release = func(ctx context.Context, c *resourceapi.ResourceClaim) error {
		now := int64(0)
		for _, holder := range c.Status.ReservedFor {
			if err := l.client.CoreV1().Pods(c.Namespace).Delete(ctx, holder.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
				return err
			}
		}
		return nil
	}
	cure, m, ok := find(w.Change)
	if !ok {
		t.Fatalf("the change %q has no known form", w.Change)
	}
	if in := cure.whatIf(p, m); in != nil {
		would, _ := call[dra.WhatIf](t, l, "dra_what_if", in)
		if would.Before != 0 || would.After == 0 || would.Error != "" {
			t.Errorf("what-if of %q: %+v", w.Change, would)
		}
	}
	name, err := p.treat(t.Context(), cure, m)
	if err != nil {
		t.Fatal(err)
	}
	if node := l.scheduled(t, x.Namespace, name); !strings.HasPrefix(node, x.Namespace+"-") {
		t.Errorf("%q put the pod on %s", w.Change, node)
	}
}

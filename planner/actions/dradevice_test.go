package actions_test

import (
	"fmt"
	"strings"
	"testing"
)

func rule(selector, effect string) string {
	return fmt.Sprintf("\napiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\nmetadata: {name: r}\nspec: {%s taint: {key: example.com/repair, effect: %s}}\n---\n", selector, effect)
}

const plugin = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: nvidia-dra-driver, namespace: gpu, uid: uid-ds}
spec:
  selector: {matchLabels: {app: dra}}
  updateStrategy: {type: RollingUpdate}
  template:
    metadata: {labels: {app: dra}}
    spec:
      containers: [{name: plugin, image: x, args: ["--driver=gpu.nvidia.com"]}]
      volumes: [{name: r, hostPath: {path: /var/lib/kubelet/plugins_registry}}, {name: p, hostPath: {path: /var/lib/kubelet/plugins}}]
---
apiVersion: v1
kind: Pod
metadata: {name: dra-1, namespace: gpu, uid: uid-dra-1, labels: {app: dra}, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: nvidia-dra-driver, uid: uid-ds, controller: true}]}
spec: {nodeName: n1, containers: [{name: plugin, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dra-2, namespace: gpu, uid: uid-dra-2, labels: {app: dra}, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: nvidia-dra-driver, uid: uid-ds, controller: true}]}
spec: {nodeName: n2, containers: [{name: plugin, image: x}]}
---
`

// Every action on devices makes its one change, says whom it hurts, and goes back.
func TestDeviceActions(t *testing.T) {
	t.Parallel()
	held := standalone(heldBy+"p, uid: uid-p}]}", user("p", "nodeName: n1", "{phase: Running}"))
	for _, c := range []struct {
		name, objects, action, params string
		changed, has, undone          string
		warns, note                   string
		pods                          int
	}{
		{name: "a rule shows first what it would do", objects: held, action: "device_taint_rule_create", params: "rule=r driver=gpu.nvidia.com pool=n1 device=gpu-0 key=example.com/repair value=xid48",
			changed: "+DeviceTaintRule r", has: `"spec":{"deviceSelector":{"device":"gpu-0","driver":"gpu.nvidia.com","pool":"n1"},"taint":{"effect":"None","key":"example.com/repair"`, note: "1 device, 1 pod hold some; nothing is stopped"},
		{name: "a rule is narrowed", objects: held + rule("deviceSelector: {driver: gpu.nvidia.com},", "NoSchedule"), action: "device_taint_rule_edit", params: "rule=r pool=n1",
			changed: "~DeviceTaintRule r", has: `"deviceSelector":{"driver":"gpu.nvidia.com","pool":"n1"}`, note: "nothing is stopped"},
		{name: "a rule for everything is narrowed", objects: rule("deviceSelector: {},", "NoExecute"), action: "device_taint_rule_edit", params: "rule=r driver=gpu.nvidia.com pool=n1 device=gpu-1",
			changed: "~DeviceTaintRule r", has: `"device":"gpu-1"`, note: "nothing is stopped"},
		{name: "one step up", objects: held + rule("deviceSelector: {driver: gpu.nvidia.com},", "None"), action: "device_taint_rule_edit", params: "rule=r effect=NoSchedule",
			changed: "~DeviceTaintRule r", has: `"effect":"NoSchedule"`, note: "pods that run stay"},
		{name: "the step that evicts", objects: held + rule("deviceSelector: {driver: gpu.nvidia.com},", "NoSchedule"), action: "device_taint_rule_edit", params: "rule=r effect=NoExecute",
			changed: "~DeviceTaintRule r", has: `"effect":"NoExecute"`, note: "evicted", pods: 1},
		{name: "back from the strongest", objects: held + rule("deviceSelector: {driver: gpu.nvidia.com},", "NoExecute"), action: "device_taint_rule_edit", params: "rule=r effect=None",
			changed: "~DeviceTaintRule r", has: `"effect":"None"`, note: "nothing is stopped"},
		{name: "a rule goes", objects: rule("deviceSelector: {driver: gpu.nvidia.com},", "NoExecute"), action: "device_taint_rule_delete", params: "rule=r", changed: "-DeviceTaintRule r", warns: "undoing sets the taint again"},
		{name: "a class selects otherwise", action: "device_class_patch", params: "class=mig.nvidia.com selector_index=0 selector=`device.driver == 'gpu.nvidia.com' && 'type' in device.attributes['gpu.nvidia.com']`",
			changed: "~DeviceClass mig.nvidia.com", has: "in device.attributes", warns: "no longer asks for mig"},
		{name: "a class no longer stands for a resource", action: "device_class_patch", params: "class=mig.nvidia.com extended_resource=-", changed: "~DeviceClass mig.nvidia.com", has: `"spec":{"selectors"`, warns: "made anew"},
		{name: "a class stands for a resource", action: "device_class_patch", params: "class=gpu.nvidia.com extended_resource=nvidia.com/gpu", changed: "~DeviceClass gpu.nvidia.com", has: `"extendedResourceName":"nvidia.com/gpu"`},
		{name: "the slice of a node that is gone", action: "slice_delete", params: "slice=gone-gpu", changed: "-ResourceSlice gone-gpu"},
		{name: "a plugin on one node", objects: plugin, action: "driver_plugin_restart", params: "driver=gpu.nvidia.com node=n1", changed: "-Pod gpu/dra-1", undone: "-Pod gpu/dra-1", warns: "keep their devices", pods: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, gpus+c.objects)
			before := b.state()
			d := b.draft(c.action, c.params)
			if len(d.Writes) != 1 {
				t.Errorf("the writes are %s", verbs(d.Writes))
			}
			done := b.do(d)
			after := b.state()
			if got := differ(before, after); got != c.changed {
				t.Errorf("changed: %s", got)
			}
			if got := after[strings.TrimLeft(c.changed, "+~-")]; !strings.Contains(got, c.has) {
				t.Errorf("it stands as %s, want %s", got, c.has)
			}
			if d.Blast.PodCount != c.pods || !strings.Contains(strings.Join(d.Blast.Notes, " "), c.note) || !strings.Contains(strings.Join(d.Warnings, " "), c.warns) {
				t.Errorf("blast %+v, warnings %q", d.Blast, d.Warnings)
			}
			b.undo(d, done)
			if got := differ(before, b.state()); got != c.undone {
				t.Errorf("undone: %s", got)
			}
		})
	}
}

func TestDeviceActionsAreRefused(t *testing.T) {
	t.Parallel()
	twice := plugin + strings.NewReplacer("nvidia-dra-driver", "another", "uid-ds", "uid-ds2", "dra-1", "dra-3", "dra-2", "dra-4").Replace(plugin)
	for _, c := range []struct{ name, objects, action, params, kind, why string }{
		{"an empty selector", "", "device_taint_rule_create", "rule=r key=a.b/c", "refused", "every device of the cluster"},
		{"an effect that nobody has seen", "", "device_taint_rule_create", "rule=r driver=gpu.nvidia.com key=a.b/c effect=NoSchedule", "refused", "nobody has seen"},
		{"the strongest at once", "", "device_taint_rule_create", "rule=r driver=gpu.nvidia.com key=a.b/c effect=NoExecute", "refused", "nobody has seen"},
		{"a class", "", "device_taint_rule_create", "rule=r device_class=gpu.nvidia.com key=a.b/c", "missing driver", "cannot select by class"},
		{"a pool of any driver", "", "device_taint_rule_create", "rule=r pool=n1 key=a.b/c", "missing driver", "of which driver"},
		{"a device of any pool", "", "device_taint_rule_create", "rule=r driver=gpu.nvidia.com device=gpu-0 key=a.b/c", "missing pool", "in many pools"},
		{"devices that nobody publishes", "", "device_taint_rule_create", "rule=r driver=x.example.com key=a.b/c", "missing driver", "no ResourceSlice"},
		{"a key that is none", "", "device_taint_rule_create", "rule=r driver=gpu.nvidia.com key=a.b/c/d", "missing key", "no key of a taint"},
		{"a name that is none", "", "device_taint_rule_create", "rule=R_1 driver=gpu.nvidia.com key=a.b/c", "missing rule", "is no name"},
		{"a rule that is there", rule("deviceSelector: {driver: gpu.nvidia.com},", "None"), "device_taint_rule_create", "rule=r driver=gpu.nvidia.com key=a.b/c", "missing rule", "is there"},
		{"two steps", rule("deviceSelector: {driver: gpu.nvidia.com},", "None"), "device_taint_rule_edit", "rule=r effect=NoExecute", "refused", "more than one step"},
		{"narrower and stronger at once", rule("deviceSelector: {driver: gpu.nvidia.com},", "None"), "device_taint_rule_edit", "rule=r pool=n1 effect=NoSchedule", "refused", "at once"},
		{"no change", rule("deviceSelector: {driver: gpu.nvidia.com},", "None"), "device_taint_rule_edit", "rule=r", "missing effect", "parameters"},
		{"an empty selector that grows stronger", rule("deviceSelector: {},", "None"), "device_taint_rule_edit", "rule=r effect=NoSchedule", "refused", "every device"},
		{"a rule for nothing that is widened", rule("", "NoSchedule"), "device_taint_rule_edit", "rule=r driver=gpu.nvidia.com", "refused", "widen"},
		{"another driver", rule("deviceSelector: {driver: gpu.nvidia.com},", "None"), "device_taint_rule_edit", "rule=r driver=x.example.com", "refused", "no narrowing"},
		{"no such rule", "", "device_taint_rule_delete", "rule=r", "missing rule", "there is no"},
		{"a class without selectors", "", "device_class_patch", "class=gpu.nvidia.com drop_selector=0", "refused", "every device"},
		{"a resource that another class has", "", "device_class_patch", "class=gpu.nvidia.com extended_resource=nvidia.com/mig", "refused", "already"},
		{"a class that stays as it is", "", "device_class_patch", "class=gpu.nvidia.com", "missing change", "parameters"},
		{"a slice of a node that is there", "", "slice_delete", "slice=n1-gpu", "refused", "publish it again"},
		{"no node", plugin, "driver_plugin_restart", "driver=gpu.nvidia.com", "missing node", "one node at a time"},
		{"a node that is none", plugin, "driver_plugin_restart", "driver=gpu.nvidia.com node=n9", "missing node", "there is no node"},
		{"a driver that nobody runs", plugin, "driver_plugin_restart", "driver=nic.example.com node=n1", "missing driver", "no DaemonSet"},
		{"two that look alike", twice, "driver_plugin_restart", "driver=gpu.nvidia.com node=n1", "missing driver", "several"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := newBench(t, gpus+c.objects).compile(c.action, c.params)
			refusal(t, err, c.kind, c.why)
		})
	}
}

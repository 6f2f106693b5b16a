package actions_test

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// TestCapacity drains node a, with node b as the only other one, and looks at what
// is said of pod s-0.
func TestCapacity(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// spec of the pod, of node b, and more objects.
		spec, node, more string
		gpus             int
		labels           string
		says             string
	}{
		"fits":               {says: "pod ml/s-0 fits on node b: 64 cpu free, 512Gi memory free"},
		"cordoned":           {node: "{unschedulable: true}", says: "1 node: it is cordoned"},
		"tolerates cordon":   {node: "{unschedulable: true}", spec: "  tolerations: [{operator: Exists}]", says: "fits on node b"},
		"taint":              {node: "{taints: [{key: gpu, value: a, effect: NoSchedule}]}", says: "1 node: taint gpu=a:NoSchedule"},
		"soft taint":         {node: "{taints: [{key: gpu, effect: PreferNoSchedule}]}", says: "fits on node b"},
		"tolerated taint":    {node: "{taints: [{key: gpu, effect: NoExecute}]}", spec: "  tolerations: [{key: gpu, operator: Exists}]", says: "fits on node b"},
		"selector":           {spec: "  nodeSelector: {disk: fast}", says: "1 node: node selector or affinity disk=fast"},
		"affinity":           {spec: "  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a]}]}]}}}", says: "1 node: node selector or affinity kubernetes.io/hostname In a"},
		"gpus":               {gpus: 4, more: "---\n" + (&world{}).pod("ml", "other", "b", "StatefulSet apps/v1 s", "a: b", 6).String()[4:], says: "nvidia.com/gpu: 4 asked, 2 of 8 free"},
		"gpus of the ended":  {gpus: 4, more: "---\napiVersion: v1\nkind: Pod\nmetadata: {name: done, namespace: ml}\nspec: {nodeName: b, containers: [{name: m, image: i, resources: {requests: {nvidia.com/gpu: \"6\"}}}]}\nstatus: {phase: Succeeded}\n", says: "fits on node b: 8 of 8 nvidia.com/gpu free"},
		"host port":          {spec: "  initContainers: [{name: p, image: i, ports: [{containerPort: 80, hostPort: 80}]}]", more: "---\napiVersion: v1\nkind: Pod\nmetadata: {name: h, namespace: ml}\nspec: {nodeName: b, containers: [{name: m, image: i, ports: [{containerPort: 80, hostPort: 80}]}]}\nstatus: {phase: Running}\n", says: "host port 80/TCP is taken"},
		"volume":             {spec: "  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]", more: "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: ml}\nspec: {volumeName: pv-1}\n---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv-1}\nspec: {local: {path: /d}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a]}]}]}}}\n", says: "volume pv-1 cannot be reached from it"},
		"volume not bound":   {spec: "  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]", more: "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: ml}\nspec: {}\n", says: "fits on node b"},
		"volume not there":   {spec: "  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]", more: "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: ml}\nspec: {volumeName: pv-1}\n", says: "where volume data can be reached from"},
		"anti-affinity":      {labels: "app: s", spec: "  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: s}}}]}}", more: peer("b", ""), says: "a pod that the pod keeps away from is in its kubernetes.io/hostname"},
		"others keep away":   {labels: "app: s", more: peer("b", "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: s}}}]}}, "), says: "a pod that keeps away from the pod is in its kubernetes.io/hostname"},
		"other namespace":    {labels: "app: s", more: peer("b", "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, namespaces: [x], labelSelector: {matchLabels: {app: s}}}]}}, "), says: "fits on node b"},
		"every namespace":    {labels: "app: s", more: peer("b", "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, namespaceSelector: {}, labelSelector: {matchLabels: {app: s}}}]}}, "), says: "keeps away"},
		"affinity to none":   {labels: "app: s", spec: "  affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}]}}", says: "no pod that the pod wants to be beside is in its kubernetes.io/hostname"},
		"affinity to itself": {labels: "app: s", spec: "  affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: s}}}]}}", says: "fits on node b"},
		"affinity met":       {labels: "app: s", spec: "  affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: s}}}]}}", more: peer("b", ""), says: "fits on node b"},
		"spread":             {labels: "app: s", spec: "  topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: s}}}]", more: peer("b", ""), says: "spread unevenly over kubernetes.io/hostname (skew 2, at most 1)"},
		"spread as a wish":   {labels: "app: s", spec: "  topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: s}}}]", more: peer("b", ""), says: "fits on node b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{}
			node := c.node
			if node == "" {
				node = "{}"
			}
			labels := c.labels
			if labels == "" {
				labels = "app: alone"
			}
			w.node("a", "pool: x").node("b", "pool: x", node).owner("StatefulSet", "apps/v1", "ml", "s", "")
			w.pod("ml", "s-0", "a", "StatefulSet apps/v1 s", labels, c.gpus, c.spec)
			w.WriteString(c.more)
			d := newScene(t, w.String()).draft("drain", "node", "a")
			says(t, "capacity", texts(d.Capacity), c.says)
		})
	}
}

func peer(node, spec string) string {
	return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: peer, namespace: ml, labels: {app: s}}\nspec: {nodeName: " + node + ", " + spec + "containers: [{name: m, image: i}]}\nstatus: {phase: Running}\n"
}

const gpuSlices = `
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: 'device.driver == "gpu.example.com"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: two, namespace: ml}
spec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu, allocationMode: ExactCount, count: 2}}]}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: b-gpus}
spec: {driver: gpu.example.com, nodeName: b, pool: {name: b, generation: 1, resourceSliceCount: 1}, devices: [{name: g0}, {name: g1}, {name: g2}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: a-gpus}
spec: {driver: gpu.example.com, nodeName: a, pool: {name: a, generation: 1, resourceSliceCount: 1}, devices: [{name: g0}, {name: g1}, {name: g2}, {name: g3}]}
`

// claimer is a pod on node a with a claim of two devices there.
func claimer(w *world, name string, devices ...string) {
	w.pod("ml", name, "a", "StatefulSet apps/v1 s", "app: s", 0, "  resourceClaims: [{name: gpus, resourceClaimTemplateName: two}]")
	results := ""
	for _, d := range devices {
		results += "{request: r, driver: gpu.example.com, pool: a, device: " + d + "}, "
	}
	w.add(`
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: %s-gpus-x, namespace: ml, uid: k-%s, ownerReferences: [{apiVersion: v1, kind: Pod, name: %s, uid: p-%s, controller: true}]}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu, allocationMode: ExactCount, count: 2}}]}}
status: {allocation: {devices: {results: [%s]}}, reservedFor: [{resource: pods, name: %s, uid: p-%s}]}
`, name, name, name, name, results, name, name)
}

func TestCapacityOfDevices(t *testing.T) {
	t.Parallel()
	build := func() *world {
		w := &world{}
		w.node("a", "pool: x").node("b", "pool: x").owner("StatefulSet", "apps/v1", "ml", "s", "")
		claimer(w, "s-0", "g0", "g1")
		claimer(w, "s-1", "g2", "g3")
		w.WriteString(gpuSlices[1:])
		return w
	}
	s := newScene(t, build().String())
	d := s.draft("drain", "node", "a")
	// Three devices are there: the first pod takes two, so the second one finds one.
	same(t, "capacity", []string{"pod ml/s-0 fits on node b: 3 of 3 devices free", "pod ml/s-1 fits on no other node: 1 node: cannot allocate all claims"}, texts(d.Capacity))
	if d.Blast.GPUs != 4 || d.Blast.GPUHours != 40 || d.Risk != incident.RiskCritical {
		t.Errorf("%+v", d.Blast)
	}
	d = newScene(t, build().String(), func(c *actions.Config) { c.Allocate = nil }).draft("drain", "node", "a")
	says(t, "capacity", texts(d.Capacity), "pod ml/s-0 would fit on node b", "the scheduler's allocator is not at hand")
	says(t, "warnings", d.Warnings, "whether 2 pods will find a node is not proved")
	if d.Risk != incident.RiskCritical {
		t.Errorf("risk %s", d.Risk)
	}
}

// TestCapacityOfMappedResources: an extended resource that a DeviceClass answers for
// is found by the allocator.
func TestCapacityOfMappedResources(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("a", "pool: x").node("b", "pool: x").owner("StatefulSet", "apps/v1", "ml", "s", "")
	w.add(`
apiVersion: v1
kind: Pod
metadata: {name: s-0, namespace: ml, uid: p-s-0, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: s, uid: o-s, controller: true}]}
spec: {nodeName: a, containers: [{name: m, image: i, resources: {requests: {example.com/gpu: "3"}, limits: {example.com/gpu: "3"}}}]}
status: {phase: Running}
`)
	w.WriteString(gpuSlices[1:])
	text := w.String()
	d := newScene(t, text).draft("drain", "node", "a")
	says(t, "not mapped", texts(d.Capacity), "fits on no other node: 1 node: it has no example.com/gpu")
	d = newScene(t, text+"---\napiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {name: mapped}\nspec: {extendedResourceName: example.com/gpu, selectors: [{cel: {expression: 'device.driver == \"gpu.example.com\"'}}]}\n").draft("drain", "node", "a")
	says(t, "mapped", texts(d.Capacity), "pod ml/s-0 fits on node b")
}

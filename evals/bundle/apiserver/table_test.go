package apiserver

import (
	"encoding/json"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func cellsOf(t *testing.T, text string) cells {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	q := request{resource: &resource{}}
	u, _, err := parse(q, raw, metav1.FieldValidationIgnore)
	if err != nil {
		t.Fatal(err)
	}
	return cells{u.Object, shop(t).now()}
}

// TestPodStatus is the table of the words that people know a pod by.
func TestPodStatus(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"Pending":                    "{status: {phase: Pending}}",
		"SchedulingGated":            "{status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: SchedulingGated}]}}",
		"Running":                    "{status: {phase: Running, containerStatuses: [{ready: true, state: {running: {}}}]}}",
		"ContainerCreating":          "{status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ContainerCreating}}}]}}",
		"CrashLoopBackOff":           "{status: {phase: Running, containerStatuses: [{state: {waiting: {reason: CrashLoopBackOff}}}, {ready: true, state: {running: {}}}]}}",
		"OOMKilled":                  "{status: {phase: Running, containerStatuses: [{state: {terminated: {exitCode: 137, reason: OOMKilled}}}]}}",
		"ExitCode:3":                 "{status: {phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 3}}}]}}",
		"Signal:9":                   "{status: {phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 137, signal: 9}}}]}}",
		"Completed":                  "{status: {phase: Succeeded, containerStatuses: [{state: {terminated: {exitCode: 0, reason: Completed}}}]}}",
		"NotReady":                   "{status: {phase: Running, containerStatuses: [{state: {terminated: {exitCode: 0, reason: Completed}}}, {ready: true, state: {running: {}}}]}}",
		"Evicted":                    "{status: {phase: Failed, reason: Evicted}}",
		"Terminating":                "{metadata: {deletionTimestamp: '2026-03-01T11:59:00Z'}, status: {phase: Running}}",
		"Unknown":                    "{metadata: {deletionTimestamp: '2026-03-01T11:59:00Z'}, status: {phase: Running, reason: NodeLost}}",
		"Init:0/2":                   "{spec: {initContainers: [{name: a}, {name: b}]}, status: {phase: Pending, initContainerStatuses: [{name: a, state: {running: {}}}, {name: b, state: {waiting: {reason: PodInitializing}}}]}}",
		"Init:1/2":                   "{spec: {initContainers: [{name: a}, {name: b}]}, status: {phase: Pending, initContainerStatuses: [{name: a, state: {terminated: {exitCode: 0}}}, {name: b, state: {running: {}}}]}}",
		"Init:CrashLoopBackOff":      "{spec: {initContainers: [{name: a}]}, status: {phase: Pending, initContainerStatuses: [{name: a, state: {waiting: {reason: CrashLoopBackOff}}}]}}",
		"Init:Error":                 "{spec: {initContainers: [{name: a}]}, status: {phase: Pending, initContainerStatuses: [{name: a, state: {terminated: {exitCode: 1, reason: Error}}}]}}",
		"Init:ExitCode:2":            "{spec: {initContainers: [{name: a}]}, status: {phase: Pending, initContainerStatuses: [{name: a, state: {terminated: {exitCode: 2}}}]}}",
		"PodInitializing":            "{spec: {initContainers: [{name: a, restartPolicy: Always}]}, status: {phase: Pending, initContainerStatuses: [{name: a, started: true, state: {running: {}}}], containerStatuses: [{state: {waiting: {reason: PodInitializing}}}]}}",
		"CreateContainerConfigError": "{status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: CreateContainerConfigError}}}]}}",
	} {
		if got := podStatus(cellsOf(t, text)); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

// TestTables prints one object of each kind that has columns of its own.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, text, want string }{
		{"v1/Service", "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1, ports: [{port: 80, nodePort: 30080}, {port: 53, protocol: UDP}]}}", "[a LoadBalancer 10.0.0.1 <pending> 80:30080/TCP,53/UDP 60m <none>]"},
		{"v1/Service", "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1, externalIPs: [192.0.2.1]}, status: {loadBalancer: {ingress: [{hostname: lb.example.com}]}}}", "[a LoadBalancer 10.0.0.1 lb.example.com,192.0.2.1 <none> 60m <none>]"},
		{"v1/Service", "{metadata: {name: a}, spec: {type: ExternalName, externalName: x.example.com, selector: {b: c, a: b}}}", "[a ExternalName <none> x.example.com <none> 60m a=b,b=c]"},
		{"v1/Secret", "{metadata: {name: a}, type: Opaque}", "[a Opaque 0 60m]"},
		{"v1/Endpoints", "{metadata: {name: a}, subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80}, {port: 81}]}]}", "[a 10.0.0.1:80,10.0.0.1:81,10.0.0.2:80 + 1 more... 60m]"},
		{"v1/Endpoints", "{metadata: {name: a}, subsets: []}", "[a <none> 60m]"},
		{"discovery.k8s.io/v1/EndpointSlice", "{metadata: {name: a}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}", "[a IPv4 80 10.0.0.1 60m]"},
		{"discovery.k8s.io/v1/EndpointSlice", "{metadata: {name: a}, addressType: IPv4}", "[a IPv4 <unset> <unset> 60m]"},
		{"apps/v1/StatefulSet", "{metadata: {name: a}, spec: {template: {spec: {containers: [{name: m, image: i}]}}}, status: {readyReplicas: 1}}", "[a 1/1 60m m i]"},
		{"apps/v1/DaemonSet", "{metadata: {name: a}, spec: {template: {spec: {nodeSelector: {gpu: 'yes'}}}}, status: {desiredNumberScheduled: 3, currentNumberScheduled: 2, numberReady: 1}}", "[a 3 2 1 0 0 gpu=yes 60m   <none>]"},
		{"apps/v1/ControllerRevision", "{metadata: {name: a, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, controller: true}]}, revision: 4}", "[a daemonset.apps/d 4 60m]"},
		{"batch/v1/Job", "{metadata: {name: a}, spec: {completions: 3}, status: {succeeded: 1, startTime: '2026-03-01T11:00:00Z'}}", "[a Running 1/3 60m 60m   <none>]"},
		{"batch/v1/Job", "{metadata: {name: a}, spec: {parallelism: 2}, status: {conditions: [{type: Failed, status: 'True'}]}}", "[a Failed 0/1 of 2  60m   <none>]"},
		{"batch/v1/CronJob", "{metadata: {name: a}, spec: {schedule: '@daily', suspend: true}, status: {active: [{name: x}], lastScheduleTime: '2026-03-01T00:00:00Z'}}", "[a @daily <none> True 1 12h 60m   <none>]"},
		{"batch/v1/CronJob", "{metadata: {name: a}, spec: {schedule: '@daily'}}", "[a @daily <none> False 0 <none> 60m   <none>]"},
		{"autoscaling/v2/HorizontalPodAutoscaler", "{metadata: {name: a}, spec: {scaleTargetRef: {kind: Deployment, name: d}, maxReplicas: 3, metrics: [{type: Pods, pods: {metric: {name: q}, target: {type: AverageValue, averageValue: '10'}}}, {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}, {type: Object}]}}", "[a Deployment/d <unknown>/10, cpu: <unknown>/80% + 1 more... <unset> 3 0 60m]"},
		{"policy/v1/PodDisruptionBudget", "{metadata: {name: a}, spec: {maxUnavailable: 25%}}", "[a N/A 25% 0 60m]"},
		{"networking.k8s.io/v1/Ingress", "{metadata: {name: a}, spec: {tls: [{}], rules: [{host: a}, {host: b}, {host: c}, {host: d}]}, status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}}", "[a <none> a,b,c + 1 more... 192.0.2.1 80, 443 60m]"},
		{"networking.k8s.io/v1/NetworkPolicy", "{metadata: {name: a}, spec: {podSelector: {matchLabels: {x: z}}}}", "[a x=z 60m]"},
		{"networking.k8s.io/v1/NetworkPolicy", "{metadata: {name: a}, spec: {podSelector: {}}}", "[a <none> 60m]"},
		{"networking.k8s.io/v1/IngressClass", "{metadata: {name: a}, spec: {controller: c, parameters: {apiGroup: g.io, kind: K, name: p}}}", "[a c K.g.io/p 60m]"},
		{"storage.k8s.io/v1/CSIDriver", "{metadata: {name: a}, spec: {attachRequired: false, volumeLifecycleModes: [Persistent, Ephemeral]}}", "[a false false false <unset> false Persistent,Ephemeral 60m]"},
		{"storage.k8s.io/v1/VolumeAttachment", "{metadata: {name: a}, spec: {attacher: x, nodeName: w, source: {persistentVolumeName: p}}, status: {attached: true}}", "[a x p w true 60m]"},
		{"coordination.k8s.io/v1/Lease", "{metadata: {name: a}, spec: {holderIdentity: me}}", "[a me 60m]"},
		{"apiregistration.k8s.io/v1/APIService", "{metadata: {name: a}, spec: {service: {namespace: ns, name: s}}, status: {conditions: [{type: Available, status: 'False', reason: MissingEndpoints}]}}", "[a ns/s False (MissingEndpoints) 60m]"},
		{"apiregistration.k8s.io/v1/APIService", "{metadata: {name: a}}", "[a Local Unknown 60m]"},
		{"rbac.authorization.k8s.io/v1/RoleBinding", "{metadata: {name: a}, roleRef: {kind: Role, name: r}}", "[a Role/r 60m]"},
		{"rbac.authorization.k8s.io/v1/Role", "{metadata: {name: a}}", "[a 2026-03-01T11:00:00Z]"},
		{"resource.k8s.io/v1/ResourceClaim", "{metadata: {name: a, deletionTimestamp: '2026-03-01T11:59:00Z'}, status: {allocation: {devices: {}}, reservedFor: [{name: p}]}}", "[a deleted,allocated,reserved 60m]"},
		{"resource.k8s.io/v1/ResourceSlice", "{metadata: {name: a}, spec: {allNodes: true, driver: d, pool: {name: p}}}", "[a <all> d p 60m]"},
		{"v1/PersistentVolumeClaim", "{metadata: {name: a, deletionTimestamp: '2026-03-01T11:59:00Z'}, status: {phase: Bound}}", "[a Terminating     <unset> 60m <unset>]"},
		{"v1/ReplicationController", "{metadata: {name: a}, spec: {replicas: 2, selector: {a: b}}}", "[a 2 0 0 60m   a=b]"},
		{"v1/PodTemplate", "{metadata: {name: a}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: m, image: i}]}}}", "[a m i a=b]"},
		{"v1/Event", "{metadata: {name: a}, involvedObject: {kind: Pod, name: p}, eventTime: '2026-03-01T11:59:00Z', reportingComponent: c, type: Normal, reason: R, message: ' m '}", "[60s Normal R pod/p  c m <unknown> 1 a]"},
		{"v1/Node", "{metadata: {name: a, labels: {node-role.kubernetes.io/control-plane: '', kubernetes.io/role: x}}}", "[a Unknown control-plane,x 60m  <none> <none> <unknown> <unknown> <unknown>]"},
		{"v1/ConfigMap", "{metadata: {name: a}, data: [wrong], binaryData: 3}", "[a 0 60m]"},
		{"scheduling.k8s.io/v1/PriorityClass", "{metadata: {name: a}, value: -5}", "[a -5 false 60m ]"},
	} {
		o := cellsOf(t, c.text)
		if md, ok := o.m["metadata"].(map[string]any); ok {
			md["creationTimestamp"] = "2026-03-01T11:00:00Z"
		}
		o.m["kind"] = c.kind[len(c.kind)-len(lastPart(c.kind)):]
		var r *resource
		for _, res := range shop(t).resources {
			if res.gvk.Kind == lastPart(c.kind) && res.gvr.GroupVersion().String()+"/"+res.gvk.Kind == c.kind {
				r = res
			}
		}
		if r == nil {
			t.Errorf("%s is not served", c.kind)
			continue
		}
		var row []any
		for _, col := range columnsOf(r) {
			row = append(row, col.value(o))
		}
		if got := fmt.Sprint(row); got != c.want {
			t.Errorf("%s %s\nprints %s\nwant   %s", c.kind, c.text, got, c.want)
		}
		if _, err := json.Marshal(row); err != nil {
			t.Error(err)
		}
	}
}

func lastPart(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return s[i+1:]
		}
	}
	return s
}

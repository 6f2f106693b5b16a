package actions_test

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func gvr(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

// gpus is a class, two nodes with H100s, and a template that asks for an H200.
const gpus = `
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {allocatable: {pods: "10"}, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {allocatable: {pods: "10"}, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu.nvidia.com}
spec: {selectors: [{cel: {expression: "device.driver == 'gpu.nvidia.com'"}}]}
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: mig.nvidia.com}
spec: {extendedResourceName: nvidia.com/mig, selectors: [{cel: {expression: "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig'"}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: n1-gpu}
spec:
  driver: gpu.nvidia.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0, attributes: {productName: {string: H100}}}, {name: gpu-1, attributes: {productName: {string: H100}}}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: gone-gpu}
spec:
  driver: gpu.nvidia.com
  nodeName: gone
  pool: {name: gone, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpu, namespace: ml, labels: {team: llm}, annotations: {argocd.argoproj.io/sync-wave: "1", note: keep}}
spec:
  metadata: {labels: {from: template}}
  spec:
    devices:
      requests:
      - name: gpu
        exactly: {deviceClassName: gpu.nvidia.com, allocationMode: ExactCount, count: 2, selectors: [{cel: {expression: "device.attributes['gpu.nvidia.com'].productName == 'H200'"}}, {cel: {expression: "device.driver == 'gpu.nvidia.com'"}}]}
      constraints: [{matchAttribute: resource.kubernetes.io/pcieRoot}, {matchAttribute: gpu.nvidia.com/rack, requests: [gpu]}]
---
`

// waiting is a pod of a template that no node has, with its claim.
func waiting(pod, owner string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + pod + `, namespace: ml, uid: uid-` + pod + `, labels: {app: x}` + owner + `}
spec:
  containers: [{name: main, image: busybox, resources: {claims: [{name: gpu}]}, volumeMounts: [{name: kube-api-access-x, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}]
  volumes: [{name: kube-api-access-x, projected: {sources: []}}]
  resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}]
status: {phase: Pending, resourceClaimStatuses: [{name: gpu, resourceClaimName: ` + pod + `-gpu-1}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: ` + pod + `-gpu-1, namespace: ml, annotations: {resource.kubernetes.io/pod-claim-name: gpu}, ownerReferences: [{apiVersion: v1, kind: Pod, name: ` + pod + `, uid: uid-` + pod + `, controller: true}]}
spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.nvidia.com}}]}}
---
`
}

func owned(apiVersion, kind, name string) string {
	return ", ownerReferences: [{apiVersion: " + apiVersion + ", kind: " + kind + ", name: " + name + ", uid: uid-" + name + ", controller: true}]"
}

// podTemplate is the template of a workload's pods.
const podTemplate = `
    metadata: {labels: {app: x}}
    spec:
      containers: [{name: main, image: busybox, resources: {claims: [{name: gpu}]}}]
      resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}]
`

const statefulSet = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: sts, namespace: ml, uid: uid-sts, generation: 3}
spec:
  replicas: 1
  serviceName: sts
  updateStrategy: {type: RollingUpdate}
  selector: {matchLabels: {app: x}}
  template:` + podTemplate + `
status: {observedGeneration: 3}
---
`

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: dep, namespace: ml, uid: uid-dep}
spec:
  replicas: 1
  strategy: {type: RollingUpdate}
  selector: {matchLabels: {app: x}}
  template:` + podTemplate + `
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: dep-1, namespace: ml, uid: uid-dep-1, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: dep, uid: uid-dep, controller: true}]}
spec:
  replicas: 1
  selector: {matchLabels: {app: x}}
  template:` + podTemplate + `
---
`

const job = `
apiVersion: batch/v1
kind: Job
metadata: {name: job, namespace: ml, uid: uid-job, labels: {controller-uid: uid-job, keep: "1"}}
spec:
  selector: {matchLabels: {batch.kubernetes.io/controller-uid: uid-job}}
  template:
    metadata: {labels: {app: x, controller-uid: uid-job, batch.kubernetes.io/controller-uid: uid-job, job-name: job}}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox}]
      resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}]
---
`

func compact(t interface{ Fatal(...any) }, v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

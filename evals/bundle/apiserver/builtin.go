package apiserver

import (
	"strings"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// builtin lists what a current Kubernetes serves (v1.37, its default APIs), for
// bundles written by hand. A line is a kind: scope (n or c), group/version,
// kind, plural, then short=, cat= and sub= where it has them.
func builtin() []bundle.Resource {
	const table = `
n v1 Pod pods short=po cat=all sub=status,log,eviction,binding
n v1 Service services short=svc cat=all sub=status
n v1 ConfigMap configmaps short=cm
n v1 Secret secrets
n v1 ServiceAccount serviceaccounts short=sa
n v1 Event events short=ev
n v1 PersistentVolumeClaim persistentvolumeclaims short=pvc sub=status
n v1 ResourceQuota resourcequotas short=quota sub=status
n v1 LimitRange limitranges short=limits
n v1 Endpoints endpoints short=ep
n v1 PodTemplate podtemplates
n v1 ReplicationController replicationcontrollers short=rc cat=all sub=status,scale
c v1 Node nodes short=no sub=status
c v1 Namespace namespaces short=ns sub=status
c v1 PersistentVolume persistentvolumes short=pv sub=status
n apps/v1 Deployment deployments short=deploy cat=all sub=status,scale
n apps/v1 ReplicaSet replicasets short=rs cat=all sub=status,scale
n apps/v1 StatefulSet statefulsets short=sts cat=all sub=status,scale
n apps/v1 DaemonSet daemonsets short=ds cat=all sub=status
n apps/v1 ControllerRevision controllerrevisions
n batch/v1 Job jobs cat=all sub=status
n batch/v1 CronJob cronjobs short=cj cat=all sub=status
n autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers short=hpa cat=all sub=status
n policy/v1 PodDisruptionBudget poddisruptionbudgets short=pdb sub=status
n networking.k8s.io/v1 Ingress ingresses short=ing sub=status
c networking.k8s.io/v1 IngressClass ingressclasses
n networking.k8s.io/v1 NetworkPolicy networkpolicies short=netpol
n discovery.k8s.io/v1 EndpointSlice endpointslices
c storage.k8s.io/v1 StorageClass storageclasses short=sc
c storage.k8s.io/v1 CSIDriver csidrivers
c storage.k8s.io/v1 CSINode csinodes
n storage.k8s.io/v1 CSIStorageCapacity csistoragecapacities
c storage.k8s.io/v1 VolumeAttachment volumeattachments sub=status
c storage.k8s.io/v1 VolumeAttributesClass volumeattributesclasses short=vac
c scheduling.k8s.io/v1 PriorityClass priorityclasses short=pc
c node.k8s.io/v1 RuntimeClass runtimeclasses
n coordination.k8s.io/v1 Lease leases
c admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration validatingwebhookconfigurations cat=api-extensions
c admissionregistration.k8s.io/v1 MutatingWebhookConfiguration mutatingwebhookconfigurations cat=api-extensions
c admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy validatingadmissionpolicies cat=api-extensions sub=status
c admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings cat=api-extensions
c apiregistration.k8s.io/v1 APIService apiservices cat=api-extensions sub=status
c apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions short=crd,crds cat=api-extensions sub=status
n rbac.authorization.k8s.io/v1 Role roles
n rbac.authorization.k8s.io/v1 RoleBinding rolebindings
c rbac.authorization.k8s.io/v1 ClusterRole clusterroles
c rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings
n resource.k8s.io/v1 ResourceClaim resourceclaims sub=status
n resource.k8s.io/v1 ResourceClaimTemplate resourceclaimtemplates
c resource.k8s.io/v1 ResourceSlice resourceslices
c resource.k8s.io/v1 DeviceClass deviceclasses
c resource.k8s.io/v1 DeviceTaintRule devicetaintrules sub=status
`
	var out []bundle.Resource
	for line := range strings.Lines(strings.TrimSpace(table)) {
		f := strings.Fields(line)
		r := bundle.Resource{Namespaced: f[0] == "n", Kind: f[2], Plural: f[3], Singular: strings.ToLower(f[2]), Version: f[1]}
		if group, version, ok := strings.Cut(f[1], "/"); ok {
			r.Group, r.Version = group, version
		}
		for _, more := range f[4:] {
			key, list, _ := strings.Cut(more, "=")
			values := strings.Split(list, ",")
			switch key {
			case "short":
				r.ShortNames = values
			case "cat":
				r.Categories = values
			case "sub":
				r.Subresources = values
			}
		}
		out = append(out, r)
	}
	return out
}

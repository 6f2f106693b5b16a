package source

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// Deployment reads a Deployment by name.
func (s *Source) Deployment(ctx context.Context, namespace, name string) (*appsv1.Deployment, error) {
	return getOne(ctx, s, call{group: "apps", resource: "deployments", namespace: namespace, name: name}, s.client.AppsV1().Deployments(namespace).Get)
}

// Deployments lists the Deployments of a namespace. An empty namespace means all of them.
func (s *Source) Deployments(ctx context.Context, namespace string) ([]*appsv1.Deployment, error) {
	return listAll(ctx, s, call{group: "apps", resource: "deployments", namespace: namespace}, s.client.AppsV1().Deployments(namespace).List,
		func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items })
}

// ReplicaSet reads a ReplicaSet by name.
func (s *Source) ReplicaSet(ctx context.Context, namespace, name string) (*appsv1.ReplicaSet, error) {
	return getOne(ctx, s, call{group: "apps", resource: "replicasets", namespace: namespace, name: name}, s.client.AppsV1().ReplicaSets(namespace).Get)
}

// ReplicaSets lists the ReplicaSets of a namespace. An empty namespace means all of them.
func (s *Source) ReplicaSets(ctx context.Context, namespace string) ([]*appsv1.ReplicaSet, error) {
	return listAll(ctx, s, call{group: "apps", resource: "replicasets", namespace: namespace}, s.client.AppsV1().ReplicaSets(namespace).List,
		func(l *appsv1.ReplicaSetList) []appsv1.ReplicaSet { return l.Items })
}

// StatefulSet reads a StatefulSet by name.
func (s *Source) StatefulSet(ctx context.Context, namespace, name string) (*appsv1.StatefulSet, error) {
	return getOne(ctx, s, call{group: "apps", resource: "statefulsets", namespace: namespace, name: name}, s.client.AppsV1().StatefulSets(namespace).Get)
}

// StatefulSets lists the StatefulSets of a namespace. An empty namespace means all of them.
func (s *Source) StatefulSets(ctx context.Context, namespace string) ([]*appsv1.StatefulSet, error) {
	return listAll(ctx, s, call{group: "apps", resource: "statefulsets", namespace: namespace}, s.client.AppsV1().StatefulSets(namespace).List,
		func(l *appsv1.StatefulSetList) []appsv1.StatefulSet { return l.Items })
}

// DaemonSet reads a DaemonSet by name.
func (s *Source) DaemonSet(ctx context.Context, namespace, name string) (*appsv1.DaemonSet, error) {
	return getOne(ctx, s, call{group: "apps", resource: "daemonsets", namespace: namespace, name: name}, s.client.AppsV1().DaemonSets(namespace).Get)
}

// DaemonSets lists the DaemonSets of a namespace. An empty namespace means all of them.
func (s *Source) DaemonSets(ctx context.Context, namespace string) ([]*appsv1.DaemonSet, error) {
	return listAll(ctx, s, call{group: "apps", resource: "daemonsets", namespace: namespace}, s.client.AppsV1().DaemonSets(namespace).List,
		func(l *appsv1.DaemonSetList) []appsv1.DaemonSet { return l.Items })
}

// ControllerRevision reads a ControllerRevision by name.
func (s *Source) ControllerRevision(ctx context.Context, namespace, name string) (*appsv1.ControllerRevision, error) {
	return getOne(ctx, s, call{group: "apps", resource: "controllerrevisions", namespace: namespace, name: name}, s.client.AppsV1().ControllerRevisions(namespace).Get)
}

// ControllerRevisions lists the ControllerRevisions of a namespace. An empty namespace means all of them.
func (s *Source) ControllerRevisions(ctx context.Context, namespace string) ([]*appsv1.ControllerRevision, error) {
	return listAll(ctx, s, call{group: "apps", resource: "controllerrevisions", namespace: namespace}, s.client.AppsV1().ControllerRevisions(namespace).List,
		func(l *appsv1.ControllerRevisionList) []appsv1.ControllerRevision { return l.Items })
}

// Job reads a Job by name.
func (s *Source) Job(ctx context.Context, namespace, name string) (*batchv1.Job, error) {
	return getOne(ctx, s, call{group: "batch", resource: "jobs", namespace: namespace, name: name}, s.client.BatchV1().Jobs(namespace).Get)
}

// Jobs lists the Jobs of a namespace. An empty namespace means all of them.
func (s *Source) Jobs(ctx context.Context, namespace string) ([]*batchv1.Job, error) {
	return listAll(ctx, s, call{group: "batch", resource: "jobs", namespace: namespace}, s.client.BatchV1().Jobs(namespace).List,
		func(l *batchv1.JobList) []batchv1.Job { return l.Items })
}

// CronJob reads a CronJob by name.
func (s *Source) CronJob(ctx context.Context, namespace, name string) (*batchv1.CronJob, error) {
	return getOne(ctx, s, call{group: "batch", resource: "cronjobs", namespace: namespace, name: name}, s.client.BatchV1().CronJobs(namespace).Get)
}

// CronJobs lists the CronJobs of a namespace. An empty namespace means all of them.
func (s *Source) CronJobs(ctx context.Context, namespace string) ([]*batchv1.CronJob, error) {
	return listAll(ctx, s, call{group: "batch", resource: "cronjobs", namespace: namespace}, s.client.BatchV1().CronJobs(namespace).List,
		func(l *batchv1.CronJobList) []batchv1.CronJob { return l.Items })
}

// HPA reads a HorizontalPodAutoscaler by name.
func (s *Source) HPA(ctx context.Context, namespace, name string) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	return getOne(ctx, s, call{group: "autoscaling", resource: "horizontalpodautoscalers", namespace: namespace, name: name}, s.client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get)
}

// HPAs lists the HorizontalPodAutoscalers of a namespace. An empty namespace means all of them.
func (s *Source) HPAs(ctx context.Context, namespace string) ([]*autoscalingv2.HorizontalPodAutoscaler, error) {
	return listAll(ctx, s, call{group: "autoscaling", resource: "horizontalpodautoscalers", namespace: namespace}, s.client.AutoscalingV2().HorizontalPodAutoscalers(namespace).List,
		func(l *autoscalingv2.HorizontalPodAutoscalerList) []autoscalingv2.HorizontalPodAutoscaler {
			return l.Items
		})
}

// PDB reads a PodDisruptionBudget by name.
func (s *Source) PDB(ctx context.Context, namespace, name string) (*policyv1.PodDisruptionBudget, error) {
	return getOne(ctx, s, call{group: "policy", resource: "poddisruptionbudgets", namespace: namespace, name: name}, s.client.PolicyV1().PodDisruptionBudgets(namespace).Get)
}

// PDBs lists the PodDisruptionBudgets of a namespace. An empty namespace means all of them.
func (s *Source) PDBs(ctx context.Context, namespace string) ([]*policyv1.PodDisruptionBudget, error) {
	return listAll(ctx, s, call{group: "policy", resource: "poddisruptionbudgets", namespace: namespace}, s.client.PolicyV1().PodDisruptionBudgets(namespace).List,
		func(l *policyv1.PodDisruptionBudgetList) []policyv1.PodDisruptionBudget { return l.Items })
}

// Lease reads a Lease by name.
func (s *Source) Lease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return getOne(ctx, s, call{group: "coordination.k8s.io", resource: "leases", namespace: namespace, name: name}, s.client.CoordinationV1().Leases(namespace).Get)
}

// Leases lists the Leases of a namespace. An empty namespace means all of them.
func (s *Source) Leases(ctx context.Context, namespace string) ([]*coordinationv1.Lease, error) {
	return listAll(ctx, s, call{group: "coordination.k8s.io", resource: "leases", namespace: namespace}, s.client.CoordinationV1().Leases(namespace).List,
		func(l *coordinationv1.LeaseList) []coordinationv1.Lease { return l.Items })
}

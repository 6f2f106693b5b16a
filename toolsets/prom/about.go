package prom

import (
	"net"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// kinds maps labels to the objects they name, the most specific first. The
// labels are those of kube-state-metrics, cadvisor, the DRA components and the
// usual exporters. A label "job" is the scrape job, never a Job.
func kinds() []objectLabel {
	return []objectLabel{
		{"persistentvolumeclaim", "", "PersistentVolumeClaim", true},
		{"horizontalpodautoscaler", "autoscaling", "HorizontalPodAutoscaler", true},
		{"resourcequota", "", "ResourceQuota", true},
		{"poddisruptionbudget", "policy", "PodDisruptionBudget", true},
		{"resourceclaim", "resource.k8s.io", "ResourceClaim", true},
		{"dra_claim_name", "resource.k8s.io", "ResourceClaim", true},
		{"cronjob", "batch", "CronJob", true},
		{"job_name", "batch", "Job", true},
		{"deployment", "apps", "Deployment", true},
		{"statefulset", "apps", "StatefulSet", true},
		{"daemonset", "apps", "DaemonSet", true},
		{"replicaset", "apps", "ReplicaSet", true},
		{"ingress", "networking.k8s.io", "Ingress", true},
		{"exported_pod", "", "Pod", true},
		{"pod", "", "Pod", true},
		{"exported_service", "", "Service", true},
		{"service", "", "Service", true},
		{"persistentvolume", "", "PersistentVolume", false},
		{"exported_node", "", "Node", false},
		{"node", "", "Node", false},
		{"kubernetes_node", "", "Node", false},
		{"nodename", "", "Node", false},
		{"Hostname", "", "Node", false},
		{"hostname", "", "Node", false},
	}
}

type objectLabel struct {
	label, group, kind string
	namespaced         bool
}

// watchers are exporters that speak of other objects: their own pod, service
// and node stand in the labels too and are not what an alert is about.
func watchers() []string {
	return []string{"kube-state-metrics", "dcgm-exporter", "node-exporter", "blackbox", "kubelet", "apiserver", "prometheus-adapter", "cadvisor"}
}

// About lists the objects that the labels of an alert or a series name, the one
// it is most likely about first. None is looked up.
func About(cluster string, labels map[string]string) []incident.Ref {
	return about(cluster, labels, slices.ContainsFunc([]string{labels["job"], labels["container"], labels["service"]}, watched))
}

// aboutAlert is About for an alert. One that tells of failing scrapes is about the
// exporter itself, whatever that watches.
func aboutAlert(cluster string, a Alert) []incident.Ref {
	if aboutScrapes(a) {
		return about(cluster, a.Labels, false)
	}
	return About(cluster, a.Labels)
}

// watched reports whether a value names an exporter that speaks of others.
func watched(v string) bool {
	return slices.ContainsFunc(watchers(), func(w string) bool { return strings.Contains(v, w) })
}

func about(cluster string, labels map[string]string, watcher bool) []incident.Ref {
	namespace := labels["exported_namespace"]
	if namespace == "" {
		namespace = labels["namespace"]
	}
	var out []incident.Ref
	add := func(r incident.Ref) {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	for _, k := range kinds() {
		v := labels[k.label]
		if v == "" || k.namespaced && namespace == "" {
			continue
		}
		// The exporter's own pod and service, beside what it watches.
		if watcher && (k.label == "pod" || k.label == "service") && (watched(v) || labels["exported_pod"] != "") {
			continue
		}
		r := incident.Ref{Cluster: cluster, Group: k.group, Kind: k.kind, Name: v}
		if k.namespaced {
			r.Namespace = namespace
			if k.label == "dra_claim_name" && labels["dra_claim_namespace"] != "" {
				r.Namespace = labels["dra_claim_namespace"]
			}
		}
		add(r)
	}
	// node-exporter and the kubelet name their node in instance.
	if job := labels["job"]; len(out) == 0 && (strings.Contains(job, "node-exporter") || strings.Contains(job, "kubelet")) {
		host := labels["instance"]
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host != "" && net.ParseIP(host) == nil {
			add(incident.Ref{Cluster: cluster, Kind: "Node", Name: host})
		}
	}
	if len(out) == 0 && namespace != "" && !watcher {
		add(incident.Ref{Cluster: cluster, Kind: "Namespace", Name: namespace})
	}
	return out
}

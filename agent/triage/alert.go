package triage

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// AlertSubjects reads the objects an alert's labels name. Label names are those
// of kube-state-metrics, the kube-prometheus rules, node_exporter and
// dcgm-exporter.
//
// Prometheus adds the labels of what it scraped (pod, container, service,
// namespace, instance) to every series that does not carry its own, so an alert
// about a Deployment or a Node often carries the pod of kube-state-metrics or of
// an exporter. That pod is what told, not what is in trouble: it counts only
// where nothing else is named.
func AlertSubjects(a incident.Alert, cluster string) []incident.Ref {
	l := a.Labels
	ns := first(l["exported_namespace"], l["namespace"])
	var out []incident.Ref
	add := func(group, kind, name string, namespaced bool) {
		r := incident.Ref{Cluster: cluster, Group: group, Kind: kind, Name: name}
		if namespaced {
			r.Namespace = ns
		}
		if name != "" && (!namespaced || ns != "") {
			out = appendNew(out, r)
		}
	}
	pod, teller := first(l["exported_pod"], l["pod"]), ""
	if l["exported_pod"] == "" && exporter(pod) && slices.ContainsFunc([]string{l["job"], l["container"], l["service"]}, exporter) {
		pod, teller = "", pod
	}
	add("", "Pod", pod, true)
	add("resource.k8s.io", "ResourceClaim", first(l["resourceclaim"], l["dra_claim_name"]), true)
	for _, k := range []struct{ label, group, kind string }{
		{"deployment", "apps", "Deployment"}, {"statefulset", "apps", "StatefulSet"}, {"daemonset", "apps", "DaemonSet"}, {"replicaset", "apps", "ReplicaSet"},
		{"job_name", "batch", "Job"}, {"cronjob", "batch", "CronJob"}, {"persistentvolumeclaim", "", "PersistentVolumeClaim"},
		{"horizontalpodautoscaler", "autoscaling", "HorizontalPodAutoscaler"}, {"poddisruptionbudget", "policy", "PodDisruptionBudget"}, {"ingress", "networking.k8s.io", "Ingress"},
	} {
		add(k.group, k.kind, l[k.label], true)
		// The recording rules of kube-prometheus name the controller of a pod so.
		if strings.EqualFold(l["workload_type"], k.kind) {
			add(k.group, k.kind, l["workload"], true)
		}
	}
	if len(out) == 0 {
		add("", "PersistentVolume", l["persistentvolume"], false)
		add("karpenter.sh", "NodePool", l["nodepool"], false)
	}
	if len(out) == 0 {
		node := first(l["node"], l["kubernetes_node"], l["nodename"], l["Hostname"], l["hostname"])
		if node == "" && (teller != "" || exporter(l["job"])) && !strings.Contains(teller+l["job"], "kube-state-metrics") {
			node = host(l["instance"])
		}
		add("", "Node", node, false)
	}
	if len(out) == 0 && (l["instance"] == "" || !exporter(l["service"])) {
		add("", "Service", first(l["exported_service"], l["service"]), true)
	}
	if len(out) == 0 && !strings.Contains(teller, "kube-state-metrics") {
		add("", "Pod", teller, true)
	}
	if len(out) == 0 && teller != "" && ns != "" && a.Name != "" && strings.HasPrefix(a.Name, "KubePod") {
		add("", "Pod", teller, true) // kube-state-metrics itself
	}
	if len(out) == 0 {
		add("", "Namespace", ns, false)
	}
	return out
}

// exporter reports whether a name is one of what only tells metrics of others.
func exporter(name string) bool {
	return strings.Contains(name, "kube-state-metrics") || strings.Contains(name, "exporter")
}

// host gives the name in an instance label, "gpu-7:9100", nothing for an address.
func host(instance string) string {
	name, _, _ := strings.Cut(instance, ":")
	if _, err := netip.ParseAddr(name); err == nil || strings.HasPrefix(instance, "[") {
		return ""
	}
	return name
}

// pasted reads an alert that was pasted into a question with its labels: a line
// of Prometheus or amtool, YAML, or the JSON of a webhook. nil if none is there.
// Of several alerts it is the first.
func (v *vocabulary) pasted(text string) *incident.Alert {
	a := incident.Alert{Labels: map[string]string{}}
	for _, m := range v.pairs.FindAllStringSubmatch(text, -1) {
		key, value := m[1], strings.TrimRight(m[2], ".:/-")
		switch {
		case key == "alertname" && a.Name == "":
			a.Name = value
		case key == "alertname" && a.Name != value:
			// The labels of another alert follow.
			return &a
		case a.Labels[key] == "":
			a.Labels[key] = value
		}
	}
	if a.Name == "" {
		return nil
	}
	return &a
}

package apiserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

func (s *Server) serveVersion(w http.ResponseWriter) {
	v := s.bundle.Manifest.ServerVersion
	if v == "" {
		v = "v1.37.2"
	}
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	info := version.Info{GitVersion: v, Major: parts[0], Platform: "linux/amd64", BuildDate: s.now().UTC().Format("2006-01-02T15:04:05Z")}
	if len(parts) > 1 {
		info.Minor = parts[1]
	}
	writeJSON(w, http.StatusOK, info)
}

func (s *Server) serveRoots(w http.ResponseWriter, p string) {
	if p == "/api" {
		writeJSON(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
		return
	}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, g := range s.groups() {
		list.Groups = append(list.Groups, s.group(g))
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Server) groups() []string {
	out := []string{"authorization.k8s.io"}
	for _, r := range s.resources {
		if r.Group != "" && !slices.Contains(out, r.Group) {
			out = append(out, r.Group)
		}
	}
	slices.Sort(out)
	return out
}

func (s *Server) group(name string) metav1.APIGroup {
	g := metav1.APIGroup{Name: name}
	add := func(v string) {
		gv := metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v}
		if !slices.Contains(g.Versions, gv) {
			g.Versions = append(g.Versions, gv)
		}
	}
	if name == "authorization.k8s.io" {
		add("v1")
	}
	for _, r := range s.resources {
		if r.Group == name {
			add(r.Version)
		}
	}
	if len(g.Versions) > 0 {
		g.PreferredVersion = g.Versions[0]
	}
	return g
}

func (s *Server) serveGroup(w http.ResponseWriter, name string) {
	g := s.group(name)
	if len(g.Versions) == 0 {
		fail(w, notFoundPath())
		return
	}
	g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
	writeJSON(w, http.StatusOK, g)
}

func (s *Server) serveGroupVersion(w http.ResponseWriter, group, ver string) {
	gv := metav1.GroupVersion{Group: group, Version: ver}
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	if group == "authorization.k8s.io" && ver == "v1" {
		for _, k := range []string{"SelfSubjectAccessReview", "SelfSubjectRulesReview"} {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: strings.ToLower(k) + "s", Kind: k, Verbs: metav1.Verbs{"create"}, Namespaced: false})
		}
	}
	for _, r := range s.resources {
		if r.Group != group || r.Version != ver {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: r.Plural, SingularName: r.Singular, Kind: r.Kind, Namespaced: r.Namespaced,
			ShortNames: r.ShortNames, Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"}})
		for _, sub := range subresources(r) {
			verbs := metav1.Verbs{"get", "patch", "update"}
			if sub == "log" {
				verbs = metav1.Verbs{"get"}
			}
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: r.Plural + "/" + sub, Kind: r.Kind, Namespaced: r.Namespaced, Verbs: verbs})
		}
	}
	if len(list.APIResources) == 0 {
		fail(w, notFoundPath())
		return
	}
	writeJSON(w, http.StatusOK, list)
}

func subresources(r bundle.Resource) []string {
	if len(r.Subresources) > 0 {
		return slices.DeleteFunc(slices.Clone(r.Subresources), func(s string) bool { return s != "status" && s != "log" })
	}
	if r.Group == "" && r.Plural == "pods" {
		return []string{"status", "log"}
	}
	return []string{"status"}
}

// builtin lists what a current Kubernetes serves, for bundles written by hand.
func builtin() []bundle.Resource {
	type row struct {
		group, version, kind, plural, short string
		namespaced                          bool
	}
	rows := []row{
		{"", "v1", "Pod", "pods", "po", true}, {"", "v1", "Service", "services", "svc", true}, {"", "v1", "ConfigMap", "configmaps", "cm", true},
		{"", "v1", "Secret", "secrets", "", true}, {"", "v1", "ServiceAccount", "serviceaccounts", "sa", true}, {"", "v1", "Event", "events", "ev", true},
		{"", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", true}, {"", "v1", "ResourceQuota", "resourcequotas", "quota", true},
		{"", "v1", "LimitRange", "limitranges", "limits", true}, {"", "v1", "Endpoints", "endpoints", "ep", true}, {"", "v1", "ReplicationController", "replicationcontrollers", "rc", true},
		{"", "v1", "Node", "nodes", "no", false}, {"", "v1", "Namespace", "namespaces", "ns", false}, {"", "v1", "PersistentVolume", "persistentvolumes", "pv", false},
		{"apps", "v1", "Deployment", "deployments", "deploy", true}, {"apps", "v1", "ReplicaSet", "replicasets", "rs", true}, {"apps", "v1", "StatefulSet", "statefulsets", "sts", true},
		{"apps", "v1", "DaemonSet", "daemonsets", "ds", true}, {"apps", "v1", "ControllerRevision", "controllerrevisions", "", true},
		{"batch", "v1", "Job", "jobs", "", true}, {"batch", "v1", "CronJob", "cronjobs", "cj", true},
		{"autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", true},
		{"policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", true},
		{"networking.k8s.io", "v1", "Ingress", "ingresses", "ing", true}, {"networking.k8s.io", "v1", "IngressClass", "ingressclasses", "", false},
		{"networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", true}, {"discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "", true},
		{"storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", false}, {"storage.k8s.io", "v1", "CSIDriver", "csidrivers", "", false},
		{"storage.k8s.io", "v1", "CSINode", "csinodes", "", false}, {"storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "", false},
		{"scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", false}, {"node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "", false},
		{"coordination.k8s.io", "v1", "Lease", "leases", "", true},
		{"admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "", false},
		{"admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "", false},
		{"apiregistration.k8s.io", "v1", "APIService", "apiservices", "", false},
		{"apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "crd", false},
		{"rbac.authorization.k8s.io", "v1", "Role", "roles", "", true}, {"rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "", true},
		{"rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "", false}, {"rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "", false},
		{"resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", "", true}, {"resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", "", true},
		{"resource.k8s.io", "v1", "ResourceSlice", "resourceslices", "", false}, {"resource.k8s.io", "v1", "DeviceClass", "deviceclasses", "", false},
		{"resource.k8s.io", "v1", "DeviceTaintRule", "devicetaintrules", "", false},
	}
	out := make([]bundle.Resource, 0, len(rows))
	for _, r := range rows {
		res := bundle.Resource{Group: r.group, Version: r.version, Kind: r.kind, Plural: r.plural, Singular: strings.ToLower(r.kind), Namespaced: r.namespaced}
		if r.short != "" {
			res.ShortNames = []string{r.short}
		}
		out = append(out, res)
	}
	return out
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

package actions

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// system reports whether the cluster itself lives on an object: it is in a
// namespace of Kubernetes or of a component that nodes need, or its pods carry a
// priority that Kubernetes reserves for such.
func system(u *unstructured.Unstructured) bool {
	ns := u.GetNamespace()
	if u.GetKind() == "Namespace" {
		ns = u.GetName()
	}
	if strings.HasPrefix(ns, "kube-") || slices.Contains([]string{"cilium", "cilium-system", "calico-system", "tigera-operator", "gpu-operator", "nvidia-gpu-operator", "nvidia-dra-driver-gpu", "istio-system", "aks-istio-system", "applink-system", "cilium-spire", "spire", "spire-system", "openshift-sdn", "openshift-ovn-kubernetes"}, ns) {
		return true
	}
	for _, path := range [][]string{{"spec", "priorityClassName"}, {"spec", "template", "spec", "priorityClassName"}} {
		if p, _, _ := unstructured.NestedString(u.Object, path...); strings.HasPrefix(p, "system-") {
			return true
		}
	}
	return false
}

// Names of delivery tools.
const (
	argo = "Argo CD"
	flux = "Flux"
	helm = "Helm"
)

// keeper is the delivery tool that keeps an object as a repository or a release says.
type keeper struct {
	// tool is Argo CD, Flux or Helm; kind, namespace and name are its object. The
	// name is empty when only the field manager tells.
	tool, kind, namespace, name string
}

// String gives "Argo CD Application web", or the tool alone.
func (k keeper) String() string {
	if k.name == "" {
		return k.tool
	}
	name := k.name
	if k.namespace != "" {
		name = k.namespace + "/" + name
	}
	if k.tool == helm {
		return "Helm release " + name
	}
	return k.tool + " " + k.kind + " " + name
}

// managers are the field managers of the delivery tools, by what they write.
func managers() map[string]keeper {
	return map[string]keeper{
		"argocd-controller": {tool: argo, kind: "Application"}, "argocd-application-controller": {tool: argo, kind: "Application"},
		"kustomize-controller": {tool: flux, kind: "Kustomization"}, "helm-controller": {tool: flux, kind: "HelmRelease"},
		"helm": {tool: helm, kind: "Release"},
	}
}

// keeperOf tells by labels, annotations and field managers who delivers an object
// (argo-cd.readthedocs.io, resource tracking; fluxcd.io, Kustomization and HelmRelease
// labels; helm.sh, labels and annotations). A tracking id that names another object
// was copied and counts for nothing, as for Argo CD itself.
func keeperOf(u *unstructured.Unstructured) (keeper, bool) {
	labels, notes := u.GetLabels(), u.GetAnnotations()
	writes := map[string]bool{}
	for _, m := range u.GetManagedFields() {
		if k, ok := managers()[m.Manager]; ok && m.Subresource == "" {
			writes[k.tool+k.kind] = true
		}
	}
	if id := notes["argocd.argoproj.io/tracking-id"]; id != "" && tracks(id, u) {
		app, _, _ := strings.Cut(id, ":")
		return keeper{argo, "Application", "", app}, true
	}
	if app := labels["argocd.argoproj.io/instance"]; app != "" {
		return keeper{argo, "Application", "", app}, true
	}
	if app := labels["app.kubernetes.io/instance"]; app != "" && writes[argo+"Application"] {
		return keeper{argo, "Application", "", app}, true
	}
	if n := labels["kustomize.toolkit.fluxcd.io/name"]; n != "" {
		return keeper{flux, "Kustomization", labels["kustomize.toolkit.fluxcd.io/namespace"], n}, true
	}
	if n := labels["helm.toolkit.fluxcd.io/name"]; n != "" {
		return keeper{flux, "HelmRelease", labels["helm.toolkit.fluxcd.io/namespace"], n}, true
	}
	if n := notes["meta.helm.sh/release-name"]; n != "" {
		return keeper{helm, "Release", notes["meta.helm.sh/release-namespace"], n}, true
	}
	for _, m := range u.GetManagedFields() { // in the order of the object, which does not change
		if k, ok := managers()[m.Manager]; ok && m.Subresource == "" {
			return k, true
		}
	}
	// Charts write this label by themselves, also where something else installs them
	// and onto pods: it counts on what no controller makes.
	if labels["app.kubernetes.io/managed-by"] == "Helm" && metav1.GetControllerOf(u) == nil {
		return keeper{tool: helm, kind: "Release", namespace: u.GetNamespace(), name: labels["app.kubernetes.io/instance"]}, true
	}
	return keeper{}, false
}

// tracks reports whether a tracking id "app:group/Kind:namespace/name" names the object.
func tracks(id string, u *unstructured.Unstructured) bool {
	parts := strings.SplitN(id, ":", 3)
	if len(parts) != 3 {
		return false
	}
	gk := u.GroupVersionKind().GroupKind()
	ns, name, _ := strings.Cut(parts[2], "/")
	// Of a cluster-wide object the id has the application's own namespace.
	return parts[1] == gk.Group+"/"+gk.Kind && name == u.GetName() && (u.GetNamespace() == "" || ns == u.GetNamespace())
}

// owner names who keeps an object as it is: a delivery tool, else its controller.
func owner(u *unstructured.Unstructured) string {
	if k, ok := keeperOf(u); ok {
		return k.String()
	}
	if r := metav1.GetControllerOf(u); r != nil {
		return r.Kind + " " + r.Name
	}
	return ""
}

package actions

import (
	"slices"
	"strings"

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

// owner names who keeps an object as it is: a delivery tool, else its controller.
func owner(u *unstructured.Unstructured) string {
	labels, notes := u.GetLabels(), u.GetAnnotations()
	switch {
	case notes["argocd.argoproj.io/tracking-id"] != "":
		app, _, _ := strings.Cut(notes["argocd.argoproj.io/tracking-id"], ":")
		return "Argo CD Application " + app
	case labels["argocd.argoproj.io/instance"] != "":
		return "Argo CD Application " + labels["argocd.argoproj.io/instance"]
	case labels["kustomize.toolkit.fluxcd.io/name"] != "":
		return "Flux Kustomization " + labels["kustomize.toolkit.fluxcd.io/namespace"] + "/" + labels["kustomize.toolkit.fluxcd.io/name"]
	case labels["helm.toolkit.fluxcd.io/name"] != "":
		return "Flux HelmRelease " + labels["helm.toolkit.fluxcd.io/namespace"] + "/" + labels["helm.toolkit.fluxcd.io/name"]
	case notes["meta.helm.sh/release-name"] != "":
		return "Helm release " + notes["meta.helm.sh/release-namespace"] + "/" + notes["meta.helm.sh/release-name"]
	}
	for _, o := range u.GetOwnerReferences() {
		if o.Controller != nil && *o.Controller {
			return o.Kind + " " + o.Name
		}
	}
	return ""
}

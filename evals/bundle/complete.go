package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// complete gives written objects what an API server and its controllers give
// every object: a uid, an owner where one would adopt it, and references that
// carry it. A captured object has a uid and is left as it was, so that a reference
// to an earlier object of the same name stays one. uids are made from the names: the same bundle opens the same.
func complete(objects []*unstructured.Unstructured) {
	written := map[*unstructured.Unstructured]bool{}
	byName := map[string]*unstructured.Unstructured{}
	for _, u := range objects {
		byName[named(u.GetKind(), u.GetNamespace(), u.GetName())] = u
		if u.GetUID() == "" {
			written[u] = true
			u.SetUID(uidOf(u))
		}
	}
	adopt(objects, written)
	for _, u := range objects {
		owned(u, byName)
		if u.GetKind() == "ResourceClaim" {
			reserved(u, byName)
		}
		if u.GetKind() == "Pod" && written[u] {
			generated(u, byName, written)
		}
	}
}

// adopters are the kinds whose controllers take in what their selector finds and
// nobody controls, by the kind that they take in.
func adopters() map[string][]string {
	return map[string][]string{"Pod": {"ReplicaSet", "StatefulSet", "DaemonSet", "Job"}, "ReplicaSet": {"Deployment"}}
}

// adopt makes controllers the owners of written objects that they would adopt. An
// object that several would take in stays alone.
func adopt(objects []*unstructured.Unstructured, written map[*unstructured.Unstructured]bool) {
	selectors := map[*unstructured.Unstructured]map[string]string{}
	for _, u := range objects {
		if l, _, _ := unstructured.NestedStringMap(u.Object, "spec", "selector", "matchLabels"); len(l) > 0 {
			selectors[u] = l
		}
	}
	for _, u := range objects {
		kinds := adopters()[u.GetKind()]
		if len(kinds) == 0 || !written[u] || len(u.GetOwnerReferences()) > 0 {
			continue
		}
		var by []*unstructured.Unstructured
		for c, want := range selectors {
			if c.GetNamespace() == u.GetNamespace() && slices.Contains(kinds, c.GetKind()) && holds(u.GetLabels(), want) {
				by = append(by, c)
			}
		}
		if len(by) == 1 {
			u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: by[0].GetAPIVersion(), Kind: by[0].GetKind(), Name: by[0].GetName(), UID: by[0].GetUID(), Controller: new(true)}})
		}
	}
}

func holds(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func named(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

// uidOf makes a uid of the usual shape from what names the object.
func uidOf(u *unstructured.Unstructured) types.UID {
	group, _, _ := strings.Cut(u.GetAPIVersion(), "/")
	h := sha256.Sum256([]byte(group + "/" + named(u.GetKind(), u.GetNamespace(), u.GetName())))
	x := hex.EncodeToString(h[:16])
	return types.UID(x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:])
}

// owned fills in the uids of owner references that have none. An owner is in the
// same namespace, or in none.
func owned(u *unstructured.Unstructured, byName map[string]*unstructured.Unstructured) {
	refs := u.GetOwnerReferences()
	changed := false
	for i, r := range refs {
		if r.UID != "" {
			continue
		}
		owner := byName[named(r.Kind, u.GetNamespace(), r.Name)]
		if owner == nil {
			owner = byName[named(r.Kind, "", r.Name)]
		}
		if owner == nil {
			continue
		}
		refs[i].UID, changed = owner.GetUID(), true
		if len(refs) == 1 && r.Controller == nil {
			refs[i].Controller = new(true)
		}
	}
	if changed {
		u.SetOwnerReferences(refs)
	}
}

// reserved fills in the uids of the pods that a claim is reserved for.
func reserved(u *unstructured.Unstructured, byName map[string]*unstructured.Unstructured) {
	list, ok, err := unstructured.NestedSlice(u.Object, "status", "reservedFor")
	if !ok || err != nil {
		return
	}
	for _, x := range list {
		m, _ := x.(map[string]any)
		name, _ := m["name"].(string)
		if pod := byName[named("Pod", u.GetNamespace(), name)]; pod != nil && m["uid"] == nil && (m["resource"] == "pods" || m["resource"] == nil) {
			m["resource"], m["uid"] = "pods", string(pod.GetUID())
		}
	}
	// The list came from the object itself, so it can be set again.
	_ = unstructured.SetNestedSlice(u.Object, list, "status", "reservedFor")
}

// generated makes a written pod the owner of the written claims that its status
// says were generated for it: nobody else may own them.
func generated(pod *unstructured.Unstructured, byName map[string]*unstructured.Unstructured, written map[*unstructured.Unstructured]bool) {
	templates := map[string]bool{}
	claims, _, _ := unstructured.NestedSlice(pod.Object, "spec", "resourceClaims")
	for _, x := range claims {
		if m, _ := x.(map[string]any); m["resourceClaimTemplateName"] != nil {
			name, _ := m["name"].(string)
			templates[name] = true
		}
	}
	statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "resourceClaimStatuses")
	for _, x := range statuses {
		m, _ := x.(map[string]any)
		of, _ := m["name"].(string)
		name, _ := m["resourceClaimName"].(string)
		claim := byName[named("ResourceClaim", pod.GetNamespace(), name)]
		if claim == nil || !templates[of] || !written[claim] || len(claim.GetOwnerReferences()) > 0 {
			continue
		}
		_ = unstructured.SetNestedSlice(claim.Object, []any{map[string]any{
			"apiVersion": "v1", "kind": "Pod", "name": pod.GetName(), "uid": string(pod.GetUID()), "controller": true,
		}}, "metadata", "ownerReferences")
	}
}

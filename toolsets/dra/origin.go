package dra

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// templateOf is the ResourceClaimTemplate that a claim of a pod was made from, where
// its spec must be mended. It is empty for what else makes claims (a person, the
// scheduler for extended resources, another controller) and for another pod's claim.
func templateOf(pod *corev1.Pod, c *resourceapi.ResourceClaim) string {
	if pod == nil || resourceclaim.IsForPod(pod, c, true) != nil {
		return ""
	}
	for i := range pod.Spec.ResourceClaims {
		pc := &pod.Spec.ResourceClaims[i]
		if pc.ResourceClaimTemplateName == nil {
			continue
		}
		if name, _, err := resourceclaim.Name(pod, pc); err == nil && name != nil && *name == c.Name {
			return *pc.ResourceClaimTemplateName
		}
	}
	return ""
}

// standalone says that no controller made a claim, so that the claim itself is what
// a person mends. One that is not in the cluster (no UID) is none.
func standalone(c *resourceapi.ResourceClaim) bool {
	_, forEntry := c.Annotations[resourceapi.PodResourceClaimAnnotation]
	_, forResource := c.Annotations[resourceapi.ExtendedResourceClaimAnnotation]
	return c.UID != "" && len(c.OwnerReferences) == 0 && !forEntry && !forResource
}

// withOrigin adds where a claim's spec comes from to the findings about it, as the
// params "template" or "standalone". Neither is there when nobody can say what to
// change, so whoever proposes a change must ask for the one it rests on.
func withOrigin(fs []incident.Finding, claim incident.Ref, template string, standalone bool) []incident.Finding {
	if template == "" && !standalone {
		return fs
	}
	for i := range fs {
		// A class that is not there is mended where the claim names it.
		named := fs[i].Code == "dra.class_missing" && fs[i].Params["claim"] == claim.Name
		if fs[i].Subject != claim && !named {
			continue
		}
		// The params may be shared with another finding.
		p := maps.Clone(fs[i].Params)
		if p == nil {
			p = map[string]string{}
		}
		if named {
			p["namespace"] = claim.Namespace
		}
		if template != "" {
			p["template"] = template
		} else {
			p["standalone"] = "true"
		}
		fs[i].Params = p
	}
	return fs
}

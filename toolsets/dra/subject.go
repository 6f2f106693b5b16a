package dra

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// subject is a pod with its claims, or a claim without a pod, and what is wrong
// with them before any node is looked at (PreEnqueue and PreFilter of the
// scheduler's plugin, v1.37.2).
type subject struct {
	pod      *corev1.Pod
	claims   []*resourceapi.ResourceClaim
	views    []ClaimView
	findings []incident.Finding
	edges    []incident.Edge
	notes    []string
	limits   []incident.Gap
	// blocked: the scheduler does not get as far as looking at nodes.
	blocked bool
}

func (s *subject) fault(code string, on incident.Ref, confidence float64, params map[string]string, format string, args ...any) {
	s.blocked = true
	s.findings = append(s.findings, finding(code, on, confidence, params, format, args...))
}

func view(c *resourceapi.ResourceClaim) ClaimView {
	v := ClaimView{Name: c.Name, State: "pending", Devices: []string{}, Requests: []RequestView{}, Constraints: []ConstraintView{}}
	if c.Status.Allocation != nil {
		v.State = "allocated"
		if len(c.Status.ReservedFor) > 0 {
			v.State = "allocated,reserved"
		}
		v.Node = nodeSelectorText(c)
		for _, d := range devicesOf(c) {
			v.Devices = append(v.Devices, d.String())
		}
	}
	if c.DeletionTimestamp != nil {
		v.State += ",deleted"
	}
	return v
}

// ofPod resolves the claims of a pod.
func (t *Toolset) ofPod(ctx context.Context, pod *corev1.Pod) (*subject, error) {
	s := &subject{pod: pod}
	podRef := t.podRef(pod.Namespace, pod.Name)
	for i := range pod.Spec.ResourceClaims {
		pc := &pod.Spec.ResourceClaims[i]
		name, mustOwn, err := resourceclaim.Name(pod, pc)
		if err != nil {
			if err := t.notCreated(ctx, s, pc); err != nil {
				return nil, err
			}
			continue
		}
		if name == nil {
			continue // no claim is needed for this entry
		}
		ref := t.claimRef(pod.Namespace, *name)
		s.edges = append(s.edges, incident.Edge{From: podRef, Relation: graph.Claims, To: ref})
		claim, err := t.read.claim(ctx, pod.Namespace, *name)
		if isNotFound(err) {
			s.views = append(s.views, ClaimView{Name: *name, State: "missing", Devices: []string{}, Requests: []RequestView{}, Constraints: []ConstraintView{}})
			s.fault("dra.claim_missing", ref, 0.97, map[string]string{"pod": pod.Name, "claim": *name}, "pod %s names ResourceClaim %s, which does not exist in namespace %s", pod.Name, *name, pod.Namespace)
			continue
		}
		if err != nil {
			return nil, err
		}
		v := view(claim)
		if pc.ResourceClaimTemplateName != nil {
			v.Template = *pc.ResourceClaimTemplateName
			s.edges = append(s.edges, incident.Edge{From: ref, Relation: graph.FromTemplate, To: t.ref(apiGroup, "ResourceClaimTemplate", pod.Namespace, v.Template)})
		}
		s.views = append(s.views, v)
		s.claims = append(s.claims, claim)
		t.judgeClaim(s, claim, mustOwn)
	}
	return s, nil
}

// judgeClaim looks at one claim as the scheduler does before it tries nodes.
func (t *Toolset) judgeClaim(s *subject, c *resourceapi.ResourceClaim, mustOwn bool) {
	pod, ref := s.pod, t.claimRef(c.Namespace, c.Name)
	bound := pod.Spec.NodeName != ""
	if mustOwn {
		if err := resourceclaim.IsForPod(pod, c, true); err != nil {
			owner := "nobody"
			if o := metav1.GetControllerOf(c); o != nil {
				owner = o.Kind + " " + o.Name
				if o.Name == pod.Name {
					owner += " of another uid"
				}
			}
			s.fault("dra.claim_not_owned", ref, 0.96, map[string]string{"pod": pod.Name, "owner": owner}, "ResourceClaim %s was not made for pod %s: its controller is %s", c.Name, pod.Name, owner)
			return
		}
	}
	if c.DeletionTimestamp != nil && !bound {
		s.fault("dra.claim_deleting", ref, 0.95, map[string]string{"finalizers": strings.Join(c.Finalizers, ", "), "pod": pod.Name, "since": c.DeletionTimestamp.UTC().Format(time.RFC3339)},
			"ResourceClaim %s is being deleted since %s (finalizers: %s; reserved for %s), so pod %s is not scheduled", c.Name, c.DeletionTimestamp.UTC().Format(time.RFC3339), strings.Join(c.Finalizers, ", "), reservedText(c), pod.Name)
		return
	}
	if full := len(c.Status.ReservedFor) >= resourceapi.ResourceClaimReservedForMaxSize; full && !resourceclaim.IsReservedForPod(pod, c, true) {
		s.fault("dra.claim_reserved_full", ref, 0.96, map[string]string{"consumers": itoa(len(c.Status.ReservedFor))},
			"ResourceClaim %s is reserved for %d consumers, the most it can have, and pod %s is not one of them", c.Name, len(c.Status.ReservedFor), pod.Name)
	}
}

func reservedText(c *resourceapi.ResourceClaim) string {
	if len(c.Status.ReservedFor) == 0 {
		return "nobody"
	}
	return strings.TrimPrefix(consumers(c), ", ")
}

// notCreated is for a template's claim that the controller has not made.
func (t *Toolset) notCreated(ctx context.Context, s *subject, pc *corev1.PodResourceClaim) error {
	pod := s.pod
	if pc.ResourceClaimTemplateName == nil {
		return nil
	}
	podRef := t.podRef(pod.Namespace, pod.Name)
	name := *pc.ResourceClaimTemplateName
	ref := t.ref(apiGroup, "ResourceClaimTemplate", pod.Namespace, name)
	s.edges = append(s.edges, incident.Edge{From: podRef, Relation: graph.FromTemplate, To: ref})
	tmpl, err := t.read.template(ctx, pod.Namespace, name)
	if isNotFound(err) {
		s.fault("dra.template_missing", ref, 0.97, map[string]string{"pod": pod.Name, "template": name, "claim": pc.Name},
			"pod %s takes claim %s from ResourceClaimTemplate %s, which does not exist in namespace %s", pod.Name, pc.Name, name, pod.Namespace)
		return nil
	}
	if err != nil {
		s.limits = append(s.limits, gap("resourceclaimtemplates", err))
	}
	events, err := t.read.events(ctx, pod.Namespace, "Pod", pod.Name)
	if err != nil {
		s.limits = append(s.limits, gap("events", err))
	}
	i := slices.IndexFunc(events, func(e corev1.Event) bool { return e.Reason == "FailedResourceClaimCreation" })
	age := t.now().Sub(pod.CreationTimestamp.Time)
	switch {
	case i >= 0:
		return t.createFailed(ctx, s, &events[i], tmpl, name)
	case age < 30*time.Second:
		s.notes = append(s.notes, fmt.Sprintf("claim %s is not made yet; the pod is %s old", pc.Name, age.Round(time.Second)))
		s.blocked = true
	default:
		s.fault("dra.claim_create_failed", podRef, 0.7, map[string]string{"message": "no claim and no event", "template": name},
			"claim %s of pod %s has not been made from template %s in %s, and there is no event: the resourceclaim controller may be down", pc.Name, pod.Name, name, age.Round(time.Second))
	}
	return nil
}

// createFailed reads the controller's event.
func (t *Toolset) createFailed(ctx context.Context, s *subject, e *corev1.Event, tmpl *resourceapi.ResourceClaimTemplate, name string) error {
	pod := s.pod
	podRef := t.podRef(pod.Namespace, pod.Name)
	if strings.Contains(e.Message, resourceapi.DRAAdminNamespaceLabelKey) {
		ns, err := t.read.client.CoreV1().Namespaces().Get(ctx, pod.Namespace, metav1.GetOptions{})
		if err == nil && ns.Labels[resourceapi.DRAAdminNamespaceLabelKey] == "true" {
			s.notes = append(s.notes, "namespace "+pod.Namespace+" carries the admin-access label now; the controller tries again with growing pauses")
		}
		ref := t.ref("", "Namespace", "", pod.Namespace)
		s.edges = append(s.edges, incident.Edge{From: podRef, Relation: graph.GatedBy, To: ref})
		s.fault("dra.admin_access_denied", ref, 0.96, map[string]string{"claim": name, "label": resourceapi.DRAAdminNamespaceLabelKey + "=true", "pod": pod.Name},
			"template %s asks for adminAccess and namespace %s lacks the label %s=true", name, pod.Namespace, resourceapi.DRAAdminNamespaceLabelKey)
		return nil
	}
	params := map[string]string{"message": e.Message, "template": name}
	if tmpl != nil && strings.Contains(e.Message, "not found") {
		params["reason"] = "back-off"
		s.fault("dra.claim_create_failed", podRef, 0.93, params,
			"template %s did not exist when the controller last tried (%s) and exists now (since %s); it tries again after a pause of up to 1000 s, or at once for a new pod", name, eventTime(e).UTC().Format(time.RFC3339), tmpl.CreationTimestamp.UTC().Format(time.RFC3339))
		return nil
	}
	s.fault("dra.claim_create_failed", podRef, 0.93, params, "the controller cannot make the claim of pod %s from template %s: %s", pod.Name, name, e.Message)
	return nil
}

// ofClaim resolves a claim and the pod that waits for it, if there is one.
func (t *Toolset) ofClaim(ctx context.Context, namespace, name string) (*subject, error) {
	c, err := t.read.claim(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	pod, err := t.consumer(ctx, c)
	if err != nil {
		return nil, err
	}
	if pod != nil {
		return t.ofPod(ctx, pod)
	}
	return &subject{claims: []*resourceapi.ResourceClaim{c}, views: []ClaimView{view(c)}}, nil
}

// consumer finds the pod a claim was made for, or else the oldest pod of the
// namespace that names it and is not yet bound.
func (t *Toolset) consumer(ctx context.Context, c *resourceapi.ResourceClaim) (*corev1.Pod, error) {
	if o := metav1.GetControllerOf(c); o != nil && o.Kind == "Pod" {
		p, err := t.read.pod(ctx, c.Namespace, o.Name)
		if err == nil && p.UID == o.UID {
			return p, nil
		}
		if err != nil && !isNotFound(err) && tool.KindOf(err) != tool.Forbidden {
			return nil, err
		}
		return nil, nil
	}
	if c.Status.Allocation != nil && len(c.Status.ReservedFor) > 0 {
		return nil, nil
	}
	var best *corev1.Pod
	// Only pods without a node may still become its consumer: the server leaves
	// the others out.
	err := pages(ctx, metav1.ListOptions{Limit: pageSize, FieldSelector: "spec.nodeName="}, t.read.client.CoreV1().Pods(c.Namespace).List, func(l *corev1.PodList) {
		for i := range l.Items {
			p := &l.Items[i]
			if p.Spec.NodeName != "" || p.Status.Phase != corev1.PodPending && p.Status.Phase != "" {
				continue
			}
			uses := slices.ContainsFunc(p.Spec.ResourceClaims, func(pc corev1.PodResourceClaim) bool {
				return pc.ResourceClaimName != nil && *pc.ResourceClaimName == c.Name
			})
			if uses && (best == nil || cmp.Or(p.CreationTimestamp.Compare(best.CreationTimestamp.Time), strings.Compare(p.Name, best.Name)) < 0) {
				best = p
			}
		}
	})
	if err := failure(err, "list", "pods", c.Namespace, ""); err != nil && tool.KindOf(err) != tool.Forbidden {
		return nil, err
	}
	return best, nil
}

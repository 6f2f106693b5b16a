package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// watchedKinds are the kinds whose changes explain trouble, by scope.
func watchedKinds() (namespaced, cluster []string) {
	return []string{
			"deployments.apps", "statefulsets.apps", "daemonsets.apps", "cronjobs.batch", "jobs.batch", "configmaps", "secrets", "services",
			"serviceaccounts", "ingresses.networking.k8s.io", "networkpolicies.networking.k8s.io", "persistentvolumeclaims", "resourcequotas", "limitranges",
			"horizontalpodautoscalers.autoscaling", "poddisruptionbudgets.policy", "resourceclaimtemplates.resource.k8s.io",
			"httproutes.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io",
		}, []string{
			"nodes", "deviceclasses.resource.k8s.io", "devicetaintrules.resource.k8s.io", "storageclasses.storage.k8s.io", "priorityclasses.scheduling.k8s.io",
			"validatingwebhookconfigurations.admissionregistration.k8s.io", "mutatingwebhookconfigurations.admissionregistration.k8s.io",
			"validatingadmissionpolicies.admissionregistration.k8s.io", "customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io",
		}
}

// everything looks at a namespace, or at the whole cluster with its
// cluster-scoped kinds. Nodes are looked at either way: their changes hit all.
func (h *history) everything(ctx context.Context, namespace string) error {
	namespaced, cluster := watchedKinds()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(6)
	for _, word := range slices.Concat(namespaced, cluster) {
		m, ok := h.src.Kind(ctx, word)
		if !ok {
			continue
		}
		g.Go(func() error { return h.kind(ctx, m, namespace) })
	}
	g.Go(func() error { return h.happenings(ctx, namespace, incident.Ref{}) })
	return g.Wait()
}

// kind walks the metadata of all objects of a kind, and the rollouts of those
// that roll out.
func (h *history) kind(ctx context.Context, m source.Mapping, namespace string) error {
	type rolled struct{ namespace, name string }
	var rollouts []rolled
	err := h.src.EachMetadata(ctx, m, namespace, source.Selectors{}, func(o *metav1.PartialObjectMetadata) bool {
		// A controller's object changes because its owner did; what every namespace
		// gets by itself is not somebody's change.
		if metav1.GetControllerOf(o) != nil || o.Name == "kube-root-ca.crt" || m.Kind == "ServiceAccount" && o.Name == "default" {
			return true
		}
		ref := h.src.Ref(m.GVR.Group, m.Kind, o.Namespace, o.Name)
		h.edits(ref, o)
		if m.GVR.Group == "apps" && len(rollouts) < 100 && h.touched(o) {
			rollouts = append(rollouts, rolled{o.Namespace, o.Name})
		}
		return true
	})
	if err != nil {
		return h.note(err)
	}
	for _, o := range rollouts {
		if err := h.rollout(ctx, m.Kind, o.namespace, o.name); err != nil {
			return err
		}
	}
	if m.Kind == "Node" && m.GVR.Group == "" {
		return h.nodes(ctx)
	}
	return nil
}

// touched reports whether any manager wrote an object within the window.
func (h *history) touched(o metav1.Object) bool {
	if len(o.GetManagedFields()) == 0 {
		return true // not known: look
	}
	return slices.ContainsFunc(o.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Time != nil && !f.Time.Time.Before(h.from)
	})
}

// object looks at one object, its owners, what it refers to, and its node.
func (h *history) object(ctx context.Context, o object) error {
	u, err := h.src.GetMapped(ctx, o.m, o.namespace, o.name)
	if err != nil {
		return err
	}
	seen := map[incident.Ref]bool{}
	if err := h.look(ctx, o.ref(h.src), seen, 0); err != nil {
		return err
	}
	for _, ref := range referencesOf(h.src, u) {
		if ref.Relation == graph.RoutesTo || ref.To.Kind == "Pod" {
			continue
		}
		if err := h.look(ctx, ref.To, seen, 4); err != nil {
			return err
		}
	}
	return h.happenings(ctx, o.namespace, o.ref(h.src))
}

// look adds the changes of an object and of the objects that control it.
func (h *history) look(ctx context.Context, ref incident.Ref, seen map[incident.Ref]bool, depth int) error {
	if seen[ref] || depth > 5 {
		return nil
	}
	seen[ref] = true
	m, err := h.src.MappingOf(ctx, ref)
	if err != nil {
		return h.note(err)
	}
	o, err := h.src.Metadata(ctx, m, ref.Namespace, ref.Name)
	if err != nil {
		return h.note(err)
	}
	h.edits(ref, o)
	if err := h.rollout(ctx, m.Kind, ref.Namespace, ref.Name); err != nil {
		return err
	}
	if m.Kind == "Node" {
		node, err := h.src.Node(ctx, ref.Name)
		if err != nil {
			return h.note(err)
		}
		h.node(node)
	}
	for _, owner := range o.OwnerReferences {
		group, _, _ := strings.Cut(owner.APIVersion, "/")
		if !strings.Contains(owner.APIVersion, "/") {
			group = ""
		}
		if owner.Kind == "Node" {
			continue
		}
		if err := h.look(ctx, h.src.Ref(group, owner.Kind, ref.Namespace, owner.Name), seen, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// rollout adds the difference between the last two revisions of a workload.
func (h *history) rollout(ctx context.Context, kind, namespace, name string) error {
	var revs []revision
	var err error
	switch kind {
	case "Deployment":
		revs, err = h.deploymentRevisions(ctx, namespace, name)
	case "StatefulSet", "DaemonSet":
		revs, err = h.controllerRevisions(ctx, kind, namespace, name)
	default:
		return nil
	}
	if err != nil {
		return h.note(err)
	}
	if len(revs) < 2 {
		return nil
	}
	// A rollback gives an old ReplicaSet the newest number, so the number decides.
	slices.SortFunc(revs, func(a, b revision) int { return int(b.number - a.number) })
	last, before := revs[0], revs[1]
	detail := []string{fmt.Sprintf("revision %d -> %d", before.number, last.number)}
	detail = append(detail, diffTemplates(before.spec, last.spec)...)
	if last.cause != "" {
		detail = append(detail, "change cause: "+oneLine(last.cause, 200))
	}
	h.add(Change{At: last.at, Subject: h.src.Ref("apps", kind, namespace, name), What: "rollout", By: last.by, Detail: detail})
	return nil
}

func (h *history) deploymentRevisions(ctx context.Context, namespace, name string) ([]revision, error) {
	d, err := h.src.Deployment(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	sets, err := h.src.ReplicaSets(ctx, namespace)
	if err != nil {
		return nil, err
	}
	var out []revision
	for _, rs := range sets {
		if !metav1.IsControlledBy(rs, d) {
			continue
		}
		out = append(out, revision{
			number: revisionNumber(rs.Annotations["deployment.kubernetes.io/revision"]), at: rs.CreationTimestamp.Time,
			cause: rs.Annotations["kubernetes.io/change-cause"], spec: rs.Spec.Template,
		})
	}
	return attributed(out, d), nil
}

func (h *history) controllerRevisions(ctx context.Context, kind, namespace, name string) ([]revision, error) {
	var owner metav1.Object
	var err error
	if kind == "StatefulSet" {
		owner, err = h.src.StatefulSet(ctx, namespace, name)
	} else {
		owner, err = h.src.DaemonSet(ctx, namespace, name)
	}
	if err != nil {
		return nil, err
	}
	revs, err := h.src.ControllerRevisions(ctx, namespace)
	if err != nil {
		return nil, err
	}
	var out []revision
	for _, cr := range revs {
		if !metav1.IsControlledBy(cr, owner) {
			continue
		}
		t, ok := revisionTemplate(cr)
		if ok {
			out = append(out, revision{number: cr.Revision, at: cr.CreationTimestamp.Time, cause: cr.Annotations["kubernetes.io/change-cause"], spec: t})
		}
	}
	return attributed(out, owner), nil
}

// revisionTemplate reads the pod template out of a ControllerRevision, whose
// data is a patch {"spec":{"template":...}} (pkg/controller/statefulset
// getPatch, pkg/controller/daemon getPatch).
func revisionTemplate(cr *appsv1.ControllerRevision) (corev1.PodTemplateSpec, bool) {
	var patch struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if json.Unmarshal(cr.Data.Raw, &patch) != nil || len(patch.Spec.Template.Spec.Containers) == 0 {
		return corev1.PodTemplateSpec{}, false
	}
	return patch.Spec.Template, true
}

// nodes adds what happened to nodes: condition changes and cordons.
func (h *history) nodes(ctx context.Context) error {
	nodes, err := h.src.Nodes(ctx)
	if err != nil {
		return h.note(err)
	}
	for _, n := range nodes {
		h.node(n)
	}
	return nil
}

func (h *history) node(n *corev1.Node) {
	ref := h.src.Ref("", "Node", "", n.Name)
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady || c.LastTransitionTime.Time.Sub(n.CreationTimestamp.Time).Minutes() < 2 {
			continue
		}
		h.add(Change{At: c.LastTransitionTime.Time, Subject: ref, What: "condition", Detail: []string{fmt.Sprintf("%s became %s %s", c.Type, c.Status, c.Reason)}})
	}
	for _, t := range n.Spec.Taints {
		if t.TimeAdded != nil {
			h.add(Change{At: t.TimeAdded.Time, Subject: ref, What: "edit", Detail: []string{"taint " + t.ToString()}})
		}
	}
}

// telling are Normal events that report a change; Warnings report its effect
// and are told from when they were seen first.
func telling(e source.Event) bool {
	switch e.Reason {
	case "ScalingReplicaSet", "DeploymentRollback", "SuccessfulRescale", "NodeNotReady", "NodeNotSchedulable", "NodeSchedulable", "RegisteredNode", "RemovingNode",
		"DeletingNode", "Rebooted", "TaintManagerEviction", "Preempted", "Evicted", "Killing":
		return true
	}
	return e.Warning()
}

func (h *history) happenings(ctx context.Context, namespace string, about incident.Ref) error {
	events, err := h.src.Events(ctx, namespace, about)
	if err != nil {
		return h.note(err)
	}
	var kept []source.Event
	for _, e := range events {
		if telling(e) {
			kept = append(kept, e)
		}
	}
	for _, g := range groupEvents(kept) {
		detail := g.Reason + ": " + oneLine(g.Message, 300)
		if g.Count > 1 {
			detail += fmt.Sprintf(" (x%d until %s)", g.Count, g.Last.UTC().Format("15:04:05"))
		}
		if g.ObjectCount > 1 {
			detail += fmt.Sprintf(" and %d more objects", g.ObjectCount-1)
		}
		h.add(Change{At: g.First, Subject: g.Objects[0], What: "event", By: g.Source, Detail: []string{detail}})
	}
	return nil
}

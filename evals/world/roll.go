package world

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gumshoe-ai/gumshoe/evals"
)

// revisionNote is the Deployment's revision on its ReplicaSets.
const revisionNote = "deployment.kubernetes.io/revision"

// roller brings one workload to its spec.
type roller struct {
	w    *World
	spec evals.Roll
	// turn counts the pods that were given a node of the list.
	turn int
}

// roll lets controllers, scheduler and kubelets act on a workload.
func (w *World) roll(ctx context.Context, spec evals.Roll) error {
	defer w.changed()
	if err := w.collect(ctx); err != nil {
		return err
	}
	r := &roller{w: w, spec: spec}
	u, err := w.get(ctx, spec.Kind, spec.Namespace, spec.Name)
	if err != nil {
		return fmt.Errorf("roll %s: %w", spec.Object, err)
	}
	switch kind, _, _ := strings.Cut(spec.Kind, "."); kind {
	case "Deployment":
		err = r.deployment(ctx, u)
	case "StatefulSet":
		err = r.statefulSet(ctx, u)
	case "DaemonSet":
		err = r.daemonSet(ctx, u)
	case "Job":
		err = r.job(ctx, u)
	case "Pod":
		err = r.start(ctx, u)
	case "Service": // only its endpoints, below
	default:
		err = fmt.Errorf("roll: %s has no controller here; say with apply what becomes of it", spec.Kind)
	}
	if err != nil {
		return fmt.Errorf("roll %s: %w", spec.Object, err)
	}
	return w.endpoints(ctx, spec.Namespace)
}

func (w *World) get(ctx context.Context, kind, namespace, name string) (*unstructured.Unstructured, error) {
	r, _, err := w.resource(kind, namespace)
	if err != nil {
		return nil, err
	}
	return r.Get(ctx, name, metav1.GetOptions{})
}

func (w *World) list(ctx context.Context, kind, namespace string) ([]unstructured.Unstructured, error) {
	r, _, err := w.resource(kind, namespace)
	if err != nil {
		return nil, err
	}
	l, err := r.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return l.Items, nil
}

func (w *World) remove(ctx context.Context, kind, namespace, name string) error {
	return w.Change(ctx, evals.Change{Delete: []evals.Object{{Kind: kind, Namespace: namespace, Name: name}}})
}

// as reads an object into its type.
func as[T any](u *unstructured.Unstructured) (*T, error) {
	var out T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out); err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return &out, nil
}

// hash names a template, as the controllers do with hashes of their own.
func hash(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		raw = []byte(err.Error())
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:5])
}

// owned gives the pods that a controller owns, those being deleted left out.
func (w *World) owned(ctx context.Context, owner *unstructured.Unstructured) ([]unstructured.Unstructured, error) {
	all, err := w.list(ctx, "Pod", owner.GetNamespace())
	if err != nil {
		return nil, err
	}
	var out []unstructured.Unstructured
	for _, p := range all {
		if c := metav1.GetControllerOf(&p); c != nil && c.UID == owner.GetUID() && p.GetDeletionTimestamp() == nil && !ended(&p) {
			out = append(out, p)
		}
	}
	return out, nil
}

func ended(p *unstructured.Unstructured) bool {
	phase, _, _ := unstructured.NestedString(p.Object, "status", "phase")
	return phase == string(corev1.PodSucceeded) || phase == string(corev1.PodFailed)
}

func isReady(p *unstructured.Unstructured) bool {
	list, _, _ := unstructured.NestedSlice(p.Object, "status", "conditions")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["type"] == string(corev1.PodReady) {
			return m["status"] == "True"
		}
	}
	return false
}

func count(pods []unstructured.Unstructured, ok func(*unstructured.Unstructured) bool) int64 {
	n := int64(0)
	for i := range pods {
		if ok(&pods[i]) {
			n++
		}
	}
	return n
}

func ownerOf(u *unstructured.Unstructured) []any {
	return []any{map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "name": u.GetName(), "uid": string(u.GetUID()), "controller": true, "blockOwnerDeletion": true}}
}

// deployment rolls a Deployment: the ReplicaSet of its template is found or made; the
// pods of others go once the new ones are ready, or before if there is no room to surge.
func (r *roller) deployment(ctx context.Context, u *unstructured.Unstructured) error {
	d, err := as[appsv1.Deployment](u)
	if err != nil {
		return err
	}
	if d.Spec.Paused {
		_, err := r.w.apply(ctx, status(u, map[string]any{"observedGeneration": int64(0)}))
		return err
	}
	sets, err := r.w.list(ctx, "ReplicaSet", u.GetNamespace())
	if err != nil {
		return err
	}
	var current *unstructured.Unstructured
	var old []*unstructured.Unstructured
	newest := int64(0)
	for i := range sets {
		s := &sets[i]
		if c := metav1.GetControllerOf(s); c == nil || c.UID != u.GetUID() {
			continue
		}
		n, _ := strconv.ParseInt(s.GetAnnotations()[revisionNote], 10, 64)
		newest = max(newest, n)
		rs, err := as[appsv1.ReplicaSet](s)
		if err != nil {
			return err
		}
		have := rs.Spec.Template.DeepCopy()
		delete(have.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		if current == nil && equality.Semantic.DeepEqual(*have, d.Spec.Template) {
			current = s
		} else {
			old = append(old, s)
		}
	}
	want := int64(1)
	if d.Spec.Replicas != nil {
		want = int64(*d.Spec.Replicas)
	}
	if current == nil {
		if current, err = r.replicaSet(ctx, u, newest+1, want); err != nil {
			return err
		}
	}
	recreate := d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
	if s := d.Spec.Strategy.RollingUpdate; s != nil && s.MaxSurge != nil && s.MaxSurge.String() == "0" {
		recreate = true
	}
	if recreate {
		if err := r.empty(ctx, old); err != nil {
			return err
		}
	}
	pods, err := r.fill(ctx, current, want)
	if err != nil {
		return err
	}
	ready := count(pods, isReady)
	if ready >= want && !recreate {
		if err := r.empty(ctx, old); err != nil {
			return err
		}
	}
	all, available := int64(len(pods)), ready
	for _, s := range old {
		left, err := r.w.owned(ctx, s)
		if err != nil {
			return err
		}
		all += int64(len(left))
		available += count(left, isReady)
	}
	revision, err := r.w.apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": map[string]any{"name": current.GetName(), "namespace": u.GetNamespace()},
		"spec":   map[string]any{"replicas": want},
		"status": map[string]any{"observedGeneration": int64(0), "replicas": int64(len(pods)), "fullyLabeledReplicas": int64(len(pods)), "readyReplicas": ready, "availableReplicas": ready, "conditions": nil}}})
	if err != nil {
		return err
	}
	done := ready >= want && all == want
	conditions := []any{cond("Available", available >= want, "MinimumReplicasAvailable", "Deployment has minimum availability."),
		cond("Progressing", true, "ReplicaSetUpdated", fmt.Sprintf("ReplicaSet %q is progressing.", current.GetName()))}
	if done {
		conditions[1] = cond("Progressing", true, "NewReplicaSetAvailable", fmt.Sprintf("ReplicaSet %q has successfully progressed.", current.GetName()))
	}
	st := status(u, map[string]any{"observedGeneration": int64(0), "replicas": all, "updatedReplicas": int64(len(pods)), "readyReplicas": available, "availableReplicas": available, "unavailableReplicas": max(want-available, 0), "conditions": conditions})
	st.SetAnnotations(map[string]string{revisionNote: revision.GetAnnotations()[revisionNote]})
	_, err = r.w.apply(ctx, st)
	return err
}

// status gives a document that lays a status over an object.
func status(u *unstructured.Unstructured, s map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "metadata": map[string]any{"name": u.GetName(), "namespace": u.GetNamespace()}, "status": s}}
}

func cond(kind string, ok bool, reason, message string) map[string]any {
	s := "False"
	if ok {
		s = "True"
	}
	return map[string]any{"type": kind, "status": s, "reason": reason, "message": message}
}

// replicaSet makes the ReplicaSet of a Deployment's template.
func (r *roller) replicaSet(ctx context.Context, d *unstructured.Unstructured, revision, replicas int64) (*unstructured.Unstructured, error) {
	template, _, err := unstructured.NestedMap(d.Object, "spec", "template")
	if err != nil {
		return nil, err
	}
	selector, _, err := unstructured.NestedMap(d.Object, "spec", "selector")
	if err != nil {
		return nil, err
	}
	h := hash(template)
	have, _, _ := unstructured.NestedMap(template, "metadata", "labels")
	lab := maps.Clone(have)
	if lab == nil {
		lab = map[string]any{}
	}
	lab[appsv1.DefaultDeploymentUniqueLabelKey] = h
	if err := unstructured.SetNestedMap(template, lab, "metadata", "labels"); err != nil {
		return nil, err
	}
	match, _, _ := unstructured.NestedMap(selector, "matchLabels")
	if match == nil {
		match = map[string]any{}
	}
	match[appsv1.DefaultDeploymentUniqueLabelKey] = h
	selector["matchLabels"] = match
	return r.w.apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet",
		"metadata": map[string]any{"name": d.GetName() + "-" + h, "namespace": d.GetNamespace(), "labels": maps.Clone(lab), "ownerReferences": ownerOf(d),
			"annotations": map[string]any{revisionNote: strconv.FormatInt(revision, 10)}},
		"spec": map[string]any{"replicas": replicas, "selector": selector, "template": template}}})
}

// empty takes the pods of ReplicaSets away.
func (r *roller) empty(ctx context.Context, sets []*unstructured.Unstructured) error {
	for _, s := range sets {
		pods, err := r.w.owned(ctx, s)
		if err != nil {
			return err
		}
		for i := range pods {
			if err := r.w.remove(ctx, "Pod", pods[i].GetNamespace(), pods[i].GetName()); err != nil {
				return err
			}
		}
		_, err = r.w.apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": map[string]any{"name": s.GetName(), "namespace": s.GetNamespace()},
			"spec": map[string]any{"replicas": int64(0)}, "status": map[string]any{"observedGeneration": int64(0), "replicas": int64(0), "readyReplicas": int64(0), "availableReplicas": int64(0)}}})
		if err != nil {
			return err
		}
	}
	return r.w.collect(ctx)
}

// fill gives an owner with a template the pods that it lacks, takes away those it has
// too many, and places those that wait.
func (r *roller) fill(ctx context.Context, owner *unstructured.Unstructured, want int64) ([]unstructured.Unstructured, error) {
	pods, err := r.w.owned(ctx, owner)
	if err != nil {
		return nil, err
	}
	for i := int64(len(pods)); i > want; i-- {
		p := pods[i-1]
		if err := r.w.remove(ctx, "Pod", p.GetNamespace(), p.GetName()); err != nil {
			return nil, err
		}
	}
	for i := range pods[:min(int64(len(pods)), want)] {
		if err := r.start(ctx, &pods[i]); err != nil {
			return nil, err
		}
	}
	for n := int64(len(pods)); n < want; n++ {
		name := fmt.Sprintf("%s-%s", owner.GetName(), hash([]any{owner.GetUID(), n, r.w.Version()})[:5])
		if err := r.newPod(ctx, owner, name, nil); err != nil {
			return nil, err
		}
	}
	return r.w.owned(ctx, owner)
}

// newPod makes a pod of its owner's template, and starts it.
func (r *roller) newPod(ctx context.Context, owner *unstructured.Unstructured, name string, more map[string]string) error {
	template, ok, err := unstructured.NestedMap(owner.Object, "spec", "template")
	if err != nil || !ok {
		return fmt.Errorf("%s has no template: %w", owner.GetName(), err)
	}
	md, _ := template["metadata"].(map[string]any)
	meta := map[string]any{"name": name, "namespace": owner.GetNamespace(), "ownerReferences": ownerOf(owner)}
	for _, k := range []string{"labels", "annotations"} {
		if v, ok := md[k]; ok {
			meta[k] = v
		}
	}
	p := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}}
	if len(more) > 0 {
		l := p.GetLabels()
		if l == nil {
			l = map[string]string{}
		}
		maps.Copy(l, more)
		p.SetLabels(l)
	}
	made, err := r.w.apply(ctx, p)
	if err != nil {
		return err
	}
	return r.start(ctx, made)
}

// statefulSet brings the ordinals there; those of an older revision are made anew if
// they are ready: one that is not ready stays, as the controller leaves it.
func (r *roller) statefulSet(ctx context.Context, u *unstructured.Unstructured) error {
	s, err := as[appsv1.StatefulSet](u)
	if err != nil {
		return err
	}
	want := int64(1)
	if s.Spec.Replicas != nil {
		want = int64(*s.Spec.Replicas)
	}
	revision := s.Status.UpdateRevision
	if s.Generation != s.Status.ObservedGeneration || revision == "" {
		revision = u.GetName() + "-" + hash(s.Spec.Template)
	}
	for i := range want {
		name := fmt.Sprintf("%s-%d", u.GetName(), i)
		p, err := r.w.get(ctx, "Pod", u.GetNamespace(), name)
		if err == nil && isReady(p) && p.GetLabels()[appsv1.StatefulSetRevisionLabel] != revision && s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
			if err := r.w.remove(ctx, "Pod", u.GetNamespace(), name); err != nil {
				return err
			}
			if err := r.w.collect(ctx); err != nil {
				return err
			}
			p, err = nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
		}
		switch {
		case apierrors.IsNotFound(err):
			err = r.newPod(ctx, u, name, map[string]string{appsv1.StatefulSetRevisionLabel: revision, appsv1.StatefulSetPodNameLabel: name, appsv1.PodIndexLabel: strconv.FormatInt(i, 10)})
		case err == nil:
			err = r.start(ctx, p)
		}
		if err != nil {
			return err
		}
		if p, err := r.w.get(ctx, "Pod", u.GetNamespace(), name); err == nil && !isReady(p) && s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
			break // the next ordinal waits for this one
		}
	}
	pods, err := r.w.owned(ctx, u)
	if err != nil {
		return err
	}
	ready := count(pods, isReady)
	updated := count(pods, func(p *unstructured.Unstructured) bool {
		return p.GetLabels()[appsv1.StatefulSetRevisionLabel] == revision
	})
	current := s.Status.CurrentRevision
	if updated >= want && ready >= want || current == "" {
		current = revision
	}
	_, err = r.w.apply(ctx, status(u, map[string]any{"observedGeneration": int64(0), "replicas": int64(len(pods)), "readyReplicas": ready, "availableReplicas": ready, "updatedReplicas": updated, "currentReplicas": updated, "currentRevision": current, "updateRevision": revision}))
	return err
}

// daemonSet gives every node that takes it a pod.
func (r *roller) daemonSet(ctx context.Context, u *unstructured.Unstructured) error {
	pods, err := r.w.owned(ctx, u)
	if err != nil {
		return err
	}
	nodes, err := r.w.nodes(ctx)
	if err != nil {
		return err
	}
	template, _, err := unstructured.NestedMap(u.Object, "spec", "template", "spec")
	if err != nil {
		return err
	}
	var tmpl corev1.PodSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &tmpl); err != nil {
		return err
	}
	tmpl.Tolerations = append(tmpl.Tolerations, daemonTolerations()...)
	wanted := int64(0)
	for _, n := range nodes {
		if takes(n, &corev1.Pod{Spec: tmpl}) != "" {
			continue
		}
		wanted++
		has := false
		for i := range pods {
			on, _, _ := unstructured.NestedString(pods[i].Object, "spec", "nodeName")
			has = has || on == n.Name
		}
		if has {
			continue
		}
		one := &roller{w: r.w, spec: evals.Roll{Object: r.spec.Object, Nodes: []string{n.Name}, Status: r.spec.Status}}
		if err := one.newPod(ctx, u, u.GetName()+"-"+hash([]any{u.GetUID(), n.Name, r.w.Version()})[:5], nil); err != nil {
			return err
		}
	}
	if pods, err = r.w.owned(ctx, u); err != nil {
		return err
	}
	ready := count(pods, isReady)
	_, err = r.w.apply(ctx, status(u, map[string]any{"observedGeneration": int64(0), "desiredNumberScheduled": wanted, "currentNumberScheduled": int64(len(pods)), "updatedNumberScheduled": int64(len(pods)), "numberReady": ready, "numberAvailable": ready, "numberUnavailable": max(wanted-ready, 0), "numberMisscheduled": int64(0)}))
	return err
}

// job gives a Job the pods it runs at once.
func (r *roller) job(ctx context.Context, u *unstructured.Unstructured) error {
	want := int64(1)
	if n, ok, _ := unstructured.NestedInt64(u.Object, "spec", "parallelism"); ok {
		want = n
	}
	if off, _, _ := unstructured.NestedBool(u.Object, "spec", "suspend"); off {
		want = 0
	}
	pods, err := r.fill(ctx, u, want)
	if err != nil {
		return err
	}
	_, err = r.w.apply(ctx, status(u, map[string]any{"active": int64(len(pods)), "ready": count(pods, isReady), "startTime": r.w.cfg.Bundle.Clock().UTC().Format("2006-01-02T15:04:05Z")}))
	return err
}

// matches reports whether a Service's selector means a pod.
func matches(selector map[string]string, p *unstructured.Unstructured) bool {
	return len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(p.GetLabels()))
}

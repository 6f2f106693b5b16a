package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// StorageIn names a PersistentVolumeClaim.
type StorageIn struct {
	Namespace string `json:"namespace"`
	PVC       string `json:"pvc"`
}

// NamedIn names a namespaced object.
type NamedIn struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// AdmissionIn narrows to a namespace; empty looks at the whole cluster.
type AdmissionIn struct {
	Namespace string `json:"namespace,omitempty"`
}

func (j *judge) storageTool(ctx context.Context, in StorageIn) (tool.Output[Judged], error) {
	c, err := j.src.PVC(ctx, in.Namespace, in.PVC)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	v := j.claim(ctx, c)
	if c.Status.Phase == corev1.ClaimBound {
		j.users(ctx, v, c)
	}
	return v.output(), nil
}

// claim judges a PersistentVolumeClaim that is not bound.
func (j *judge) claim(ctx context.Context, c *corev1.PersistentVolumeClaim) *verdict {
	v := newVerdict(j.ref("", "PersistentVolumeClaim", c.Namespace, c.Name))
	v.state = string(c.Status.Phase)
	class := ""
	if c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	v.fact("class", class)
	if c.Spec.VolumeName != "" {
		pv := j.ref("", "PersistentVolume", "", c.Spec.VolumeName)
		v.edge(v.subject, graph.BoundTo, pv)
	}
	switch c.Status.Phase {
	case corev1.ClaimBound:
		return v
	case corev1.ClaimLost:
		v.symptom("kube.pvc_pending", incident.Critical, fmt.Sprintf("%s is lost", v.subject), params("class", class))
		v.fault("kube.pvc_lost", incident.Critical, 0.95, v.subject, fmt.Sprintf("the volume %s behind %s is gone", c.Spec.VolumeName, v.subject), params("pv", c.Spec.VolumeName))
		return v
	}
	evs := j.events(ctx, v.subject, string(c.UID))
	for _, e := range limit(evs, 4) {
		v.line("event %s: %s", e.Reason, e.Message)
	}
	sc, err := j.src.StorageClass(ctx, class)
	if class == "" {
		sc, err = nil, nil
	}
	_, failed := has(evs, []string{"ProvisioningFailed"})
	if sc != nil && sc.VolumeBindingMode != nil && *sc.VolumeBindingMode == "WaitForFirstConsumer" && !failed {
		v.state = "waits for its first pod"
		v.line("its class binds when a pod is scheduled; that is normal")
		return v
	}
	if j.now().Sub(c.CreationTimestamp.Time) < settle && !failed {
		v.line("created %s ago, still settling", j.ago(c.CreationTimestamp.Time))
		return v
	}
	v.symptom("kube.pvc_pending", incident.Warning, fmt.Sprintf("%s is not bound since %s", v.subject, j.ago(c.CreationTimestamp.Time)), params("class", class))
	pf, _ := has(evs, []string{"ProvisioningFailed"})
	ext, waiting := has(evs, []string{"ExternalProvisioning"})
	switch {
	case class != "" && missing(err):
		v.edge(v.subject, graph.Class, j.ref("storage.k8s.io", "StorageClass", "", class))
		v.fault("kube.pvc_class_missing", incident.Critical, 0.95, v.subject, fmt.Sprintf("%s names StorageClass %s, which does not exist", v.subject, class), params("class", class))
	case class == "" && c.Spec.VolumeName == "" && c.Spec.StorageClassName == nil:
		v.fault("kube.pvc_class_missing", incident.Critical, 0.85, v.subject, fmt.Sprintf("%s names no StorageClass and there is no default one", v.subject), nil)
	case pf.Message != "":
		v.fault("kube.pvc_provision_failed", incident.Critical, 0.92, v.subject, fmt.Sprintf("no volume can be provisioned for %s: %s", v.subject, pf.Message), params("class", class, "message", pf.Message))
	case waiting && sc != nil:
		j.provisioner(ctx, v, sc.Provisioner)
		v.fault("kube.pvc_no_provisioner", incident.Critical, 0.85, v.subject, fmt.Sprintf("%s waits for the provisioner %s of class %s: %s", v.subject, sc.Provisioner, class, ext.Message), params("class", class, "provisioner", sc.Provisioner))
	case sc == nil || sc.Provisioner == "kubernetes.io/no-provisioner":
		q := c.Spec.Resources.Requests[corev1.ResourceStorage]
		modes := make([]string, 0, len(c.Spec.AccessModes))
		for _, m := range c.Spec.AccessModes {
			modes = append(modes, string(m))
		}
		v.fault("kube.pvc_no_matching_pv", incident.Critical, 0.85, v.subject, fmt.Sprintf("no PersistentVolume offers %s %s for %s, and nothing provisions one", q.String(), strings.Join(modes, ","), v.subject), params("size", q.String(), "access_modes", strings.Join(modes, ",")))
	}
	return v
}

func (j *judge) autoscalingTool(ctx context.Context, in NamedIn) (tool.Output[Judged], error) {
	h, err := j.src.HPA(ctx, in.Namespace, in.Name)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	return j.hpa(ctx, h).output(), nil
}

// hpa judges a HorizontalPodAutoscaler by its own conditions and its target.
func (j *judge) hpa(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler) *verdict {
	v := newVerdict(j.ref("autoscaling", "HorizontalPodAutoscaler", h.Namespace, h.Name))
	v.state = fmt.Sprintf("%d of at most %d replicas", h.Status.CurrentReplicas, h.Spec.MaxReplicas)
	t := h.Spec.ScaleTargetRef
	group, _, ok := strings.Cut(t.APIVersion, "/")
	if !ok {
		group = ""
	}
	target := j.ref(group, t.Kind, h.Namespace, t.Name)
	v.edge(v.subject, graph.Scales, target)
	if _, err := j.src.Get(ctx, target); missing(err) {
		v.line("target %s does not exist", target)
		v.fault("kube.hpa_target_missing", incident.Critical, 0.95, v.subject, fmt.Sprintf("%s scales %s, which does not exist", v.subject, target), params("target", target.Path()))
		return v
	}
	for _, c := range h.Status.Conditions {
		if c.Status != corev1.ConditionFalse {
			if c.Type == autoscalingv2.ScalingLimited && c.Reason == "TooManyReplicas" {
				j.atMax(v, h)
			}
			continue
		}
		if j.now().Sub(c.LastTransitionTime.Time) < settle {
			continue
		}
		switch c.Type {
		case autoscalingv2.ScalingActive:
			if c.Reason == "ScalingDisabled" {
				continue
			}
			v.line("%s: %s", c.Reason, c.Message)
			if containsAny(c.Message, "missing request for") {
				v.fault("kube.hpa_no_requests", incident.Critical, 0.93, v.subject, fmt.Sprintf("%s wants utilisation, and a container has no request for it: %s", v.subject, c.Message), params("resource", lastWord(c.Message, "missing request for ")))
				continue
			}
			j.metricsAPI(ctx, v, c.Message)
			v.fault("kube.hpa_no_metrics", incident.Critical, 0.88, v.subject, fmt.Sprintf("%s cannot read its metrics: %s: %s", v.subject, c.Reason, c.Message), params("message", c.Message))
		case autoscalingv2.AbleToScale:
			v.fault("kube.hpa_target_missing", incident.Critical, 0.8, v.subject, fmt.Sprintf("%s cannot scale %s: %s", v.subject, target, c.Message), params("target", target.Path()))
		}
	}
	return v
}

// metricsAPI ties an autoscaler that gets no metrics to the aggregated API that
// should serve them, when that does not answer, and to the Service behind it.
func (j *judge) metricsAPI(ctx context.Context, v *verdict, message string) {
	group := ""
	for _, g := range []string{"custom.metrics.k8s.io", "external.metrics.k8s.io", "metrics.k8s.io"} {
		if strings.Contains(message, g) || strings.Contains(message, strings.TrimSuffix(g, ".metrics.k8s.io")+" metrics API") || g == "metrics.k8s.io" && containsAny(message, "resource metrics API") {
			group = g
			break
		}
	}
	if group == "" {
		return
	}
	inner := newVerdict(v.subject)
	j.apiServices(ctx, inner)
	for _, f := range inner.findings {
		if _, of, _ := strings.Cut(f.Subject.Name, "."); of != group {
			continue
		}
		v.edge(v.subject, graph.ServedBy, f.Subject)
		v.line("%s", f.Message)
		v.find(f)
		for _, e := range inner.edges {
			if e.From == f.Subject {
				v.edge(e.From, e.Relation, e.To)
			}
		}
	}
}

// atMax tells an autoscaler that wants more than it may have from one that is
// only at its maximum: the metrics say which.
func (j *judge) atMax(v *verdict, h *autoscalingv2.HorizontalPodAutoscaler) {
	over := ""
	for i, m := range h.Status.CurrentMetrics {
		if m.Resource == nil || m.Resource.Current.AverageUtilization == nil {
			continue
		}
		for _, w := range h.Spec.Metrics {
			if w.Resource != nil && w.Resource.Name == m.Resource.Name && w.Resource.Target.AverageUtilization != nil && *m.Resource.Current.AverageUtilization > *w.Resource.Target.AverageUtilization*11/10 {
				over = fmt.Sprintf("%s is at %d%% of its requests, the target is %d%%", h.Status.CurrentMetrics[i].Resource.Name, *m.Resource.Current.AverageUtilization, *w.Resource.Target.AverageUtilization)
			}
		}
	}
	text := fmt.Sprintf("%s is at its maximum of %d replicas", v.subject, h.Spec.MaxReplicas)
	if over == "" {
		v.context("kube.hpa_at_max", text, params("max", fmt.Sprint(h.Spec.MaxReplicas)))
		return
	}
	v.line("%s: %s", text, over)
	v.fault("kube.hpa_at_max", incident.Warning, 0.75, v.subject, text+" and wants more: "+over, params("max", fmt.Sprint(h.Spec.MaxReplicas), "metric", over))
}

func lastWord(s, after string) string {
	_, rest, ok := strings.Cut(s, after)
	if !ok {
		return ""
	}
	return strings.Trim(strings.Fields(rest + " ?")[0], ",.:;")
}

func (j *judge) disruptionTool(ctx context.Context, in NamedIn) (tool.Output[Judged], error) {
	p, err := j.src.PDB(ctx, in.Namespace, in.Name)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	v := newVerdict(j.ref("policy", "PodDisruptionBudget", p.Namespace, p.Name))
	s := p.Status
	v.state = fmt.Sprintf("%d disruptions allowed, %d of %d pods healthy", s.DisruptionsAllowed, s.CurrentHealthy, s.ExpectedPods)
	switch {
	case s.ExpectedPods == 0:
		v.context("kube.pdb_selects_nothing", fmt.Sprintf("%s selects no pod", v.subject), nil)
	case s.DisruptionsAllowed == 0:
		if s.CurrentHealthy < s.DesiredHealthy {
			j.budgeted(ctx, v, p)
		}
		v.fault("kube.pdb_blocks_eviction", incident.Warning, 0.8, v.subject, fmt.Sprintf("%s allows no eviction: %d healthy pods, %d wanted, %d expected", v.subject, s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods),
			params("allowed", "0", "healthy", fmt.Sprint(s.CurrentHealthy), "desired", fmt.Sprint(s.DesiredHealthy)))
	}
	return v.output(), nil
}

// budgeted ties a budget that has too few healthy pods to those that are not.
func (j *judge) budgeted(ctx context.Context, v *verdict, b *policyv1.PodDisruptionBudget) {
	sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return
	}
	pods, err := j.src.PodsMatching(ctx, b.Namespace, sel)
	if err != nil {
		return
	}
	pods = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return ready(p) || p.Status.Phase == corev1.PodSucceeded })
	for _, p := range limit(pods, worstPods) {
		v.line("pod %s: %s", p.Name, podState(p))
		v.edge(v.subject, graph.Selects, j.pod(p))
	}
}

func (j *judge) admissionTool(ctx context.Context, in AdmissionIn) (tool.Output[Judged], error) {
	v := newVerdict(j.ref("", "Cluster", "", cmp.Or(j.cluster, "cluster")))
	if in.Namespace != "" {
		v.subject = j.ref("", "Namespace", "", in.Namespace)
	}
	v.state = "admission looked at"
	j.webhookServices(ctx, v)
	j.apiServices(ctx, v)
	if in.Namespace != "" {
		j.quotas(ctx, v, in.Namespace)
	}
	return v.output(), nil
}

// webhookServices finds webhooks that fail closed and whose Service is not there.
func (j *judge) webhookServices(ctx context.Context, v *verdict) {
	check := func(kind, config, hook, namespace, service string) {
		to := j.ref("admissionregistration.k8s.io", kind, "", config)
		svc := j.ref("", "Service", namespace, service)
		s, err := j.src.Service(ctx, namespace, service)
		if missing(err) {
			v.edge(v.subject, graph.Contains, to)
			v.fault("kube.webhook_unavailable", incident.Critical, 0.85, to, fmt.Sprintf("webhook %s of %s fails closed and its %s does not exist", hook, to, svc), params("webhook", hook, "service", svc.Path()))
		} else if err == nil {
			inner := j.service(ctx, s)
			if slices.ContainsFunc(inner.findings, func(f incident.Finding) bool { return f.Role == incident.Symptom }) {
				v.edge(v.subject, graph.Contains, to)
				v.edge(to, graph.GuardedBy, svc)
				v.fault("kube.webhook_unavailable", incident.Critical, 0.8, to, fmt.Sprintf("webhook %s of %s fails closed and its %s has no ready endpoint", hook, to, svc), params("webhook", hook, "service", svc.Path()))
			}
		}
	}
	if list, err := j.src.ValidatingWebhooks(ctx); err == nil {
		for _, c := range list {
			for _, w := range c.Webhooks {
				if s := w.ClientConfig.Service; s != nil && (w.FailurePolicy == nil || *w.FailurePolicy == "Fail") {
					check("ValidatingWebhookConfiguration", c.Name, w.Name, s.Namespace, s.Name)
				}
			}
		}
	}
	if list, err := j.src.MutatingWebhooks(ctx); err == nil {
		for _, c := range list {
			for _, w := range c.Webhooks {
				if s := w.ClientConfig.Service; s != nil && (w.FailurePolicy == nil || *w.FailurePolicy == "Fail") {
					check("MutatingWebhookConfiguration", c.Name, w.Name, s.Namespace, s.Name)
				}
			}
		}
	}
}

// apiServices finds aggregated APIs that do not answer.
func (j *judge) apiServices(ctx context.Context, v *verdict) {
	list, err := j.src.APIServices(ctx)
	if err != nil {
		return
	}
	for _, u := range list {
		for _, c := range conditions(u.Object, "status", "conditions") {
			if c.kind == "Available" && c.status == "False" {
				to := j.ref("apiregistration.k8s.io", "APIService", "", u.GetName())
				v.edge(v.subject, graph.Contains, to)
				if ns, _, _ := unstructured.NestedString(u.Object, "spec", "service", "namespace"); ns != "" {
					name, _, _ := unstructured.NestedString(u.Object, "spec", "service", "name")
					v.edge(to, graph.ServedBy, j.ref("", "Service", ns, name))
				}
				v.fault("kube.api_service_unavailable", incident.Critical, 0.85, to, fmt.Sprintf("the API %s does not answer: %s: %s", u.GetName(), c.reason, c.message), params("message", c.message))
			}
		}
	}
}

// quotas reports what is used up; a full quota hurts only who wants more, so it
// is context here.
func (j *judge) quotas(ctx context.Context, v *verdict, namespace string) {
	list, err := j.src.ResourceQuotas(ctx, namespace)
	if err != nil {
		return
	}
	for _, q := range list {
		for name, hard := range q.Status.Hard {
			used := q.Status.Used[name]
			if !hard.IsZero() && used.Cmp(hard) >= 0 {
				v.line("quota %s: %s used %s of %s", q.Name, name, used.String(), hard.String())
			}
		}
	}
}

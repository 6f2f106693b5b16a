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
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// NamedIn names a namespaced object.
type NamedIn struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// AdmissionIn narrows to a namespace; empty looks at the whole cluster.
type AdmissionIn struct {
	Namespace string `json:"namespace,omitempty"`
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
		v.fault("kube.hpa_target_missing", incident.Critical, 0.95, v.subject, fmt.Sprintf("%s scales %s, which does not exist", v.subject, target), params("target", target.Path(), "meant", j.scaled(ctx, h)))
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
			v.line("%s: %s", c.Reason, c.Message)
			j.inactive(ctx, v, h, c)
		case autoscalingv2.AbleToScale:
			v.line("%s: %s", c.Reason, c.Message)
			// Waiting out a stabilisation window (Backoff...) is no trouble.
			if strings.HasPrefix(c.Reason, "Failed") {
				v.fault("kube.hpa_target_missing", incident.Critical, 0.8, v.subject, fmt.Sprintf("%s cannot scale %s: %s", v.subject, target, c.Message), params("target", target.Path()))
			}
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

// inactive says why an autoscaler computes nothing. Pods that are not ready have
// no metrics: then they are the trouble, and not the metrics.
func (j *judge) inactive(ctx context.Context, v *verdict, h *autoscalingv2.HorizontalPodAutoscaler, c autoscalingv2.HorizontalPodAutoscalerCondition) {
	switch {
	case c.Reason == "ScalingDisabled":
	case containsAny(c.Message, "missing request for"):
		resource, container := lastWord(c.Message, "missing request for "), lastWord(c.Message, " in container ")
		v.fault("kube.hpa_no_requests", incident.Critical, 0.93, v.subject, fmt.Sprintf("%s wants utilisation, and a container has no request for it: %s", v.subject, c.Message), params("resource", resource, "container", container))
	default:
		conf := 0.88
		if containsAny(c.Message, "did not receive metrics for", "no metrics returned", "pods might be unready", "no pods returned", "no ready pods") && j.unready(ctx, h) {
			conf = 0.4
		}
		j.metricsAPI(ctx, v, c.Message)
		v.fault("kube.hpa_no_metrics", incident.Critical, conf, v.subject, fmt.Sprintf("%s cannot read its metrics: %s: %s", v.subject, c.Reason, c.Message), params("message", c.Message))
	}
}

// unready reports whether the target has no pod that is ready.
func (j *judge) unready(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler) bool {
	t := h.Spec.ScaleTargetRef
	v, err := j.judgeWorkload(ctx, WorkloadIn{Kind: t.Kind, Namespace: h.Namespace, Name: t.Name})
	return err == nil && v.facts["ready"] == "0"
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
	figures := params("allowed", "0", "healthy", fmt.Sprint(s.CurrentHealthy), "desired", fmt.Sprint(s.DesiredHealthy))
	text := fmt.Sprintf("%s allows no eviction: %d healthy pods, %d wanted, %d expected", v.subject, s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods)
	switch {
	case s.ObservedGeneration < p.Generation:
		v.line("its status is about an earlier generation")
	case s.ExpectedPods == 0:
		v.context("kube.pdb_selects_nothing", fmt.Sprintf("%s selects no pod", v.subject), params("selector", metav1.FormatLabelSelector(p.Spec.Selector)))
	case s.DisruptionsAllowed > 0:
	case s.DesiredHealthy >= s.ExpectedPods:
		v.fault("kube.pdb_blocks_eviction", incident.Warning, 0.8, v.subject, text+"; it would even if all were healthy", figures)
	default:
		// The budget does what it is for: the pods that are not healthy use it up.
		v.fault("kube.pdb_blocks_eviction", incident.Warning, 0.55, v.subject, text, figures)
		j.unhealthy(ctx, v, p)
	}
	return v.output(), nil
}

// unhealthy ties a budget to the pods that use it up.
func (j *judge) unhealthy(ctx context.Context, v *verdict, p *policyv1.PodDisruptionBudget) {
	sel, err := metav1.LabelSelectorAsSelector(p.Spec.Selector)
	if err != nil {
		return
	}
	pods, err := j.src.PodsMatching(ctx, p.Namespace, sel)
	if err != nil {
		return
	}
	bad := slices.DeleteFunc(slices.Clone(pods), func(o *corev1.Pod) bool { return ready(o) || over(o) })
	for _, o := range limit(bad, worstPods) {
		v.edge(v.subject, graph.Selects, j.pod(o))
		v.line("pod %s: %s", o.Name, podState(o))
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
	for _, h := range j.webhooks(ctx) {
		if !h.closed || h.service.IsZero() {
			continue
		}
		s, err := j.src.Service(ctx, h.service.Namespace, h.service.Name)
		figures := params("webhook", h.name, "service", h.service.Path())
		switch {
		case missing(err):
			v.edge(v.subject, graph.Contains, h.config)
			v.fault("kube.webhook_unavailable", incident.Critical, 0.85, h.config, fmt.Sprintf("webhook %s of %s fails closed and its %s does not exist", h.name, h.config, h.service), figures)
		case err == nil && j.noEndpoint(ctx, s):
			v.edge(v.subject, graph.Contains, h.config)
			v.edge(h.config, graph.GuardedBy, h.service)
			v.fault("kube.webhook_unavailable", incident.Critical, 0.8, h.config, fmt.Sprintf("webhook %s of %s fails closed and its %s has no ready endpoint", h.name, h.config, h.service), figures)
		}
	}
}

// noEndpoint reports a Service that certainly leads to no pod that is ready. Ports
// and policies are left aside: the API server may come another way.
func (j *judge) noEndpoint(ctx context.Context, s *corev1.Service) bool {
	if s.Spec.Type == corev1.ServiceTypeExternalName || len(s.Spec.Selector) == 0 || s.Spec.PublishNotReadyAddresses {
		return false
	}
	pods, err := j.src.PodsMatching(ctx, s.Namespace, labels.SelectorFromSet(s.Spec.Selector))
	if err != nil || slices.ContainsFunc(pods, ready) {
		return false
	}
	alive := slices.DeleteFunc(slices.Clone(pods), over)
	return len(alive) == 0 || !j.comingUp(alive)
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
				v.fault("kube.api_service_unavailable", incident.Critical, 0.85, to, fmt.Sprintf("the API %s does not answer: %s: %s", u.GetName(), c.reason, c.message), params("message", cmp.Or(c.message, c.reason)))
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

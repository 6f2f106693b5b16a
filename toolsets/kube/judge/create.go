package judge

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

func selectors(labels string) source.Selectors { return source.Selectors{Labels: labels} }

// createFailures reads why the API server refuses a workload's pods. The
// subject of each fault is what refuses; from is the object the events are about.
func (j *judge) createFailures(ctx context.Context, v *verdict, from incident.Ref, uid string) {
	e, ok := has(j.events(ctx, from, uid), []string{"FailedCreate", "FailedCreatePod"})
	if !ok {
		if e.Message = j.replicaFailure(ctx, from); e.Message == "" {
			return
		}
	}
	v.line("%s cannot create pods: %s", from, e.Message)
	text := e.Message
	tie := func(relation string, to incident.Ref) {
		v.edge(from, relation, to)
		if from != v.subject {
			v.edge(v.subject, graph.Owns, from)
		}
	}
	match := func(re string) []string { return regexp.MustCompile(re).FindStringSubmatch(text) }
	switch {
	case match(`exceeded quota: ([^,\s]+)`) != nil:
		q := j.ref("", "ResourceQuota", from.Namespace, strings.TrimSuffix(match(`exceeded quota: ([^,\s]+)`)[1], ","))
		tie(graph.LimitedBy, q)
		p := params()
		if m := match(`requested: (\S+?)=(\S+?), used: \S+?=(\S+?), limited: \S+?=(\S+)`); m != nil {
			p = params("resource", m[1], "requested", strings.TrimSuffix(m[2], ","), "used", strings.TrimSuffix(m[3], ","), "hard", strings.TrimSuffix(m[4], ","))
		}
		v.fault("kube.quota_exceeded", incident.Critical, 0.95, q, fmt.Sprintf("ResourceQuota %s leaves no room for the pods of %s: %s", q.Path(), v.subject, text), p)
	case match(`failed quota: ([^:\s]+)`) != nil:
		q := j.ref("", "ResourceQuota", from.Namespace, match(`failed quota: ([^:\s]+)`)[1])
		tie(graph.LimitedBy, q)
		v.fault("kube.quota_exceeded", incident.Critical, 0.9, q, fmt.Sprintf("ResourceQuota %s wants every pod to state what the pods of %s leave out: %s", q.Path(), v.subject, text), nil)
	case match(`violates PodSecurity "?([a-z]+)`) != nil:
		ns := j.ref("", "Namespace", "", from.Namespace)
		tie(graph.GuardedBy, ns)
		v.fault("kube.pod_security_denied", incident.Critical, 0.95, ns, fmt.Sprintf("Pod Security of namespace %s forbids the pods of %s: %s", from.Namespace, v.subject, text), params("level", match(`violates PodSecurity "?([a-z]+)`)[1], "message", text))
	case match(`(?:failed calling|failed to call) webhook "?([^":\s]+)`) != nil:
		j.webhook(ctx, v, tie, match(`(?:failed calling|failed to call) webhook "?([^":\s]+)`)[1], "kube.webhook_unavailable", text)
	case match(`admission webhook "([^"]+)" denied`) != nil:
		j.webhook(ctx, v, tie, match(`admission webhook "([^"]+)" denied`)[1], "kube.webhook_denied", text)
	case match(`serviceaccount "([^"]+)" not found|service account [^/\s]+/(\S+) was not found`) != nil:
		m := match(`serviceaccount "([^"]+)" not found|service account [^/\s]+/(\S+) was not found`)
		sa := j.ref("", "ServiceAccount", from.Namespace, strings.TrimSuffix(firstOf(m[1], m[2]), ","))
		tie(graph.Uses, sa)
		v.fault("kube.service_account_missing", incident.Critical, 0.95, sa, fmt.Sprintf("ServiceAccount %s, which the pods of %s need, does not exist", sa.Path(), v.subject), params("owner", v.subject.Path()))
	case match(`no PriorityClass with name (\S+) was found`) != nil:
		pc := j.ref("scheduling.k8s.io", "PriorityClass", "", match(`no PriorityClass with name (\S+) was found`)[1])
		tie(graph.Uses, pc)
		v.fault("kube.priority_class_missing", incident.Critical, 0.95, pc, fmt.Sprintf("PriorityClass %s, which the pods of %s name, does not exist", pc.Name, v.subject), params("owner", v.subject.Path()))
	case containsAny(text, "runtimeclass") && match(`RuntimeClass "?([^"\s]+)"? not found|runtimeclass.node.k8s.io "([^"]+)" not found`) != nil:
		m := match(`RuntimeClass "?([^"\s]+)"? not found|runtimeclass.node.k8s.io "([^"]+)" not found`)
		rc := j.ref("node.k8s.io", "RuntimeClass", "", firstOf(m[1], m[2]))
		tie(graph.Uses, rc)
		v.fault("kube.runtime_class_missing", incident.Critical, 0.95, rc, fmt.Sprintf("RuntimeClass %s, which the pods of %s name, does not exist", rc.Name, v.subject), params("owner", v.subject.Path()))
	case containsAny(text, "maximum cpu usage", "maximum memory usage", "minimum cpu usage", "minimum memory usage", "limit to request ratio"):
		j.limitRange(ctx, v, tie, from.Namespace, text)
	case containsAny(text, "because it is being terminated"):
		ns := j.ref("", "Namespace", "", from.Namespace)
		tie(graph.GuardedBy, ns)
		v.fault("kube.namespace_terminating", incident.Critical, 0.95, ns, fmt.Sprintf("namespace %s is being deleted, so %s can create nothing", from.Namespace, v.subject), params("message", text))
	default:
		v.fault("kube.create_rejected", incident.Critical, 0.8, from, fmt.Sprintf("the API server refuses the pods of %s: %s", v.subject, text), params("message", text))
	}
}

// replicaFailure is what a Deployment's or ReplicaSet's own condition says of pods
// that cannot be created: it stays when the events have expired.
func (j *judge) replicaFailure(ctx context.Context, from incident.Ref) string {
	if from.Group != "apps" || from.Kind != "ReplicaSet" && from.Kind != "Deployment" {
		return ""
	}
	u, err := j.src.Get(ctx, from)
	if err != nil {
		return ""
	}
	for _, c := range conditions(u.Object, "status", "conditions") {
		if c.kind == "ReplicaFailure" && c.status == "True" {
			return c.message
		}
	}
	return ""
}

// limitRange finds which LimitRange of the namespace refused.
func (j *judge) limitRange(ctx context.Context, v *verdict, tie func(string, incident.Ref), namespace, text string) {
	ranges, err := j.src.LimitRanges(ctx, namespace)
	if err != nil || len(ranges) == 0 {
		return
	}
	r := j.ref("", "LimitRange", namespace, ranges[0].Name)
	tie(graph.LimitedBy, r)
	v.fault("kube.limit_range_violation", incident.Critical, 0.92, r, fmt.Sprintf("LimitRange %s forbids what the pods of %s ask for: %s", r.Path(), v.subject, text), params("message", text))
}

// webhook finds the configuration behind a webhook's name.
func (j *judge) webhook(ctx context.Context, v *verdict, tie func(string, incident.Ref), name, code, text string) {
	to, service := j.findWebhook(ctx, name)
	tie(graph.GuardedBy, to)
	if code == "kube.webhook_denied" {
		v.fault(code, incident.Critical, 0.92, to, fmt.Sprintf("webhook %s of %s refuses the pods of %s: %s", name, to, v.subject, text), params("webhook", name, "message", text))
		return
	}
	v.fault(code, incident.Critical, 0.93, to, fmt.Sprintf("webhook %s of %s cannot be reached and fails closed, so %s can create no pods: %s", name, to, v.subject, text), params("webhook", name, "service", service.Path()))
}

func (j *judge) findWebhook(ctx context.Context, name string) (incident.Ref, incident.Ref) {
	const group = "admissionregistration.k8s.io"
	if list, err := j.src.ValidatingWebhooks(ctx); err == nil {
		for _, c := range list {
			for _, w := range c.Webhooks {
				if w.Name == name {
					svc := incident.Ref{}
					if s := w.ClientConfig.Service; s != nil {
						svc = j.ref("", "Service", s.Namespace, s.Name)
					}
					return j.ref(group, "ValidatingWebhookConfiguration", "", c.Name), svc
				}
			}
		}
	}
	if list, err := j.src.MutatingWebhooks(ctx); err == nil {
		for _, c := range list {
			for _, w := range c.Webhooks {
				if w.Name == name {
					svc := incident.Ref{}
					if s := w.ClientConfig.Service; s != nil {
						svc = j.ref("", "Service", s.Namespace, s.Name)
					}
					return j.ref(group, "MutatingWebhookConfiguration", "", c.Name), svc
				}
			}
		}
	}
	return j.ref(group, "ValidatingWebhookConfiguration", "", name), incident.Ref{}
}

// kueue reads why a Workload is not admitted.
func (j *judge) kueue(v *verdict, obj map[string]any, namespace, name string) {
	conds, _, _ := unstructured.NestedSlice(obj, "status", "conditions")
	for _, c := range conds {
		m, _ := c.(map[string]any)
		reason, _ := m["reason"].(string)
		message, _ := m["message"].(string)
		if m["status"] != "False" || !slices.Contains([]string{"QuotaReserved", "Admitted"}, fmt.Sprint(m["type"])) {
			continue
		}
		to := j.ref("kueue.x-k8s.io", "Workload", namespace, name)
		v.line("Workload %s: %s: %s", name, reason, message)
		if d := regexp.MustCompile(`DeviceClass "?([^"\s]+)"? is not mapped`).FindStringSubmatch(message); d != nil {
			v.fault("dra.kueue_class_unmapped", incident.Critical, 0.93, to, fmt.Sprintf("Kueue does not admit Workload %s: DeviceClass %s is not mapped in its configuration: %s", to.Path(), d[1], message), params("class", d[1]))
			return
		}
		v.fault("kube.sched_quota_or_gang", incident.Warning, 0.75, to, fmt.Sprintf("Kueue does not admit Workload %s: %s: %s", to.Path(), reason, message), params("group", name))
		return
	}
}

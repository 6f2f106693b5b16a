package judge

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

func selectors(labels string) source.Selectors { return source.Selectors{Labels: labels} }

// refusing reports whether the API server refuses the pods of a controller: the
// last it is known to have tried, a moment ago, failed.
func (j *judge) refusing(ctx context.Context, from incident.Ref, uid string) bool {
	evs := j.events(ctx, from, uid)
	e, failed := has(evs, []string{"FailedCreate", "FailedCreatePod"})
	done, since := has(evs, []string{"SuccessfulCreate"})
	return failed && j.now().Sub(e.Last) < 2*settle && (!since || !done.Last.After(e.Last))
}

// createFailures reads why the API server refuses a workload's pods. The
// subject of each fault is what refuses; from is the object the events are about.
func (j *judge) createFailures(ctx context.Context, v *verdict, from incident.Ref, uid string) {
	evs := j.events(ctx, from, uid)
	e, ok := has(evs, []string{"FailedCreate", "FailedCreatePod"})
	if !ok {
		if e.Message = j.replicaFailure(ctx, from); e.Message == "" {
			return
		}
	}
	if done, since := has(evs, []string{"SuccessfulCreate"}); since && done.Last.After(e.Last) {
		v.line("%s could not create pods %s ago and can again: %s", from, j.ago(e.Last), e.Message)
		return
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
		p := quotaFigures(text)
		if n := needed(p); n != "" {
			p["needed"] = n
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
		j.webhook(ctx, v, from, tie, match(`(?:failed calling|failed to call) webhook "?([^":\s]+)`)[1], "kube.webhook_unavailable", text)
	case match(`admission webhook "([^"]+)" denied`) != nil:
		j.webhook(ctx, v, from, tie, match(`admission webhook "([^"]+)" denied`)[1], "kube.webhook_denied", text)
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
	case match(limitWords) != nil && j.limitRange(ctx, v, tie, from.Namespace, text):
	case containsAny(text, "because it is being terminated"):
		ns := j.ref("", "Namespace", "", from.Namespace)
		tie(graph.GuardedBy, ns)
		v.fault("kube.namespace_terminating", incident.Critical, 0.95, ns, fmt.Sprintf("namespace %s is being deleted, so %s can create nothing", from.Namespace, v.subject), params("message", text))
	default:
		j.rejected(v, from, text)
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

// rejected says that the API server refuses, where what refuses is not known.
func (j *judge) rejected(v *verdict, from incident.Ref, text string) {
	if from != v.subject {
		v.edge(v.subject, graph.Owns, from)
	}
	v.fault("kube.create_rejected", incident.Critical, 0.8, from, fmt.Sprintf("the API server refuses the pods of %s: %s", v.subject, text), params("message", text))
}

// quotaFigures reads "requested: a=1,b=2, used: a=3,b=4, limited: a=3,b=5": only
// what is over the quota is listed.
func quotaFigures(text string) map[string]string {
	m := regexp.MustCompile(`requested: (\S+), used: (\S+), limited: (\S+)`).FindStringSubmatch(text)
	if m == nil {
		return params()
	}
	names, amounts := []string{}, make([][]string, 3)
	for i, list := range m[1:] {
		for pair := range strings.SplitSeq(list, ",") {
			name, amount, _ := strings.Cut(pair, "=")
			amounts[i] = append(amounts[i], amount)
			if i == 0 {
				names = append(names, name)
			}
		}
	}
	all := func(s []string) string { return strings.Join(s, ", ") }
	return params("resource", all(names), "requested", all(amounts[0]), "used", all(amounts[1]), "hard", all(amounts[2]))
}

// limitWords are those of the LimitRanger (plugin/pkg/admission/limitranger, v1.37).
const limitWords = `(maximum|minimum) (\S+) usage per (\S+) is ([^,\s]+)|(\S+) max limit to request ratio per (\S+) is ([^,\s]+)`

// limitRange finds which LimitRange of the namespace refused: the one whose figure
// is quoted. It reports false where none of those that can be seen does.
func (j *judge) limitRange(ctx context.Context, v *verdict, tie func(string, incident.Ref), namespace, text string) bool {
	ranges, err := j.src.LimitRanges(ctx, namespace)
	if err != nil {
		return false
	}
	m := regexp.MustCompile(limitWords).FindStringSubmatch(text)
	i := slices.IndexFunc(ranges, func(r *corev1.LimitRange) bool {
		return slices.ContainsFunc(r.Spec.Limits, func(l corev1.LimitRangeItem) bool {
			figure := func(list corev1.ResourceList, name, want string) bool {
				q, ok := list[corev1.ResourceName(name)]
				return ok && q.String() == strings.TrimRight(want, ".")
			}
			switch m[1] {
			case "maximum":
				return string(l.Type) == m[3] && figure(l.Max, m[2], m[4])
			case "minimum":
				return string(l.Type) == m[3] && figure(l.Min, m[2], m[4])
			}
			_, ok := l.MaxLimitRequestRatio[corev1.ResourceName(m[5])]
			return ok && string(l.Type) == m[6]
		})
	})
	if i < 0 {
		return false
	}
	r := j.ref("", "LimitRange", namespace, ranges[i].Name)
	tie(graph.LimitedBy, r)
	v.fault("kube.limit_range_violation", incident.Critical, 0.92, r, fmt.Sprintf("LimitRange %s forbids what the pods of %s ask for: %s", r.Path(), v.subject, text), params("message", text))
	return true
}

// webhook finds the configuration behind a webhook's name; without it there is
// only the refusal to blame.
func (j *judge) webhook(ctx context.Context, v *verdict, from incident.Ref, tie func(string, incident.Ref), name, code, text string) {
	to, service, ok := j.findWebhook(ctx, name)
	switch {
	case !ok:
		v.line("the configuration of webhook %s cannot be found", name)
		j.rejected(v, from, text)
	case code == "kube.webhook_denied":
		tie(graph.GuardedBy, to)
		v.fault(code, incident.Critical, 0.92, to, fmt.Sprintf("webhook %s of %s refuses the pods of %s: %s", name, to, v.subject, text), params("webhook", name, "message", text))
	default:
		tie(graph.GuardedBy, to)
		if !service.IsZero() {
			v.edge(to, graph.GuardedBy, service)
		}
		v.fault(code, incident.Critical, 0.93, to, fmt.Sprintf("webhook %s of %s cannot be reached and fails closed, so %s can create no pods: %s", name, to, v.subject, text), params("webhook", name, "service", service.Path()))
	}
}

// hook is one webhook of a configuration.
type hook struct {
	config incident.Ref
	name   string
	// closed: requests are refused while it does not answer.
	closed bool
	// service that answers for it, zero when it is called by URL.
	service incident.Ref
}

// webhooks lists the webhooks of the cluster, as far as they may be read.
func (j *judge) webhooks(ctx context.Context) []hook {
	const group = "admissionregistration.k8s.io"
	var out []hook
	add := func(kind, config, name string, c admissionv1.WebhookClientConfig, policy *admissionv1.FailurePolicyType) {
		h := hook{config: j.ref(group, kind, "", config), name: name, closed: policy == nil || *policy == admissionv1.Fail}
		if s := c.Service; s != nil {
			h.service = j.ref("", "Service", s.Namespace, s.Name)
		}
		out = append(out, h)
	}
	if list, err := j.src.ValidatingWebhooks(ctx); err == nil {
		for _, c := range list {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				add("ValidatingWebhookConfiguration", c.Name, w.Name, w.ClientConfig, w.FailurePolicy)
			}
		}
	}
	if list, err := j.src.MutatingWebhooks(ctx); err == nil {
		for _, c := range list {
			for i := range c.Webhooks {
				w := &c.Webhooks[i]
				add("MutatingWebhookConfiguration", c.Name, w.Name, w.ClientConfig, w.FailurePolicy)
			}
		}
	}
	return out
}

func (j *judge) findWebhook(ctx context.Context, name string) (config, service incident.Ref, ok bool) {
	for _, h := range j.webhooks(ctx) {
		if h.name == name {
			return h.config, h.service, true
		}
	}
	return incident.Ref{}, incident.Ref{}, false
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

package judge

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// SurveyIn names a namespace; empty surveys the whole cluster.
type SurveyIn struct {
	Namespace string `json:"namespace,omitempty"`
}

// Survey is what is abnormal in a namespace or cluster.
type Survey struct {
	Subject incident.Ref `json:"subject"`
	// Looked counts the objects that were passed over, by kind.
	Looked   map[string]int `json:"looked"`
	Findings []Named        `json:"findings"`
	// More counts findings beyond those listed.
	More int `json:"more"`
}

// surveyed bounds how many things in trouble a survey names.
const surveyed = 20

func (j *judge) surveyTool(ctx context.Context, in SurveyIn) (tool.Output[Survey], error) {
	v := newVerdict(j.ref("", "Cluster", "", cmp.Or(j.cluster, "cluster")))
	if in.Namespace != "" {
		ns, err := j.src.Namespace(ctx, in.Namespace)
		if err != nil {
			return tool.Output[Survey]{}, err
		}
		v.subject = j.ref("", "Namespace", "", ns.Name)
		j.namespace(ctx, v, ns)
	}
	d := Survey{Subject: v.subject, Looked: map[string]int{}, Findings: []Named{}}
	denied := j.survey(ctx, v, in.Namespace, d.Looked)
	if in.Namespace == "" {
		j.surveyCluster(ctx, v, d.Looked)
	}
	if _, err := j.src.Pods(ctx, in.Namespace); err != nil && len(v.findings) == 0 {
		// Whoever does not see the pods cannot say that nothing is wrong.
		return tool.Output[Survey]{}, err
	}
	if len(v.findings) > surveyed {
		d.More = len(v.findings) - surveyed
		v.findings = v.findings[:surveyed]
	}
	for _, f := range v.findings {
		if f.Subject != v.subject {
			v.edge(v.subject, graph.Contains, f.Subject)
		}
	}
	v.state = fmt.Sprintf("%d things in trouble", len(v.findings)+d.More)
	for _, f := range v.findings {
		v.line("%s", f.Message)
	}
	for _, why := range denied {
		v.line("not seen: %s", why)
	}
	out := v.output()
	d.Findings = out.Data.Findings
	return tool.Output[Survey]{Data: d, Text: out.Text, Findings: out.Findings, Edges: out.Edges}, nil
}

// going is how long a namespace may take to empty: its pods have a grace period.
const going = 3 * time.Minute

// namespace finds a namespace that is being deleted and cannot end. An API that does
// not answer keeps every namespace from ending, and is the cause then.
func (j *judge) namespace(ctx context.Context, v *verdict, ns *corev1.Namespace) {
	if ns.DeletionTimestamp == nil {
		return
	}
	if j.now().Sub(ns.DeletionTimestamp.Time) < going {
		v.line("namespace %s is being deleted since %s", ns.Name, j.ago(ns.DeletionTimestamp.Time))
		return
	}
	var why, remaining []string
	for _, c := range ns.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		why = append(why, c.Message)
		switch c.Type {
		case corev1.NamespaceContentRemaining, corev1.NamespaceFinalizersRemaining:
			remaining = append(remaining, c.Message)
		case corev1.NamespaceDeletionDiscoveryFailure:
			for _, m := range regexp.MustCompile(`([a-z0-9.-]+)/(v[a-z0-9]+): `).FindAllStringSubmatch(c.Message, -1) {
				v.edge(v.subject, graph.GuardedBy, j.ref("apiregistration.k8s.io", "APIService", "", m[2]+"."+m[1]))
			}
		}
	}
	text := cmp.Or(strings.Join(why, "; "), "it is not said why")
	v.fault("kube.namespace_terminating", incident.Critical, 0.9, v.subject, fmt.Sprintf("namespace %s is being deleted since %s: %s", ns.Name, j.ago(ns.DeletionTimestamp.Time), text), params("message", text, "remaining", strings.Join(remaining, "; ")))
	if len(v.edges) > 0 {
		j.apiServices(ctx, v)
	}
}

// survey passes over the lists of a namespace (all, if empty). Lists that may
// not be read are told and left out.
func (j *judge) survey(ctx context.Context, v *verdict, namespace string, looked map[string]int) []string {
	var denied []string
	note := func(err error) bool {
		if err != nil {
			denied = append(denied, tool.UserText(err))
		}
		return err == nil
	}
	if pods, err := j.src.Pods(ctx, namespace); note(err) {
		looked["Pod"] = len(pods)
		j.surveyPods(v, pods)
	}
	if jobs, err := j.src.Jobs(ctx, namespace); note(err) {
		looked["Job"] = len(jobs)
		j.surveyJobs(ctx, v, jobs)
	}
	j.surveyWorkloads(ctx, v, namespace, looked, note)
	if pvcs, err := j.src.PVCs(ctx, namespace); note(err) {
		looked["PersistentVolumeClaim"] = len(pvcs)
		for _, c := range pvcs {
			if c.Status.Phase != corev1.ClaimBound {
				j.symptomsOf(v, j.claim(ctx, c))
			}
		}
	}
	if hpas, err := j.src.HPAs(ctx, namespace); note(err) {
		looked["HorizontalPodAutoscaler"] = len(hpas)
		for _, h := range hpas {
			one := j.hpa(ctx, h)
			// Being at the maximum is trouble to whoever asks about the autoscaler only.
			one.findings = slices.DeleteFunc(one.findings, func(f incident.Finding) bool { return f.Code == "kube.hpa_at_max" })
			j.symptomsOf(v, one)
		}
	}
	if ings, err := j.src.Ingresses(ctx, namespace); note(err) {
		looked["Ingress"] = len(ings)
		for _, i := range ings {
			j.symptomsOf(v, j.ingress(ctx, i))
		}
	}
	for _, kind := range []string{"Gateway", "HTTPRoute", "GRPCRoute"} {
		// Not served in most clusters; that is not worth a word.
		list, err := j.src.List(ctx, strings.ToLower(kind)+"s."+gatewayGroup, namespace, selectors(""))
		if err != nil {
			continue
		}
		looked[kind] = len(list)
		for _, u := range list {
			j.symptomsOf(v, j.gateway(ctx, j.ref(gatewayGroup, kind, u.GetNamespace(), u.GetName()), u))
		}
	}
	return denied
}

// surveyJobs names Jobs that failed, that are held, or whose pods fail. Of the Jobs
// of a CronJob only the last counts.
func (j *judge) surveyJobs(ctx context.Context, v *verdict, jobs []*batchv1.Job) {
	last := map[types.UID]*batchv1.Job{}
	for _, b := range jobs {
		if c := metav1.GetControllerOf(b); c != nil && c.Kind == "CronJob" {
			if o := last[c.UID]; o == nil || b.CreationTimestamp.After(o.CreationTimestamp.Time) {
				last[c.UID] = b
			}
		}
	}
	for _, b := range jobs {
		if c := metav1.GetControllerOf(b); c != nil && c.Kind == "CronJob" && last[c.UID] != b {
			continue
		}
		subject := j.ref("batch", "Job", b.Namespace, b.Name)
		failed := jobCondition(b, batchv1.JobFailed)
		switch {
		case failed != nil:
			if j.now().Sub(failed.LastTransitionTime.Time) < 24*recent {
				v.find(incident.Finding{Code: "kube.job_failed", Role: incident.Symptom, Severity: incident.Critical, Subject: subject, Message: fmt.Sprintf("Job %s/%s failed", b.Namespace, b.Name), Params: params("reason", cmp.Or(failed.Reason, "Failed"))})
			}
		case jobCondition(b, batchv1.JobComplete) != nil || jobCondition(b, batchv1.JobSuccessCriteriaMet) != nil:
		case b.Spec.Suspend != nil && *b.Spec.Suspend:
			if b.Labels["kueue.x-k8s.io/queue-name"] != "" && j.now().Sub(b.CreationTimestamp.Time) > 5*settle {
				v.find(incident.Finding{Code: "kube.workload_unavailable", Role: incident.Symptom, Severity: incident.Warning, Subject: subject, Message: fmt.Sprintf("Job %s/%s is held by Kueue", b.Namespace, b.Name), Params: params("desired", fmt.Sprint(replicasOf(b.Spec.Parallelism)), "ready", "0")})
			}
		case b.Status.Failed > 0 || b.Status.Active == 0:
			j.symptomsOf(v, j.job(ctx, b))
		}
	}
}

func jobCondition(b *batchv1.Job, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range b.Status.Conditions {
		if b.Status.Conditions[i].Type == t && b.Status.Conditions[i].Status == corev1.ConditionTrue {
			return &b.Status.Conditions[i]
		}
	}
	return nil
}

// surveyPods names pods in trouble, one for each owner and kind of trouble.
func (j *judge) surveyPods(v *verdict, pods []*corev1.Pod) {
	type group struct {
		pod   *corev1.Pod
		count int
	}
	groups := map[string]*group{}
	var order []string
	for _, p := range pods {
		if !j.podInTrouble(p) {
			continue
		}
		k := p.Namespace + "/" + p.Name
		if o, ok := j.owner(p); ok {
			k = o.String() + "|" + podState(p)
		}
		if groups[k] == nil {
			groups[k] = &group{pod: p}
			order = append(order, k)
		}
		groups[k].count++
	}
	slices.Sort(order)
	for _, k := range order {
		g := groups[k]
		code := "kube.pod_not_ready"
		switch {
		case g.pod.DeletionTimestamp != nil:
			code = "kube.pod_terminating"
		case g.pod.Status.Phase == corev1.PodFailed:
			code = "kube.pod_failed"
		case g.pod.Spec.NodeName == "":
			code = "kube.pod_pending"
		case g.pod.Status.Phase == corev1.PodPending:
			code = "kube.pod_creating"
		}
		more := ""
		if g.count > 1 {
			more = fmt.Sprintf(" and %d like it", g.count-1)
		}
		figures := params("reason", podState(g.pod))
		if ts := g.pod.DeletionTimestamp; ts != nil {
			figures["since"] = j.ago(ts.Time)
		}
		v.find(incident.Finding{Code: code, Role: incident.Symptom, Severity: incident.Warning, Subject: j.pod(g.pod),
			Message: fmt.Sprintf("Pod %s/%s%s: %s", g.pod.Namespace, g.pod.Name, more, podState(g.pod)), Params: figures})
	}
}

// podInTrouble is the cheap judgement: state and times only.
func (j *judge) podInTrouble(p *corev1.Pod) bool {
	age := j.now().Sub(p.CreationTimestamp.Time)
	switch {
	case p.DeletionTimestamp != nil:
		return j.now().Sub(p.DeletionTimestamp.Time) > 5*settle
	case p.Status.Phase == corev1.PodSucceeded:
		return false
	case p.Status.Phase == corev1.PodFailed:
		o, owned := j.owner(p)
		switch {
		case !owned:
			return age < 24*recent
		case o.Kind == "Job" || removed(p.Status.Reason):
			// The Job speaks for its pods; for one that was removed there is another.
			return false
		}
		return age < calm
	case len(p.Spec.SchedulingGates) > 0:
		// A queue or an operator is about to let it go.
		return age > calm
	case p.Spec.NodeName == "":
		c := condition(p, corev1.PodScheduled)
		return age > 2*settle || c != nil && c.Status == corev1.ConditionFalse
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" && w.Reason != "" {
			return true
		}
		if t := c.LastTerminationState.Terminated; t != nil && c.RestartCount > 2 && j.now().Sub(t.FinishedAt.Time) < recent/3 {
			return true
		}
	}
	if ready(p) || j.warmingUp(p) {
		return false
	}
	since := p.CreationTimestamp.Time
	if c := condition(p, corev1.PodReady); c != nil && !c.LastTransitionTime.IsZero() {
		since = c.LastTransitionTime.Time
	}
	return j.now().Sub(since) > 4*settle
}

// surveyWorkloads names workloads whose pods cannot even be created: those with
// pods in trouble are found through their pods.
func (j *judge) surveyWorkloads(ctx context.Context, v *verdict, namespace string, looked map[string]int, note func(error) bool) {
	add := func(kind, ns, name string, want, have int32) {
		if have < want {
			v.find(incident.Finding{Code: "kube.workload_unavailable", Role: incident.Symptom, Severity: incident.Warning, Subject: j.ref("apps", kind, ns, name),
				Message: fmt.Sprintf("%s %s/%s has %d of %d pods", kind, ns, name, have, want), Params: params("desired", fmt.Sprint(want), "ready", fmt.Sprint(have))})
		}
	}
	if list, err := j.src.Deployments(ctx, namespace); note(err) {
		looked["Deployment"] = len(list)
		for _, d := range list {
			if j.now().Sub(d.CreationTimestamp.Time) > settle {
				add("Deployment", d.Namespace, d.Name, replicasOf(d.Spec.Replicas), d.Status.Replicas)
			}
		}
	}
	if list, err := j.src.StatefulSets(ctx, namespace); note(err) {
		looked["StatefulSet"] = len(list)
		for _, s := range list {
			want := replicasOf(s.Spec.Replicas)
			switch {
			case j.now().Sub(s.CreationTimestamp.Time) < settle || s.Status.Replicas >= want:
			case s.Status.Replicas == 0:
				add("StatefulSet", s.Namespace, s.Name, want, 0)
			case s.Status.ReadyReplicas >= s.Status.Replicas:
				// Ordinals come one by one; with the last one ready the next is due.
				j.symptomsOf(v, j.statefulSet(ctx, s))
			}
		}
	}
	if list, err := j.src.DaemonSets(ctx, namespace); note(err) {
		looked["DaemonSet"] = len(list)
		for _, d := range list {
			if j.now().Sub(d.CreationTimestamp.Time) > settle {
				add("DaemonSet", d.Namespace, d.Name, d.Status.DesiredNumberScheduled, d.Status.CurrentNumberScheduled)
			}
		}
	}
}

// symptomsOf takes the findings of another judgement in.
func (j *judge) symptomsOf(v *verdict, o *verdict) {
	for _, f := range o.findings {
		if f.Role == incident.Symptom || f.Role == incident.Fault {
			v.find(f)
		}
	}
	for _, e := range o.edges {
		v.edge(e.From, e.Relation, e.To)
	}
}

// surveyCluster passes over what belongs to no namespace.
func (j *judge) surveyCluster(ctx context.Context, v *verdict, looked map[string]int) {
	if nodes, err := j.src.Nodes(ctx); err == nil {
		looked["Node"] = len(nodes)
		for _, n := range nodes {
			j.symptomsOf(v, j.judgeNode(n))
		}
	}
	if list, err := j.src.Namespaces(ctx); err == nil {
		looked["Namespace"] = len(list)
		for _, ns := range list {
			inner := newVerdict(j.ref("", "Namespace", "", ns.Name))
			j.namespace(ctx, inner, ns)
			j.symptomsOf(v, inner)
		}
	}
	j.webhookServices(ctx, v)
	j.apiServices(ctx, v)
	if to, why, down := j.dnsDown(ctx); down {
		v.edge(v.subject, graph.Contains, to)
		v.fault("kube.dns_unavailable", incident.Critical, 0.93, to, why, params("ready", "0"))
	}
}

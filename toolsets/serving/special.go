package serving

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// special judges what only one kind has.
func (t *Toolset) special(ctx context.Context, v *verdict, u *unstructured.Unstructured, conds []condition, pods []*corev1.Pod) {
	switch u.GetKind() {
	case "ModelDeployment":
		t.modelDeployment(ctx, v, u, pods)
	case "Workspace":
		t.workspace(ctx, v, u, conds, pods)
	case "RayService":
		t.rayService(v, u, conds, pods)
	case "DynamoGraphDeployment":
		t.dynamoGraph(v, u, pods)
	case "LeaderWorkerSet":
		t.leaderWorkerSet(ctx, v, u, pods)
	}
}

// is reports whether a condition has a status; seen says whether it is there.
func is(conds []condition, kind, status string) (condition, bool) {
	i := slices.IndexFunc(conds, func(c condition) bool { return c.kind == kind && c.status == status })
	if i < 0 {
		return condition{}, false
	}
	return conds[i], true
}

func readyCount(pods []*corev1.Pod) int {
	n := 0
	for _, p := range pods {
		if ready(p) {
			n++
		}
	}
	return n
}

// modelDeployment looks behind a missing provider, and for a status that its
// provider's newer API left unread.
func (t *Toolset) modelDeployment(ctx context.Context, v *verdict, u *unstructured.Unstructured, pods []*corev1.Pod) {
	if slices.ContainsFunc(v.findings, func(f incident.Finding) bool {
		return f.Code == "serving.provider_missing" || f.Code == "serving.upstream_missing"
	}) {
		if sys := t.book.system("airunway.ai", "ModelDeployment"); sys != nil {
			t.provider(ctx, v, sys)
		}
	}
	if at(u.Object, "status.provider.resourceKind") != "DynamoGraphDeployment" {
		return
	}
	have, ok := number(u.Object, "status.replicas.ready")
	dgd, err := t.objects.Get(ctx, t.ref("nvidia.com", "DynamoGraphDeployment", u.GetNamespace(), at(u.Object, "status.provider.resourceName")))
	if err != nil || !ok || have > 0 || at(dgd.Object, "status.state") != "successful" {
		return
	}
	v.fault("serving.status_unread", 0.86, v.subject, fmt.Sprintf("%s counts 0 ready replicas while its DynamoGraphDeployment %s is successful: the %s status shape is not read", v.subject, dgd.GetName(), dgd.GroupVersionKind().Version),
		params("child", dgd.GetName(), "version", dgd.GroupVersionKind().Version, "pods_ready", fmt.Sprint(readyCount(pods))))
}

// workspace judges what KAITO waits for.
func (t *Toolset) workspace(ctx context.Context, v *verdict, u *unstructured.Unstructured, conds []condition, pods []*corev1.Pod) {
	if c, bad := is(conds, "BenchmarkCompleted", "False"); bad && c.reason == "BenchmarkFailed" {
		_, serves := is(conds, "InferenceReady", "True")
		if serves && (len(pods) == 0 || readyCount(pods) == len(pods)) {
			v.symptom("serving.not_ready", fmt.Sprintf("%s has BenchmarkCompleted False %s: %s", v.subject, c.reason, c.message), params("condition", c.kind, "reason", c.reason, "message", c.message, "mode", "F52", "way", ""))
			v.add(incident.Finding{Code: "serving.benchmark_failed", Role: incident.Fault, Severity: incident.Warning, Confidence: 0.86, Subject: v.subject,
				Message: fmt.Sprintf("%s is not ready only because its benchmark failed; its inference is ready and serves: %s", v.subject, c.message), Params: params("message", cmp.Or(c.message, c.reason))})
		}
	}
	if c, bad := is(conds, "WorkspaceSucceeded", "False"); bad && !v.sick() && t.old(c, u) {
		t.notReady(v, c.kind, c.status, c.reason, c.message)
	}
	if c, bad := is(conds, "NodesReady", "False"); bad && c.reason == "NodePluginsNotReady" {
		t.devicePlugins(ctx, v, u)
	}
	claims, err := t.objects.List(ctx, "karpenter.sh", "NodeClaim", "", "kaito.sh/workspace="+u.GetName())
	if err == nil {
		for _, n := range claims {
			to := t.ref("karpenter.sh", "NodeClaim", "", n.GetName())
			v.edge(v.subject, graph.Owns, to)
			t.nodeClaim(v, to, n)
		}
	}
	if c, bad := is(conds, "ResourceReady", "False"); bad && t.old(c, u) && len(claims) == 0 {
		t.notChosen(ctx, v, u)
	}
}

// devicePlugins ties a Workspace whose nodes offer no GPU to the device plugin pods
// on them that are not ready: why they are not is with the pods.
func (t *Toolset) devicePlugins(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	want := wordsAt(u.Object, "resource", "labelSelector", "matchLabels")
	if len(want) == 0 {
		return
	}
	nodes, err := t.objects.List(ctx, "", "Node", "", labels.SelectorFromSet(want).String())
	if err != nil {
		v.line("the nodes of the Workspace are not known: %s", tool.UserText(err))
		return
	}
	mine := map[string]bool{}
	for _, n := range nodes {
		mine[n.GetName()] = true
	}
	pods, err := t.pods.Matching(ctx, "", labels.Everything())
	if err != nil {
		v.line("the device plugins of its nodes are not known: %s", tool.UserText(err))
		return
	}
	seen := 0
	for _, p := range pods {
		if !mine[p.Spec.NodeName] || !strings.Contains(p.Name, "device-plugin") {
			continue
		}
		seen++
		v.line("device plugin %s/%s on %s: ready %t", p.Namespace, p.Name, p.Spec.NodeName, ready(p))
		if !ready(p) {
			v.edge(v.subject, graph.ServedBy, t.podRef(p))
		}
	}
	if seen == 0 {
		v.line("no pod named like a device plugin is on its %d nodes", len(mine))
	}
}

// nodeClaim reads the cloud's own words about a node that does not come.
func (t *Toolset) nodeClaim(v *verdict, ref incident.Ref, n *unstructured.Unstructured) {
	for _, c := range conditionsOf(n) {
		for i := range t.rules {
			if r := &t.rules[i]; r.reads("NodeClaim", c) {
				v.fault(r.Code, r.Confidence, ref, fmt.Sprintf("%s is not launched: %s: %s", ref, c.reason, oneLine(c.message, 400)),
					params("condition", c.kind, "reason", c.reason, "message", oneLine(c.message, 400), "mode", r.Mode, "way", r.Way))
			}
		}
	}
}

// notChosen compares a Workspace's wishes with the GPU nodes that are there.
func (t *Toolset) notChosen(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	nodes, err := t.objects.List(ctx, "", "Node", "", "")
	if err != nil {
		return
	}
	want := wordsAt(u.Object, "resource", "labelSelector", "matchLabels")
	instance := at(u.Object, "resource.instanceType")
	var near []string
	gpus := 0
	for _, n := range nodes {
		if whole, ok := mapAt(n.Object, "status", "allocatable")["nvidia.com/gpu"]; !ok || text(whole) == "0" {
			continue
		}
		gpus++
		var off []string
		have := n.GetLabels()
		for k, x := range want {
			if have[k] != x {
				off = append(off, fmt.Sprintf("%s is %q, %q is wanted", k, have[k], x))
			}
		}
		if kind := have["node.kubernetes.io/instance-type"]; instance != "" && kind != instance {
			off = append(off, fmt.Sprintf("instance type is %q, %q is wanted", kind, instance))
		}
		if len(off) == 0 {
			return // a node that fits: something else stands in the way
		}
		slices.Sort(off)
		near = append(near, n.GetName()+": "+strings.Join(off, ", "))
	}
	if gpus == 0 {
		return
	}
	slices.Sort(near)
	v.fault("serving.nodes_not_chosen", 0.88, v.subject, fmt.Sprintf("%d GPU nodes are there and none is what %s asks for: %s", gpus, v.subject, list(near, 3)), params("nodes", list(near, 3), "count", fmt.Sprint(gpus)))
}

// upgradeLong is how long a RayService may run two clusters beside each other:
// a large model loads in half of that.
const upgradeLong = 15 * time.Minute

// rayService reads the state of the Serve applications, and an upgrade that
// waits for its second set of GPUs.
func (t *Toolset) rayService(v *verdict, u *unstructured.Unstructured, conds []condition, pods []*corev1.Pod) {
	for _, which := range []string{"activeServiceStatus", "pendingServiceStatus"} {
		apps := mapAt(u.Object, "status", which, "applicationStatuses")
		for _, name := range sortedKeys(apps) {
			app, _ := apps[name].(map[string]any)
			state, msg := text(app["status"]), oneLine(text(app["message"]), 500)
			v.line("Serve application %s (%s): %s %s", name, which, state, msg)
			switch state {
			case "DEPLOY_FAILED", "UNHEALTHY":
				v.symptom("serving.not_ready", fmt.Sprintf("Serve application %s of %s is %s", name, v.subject, state), params("condition", "application "+name, "reason", state, "message", msg, "mode", "F55", "way", ""))
				confidence := 0.88
				if state == "UNHEALTHY" || strings.Contains(msg, "taken more than") {
					// It waits for replicas: why they do not come is deeper.
					confidence = 0.6
				}
				if msg != "" {
					v.fault("serving.ray_app_failed", confidence, v.subject, fmt.Sprintf("Serve application %s of %s is %s: %s", name, v.subject, state, msg), params("app", name, "state", state, "message", msg))
				}
			}
		}
	}
	pending := at(u.Object, "status.pendingServiceStatus.rayClusterName")
	active := at(u.Object, "status.activeServiceStatus.rayClusterName")
	c, upgrading := is(conds, "UpgradeInProgress", "True")
	if !upgrading || pending == "" || active == "" || t.now().Sub(c.since) < upgradeLong {
		return
	}
	var waiting []*corev1.Pod
	held := 0
	for _, p := range pods {
		switch p.Labels["ray.io/cluster"] {
		case pending:
			if p.Spec.NodeName == "" {
				waiting = append(waiting, p)
			}
		case active:
			held += gpusOf(p)
		}
	}
	v.symptom("serving.not_ready", fmt.Sprintf("%s runs two clusters beside each other for %s: %s serves, %s does not come up", v.subject, t.ago(c.since), active, pending), params("condition", c.kind, "reason", c.reason, "message", c.message, "mode", "F56", "way", ""))
	if len(waiting) == 0 || held == 0 {
		return
	}
	for _, p := range waiting {
		// The new pods wait for what the service itself holds.
		v.edge(t.podRef(p), graph.BlockedBy, v.subject)
	}
	v.fault("serving.ray_upgrade_stuck", 0.94, v.subject, fmt.Sprintf("the upgrade of %s waits for itself: pods of the new RayCluster %s (%d) find no room while the active RayCluster %s holds %d GPUs until the new one is ready", v.subject, pending, len(waiting), active, held),
		params("active", active, "pending", pending, "waiting", fmt.Sprint(len(waiting)), "gpus", fmt.Sprint(held)))
}

// gpusOf counts the GPUs that a pod asks for.
func gpusOf(p *corev1.Pod) int {
	n := 0
	for _, c := range p.Spec.Containers {
		for name, q := range c.Resources.Limits {
			if s := string(name); s == "nvidia.com/gpu" || s == "amd.com/gpu" || strings.HasPrefix(s, "nvidia.com/mig-") {
				n += int(min(q.Value(), 1024))
			}
		}
	}
	return n + len(p.Spec.ResourceClaims)
}

// dynamoGraph says which component lacks replicas, in either shape of the status.
func (t *Toolset) dynamoGraph(v *verdict, u *unstructured.Unstructured, pods []*corev1.Pod) {
	component := func(name string, m map[string]any) {
		want, have := whole(m["replicas"]), whole(m["readyReplicas"])
		v.line("component %s (%s): %d of %d ready", name, text(m["componentKind"]), have, want)
	}
	for _, path := range []string{"services", "components"} {
		all := mapAt(u.Object, "status", path)
		for _, name := range sortedKeys(all) {
			if m, ok := all[name].(map[string]any); ok {
				component(name, m)
			}
		}
		for _, m := range mapsAt(u.Object, "status", path) {
			component(text(m["name"]), m)
		}
	}
	byType := map[string]int{}
	for _, p := range pods {
		if kind := p.Labels["nvidia.com/dynamo-component-type"]; kind != "" && ready(p) {
			byType[kind]++
		}
	}
	for _, k := range sortedKeys(byType) {
		v.line("%d %s pods ready", byType[k], k)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

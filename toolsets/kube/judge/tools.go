package judge

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

//go:embed text/*.md
var texts embed.FS

type ownerRef = metav1.OwnerReference

// Tools builds the judging tools over one cluster's source.
func Tools(src *source.Source, cluster string, now func() time.Time) ([]tool.Tool, error) {
	j := &judge{src: src, cluster: cluster, now: now}
	var out []tool.Tool
	for _, add := range []func() (tool.Tool, error){
		func() (tool.Tool, error) { return read("kube_pod", j.podTool) },
		func() (tool.Tool, error) { return read("kube_scheduling", j.schedulingTool) },
		func() (tool.Tool, error) { return read("kube_workload", j.workloadTool) },
		func() (tool.Tool, error) { return read("kube_network", j.networkTool) },
		func() (tool.Tool, error) { return read("kube_storage", j.storageTool) },
		func() (tool.Tool, error) { return read("kube_node", j.nodeTool) },
		func() (tool.Tool, error) { return read("kube_autoscaling", j.autoscalingTool) },
		func() (tool.Tool, error) { return read("kube_disruption", j.disruptionTool) },
		func() (tool.Tool, error) { return read("kube_drain", j.drainTool) },
		func() (tool.Tool, error) { return read("kube_admission", j.admissionTool) },
		func() (tool.Tool, error) { return read("kube_survey", j.surveyTool) },
	} {
		t, err := add()
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// read makes a read-only tool whose text lies beside the code.
func read[In, Out any](name string, fn tool.Func[In, Out]) (tool.Tool, error) {
	text, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", name, err)
	}
	return tool.New(tool.Info{Name: name, Text: strings.TrimSpace(string(text)), Effect: tool.Read}, fn)
}

// Checks tell triage how to judge the kinds of this package, and which
// relations lead on from them.
func Checks() []tool.Check {
	is := func(group string, kinds ...string) func(incident.Ref) bool {
		return func(r incident.Ref) bool { return r.Group == group && slices.Contains(kinds, r.Kind) }
	}
	return []tool.Check{
		{Name: "pod", Tool: "kube_pod", Applies: is("", "Pod"), Args: func(r incident.Ref) any { return PodIn{r.Namespace, r.Name} },
			Follow: []string{graph.Claims, graph.FromTemplate, graph.Mounts, graph.Uses, graph.BlockedBy, graph.Calls, graph.ServedBy, graph.GroupedWith, graph.IsolatedBy, graph.RunsOn, graph.LimitedBy}},
		{Name: "scheduling of", Tool: "kube_scheduling", Applies: is("", "Pod"), Args: func(r incident.Ref) any { return SchedulingIn{r.Namespace, r.Name} }, Follow: []string{graph.BlockedBy, graph.Mounts}},
		{Name: "workload", Tool: "kube_workload", Applies: func(r incident.Ref) bool {
			return r.Group == "apps" && slices.Contains([]string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"}, r.Kind) || r.Group == "batch" && (r.Kind == "Job" || r.Kind == "CronJob")
		}, Args: func(r incident.Ref) any { return WorkloadIn{r.Kind, r.Namespace, r.Name} },
			Follow: []string{graph.Owns, graph.LimitedBy, graph.GuardedBy, graph.Uses, graph.GatedBy}},
		{Name: "network path of", Tool: "kube_network", Applies: func(r incident.Ref) bool {
			return is("", "Service")(r) || is("networking.k8s.io", "Ingress")(r) || is("gateway.networking.k8s.io", "HTTPRoute", "GRPCRoute", "Gateway")(r)
		}, Args: func(r incident.Ref) any { return NetworkIn{r.Kind, r.Namespace, r.Name} },
			Follow: []string{graph.RoutesTo, graph.Selects, graph.IsolatedBy, graph.ServedBy, graph.Uses}},
		{Name: "storage", Tool: "kube_storage", Applies: is("", "PersistentVolumeClaim"), Args: func(r incident.Ref) any { return StorageIn{r.Namespace, r.Name} }, Follow: []string{graph.Class, graph.ServedBy, graph.BoundTo, graph.HeldBy}},
		{Name: "node", Tool: "kube_node", Applies: is("", "Node"), Args: func(r incident.Ref) any { return NodeIn{r.Name} }, Follow: []string{graph.ServedBy}},
		{Name: "autoscaler", Tool: "kube_autoscaling", Applies: is("autoscaling", "HorizontalPodAutoscaler"), Args: func(r incident.Ref) any { return NamedIn{r.Namespace, r.Name} }, Follow: []string{graph.ServedBy, graph.Scales}},
		{Name: "disruption budget", Tool: "kube_disruption", Applies: is("policy", "PodDisruptionBudget"), Args: func(r incident.Ref) any { return NamedIn{r.Namespace, r.Name} }, Follow: []string{graph.Selects}},
		{Name: "namespace", Tool: "kube_survey", Applies: is("", "Namespace"), Args: func(r incident.Ref) any { return SurveyIn{r.Name} }, Survey: true, Follow: []string{graph.Contains}},
		{Name: "cluster", Tool: "kube_survey", Applies: is("", "Cluster"), Args: func(incident.Ref) any { return SurveyIn{} }, Survey: true, Follow: []string{graph.Contains}},
		{Name: "aggregated API", Tool: "kube_admission", Applies: is("apiregistration.k8s.io", "APIService"), Args: func(incident.Ref) any { return AdmissionIn{} }, Follow: []string{graph.ServedBy}},
		{Name: "admission", Tool: "kube_admission", Applies: is("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"), Args: func(incident.Ref) any { return AdmissionIn{} }, Follow: []string{graph.GuardedBy}},
	}
}

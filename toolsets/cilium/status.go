package cilium

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// Metrics reads time series; errors are tool.Errors, NotServed where there are none.
type Metrics interface {
	Instant(ctx context.Context, expr string) ([]metric.Sample, error)
}

// Annotations of Cluster Mesh.
const (
	globalService   = "service.cilium.io/global"
	sharedService   = "service.cilium.io/shared"
	globalNamespace = "clustermesh.cilium.io/global"
)

// StatusIn names a Service, or nothing for the cluster.
type StatusIn struct {
	Namespace string `json:"namespace,omitempty"`
	Service   string `json:"service,omitempty"`
}

// StatusOut is the state of Cilium in a cluster.
type StatusOut struct {
	Cluster   string   `json:"cluster_name"`
	ClusterID string   `json:"cluster_id"`
	Settings  []string `json:"settings" jsonschema:"those that decide about traffic"`
	Mesh      []string `json:"mesh" jsonschema:"Cluster Mesh: parts, remote clusters, global Services"`
	Hubble    []string `json:"hubble" jsonschema:"relay, metrics, flow logs"`
	Rejected  []string `json:"rejected_policies"`
	Notes     []string `json:"notes"`
}

func (t *Toolset) statusTool(ctx context.Context, in StatusIn) (tool.Output[StatusOut], error) {
	v := &statusView{scene: t.scene(ctx)}
	v.out = StatusOut{Settings: []string{}, Mesh: []string{}, Hubble: []string{}, Rejected: []string{}, Notes: []string{}}
	v.out.Cluster, v.out.ClusterID = v.config["cluster-name"], v.config["cluster-id"]
	if in.Service != "" {
		if err := v.service(ctx, in.Namespace, in.Service); err != nil {
			return tool.Output[StatusOut]{}, err
		}
	} else {
		v.basics()
		v.mesh(ctx)
		v.remotes(ctx)
		v.hubble(ctx)
		v.flowLogs(ctx)
		v.rejected(in.Namespace)
	}
	v.out.Notes = append(v.out.Notes, v.notes...)
	return tool.Output[StatusOut]{Data: v.out, Text: v.text(), Findings: v.findings, Edges: v.edges}, nil
}

// statusView is one answer in the making.
type statusView struct {
	*scene
	out      StatusOut
	findings []incident.Finding
	edges    []incident.Edge
}

// basics lists the settings that change what traffic may do.
func (v *statusView) basics() {
	for _, k := range []string{"enable-policy", "policy-audit-mode", "policy-cidr-match-mode", "enable-k8s-networkpolicy", "labels", "routing-mode", "kube-proxy-replacement", "enable-wireguard", "enable-ipsec", "enable-ztunnel", "mesh-auth-enabled", "enable-hubble", "cni-exclusive", "bpf-lb-sock-hostns-only"} {
		if val, ok := v.config[k]; ok && val != "" {
			v.out.Settings = append(v.out.Settings, k+"="+val)
		}
	}
	if v.config == nil {
		v.notes = append(v.notes, "ConfigMap kube-system/cilium-config is not there: Cilium may be installed elsewhere")
	}
}

// workload reads a Deployment; nil if there is none.
func (v *statusView) deployment(ctx context.Context, namespace, name string) *unstructured.Unstructured {
	o, err := v.t.objects.Get(ctx, "apps", "Deployment", namespace, name)
	if err != nil {
		return nil
	}
	return o
}

// mesh judges the parts of Cluster Mesh in this cluster.
func (v *statusView) mesh(ctx context.Context) {
	d := v.deployment(ctx, "kube-system", "clustermesh-apiserver")
	if d == nil {
		return
	}
	ref := v.t.ref("apps", "Deployment", "kube-system", "clustermesh-apiserver")
	have, want := integer(d, "status", "readyReplicas"), integer(d, "spec", "replicas")
	v.out.Mesh = append(v.out.Mesh, fmt.Sprintf("clustermesh-apiserver %d of %d ready", have, want))
	if want > 0 && have == 0 {
		v.findings = append(v.findings, finding("cilium.mesh_apiserver_down", ref, 0.8, map[string]string{"ready": "0"}, "Deployment %s has no ready pod: other clusters learn nothing of this one", ref.Path()))
	}
	v.address(ctx)
	cm := v.t.ref("", "ConfigMap", "kube-system", "cilium-config")
	most := 255
	if v.config["max-connected-clusters"] == "511" {
		most = 511
	}
	if id, err := strconv.Atoi(v.config["cluster-id"]); v.config != nil && (err != nil || id < 1 || id > most) {
		v.findings = append(v.findings, finding("cilium.mesh_cluster_id", cm, 0.85, map[string]string{"id": orElse(v.config["cluster-id"], "none"), "most": strconv.Itoa(most)},
			"clustermesh-apiserver runs, and cluster-id in kube-system/cilium-config is %s: a cluster of a mesh has one from 1 to %d, unlike every other's", orElse(v.config["cluster-id"], "not set"), most))
	}
}

// address judges the Service by which other clusters reach this one.
func (v *statusView) address(ctx context.Context) {
	s, err := v.t.objects.Get(ctx, "", "Service", "kube-system", "clustermesh-apiserver")
	if err != nil || str(s, "spec", "type") != "LoadBalancer" {
		return
	}
	ingress, _, _ := unstructured.NestedSlice(s.Object, "status", "loadBalancer", "ingress")
	if len(ingress) > 0 {
		return
	}
	ref := v.t.ref("", "Service", "kube-system", "clustermesh-apiserver")
	why := v.lastEvent(ctx, "kube-system", "clustermesh-apiserver")
	if v.t.now().Sub(s.GetCreationTimestamp().Time) < settling {
		return
	}
	v.out.Mesh = append(v.out.Mesh, "Service clustermesh-apiserver has no external address")
	v.findings = append(v.findings, finding("cilium.mesh_address_pending", ref, 0.85, map[string]string{"message": orElse(why, "no event says why")},
		"Service %s of type LoadBalancer has no address, so no other cluster can connect: %s", ref.Path(), orElse(why, "no event says why")))
}

// lastEvent gives the newest warning about an object of a name.
func (v *statusView) lastEvent(ctx context.Context, namespace, name string) string {
	events, err := v.t.objects.List(ctx, "", "Event", namespace)
	if err != nil {
		v.notes = append(v.notes, gap("events of namespace "+namespace, err))
		return ""
	}
	last, text := "", ""
	for _, e := range events {
		if str(e, "involvedObject", "name") != name || str(e, "type") != "Warning" {
			continue
		}
		at := orElse(str(e, "lastTimestamp"), str(e, "eventTime"))
		if at >= last {
			last, text = at, str(e, "reason")+": "+str(e, "message")
		}
	}
	return text
}

// remotes reads what agents say of other clusters.
func (v *statusView) remotes(ctx context.Context) {
	if v.t.metrics == nil || len(v.out.Mesh) == 0 {
		return
	}
	samples, err := v.t.metrics.Instant(ctx, `min by (target_cluster) (cilium_clustermesh_remote_cluster_readiness_status)`)
	if err != nil {
		if tool.KindOf(err) != tool.NotServed {
			v.notes = append(v.notes, gap("readiness of remote clusters", err))
		}
		return
	}
	for _, s := range samples {
		name := s.Labels["target_cluster"]
		if name == "" || !metric.Finite(s.Value) {
			continue
		}
		if s.Value > 0 {
			v.out.Mesh = append(v.out.Mesh, "remote cluster "+name+" ready on all nodes")
			continue
		}
		v.out.Mesh = append(v.out.Mesh, "remote cluster "+name+" not ready on some node")
		ref := v.t.ref(ciliumGroup, "RemoteCluster", "", name)
		v.findings = append(v.findings, finding("cilium.mesh_remote_not_ready", ref, 0.75, map[string]string{"target": name, "value": fmt.Sprint(s.Value)},
			"cilium_clustermesh_remote_cluster_readiness_status of %s is %g on at least one node: its identities and Services are not up to date there", name, s.Value))
	}
}

// service judges a global Service.
func (v *statusView) service(ctx context.Context, namespace, name string) error {
	s, err := v.t.objects.Get(ctx, "", "Service", namespace, name)
	if err != nil {
		return err
	}
	ref := v.t.ref("", "Service", namespace, name)
	if s.GetAnnotations()[globalService] != "true" {
		v.out.Mesh = append(v.out.Mesh, "Service "+ref.Path()+" is not global")
		return nil
	}
	v.out.Mesh = append(v.out.Mesh, "Service "+ref.Path()+" is global")
	if s.GetAnnotations()[sharedService] == "false" {
		v.out.Mesh = append(v.out.Mesh, "it is not shared: other clusters do not see its backends here")
	}
	ns, err := v.t.objects.Get(ctx, "", "Namespace", "", namespace)
	if err != nil {
		v.notes = append(v.notes, gap("namespace "+namespace, err))
		return nil
	}
	// On Fleet a namespace is not global unless it says so; then the Service alone is not enough.
	said := ns.GetAnnotations()[globalNamespace]
	if v.config["clustermesh-default-global-namespace"] == "false" && said != "true" || said == "false" {
		at := v.t.ref("", "Namespace", "", namespace)
		v.edges = append(v.edges, incident.Edge{From: ref, Relation: graph.GatedBy, To: at})
		v.findings = append(v.findings, finding("cilium.mesh_namespace_not_global", at, 0.85, map[string]string{"service": ref.Path(), "annotation": globalNamespace, "value": orElse(said, "not set")},
			"Service %s is annotated as global, and its namespace has %s %s while namespaces are not global by default: it has its local backends only", ref.Path(), globalNamespace, orElse(said, "not set")))
	}
	return nil
}

// hubble judges the relay and what is measured.
func (v *statusView) hubble(ctx context.Context) {
	if d := v.deployment(ctx, "kube-system", "hubble-relay"); d != nil {
		have, want := integer(d, "status", "readyReplicas"), integer(d, "spec", "replicas")
		v.out.Hubble = append(v.out.Hubble, fmt.Sprintf("hubble-relay %d of %d ready", have, want))
		if want > 0 && have == 0 {
			ref := v.t.ref("apps", "Deployment", "kube-system", "hubble-relay")
			v.findings = append(v.findings, finding("cilium.hubble_relay_down", ref, 0.6, map[string]string{"ready": "0"}, "Deployment %s has no ready pod: network flows cannot be read", ref.Path()))
		}
	}
	if m, ok := v.config["hubble-metrics"]; ok {
		v.out.Hubble = append(v.out.Hubble, "metrics: "+orElse(strings.Join(strings.Fields(m), " "), "none"))
	}
	for _, name := range []string{"cilium-dynamic-metrics-config", "cilium-flowlog-config"} {
		if data := v.t.configMap(ctx, v.scene, "kube-system", name); data != nil {
			v.out.Hubble = append(v.out.Hubble, fmt.Sprintf("ConfigMap %s with %d entries", name, len(data)))
		}
	}
	if st, err := v.t.flows.Status(ctx); err == nil {
		text := fmt.Sprintf("relay answers: %d flows, nodes connected %d, unavailable %d", st.Flows, st.Connected, st.Unavailable)
		v.out.Hubble = append(v.out.Hubble, text)
	}
}

// flowLogs judges AKS's objects for flow logs and metric filters.
func (v *statusView) flowLogs(ctx context.Context) {
	logs, err := v.t.objects.List(ctx, acnGroup, "ContainerNetworkLog", "")
	if err == nil {
		for _, l := range logs {
			state := str(l, "status", "state")
			v.out.Hubble = append(v.out.Hubble, "ContainerNetworkLog "+l.GetName()+": "+orElse(state, "no state"))
			if strings.EqualFold(state, "FAILED") {
				ref := v.t.ref(acnGroup, "ContainerNetworkLog", "", l.GetName())
				v.findings = append(v.findings, finding("cilium.flow_log_failed", ref, 0.8, map[string]string{"state": state, "message": orElse(str(l, "status", "message"), "none")},
					"ContainerNetworkLog %s is %s: flows that it selects are not logged (%s)", l.GetName(), state, orElse(str(l, "status", "message"), "no message")))
			}
		}
	}
	metrics, err := v.t.objects.List(ctx, acnGroup, "ContainerNetworkMetric", "")
	if err == nil {
		for _, m := range metrics {
			v.out.Hubble = append(v.out.Hubble, "ContainerNetworkMetric "+m.GetName()+" filters metrics")
		}
		if len(metrics) > 1 {
			v.notes = append(v.notes, "there is more than one ContainerNetworkMetric; one a cluster counts")
		}
	}
}

// rejected lists policies that Cilium does not enforce because they are not valid.
func (v *statusView) rejected(namespace string) {
	for _, p := range v.policies {
		if p.Invalid == "" || namespace != "" && p.Namespace != namespace {
			continue
		}
		v.out.Rejected = append(v.out.Rejected, p.String()+": "+p.Invalid)
		v.findings = append(v.findings, finding("cilium.policy_invalid", v.t.policyRef(p), 0.75, map[string]string{"message": p.Invalid},
			"Cilium rejects %s and does not enforce it: %s", p, p.Invalid))
	}
}

func (v *statusView) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s, id %s\n", orElse(v.out.Cluster, "unnamed"), orElse(v.out.ClusterID, "0"))
	for _, part := range []struct {
		name string
		list []string
	}{{"settings", v.out.Settings}, {"mesh", v.out.Mesh}, {"hubble", v.out.Hubble}, {"rejected policy", v.out.Rejected}, {"note", v.out.Notes}} {
		for i, x := range part.list {
			if i == 16 {
				fmt.Fprintf(&b, "%s: %d more\n", part.name, len(part.list)-i)
				break
			}
			fmt.Fprintf(&b, "%s: %s\n", part.name, x)
		}
	}
	for _, f := range v.findings {
		if !slices.Contains(v.out.Rejected, f.Message) {
			fmt.Fprintf(&b, "%s\n", f.Message)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

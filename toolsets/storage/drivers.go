package storage

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// DriversIn narrows the view of CSI drivers.
type DriversIn struct {
	Driver string `json:"driver,omitempty"`
	Node   string `json:"node,omitempty"`
}

// Drivers is what nodes have of CSI drivers.
type Drivers struct {
	Drivers []DriverView `json:"drivers"`
}

// DriverView is one driver in figures.
type DriverView struct {
	Driver string `json:"driver"`
	// Nodes on which it is registered, of all nodes.
	Nodes int `json:"nodes"`
	Of    int `json:"of"`
	// Without lists nodes on which it is not registered, at most 10.
	Without []string `json:"without"`
	// Attached volumes and the sum of what nodes allow; -1 where no node says.
	Attached int `json:"attached"`
	Allowed  int `json:"allowed"`
	// Full lists nodes that take no more, "gpu-1 8 of 8", at most 10.
	Full []string `json:"full"`
	// Waiting attachments, and the errors that attachments carry.
	Waiting int      `json:"waiting"`
	Errors  []string `json:"errors"`
	// Workloads that speak for the driver.
	Workloads []string `json:"workloads"`
}

func (t *Toolset) driversTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "storage_drivers", Text: text("storage_drivers"), Effect: tool.Read}, t.drivers)
}

func (t *Toolset) drivers(ctx context.Context, in DriversIn) (tool.Output[Drivers], error) {
	l := &look{t: t, v: &verdict{}}
	nodes, err := t.reads.CSINodes(ctx)
	if err != nil {
		return tool.Output[Drivers]{}, err
	}
	if in.Node != "" && !slices.ContainsFunc(nodes, func(n *storagev1.CSINode) bool { return n.Name == in.Node }) {
		return tool.Output[Drivers]{}, tool.Errorf(tool.NotFound, "CSINode %s does not exist: no kubelet of that name has registered", in.Node)
	}
	names := map[string]bool{}
	for _, n := range nodes {
		for _, d := range n.Spec.Drivers {
			names[d.Name] = true
		}
	}
	if in.Driver != "" {
		names = map[string]bool{in.Driver: true}
	}
	out := Drivers{Drivers: []DriverView{}}
	for _, name := range sorted(names) {
		d := l.driver(ctx, name, in.Node, nodes)
		out.Drivers = append(out.Drivers, d)
	}
	if len(out.Drivers) == 0 {
		l.v.line("no CSI driver is registered on any node")
	}
	return tool.Output[Drivers]{Data: out, Text: l.v.text(), Findings: l.v.findings, Edges: l.v.edges}, nil
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// driver counts one driver, and judges it on the node that is asked about.
func (l *look) driver(ctx context.Context, name, node string, nodes []*storagev1.CSINode) DriverView {
	d := DriverView{Driver: name, Of: len(nodes), Without: []string{}, Full: []string{}, Errors: []string{}, Workloads: []string{}, Allowed: -1}
	used, _ := l.attachedBy(ctx, name)
	for _, n := range nodes {
		d.Attached += used[n.Name]
		if !slices.ContainsFunc(n.Spec.Drivers, func(x storagev1.CSINodeDriver) bool { return x.Name == name }) {
			if len(d.Without) < 10 {
				d.Without = append(d.Without, n.Name)
			}
			continue
		}
		d.Nodes++
		if allow, limited := allowance(n, name); limited {
			d.Allowed = max(d.Allowed, 0) + allow
			if used[n.Name] >= allow && len(d.Full) < 10 {
				d.Full = append(d.Full, fmt.Sprintf("%s %d of %d", n.Name, used[n.Name], allow))
			}
		}
	}
	if all, err := l.t.reads.Attachments(ctx); err == nil {
		for _, a := range all {
			if a.Spec.Attacher != name {
				continue
			}
			for _, e := range []*storagev1.VolumeError{a.Status.AttachError, a.Status.DetachError} {
				if e != nil && len(d.Errors) < 5 {
					d.Errors = append(d.Errors, a.Name+": "+oneLine(e.Message, 200))
				}
			}
			if !a.Status.Attached && a.DeletionTimestamp == nil {
				d.Waiting++
			}
		}
	}
	plugins, controllers := l.workloads(ctx, name)
	for _, p := range plugins {
		d.Workloads = append(d.Workloads, "DaemonSet "+p.Namespace+"/"+p.Name)
	}
	for _, c := range controllers {
		d.Workloads = append(d.Workloads, fmt.Sprintf("%s (%d of %d ready)", c.ref, c.ready, c.wanted))
	}
	text := fmt.Sprintf("driver %s: on %d of %d nodes, %d volumes attached", name, d.Nodes, d.Of, d.Attached)
	if d.Allowed >= 0 {
		text += " of " + strconv.Itoa(d.Allowed)
	}
	if d.Waiting > 0 {
		text += fmt.Sprintf(", %d waiting", d.Waiting)
	}
	parts := []string{text}
	for _, part := range []struct {
		name string
		rows []string
	}{{"not on", d.Without}, {"full", d.Full}, {"errors", d.Errors}, {"runs as", d.Workloads}} {
		if len(part.rows) > 0 {
			parts = append(parts, part.name+": "+strings.Join(part.rows, ", "))
		}
	}
	l.v.line("%s", strings.Join(parts, "; "))
	if node != "" && slices.Contains(d.Without, node) && len(plugins) > 0 {
		l.plugin(ctx, node, name)
	}
	return d
}

// unregistered says that a volume's driver is not registered on the pod's node.
func (l *look) unregistered(ctx context.Context, node, driver string, evs []Event) bool {
	n, err := l.t.reads.CSINode(ctx, node)
	if err != nil {
		if !isNotFound(err) {
			l.v.gap("CSINode "+node, err)
		}
		return false
	}
	if slices.ContainsFunc(n.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == driver }) {
		return false
	}
	// A pod that was just bound to a young node may be early; the kubelet complains
	// once it has waited.
	said := slices.IndexFunc(evs, func(e Event) bool {
		if e.Reason != "FailedMount" && e.Reason != "FailedAttachVolume" {
			return false
		}
		s, _ := l.t.read(stageMount, e.Message)
		return s != nil && s.Code == "storage.driver_not_registered" || strings.Contains(e.Message, driver)
	})
	if said < 0 {
		return false
	}
	params := map[string]string{"driver": driver, "node": node, "message": oneLine(evs[said].Message, 300)}
	if l.nowhere(ctx, driver) {
		l.v.edge(l.t.csiNodeRef(node), graph.ServedBy, l.t.driverRef(driver))
		l.v.find("storage.driver_unknown", 0.9, l.t.driverRef(driver), map[string]string{"driver": driver},
			"CSI driver %s is registered on no node, has no CSIDriver object, and no workload speaks for it: it is not installed", driver)
		return true
	}
	l.v.find("storage.driver_not_registered", 0.93, l.t.csiNodeRef(node), params, "CSI driver %s is not registered on node %s, so its volumes cannot be mounted there: %s", driver, node, oneLine(evs[said].Message, 300))
	l.plugin(ctx, node, driver)
	return true
}

// nowhere reports whether nothing in the cluster knows a driver.
func (l *look) nowhere(ctx context.Context, driver string) bool {
	if _, err := l.t.reads.Driver(ctx, driver); !isNotFound(err) {
		return false
	}
	nodes, err := l.t.reads.CSINodes(ctx)
	if err != nil || slices.ContainsFunc(nodes, func(n *storagev1.CSINode) bool {
		return slices.ContainsFunc(n.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == driver })
	}) {
		return false
	}
	gaps := len(l.v.gaps)
	plugins, controllers := l.workloads(ctx, driver)
	return len(plugins)+len(controllers) == 0 && len(l.v.gaps) == gaps
}

// plugin ties a node to the DaemonSet whose pod registers the driver there, and says
// why it has none.
func (l *look) plugin(ctx context.Context, node, driver string) {
	sets, _ := l.workloads(ctx, driver)
	if len(sets) == 0 {
		return
	}
	pods, err := l.t.reads.PodsOnNode(ctx, node)
	if err != nil {
		l.v.gap("pods on "+node, err)
		return
	}
	n, err := l.t.reads.Node(ctx, node)
	if err != nil {
		return
	}
	from := l.t.csiNodeRef(node)
	for _, d := range sets {
		i := slices.IndexFunc(pods, func(p *corev1.Pod) bool {
			c := controller(p)
			return c != nil && c.Kind == "DaemonSet" && c.Name == d.Name && p.Namespace == d.Namespace
		})
		if i >= 0 {
			state := "ready"
			if !ready(pods[i]) {
				state = "not ready"
			}
			l.v.line("the driver's pod %s/%s on %s is %s", d.Namespace, pods[i].Name, node, state)
			l.v.edge(from, graph.ServedBy, l.t.podRef(pods[i]))
			continue
		}
		ref := l.t.ref("apps", "DaemonSet", d.Namespace, d.Name)
		if why := refuses(d, n); why != "" && runsOn(sets, n) == nil {
			l.v.edge(from, graph.ServedBy, ref)
			l.v.find("storage.plugin_not_on_node", 0.93, ref, map[string]string{"driver": driver, "node": node, "reason": why},
				"DaemonSet %s/%s, which registers CSI driver %s, does not run on node %s: %s", d.Namespace, d.Name, driver, node, why)
		} else if why == "" {
			l.v.line("DaemonSet %s/%s should have a pod on %s and has none", d.Namespace, d.Name, node)
			l.v.edge(from, graph.ServedBy, ref)
		}
	}
}

// runsOn finds the DaemonSet of several (one for each operating system, say) that
// takes a node.
func runsOn(sets []*appsv1.DaemonSet, n *corev1.Node) *appsv1.DaemonSet {
	i := slices.IndexFunc(sets, func(d *appsv1.DaemonSet) bool { return refuses(d, n) == "" })
	if i < 0 {
		return nil
	}
	return sets[i]
}

// refuses says why a DaemonSet's pods do not go onto a node. The DaemonSet
// controller adds tolerations for the node's own conditions.
func refuses(d *appsv1.DaemonSet, n *corev1.Node) string {
	spec := &d.Spec.Template.Spec
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule || strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			continue
		}
		if !slices.ContainsFunc(spec.Tolerations, func(x corev1.Toleration) bool { return tolerates(x, t) }) {
			return "it does not tolerate the node's taint " + taintText(t)
		}
	}
	ok, err := nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: *spec}).Match(n)
	if err == nil && !ok {
		return "the node has not the labels that it asks for (" + wantedLabels(spec) + ")"
	}
	return ""
}

// tolerates follows the rules of core/v1 for one toleration and one taint.
func tolerates(x corev1.Toleration, t corev1.Taint) bool {
	if x.Effect != "" && x.Effect != t.Effect || x.Key != "" && x.Key != t.Key {
		return false
	}
	switch x.Operator {
	case corev1.TolerationOpExists:
		return true
	case "", corev1.TolerationOpEqual:
		return x.Key != "" && x.Value == t.Value
	}
	return false
}

func taintText(t corev1.Taint) string {
	s := t.Key
	if t.Value != "" {
		s += "=" + t.Value
	}
	return s + ":" + string(t.Effect)
}

func wantedLabels(s *corev1.PodSpec) string {
	var out []string
	for k, v := range s.NodeSelector {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	if s.Affinity != nil && s.Affinity.NodeAffinity != nil && s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, e := range term.MatchExpressions {
				out = append(out, strings.TrimSpace(e.Key+" "+string(e.Operator)+" "+strings.Join(e.Values, "|")))
			}
		}
	}
	return strings.Join(out, ", ")
}

// servers ties something to the workloads that act for a driver in one role.
func (l *look) servers(ctx context.Context, from incident.Ref, driver, role string) {
	_, controllers := l.workloads(ctx, driver)
	for _, c := range limit(controllers, 3) {
		l.v.edge(from, graph.ServedBy, c.ref)
		if c.ready > 0 {
			l.v.line("%s, which holds the %s of driver %s, has to act: %d of %d replicas are ready", c.ref, role, driver, c.ready, c.wanted)
			continue
		}
		// What fails its pods is the deeper cause, where it is seen.
		code, what := "storage.controller_failing", fmt.Sprintf("none of its %d replicas is ready", c.wanted)
		if c.wanted == 0 {
			code, what = "storage.controller_down", "it is scaled to zero"
		}
		l.v.find(code, 0.92, c.ref, map[string]string{"driver": driver, "role": role, "ready": strconv.Itoa(c.ready), "wanted": strconv.Itoa(c.wanted)},
			"%s, which holds the %s of driver %s, does not run: %s", c.ref, role, driver, what)
	}
	if len(controllers) == 0 {
		l.v.line("no workload of the cluster runs the %s of driver %s: a managed control plane may", role, driver)
	}
}

// server is a workload that acts for a driver, with its replicas.
type server struct {
	ref           incident.Ref
	wanted, ready int
}

// workloads finds who speaks for a driver: DaemonSets that register it on nodes, and
// Deployments and StatefulSets that attach and provision. The driver's name in what
// the containers are told decides; where none says it, the name of the workload.
func (l *look) workloads(ctx context.Context, driver string) ([]*appsv1.DaemonSet, []server) {
	whole, err := regexp.Compile(`(?:^|[^A-Za-z0-9.-])` + regexp.QuoteMeta(driver) + `(?:$|[^A-Za-z0-9.-])`)
	if err != nil || driver == "" {
		return nil, nil
	}
	var named, alike []*appsv1.DaemonSet
	sets, err := l.t.reads.DaemonSets(ctx, "")
	l.unseen("DaemonSets", err)
	for _, d := range sets {
		switch {
		case tells(&d.Spec.Template.Spec, whole):
			named = append(named, d)
		case alikeName(d.Name, driver) && strings.Contains(d.Name, "csi"):
			alike = append(alike, d)
		}
	}
	if len(named) == 0 {
		named = alike
	}
	var refs, near []server
	see := func(kind, namespace, name string, s *corev1.PodSpec, wanted *int32, ready int32) {
		one := server{ref: l.t.ref("apps", kind, namespace, name), wanted: 1, ready: int(ready)}
		if wanted != nil {
			one.wanted = int(*wanted)
		}
		switch {
		case tells(s, whole) && sidecar(s):
			refs = append(refs, one)
		case sidecar(s) && alikeName(name, driver):
			near = append(near, one)
		}
	}
	deps, err := l.t.reads.Deployments(ctx, "")
	l.unseen("Deployments", err)
	for _, d := range deps {
		see("Deployment", d.Namespace, d.Name, &d.Spec.Template.Spec, d.Spec.Replicas, d.Status.ReadyReplicas)
	}
	stss, err := l.t.reads.StatefulSets(ctx, "")
	l.unseen("StatefulSets", err)
	for _, s := range stss {
		see("StatefulSet", s.Namespace, s.Name, &s.Spec.Template.Spec, s.Spec.Replicas, s.Status.ReadyReplicas)
	}
	if len(refs) == 0 {
		refs = near
	}
	return named, refs
}

func (l *look) unseen(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		l.v.gap(what, err)
	}
}

// tells finds the driver's name in arguments, environment and host paths.
func tells(s *corev1.PodSpec, whole *regexp.Regexp) bool {
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		if slices.ContainsFunc(slices.Concat(c.Command, c.Args), whole.MatchString) ||
			slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return whole.MatchString(e.Value) }) {
			return true
		}
	}
	return slices.ContainsFunc(s.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil && whole.MatchString(v.HostPath.Path) })
}

// sidecar reports whether a pod runs one of the CSI project's controllers.
func sidecar(s *corev1.PodSpec) bool {
	return slices.ContainsFunc(s.Containers, func(c corev1.Container) bool {
		return strings.Contains(c.Image, "attacher") || strings.Contains(c.Name, "attacher") || strings.Contains(c.Image, "provisioner") || strings.Contains(c.Name, "provisioner")
	})
}

// alikeName reports whether a workload is named for a driver: ebs-csi-node for
// ebs.csi.aws.com, csi-azuredisk-node for disk.csi.azure.com.
func alikeName(name, driver string) bool {
	parts := strings.Split(driver, ".")
	first := parts[0]
	if len(first) < 3 {
		return false
	}
	if strings.Contains(name, "azure") && strings.HasSuffix(driver, "azure.com") {
		return strings.Contains(name, "azure"+first)
	}
	return strings.Contains(name, first)
}

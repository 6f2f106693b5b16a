package dra

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// DriverIn names a driver.
type DriverIn struct {
	Driver string `json:"driver" jsonschema:"driver name as in ResourceSlices, for example gpu.nvidia.com"`
	Node   string `json:"node,omitempty"`
}

// DriverHealth is the state of a driver.
type DriverHealth struct {
	Driver    string       `json:"driver"`
	DaemonSet string       `json:"daemon_set,omitempty" jsonschema:"namespace/name of the plugin, as far as it can be told"`
	Classes   []string     `json:"classes"`
	Slices    int          `json:"slices"`
	Devices   int          `json:"devices"`
	NodesWith int          `json:"nodes_with_slices"`
	Expected  int          `json:"nodes_expected" jsonschema:"nodes the DaemonSet is meant for"`
	Ready     int          `json:"plugin_pods_ready"`
	Nodes     []DriverNode `json:"nodes" jsonschema:"nodes with something to say"`
	Pools     []PoolView   `json:"pools" jsonschema:"pools that are incomplete, invalid or stale"`
	Prepare   []string     `json:"prepare_errors" jsonschema:"recent errors of pods that use the driver"`
	Log       []string     `json:"log" jsonschema:"telling lines of a plugin pod in trouble"`
	Notes     []string     `json:"notes"`
}

// DriverNode is what is wrong with a driver on a node.
type DriverNode struct {
	Node    string `json:"node"`
	Pod     string `json:"pod,omitempty"`
	Devices int    `json:"devices"`
	Problem string `json:"problem"`
}

// PoolView is a pool in disorder.
type PoolView struct {
	Driver     string `json:"driver"`
	Pool       string `json:"pool"`
	Generation int64  `json:"generation"`
	Have       int    `json:"slices"`
	Want       int64  `json:"slices_wanted"`
	Stale      int    `json:"stale_slices"`
	Invalid    string `json:"invalid,omitempty"`
}

func (t *Toolset) driverTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_driver", Text: text("dra_driver"), Effect: tool.Read}, t.driver)
}

// driverLook is one judgement of a driver while it is made.
type driverLook struct {
	t    *Toolset
	w    *world
	name string
	out  DriverHealth
	fs   []incident.Finding
	es   []incident.Edge
	// devices by node; slices by node count even when empty.
	devices map[string]int
	with    map[string]bool
	plugin  *plugin
}

func (t *Toolset) driver(ctx context.Context, in DriverIn) (tool.Output[DriverHealth], error) {
	w, err := t.read.load(ctx)
	if err != nil {
		return tool.Output[DriverHealth]{}, err
	}
	l := &driverLook{t: t, w: w, name: in.Driver, devices: map[string]int{}, with: map[string]bool{}}
	l.out = DriverHealth{Driver: in.Driver, Classes: []string{}, Nodes: []DriverNode{}, Pools: []PoolView{}, Prepare: []string{}, Log: []string{}, Notes: []string{}}
	l.classes()
	l.published()
	if l.plugin, err = t.plugin(ctx, w, in.Driver); err != nil {
		l.out.Notes = append(l.out.Notes, tool.UserText(err))
	}
	known := l.out.Slices > 0 || l.plugin != nil || len(l.out.Classes) > 0
	if !known {
		near := nearest(in.Driver, w.fleet.drivers())
		msg := fmt.Sprintf("no ResourceSlice, DeviceClass or DaemonSet knows a driver %s", in.Driver)
		return tool.Output[DriverHealth]{}, &tool.Error{Kind: tool.NotFound, User: msg + prefixed("; there is ", near), Fix: prefixed("drivers with slices: ", strings.Join(w.fleet.drivers(), ", "))}
	}
	l.pools()
	l.pluginPods(in.Node)
	l.absent(in.Node)
	l.prepare(ctx)
	l.logs(ctx)
	return tool.Output[DriverHealth]{Data: l.out, Text: driverText(&l.out, l.fs), Findings: l.fs, Edges: l.es}, nil
}

func (l *driverLook) ref() incident.Ref { return l.t.driverRef(l.name) }

func (l *driverLook) fault(code string, on incident.Ref, confidence float64, params map[string]string, format string, args ...any) {
	l.fs = append(l.fs, finding(code, on, confidence, params, format, args...))
}

func (l *driverLook) edge(from incident.Ref, rel string, to incident.Ref) {
	l.es = append(l.es, incident.Edge{From: from, Relation: rel, To: to})
}

// classes lists the classes that name the driver.
func (l *driverLook) classes() {
	a := newAttempt(l.w, nil, nil)
	for _, name := range slices.Sorted(maps.Keys(l.w.classes)) {
		c := l.w.classes[name]
		for _, s := range c.Spec.Selectors {
			if s.CEL != nil && a.comp.Parse(s.CEL.Expression).OfDriver() == l.name {
				l.out.Classes = append(l.out.Classes, name)
				break
			}
		}
	}
}

// published counts what the driver offers.
func (l *driverLook) published() {
	for _, p := range l.w.fleet.pools {
		if p.driver != l.name {
			continue
		}
		for _, s := range p.slices {
			l.out.Slices++
			l.out.Devices += len(s.devices)
			if s.node != "" {
				l.with[s.node] = true
				l.devices[s.node] += len(s.devices)
			}
		}
	}
	l.out.NodesWith = len(l.with)
}

// pools judges completeness, contradictions, leftovers and ghosts.
func (l *driverLook) pools() {
	for _, p := range l.w.fleet.pools {
		if p.driver != l.name {
			continue
		}
		l.ghosts(p)
		if p.complete() && p.invalid == "" && len(p.stale) == 0 {
			continue
		}
		v := PoolView{Driver: p.driver, Pool: p.name, Generation: p.generation, Have: len(p.slices), Want: p.want, Stale: len(p.stale), Invalid: p.invalid}
		l.out.Pools = append(l.out.Pools, v)
		ref := l.t.poolRef(p.driver, p.name)
		young := slices.ContainsFunc(p.slices, func(s *slice) bool { return l.t.settling(s.created) })
		switch {
		case young:
			l.out.Notes = append(l.out.Notes, fmt.Sprintf("pool %s is being published just now", p.name))
		case !p.complete():
			l.fault("dra.pool_incomplete", ref, unproven, map[string]string{"driver": p.driver, "pool": p.name, "have": itoa(v.Have), "want": itoa(v.Want), "generation": itoa(p.generation)},
				"pool %s of driver %s has %d of %d slices of generation %d", p.name, p.driver, v.Have, v.Want, p.generation)
			l.edge(l.ref(), graph.OfferedBy, ref)
		case p.invalid != "":
			l.fault("dra.pool_invalid", ref, unproven, map[string]string{"driver": p.driver, "pool": p.name, "message": p.invalid},
				"pool %s of driver %s is refused as a whole: %s", p.name, p.driver, p.invalid)
			l.edge(l.ref(), graph.OfferedBy, ref)
		}
	}
}

// ghosts reports slices of nodes that do not exist (F07).
func (l *driverLook) ghosts(p *pool) {
	if len(l.w.limits) > 0 {
		return // without the list of nodes every node would look gone
	}
	for _, s := range p.slices {
		node := s.node
		if node == "" {
			node = s.owner
		}
		if node == "" || l.w.byName[node] != nil {
			continue
		}
		ref := l.t.ref(apiGroup, "ResourceSlice", "", s.name)
		l.fault("dra.slice_orphaned", ref, 0.6, map[string]string{"node": node, "pool": p.name}, "slice %s (pool %s) offers %s on node %s, which does not exist", s.name, p.name, plural(len(s.devices), "device"), node)
		l.edge(l.ref(), graph.OfferedBy, ref)
	}
}

// pluginPods judges the plugin on each node it is meant for.
func (l *driverLook) pluginPods(only string) {
	if l.plugin == nil {
		l.out.Notes = append(l.out.Notes, "no DaemonSet looks like this driver's kubelet plugin; it may run outside the cluster")
		return
	}
	set := l.plugin.set
	l.out.DaemonSet = set.Namespace + "/" + set.Name
	setRef := l.t.ref("apps", "DaemonSet", set.Namespace, set.Name)
	l.edge(l.ref(), graph.Publishes, setRef)
	l.out.Expected = len(l.plugin.should)
	for _, n := range l.w.nodes {
		pod := l.plugin.pods[n.Name]
		if pod != nil && podReady(pod) {
			l.out.Ready++
			continue
		}
		if only != "" && n.Name != only || !l.plugin.should[n.Name] && !l.with[n.Name] {
			continue
		}
		if !nodeReady(n) {
			l.out.Nodes = append(l.out.Nodes, DriverNode{Node: n.Name, Devices: l.devices[n.Name], Problem: "the node is not ready"})
			continue
		}
		l.podDown(n, pod)
	}
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return true
}

func (l *driverLook) podDown(n *corev1.Node, pod *corev1.Pod) {
	node := l.t.nodeRef(n.Name)
	set := l.plugin.set
	v := DriverNode{Node: n.Name, Devices: l.devices[n.Name]}
	reason, name := "no plugin pod", ""
	switch {
	case pod != nil:
		if l.t.settling(pod.CreationTimestamp) && whyNotReady(pod) == "not ready (Pending)" {
			return
		}
		name, reason = pod.Name, whyNotReady(pod)
	case l.t.settling(n.CreationTimestamp) || l.t.settling(set.CreationTimestamp):
		return
	case l.plugin.refuses[n.Name] != "":
		reason = "no plugin pod: the DaemonSet refuses the node (" + l.plugin.refuses[n.Name] + ")"
	}
	v.Pod, v.Problem = name, reason
	l.out.Nodes = append(l.out.Nodes, v)
	stale := ""
	if v.Devices > 0 {
		stale = fmt.Sprintf("; its slices still offer %s", plural(v.Devices, "device"))
	}
	l.fault("dra.plugin_down", node, 0.85, map[string]string{"driver": l.name, "pod": name, "reason": reason, "daemon_set": l.out.DaemonSet},
		"the kubelet plugin of driver %s on node %s is not ready: %s%s%s", l.name, n.Name, prefixed("pod ", name), prefixed(map[bool]string{true: " ", false: ""}[name != ""], reason), stale)
	l.edge(l.ref(), graph.OfferedBy, node)
	if pod != nil {
		l.edge(node, graph.Publishes, l.t.podRef(pod.Namespace, pod.Name))
	} else {
		l.edge(node, graph.Publishes, l.t.ref("apps", "DaemonSet", set.Namespace, set.Name))
	}
}

// absent reports nodes, or the whole cluster, without slices (F01, F02).
func (l *driverLook) absent(only string) {
	if l.out.Devices == 0 {
		reason := ""
		if l.plugin != nil && len(l.plugin.should) == 0 {
			reason = fmt.Sprintf("; DaemonSet %s is meant for no node (%s)", l.out.DaemonSet, firstReason(l.plugin.refuses))
		} else if l.plugin == nil {
			reason = "; no DaemonSet of a kubelet plugin for it is found"
		}
		l.fault("dra.driver_no_slices", l.ref(), 0.9, map[string]string{"driver": l.name, "class": strings.Join(l.out.Classes, ", "), "reason": strings.TrimPrefix(reason, "; ")},
			"driver %s publishes no device in the whole cluster%s", l.name, reason)
		return
	}
	alike := siblings(l.w, l.with)
	for _, n := range l.w.nodes {
		if l.with[n.Name] || only != "" && n.Name != only || l.t.settling(n.CreationTimestamp) || !nodeReady(n) {
			continue
		}
		pod := (*corev1.Pod)(nil)
		why := ""
		if l.plugin != nil {
			pod = l.plugin.pods[n.Name]
			why = l.plugin.refuses[n.Name]
		}
		like := alike[n.Name]
		switch {
		case pod != nil && podReady(pod):
			l.noSlices(n, fmt.Sprintf("plugin pod %s is ready", pod.Name), pod.Name, 0.75)
		case pod != nil:
			// Told already as a plugin that is down.
		case like != "" && why != "":
			l.noSlices(n, fmt.Sprintf("it carries %s like the nodes with devices, and DaemonSet %s refuses it: %s", like, l.out.DaemonSet, why), "", 0.8)
		}
	}
}

func firstReason(m map[string]string) string {
	counts := map[string]int{}
	for _, v := range m {
		counts[v]++
	}
	return byMost(counts)
}

func (l *driverLook) noSlices(n *corev1.Node, why, pod string, confidence float64) {
	l.out.Nodes = append(l.out.Nodes, DriverNode{Node: n.Name, Pod: pod, Problem: "no slice: " + why})
	node := l.t.nodeRef(n.Name)
	l.fault("dra.node_no_slices", node, confidence, map[string]string{"driver": l.name, "reason": why, "others": itoa(len(l.with))},
		"node %s publishes no slice of driver %s, while %d others do: %s", n.Name, l.name, len(l.with), why)
	l.edge(l.ref(), graph.OfferedBy, node)
}

// prepareWindow is how old a prepare error may be to count as present.
const prepareWindow = 30 * time.Minute

// prepare collects recent errors of pods that hold the driver's devices.
func (l *driverLook) prepare(ctx context.Context) {
	var events []corev1.Event
	sel := fields.Set{"reason": "FailedPrepareDynamicResources"}.AsSelector().String()
	err := pages(ctx, metav1.ListOptions{Limit: pageSize, FieldSelector: sel}, l.t.read.client.CoreV1().Events(metav1.NamespaceAll).List, func(list *corev1.EventList) {
		for i := range list.Items {
			e := &list.Items[i]
			if e.Reason == "FailedPrepareDynamicResources" && !l.t.stale(eventTime(e), prepareWindow) {
				events = append(events, *e)
			}
		}
	})
	if err != nil {
		l.out.Notes = append(l.out.Notes, tool.UserText(failure(err, "list", "events", "", "")))
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return eventTime(&b).Compare(eventTime(&a)) })
	nodes := map[string]bool{}
	for i := range events {
		e := &events[i]
		if !mentions(e.Message, l.name) && !l.holdsFor(e.InvolvedObject.Namespace, e.InvolvedObject.Name) {
			continue
		}
		if len(l.out.Prepare) < 5 {
			l.out.Prepare = append(l.out.Prepare, fmt.Sprintf("%s/%s: %s", e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Message))
		}
		if !strings.Contains(e.Message, "DRA driver "+l.name+" is not registered") {
			continue
		}
		node := e.Source.Host
		if node == "" {
			node = e.ReportingInstance
		}
		if node == "" || nodes[node] || l.w.byName[node] == nil {
			continue
		}
		nodes[node] = true
		f := finding("dra.driver_not_registered", l.t.nodeRef(node), 0.9, map[string]string{"driver": l.name, "message": e.Message}, "the kubelet of node %s knows no DRA driver %s", node, l.name)
		f.LastSeen = eventTime(e)
		l.fs = append(l.fs, f)
		l.edge(l.t.nodeRef(node), graph.OfferedBy, l.ref())
	}
}

// holdsFor says whether some claim reserved for the pod holds a device of the driver.
func (l *driverLook) holdsFor(namespace, pod string) bool {
	for _, c := range l.w.claims {
		if c.Namespace != namespace || c.Status.Allocation == nil {
			continue
		}
		for _, r := range c.Status.ReservedFor {
			if r.Name == pod && slices.ContainsFunc(devicesOf(c), func(d devID) bool { return d.driver == l.name }) {
				return true
			}
		}
	}
	return false
}

// logs reads a plugin pod in trouble for what it says about publishing (F08, F09).
func (l *driverLook) logs(ctx context.Context) {
	if l.plugin == nil || len(l.fs) == 0 {
		return
	}
	read := 0
	for _, node := range slices.Sorted(maps.Keys(l.plugin.pods)) {
		pod := l.plugin.pods[node]
		if podReady(pod) && l.with[node] || read == 2 {
			continue
		}
		read++
		for _, c := range pod.Spec.Containers {
			l.log(ctx, pod, c.Name)
		}
	}
}

// telling matches the log lines worth showing.
func telling() *regexp.Regexp {
	return regexp.MustCompile(`(?i)dropped by the apiserver|required value|invalid value|forbidden|resourceslice.*(fail|error)|(fail|error).*resourceslice|nvml|driver root|not found|permission denied`)
}

func (l *driverLook) log(ctx context.Context, pod *corev1.Pod, container string) {
	tail := int64(200)
	limit := int64(256 << 10)
	rc, err := l.t.read.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, TailLines: &tail, LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, limit))
	if err != nil {
		return
	}
	re := telling()
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if !re.MatchString(line) || len(l.out.Log) >= 6 {
			continue
		}
		if len(line) > 400 {
			line = line[:400]
		}
		l.out.Log = append(l.out.Log, pod.Name+": "+line)
		switch {
		case strings.Contains(line, "dropped by the apiserver"):
			l.once("dra.field_dropped", l.t.ref(apiGroup, "ResourceSlice", "", pod.Spec.NodeName), 0.8, map[string]string{"field": line}, "the API server drops fields that driver %s publishes: %s", l.name, line)
		case strings.Contains(line, "Required value") || strings.Contains(line, "Invalid value"):
			// The pod that says so is the subject, and not the driver: that the slices are
			// refused is why this pod ends, and other nodes' plugins may well publish.
			on := l.t.podRef(pod.Namespace, pod.Name)
			l.once("dra.publish_failed", on, 0.93, map[string]string{"driver": l.name, "message": line}, "driver %s cannot publish its slices: %s", l.name, line)
			l.edge(l.ref(), graph.Publishes, on)
		}
	}
}

// once adds a finding unless one of its code is there.
func (l *driverLook) once(code string, on incident.Ref, confidence float64, params map[string]string, format string, args ...any) {
	if !slices.ContainsFunc(l.fs, func(f incident.Finding) bool { return f.Code == code }) {
		l.fault(code, on, confidence, params, format, args...)
	}
}

func driverText(o *DriverHealth, fs []incident.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "driver %s: %s in %s on %s", o.Driver, plural(o.Devices, "device"), plural(o.Slices, "slice"), plural(o.NodesWith, "node"))
	if o.DaemonSet != "" {
		fmt.Fprintf(&b, "; plugin DaemonSet %s: %d of %d plugin pods ready", o.DaemonSet, o.Ready, o.Expected)
	}
	if len(o.Classes) > 0 {
		fmt.Fprintf(&b, "; classes %s", strings.Join(o.Classes, ", "))
	}
	b.WriteByte('\n')
	for _, f := range fs {
		fmt.Fprintf(&b, "finding (%.2f) %s: %s\n", f.Score(), f.Subject, f.Message)
	}
	for _, n := range o.Nodes {
		fmt.Fprintf(&b, "node %s: %s%s, offers %s\n", n.Node, prefixed("pod ", n.Pod), prefixed(map[bool]string{true: " ", false: ""}[n.Pod != ""], n.Problem), plural(n.Devices, "device"))
	}
	for _, p := range o.Pools {
		fmt.Fprintf(&b, "pool %s: generation %d, %d of %d slices%s%s\n", p.Pool, p.Generation, p.Have, p.Want, staleText(p.Stale), prefixed(", invalid: ", p.Invalid))
	}
	for _, p := range o.Prepare {
		fmt.Fprintf(&b, "prepare error: %s\n", p)
	}
	for _, p := range o.Log {
		fmt.Fprintf(&b, "log: %s\n", p)
	}
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return strings.TrimRight(b.String(), "\n")
}

func staleText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of older generations", n)
}

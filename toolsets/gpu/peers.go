package gpu

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// PeersIn names a pod of the job.
type PeersIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
}

// Peers compares the GPUs of one job.
type Peers struct {
	// Group is what makes the pods one job: the label or the controller.
	Group     string    `json:"group" jsonschema:"what makes the pods one job"`
	Pods      int       `json:"pods"`
	GPUs      []PeerOut `json:"gpus"`
	Telemetry string    `json:"telemetry"`
	Notes     []string  `json:"notes"`
}

// PeerOut is one GPU of the job: medians of the last 10 minutes.
type PeerOut struct {
	Device  string   `json:"device"`
	Node    string   `json:"node"`
	Pod     string   `json:"pod"`
	Load    *float64 `json:"load_percent,omitempty"`
	Tensor  *float64 `json:"tensor_active,omitempty"`
	SMClock *float64 `json:"sm_clock_mhz,omitempty"`
	Watts   *float64 `json:"watts,omitempty"`
	Apart   []string `json:"apart" jsonschema:"in which figures it stands apart from its peers"`
}

func (t *Toolset) peersTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "gpu_stragglers", Text: text("gpu_stragglers"), Effect: tool.Read}, t.peers)
}

// gang is a set of pods that work in step.
type gang struct {
	name   string
	labels map[string]string
	// step says that its members wait for each other: a training job, a group of
	// ranks. Replicas do not, nor need the workers of a Ray cluster.
	step bool
}

// gangLabels are the labels by which training and serving frameworks mark the pods
// of one job.
func gangLabels() []string {
	return []string{
		"jobset.sigs.k8s.io/jobset-name", "training.kubeflow.org/job-name", "leaderworkerset.sigs.k8s.io/group-key", "leaderworkerset.sigs.k8s.io/name",
		"volcano.sh/job-name", "batch.kubernetes.io/job-name", "job-name", rayCluster,
	}
}

const rayCluster = "ray.io/cluster"

// gangOf tells which job a pod belongs to.
func gangOf(p *corev1.Pod) gang {
	for _, l := range gangLabels() {
		if v := p.Labels[l]; v != "" {
			return gang{name: l + "=" + v, labels: map[string]string{l: v}, step: l != rayCluster}
		}
	}
	if o := metav1.GetControllerOf(p); o != nil {
		return gang{name: o.Kind + "/" + o.Name, step: o.Kind == "Job" || strings.HasSuffix(o.Kind, "Job") && o.Kind != "CronJob"}
	}
	return gang{}
}

// has reports whether a pod is of the gang.
func (g gang) has(p *corev1.Pod) bool {
	for k, v := range g.labels {
		if p.Labels[k] != v {
			return false
		}
	}
	if len(g.labels) > 0 {
		return true
	}
	o := metav1.GetControllerOf(p)
	return o != nil && o.Kind+"/"+o.Name == g.name
}

// maxNodes bounds how many nodes of a job are looked at.
const maxNodes = 64

// peer is one GPU of the job with its figures.
type peer struct {
	*card
	m   *machine
	pod *corev1.Pod
	// figures by name; missing where not known.
	fig map[string]float64
}

func (t *Toolset) peers(ctx context.Context, in PeersIn) (tool.Output[Peers], error) {
	p, err := t.Objects.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Peers]{}, err
	}
	out := Peers{GPUs: []PeerOut{}, Notes: []string{}, Pods: 1}
	if p.Spec.NodeName == "" || over(p) || !usesGPU(p) {
		out.Telemetry = "not asked"
		return tool.Output[Peers]{Data: out, Text: fmt.Sprintf("pod %s/%s holds no GPU now", p.Namespace, p.Name)}, nil
	}
	own, err := t.machineOf(ctx, p.Spec.NodeName)
	if err != nil {
		return tool.Output[Peers]{}, err
	}
	if !own.tel.seen() {
		if err := t.blind(own, p); err != nil {
			return tool.Output[Peers]{}, err
		}
		out.Telemetry = own.told()
		return tool.Output[Peers]{Data: out, Text: fmt.Sprintf("the GPUs of pod %s/%s cannot be compared. %s", p.Namespace, p.Name, out.Telemetry)}, nil
	}
	g := gangOf(p)
	members := []*corev1.Pod{p}
	if g.name != "" {
		all, err := t.Lists.Pods(ctx, p.Namespace)
		if err != nil {
			out.Notes = append(out.Notes, "the other pods of the job are not seen: "+tool.UserText(err))
		}
		for _, o := range all {
			if o.Name != p.Name && g.has(o) && o.Spec.NodeName != "" && !over(o) && usesGPU(o) {
				members = append(members, o)
			}
		}
	}
	out.Group, out.Pods = firstOf(g.name, "the pod alone"), len(members)
	peers := t.gather(ctx, members, &out)
	out.Telemetry = own.told()
	v := t.verdict()
	t.compare(v, g, p, peers, &out)
	for _, o := range peers {
		one := PeerOut{Device: o.ref.Path(), Node: o.node, Pod: o.pod.Namespace + "/" + o.pod.Name, Apart: []string{}}
		for _, f := range []struct {
			at   **float64
			name string
		}{{&one.Load, load}, {&one.Tensor, tensor}, {&one.SMClock, smClock}, {&one.Watts, power}} {
			if val, ok := o.fig[f.name]; ok {
				*f.at = &val
			}
		}
		for _, f := range v.findings {
			if f.Subject == o.ref && f.Role != incident.Context {
				one.Apart = append(one.Apart, f.Params["figure"])
			}
		}
		out.GPUs = append(out.GPUs, one)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d GPUs in %d pods of %s. Telemetry: %s.", len(peers), len(members), out.Group, out.Telemetry)
	for _, o := range out.GPUs[:min(len(out.GPUs), 32)] {
		fmt.Fprintf(&b, "\n%s on %s: GPU %s%s", o.Pod, o.Node, o.Device, figures(o))
	}
	return tool.Output[Peers]{Data: out, Findings: v.findings, Edges: v.edges, Text: v.text(b.String())}, nil
}

func figures(o PeerOut) string {
	var b strings.Builder
	for _, w := range []struct {
		say string
		val *float64
	}{{" load %.0f %%", o.Load}, {" tensor %.2f", o.Tensor}, {" SM %.0f MHz", o.SMClock}, {" %.0f W", o.Watts}} {
		if w.val != nil {
			fmt.Fprintf(&b, w.say, *w.val)
		}
	}
	return b.String()
}

// blind is the error of a look at a node whose GPUs are measured as a rule and
// are not measured now. Where there is no exporter at all nothing was expected:
// then it is noted once for the node.
func (t *Toolset) blind(m *machine, p *corev1.Pod) error {
	if !m.tel.asked {
		return nil // no metrics at all: the status says so
	}
	say := fmt.Sprintf("GPU telemetry of node %s not seen: %s; %s", m.name, m.tel.why, m.exporterState())
	if m.tel.stopped.IsZero() && !slices.ContainsFunc(m.agents(), func(a agent) bool { return a.name == exporter }) {
		t.unseen.Add(incident.Gap{Source: "GPUs of node " + m.name, Why: say, Fix: "run the DCGM exporter there and scrape it"})
		return nil
	}
	return &tool.Error{Kind: tool.Internal, User: say, Fix: fmt.Sprintf("bring the DCGM exporter of node %s up: pod %s/%s may be slow for its GPU and nobody sees it", m.name, p.Namespace, p.Name)}
}

// Names of the figures.
const (
	load    = "load"
	tensor  = "tensor activity"
	smClock = "SM clock"
	power   = "power"
)

// gather reads the figures of every GPU of the pods.
func (t *Toolset) gather(ctx context.Context, members []*corev1.Pod, out *Peers) []peer {
	var nodes []string
	for _, p := range members {
		if !slices.Contains(nodes, p.Spec.NodeName) && len(nodes) < maxNodes {
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	t.fetch(ctx, nodes)
	var peers []peer
	for _, p := range members {
		if !slices.Contains(nodes, p.Spec.NodeName) {
			continue
		}
		m, err := t.machineOf(ctx, p.Spec.NodeName)
		if err != nil {
			out.Notes = append(out.Notes, "node "+p.Spec.NodeName+" not seen: "+tool.UserText(err))
			continue
		}
		if !m.tel.seen() {
			out.Notes = append(out.Notes, m.told())
		}
		ref := t.podRef(p.Namespace, p.Name)
		for _, c := range m.cards {
			if !c.heldBy(ref) {
				continue
			}
			one := peer{card: c, m: m, pod: p, fig: map[string]float64{}}
			if l, ok := c.load(m.tel.to, recent); ok {
				one.fig[load] = l
			}
			for name, signal := range map[string]string{tensor: "gpu.tensor_active", smClock: "gpu.sm_clock", power: "gpu.power"} {
				if val, ok := c.median(signal, m.tel.to, recent); ok {
					one.fig[name] = val
				}
			}
			peers = append(peers, one)
		}
	}
	return peers
}

// values of a figure by peer; NaN where it is not known is left out by the caller.
func figuresOf(peers []peer, name string) (vals []float64, of []int) {
	for i, p := range peers {
		if val, ok := p.fig[name]; ok {
			vals, of = append(vals, val), append(of, i)
		}
	}
	return vals, of
}

// compare finds the GPU that holds the job up: one whose clock is low under the
// same load, and the rank that is idle while the others wait for it.
func (t *Toolset) compare(v *verdict, g gang, p *corev1.Pod, peers []peer, out *Peers) {
	models := map[string][]peer{}
	for _, o := range peers {
		if o.fig[load] >= t.limits["load"].Value {
			models[o.model] = append(models[o.model], o)
		}
	}
	for _, model := range slices.Sorted(maps.Keys(models)) {
		t.apart(v, g, p, models[model], out)
	}
	if g.step && len(peers) >= 3 {
		t.absent(v, g, p, peers, out)
		t.others(v, g, p, peers)
	}
}

// apart finds the GPU of one model whose figures stand below those of its peers.
func (t *Toolset) apart(v *verdict, g gang, p *corev1.Pod, busy []peer, out *Peers) {
	l := t.limits["apart"]
	for _, name := range []string{smClock, power, tensor} {
		vals, of := figuresOf(busy, name)
		for _, o := range metric.Outliers(vals, l.Value) {
			one := busy[of[o.Index]]
			if o.Value >= o.Median {
				continue
			}
			msg := fmt.Sprintf("%s of pod %s/%s: %s %s over the last %s, the median of %d GPUs of %s is %s at the same load (%.0f %%)",
				one.label(), one.pod.Namespace, one.pod.Name, name, unit(name, o.Value), span(recent), len(vals), out.Group, unit(name, o.Median), one.fig[load])
			if share, _ := one.reasons(one.m.tel.to); name == smClock && share[bitApplication] > 0 {
				msg += fmt.Sprintf("; somebody has set its clocks (clock event reasons, bit 0x2, in %.0f %% of the samples)", share[bitApplication]*100)
			}
			f := incident.Finding{Code: "gpu.straggler", Message: msg, Confidence: 0.6, Params: params("figure", name, "value", unit(name, o.Value), "median", unit(name, o.Median), "peers", fmt.Sprint(len(vals)))}
			if name != smClock || one.strains(busy) {
				// Less power or less work alone may be the share of the work, and a GPU
				// at its power limit that draws as much as the others works harder.
				f.Code, f.Subject = "gpu.uneven", one.ref
				v.find(f)
				continue
			}
			v.fault(one.card, f)
			t.tie(v, g, p, one)
		}
	}
}

// strains reports whether a GPU is at its power limit and draws no less than the
// median of its peers.
func (o peer) strains(peers []peer) bool {
	share, _ := o.reasons(o.m.tel.to)
	vals, _ := figuresOf(peers, power)
	if share[bitPowerCap] < sound || len(vals) == 0 {
		return false
	}
	slices.Sort(vals)
	return o.fig[power] >= vals[len(vals)/2]
}

// absent finds the rank whose GPU is idle while those of all others are busy.
func (t *Toolset) absent(v *verdict, g gang, p *corev1.Pod, peers []peer, out *Peers) {
	// In a collective all ranks spin at full load; the one that is idle is not in it.
	full := slices.DeleteFunc(slices.Clone(peers), func(o peer) bool { return o.fig[load] < 90 })
	for _, one := range peers {
		if idle, ok := one.fig[load]; ok && idle < 5 && len(full) >= 2 && len(full) == len(peers)-1 {
			v.find(incident.Finding{Code: "gpu.rank_idle", Subject: t.podRef(one.pod.Namespace, one.pod.Name), Confidence: 0.6,
				Message: fmt.Sprintf("pod %s/%s: its %s is at %.0f %% load over the last %s while the other %d GPUs of %s are at 90 %% and more: this rank does not take part in what the others do or wait for", one.pod.Namespace, one.pod.Name, one.label(), idle, span(recent), len(full), out.Group),
				Params:  params("gpu", one.short(), "peers", fmt.Sprint(len(full)))})
			v.edge(one.edgesOf(holder{pod: t.podRef(one.pod.Namespace, one.pod.Name)})...)
			t.tie(v, g, p, one)
		}
	}
}

// others judges the GPUs of the other pods: what is wrong with them holds this pod
// up too, since they work in step.
func (t *Toolset) others(v *verdict, g gang, p *corev1.Pod, peers []peer) {
	seen := map[*machine]bool{}
	for _, one := range peers {
		if seen[one.m] {
			continue
		}
		seen[one.m] = true
		m := one.m
		sub := t.verdict()
		sub.judge(m, func(c *card) bool { return slices.ContainsFunc(peers, func(o peer) bool { return o.card == c }) })
		for i, o := range peers {
			c := o.card
			why, ok := sub.hurt[c]
			if !ok || o.m != m || o.pod.Name == p.Name {
				continue
			}
			v.lines = append(v.lines, why)
			for _, f := range sub.findings {
				if f.Subject == c.ref {
					v.find(f)
				}
			}
			t.tie(v, g, p, peers[i])
		}
		v.edge(sub.edges...)
	}
}

// tie says that the pod asked about waits for a peer of its job.
func (t *Toolset) tie(v *verdict, g gang, p *corev1.Pod, one peer) {
	from, to := t.podRef(p.Namespace, p.Name), t.podRef(one.pod.Namespace, one.pod.Name)
	for _, h := range one.holders {
		if h.pod == to {
			v.edge(one.edgesOf(h)...)
		}
	}
	msg := fmt.Sprintf("pod %s/%s works in step with pod %s/%s of %s, whose %s holds it up", p.Namespace, p.Name, one.pod.Namespace, one.pod.Name, firstOf(g.name, "the same job"), one.label())
	if from == to {
		msg = fmt.Sprintf("pod %s/%s is held up by %s", p.Namespace, p.Name, one.label())
	} else if !g.step {
		return
	} else {
		v.edge(incident.Edge{From: from, Relation: graph.GroupedWith, To: to})
	}
	v.find(incident.Finding{Code: "gpu.job_held_up", Subject: from, Message: msg, Params: params("gpu", one.short(), "pod", one.pod.Namespace+"/"+one.pod.Name)})
}

func unit(name string, val float64) string {
	switch name {
	case smClock:
		return fmt.Sprintf("%.0f MHz", val)
	case power:
		return fmt.Sprintf("%.0f W", val)
	}
	return fmt.Sprintf("%.2f", val)
}

package gpu

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// SurveyIn narrows the survey to the GPUs of one namespace's pods, or to those
// of the pods behind one workload or Service.
type SurveyIn struct {
	Namespace string `json:"namespace,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`
}

// Survey lists the nodes whose GPUs are in trouble.
type Survey struct {
	Nodes     int       `json:"nodes" jsonschema:"nodes with GPUs"`
	Looked    int       `json:"looked_at"`
	Trouble   []NodeOut `json:"trouble"`
	Telemetry string    `json:"telemetry"`
	Notes     []string  `json:"notes"`
}

// NodeOut is a node with what is wrong on it.
type NodeOut struct {
	Node  string   `json:"node"`
	GPUs  int      `json:"gpus"`
	Wrong []string `json:"wrong"`
}

func (t *Toolset) surveyTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "gpu_survey", Text: text("gpu_survey"), Effect: tool.Read}, t.survey)
}

const (
	// maxSurvey bounds how many nodes one survey looks at closely.
	maxSurvey = 48
	// fewNodes are looked at one by one without asking first which are worth it.
	fewNodes = 8
)

// atOnce is how many nodes are read at the same time.
const atOnce = 8

// fetch reads several nodes at once, so that those who ask for them one by one
// find them there.
func (t *Toolset) fetch(ctx context.Context, nodes []string) {
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for _, name := range nodes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			_, _ = t.machineOf(ctx, name) // who asks for it is told the error
		})
	}
	wg.Wait()
}

// closer picks the nodes that are worth a close look: all of a few, and of many
// those of which conditions, events, capacity or series speak of trouble.
func (t *Toolset) closer(ctx context.Context, nodes []string, out *Survey) []string {
	if len(nodes) <= fewNodes {
		return nodes
	}
	suspect := t.suspects(ctx, out)
	if all, err := t.Lists.Nodes(ctx); err != nil {
		out.Notes = append(out.Notes, "conditions of the nodes not seen: "+tool.UserText(err))
	} else {
		for _, n := range all {
			// A node that bears GPUs and offers none, or not all, or says so itself.
			if withheld(n) || n.Labels["nvidia.com/gpu.present"] == "true" && capacity(n) == 0 || n.Labels["nvidia.com/mig.config.state"] == "failed" ||
				slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return aboutGPU(string(c.Type)) && fires(c) }) {
				suspect[n.Name] = true
			}
		}
	}
	if events, err := t.Details.Events(ctx, t.ref("", "Node", "", "")); err != nil {
		out.Notes = append(out.Notes, "events of the nodes not seen: "+tool.UserText(err))
	} else {
		for _, e := range events {
			if len(t.parser.Parse(e.Message)) > 0 {
				suspect[e.Node] = true
			}
		}
	}
	var worth []string
	for _, n := range nodes {
		reported := false
		if t.NVML != nil {
			_, reported, _ = t.NVML.Report(n)
		}
		if suspect[n] || reported {
			worth = append(worth, n)
		}
	}
	if len(worth) > maxSurvey {
		out.Notes = append(out.Notes, fmt.Sprintf("%d of %d suspicious nodes looked at", maxSurvey, len(worth)))
		worth = worth[:maxSurvey]
	}
	return worth
}

func (t *Toolset) survey(ctx context.Context, in SurveyIn) (tool.Output[Survey], error) {
	out := Survey{Trouble: []NodeOut{}, Notes: []string{}, Telemetry: "dcgm-exporter"}
	v := t.verdict()
	var nodes []string
	pods := map[incident.Ref]bool{}
	var members []*corev1.Pod
	var top incident.Ref
	switch {
	case in.Kind != "" || in.Name != "":
		if in.Kind == "" || in.Name == "" || in.Namespace == "" {
			return tool.Output[Survey]{}, tool.Errorf(tool.Invalid, "a workload has namespace, kind and name: give all three")
		}
		var err error
		if top, members, err = t.behind(ctx, in); err != nil {
			return tool.Output[Survey]{}, err
		}
	case in.Namespace != "":
		list, err := t.Lists.Pods(ctx, in.Namespace)
		if err != nil {
			return tool.Output[Survey]{}, err
		}
		members = list
	}
	for _, p := range members {
		if usesGPU(p) && p.Spec.NodeName == "" {
			if err := t.unoffered(ctx, v, p); err != nil {
				out.Notes = append(out.Notes, tool.UserText(err))
			}
		}
		if !usesGPU(p) || p.Spec.NodeName == "" || over(p) {
			continue
		}
		pods[t.podRef(p.Namespace, p.Name)] = true
		if !slices.Contains(nodes, p.Spec.NodeName) {
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	out.Nodes = len(nodes)
	if in.Namespace == "" {
		all, err := t.Lists.Nodes(ctx)
		if err != nil {
			return tool.Output[Survey]{}, err
		}
		// A node whose GPUs a DRA driver offers need not say so itself, so every one
		// is a candidate.
		for _, n := range all {
			nodes = append(nodes, n.Name)
			out.Nodes += b2i(gpuNode(&machine{node: n}))
		}
	}
	nodes = t.closer(ctx, nodes, &out)
	t.fetch(ctx, nodes)
	for _, name := range nodes {
		m, err := t.machineOf(ctx, name)
		if err != nil {
			if tool.KindOf(err) != tool.NotFound {
				out.Notes = append(out.Notes, "node "+name+" not seen: "+tool.UserText(err))
			}
			continue
		}
		if !gpuNode(m) {
			continue
		}
		out.Looked++
		t.surveyNode(v, m, in.Namespace, pods, &out)
	}
	if in.Name != "" {
		t.inStep(ctx, v, slices.DeleteFunc(slices.Clone(members), func(p *corev1.Pod) bool { return p.Spec.NodeName == "" }), &out)
		// The way leads on to the pods in trouble only: there may be hundreds.
		for _, p := range members {
			ref := t.podRef(p.Namespace, p.Name)
			if slices.ContainsFunc(v.findings, func(f incident.Finding) bool { return f.Subject == ref && f.Role != incident.History }) {
				v.edge(incident.Edge{From: top, Relation: relationTo(in.Kind), To: ref})
			}
		}
	}
	head := fmt.Sprintf("%d nodes with GPUs, %d looked at, %d in trouble", out.Nodes, out.Looked, len(out.Trouble))
	return tool.Output[Survey]{Data: out, Findings: v.findings, Edges: v.edges, Text: v.text(head)}, nil
}

// surveyNode judges one node: all of it, or the cards of a namespace's pods.
func (t *Toolset) surveyNode(v *verdict, m *machine, namespace string, pods map[incident.Ref]bool, out *Survey) {
	one := t.verdict()
	want := everyCard
	if namespace != "" {
		want = func(c *card) bool {
			return slices.ContainsFunc(c.holders, func(h holder) bool { return pods[h.pod] })
		}
	}
	one.judge(m, want)
	if namespace != "" {
		for p := range pods {
			one.victims(m, p)
		}
	} else {
		one.conditions(m)
		one.software(m)
		one.has(m)
	}
	row := NodeOut{Node: m.name, GPUs: len(m.cards), Wrong: []string{}}
	for _, f := range one.findings {
		// Whoever asks about many wants what is wrong now.
		if f.Role == incident.History || f.Role == incident.Context {
			continue
		}
		v.find(f)
		row.Wrong = append(row.Wrong, f.Message)
	}
	v.edge(one.edges...)
	if len(row.Wrong) > 0 {
		out.Trouble = append(out.Trouble, row)
	}
}

// withheld reports whether a device plugin offers fewer GPUs than there are.
func withheld(n *corev1.Node) bool {
	for name, q := range n.Status.Capacity {
		free := n.Status.Allocatable[name]
		if isGPU(name) && free.Cmp(q) < 0 {
			return true
		}
	}
	return false
}

// suspects asks the metrics of the whole cluster at once which nodes are worth a
// closer look.
func (t *Toolset) suspects(ctx context.Context, out *Survey) map[string]bool {
	found := map[string]bool{}
	for _, ask := range []string{
		"changes(" + metric.Selector("DCGM_FI_DEV_XID_ERRORS", nil) + "[" + promSpan(past) + "]) > 0",
		metric.Selector("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", nil) + " > 7 or " + metric.Selector("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", nil) + " > 7",
		metric.Selector("DCGM_FI_DEV_ROW_REMAP_FAILURE", nil) + " > 0",
		metric.Selector("DCGM_FI_DEV_ROW_REMAP_PENDING", nil) + " > 0",
		metric.Selector("DCGM_FI_DEV_GPU_TEMP", nil) + " >= " + strconv.FormatFloat(t.limits["temperature"].Value, 'f', -1, 64),
		"last_over_time(" + metric.Selector("DCGM_FI_DEV_GPU_TEMP", nil) + "[" + promSpan(window) + "]) unless " + metric.Selector("DCGM_FI_DEV_GPU_TEMP", nil),
	} {
		got, err := t.Metrics.Instant(ctx, ask)
		if err != nil && len(got) == 0 {
			out.Telemetry = "GPU telemetry not seen: " + tool.UserText(err)
			return found
		}
		for _, s := range got {
			id := t.alias.Identify(family, s.Labels)
			short, _, _ := strings.Cut(id["node"], ".")
			found[id["node"]], found[short] = true, true
		}
	}
	return found
}

// quoted writes a string as PromQL reads it.
func quoted(s string) string { return strconv.Quote(s) }

// promSpan writes a duration as PromQL reads it.
func promSpan(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

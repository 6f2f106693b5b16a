package app

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hub"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/place"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// newFit wires the fit toolset to what the other toolsets read.
func newFit(src *source, k *kube.Toolset, d *dra.Toolset) (*fit.Toolset, error) {
	eyes := fitEyes{src: k.Source(), dra: d}
	reach := func(ctx context.Context) error {
		_, err := k.Source().ServerVersion(ctx)
		return err
	}
	return fit.New(fit.Config{Inventory: eyes, Objects: eyes, Logs: eyes, Reach: reach, Cluster: src.cluster})
}

// fitEyes is what fit sees of a cluster, in its own words.
type fitEyes struct {
	src *kubesource.Source
	dra *dra.Toolset
}

var (
	_ fit.Inventory = fitEyes{}
	_ fit.Objects   = fitEyes{}
	_ fit.Logs      = fitEyes{}
)

// Pod implements fit.Objects.
func (e fitEyes) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return e.src.Pod(ctx, namespace, name)
}

// Node implements fit.Objects.
func (e fitEyes) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return e.src.Node(ctx, name)
}

// ConfigMap implements fit.Objects: a model's config.json may be in one.
func (e fitEyes) ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	o, err := e.src.Get(ctx, e.src.Ref("", "ConfigMap", namespace, name))
	if err != nil {
		return nil, err
	}
	data, _, err := unstructured.NestedStringMap(o.Object, "data")
	if err != nil {
		return nil, tool.Errorf(tool.Internal, "configmap %s/%s: %w", namespace, name, err)
	}
	return data, nil
}

// Tail implements fit.Logs.
func (e fitEyes) Tail(ctx context.Context, namespace, pod, container string, previous bool, lines int) (string, error) {
	l, err := e.src.Logs(ctx, namespace, pod, kubesource.LogQuery{Container: container, Previous: previous, Tail: lines})
	return l.Text, err
}

// GPUs implements fit.Inventory: devices of DRA drivers, and on nodes without
// them what the device plugins offer, less what pods on the node ask for.
func (e fitEyes) GPUs(ctx context.Context) (fit.Stock, error) {
	var s fit.Stock
	seen := map[string]bool{}
	devices, err := e.dra.Inventory(ctx)
	switch {
	case err == nil:
		for _, d := range devices {
			if d.Object == nil {
				continue
			}
			seen[d.Node] = true
			n := nodeOf(d.Object)
			n.Product, n.MiB, n.Total, n.Free, n.Source = d.Product, int(d.Bytes>>20), d.Total, d.Free, "ResourceSlices of "+d.Driver
			s.Nodes = append(s.Nodes, n)
		}
	case tool.KindOf(err) != tool.NotServed:
		s.Gaps = append(s.Gaps, incident.Gap{Source: "ResourceSlices", Why: tool.UserText(err)})
	}
	nodes, err := e.src.Nodes(ctx)
	if err != nil {
		if len(s.Nodes) == 0 {
			return fit.Stock{}, err
		}
		s.Gaps = append(s.Gaps, incident.Gap{Source: "nodes", Why: tool.UserText(err)})
		return s, nil
	}
	pods, err := e.src.Pods(ctx, "")
	if err != nil {
		s.Gaps = append(s.Gaps, incident.Gap{Source: "GPUs of device plugins", Why: "pods cannot be listed, so what is free is not known: " + tool.UserText(err)})
		return s, nil
	}
	used := map[string]map[corev1.ResourceName]int64{}
	for _, p := range pods {
		if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for name, n := range gpuRequests(p) {
			if used[p.Spec.NodeName] == nil {
				used[p.Spec.NodeName] = map[corev1.ResourceName]int64{}
			}
			used[p.Spec.NodeName][name] += n
		}
	}
	for _, o := range nodes {
		if seen[o.Name] {
			continue
		}
		for name, q := range o.Status.Allocatable {
			if !isGPU(name) || q.Value() < 1 {
				continue
			}
			n := plugged(o, name)
			n.Total, n.Free = int(q.Value()), int(max(q.Value()-used[o.Name][name], 0))
			s.Nodes = append(s.Nodes, n)
		}
	}
	return s, nil
}

// isGPU reports whether a device plugin's resource is a GPU or a slice of one.
func isGPU(name corev1.ResourceName) bool {
	s := string(name)
	return s == "nvidia.com/gpu" || s == "nvidia.com/gpu.shared" || s == "amd.com/gpu" || strings.HasPrefix(s, "nvidia.com/mig-")
}

// gpuRequests is what a pod takes from its node: its containers together, or its
// greediest init container if that takes more.
func gpuRequests(p *corev1.Pod) map[corev1.ResourceName]int64 {
	out := map[corev1.ResourceName]int64{}
	for _, c := range p.Spec.Containers {
		for name, q := range c.Resources.Requests {
			if isGPU(name) {
				out[name] += q.Value()
			}
		}
	}
	for _, c := range p.Spec.InitContainers {
		for name, q := range c.Resources.Requests {
			if isGPU(name) {
				out[name] = max(out[name], q.Value())
			}
		}
	}
	return out
}

// plugged reads the labels of GPU feature discovery.
func plugged(o *corev1.Node, name corev1.ResourceName) place.Node {
	n := nodeOf(o)
	prefix := strings.TrimSuffix(string(name), ".shared")
	n.Source = "allocatable " + string(name)
	n.Product = firstLabel(o, prefix+".product", "nvidia.com/gpu.product", "amd.com/gpu.product-name")
	n.MiB = int(quantity(firstLabel(o, prefix+".memory")))
	if strings.HasPrefix(string(name), "nvidia.com/mig-") && !strings.Contains(n.Product, "MIG") {
		n.Product += "-MIG-" + strings.TrimPrefix(string(name), "nvidia.com/mig-")
	}
	if strings.HasSuffix(string(name), ".shared") && !strings.HasSuffix(n.Product, "-SHARED") {
		n.Product += "-SHARED"
	}
	return n
}

func firstLabel(o *corev1.Node, keys ...string) string {
	for _, k := range keys {
		if v := o.Labels[k]; v != "" {
			return v
		}
	}
	return ""
}

// quantity reads a label's whole number of MiB; 0 if it is none.
func quantity(s string) int64 {
	n := int64(0)
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<30 {
			return 0
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// nodeOf is the machine without its GPUs.
func nodeOf(o *corev1.Node) place.Node {
	n := place.Node{
		Name: o.Name, SKU: firstLabel(o, "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"), Region: o.Labels["topology.kubernetes.io/region"],
		Spot: o.Labels["kubernetes.azure.com/scalesetpriority"] == "spot" || o.Labels["karpenter.sh/capacity-type"] == "spot" || o.Labels["cloud.google.com/gke-spot"] == "true" || o.Labels["eks.amazonaws.com/capacityType"] == "SPOT",
	}
	switch {
	case o.DeletionTimestamp != nil:
		n.Barred = "being deleted"
	case o.Spec.Unschedulable:
		n.Barred = "cordoned"
	case !ready(o):
		n.Barred = "not ready"
	default:
		for _, t := range o.Spec.Taints {
			if t.Effect != corev1.TaintEffectPreferNoSchedule && !gpuTaint(t) {
				n.Barred = "tainted " + t.Key + "=" + t.Value + ":" + string(t.Effect) + ", which the pod must tolerate"
				break
			}
		}
	}
	return n
}

// gpuTaint reports whether a taint only keeps pods without GPUs away: the ones
// that AKS, GKE and the GPU operators put on their GPU nodes.
func gpuTaint(t corev1.Taint) bool {
	return t.Key == "nvidia.com/gpu" || t.Key == "amd.com/gpu" || t.Key == "sku" && t.Value == "gpu"
}

func ready(o *corev1.Node) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// FitAsk is what the command line asks about a model.
type FitAsk struct {
	fit.CheckIn
	TokensPerSecond float64
	// Prices is the content of a price file, PricesName what it is called.
	Prices     []byte
	PricesName string
	// Fetch reads the model's configuration from the hub.
	Fetch bool
	// Hub and HubToken say which hub is asked and as whom.
	Hub, HubToken string
	// Cluster asks for places on the configured cluster or bundle too.
	Cluster bool
}

// FitAnswer is what is known about a model's memory and where it could run.
type FitAnswer struct {
	fit.Check
	Placement fit.Placement `json:"placement"`
	// Fetched is where the configuration was read, if it was.
	Fetched string `json:"fetched,omitempty"`
}

// Fit answers whether a model fits, and where. It touches no cluster unless
// asked to, and no network unless Fetch is set.
func Fit(ctx context.Context, cfg Config, ask FitAsk) (FitAnswer, error) {
	desk, err := fit.NewDesk()
	if err != nil {
		return FitAnswer{}, err
	}
	if ask.Prices != nil {
		if desk, err = desk.WithPrices(ask.PricesName, ask.Prices); err != nil {
			return FitAnswer{}, err
		}
	}
	var out FitAnswer
	if ask.Fetch {
		client, err := hub.New(hub.Config{Endpoint: ask.Hub, Token: ask.HubToken})
		if err != nil {
			return FitAnswer{}, err
		}
		files, err := client.Fetch(ctx, ask.Model)
		if err != nil {
			return FitAnswer{}, err
		}
		ask.Config, out.Fetched = string(files.Config), files.Source
		if ask.WeightsGiB == 0 {
			ask.WeightsGiB = float64(files.Weights) / (1 << 30)
		}
	}
	if out.Check, err = desk.Check(ask.CheckIn); err != nil {
		return FitAnswer{}, err
	}
	var stock *fit.Stock
	if ask.Cluster {
		if stock, err = clusterStock(ctx, cfg); err != nil {
			return FitAnswer{}, err
		}
	}
	if out.Placement, err = desk.Place(fit.PlacementIn{Asked: ask.Asked, TokensPerSecond: ask.TokensPerSecond}, stock); err != nil {
		return FitAnswer{}, err
	}
	return out, nil
}

// clusterStock reads the GPUs of the configured source.
func clusterStock(ctx context.Context, cfg Config) (*fit.Stock, error) {
	a, err := New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Close() }()
	for _, ts := range a.toolsets {
		if f, ok := ts.(*fit.Toolset); ok {
			return f.Stock(ctx)
		}
	}
	return nil, tool.Errorf(tool.NotServed, "the fit toolset is not wired")
}

// WeightsGiB reads the size of a model's files out of the index that lies beside
// its config.json; 0 if it does not say.
func WeightsGiB(index []byte) float64 { return float64(hub.IndexSize(index)) / (1 << 30) }

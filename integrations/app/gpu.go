package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

// GPUConfig says where the driver's own words are read. Metrics come from
// Prometheus, the rest from the cluster; both are found without it. A bundle
// brings its own reports in nodes/<node>/nvml.json.
type GPUConfig struct {
	// NVMLDir is a directory into which gumshoe-nvml writes one file a node,
	// "<node>.json": a shared volume, or what kubectl exec collected.
	NVMLDir string `json:"nvmlDir,omitempty"`
}

// validate names the field that is wrong.
func (c GPUConfig) validate() error {
	if c.NVMLDir == "" {
		return nil
	}
	if st, err := os.Stat(c.NVMLDir); err != nil || !st.IsDir() {
		return fmt.Errorf("gpu.nvmlDir %s is not a directory", c.NVMLDir)
	}
	return nil
}

// reports gives what is in the directory, nil where none is named.
func (c GPUConfig) reports() *nvml.Dir {
	if c.NVMLDir == "" {
		return nil
	}
	return nvml.NewDir(os.DirFS(c.NVMLDir))
}

// nodesDir is where a bundle keeps what was said on its nodes.
const nodesDir = "nodes"

// recordedNVML gives the reports of a bundle, nil where it has none.
func recordedNVML(fsys fs.FS) *nvml.Dir {
	if st, err := fs.Stat(fsys, nodesDir); err != nil || !st.IsDir() {
		return nil
	}
	sub, err := fs.Sub(fsys, nodesDir)
	if err != nil {
		return nil
	}
	return nvml.NewTree(sub)
}

// nvmlCapture records the reports of gumshoe-nvml. They are written anew, so that
// nothing gets into a bundle that the schema does not know.
type nvmlCapture struct{ dir *nvml.Dir }

var _ bundle.Source = nvmlCapture{}

// Record implements bundle.Source.
func (c nvmlCapture) Record(_ context.Context, write func(string, []byte) error) ([]bundle.LeftOut, error) {
	if c.dir == nil {
		return nil, nil
	}
	nodes, err := c.dir.Nodes()
	if err != nil {
		return nil, err
	}
	var left []bundle.LeftOut
	for _, n := range nodes {
		r, ok, err := c.dir.Report(n)
		if err != nil || !ok {
			left = append(left, bundle.LeftOut{What: "NVML report of node " + n, Why: fmt.Sprint(err)})
			continue
		}
		raw, err := json.Marshal(r)
		if err != nil {
			return left, fmt.Errorf("NVML report of node %s: %w", n, err)
		}
		if err := write(nodesDir+"/"+n+"/nvml.json", raw); err != nil {
			return left, err
		}
	}
	return left, nil
}

// newGPU wires the gpu toolset to what the other toolsets read.
func newGPU(src *source, k *kube.Toolset) (*gpu.Toolset, error) {
	eyes := gpuEyes{k.Source()}
	c := gpu.Config{Objects: eyes, Lists: eyes, Details: eyes, Metrics: src.promClient(), Cluster: src.cluster, Now: src.now,
		Reach: func(ctx context.Context) error { _, err := k.Source().ServerVersion(ctx); return err }}
	if src.nvml != nil {
		c.NVML = src.nvml
	}
	return gpu.New(c)
}

// gpuEyes is what gpu sees of a cluster, in its own words.
type gpuEyes struct{ *kubesource.Source }

var (
	_ gpu.Objects = gpuEyes{}
	_ gpu.Lists   = gpuEyes{}
	_ gpu.Details = gpuEyes{}
	_ gpu.Metrics = (*prom.Client)(nil)
)

// List implements gpu.Lists.
func (e gpuEyes) List(ctx context.Context, kind, namespace, fields string) ([]*unstructured.Unstructured, error) {
	return e.Source.List(ctx, kind, namespace, kubesource.Selectors{Fields: fields})
}

// Pods implements gpu.Lists.
func (e gpuEyes) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return e.Source.Pods(ctx, namespace)
}

// Events implements gpu.Details.
func (e gpuEyes) Events(ctx context.Context, about incident.Ref) ([]gpu.Event, error) {
	list, err := e.Source.Events(ctx, "", about)
	if err != nil {
		return nil, err
	}
	out := make([]gpu.Event, 0, len(list))
	for _, v := range list {
		out = append(out, gpu.Event{Node: v.Involved.Name, Type: v.Type, Reason: v.Reason, Message: v.Message, Source: v.Source, First: v.First, Last: v.Last, Count: v.Count})
	}
	return out, nil
}

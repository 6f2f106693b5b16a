package supply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/registry"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/sbom"
)

// DiffIn names two images, or a workload.
type DiffIn struct {
	From         string `json:"from,omitempty" jsonschema:"the good image"`
	To           string `json:"to,omitempty"`
	Namespace    string `json:"namespace,omitempty"`
	Kind         string `json:"kind,omitempty" jsonschema:"Deployment, StatefulSet, DaemonSet"`
	Name         string `json:"name,omitempty"`
	Container    string `json:"container,omitempty"`
	Architecture string `json:"architecture,omitempty"`
}

// DiffOut is the answer of supply_diff.
type DiffOut struct {
	From      string        `json:"from"`
	To        string        `json:"to"`
	Container string        `json:"container,omitempty"`
	Changes   []sbom.Change `json:"changes"`
	Total     int           `json:"total"`
	// Compared says that both images have a bill of materials.
	Compared bool     `json:"packages_compared"`
	Built    []string `json:"built"`
	Notes    []string `json:"notes"`
}

const maxDiff = 60

func (t *Toolset) diff(ctx context.Context, in DiffIn) (tool.Output[DiffOut], error) {
	var out tool.Output[DiffOut]
	from, to, container := in.From, in.To, in.Container
	switch {
	case in.From != "" && in.To != "":
	case in.Kind != "" && in.Name != "":
		var err error
		if from, to, container, err = t.lastTwo(ctx, in); err != nil {
			return out, err
		}
	default:
		return out, tool.Errorf(tool.Invalid, "give from and to, or kind, namespace and name of a workload")
	}
	arch := in.Architecture
	if arch == "" {
		arch = "amd64"
	}
	a, err := t.cfg.Images.Image(ctx, from, arch)
	if err != nil {
		return out, err
	}
	b, err := t.cfg.Images.Image(ctx, to, arch)
	if err != nil {
		return out, err
	}
	all := difference(a, b)
	d := DiffOut{From: from, To: to, Container: container, Changes: all[:min(len(all), maxDiff)], Total: len(all), Compared: a.SBOM != "" && b.SBOM != "", Built: built(a, b), Notes: slices.Concat(a.Notes, b.Notes)}
	if d.Changes == nil {
		d.Changes = []sbom.Change{}
	}
	if !d.Compared {
		d.Notes = append(d.Notes, "packages not compared: "+noBill(a, b))
	}
	out.Data = d
	var s strings.Builder
	fmt.Fprintf(&s, "from %s (%s) to %s (%s): %d changes\n", from, a.Digest, to, b.Digest, d.Total)
	if a.Manifest == b.Manifest && a.Manifest != "" {
		s.WriteString("both are the same image\n")
	}
	for _, l := range d.Built {
		fmt.Fprintf(&s, "%s\n", l)
	}
	for _, c := range d.Changes {
		part := c.Part
		if part == "" {
			part = "other"
		}
		fmt.Fprintf(&s, "%s: %s\n", part, c)
	}
	if d.Total > len(d.Changes) {
		fmt.Fprintf(&s, "and %d more\n", d.Total-len(d.Changes))
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&s, "not seen: %s\n", n)
	}
	out.Text = s.String()
	return out, nil
}

// lastTwo finds the last two images of a workload that differ.
func (t *Toolset) lastTwo(ctx context.Context, in DiffIn) (from, to, container string, err error) {
	kind := ""
	for _, k := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
		if strings.EqualFold(in.Kind, k) || strings.EqualFold(in.Kind, k+"s") {
			kind = k
		}
	}
	if kind == "" {
		return "", "", "", &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("no revisions are kept of %q", short(in.Kind, 40)), Fix: "name a Deployment, StatefulSet or DaemonSet, or two images"}
	}
	w := incident.Ref{Cluster: t.cfg.Cluster, Group: "apps", Kind: kind, Namespace: in.Namespace, Name: in.Name}
	revs, pods, err := t.revisions(ctx, w)
	if err != nil {
		return "", "", "", err
	}
	for i, r := range revs {
		for _, c := range slices.Concat(r.spec.Containers, r.spec.InitContainers) {
			if in.Container != "" && c.Name != in.Container {
				continue
			}
			for _, o := range revs[i+1:] {
				was := imageOf(o.spec, c.Name)
				if was == "" || was == c.Image {
					continue
				}
				return known(pods, c.Name, was), known(pods, c.Name, c.Image), c.Name, nil
			}
		}
	}
	return "", "", "", tool.Errorf(tool.NotFound, "%s has no two revisions with different images", w)
}

// known names an image by the digest that a pod is known to run: tags move.
func known(pods []*corev1.Pod, container, image string) string {
	for _, p := range pods {
		if st := running(p, container); st != nil && imageOf(p.Spec, container) == image && digestOf(st.ImageID) != "" {
			return pinned(image, digestOf(st.ImageID))
		}
	}
	return image
}

// difference lists what changed between two images: packages, and the variables that
// name versions where no bill says them.
func difference(a, b registry.Image) []sbom.Change {
	if a.SBOM != "" && b.SBOM != "" {
		return sbom.Diff(a.Bill, b.Bill)
	}
	// The base images of CUDA state their versions in the environment.
	return sbom.Diff(fromEnv(a), fromEnv(b))
}

func fromEnv(img registry.Image) sbom.Document {
	var d sbom.Document
	for _, e := range []struct{ env, name string }{
		{"CUDA_VERSION", "cuda"}, {"NV_LIBNCCL_PACKAGE_VERSION", "nccl"}, {"NCCL_VERSION", "nccl"}, {"NV_CUDNN_VERSION", "cudnn"}, {"CUDNN_VERSION", "cudnn"},
		{"ROCM_VERSION", "rocm"}, {"PYTORCH_VERSION", "torch"}, {"VLLM_VERSION", "vllm"}, {"SGLANG_VERSION", "sglang"}, {"RAY_VERSION", "ray"}, {"PYTHON_VERSION", "python"}, {"TRT_VERSION", "tensorrt"},
	} {
		if v := img.Env[e.env]; v != "" && !slices.ContainsFunc(d.Packages, func(p sbom.Package) bool { return p.Name == e.name }) {
			d.Packages = append(d.Packages, sbom.Package{Name: e.name, Version: v})
		}
	}
	return d
}

func noBill(a, b registry.Image) string {
	switch {
	case a.SBOM == "" && b.SBOM == "":
		return "neither image has a bill of materials, so only what their environment states is known"
	case a.SBOM == "":
		return a.Ref + " has no bill of materials"
	}
	return b.Ref + " has no bill of materials"
}

// built says how the two builds differ.
func built(a, b registry.Image) []string {
	out := []string{}
	if a.Provenance != nil && b.Provenance != nil {
		p, q := a.Provenance, b.Provenance
		for _, x := range []struct{ what, from, to string }{{"builder", p.Builder, q.Builder}, {"source", p.Source, q.Source}, {"source revision", p.Revision, q.Revision}, {"base images", strings.Join(p.Bases, ", "), strings.Join(q.Bases, ", ")}} {
			if x.from != x.to {
				out = append(out, fmt.Sprintf("%s: %s to %s", x.what, dash(x.from), dash(x.to)))
			}
		}
	} else if a.Labels["revision"] != b.Labels["revision"] {
		out = append(out, fmt.Sprintf("source revision: %s to %s (by label, not proved)", dash(a.Labels["revision"]), dash(b.Labels["revision"])))
	}
	if a.Bytes > 0 && b.Bytes > 0 && (b.Bytes > a.Bytes+a.Bytes/10 || a.Bytes > b.Bytes+b.Bytes/10) {
		out = append(out, fmt.Sprintf("compressed size: %.2f to %.2f GiB", float64(a.Bytes)/(1<<30), float64(b.Bytes)/(1<<30)))
	}
	return out
}

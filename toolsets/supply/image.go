package supply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/registry"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/sbom"
)

// ImageIn names an image, or a pod that runs one.
type ImageIn struct {
	Image        string `json:"image,omitempty"`
	Namespace    string `json:"namespace,omitempty"`
	Pod          string `json:"pod,omitempty"`
	Container    string `json:"container,omitempty"`
	Architecture string `json:"architecture,omitempty"`
}

// ImageOut is the answer of supply_image.
type ImageOut struct {
	Image registry.Image `json:"image"`
	// Stack are the packages that meet the GPU, of the bill of materials.
	Stack []sbom.Package `json:"stack"`
	// Unseen says what no answer was found to.
	Unseen []string `json:"not_seen"`
}

func (t *Toolset) image(ctx context.Context, in ImageIn) (tool.Output[ImageOut], error) {
	var out tool.Output[ImageOut]
	ref, arch := in.Image, in.Architecture
	if ref == "" {
		p, err := t.cfg.Pods.Pod(ctx, in.Namespace, in.Pod)
		if err != nil {
			return out, err
		}
		c := in.Container
		if c == "" && len(p.Spec.Containers) > 0 {
			c = p.Spec.Containers[0].Name
		}
		if ref = imageOf(p.Spec, c); ref == "" {
			return out, tool.Errorf(tool.Invalid, "Pod %s/%s has no container %q", in.Namespace, in.Pod, short(c, 63))
		}
		if st := running(p, c); st != nil {
			ref = pinned(ref, digestOf(st.ImageID))
		}
		if arch == "" && p.Spec.NodeName != "" {
			if n, err := t.cfg.Pods.Node(ctx, p.Spec.NodeName); err == nil {
				arch = architecture(n)
			}
		}
	}
	if arch == "" {
		arch = "amd64"
	}
	img, err := t.cfg.Images.Image(ctx, ref, arch)
	if err != nil {
		return out, err
	}
	out.Data = ImageOut{Image: img, Stack: stack(img.Bill), Unseen: unseen(img)}
	var b strings.Builder
	fmt.Fprintf(&b, "image %s\n", img.Ref)
	writeFacts(&b, img)
	for _, p := range out.Data.Stack {
		fmt.Fprintf(&b, "  %s %s\n", p.Name, p.Version)
	}
	for _, u := range out.Data.Unseen {
		fmt.Fprintf(&b, "  not seen: %s\n", u)
	}
	out.Text = b.String()
	if img.NoPlatform {
		out.Findings = append(out.Findings, incident.Finding{Code: "supply.registry_unread", Severity: incident.Info, Role: incident.Context, Subject: t.imageRef(ref),
			Message: fmt.Sprintf("image %s has nothing for linux/%s, only %s", img.Ref, arch, strings.Join(img.Platforms, ", ")), Params: map[string]string{"image": img.Ref, "why": "no image for linux/" + arch}})
	}
	return out, nil
}

// maxStack bounds the packages that are shown.
const maxStack = 30

// stack picks the packages that meet the GPU, most telling first.
func stack(d sbom.Document) []sbom.Package {
	out := []sbom.Package{}
	// Against nothing everything is added: the order of a difference is the one wanted.
	for _, c := range sbom.Diff(sbom.Document{}, d) {
		if c.Part == "" || len(out) == maxStack {
			break
		}
		out = append(out, sbom.Package{Name: c.Name, Version: c.To, Type: c.Type})
	}
	return out
}

func unseen(img registry.Image) []string {
	out := slices.Clone(img.Notes)
	if img.SBOM == "" {
		out = append(out, "no bill of materials is attached: what the image holds is unknown")
	}
	if img.Provenance == nil {
		out = append(out, "no provenance is attached")
	}
	if len(img.Signatures) == 0 {
		out = append(out, "no signature is attached, which is normal for many images")
	}
	return out
}

func writeFacts(b *strings.Builder, img registry.Image) {
	fmt.Fprintf(b, "  digest %s", img.Digest)
	if img.Manifest != "" && img.Manifest != img.Digest {
		fmt.Fprintf(b, ", manifest %s", img.Manifest)
	}
	fmt.Fprintf(b, "; platforms %s", strings.Join(img.Platforms, ", "))
	if img.Bytes > 0 {
		fmt.Fprintf(b, "; %.2f GiB compressed in %d layers", float64(img.Bytes)/(1<<30), img.Layers)
	}
	if !img.Created.IsZero() {
		fmt.Fprintf(b, "; created %s", img.Created.Format(time.RFC3339))
	}
	b.WriteString("\n")
	for _, k := range sortedNames(img.Env) {
		if k != "LD_LIBRARY_PATH" {
			fmt.Fprintf(b, "  %s=%s\n", k, short(img.Env[k], 160))
		}
	}
	if p := img.Provenance; p != nil {
		fmt.Fprintf(b, "  built by %s from %s revision %s\n", dash(p.Builder), dash(p.Source), dash(p.Revision))
	}
	if img.SBOM != "" {
		fmt.Fprintf(b, "  bill of materials %s, %d packages\n", img.SBOM, img.Packages)
	}
	for _, s := range img.Signatures[:min(len(img.Signatures), 6)] {
		switch {
		case s.Verified():
			fmt.Fprintf(b, "  signature over %s verified by key %s\n", s.Of, s.By)
		default:
			fmt.Fprintf(b, "  signature over %s not verified: %s", s.Of, s.Problem)
			if s.Identity != "" {
				fmt.Fprintf(b, " (claims %s of %s)", s.Identity, dash(s.Issuer))
			}
			b.WriteString("\n")
		}
	}
}

func dash(s string) string {
	if s == "" {
		return "(not said)"
	}
	return s
}

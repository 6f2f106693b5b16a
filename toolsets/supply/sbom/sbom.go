// Package sbom reads software bills of materials (SPDX 2 and CycloneDX as JSON) and
// tells what changed between two of them, what faces the GPU first. It is pure.
package sbom

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/pattern"
)

// Package is one component.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Type is that of the purl ("deb", "pypi"), empty without one.
	Type string `json:"type,omitempty"`
}

// Document is what a bill lists.
type Document struct {
	// Format is "SPDX" or "CycloneDX", with its version.
	Format   string
	Packages []Package
}

// MaxPackages bounds one bill.
const MaxPackages = 50_000

// Parse reads a bill. It fails when the JSON is neither format.
func Parse(raw []byte) (Document, error) {
	var d struct {
		SPDX     string `json:"spdxVersion"`
		Format   string `json:"bomFormat"`
		Spec     string `json:"specVersion"`
		Packages []struct {
			Name    string `json:"name"`
			Version string `json:"versionInfo"`
			Refs    []struct {
				Type    string `json:"referenceType"`
				Locator string `json:"referenceLocator"`
			} `json:"externalRefs"`
		} `json:"packages"`
		Components []component `json:"components"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return Document{}, fmt.Errorf("SBOM: %w", err)
	}
	var out Document
	switch {
	case d.SPDX != "":
		out.Format = d.SPDX
		for _, p := range d.Packages {
			one := Package{Name: p.Name, Version: p.Version}
			for _, r := range p.Refs {
				if r.Type == "purl" {
					one = withPurl(one, r.Locator)
				}
			}
			out.add(one)
		}
	case d.Format == "CycloneDX":
		out.Format = "CycloneDX-" + d.Spec
		for _, c := range d.Components {
			out.component(c, 0)
		}
	default:
		return Document{}, errors.New("SBOM: neither SPDX 2 nor CycloneDX: it has no spdxVersion and no bomFormat")
	}
	return out, nil
}

type component struct {
	Name       string      `json:"name"`
	Version    string      `json:"version"`
	Purl       string      `json:"purl"`
	Components []component `json:"components"`
}

func (d *Document) component(c component, depth int) {
	d.add(withPurl(Package{Name: c.Name, Version: c.Version}, c.Purl))
	if depth < 8 {
		for _, in := range c.Components {
			d.component(in, depth+1)
		}
	}
}

func (d *Document) add(p Package) {
	if p.Name == "" || len(d.Packages) >= MaxPackages {
		return
	}
	d.Packages = append(d.Packages, Package{Name: clip(p.Name), Version: clip(p.Version), Type: clip(p.Type)})
}

// clip bounds a field: a bill is written by whoever built the image.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 200)], "")
}

// withPurl takes name, version and type from a package URL, where it is one:
// pkg:type/namespace/name@version?qualifiers#subpath.
func withPurl(p Package, purl string) Package {
	rest, ok := strings.CutPrefix(purl, "pkg:")
	if !ok {
		return p
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	path, version, _ := strings.Cut(rest, "@")
	kind, path, ok := strings.Cut(path, "/")
	if !ok {
		return p
	}
	p.Type = strings.ToLower(kind)
	if i := strings.LastIndex(path, "/"); i >= 0 && kind != "golang" && kind != "npm" && kind != "maven" {
		path = path[i+1:]
	}
	if name, err := url.PathUnescape(path); err == nil && name != "" {
		p.Name = name
	}
	if v, err := url.PathUnescape(version); err == nil && v != "" {
		p.Version = v
	}
	return p
}

// Change is one difference between two bills.
type Change struct {
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	// From is empty for what was added, To for what was removed.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// How is "added", "removed", "newer", "older" or "changed".
	How string `json:"how"`
	// Part says what of the stack the package is: "CUDA", "NCCL"; empty for the rest.
	Part string `json:"part,omitempty"`
	rank int
}

// String writes "libnccl2 2.27.3 to 2.19.3 (older)".
func (c Change) String() string {
	switch c.How {
	case "added":
		return c.Name + " " + c.To + " (added)"
	case "removed":
		return c.Name + " " + c.From + " (removed)"
	}
	return fmt.Sprintf("%s %s to %s (%s)", c.Name, c.From, c.To, c.How)
}

// parts are the packages of the stack that meets the GPU, most telling first. The
// names are those of Debian, RPM, PyPI and conda packages.
var parts = []struct {
	part string
	re   *pattern.Regexp
}{
	{"CUDA", pattern.New(`^(?:cuda(?:-.*)?|nvidia-cuda-.*|libcudart.*|libcuda1?|cudatoolkit)$`)},
	{"NCCL", pattern.New(`^(?:lib)?(?:nccl|nvidia-nccl|rccl)`)},
	{"driver library", pattern.New(`^(?:libnvidia-|nvidia-driver|nvidia-utils|nvidia-fabricmanager|rocm|hip|libnvidia-ml|libcuda)`)},
	{"CUDA library", pattern.New(`^(?:lib)?(?:nvidia-)?(?:cudnn|cublas|cufft|curand|cusparse|cusolver|nvjitlink|nvshmem|nvrtc|cutlass|tensorrt)`)},
	{"engine", pattern.New(`^(?:vllm|sglang|sgl-kernel|tensorrt[-_]llm|tritonserver|text-generation|lmdeploy|llama-cpp.*|dynamo|ai-dynamo|ray|megatron.*|deepspeed|nixl)$`)},
	{"framework", pattern.New(`^(?:torch|pytorch|torchvision|torchaudio|triton|tensorflow|jax|jaxlib|transformers|flash[-_]attn|flashinfer.*|xformers|accelerate|onnxruntime.*)$`)},
	{"network library", pattern.New(`^(?:libfabric|aws-ofi-nccl|efa|rdma-core|libibverbs|librdmacm|ucx|libucx|openmpi|libopenmpi|mpich|hcoll|sharp)`)},
	{"system library", pattern.New(`^(?:libc6|glibc|libstdc\+\+6|libgcc-s1|libgcc|openssl|libssl\d.*|python3(?:\.\d+)?|python|musl)$`)},
}

func partOf(name string) (string, int) {
	low := strings.ToLower(name)
	for i, p := range parts {
		if p.re.MatchString(low) {
			return p.part, i
		}
	}
	return "", len(parts)
}

// versioned are the trailing numbers that distributions put into names:
// cuda-cudart-12-8, libnccl2, libcudnn9-cuda-12.
var versioned = pattern.New(`^(cuda-[a-z-]+?|nvidia-[a-z-]+?-cu|libcudnn|libcublas|libnvinfer)-?\d+(?:[.-]\d+)*((?:-cuda)?(?:-\d+)?)$`)

// Key tells packages apart across versions.
func Key(p Package) string {
	name := strings.ToLower(strings.ReplaceAll(p.Name, "_", "-"))
	if m := versioned.FindStringSubmatch(name); m != nil {
		name = m[1]
	}
	return p.Type + "/" + name
}

// Diff lists what changed from a to b: what meets the GPU first, then by name.
func Diff(a, b Document) []Change {
	from, to := index(a), index(b)
	var out []Change
	for k, old := range from {
		now, kept := to[k]
		switch {
		case !kept:
			out = append(out, change(old.Name, old.Type, old.Version, "", "removed"))
		case now.Version != old.Version:
			how := "changed"
			switch Compare(old.Version, now.Version) {
			case -1:
				how = "newer"
			case 1:
				how = "older"
			}
			out = append(out, change(now.Name, now.Type, old.Version, now.Version, how))
		}
	}
	for k, now := range to {
		if _, had := from[k]; !had {
			out = append(out, change(now.Name, now.Type, "", now.Version, "added"))
		}
	}
	slices.SortFunc(out, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.rank, y.rank), cmp.Compare(order(x), order(y)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Type, y.Type))
	})
	return out
}

// order puts what changed its version before what came and went.
func order(c Change) int {
	if c.How == "added" || c.How == "removed" {
		return 1
	}
	return 0
}

func change(name, kind, from, to, how string) Change {
	c := Change{Name: name, Type: kind, From: from, To: to, How: how}
	c.Part, c.rank = partOf(name)
	return c
}

// index keeps one package a key; of several versions the highest, so that the
// order of a bill does not matter.
func index(d Document) map[string]Package {
	out := make(map[string]Package, len(d.Packages))
	for _, p := range d.Packages {
		k := Key(p)
		if had, ok := out[k]; !ok || Compare(had.Version, p.Version) < 0 || had.Version == "" {
			out[k] = p
		}
	}
	return out
}

// Compare orders two versions: -1, 0 or 1. Numbers compare as numbers, a
// pre-release comes before what it leads to.
func Compare(a, b string) int {
	x, y := fields(a), fields(b)
	for i := range max(len(x), len(y)) {
		var p, q string
		if i < len(x) {
			p = x[i]
		}
		if i < len(y) {
			q = y[i]
		}
		if p == q {
			continue
		}
		n, err1 := strconv.Atoi(p)
		m, err2 := strconv.Atoi(q)
		switch {
		case err1 == nil && err2 == nil:
			if n != m {
				return cmp.Compare(n, m)
			}
		case err1 == nil:
			// 1.2.1 is after 1.2 and after 1.2rc1.
			return 1
		case err2 == nil:
			return -1
		case p == "":
			return preRelease(q)
		case q == "":
			return -preRelease(p)
		default:
			return cmp.Compare(p, q)
		}
	}
	return 0
}

// preRelease gives 1 when the word marks what comes before a release.
func preRelease(word string) int {
	if slices.Contains([]string{"rc", "a", "b", "alpha", "beta", "dev", "pre"}, word) {
		return 1
	}
	return -1
}

var field = pattern.New(`\d+|[a-zA-Z]+`)

func fields(v string) []string {
	// An epoch that both lack is 0; a local part such as +cu128 still tells builds apart.
	return field.FindAllString(v, 32)
}

// Find gives the version of the first package whose name is one of names.
func (d Document) Find(names ...string) (string, bool) {
	for _, n := range names {
		for _, p := range d.Packages {
			if strings.EqualFold(p.Name, n) {
				return p.Version, true
			}
		}
	}
	return "", false
}

package supply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/registry"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/sbom"
)

// cudaOf gives the CUDA version an image is built on, and where it says so.
func cudaOf(img registry.Image) (version, where string) {
	if v := img.Env["CUDA_VERSION"]; v != "" {
		return v, "CUDA_VERSION"
	}
	if v, ok := img.Bill.Find("nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-cudart"); ok {
		return v, "its bill of materials"
	}
	for _, p := range img.Bill.Packages {
		if strings.HasPrefix(p.Name, "cuda-cudart-") {
			return p.Version, "its bill of materials"
		}
	}
	return "", ""
}

var (
	number        = pattern.New(`\d+`)
	driverTooOld  = pattern.New(`(?i)driver version is insufficient|nvidia driver on your system is too old|unsupported display driver|error 80[34]\b|unsatisfied condition: cuda|forward compatibility was attempted|no kernel image is available|cuda>=`)
	compatPackage = pattern.New(`^cuda-compat-`)
)

// cuda holds the CUDA version of the image against what the node's driver supports:
// within one major version a newer CUDA runs on an older driver, across majors it does
// not (NVIDIA's CUDA compatibility guide). The node's figures are the labels of the
// GPU feature discovery. An image that brings a compatibility library may still run on
// data centre GPUs, so that is only said with the driver's own complaint.
func (l *look) cuda(c corev1.Container, img registry.Image, text string, ref incident.Ref) bool {
	if l.node == nil || !wantsGPU(c) {
		return false
	}
	need, where := cudaOf(img)
	major := l.node.Labels["nvidia.com/cuda.runtime-version.major"]
	supported := l.node.Labels["nvidia.com/cuda.runtime-version.full"]
	if major == "" {
		// The older names of the labels.
		major = l.node.Labels["nvidia.com/cuda.runtime.major"]
		if minor := l.node.Labels["nvidia.com/cuda.runtime.minor"]; minor != "" {
			supported = major + "." + minor
		}
	}
	driver := l.node.Labels["nvidia.com/cuda.driver-version.full"]
	if driver == "" && l.node.Labels["nvidia.com/cuda.driver.major"] != "" {
		driver = strings.Trim(l.node.Labels["nvidia.com/cuda.driver.major"]+"."+l.node.Labels["nvidia.com/cuda.driver.minor"]+"."+l.node.Labels["nvidia.com/cuda.driver.rev"], ".")
	}
	want, err1 := strconv.Atoi(number.FindString(need))
	have, err2 := strconv.Atoi(major)
	if err1 != nil || err2 != nil || want <= have {
		return false
	}
	complains := driverTooOld.MatchString(text)
	compat := slices.ContainsFunc(img.Bill.Packages, func(p sbom.Package) bool { return compatPackage.MatchString(p.Name) }) || strings.Contains(img.Env["LD_LIBRARY_PATH"], "compat")
	if compat && !complains {
		return false
	}
	conf := 0.78
	if complains {
		conf = 0.95
	}
	if supported == "" {
		supported = major
	}
	l.find(incident.Finding{Code: "supply.cuda_newer_than_driver", Severity: incident.Critical, Role: incident.Fault, Confidence: conf, Subject: ref,
		Message: fmt.Sprintf("image %s is built on CUDA %s (%s), and the driver %s of node %s supports CUDA up to %s", c.Image, need, where, driver, l.node.Name, supported),
		Params:  map[string]string{"image": c.Image, "container": c.Name, "cuda": need, "supported": supported, "driver": driver, "node": l.node.Name}})
	return true
}

func wantsGPU(c corev1.Container) bool {
	if len(c.Resources.Claims) > 0 {
		return true
	}
	for name := range c.Resources.Limits {
		if strings.HasPrefix(string(name), "nvidia.com/") {
			return true
		}
	}
	return false
}

// incompatible are the words by which programs say that a library is not the one
// that they were made for.
var incompatible = pattern.New(`(?i)undefined symbol|cannot open shared object|symbol lookup error|version [^ ]{1,40} not found|version mismatch|incompatib|has no attribute|cannot import name|no module named|modulenotfounderror|importerror|unrecognized argument|unexpected keyword|invalid choice|unknown (?:option|argument|flag|field)|no such option|not supported|unsupported|compiled (?:with|against|for)|built (?:with|against|for)|no kernel image|driver version is insufficient|requires? [^ ]{1,40} ?(?:[<>=!~]=?)|but you have|ABI`)

// changed holds what changed from the image before against the container's error.
func (l *look) changed(ctx context.Context, c corev1.Container, arch string, img registry.Image, text string, o *ContainerOut, ref incident.Ref) {
	if o.Before == "" {
		return
	}
	old, err := l.t.cfg.Images.Image(ctx, o.Before, arch)
	if err != nil {
		o.Notes = append(o.Notes, "what changed is unknown: "+tool.UserText(err))
		return
	}
	changes := difference(old, img)
	if old.SBOM == "" || img.SBOM == "" {
		o.Notes = append(o.Notes, "packages not compared: "+noBill(old, img))
	}
	o.Changes = changes[:min(len(changes), maxChanges)]
	if len(changes) == 0 {
		return
	}
	if x, line, ok := blamed(changes, text); ok {
		conf := 0.72
		said := "how the image before fared is not known"
		if o.BeforeReady > 0 {
			conf = 0.9
			said = fmt.Sprintf("%d pods are ready with the image before", o.BeforeReady)
		}
		p := map[string]string{"image": c.Image, "before": o.Before, "container": c.Name, "library": x.Name, "from": x.From, "to": x.To, "line": line}
		if l.of.Name != "" {
			p["kind"], p["namespace"], p["workload"] = l.of.Kind, l.of.Namespace, l.of.Name
		}
		l.find(incident.Finding{Code: "supply.library_changed", Severity: incident.Critical, Role: incident.Fault, Confidence: conf, Subject: ref,
			Message: fmt.Sprintf("image %s changed %s from that of %s, and container %s fails on it: %s; %s", c.Image, x, o.Before, c.Name, line, said), Params: p})
		return
	}
	var top []string
	for _, x := range changes[:min(len(changes), 5)] {
		top = append(top, x.String())
	}
	l.find(incident.Finding{Code: "supply.image_changed", Severity: incident.Info, Role: incident.Context, Subject: ref,
		Message: fmt.Sprintf("from %s to %s: %s", o.Before, c.Image, strings.Join(top, "; ")), Params: map[string]string{"image": c.Image, "before": o.Before, "changes": strings.Join(top, "; ")}})
}

// blamed finds the changed package that an error line about an unfit library names.
func blamed(changes []sbom.Change, text string) (sbom.Change, string, bool) {
	lines := strings.Split(text, "\n")
	for _, raw := range slices.Backward(lines) {
		line := strings.TrimSpace(raw)
		if len(line) > 2000 || !incompatible.MatchString(line) {
			continue
		}
		bare := withoutPaths(line)
		for _, x := range changes {
			if x.How == "added" {
				continue
			}
			if s := stem(x.Name); len(s) >= 4 && mentions(bare, s) {
				return x, short(line, 300), true
			}
		}
	}
	return sbom.Change{}, "", false
}

// withoutPaths takes file paths out: the directory of a package occurs in every
// traceback through it.
func withoutPaths(line string) string {
	var out []string
	for w := range strings.FieldsSeq(line) {
		if !strings.Contains(w, "/") {
			out = append(out, w)
		}
	}
	return strings.ToLower(strings.ReplaceAll(strings.Join(out, " "), "_", "-"))
}

// mentions reports whether a word of the line begins with the stem.
func mentions(line, s string) bool {
	for i := strings.Index(line, s); i >= 0; {
		if before := line[:i]; before == "" || strings.HasSuffix(before, "lib") || before[i-1] < 'a' || before[i-1] > 'z' {
			return true
		}
		next := strings.Index(line[i+1:], s)
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}

var (
	stemHead = pattern.New(`^(?:lib|nvidia-|python3?-|golang-|node-|rust-)+`)
	stemTail = pattern.New(`(?:-cu\d+|-cuda-?\d*|[-.]?\d[\d.-]*|-dev|-bin|-runtime)+$`)
)

// stem is the part of a package's name that its symbols, files and options carry:
// "nccl" of libnccl2 and of nvidia-nccl-cu12, "cudart" of cuda-cudart-12-8.
func stem(name string) string {
	s := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	s = stemTail.ReplaceAllString(stemHead.ReplaceAllString(s, ""), "")
	if rest, ok := strings.CutPrefix(s, "cuda-"); ok {
		if rest == "runtime" || rest == "" {
			return "cudart"
		}
		s = rest
	}
	if s == "cuda" && strings.Contains(strings.ToLower(name), "runtime") {
		return "cudart"
	}
	return s
}

func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

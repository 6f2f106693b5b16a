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

// WorkloadIn names a pod.
type WorkloadIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
}

// ContainerOut is what is known of one container's image.
type ContainerOut struct {
	Container string `json:"container"`
	Image     string `json:"image"`
	// Digest that runs, empty when the runtime does not say it.
	Digest string `json:"digest,omitempty"`
	// Trouble says that the container is not well, so that its registry was asked.
	Trouble bool `json:"trouble"`
	// Before is the image of the revision before that had another one.
	Before      string `json:"image_before,omitempty"`
	BeforeReady int    `json:"ready_with_image_before"`
	// Changes are the telling ones, what meets the GPU first.
	Changes []sbom.Change `json:"changes"`
	// Digests of the pods of this template, by pod.
	Digests map[string]string `json:"digests,omitempty"`
	Facts   *registry.Image   `json:"registry,omitempty"`
	Notes   []string          `json:"notes"`
}

// WorkloadOut is the answer of supply_workload.
type WorkloadOut struct {
	Pod        string         `json:"pod"`
	Node       string         `json:"node,omitempty"`
	Workload   string         `json:"workload,omitempty"`
	Containers []ContainerOut `json:"containers"`
}

const (
	maxContainers = 8
	maxChanges    = 20
	logLines      = 200
)

func (t *Toolset) workload(ctx context.Context, in WorkloadIn) (tool.Output[WorkloadOut], error) {
	var out tool.Output[WorkloadOut]
	p, err := t.cfg.Pods.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return out, err
	}
	l := &look{t: t, pod: p, out: &out}
	out.Data = WorkloadOut{Pod: p.Namespace + "/" + p.Name, Node: p.Spec.NodeName, Containers: []ContainerOut{}}
	all := slices.Concat(p.Spec.Containers, p.Spec.InitContainers)
	for _, c := range all[:min(len(all), maxContainers)] {
		one := l.container(ctx, c)
		if err := ctx.Err(); err != nil {
			return out, err
		}
		out.Data.Containers = append(out.Data.Containers, one)
	}
	out.Text = workloadText(out.Data)
	return out, nil
}

// look is the reading of one pod.
type look struct {
	t   *Toolset
	pod *corev1.Pod
	out *tool.Output[WorkloadOut]
	// what is read once for all containers.
	sibs []*corev1.Pod
	node *corev1.Node
	revs []revision
	of   incident.Ref
	read bool
}

// container judges one container's image.
func (l *look) container(ctx context.Context, c corev1.Container) ContainerOut {
	st := running(l.pod, c.Name)
	o := ContainerOut{Container: c.Name, Image: c.Image, Changes: []sbom.Change{}, Notes: []string{}}
	if st != nil {
		o.Digest = digestOf(st.ImageID)
	}
	o.Trouble = trouble(st)
	l.moved(ctx, c, &o)
	if !o.Trouble {
		return o
	}
	l.once(ctx, &o)
	l.before(c, &o)
	if l.t.cfg.Images.Allowed(c.Image) {
		l.asked(ctx, c, st, &o)
	} else {
		o.Notes = append(o.Notes, "the registry of "+c.Image+" is not asked: it is not listed under supply.registries")
	}
	return o
}

// trouble reports whether a container does not run as it should.
func trouble(st *corev1.ContainerStatus) bool {
	switch {
	case st == nil:
		return false
	case st.State.Waiting != nil:
		return !slices.Contains([]string{"ContainerCreating", "PodInitializing", ""}, st.State.Waiting.Reason)
	case st.State.Terminated != nil:
		return st.State.Terminated.ExitCode != 0
	}
	return !st.Ready && st.LastTerminationState.Terminated != nil && st.LastTerminationState.Terminated.ExitCode != 0
}

func (l *look) once(ctx context.Context, o *ContainerOut) {
	if l.read {
		return
	}
	l.read = true
	if l.pod.Spec.NodeName != "" {
		n, err := l.t.cfg.Pods.Node(ctx, l.pod.Spec.NodeName)
		if err != nil {
			o.Notes = append(o.Notes, "node not read: "+tool.UserText(err))
		}
		l.node = n
	}
	w, ok := l.t.workloadRef(ctx, l.pod)
	if !ok {
		return
	}
	l.of = w
	l.out.Data.Workload = w.String()
	revs, _, err := l.t.revisions(ctx, w)
	if err != nil {
		o.Notes = append(o.Notes, "revisions not read: "+tool.UserText(err))
	}
	l.revs = revs
}

// moved compares the digests of the pods of one template.
func (l *look) moved(ctx context.Context, c corev1.Container, o *ContainerOut) {
	if o.Digest == "" || strings.Contains(c.Image, "@") {
		return
	}
	if l.sibs == nil {
		sibs, err := l.t.siblings(ctx, l.pod)
		if err != nil {
			o.Notes = append(o.Notes, "pods of the same template not read: "+tool.UserText(err))
		}
		l.sibs = append([]*corev1.Pod{}, sibs...)
	}
	well, sick := map[string][]string{}, map[string][]string{}
	differs := false
	digests := map[string]string{}
	for _, p := range l.sibs {
		st := running(p, c.Name)
		if st == nil || digestOf(st.ImageID) == "" {
			continue
		}
		d := digestOf(st.ImageID)
		differs = differs || d != o.Digest
		digests[p.Name] = d
		if trouble(st) {
			sick[d] = append(sick[d], p.Name)
		} else if st.Ready {
			well[d] = append(well[d], p.Name)
		}
	}
	if !differs || !l.sameArchitecture(ctx, digests) {
		return
	}
	o.Digests = digests
	image := l.t.imageRef(c.Image)
	l.edge(image)
	if len(sick) == 1 && len(well) == 1 {
		bad, good := only(sick), only(well)
		if bad != good {
			params := map[string]string{"image": c.Image, "container": c.Name, "good": good, "bad": bad, "well": strconv.Itoa(len(well[good])), "sick": strconv.Itoa(len(sick[bad]))}
			if w, ok := l.t.workloadRef(ctx, l.pod); ok {
				params["kind"], params["namespace"], params["workload"] = w.Kind, w.Namespace, w.Name
			}
			l.find(incident.Finding{Code: "supply.tag_moved", Severity: incident.Critical, Role: incident.Fault, Confidence: 0.87, Subject: image,
				Message: fmt.Sprintf("the tag of %s moved between the starts of its pods: %d pods run %s and are well, %d run %s and are sick", c.Image, len(well[good]), good, len(sick[bad]), bad),
				Params:  params})
			return
		}
	}
	all := map[string]bool{}
	for _, d := range digests {
		all[d] = true
	}
	l.find(incident.Finding{Code: "supply.digests_differ", Severity: incident.Info, Role: incident.Context, Subject: image,
		Message: fmt.Sprintf("pods of one template run %d different contents of %s", len(all), c.Image), Params: map[string]string{"image": c.Image, "digests": strconv.Itoa(len(all))}})
}

func only(m map[string][]string) string {
	for k := range m {
		return k
	}
	return ""
}

// sameArchitecture reports whether the pods run on nodes of one architecture: some
// runtimes report the digest of the platform's own manifest.
func (l *look) sameArchitecture(ctx context.Context, digests map[string]string) bool {
	archs := map[string]bool{}
	seen := map[string]bool{}
	for _, p := range l.sibs {
		if _, ok := digests[p.Name]; !ok || p.Spec.NodeName == "" || seen[p.Spec.NodeName] {
			continue
		}
		if seen[p.Spec.NodeName] = true; len(seen) > 32 {
			break
		}
		n, err := l.t.cfg.Pods.Node(ctx, p.Spec.NodeName)
		if err != nil {
			continue
		}
		archs[architecture(n)] = true
	}
	return len(archs) <= 1
}

func architecture(n *corev1.Node) string {
	if n == nil {
		return ""
	}
	if a := n.Status.NodeInfo.Architecture; a != "" {
		return a
	}
	return n.Labels["kubernetes.io/arch"]
}

// before finds the newest revision that had another image in this container.
func (l *look) before(c corev1.Container, o *ContainerOut) {
	at := slices.IndexFunc(l.revs, func(r revision) bool {
		return r.hash != "" && (r.hash == l.pod.Labels["pod-template-hash"] || strings.HasSuffix(r.name, l.pod.Labels["controller-revision-hash"]) && l.pod.Labels["controller-revision-hash"] != "")
	})
	for _, r := range l.revs[max(at+1, 0):] {
		if img := imageOf(r.spec, c.Name); img != "" && img != c.Image {
			o.Before, o.BeforeReady = img, max(r.ready, 0)
			return
		}
	}
}

// asked holds the image against what its registry says of it.
func (l *look) asked(ctx context.Context, c corev1.Container, st *corev1.ContainerStatus, o *ContainerOut) {
	arch := architecture(l.node)
	img, err := l.t.cfg.Images.Image(ctx, pinned(c.Image, o.Digest), arch)
	ref := l.t.imageRef(c.Image)
	if err != nil {
		why := tool.UserText(err)
		o.Notes = append(o.Notes, why)
		l.find(incident.Finding{Code: "supply.registry_unread", Severity: incident.Info, Role: incident.Context, Subject: ref, Message: fmt.Sprintf("what image %s holds was not seen: %s", c.Image, why), Params: map[string]string{"image": c.Image, "why": why}})
		return
	}
	o.Facts = &img
	l.edge(ref)
	text := l.words(ctx, c.Name, st)
	l.signatures(c, img, ref)
	if l.platform(c, arch, img, text, ref) || l.cuda(c, img, text, ref) {
		return
	}
	l.changed(ctx, c, arch, img, text, o, ref)
}

// words gathers what the container and the runtime said last.
func (l *look) words(ctx context.Context, container string, st *corev1.ContainerStatus) string {
	var b strings.Builder
	for _, s := range []corev1.ContainerState{st.State, st.LastTerminationState} {
		if s.Waiting != nil {
			b.WriteString(s.Waiting.Message + "\n")
		}
		if s.Terminated != nil {
			b.WriteString(s.Terminated.Message + "\n")
		}
	}
	if l.t.cfg.Logs != nil {
		for _, previous := range []bool{true, false} {
			if previous && st.LastTerminationState.Terminated == nil {
				continue
			}
			if text, err := l.t.cfg.Logs.Tail(ctx, l.pod.Namespace, l.pod.Name, container, previous, logLines); err == nil {
				b.WriteString(text + "\n")
			}
		}
	}
	return b.String()
}

func (l *look) signatures(c corev1.Container, img registry.Image, ref incident.Ref) {
	for _, s := range img.Signatures {
		if strings.HasPrefix(s.Problem, "none of the") || strings.HasPrefix(s.Problem, "it signs another") || strings.HasPrefix(s.Problem, "the signature") {
			l.find(incident.Finding{Code: "supply.signature_invalid", Severity: incident.Warning, Role: incident.Context, Subject: ref,
				Message: fmt.Sprintf("a signature of image %s is not valid: %s", c.Image, s.Problem), Params: map[string]string{"image": c.Image, "problem": s.Problem}})
			return
		}
	}
}

var wrongPlatform = pattern.New(`(?i)exec format error|no match(?:ing)? (?:for platform|manifest)|no matching manifest`)

// platform holds the image's platforms against the node's architecture.
func (l *look) platform(c corev1.Container, arch string, img registry.Image, text string, ref incident.Ref) bool {
	if arch == "" || !img.NoPlatform && (img.Platform == "" || strings.HasPrefix(img.Platform, "linux/"+arch)) {
		return false
	}
	conf := 0.8 // an emulator could run it
	if wrongPlatform.MatchString(text) {
		conf = 0.97
	}
	have := strings.Join(img.Platforms, ", ")
	l.find(incident.Finding{Code: "supply.platform_mismatch", Severity: incident.Critical, Role: incident.Fault, Confidence: conf, Subject: ref,
		Message: fmt.Sprintf("image %s is built for %s, and node %s is linux/%s", c.Image, have, l.pod.Spec.NodeName, arch),
		Params:  map[string]string{"image": c.Image, "container": c.Name, "architecture": arch, "node": l.pod.Spec.NodeName, "platforms": have}})
	return true
}

func (l *look) find(f incident.Finding) { l.out.Findings = append(l.out.Findings, f) }

func (l *look) edge(image incident.Ref) {
	e := incident.Edge{From: l.t.podRef(l.pod), Relation: fromImage, To: image}
	if !slices.ContainsFunc(l.out.Edges, func(o incident.Edge) bool { return o.To == image }) {
		l.out.Edges = append(l.out.Edges, e)
	}
}

func workloadText(d WorkloadOut) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Pod %s", d.Pod)
	if d.Node != "" {
		fmt.Fprintf(&b, " on node %s", d.Node)
	}
	if d.Workload != "" {
		fmt.Fprintf(&b, ", of %s", d.Workload)
	}
	b.WriteString("\n")
	for _, c := range d.Containers {
		fmt.Fprintf(&b, "container %s image %s", c.Container, c.Image)
		if c.Digest != "" {
			fmt.Fprintf(&b, " runs %s", c.Digest)
		}
		if c.Trouble {
			b.WriteString(", not well")
		}
		b.WriteString("\n")
		for _, k := range sortedNames(c.Digests) {
			fmt.Fprintf(&b, "  pod %s runs %s\n", k, c.Digests[k])
		}
		if c.Facts != nil {
			writeFacts(&b, *c.Facts)
		}
		if c.Before != "" {
			fmt.Fprintf(&b, "  before: %s (%d pods ready with it)\n", c.Before, c.BeforeReady)
		}
		for _, x := range c.Changes {
			fmt.Fprintf(&b, "  changed: %s\n", x)
		}
		for _, n := range c.Notes {
			fmt.Fprintf(&b, "  not seen: %s\n", n)
		}
	}
	return b.String()
}

func sortedNames(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out[:min(len(out), 32)]
}

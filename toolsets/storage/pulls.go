package storage

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const (
	// slower is by which factor a pull or download must exceed the slowest peer.
	slower = 3
	// least is how long a start must take before it is worth a word.
	least = 5 * time.Minute
	// peersNeeded is on how many other nodes the same thing must have been quick.
	peersNeeded = 2
)

// PullsIn names a pod.
type PullsIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
}

// Pulls is what fetching takes.
type Pulls struct {
	Pod    string     `json:"pod"`
	Node   string     `json:"node,omitempty"`
	Images []PullView `json:"images"`
	// Fetches are init containers, which often download the weights.
	Fetches []FetchView `json:"fetches"`
}

// PullView is one image.
type PullView struct {
	Image string `json:"image"`
	// State is pulling, pulled, present or failed.
	State string `json:"state"`
	// Seconds the pull took or has taken; Waited in the kubelet's queue before it.
	Seconds float64 `json:"seconds"`
	Waited  float64 `json:"waited,omitempty"`
	Bytes   int64   `json:"bytes,omitempty"`
	// Peers are pulls of the image on other nodes, "gpu-2 41s".
	Peers []string `json:"peers"`
}

// FetchView is one init container.
type FetchView struct {
	Container string   `json:"container"`
	State     string   `json:"state"`
	Seconds   float64  `json:"seconds"`
	Peers     []string `json:"peers"`
}

func (t *Toolset) pullsTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "storage_pulls", Text: text("storage_pulls"), Effect: tool.Read}, t.pulls)
}

func (t *Toolset) pulls(ctx context.Context, in PullsIn) (tool.Output[Pulls], error) {
	p, err := t.reads.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Pulls]{}, err
	}
	l := &look{t: t, v: &verdict{}}
	out := Pulls{Pod: p.Namespace + "/" + p.Name, Node: p.Spec.NodeName, Images: []PullView{}, Fetches: []FetchView{}}
	if p.Spec.NodeName == "" {
		l.v.line("pod %s has no node yet: nothing is pulled", p.Name)
		return tool.Output[Pulls]{Data: out, Text: l.v.text()}, nil
	}
	l.v.edge(t.podRef(p), graph.RunsOn, t.nodeRef(p.Spec.NodeName))
	// Peers are read only for what goes on now: a namespace may have thousands of pods.
	own := map[string]*pull{}
	for _, e := range l.events(ctx, "Pod", p.Namespace, p.Name) {
		readPull(e, own)
	}
	var pods []*corev1.Pod
	if starting(p) {
		if pods, err = t.reads.Pods(ctx, p.Namespace); err != nil {
			l.v.gap("pods in "+p.Namespace, err)
		}
	}
	l.images(ctx, p, own, pods, &out)
	l.fetches(p, pods, &out)
	return tool.Output[Pulls]{Data: out, Text: l.v.text(), Findings: l.v.findings, Edges: l.v.edges}, nil
}

// pull is what the events of one pod tell of one image.
type pull struct {
	began, ended time.Time
	took, waited time.Duration
	bytes        int64
	state        string
}

var (
	pulling = regexp.MustCompile(`^Pulling image "([^"]+)"`)
	// The kubelet's words, pkg/kubelet/images/image_manager.go: "Successfully pulled
	// image "x" in 2.1s (4.2s including waiting). Image size: 123 bytes."
	pulled  = regexp.MustCompile(`^Successfully pulled image "([^"]+)" in ([0-9hmsµun.]+)(?: \(([0-9hmsµun.]+) including waiting\))?(?:\. Image size: (\d+) bytes)?`)
	present = regexp.MustCompile(`^Container image "([^"]+)" already present`)
)

// readPull takes one event into what is known of a pod's images.
func readPull(e Event, seen map[string]*pull) {
	get := func(image string) *pull {
		if seen[image] == nil {
			seen[image] = &pull{}
		}
		return seen[image]
	}
	if m := pulling.FindStringSubmatch(e.Message); m != nil {
		p := get(m[1])
		if e.Last.After(p.began) {
			p.began = e.Last
		}
		return
	}
	if m := pulled.FindStringSubmatch(e.Message); m != nil {
		took, err := time.ParseDuration(m[2])
		if err != nil || took < 0 {
			return
		}
		p := get(m[1])
		if p.state == "pulled" && !e.Last.After(p.ended) {
			return
		}
		p.state, p.took, p.ended, p.waited = "pulled", took, e.Last, 0
		if all, err := time.ParseDuration(m[3]); err == nil && all > took {
			p.waited = all - took
		}
		if n, err := strconv.ParseInt(m[4], 10, 64); err == nil {
			p.bytes = n
		}
		return
	}
	if m := present.FindStringSubmatch(e.Message); m != nil {
		if p := get(m[1]); p.state == "" {
			p.state = "present"
		}
	}
}

// starting reports whether a container of the pod waits for its image or an init
// container is at work.
func starting(p *corev1.Pod) bool {
	if over(p) {
		return false
	}
	return slices.ContainsFunc(p.Status.InitContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running != nil }) ||
		slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
			return c.State.Waiting != nil && (c.State.Waiting.Reason == "ContainerCreating" || c.State.Waiting.Reason == "PodInitializing")
		})
}

// images compares the pulls of one pod with those of the image on other nodes.
func (l *look) images(ctx context.Context, p *corev1.Pod, own map[string]*pull, pods []*corev1.Pod, out *Pulls) {
	where := map[string]string{}
	for _, o := range pods {
		where[o.Name] = o.Spec.NodeName
	}
	byPod := map[string]map[string]*pull{}
	if len(pods) > 0 && len(own) > 0 {
		for _, e := range l.events(ctx, "Pod", p.Namespace, "") {
			if byPod[e.Name] == nil {
				byPod[e.Name] = map[string]*pull{}
			}
			readPull(e, byPod[e.Name])
		}
	}
	var images []string
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if !slices.Contains(images, c.Image) {
			images = append(images, c.Image)
		}
	}
	for _, image := range images {
		mine := own[image]
		if mine == nil {
			continue
		}
		open := !mine.began.IsZero() && mine.began.After(mine.ended) && mine.state != "present" && waitsFor(p, image)
		took := mine.took
		if open {
			mine.state, took = "pulling", l.t.now().Sub(mine.began)
		}
		v := PullView{Image: image, State: mine.state, Seconds: took.Seconds(), Waited: mine.waited.Seconds(), Bytes: mine.bytes, Peers: []string{}}
		var peers []peer
		for name, seen := range byPod {
			if o := seen[image]; o != nil && o.state == "pulled" && where[name] != "" && where[name] != p.Spec.NodeName {
				peers = append(peers, peer{where[name], o.took})
			}
		}
		peers = onePerNode(peers)
		for _, x := range limit(peers, 8) {
			v.Peers = append(v.Peers, x.node+" "+span(x.took))
		}
		text := fmt.Sprintf("image %s: %s, %s", image, v.State, span(took))
		if mine.state == "present" {
			text = "image " + image + ": present on the node"
		}
		if mine.waited > time.Second {
			text += ", after " + span(mine.waited) + " in the kubelet's queue"
		}
		if v.Bytes > 0 && took > 0 && !open {
			text += fmt.Sprintf(", %d MB at %d MB/s", v.Bytes/1e6, int64(float64(v.Bytes)/took.Seconds()/1e6))
		}
		if len(v.Peers) > 0 {
			text += "; on other nodes: " + strings.Join(v.Peers, ", ")
		}
		l.v.line("%s", text)
		out.Images = append(out.Images, v)
		if open {
			l.slowPull(p, image, took, peers)
		}
	}
}

// waitsFor reports whether a container of the pod waits for its image.
func waitsFor(p *corev1.Pod, image string) bool {
	names := map[string]bool{}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Image == image {
			names[c.Name] = true
		}
	}
	statuses := slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
	return !over(p) && slices.ContainsFunc(statuses, func(c corev1.ContainerStatus) bool {
		return names[c.Name] && c.State.Waiting != nil && (c.State.Waiting.Reason == "ContainerCreating" || c.State.Waiting.Reason == "PodInitializing")
	})
}

// peer is how long the same thing took on another node.
type peer struct {
	node string
	took time.Duration
}

// onePerNode keeps the slowest time of each node, the slowest node first.
func onePerNode(in []peer) []peer {
	slices.SortFunc(in, func(a, b peer) int {
		if a.took != b.took {
			return int(b.took - a.took)
		}
		return strings.Compare(a.node, b.node)
	})
	var out []peer
	for _, p := range in {
		if !slices.ContainsFunc(out, func(o peer) bool { return o.node == p.node }) {
			out = append(out, p)
		}
	}
	return out
}

// against says what peers took and whether a time is out of line with them.
func against(took time.Duration, peers []peer) (string, bool) {
	if len(peers) < peersNeeded {
		return "", false
	}
	fastest, slowest := peers[len(peers)-1].took, peers[0].took
	text := fmt.Sprintf("%s to %s on %d other nodes", span(fastest), span(slowest), len(peers))
	return text, took >= least && took > slower*slowest
}

func (l *look) slowPull(p *corev1.Pod, image string, took time.Duration, peers []peer) {
	text, slow := against(took, peers)
	if !slow {
		l.v.find("storage.pulling", 0, l.t.podRef(p), map[string]string{"image": image, "since": span(took)}, "image %s is being pulled for %s", image, span(took))
		return
	}
	params := map[string]string{"what": "pull of " + image, "image": image, "took": span(took), "peers": text}
	l.v.find("storage.start_slow", 0, l.t.podRef(p), params, "pod %s waits for image %s for %s; the pull took %s", p.Name, image, span(took), text)
	l.v.find("storage.image_pull_slow", 0.75, l.t.nodeRef(p.Spec.NodeName), params, "node %s pulls image %s for %s and is not done; the same pull took %s (told from %d times the slowest of at least %d peers)", p.Spec.NodeName, image, span(took), text, slower, peersNeeded)
}

// fetches compares init containers with those of the same name and image on other
// nodes.
func (l *look) fetches(p *corev1.Pod, pods []*corev1.Pod, out *Pulls) {
	for _, c := range p.Spec.InitContainers {
		took, running, ok := initTime(p, c.Name, l.t.now())
		if !ok || c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			continue
		}
		var peers []peer
		for _, o := range pods {
			if o.Name == p.Name || o.Spec.NodeName == "" || o.Spec.NodeName == p.Spec.NodeName || !sameInit(c, o) {
				continue
			}
			if t, still, ok := initTime(o, c.Name, l.t.now()); ok && !still {
				peers = append(peers, peer{o.Spec.NodeName, t})
			}
		}
		peers = onePerNode(peers)
		v := FetchView{Container: c.Name, State: "done", Seconds: took.Seconds(), Peers: []string{}}
		if running {
			v.State = "running"
		}
		for _, x := range limit(peers, 8) {
			v.Peers = append(v.Peers, x.node+" "+span(x.took))
		}
		text := fmt.Sprintf("init container %s: %s, %s", c.Name, v.State, span(took))
		if len(v.Peers) > 0 {
			text += "; on other nodes: " + strings.Join(v.Peers, ", ")
		}
		l.v.line("%s", text)
		out.Fetches = append(out.Fetches, v)
		if peersText, slow := against(took, peers); running && slow {
			params := map[string]string{"what": "init container " + c.Name, "container": c.Name, "took": span(took), "peers": peersText}
			l.v.find("storage.start_slow", 0, l.t.podRef(p), params, "pod %s waits for its init container %s for %s; it took %s", p.Name, c.Name, span(took), peersText)
			l.v.find("storage.weights_load_slow", 0.72, l.t.nodeRef(p.Spec.NodeName), params, "init container %s of pod %s runs on node %s for %s and is not done; the same container took %s", c.Name, p.Name, p.Spec.NodeName, span(took), peersText)
		}
	}
}

// sameInit reports whether another pod has the same init container.
func sameInit(c corev1.Container, o *corev1.Pod) bool {
	return slices.ContainsFunc(o.Spec.InitContainers, func(x corev1.Container) bool {
		return x.Name == c.Name && x.Image == c.Image && slices.Equal(x.Args, c.Args) && slices.Equal(x.Command, c.Command)
	})
}

// initTime is how long an init container ran, or runs.
func initTime(p *corev1.Pod, name string, now time.Time) (took time.Duration, running, ok bool) {
	for _, s := range p.Status.InitContainerStatuses {
		if s.Name != name {
			continue
		}
		if r := s.State.Running; r != nil && !r.StartedAt.IsZero() {
			return now.Sub(r.StartedAt.Time), true, true
		}
		if e := s.State.Terminated; e != nil && e.ExitCode == 0 && e.FinishedAt.After(e.StartedAt.Time) {
			return e.FinishedAt.Sub(e.StartedAt.Time), false, true
		}
	}
	return 0, false, false
}

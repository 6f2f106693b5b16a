package dra

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// plugin is the DaemonSet that runs a driver's kubelet plugin, as far as it can
// be told, and its pods by node.
type plugin struct {
	set  *appsv1.DaemonSet
	pods map[string]*corev1.Pod
	// should lists nodes the set is meant for; refuses says why not for others.
	should  map[string]bool
	refuses map[string]string
}

// likeness scores how sure it is that a pod template is a driver's kubelet
// plugin. A plugin mounts the kubelet's plugin directories (kubelet plugin
// registration, k8s.io/dynamic-resource-allocation/kubeletplugin); which driver
// it serves shows in arguments, environment, labels, paths, names or images.
func likeness(driver string, name string, labels map[string]string, spec *corev1.PodSpec) int {
	score, named := 0, false
	registry, plugins := false, false
	for _, v := range spec.Volumes {
		if v.HostPath == nil {
			continue
		}
		p := strings.TrimRight(v.HostPath.Path, "/")
		switch {
		case strings.HasSuffix(p, "/plugins/"+driver):
			score, named, plugins = score+6, true, true
		case strings.HasSuffix(p, "/plugins_registry"):
			registry = true
		case strings.HasSuffix(p, "/plugins"):
			plugins = true
		}
	}
	if registry {
		score += 2
	}
	if plugins {
		score += 2
	}
	var words []string
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		words = append(words, c.Name, c.Image)
		words = append(words, c.Command...)
		words = append(words, c.Args...)
		for _, e := range c.Env {
			words = append(words, e.Value)
		}
		for _, m := range c.VolumeMounts {
			words = append(words, m.MountPath)
		}
	}
	for k, v := range labels {
		words = append(words, k, v)
	}
	if slices.ContainsFunc(words, func(w string) bool { return mentions(w, driver) }) {
		score, named = score+4, true
	}
	if !named && registry {
		// "nvidia-dra-driver-gpu" for gpu.nvidia.com: the vendor and the sort of device.
		hits := 0
		tokens := slices.DeleteFunc(strings.Split(driver, "."), func(s string) bool { return len(s) < 3 || s == "com" || s == "net" || s == "dev" })
		for _, tok := range tokens {
			if strings.Contains(name, tok) || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, tok) }) {
				hits++
			}
		}
		if hits > 0 && hits == len(tokens) {
			score += 2
		} else if hits > 0 {
			score++
		}
	}
	return score
}

// mentions finds a driver name as a whole word: "gpu.nvidia.com" is not
// mentioned by "vfio.gpu.nvidia.com".
func mentions(text, driver string) bool {
	for i := 0; ; {
		j := strings.Index(text[i:], driver)
		if j < 0 {
			return false
		}
		j += i
		before, after := byte(0), byte(0)
		if j > 0 {
			before = text[j-1]
		}
		if end := j + len(driver); end < len(text) {
			after = text[end]
		}
		if !nameByte(before) && !nameByte(after) {
			return true
		}
		i = j + 1
	}
}

func nameByte(b byte) bool {
	return b == '.' || b == '-' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// likely is the score from which a DaemonSet is taken for the plugin: both
// plugin directories and a name that fits, or the driver's name outright.
const likely = 5

// plugin finds the DaemonSet of a driver, nil when none looks like it.
func (t *Toolset) plugin(ctx context.Context, w *world, driver string) (*plugin, error) {
	sets, err := t.read.listDaemons(ctx)
	if err != nil {
		return nil, err
	}
	var best *appsv1.DaemonSet
	top := likely - 1
	for _, d := range sets {
		if s := likeness(driver, d.Name, d.Spec.Template.Labels, &d.Spec.Template.Spec); s > top {
			best, top = d, s
		}
	}
	if best == nil {
		return nil, nil
	}
	p := &plugin{set: best, pods: map[string]*corev1.Pod{}, should: map[string]bool{}, refuses: map[string]string{}}
	sel, err := metav1.LabelSelectorAsSelector(best.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of DaemonSet %s/%s: %w", best.Namespace, best.Name, err)
	}
	err = pages(ctx, metav1.ListOptions{Limit: pageSize, LabelSelector: sel.String()}, t.read.client.CoreV1().Pods(best.Namespace).List, func(l *corev1.PodList) {
		for i := range l.Items {
			pod := &l.Items[i]
			n := pod.Spec.NodeName
			if n == "" {
				n = boundTo(pod)
			}
			if old := p.pods[n]; n != "" && (old == nil || !podReady(old) && podReady(pod) || old.DeletionTimestamp != nil) {
				p.pods[n] = pod
			}
		}
	})
	like := &corev1.Pod{Spec: *best.Spec.Template.Spec.DeepCopy()}
	// The DaemonSet controller adds these tolerations to every pod it makes.
	for _, k := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable} {
		like.Spec.Tolerations = append(like.Spec.Tolerations, corev1.Toleration{Key: k, Operator: corev1.TolerationOpExists})
	}
	for _, n := range w.nodes {
		if why := nodeRefusal(like, n); why != "" {
			p.refuses[n.Name] = why
		} else {
			p.should[n.Name] = true
		}
	}
	return p, failure(err, "list", "pods", best.Namespace, "")
}

// boundTo is the node a DaemonSet pod is meant for while it waits.
func boundTo(p *corev1.Pod) string {
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == "metadata.name" && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// whyNotReady puts the state of a pod into a few words.
func whyNotReady(p *corev1.Pod) string {
	for _, st := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		switch {
		case st.State.Waiting != nil && st.State.Waiting.Reason != "" && st.State.Waiting.Reason != "PodInitializing":
			return st.State.Waiting.Reason
		case st.State.Terminated != nil && st.State.Terminated.ExitCode != 0:
			return cmp.Or(st.State.Terminated.Reason, "Error")
		case st.State.Running != nil && !st.Ready && st.RestartCount > 0:
			return "not ready after " + itoa(int(st.RestartCount)) + " restarts"
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return cmp.Or(c.Reason, "not scheduled")
		}
	}
	if p.DeletionTimestamp != nil {
		return "being deleted"
	}
	return "not ready (" + string(p.Status.Phase) + ")"
}

// settling says whether an object is too young to be judged.
func (t *Toolset) settling(created metav1.Time) bool {
	return t.now().Sub(created.Time) < 2*time.Minute
}

// siblings finds nodes that look like those with devices: they carry a label
// that all nodes with slices share and that not every node has. keys names what
// makes them alike.
func siblings(w *world, with map[string]bool) map[string]string {
	var shared map[string]string
	all := map[string]int{}
	for _, n := range w.nodes {
		for k, v := range n.Labels {
			all[k+"="+v]++
		}
		if !with[n.Name] {
			continue
		}
		if shared == nil {
			shared = maps.Clone(n.Labels)
			continue
		}
		for k, v := range shared {
			if n.Labels[k] != v {
				delete(shared, k)
			}
		}
	}
	out := map[string]string{}
	if len(with) < 2 {
		// One node alone shares everything with itself: only what names hardware counts.
		for k := range shared {
			if k != corev1.LabelInstanceTypeStable && k != corev1.LabelInstanceType {
				delete(shared, k)
			}
		}
	}
	for _, n := range w.nodes {
		if with[n.Name] {
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(shared)) {
			kv := k + "=" + shared[k]
			// A label that most nodes carry tells nothing about devices.
			if n.Labels[k] == shared[k] && all[kv] < len(w.nodes) && k != corev1.LabelHostname && k != corev1.LabelOSStable && k != corev1.LabelArchStable && !strings.HasPrefix(k, "topology.kubernetes.io/") {
				out[n.Name] = kv
				break
			}
		}
	}
	return out
}

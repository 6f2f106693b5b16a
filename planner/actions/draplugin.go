package actions

import (
	"context"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// restartPlugin deletes the one pod of a driver's kubelet plugin on one node; its
// DaemonSet makes it anew. Devices that pods hold stay prepared meanwhile.
func restartPlugin(ctx context.Context, c *Cluster, p params) (*draft, error) {
	driver, node := p.str("driver"), p.str("node")
	if node == "" {
		return nil, p.missing("node", "the plugin is restarted on one node at a time: say on which")
	}
	set, err := c.pluginOf(ctx, p, driver)
	if err != nil {
		return nil, err
	}
	d := c.draft("Restart the plugin of driver %s on node %s", driver, node)
	if err := d.roll(ctx, p, set, node); err != nil {
		return nil, err
	}
	n := nodeRef(c.name, node)
	d.Warnings = append(d.Warnings, "pods with claims of the driver start and stop on "+node+" only when the plugin is back; pods that run keep their devices")
	for _, code := range []string{"dra.plugin_down", "dra.node_no_slices", "dra.driver_not_registered"} {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckNoFinding, Subject: n, Params: map[string]string{"code": code}, Say: "nothing is said against the driver on " + node + " any more (" + code + ")", Within: 300})
	}
	return d, nil
}

// pluginOf finds the DaemonSet of a driver's kubelet plugin as the toolset does: it
// mounts the kubelet's plugin directories, and its words name the driver. Two that
// are as likely are none.
func (c *Cluster) pluginOf(ctx context.Context, p params, driver string) (*Object, error) {
	sets, err := c.List(ctx, "DaemonSet.apps", "", "", "")
	if err != nil {
		return nil, err
	}
	var best []*Object
	top := pluginLikely
	for _, o := range sets {
		set, err := as[appsv1.DaemonSet](o)
		if err != nil {
			return nil, err
		}
		switch s := pluginScore(driver, set); {
		case s > top:
			best, top = []*Object{o}, s
		case s == top:
			best = append(best, o)
		}
	}
	switch len(best) {
	case 0:
		return nil, p.missing("driver", "no DaemonSet looks like the kubelet plugin of driver %s", driver)
	case 1:
		return best[0], nil
	}
	return nil, p.missing("driver", "several DaemonSets look like the kubelet plugin of driver %s: %s; restart the right one with daemonset_pod_roll", driver, namesOf(best))
}

// pluginLikely is the score from which a DaemonSet counts as a driver's plugin.
const pluginLikely = 5

// pluginScore says how sure it is that a DaemonSet runs a driver's kubelet plugin
// (k8s.io/dynamic-resource-allocation/kubeletplugin: the directories it registers in).
func pluginScore(driver string, set *appsv1.DaemonSet) int {
	score, registry, plugins := 0, false, false
	spec := &set.Spec.Template.Spec
	for _, v := range spec.Volumes {
		if v.HostPath == nil {
			continue
		}
		switch path := strings.TrimRight(v.HostPath.Path, "/"); {
		case strings.HasSuffix(path, "/plugins/"+driver):
			score, plugins = score+6, true
		case strings.HasSuffix(path, "/plugins_registry"):
			registry = true
		case strings.HasSuffix(path, "/plugins"):
			plugins = true
		}
	}
	if registry {
		score += 2
	}
	if plugins {
		score += 2
	}
	words := pluginWords(set)
	if slices.ContainsFunc(words, func(w string) bool { return wholeWord(w, driver) }) {
		return score + 4
	}
	if score < 6 && registry { // "nvidia-dra-driver-gpu" for gpu.nvidia.com
		tokens := slices.DeleteFunc(strings.Split(driver, "."), func(s string) bool { return len(s) < 3 || s == "com" || s == "net" || s == "dev" })
		hits := 0
		for _, t := range tokens {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, t) }) {
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

func pluginWords(set *appsv1.DaemonSet) []string {
	words := []string{set.Name}
	for _, k := range slices.Concat(set.Spec.Template.Spec.InitContainers, set.Spec.Template.Spec.Containers) {
		words = append(words, k.Name, k.Image)
		words = append(append(words, k.Command...), k.Args...)
		for _, e := range k.Env {
			words = append(words, e.Value)
		}
		for _, m := range k.VolumeMounts {
			words = append(words, m.MountPath)
		}
	}
	for k, v := range set.Spec.Template.Labels {
		words = append(words, k, v)
	}
	return words
}

// wholeWord finds a driver's name that is no part of a longer name.
func wholeWord(s, name string) bool {
	part := func(r rune) bool {
		return r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	return slices.Contains(strings.FieldsFunc(s, func(r rune) bool { return !part(r) }), name)
}

// roll deletes the one pod that a DaemonSet has on a node, and waits until its
// successor is ready.
func (d *draft) roll(ctx context.Context, p params, set *Object, node string) error {
	if _, err := d.c.Get(ctx, "Node", "", node); apierrors.IsNotFound(err) {
		return p.missing("node", "there is no node %s", node)
	} else if err != nil {
		return err
	}
	pods, err := d.c.List(ctx, "Pod", set.GetNamespace(), "", "")
	if err != nil {
		return err
	}
	var pod *Object
	for _, o := range pods {
		if owner := metav1.GetControllerOf(o); owner == nil || owner.UID != set.GetUID() || o.GetDeletionTimestamp() != nil {
			continue
		}
		t, err := as[corev1.Pod](o)
		if err != nil {
			return err
		}
		if daemonNode(t) == node {
			pod = o
		}
	}
	if pod == nil {
		return p.missing("node", "%s has no pod on node %s", set.Ref, node)
	}
	d.target(set, "its controller makes the pod anew")
	w := d.write(pod, incident.VerbDelete, "Delete pod "+pod.GetName()+" on node "+node+": "+set.Ref.String()+" makes it anew")
	w.Grace, w.Digest = -1, "" // labels of a pod may change; its uid is what counts
	w.Await = []incident.Check{Gone(pod, 120)}
	d.target(pod, "")
	d.Writes = append(d.Writes, w)
	d.c.planned[pod.Ref] = nil
	d.Lasting = "the pod is made anew by its DaemonSet; the old one is not brought back"
	d.Blast.Nodes = []incident.Ref{nodeRef(d.c.name, node)}
	d.Verify = append(d.Verify, incident.Check{Kind: CheckDaemonPod, Subject: set.Ref, Params: map[string]string{"node": node, "not": string(pod.GetUID())},
		Say: set.Ref.String() + " has a new ready pod on node " + node, Within: 300})
	return d.hurt(ctx, []*Object{pod})
}

// daemonNode is the node that a DaemonSet's pod is on, or is meant for while it waits.
func daemonNode(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
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

// daemonPod judges the pod that a DaemonSet has on a node, once it was made anew.
func daemonPod(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	set, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	node := c.Params["node"]
	pods, err := k.cluster.podsOf(ctx, set)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	for _, p := range pods {
		if daemonNode(p) != node || string(p.UID) == c.Params["not"] || p.DeletionTimestamp != nil {
			continue
		}
		ok := slices.ContainsFunc(p.Status.Conditions, func(x corev1.PodCondition) bool {
			return x.Type == corev1.PodReady && x.Status == corev1.ConditionTrue
		})
		if !ok {
			return incident.Fail, "pod " + p.Name + " on node " + node + " is not ready"
		}
		return incident.Pass, "pod " + p.Name + " on node " + node + " is ready"
	}
	return incident.Fail, c.Subject.String() + " has no new pod on node " + node
}

package judge

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// provisioner ties a claim to the workload that has to provision for it and
// reports whether one is found: one whose containers name the driver, or else
// one that runs a provisioner and has the driver's first name in its own.
func (j *judge) provisioner(ctx context.Context, v *verdict, driver string) bool {
	var named, alike []incident.Ref
	see := func(o metav1.Object, kind string, spec *corev1.PodSpec) {
		ref := j.ref("apps", kind, o.GetNamespace(), o.GetName())
		switch {
		case namesDriver(spec, driver):
			named = append(named, ref)
		case provisions(spec) && alikeDriver(o.GetName(), driver):
			alike = append(alike, ref)
		}
	}
	if list, err := j.src.Deployments(ctx, ""); err == nil {
		for _, d := range list {
			see(d, "Deployment", &d.Spec.Template.Spec)
		}
	}
	if list, err := j.src.StatefulSets(ctx, ""); err == nil {
		for _, s := range list {
			see(s, "StatefulSet", &s.Spec.Template.Spec)
		}
	}
	found := named
	if len(found) == 0 {
		found = alike
	}
	for _, r := range limit(found, 3) {
		v.line("its provisioner may be %s", r)
		v.edge(v.subject, graph.ServedBy, r)
	}
	return len(found) > 0
}

// driverAgents ties a pod to the pods of DaemonSets on its node that speak for a
// CSI driver and are not ready.
func (j *judge) driverAgents(ctx context.Context, v *verdict, node, driver string) {
	sets, err := j.src.DaemonSets(ctx, "")
	if err != nil {
		return
	}
	byUID := map[string]*appsv1.DaemonSet{}
	for _, d := range sets {
		if namesDriver(&d.Spec.Template.Spec, driver) || alikeDriver(d.Name, driver) && strings.Contains(d.Name, "csi") {
			byUID[string(d.UID)] = d
		}
	}
	pods, err := j.src.PodsOnNode(ctx, node)
	if err != nil {
		return
	}
	for _, p := range pods {
		if o := metav1.GetControllerOf(p); o != nil && byUID[string(o.UID)] != nil {
			delete(byUID, string(o.UID))
			if !ready(p) {
				v.line("the driver's pod %s/%s on %s: %s", p.Namespace, p.Name, node, podState(p))
				v.edge(v.subject, graph.ServedBy, j.pod(p))
			}
		}
	}
	for _, d := range byUID {
		v.line("DaemonSet %s/%s has no pod on %s", d.Namespace, d.Name, node)
		v.edge(v.subject, graph.ServedBy, j.ref("apps", "DaemonSet", d.Namespace, d.Name))
	}
}

// namesDriver finds the driver's name in what the containers are told.
func namesDriver(s *corev1.PodSpec, driver string) bool {
	whole := regexp.MustCompile(`(?:^|[^A-Za-z0-9.-])` + regexp.QuoteMeta(driver) + `(?:$|[^A-Za-z0-9.-])`)
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		if slices.ContainsFunc(slices.Concat(c.Command, c.Args), whole.MatchString) ||
			slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return whole.MatchString(e.Value) }) {
			return true
		}
	}
	return slices.ContainsFunc(s.Volumes, func(x corev1.Volume) bool { return x.HostPath != nil && whole.MatchString(x.HostPath.Path) })
}

func provisions(s *corev1.PodSpec) bool {
	return slices.ContainsFunc(s.Containers, func(c corev1.Container) bool {
		return strings.Contains(c.Image, "provisioner") || strings.Contains(c.Name, "provisioner")
	})
}

// alikeDriver reports whether a workload is named for a driver: "ebs-csi-controller"
// for ebs.csi.aws.com.
func alikeDriver(name, driver string) bool {
	first, _, _ := strings.Cut(driver, ".")
	if _, after, ok := strings.Cut(driver, "/"); ok && !strings.Contains(first, "-") {
		first = after
	}
	return len(first) > 2 && strings.Contains(name, first)
}

// agents ties a pod whose sandbox cannot be made to the network agents of its
// node that are in trouble: those the kubelet's message names, or else every
// agent on the host's network that is not ready.
func (j *judge) agents(ctx context.Context, v *verdict, node, message string) string {
	pods, err := j.src.PodsOnNode(ctx, node)
	if err != nil {
		return ""
	}
	plugin := ""
	if m := regexp.MustCompile(`plugin type="([^"]+)"`).FindStringSubmatch(message); m != nil {
		plugin = m[1]
	}
	vendor, _, _ := strings.Cut(plugin, "-")
	var named, others []*corev1.Pod
	for _, p := range pods {
		o := metav1.GetControllerOf(p)
		if ready(p) || o == nil || o.Kind != "DaemonSet" {
			continue
		}
		switch {
		case len(vendor) > 2 && strings.Contains(p.Name, vendor):
			named = append(named, p)
		case p.Spec.HostNetwork && (containsAny(p.Name, "cni", "cilium", "calico", "flannel", "weave", "multus", "antrea", "ovn", "kindnet", "canal", "aws-node", "azure-", "network", "proxy")):
			others = append(others, p)
		}
	}
	if len(named) == 0 {
		named = others
	}
	var said []string
	for _, p := range limit(named, worstPods) {
		said = append(said, fmt.Sprintf("pod %s/%s is %s", p.Namespace, p.Name, podState(p)))
		v.line("network agent %s/%s on %s: %s", p.Namespace, p.Name, node, podState(p))
		v.edge(v.subject, graph.ServedBy, j.pod(p))
	}
	return strings.Join(said, ", ")
}

// controller ties an Ingress that has no address to the controller of its class,
// when that has no ready replica. An Ingress without an address is no trouble by
// itself: many a controller never writes one.
func (j *judge) controller(ctx context.Context, v *verdict, i *networkingv1.Ingress, class string) {
	if len(i.Status.LoadBalancer.Ingress) > 0 || j.now().Sub(i.CreationTimestamp.Time) < creating || class == "" {
		return
	}
	c, err := j.src.IngressClass(ctx, class)
	if err != nil || c.Spec.Controller == "" {
		return
	}
	_, short, _ := strings.Cut(c.Spec.Controller, "/")
	list, err := j.src.Deployments(ctx, "")
	if err != nil {
		return
	}
	var named, alike []*appsv1.Deployment
	for _, d := range list {
		switch {
		case namesDriver(&d.Spec.Template.Spec, c.Spec.Controller):
			named = append(named, d)
		case len(short) > 3 && strings.Contains(d.Name, short) && strings.Contains(d.Name, "controller"):
			alike = append(alike, d)
		}
	}
	if len(named) == 0 {
		named = alike
	}
	for _, d := range named {
		if d.Status.ReadyReplicas > 0 {
			return
		}
	}
	for _, d := range limit(named, 2) {
		to := j.ref("apps", "Deployment", d.Namespace, d.Name)
		v.line("its controller %s has no ready replica", to)
		v.edge(v.subject, graph.ServedBy, to)
		v.symptom("kube.ingress_not_served", incident.Warning, fmt.Sprintf("%s has no address, and %s, the controller of its class %s, has no ready replica", v.subject, to, class), params("class", class))
	}
}

package nodepool

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/pattern"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Providers of pools.
const (
	aks       = "AKS"
	eks       = "EKS"
	gke       = "GKE"
	karpenter = "Karpenter"
	capi      = "Cluster API"
	labelled  = "labels"
)

// pool is a set of nodes that are made alike.
type pool struct {
	name string
	// provider that makes the nodes; namespace of its object where it has one.
	provider, namespace string
	nodes               []*corev1.Node
	// group is what the cluster autoscaler says of it, nil if nothing.
	group *group
	// cloud is what the provider's API says of it, nil if nothing.
	cloud *CloudPool
}

// keyed are the labels by which a node tells its pool, the most telling first:
// Karpenter labels its nodes on every provider, and they are in no other pool.
func keyed() []struct{ key, provider string } {
	return []struct{ key, provider string }{
		{"karpenter.sh/nodepool", karpenter},
		{"kubernetes.azure.com/agentpool", aks},
		{"agentpool", aks},
		{"eks.amazonaws.com/nodegroup", eks},
		{"alpha.eksctl.io/nodegroup-name", eks},
		{"cloud.google.com/gke-nodepool", gke},
		{"topology.cluster.x-k8s.io/deployment-name", capi},
		{"kops.k8s.io/instancegroup", labelled},
		{"doks.digitalocean.com/node-pool", labelled},
		{"node.kubernetes.io/pool", labelled},
		{"node-pool", labelled},
		{"nodepool", labelled},
		{"node.kubernetes.io/nodegroup", labelled},
	}
}

// memberOf tells the pool of a node: by a provider's label, by the annotations of
// Cluster API, or, where there is neither, by machine type and accelerator.
func memberOf(n *corev1.Node) (name, provider string) {
	for _, k := range keyed() {
		if v := n.Labels[k.key]; v != "" {
			return v, k.provider
		}
	}
	// Cluster API writes the owner of the machine onto the node.
	if n.Annotations["cluster.x-k8s.io/owner-kind"] == "MachineSet" {
		// A MachineSet is its MachineDeployment's name and a hash.
		if at := strings.LastIndex(n.Annotations["cluster.x-k8s.io/owner-name"], "-"); at > 0 {
			return n.Annotations["cluster.x-k8s.io/owner-name"][:at], capi
		}
	}
	kind := first(n.Labels, corev1.LabelInstanceTypeStable, corev1.LabelInstanceType)
	gpu := first(n.Labels, "nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator", "kubernetes.azure.com/accelerator")
	switch {
	case kind != "" && gpu != "":
		return kind + "/" + gpu, labelled
	case kind+gpu != "":
		return kind + gpu, labelled
	case slices.ContainsFunc(slices.Collect(maps.Keys(n.Labels)), func(k string) bool { return k == "node-role.kubernetes.io/control-plane" }):
		return "control-plane", labelled
	}
	return "", ""
}

func first(labels map[string]string, keys ...string) string {
	for _, k := range keys {
		if v := labels[k]; v != "" {
			return v
		}
	}
	return ""
}

// world is what one call knows of the pools.
type world struct {
	pools  []*pool
	byNode map[string]*pool
	nodes  []*corev1.Node
	// pods of the namespace that is asked about, read when first needed: most answers
	// need none, and a namespace may have thousands.
	pods func() []*corev1.Pod
	// status of the cluster autoscaler, nil without one.
	status *caStatus
	gaps   []gapOf
}

type gapOf struct {
	source string
	err    error
}

// take adds a node to its pool.
func (p *pool) take(n *corev1.Node) {
	p.nodes = append(p.nodes, n)
	if p.namespace == "" && p.provider == capi {
		p.namespace = n.Annotations["cluster.x-k8s.io/cluster-namespace"]
	}
}

// near is what is known of one node alone: its pool. That is all a pod that runs well
// needs, and a cluster may have thousands of nodes.
func (t *Toolset) near(ctx context.Context, node string) (*world, error) {
	n, err := t.reads.Node(ctx, node)
	if tool.KindOf(err) == tool.NotFound {
		return &world{}, nil
	}
	if err != nil {
		return nil, err
	}
	w := &world{byNode: map[string]*pool{}, nodes: []*corev1.Node{n}}
	if name, provider := memberOf(n); name != "" {
		p := &pool{name: name, provider: provider}
		p.take(n)
		w.pools, w.byNode[n.Name] = []*pool{p}, p
	}
	return w, nil
}

// look reads nodes, the autoscaler's status and the clouds, and puts them together.
func (t *Toolset) look(ctx context.Context) (*world, error) {
	nodes, err := t.reads.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	w := &world{byNode: map[string]*pool{}, nodes: nodes}
	byName := map[string]*pool{}
	get := func(name, provider string) *pool {
		k := provider + "/" + name
		if byName[k] == nil {
			byName[k] = &pool{name: name, provider: provider}
			w.pools = append(w.pools, byName[k])
		}
		return byName[k]
	}
	for _, n := range nodes {
		name, provider := memberOf(n)
		if name == "" {
			continue
		}
		p := get(name, provider)
		p.take(n)
		w.byNode[n.Name] = p
	}
	t.autoscaler(ctx, w)
	for _, c := range t.clouds {
		got, err := c.pools(ctx)
		if err != nil {
			w.gaps = append(w.gaps, gapOf{c.cloud.Name() + " API", err})
			continue
		}
		for i := range got {
			p := get(got[i].Name, c.cloud.Name())
			p.cloud = &got[i]
		}
	}
	t.karpenterPools(ctx, w, get)
	for _, p := range w.pools {
		slices.SortFunc(p.nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	}
	slices.SortFunc(w.pools, func(a, b *pool) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.provider, b.provider))
	})
	return w, nil
}

// karpenterPools adds the NodePools of Karpenter that have no node now.
func (t *Toolset) karpenterPools(ctx context.Context, w *world, get func(name, provider string) *pool) {
	list, err := t.reads.List(ctx, "nodepools.karpenter.sh")
	if err != nil {
		if tool.KindOf(err) != tool.NotServed {
			w.gaps = append(w.gaps, gapOf{"Karpenter NodePools", err})
		}
		return
	}
	for _, u := range list {
		get(u.GetName(), karpenter)
	}
}

// autoscaler reads the status of the cluster autoscaler and ties its groups to pools.
func (t *Toolset) autoscaler(ctx context.Context, w *world) {
	data, err := t.reads.ConfigMap(ctx, "kube-system", "cluster-autoscaler-status")
	if err != nil {
		if k := tool.KindOf(err); k != tool.NotFound && k != tool.NotServed {
			w.gaps = append(w.gaps, gapOf{"cluster autoscaler status", err})
		}
		return
	}
	st, err := parseStatus(data["status"])
	if err != nil {
		w.gaps = append(w.gaps, gapOf{"cluster autoscaler status", err})
		return
	}
	w.status = st
	for i := range st.groups {
		g := &st.groups[i]
		if p := w.ofGroup(g.name); p != nil {
			p.group = g
			continue
		}
		name, provider, namespace := groupPool(g.name)
		w.pools = append(w.pools, &pool{name: name, provider: provider, namespace: namespace, group: g})
	}
}

var (
	vmss   = pattern.New(`^aks-([a-z0-9]+)-\d+-vmss$`)
	eksAsg = pattern.New(`^eks-(.+)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// groupPool reads a pool's name out of the name that the autoscaler has for its
// group: a scale set of AKS, an auto scaling group of EKS, a MachineDeployment.
func groupPool(group string) (name, provider, namespace string) {
	if m := vmss.FindStringSubmatch(group); m != nil {
		return m[1], aks, ""
	}
	if m := eksAsg.FindStringSubmatch(group); m != nil {
		return m[1], eks, ""
	}
	if parts := strings.Split(group, "/"); len(parts) == 3 && strings.HasPrefix(parts[0], "Machine") {
		return parts[2], capi, parts[1]
	}
	return group[strings.LastIndex(group, "/")+1:], labelled, ""
}

// ofGroup finds the pool of a group of the autoscaler: by what its name says, or the
// one pool whose name is a part of it.
func (w *world) ofGroup(group string) *pool {
	name, _, _ := groupPool(group)
	var like []*pool
	for _, p := range w.pools {
		if p.name == name {
			return p
		}
		if part(group, p.name) {
			like = append(like, p)
		}
	}
	// "gpu" is a part of gke-c-gpu-large-1a2b-grp too: the longest name wins.
	slices.SortFunc(like, func(a, b *pool) int { return len(b.name) - len(a.name) })
	if len(like) == 1 || len(like) > 1 && len(like[0].name) > len(like[1].name) {
		return like[0]
	}
	return nil
}

// part reports whether a name is a whole part of a longer one, between its marks.
func part(whole, name string) bool {
	at := strings.Index(whole, name)
	if at < 0 || len(name) < 2 {
		return false
	}
	edge := func(i int) bool { return i < 0 || i >= len(whole) || strings.ContainsRune("-_/.", rune(whole[i])) }
	return edge(at-1) && edge(at+len(name))
}

// traits are what the nodes of a pool have alike or not.
type traits struct {
	Versions, Images, SKUs, GPUs, Drivers, Kernels, Zones, Taints []string
	Ready, Cordoned, Draining                                     int
}

// traitsOf collects the traits of nodes; values are sorted, each once.
func traitsOf(nodes []*corev1.Node) traits {
	var t traits
	add := func(to *[]string, v string) {
		if v != "" && !slices.Contains(*to, v) {
			*to = append(*to, v)
		}
	}
	for _, n := range nodes {
		add(&t.Versions, n.Status.NodeInfo.KubeletVersion)
		add(&t.Images, imageOf(n))
		add(&t.SKUs, first(n.Labels, corev1.LabelInstanceTypeStable, corev1.LabelInstanceType))
		add(&t.GPUs, first(n.Labels, "nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator"))
		add(&t.Drivers, driverOf(n))
		add(&t.Kernels, n.Status.NodeInfo.KernelVersion)
		add(&t.Zones, n.Labels[corev1.LabelTopologyZone])
		for _, x := range n.Spec.Taints {
			if !strings.HasPrefix(x.Key, "node.kubernetes.io/") {
				add(&t.Taints, taintText(x))
			}
		}
		if ready(n) {
			t.Ready++
		}
		if n.Spec.Unschedulable {
			t.Cordoned++
		}
	}
	for _, s := range []*[]string{&t.Versions, &t.Images, &t.SKUs, &t.GPUs, &t.Drivers, &t.Kernels, &t.Zones, &t.Taints} {
		slices.Sort(*s)
	}
	return t
}

// imageOf names the node image: as the provider labels it, or the operating system.
func imageOf(n *corev1.Node) string {
	return cmp.Or(first(n.Labels, "kubernetes.azure.com/node-image-version", "eks.amazonaws.com/nodegroup-image", "karpenter.k8s.aws/instance-ami-id", "cloud.google.com/gke-os-distribution"), n.Status.NodeInfo.OSImage)
}

// driverOf reads the version of the NVIDIA driver from the labels of GPU feature
// discovery, of either generation, or of GKE.
func driverOf(n *corev1.Node) string {
	if v := first(n.Labels, "nvidia.com/cuda.driver-version.full", "nvidia.com/gpu.driver-version", "cloud.google.com/gke-gpu-driver-version"); v != "" {
		return v
	}
	v := n.Labels["nvidia.com/cuda.driver.major"]
	for _, k := range []string{"nvidia.com/cuda.driver.minor", "nvidia.com/cuda.driver.rev"} {
		if x := n.Labels[k]; v != "" && x != "" {
			v += "." + x
		}
	}
	return v
}

func taintText(t corev1.Taint) string {
	s := t.Key
	if t.Value != "" {
		s += "=" + t.Value
	}
	return s + ":" + string(t.Effect)
}

func ready(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// youngest is when the newest node of a pool was made.
func youngest(nodes []*corev1.Node) time.Time {
	var at time.Time
	for _, n := range nodes {
		if n.CreationTimestamp.After(at) {
			at = n.CreationTimestamp.Time
		}
	}
	return at
}

// differ says what two sets of nodes have not in common, one clause each.
func differ(a, b traits) []string {
	var out []string
	for _, x := range []struct {
		name string
		a, b []string
	}{{"GPU driver", a.Drivers, b.Drivers}, {"node image", a.Images, b.Images}, {"kubelet", a.Versions, b.Versions}, {"kernel", a.Kernels, b.Kernels}, {"GPU", a.GPUs, b.GPUs}, {"machine type", a.SKUs, b.SKUs}, {"zone", a.Zones, b.Zones}, {"taint", a.Taints, b.Taints}} {
		if !slices.Equal(x.a, x.b) {
			out = append(out, x.name+" "+orNone(x.a)+" against "+orNone(x.b))
		}
	}
	return out
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

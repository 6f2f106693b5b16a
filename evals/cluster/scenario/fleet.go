package scenario

import (
	"bytes"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Group is a number of like nodes, with the devices they offer.
type Group struct {
	// Preset fills what is left out: h100, a100, cpu, or nic (H100s and NICs that
	// share NUMA nodes and no PCIe root).
	Preset string `json:"preset,omitempty"`
	// Prefix of the node names; nodes are called prefix-1, prefix-2, ...
	Prefix string `json:"prefix"`
	Count  int    `json:"count"`
	// CPU and Memory allocatable; 64 and 512Gi unless said.
	CPU    string            `json:"cpu,omitempty"`
	Memory string            `json:"memory,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Taints []corev1.Taint    `json:"taints,omitempty"`
	// Unschedulable cordons the nodes.
	Unschedulable bool `json:"unschedulable,omitempty"`
	// Extended resources of a device plugin, allocatable.
	Extended map[string]string `json:"extended,omitempty"`
	// Conditions beside Ready=True.
	Conditions []corev1.NodeCondition `json:"conditions,omitempty"`
	Devices    []Devices              `json:"devices,omitempty"`
	// Manual keeps kwok away: the scenario writes what a kubelet would.
	Manual bool `json:"manual,omitempty"`
}

// Devices is what one node publishes for one driver: one pool, one slice.
type Devices struct {
	Driver string `json:"driver"`
	// Name prefix of the devices: "gpu" gives gpu-0, gpu-1, ...
	Name    string `json:"name"`
	PerNode int    `json:"perNode"`
	// Attributes: text, unless written as "int:8", "bool:true", "version:1.2.3".
	Attributes map[string]string `json:"attributes,omitempty"`
	Capacity   map[string]string `json:"capacity,omitempty"`
	// Numa spreads the standard numaNode attribute over this many nodes.
	Numa int `json:"numa,omitempty"`
	// PCIeGroup gives each device the standard pcieRoot; devices share a root
	// in groups of this size.
	PCIeGroup int `json:"pcieGroup,omitempty"`
	// PCIePrefix begins the root's name: "pci0000:" unless said.
	PCIePrefix string                    `json:"pciePrefix,omitempty"`
	Taints     []resourceapi.DeviceTaint `json:"taints,omitempty"`
	// SliceCount overrides resourceSliceCount, to make a pool incomplete.
	SliceCount int64 `json:"sliceCount,omitempty"`
	// OnFirst gives only the first N nodes the devices; 0 means all.
	OnFirst int `json:"onFirst,omitempty"`
}

// fleet writes the objects of the groups as one stream of documents.
func fleet(groups []Group) ([]byte, error) {
	var b bytes.Buffer
	put := func(o any) error {
		raw, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		b.WriteString("---\n")
		b.Write(raw)
		return nil
	}
	for _, g := range groups {
		if err := g.fill(); err != nil {
			return nil, err
		}
		for n := 1; n <= g.Count; n++ {
			name := fmt.Sprintf("%s-%d", g.Prefix, n)
			node, err := g.node(name)
			if err != nil {
				return nil, err
			}
			if err := put(node); err != nil {
				return nil, err
			}
			for _, d := range g.Devices {
				if d.OnFirst > 0 && n > d.OnFirst {
					continue
				}
				slice, err := d.slice(name)
				if err != nil {
					return nil, err
				}
				if err := put(slice); err != nil {
					return nil, err
				}
			}
		}
	}
	return b.Bytes(), nil
}

func (g Group) node(name string) (*corev1.Node, error) {
	n := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
	}}
	if !g.Manual {
		n.Annotations = map[string]string{"kwok.x-k8s.io/node": "fake"}
	}
	for k, v := range g.Labels {
		n.Labels[k] = v
	}
	n.Spec.Taints, n.Spec.Unschedulable = g.Taints, g.Unschedulable
	list := corev1.ResourceList{}
	add := func(k, v, fallback string) error {
		if v == "" {
			v = fallback
		}
		q, err := resource.ParseQuantity(v)
		if err != nil {
			return fmt.Errorf("node group %s: %s %q: %w", g.Prefix, k, v, err)
		}
		list[corev1.ResourceName(k)] = q
		return nil
	}
	if err := add("cpu", g.CPU, "64"); err != nil {
		return nil, err
	}
	if err := add("memory", g.Memory, "512Gi"); err != nil {
		return nil, err
	}
	if err := add("pods", "", "110"); err != nil {
		return nil, err
	}
	for k, v := range g.Extended {
		if err := add(k, v, "0"); err != nil {
			return nil, err
		}
	}
	n.Status.Allocatable, n.Status.Capacity = list, list
	n.Status.NodeInfo.KubeletVersion = "v1.37.2"
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	for _, c := range append([]corev1.NodeCondition{ready}, g.Conditions...) {
		if c.Type == corev1.NodeReady && len(n.Status.Conditions) > 0 && n.Status.Conditions[0].Type == corev1.NodeReady {
			n.Status.Conditions[0] = c
			continue
		}
		n.Status.Conditions = append(n.Status.Conditions, c)
	}
	return n, nil
}

func (d Devices) slice(node string) (*resourceapi.ResourceSlice, error) {
	count := d.SliceCount
	if count == 0 {
		count = 1
	}
	s := &resourceapi.ResourceSlice{TypeMeta: metav1.TypeMeta{APIVersion: "resource.k8s.io/v1", Kind: "ResourceSlice"},
		ObjectMeta: metav1.ObjectMeta{Name: node + "-" + sanitize(d.Driver)},
		Spec: resourceapi.ResourceSliceSpec{Driver: d.Driver, NodeName: &node,
			Pool: resourceapi.ResourcePool{Name: node, Generation: 1, ResourceSliceCount: count}}}
	for i := range d.PerNode {
		dev := resourceapi.Device{Name: fmt.Sprintf("%s-%d", d.Name, i), Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{}, Taints: d.Taints}
		for k, v := range d.Attributes {
			a, err := attribute(v)
			if err != nil {
				return nil, fmt.Errorf("driver %s, attribute %s: %w", d.Driver, k, err)
			}
			dev.Attributes[resourceapi.QualifiedName(k)] = a
		}
		if d.Numa > 0 {
			v := int64(i * d.Numa / d.PerNode)
			dev.Attributes["resource.kubernetes.io/numaNode"] = resourceapi.DeviceAttribute{IntValue: &v}
		}
		if d.PCIeGroup > 0 {
			prefix := d.PCIePrefix
			if prefix == "" {
				prefix = "pci0000:"
			}
			v := fmt.Sprintf("%s%02x", prefix, i/d.PCIeGroup*16)
			dev.Attributes["resource.kubernetes.io/pcieRoot"] = resourceapi.DeviceAttribute{StringValue: &v}
		}
		for k, v := range d.Capacity {
			q, err := resource.ParseQuantity(v)
			if err != nil {
				return nil, fmt.Errorf("driver %s, capacity %s %q: %w", d.Driver, k, v, err)
			}
			if dev.Capacity == nil {
				dev.Capacity = map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{}
			}
			dev.Capacity[resourceapi.QualifiedName(k)] = resourceapi.DeviceCapacity{Value: q}
		}
		s.Spec.Devices = append(s.Spec.Devices, dev)
	}
	return s, nil
}

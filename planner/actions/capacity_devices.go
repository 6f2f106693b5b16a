package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Devices is what the scheduler's allocator sees of dynamic resources.
type Devices struct {
	Slices  []*resourceapi.ResourceSlice
	Claims  []*resourceapi.ResourceClaim
	Classes []*resourceapi.DeviceClass
	Rules   []*resourceapi.DeviceTaintRule
	// RulesServed says that the server has DeviceTaintRules.
	RulesServed bool
}

// Allocate asks the scheduler's own allocator for devices on one node, for claims
// that have no allocation yet and for the extended resources of the pod that a
// DeviceClass answers for. It gives the claims with their allocation, and of claims
// that do not fit why. The error says that it cannot be told.
type Allocate func(ctx context.Context, d Devices, n *corev1.Node, p *corev1.Pod, claims []*resourceapi.ResourceClaim) (allocated []*resourceapi.ResourceClaim, why string, err error)

// devices is the state of DRA while pods are placed.
type devices struct {
	c   *Cluster
	all Devices
	// served says that the cluster has ResourceClaims; err why they cannot be read.
	served bool
	err    error
}

// newDevices reads what there is of DRA. The claims that are held by nothing but
// pods that leave count as free.
func newDevices(ctx context.Context, c *Cluster, leaving []*corev1.Pod) *devices {
	d := &devices{c: c}
	if _, err := c.mapping("ResourceClaim.resource.k8s.io"); err != nil {
		return d
	}
	d.served = true
	read := func(kind string, add func(*Object) error) {
		list, err := c.List(ctx, kind, "", "", "")
		for _, o := range list {
			if err == nil {
				err = add(o)
			}
		}
		if err != nil && d.err == nil {
			d.err = err
		}
	}
	read("ResourceSlice.resource.k8s.io", into(&d.all.Slices))
	read("DeviceClass.resource.k8s.io", into(&d.all.Classes))
	var claims []*resourceapi.ResourceClaim
	read("ResourceClaim.resource.k8s.io", into(&claims))
	if _, err := c.mapping("DeviceTaintRule.resource.k8s.io"); err == nil {
		d.all.RulesServed = true
		read("DeviceTaintRule.resource.k8s.io", into(&d.all.Rules))
	}
	gone := map[types.UID]bool{}
	for _, p := range leaving {
		gone[p.UID] = true
	}
	for _, k := range claims {
		if d.idle(k, gone) {
			if madeForPod(k) {
				continue // it is deleted with its pod
			}
			k.Status = resourceapi.ResourceClaimStatus{}
		}
		d.all.Claims = append(d.all.Claims, k)
	}
	return d
}

func into[T any](to *[]*T) func(*Object) error {
	return func(o *Object) error {
		t, err := as[T](o)
		*to = append(*to, t)
		return err
	}
}

// idle reports whether a claim is held by pods that leave, and by nobody else.
func (d *devices) idle(k *resourceapi.ResourceClaim, gone map[types.UID]bool) bool {
	return len(k.Status.ReservedFor) > 0 && !slices.ContainsFunc(k.Status.ReservedFor, func(r resourceapi.ResourceClaimConsumerReference) bool {
		if r.Resource != "pods" {
			return true
		}
		u, planned := d.c.planned[incident.Ref{Cluster: d.c.name, Namespace: k.Namespace, Kind: "Pod", Name: r.Name}]
		return !gone[r.UID] && (!planned || u != nil)
	})
}

func madeForPod(k *resourceapi.ResourceClaim) bool {
	return slices.ContainsFunc(k.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Pod" && o.Controller != nil && *o.Controller })
}

// wants gives the claims that the successor of a pod brings, and what of them cannot be judged.
func (d *devices) wants(ctx context.Context, p *corev1.Pod) (claims []*resourceapi.ResourceClaim, open []string) {
	extended := false
	for name, q := range resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}) {
		extended = extended || !q.IsZero() && d.answers(name)
	}
	if len(p.Spec.ResourceClaims) == 0 && !extended {
		return nil, nil
	}
	switch {
	case d.err != nil:
		return nil, []string{"the devices that it claims: " + d.err.Error()}
	case d.c.allocate == nil:
		return nil, []string{"the devices that it claims: the scheduler's allocator is not at hand"}
	case !d.served:
		return nil, []string{"the devices that it claims: the cluster serves no ResourceClaims"}
	}
	for _, pc := range p.Spec.ResourceClaims {
		k, err := d.claim(ctx, p, pc)
		if err != nil {
			open = append(open, fmt.Sprintf("claim %s of the pod: %v", pc.Name, err))
			continue
		}
		claims = append(claims, k)
	}
	return claims, open
}

func (d *devices) claim(ctx context.Context, p *corev1.Pod, pc corev1.PodResourceClaim) (*resourceapi.ResourceClaim, error) {
	switch {
	case pc.ResourceClaimName != nil:
		for _, k := range d.all.Claims {
			if k.Namespace == p.Namespace && k.Name == *pc.ResourceClaimName {
				return k, nil
			}
		}
		return nil, fmt.Errorf("ResourceClaim %s is not there", *pc.ResourceClaimName)
	case pc.ResourceClaimTemplateName != nil:
		o, err := d.c.Get(ctx, "ResourceClaimTemplate.resource.k8s.io", p.Namespace, *pc.ResourceClaimTemplateName)
		if err != nil {
			return nil, err
		}
		t, err := as[resourceapi.ResourceClaimTemplate](o)
		if err != nil {
			return nil, err
		}
		k := &resourceapi.ResourceClaim{Spec: t.Spec.Spec}
		k.Namespace, k.Name = p.Namespace, p.Name+"-"+pc.Name
		k.UID = types.UID(fmt.Sprintf("claim %s of the successor of %s", pc.Name, p.UID))
		return k, nil
	}
	return nil, fmt.Errorf("it belongs to a group of pods")
}

// answers reports whether a DeviceClass answers for an extended resource.
func (d *devices) answers(name corev1.ResourceName) bool {
	class, ok := strings.CutPrefix(string(name), resourceapi.ResourceDeviceClassPrefix)
	return slices.ContainsFunc(d.all.Classes, func(k *resourceapi.DeviceClass) bool {
		return ok && k.Name == class || k.Spec.ExtendedResourceName != nil && *k.Spec.ExtendedResourceName == string(name)
	})
}

// allocate takes the devices of a pod's claims on a node, or says why it cannot.
func (d *devices) allocate(ctx context.Context, n *corev1.Node, p *corev1.Pod, claims []*resourceapi.ResourceClaim) (why string, err error) {
	extended := false
	for name, q := range resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}) {
		have := n.Status.Allocatable[name]
		extended = extended || !q.IsZero() && have.IsZero() && d.answers(name)
	}
	if len(claims) == 0 && !extended || d.c.allocate == nil {
		return "", nil
	}
	got, why, err := d.c.allocate(ctx, d.all, n, p, claims)
	if err != nil || why != "" {
		return why, err
	}
	for _, k := range got {
		i := slices.IndexFunc(d.all.Claims, func(o *resourceapi.ResourceClaim) bool { return o.Namespace == k.Namespace && o.Name == k.Name })
		if i < 0 {
			d.all.Claims = append(d.all.Claims, k)
			continue
		}
		d.all.Claims[i] = k
	}
	return "", nil
}

// free says how many devices of a node are free, of the drivers that answer the
// pod's claims there; empty where the pod claims none.
func (d *devices) free(n *corev1.Node, p *corev1.Pod) string {
	if len(p.Spec.ResourceClaims) == 0 || d.c.allocate == nil {
		return ""
	}
	mine := map[string]bool{}
	taken := map[string]bool{}
	for _, k := range d.all.Claims {
		if k.Status.Allocation == nil {
			continue
		}
		own := k.Namespace == p.Namespace && strings.HasPrefix(k.Name, p.Name+"-") && strings.HasSuffix(string(k.UID), "of the successor of "+string(p.UID))
		for _, x := range k.Status.Allocation.Devices.Results {
			if own {
				mine[x.Driver] = true
				continue
			}
			taken[x.Driver+"/"+x.Pool+"/"+x.Device] = true
		}
	}
	total, free := 0, 0
	for _, s := range d.all.Slices {
		if s.Spec.NodeName == nil || *s.Spec.NodeName != n.Name || len(mine) > 0 && !mine[s.Spec.Driver] {
			continue
		}
		for i := range s.Spec.Devices {
			if total++; !taken[s.Spec.Driver+"/"+s.Spec.Pool.Name+"/"+s.Spec.Devices[i].Name] {
				free++
			}
		}
	}
	if total == 0 {
		return "its claims can be allocated there"
	}
	return fmt.Sprintf("%d of %s free", free, count(total, "device"))
}

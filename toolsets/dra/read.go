package dra

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	draclient "k8s.io/dynamic-resource-allocation/client"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// Page sizes: a slice of 128 devices is large, a node carries its image list.
const (
	slicePage = 200
	pageSize  = 2000
)

// served is what discovery says about resource.k8s.io.
type served struct {
	// version of the four main kinds, newest first choice; empty when not served.
	version string
	// rules is the version that serves DeviceTaintRule; empty when none does.
	rules string
	minor int
}

// reader lists what the tools need, each kind once per TTL.
type reader struct {
	client kubernetes.Interface
	dyn    dynamic.Interface
	disco  discovery.DiscoveryInterface
	dra    *draclient.Client
	now    func() time.Time

	// shared, where set, lists the nodes instead of client.
	shared  func(context.Context) ([]*corev1.Node, error)
	served  *tool.Kept[served]
	nodes   *tool.Kept[[]*corev1.Node]
	fleet   *tool.Kept[*fleet]
	claims  *tool.Kept[[]*resourceapi.ResourceClaim]
	classes *tool.Kept[allocator.Classes]
	rules   *tool.Kept[[]*resourceapi.DeviceTaintRule]
	daemons *tool.Kept[[]*appsv1.DaemonSet]
	world   *tool.Kept[*world]
}

func newReader(c Config) *reader {
	keep := tool.Keep{Now: c.Now, For: c.TTL}
	return &reader{
		client: c.Client, dyn: c.Dynamic, disco: c.Discovery, dra: draclient.New(c.Client), now: c.Now, shared: c.Nodes,
		served:  tool.NewKept[served](keep),
		nodes:   tool.NewKept[[]*corev1.Node](keep),
		fleet:   tool.NewKept[*fleet](keep),
		claims:  tool.NewKept[[]*resourceapi.ResourceClaim](keep),
		classes: tool.NewKept[allocator.Classes](keep),
		rules:   tool.NewKept[[]*resourceapi.DeviceTaintRule](keep),
		daemons: tool.NewKept[[]*appsv1.DaemonSet](keep),
		world:   tool.NewKept[*world](keep),
	}
}

// api asks discovery which versions of which kinds there are.
func (r *reader) api(ctx context.Context) (served, error) {
	return r.served.Get(ctx, "", func(context.Context) (served, error) {
		var out served
		groups, err := r.disco.ServerGroups()
		if err != nil {
			return out, failure(err, "discover", "API groups", "", "")
		}
		i := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == resourceapi.GroupName })
		if i < 0 {
			return out, nil
		}
		for _, v := range groups.Groups[i].Versions {
			list, err := r.disco.ServerResourcesForGroupVersion(v.GroupVersion)
			if err != nil {
				continue // served a moment ago; the next look will tell
			}
			for _, res := range list.APIResources {
				switch res.Name {
				case "resourceclaims":
					out.version = newer(out.version, v.Version)
				case "devicetaintrules":
					out.rules = newer(out.rules, v.Version)
				}
			}
		}
		if info, err := r.disco.ServerVersion(); err == nil {
			out.minor, _ = strconv.Atoi(strings.TrimRight(info.Minor, "+"))
		}
		return out, nil
	})
}

// newer picks the more mature of two API versions: v1, then betas, then alphas.
func newer(a, b string) string {
	rank := func(v string) int {
		switch {
		case v == "":
			return 0
		case strings.Contains(v, "alpha"):
			return 1
		case v == "v1beta1":
			return 2
		case strings.Contains(v, "beta"):
			return 3
		}
		return 4
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// pages lists everything page by page and hands each page over while the next one is
// under way, so that no more than three exist in their full form: one that is taken,
// one that waits and one that comes in. take is called by one goroutine at a time, in
// order, and not after pages has returned.
func pages[L metav1.ListInterface](ctx context.Context, opts metav1.ListOptions, list func(context.Context, metav1.ListOptions) (L, error), take func(L)) error {
	l, err := list(ctx, opts)
	if err != nil {
		return err
	}
	if opts.Continue = l.GetContinue(); opts.Continue == "" {
		take(l)
		return nil
	}
	got := make(chan L, 1)
	var taker sync.WaitGroup
	taker.Go(func() {
		for l := range got {
			take(l)
		}
	})
	defer taker.Wait()
	defer close(got)
	for got <- l; opts.Continue != ""; got <- l {
		if l, err = list(ctx, opts); err != nil {
			return err
		}
		opts.Continue = l.GetContinue()
	}
	return nil
}

// slim drops what no tool reads and what makes objects large.
func slim(m *metav1.ObjectMeta) {
	m.ManagedFields = nil
	delete(m.Annotations, corev1.LastAppliedConfigAnnotation)
}

func (r *reader) listNodes(ctx context.Context) ([]*corev1.Node, error) {
	if r.shared != nil {
		return r.shared(ctx)
	}
	return r.nodes.Get(ctx, "", func(ctx context.Context) ([]*corev1.Node, error) {
		var out []*corev1.Node
		err := pages(ctx, metav1.ListOptions{Limit: pageSize}, r.client.CoreV1().Nodes().List, func(l *corev1.NodeList) {
			for i := range l.Items {
				n := &l.Items[i]
				out = append(out, &corev1.Node{
					ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, Labels: n.Labels, CreationTimestamp: n.CreationTimestamp, DeletionTimestamp: n.DeletionTimestamp},
					Spec:       corev1.NodeSpec{Taints: n.Spec.Taints, Unschedulable: n.Spec.Unschedulable, ProviderID: n.Spec.ProviderID},
					Status:     corev1.NodeStatus{Allocatable: n.Status.Allocatable, Conditions: n.Status.Conditions, DeclaredFeatures: n.Status.DeclaredFeatures},
				})
			}
		})
		slices.SortFunc(out, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
		return out, failure(err, "list", "nodes", "", "")
	})
}

func (r *reader) listFleet(ctx context.Context) (*fleet, error) {
	return r.fleet.Get(ctx, "", func(ctx context.Context) (*fleet, error) {
		f := newFleet()
		err := pages(ctx, metav1.ListOptions{Limit: slicePage}, r.dra.ResourceSlices().List, func(l *resourceapi.ResourceSliceList) {
			for i := range l.Items {
				f.add(&l.Items[i])
			}
		})
		if err != nil {
			return nil, failure(err, "list", "resourceslices.resource.k8s.io", "", "")
		}
		f.seal()
		return f, nil
	})
}

func (r *reader) listClaims(ctx context.Context) ([]*resourceapi.ResourceClaim, error) {
	return r.claims.Get(ctx, "", func(ctx context.Context) ([]*resourceapi.ResourceClaim, error) {
		var out []*resourceapi.ResourceClaim
		err := pages(ctx, metav1.ListOptions{Limit: pageSize}, r.dra.ResourceClaims(metav1.NamespaceAll).List, func(l *resourceapi.ResourceClaimList) {
			for i := range l.Items {
				slim(&l.Items[i].ObjectMeta)
				out = append(out, &l.Items[i])
			}
		})
		slices.SortFunc(out, func(a, b *resourceapi.ResourceClaim) int {
			return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
		})
		return out, failure(err, "list", "resourceclaims.resource.k8s.io", "", "")
	})
}

func (r *reader) listClasses(ctx context.Context) (allocator.Classes, error) {
	return r.classes.Get(ctx, "", func(ctx context.Context) (allocator.Classes, error) {
		out := allocator.Classes{}
		err := pages(ctx, metav1.ListOptions{Limit: pageSize}, r.dra.DeviceClasses().List, func(l *resourceapi.DeviceClassList) {
			for i := range l.Items {
				l.Items[i].ManagedFields = nil // the applied manifest stays: it shows dropped fields
				out[l.Items[i].Name] = &l.Items[i]
			}
		})
		return out, failure(err, "list", "deviceclasses.resource.k8s.io", "", "")
	})
}

// listRules reads DeviceTaintRules in whatever version the server has: v1alpha3
// (1.33), v1beta2 (1.36) or v1 (1.37).
func (r *reader) listRules(ctx context.Context) ([]*resourceapi.DeviceTaintRule, error) {
	s, err := r.api(ctx)
	if err != nil || s.rules == "" {
		return nil, err
	}
	return r.rules.Get(ctx, "", func(ctx context.Context) ([]*resourceapi.DeviceTaintRule, error) {
		var out []*resourceapi.DeviceTaintRule
		var err error
		if s.rules == "v1" || r.dyn == nil {
			err = pages(ctx, metav1.ListOptions{Limit: pageSize}, r.dra.DeviceTaintRules().List, func(l *resourceapi.DeviceTaintRuleList) {
				for i := range l.Items {
					slim(&l.Items[i].ObjectMeta)
					out = append(out, &l.Items[i])
				}
			})
		} else {
			out, err = r.oldRules(ctx, s.rules)
		}
		slices.SortFunc(out, func(a, b *resourceapi.DeviceTaintRule) int { return strings.Compare(a.Name, b.Name) })
		return out, failure(err, "list", "devicetaintrules.resource.k8s.io", "", "")
	})
}

// oldRules reads rules of an older version. Up to 1.34 a rule could select by
// class and CEL as well; such a rule is left out, because applying it without
// these selectors would taint too much, and its name is kept as a mark.
func (r *reader) oldRules(ctx context.Context, version string) ([]*resourceapi.DeviceTaintRule, error) {
	gvr := schema.GroupVersionResource{Group: resourceapi.GroupName, Version: version, Resource: "devicetaintrules"}
	l, err := r.dyn.Resource(gvr).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []*resourceapi.DeviceTaintRule
	for i := range l.Items {
		rule := &resourceapi.DeviceTaintRule{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(l.Items[i].Object, rule); err != nil {
			return nil, fmt.Errorf("DeviceTaintRule %s: %w", l.Items[i].GetName(), err)
		}
		spec, _ := l.Items[i].Object["spec"].(map[string]any)
		sel, _ := spec["deviceSelector"].(map[string]any)
		if sel["deviceClassName"] != nil || sel["selectors"] != nil {
			rule.Spec.DeviceSelector = nil
		}
		out = append(out, rule)
	}
	return out, nil
}

func (r *reader) listDaemons(ctx context.Context) ([]*appsv1.DaemonSet, error) {
	return r.daemons.Get(ctx, "", func(ctx context.Context) ([]*appsv1.DaemonSet, error) {
		var out []*appsv1.DaemonSet
		err := pages(ctx, metav1.ListOptions{Limit: pageSize}, r.client.AppsV1().DaemonSets(metav1.NamespaceAll).List, func(l *appsv1.DaemonSetList) {
			for i := range l.Items {
				slim(&l.Items[i].ObjectMeta)
				out = append(out, &l.Items[i])
			}
		})
		slices.SortFunc(out, func(a, b *appsv1.DaemonSet) int {
			return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
		})
		return out, failure(err, "list", "daemonsets.apps", "", "")
	})
}

func (r *reader) pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	p, err := r.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, failure(err, "get", "pods", namespace, name)
	}
	return p, nil
}

func (r *reader) claim(ctx context.Context, namespace, name string) (*resourceapi.ResourceClaim, error) {
	c, err := r.dra.ResourceClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, failure(err, "get", "resourceclaims.resource.k8s.io", namespace, name)
	}
	return c, nil
}

func (r *reader) template(ctx context.Context, namespace, name string) (*resourceapi.ResourceClaimTemplate, error) {
	t, err := r.dra.ResourceClaimTemplates(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, failure(err, "get", "resourceclaimtemplates.resource.k8s.io", namespace, name)
	}
	return t, nil
}

// events lists the events about one object, newest first.
func (r *reader) events(ctx context.Context, namespace, kind, name string) ([]corev1.Event, error) {
	sel := fields.Set{"involvedObject.kind": kind, "involvedObject.name": name}.AsSelector().String()
	var out []corev1.Event
	err := pages(ctx, metav1.ListOptions{Limit: pageSize, FieldSelector: sel}, r.client.CoreV1().Events(namespace).List, func(l *corev1.EventList) {
		for i := range l.Items {
			// A fake or a bundle may not honour the field selector.
			if o := l.Items[i].InvolvedObject; o.Kind == kind && o.Name == name {
				out = append(out, l.Items[i])
			}
		}
	})
	slices.SortStableFunc(out, func(a, b corev1.Event) int { return eventTime(&b).Compare(eventTime(&a)) })
	return out, failure(err, "list", "events", namespace, "")
}

// eventTime is when an event was last seen, in whichever field the reporter used.
func eventTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

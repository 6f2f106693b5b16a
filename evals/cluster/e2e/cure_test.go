package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra"
)

// patient is a pod that waits, and what a person would make anew to help it:
// the specs of claims and pods cannot be changed in place.
type patient struct {
	l    *live
	pod  *corev1.Pod
	spec map[string]*resourceapi.ResourceClaimSpec // by the name in the pod's spec
	// name of the claim object, to the name in the pod's spec.
	entry map[string]string
	// faults of the explanation.
	faults []incident.Finding
	// anew says that the pod and its claims have to be made anew; else the world
	// around them was changed.
	anew bool
	// release gives back what a claim holds.
	release func(ctx context.Context, claim *resourceapi.ResourceClaim) error
}

// remedy reads one form of a change that dra_explain names as one that would
// fit, says how dra_what_if is asked for the same (nil where it cannot be), and makes it.
type remedy struct {
	says   *regexp.Regexp
	whatIf func(p *patient, m []string) *dra.WhatIfIn
	do     func(ctx context.Context, p *patient, m []string) error
}

func remedies() []remedy {
	re := regexp.MustCompile
	ask := func(f func(in *dra.WhatIfIn, m []string)) func(*patient, []string) *dra.WhatIfIn {
		return func(p *patient, m []string) *dra.WhatIfIn {
			in := &dra.WhatIfIn{Namespace: p.pod.Namespace, Pod: p.pod.Name}
			f(in, m)
			return in
		}
	}
	none := func(*patient, []string) *dra.WhatIfIn { return nil }
	return []remedy{
		{re(`^request (\S+) with count (\d+)$`),
			ask(func(in *dra.WhatIfIn, m []string) { in.Request = m[1]; in.Count, _ = strconv.ParseInt(m[2], 10, 64) }),
			func(_ context.Context, p *patient, m []string) error {
				n, err := strconv.ParseInt(m[2], 10, 64)
				if err != nil {
					return err
				}
				return p.request(m[1], func(r part) { *r.mode, *r.count = resourceapi.DeviceAllocationModeExactCount, n })
			}},
		{re(`^request (\S+) with ExactCount 1 instead of All$`),
			ask(func(in *dra.WhatIfIn, m []string) { in.Request, in.Count = m[1], 1 }),
			func(_ context.Context, p *patient, m []string) error {
				return p.request(m[1], func(r part) { *r.mode, *r.count = resourceapi.DeviceAllocationModeExactCount, 1 })
			}},
		{re(`^request (\S+) with (\S+) of capacity (\S+)$`), none,
			func(_ context.Context, p *patient, m []string) error {
				q, err := resource.ParseQuantity(m[2])
				if err != nil {
					return err
				}
				return p.request(m[1], func(r part) {
					if *r.capacity == nil {
						*r.capacity = &resourceapi.CapacityRequirements{}
					}
					if (*r.capacity).Requests == nil {
						(*r.capacity).Requests = map[resourceapi.QualifiedName]resource.Quantity{}
					}
					(*r.capacity).Requests[resourceapi.QualifiedName(m[3])] = q
				})
			}},
		{re(`^request (\S+) with class (\S+)$`),
			ask(func(in *dra.WhatIfIn, m []string) { in.Request, in.Class = m[1], m[2] }),
			func(_ context.Context, p *patient, m []string) error {
				return p.request(m[1], func(r part) { *r.class = m[2] })
			}},
		{re(`^request (\S+) asking for (\S+) (.+)$`),
			func(p *patient, m []string) *dra.WhatIfIn {
				expr, err := p.offered(m[1], m[3])
				if err != nil {
					return nil
				}
				return &dra.WhatIfIn{Namespace: p.pod.Namespace, Pod: p.pod.Name, Request: m[1], Selector: expr}
			},
			func(_ context.Context, p *patient, m []string) error {
				expr, err := p.offered(m[1], m[3])
				if err != nil {
					return err
				}
				i, err := p.blamed(m[1])
				if err != nil {
					return err
				}
				return p.request(m[1], func(r part) { (*r.selectors)[i].CEL = &resourceapi.CELDeviceSelector{Expression: expr} })
			}},
		{re(`^request (\S+) without the condition .*$`),
			func(p *patient, m []string) *dra.WhatIfIn {
				i, err := p.blamed(m[1])
				if err != nil {
					return nil
				}
				return &dra.WhatIfIn{Namespace: p.pod.Namespace, Pod: p.pod.Name, Request: m[1], DropSelector: &i}
			},
			func(_ context.Context, p *patient, m []string) error {
				i, err := p.blamed(m[1])
				if err != nil {
					return err
				}
				return p.request(m[1], func(r part) { *r.selectors = slices.Delete(*r.selectors, i, i+1) })
			}},
		{re(`^selector (\d+) guarded: (.+)$`), none, guard},
		{re(`^request (\S+) tolerating the taint \(or the taint removed\)$`),
			ask(func(in *dra.WhatIfIn, _ []string) { in.IgnoreTaint = true }),
			tolerate},
		{re(`^claim (\S+) without constraint (\d+) \(.*\)$`),
			func(p *patient, m []string) *dra.WhatIfIn {
				i, _ := strconv.Atoi(m[2])
				return &dra.WhatIfIn{Namespace: p.pod.Namespace, Claim: m[1], DropConstraint: &i}
			},
			func(_ context.Context, p *patient, m []string) error {
				i, s, err := p.constraint(m[1], m[2])
				if err == nil {
					s.Devices.Constraints = slices.Delete(s.Devices.Constraints, i, i+1)
				}
				return err
			}},
		{re(`^constraint (\d+) of claim (\S+) with matchAttribute (\S+)$`), none,
			func(_ context.Context, p *patient, m []string) error {
				i, s, err := p.constraint(m[2], m[1])
				if err == nil {
					name := resourceapi.FullyQualifiedName(m[3])
					s.Devices.Constraints[i].MatchAttribute = &name
				}
				return err
			}},
		{re(`^claim (\S+)/(\S+) released(?: by pod (\S+))?`),
			func(p *patient, m []string) *dra.WhatIfIn {
				if m[3] == "" {
					return nil
				}
				return &dra.WhatIfIn{Namespace: p.pod.Namespace, Pod: p.pod.Name, WithoutPod: m[1] + "/" + m[3]}
			},
			free},
		{re(`^claims? (.+) deleted$`), none, freeAll},
		{re(`^the pod allowed on these nodes \((.*)\)$`), none, admit},
	}
}

// part points into one request, or one alternative of it.
type part struct {
	class     *string
	selectors *[]resourceapi.DeviceSelector
	mode      *resourceapi.DeviceAllocationMode
	count     *int64
	tolerates *[]resourceapi.DeviceToleration
	capacity  **resourceapi.CapacityRequirements
}

// request changes the request or alternative of this name.
func (p *patient) request(name string, edit func(part)) error {
	p.anew = true
	for _, s := range p.spec {
		for i := range s.Devices.Requests {
			r := &s.Devices.Requests[i]
			if e := r.Exactly; e != nil && r.Name == name {
				edit(part{&e.DeviceClassName, &e.Selectors, &e.AllocationMode, &e.Count, &e.Tolerations, &e.Capacity})
				return nil
			}
			for j := range r.FirstAvailable {
				if f := &r.FirstAvailable[j]; r.Name+"/"+f.Name == name {
					edit(part{&f.DeviceClassName, &f.Selectors, &f.AllocationMode, &f.Count, &f.Tolerations, &f.Capacity})
					return nil
				}
			}
		}
	}
	return fmt.Errorf("pod %s/%s has no request %s", p.pod.Namespace, p.pod.Name, name)
}

func (p *patient) constraint(claim, index string) (int, *resourceapi.ResourceClaimSpec, error) {
	s := p.spec[p.entry[claim]]
	i, err := strconv.Atoi(index)
	if s == nil || err != nil || i >= len(s.Devices.Constraints) {
		return 0, nil, fmt.Errorf("claim %s has no constraint %s", claim, index)
	}
	p.anew = true
	return i, s, nil
}

// blamed is the selector of a request that the explanation holds responsible.
func (p *patient) blamed(request string) (int, error) {
	for _, f := range p.faults {
		if f.Params["request"] == request && f.Params["selector"] != "" {
			return strconv.Atoi(f.Params["selector"])
		}
	}
	return 0, fmt.Errorf("no selector of request %s is blamed", request)
}

// offered writes the selector for a value that devices publish for what the
// blamed selector of a request looks at.
func (p *patient) offered(request, text string) (string, error) {
	field := ""
	for _, f := range p.faults {
		if f.Params["request"] == request && f.Params["attribute"] != "" {
			field = f.Params["attribute"]
		}
	}
	list, err := p.l.client.ResourceV1().ResourceSlices().List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, s := range list.Items {
		for _, d := range s.Spec.Devices {
			for name, a := range d.Attributes {
				domain, id := qualify(string(name), s.Spec.Driver)
				lhs := fmt.Sprintf("%q in device.attributes[%q] && device.attributes[%q].%s", id, domain, domain, id)
				switch {
				case domain+"/"+id != field:
				case a.StringValue != nil && *a.StringValue == text:
					return lhs + " == " + strconv.Quote(text), nil
				case a.VersionValue != nil && *a.VersionValue == text:
					return lhs + ".compareTo(semver(" + strconv.Quote(text) + ")) == 0", nil
				case a.IntValue != nil && strconv.FormatInt(*a.IntValue, 10) == text, a.BoolValue != nil && strconv.FormatBool(*a.BoolValue) == text:
					return lhs + " == " + text, nil
				}
			}
			for name, c := range d.Capacity {
				if domain, id := qualify(string(name), s.Spec.Driver); domain+"/"+id == field && c.Value.String() == text {
					return fmt.Sprintf("%q in device.capacity[%q] && device.capacity[%q].%s.compareTo(quantity(%q)) >= 0", id, domain, domain, id, text), nil
				}
			}
		}
	}
	return "", fmt.Errorf("no device publishes %s %q", field, text)
}

func qualify(name, driver string) (domain, id string) {
	if domain, id, ok := strings.Cut(name, "/"); ok {
		return domain, id
	}
	return driver, name
}

// guard rewrites the selector that ends in an error, of the claim or the class.
func guard(ctx context.Context, p *patient, m []string) error {
	i, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	cel := &resourceapi.CELDeviceSelector{Expression: m[2]}
	for _, f := range p.faults {
		switch {
		case f.Code != "dra.cel_runtime_error":
		case f.Subject.Kind == "DeviceClass":
			c, err := p.l.client.ResourceV1().DeviceClasses().Get(ctx, f.Subject.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			c.Spec.Selectors[i].CEL = cel
			_, err = p.l.client.ResourceV1().DeviceClasses().Update(ctx, c, metav1.UpdateOptions{})
			return err
		default:
			return p.request(f.Params["request"], func(r part) { (*r.selectors)[i].CEL = cel })
		}
	}
	return fmt.Errorf("no selector is said to fail")
}

// tolerate removes the rule where one is to blame, else makes the request tolerate.
func tolerate(ctx context.Context, p *patient, m []string) error {
	gone := false
	for _, f := range p.faults {
		if f.Subject.Kind == "DeviceTaintRule" {
			gone = true
			if err := p.l.client.ResourceV1().DeviceTaintRules().Delete(ctx, f.Subject.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	if gone {
		return nil
	}
	return p.request(m[1], func(r part) {
		*r.tolerates = append(*r.tolerates, resourceapi.DeviceToleration{Operator: resourceapi.DeviceTolerationOpExists})
	})
}

func free(ctx context.Context, p *patient, m []string) error {
	c, err := p.l.client.ResourceV1().ResourceClaims(m[1]).Get(ctx, m[2], metav1.GetOptions{})
	if err != nil {
		return err
	}
	return p.release(ctx, c)
}

// freeAll gives back what several claims hold.
func freeAll(ctx context.Context, p *patient, m []string) error {
	for name := range strings.SplitSeq(m[1], ", ") {
		namespace, claim, _ := strings.Cut(name, "/")
		if err := free(ctx, p, []string{"", namespace, claim}); err != nil {
			return err
		}
	}
	return nil
}

// admit takes away what keeps the pod from nodes where its claims fit.
func admit(ctx context.Context, p *patient, m []string) error {
	if strings.Contains(m[1], "node selector or affinity ") {
		p.anew = true
		delete(p.pod.Spec.NodeSelector, "zone")
	}
	if strings.Contains(m[1], "unschedulable") {
		nodes, err := p.l.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{FieldSelector: "spec.unschedulable=true", LabelSelector: labels.SelectorFromSet(p.pod.Spec.NodeSelector).String()})
		if err != nil {
			return err
		}
		for _, n := range nodes.Items {
			n.Spec.Unschedulable = false
			if _, err := p.l.client.CoreV1().Nodes().Update(ctx, &n, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
	}
	if strings.Contains(m[1], "node taint ") {
		p.anew = true
		p.pod.Spec.Tolerations = append(p.pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists})
	}
	return nil
}

// patient gathers the pod, its claims and what was found.
func (l *live) patient(ctx context.Context, namespace, name string, faults []incident.Finding) (*patient, error) {
	pod, err := l.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	p := &patient{l: l, pod: pod, spec: map[string]*resourceapi.ResourceClaimSpec{}, entry: map[string]string{}, faults: faults}
	for i := range pod.Spec.ResourceClaims {
		claim, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || claim == nil {
			return nil, fmt.Errorf("claim %s of pod %s: %w", pod.Spec.ResourceClaims[i].Name, name, err)
		}
		c, err := l.client.ResourceV1().ResourceClaims(namespace).Get(ctx, *claim, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		p.spec[pod.Spec.ResourceClaims[i].Name], p.entry[*claim] = &c.Spec, pod.Spec.ResourceClaims[i].Name
	}
	return p, nil
}

// step is one remedy with the words that it was found by.
type step struct {
	remedy
	m []string
}

// find gives the remedies for a change, in the words of the explanation.
func find(change string) ([]step, error) {
	var out []step
	for one := range strings.SplitSeq(change, "; and ") {
		i := slices.IndexFunc(remedies(), func(r remedy) bool { return r.says.MatchString(one) })
		if i < 0 {
			return nil, fmt.Errorf("the change %q has no known form", one)
		}
		r := remedies()[i]
		out = append(out, step{r, r.says.FindStringSubmatch(one)})
	}
	return out, nil
}

// treat makes the change for real and gives the name of the pod that should now
// be scheduled: the same one, or a new one with new claims in the place of the old.
func (p *patient) treat(ctx context.Context, steps []step) (string, error) {
	for _, s := range steps {
		if err := s.do(ctx, p, s.m); err != nil {
			return "", err
		}
	}
	if !p.anew {
		return p.pod.Name, nil
	}
	now := int64(0)
	if err := p.l.client.CoreV1().Pods(p.pod.Namespace).Delete(ctx, p.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		return "", err
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.pod.Namespace, Name: p.pod.Name + "-again", Labels: p.pod.Labels}, Spec: *p.pod.Spec.DeepCopy()}
	// What admission put in for the service account is put in again.
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Projected != nil })
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].VolumeMounts = nil
	}
	for i := range pod.Spec.ResourceClaims {
		e := &pod.Spec.ResourceClaims[i]
		c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name + "-" + e.Name}, Spec: *p.spec[e.Name]}
		if e.ResourceClaimName != nil && p.unchanged(*e.ResourceClaimName) {
			continue
		}
		if _, err := p.l.client.ResourceV1().ResourceClaims(pod.Namespace).Create(ctx, c, metav1.CreateOptions{}); err != nil {
			return "", err
		}
		e.ResourceClaimName, e.ResourceClaimTemplateName = &c.Name, nil
	}
	_, err := p.l.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	return pod.Name, err
}

// unchanged says that a claim is allocated: it stays as it is.
func (p *patient) unchanged(claim string) bool {
	c, err := p.l.client.ResourceV1().ResourceClaims(p.pod.Namespace).Get(context.Background(), claim, metav1.GetOptions{})
	return err == nil && c.Status.Allocation != nil
}

// accounted checks that the table of each request holds every device that the
// drivers of its class publish, and that its figures add up.
func accounted(t *testing.T, l *live, x dra.Explanation, drivers ...string) {
	t.Helper()
	list, err := l.client.ResourceV1().ResourceSlices().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	published := map[string]int{}
	for _, s := range list.Items {
		published[s.Spec.Driver] += len(s.Spec.Devices)
	}
	requests := 0
	for _, c := range x.Claims {
		for _, r := range c.Requests {
			requests++
			have, free := map[string]int{}, 0
			for _, d := range r.Devices {
				have[d.Driver] += d.Count
				if len(d.ExcludedBy) == 0 {
					free += d.Count
				}
			}
			for driver, n := range have {
				if n != published[driver] {
					t.Errorf("request %s of claim %s: the table holds %d of the %d devices of driver %s", r.Name, c.Name, n, published[driver], driver)
				}
				if len(drivers) > 0 && !slices.Contains(drivers, driver) {
					t.Errorf("request %s of claim %s: driver %s is not of its class", r.Name, c.Name, driver)
				}
			}
			if len(have) == 0 && len(drivers) > 0 {
				t.Errorf("request %s of claim %s has no table", r.Name, c.Name)
			}
			if free != r.Totals.Free {
				t.Errorf("request %s of claim %s: %d devices have nothing against them, the totals say %d are free", r.Name, c.Name, free, r.Totals.Free)
			}
			if r.Totals.AfterSelectors > r.Totals.MatchingClass || r.Totals.Free > r.Totals.AfterSelectors {
				t.Errorf("request %s of claim %s: totals %+v do not narrow down", r.Name, c.Name, r.Totals)
			}
		}
	}
	if requests == 0 {
		t.Error("the explanation has no request")
	}
}

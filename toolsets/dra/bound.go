package dra

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// bound judges a pod that has a node: did the kubelet get its devices ready?
func (t *Toolset) bound(ctx context.Context, s *subject) ([]incident.Finding, []incident.Edge, []string) {
	pod := s.pod
	var fs []incident.Finding
	var es []incident.Edge
	var notes []string
	for _, c := range s.claims {
		es = append(es, t.allocatedEdges(c)...)
		if f, ok := t.unhealthy(pod, c); ok {
			fs = append(fs, f...)
		}
	}
	if started(pod) {
		return fs, es, append(notes, "the pod's containers have started: its devices were prepared")
	}
	for _, c := range s.claims {
		if c.Status.Allocation == nil || !resourceclaim.IsReservedForPod(pod, c, true) {
			fs = append(fs, finding("dra.not_reserved_for_pod", t.claimRef(c.Namespace, c.Name), 0.93, map[string]string{"pod": pod.Name, "claim": c.Name, "node": pod.Spec.NodeName},
				"pod %s is bound to node %s, but claim %s is %s: it was bound without the scheduler's DRA plugin", pod.Name, pod.Spec.NodeName, c.Name, unreserved(c)))
		}
	}
	events, err := t.read.events(ctx, pod.Namespace, "Pod", pod.Name)
	if err != nil {
		notes = append(notes, "events cannot be read: "+err.Error())
	}
	if f, e, ok := t.prepareFault(s, events); ok {
		fs, es = append(fs, f), append(es, e...)
		if d := f.Params["driver"]; d != "" {
			es = append(es, t.pluginOn(ctx, d, pod.Spec.NodeName, f.Subject)...)
		}
	}
	return fs, es, notes
}

// pluginOn ties what cannot be prepared on a node to the driver's plugin pod there,
// when that pod is in trouble itself.
func (t *Toolset) pluginOn(ctx context.Context, driver, node string, from incident.Ref) []incident.Edge {
	w, err := t.read.at(ctx, node)
	if err != nil {
		return nil
	}
	p, err := t.plugin(ctx, w, driver)
	if err != nil || p == nil || p.pods[node] == nil || podReady(p.pods[node]) {
		return nil
	}
	pod := t.podRef(p.pods[node].Namespace, p.pods[node].Name)
	es := []incident.Edge{{From: t.nodeRef(node), Relation: graph.Publishes, To: pod}}
	if from != t.nodeRef(node) {
		es = append(es, incident.Edge{From: from, Relation: graph.Publishes, To: pod})
	}
	return es
}

func unreserved(c *resourceapi.ResourceClaim) string {
	if c.Status.Allocation == nil {
		return "not allocated"
	}
	return "reserved for " + reservedText(c)
}

// started says whether any container got as far as running, which it cannot
// before the devices are prepared.
func started(p *corev1.Pod) bool {
	for _, st := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if st.State.Running != nil || st.State.Terminated != nil || st.LastTerminationState.Terminated != nil {
			return true
		}
	}
	return false
}

// allocatedEdges ties a claim to its devices and their drivers.
func (t *Toolset) allocatedEdges(c *resourceapi.ResourceClaim) []incident.Edge {
	var es []incident.Edge
	for _, d := range devicesOf(c) {
		dev := incident.DeviceRef(t.cluster, d.driver, d.pool, d.device)
		es = append(es, incident.Edge{From: t.claimRef(c.Namespace, c.Name), Relation: graph.Allocated, To: dev})
	}
	return es
}

// unhealthy reads the health that drivers report into the pod's status (KEP-4680).
func (t *Toolset) unhealthy(pod *corev1.Pod, c *resourceapi.ResourceClaim) ([]incident.Finding, bool) {
	var fs []incident.Finding
	for _, st := range pod.Status.ContainerStatuses {
		for _, r := range st.AllocatedResourcesStatus {
			if !strings.HasPrefix(string(r.Name), "claim:") {
				continue
			}
			for _, h := range r.Resources {
				if h.Health != corev1.ResourceHealthStatusUnhealthy {
					continue
				}
				parts := strings.SplitN(string(h.ResourceID), "/", 3)
				for _, d := range devicesOf(c) {
					if len(parts) != 3 || parts[0] != d.driver || parts[1] != d.pool || parts[2] != d.device {
						continue
					}
					msg := ""
					if h.Message != nil {
						msg = *h.Message
					}
					f := finding("dra.device_unhealthy", incident.DeviceRef(t.cluster, d.driver, d.pool, d.device), 0.9,
						map[string]string{"health": string(h.Health), "message": msg, "claim": c.Name},
						"driver %s reports device %s unhealthy%s", d.driver, d, prefixed(": ", msg))
					if !slices.ContainsFunc(fs, func(o incident.Finding) bool { return o.Subject == f.Subject }) {
						fs = append(fs, f)
					}
				}
			}
		}
	}
	return fs, len(fs) > 0
}

// prepareClasses classifies what kubelets and drivers say when preparing fails
// (k8s.io/kubernetes v1.37.2 pkg/kubelet/cm/dra, and the drivers' own texts).
func prepareClasses() []prepareClass {
	return []prepareClass{
		{"dra.driver_not_registered", regexp.MustCompile(`DRA driver (\S+) is not registered`)},
		{"dra.claim_uid_stale", regexp.MustCompile(`old ResourceClaim with same name (\S+) and different UID`)},
		{"dra.claim_uid_stale", regexp.MustCompile(`ResourceClaim (\S+) is being unprepared`)},
		{"dra.not_reserved_for_pod", regexp.MustCompile(`is not allowed to use (?:resource claim|ResourceClaim) (\S+?)[,;. ]`)},
		{"dra.not_reserved_for_pod", regexp.MustCompile(`is not allowed to use (?:resource claim|ResourceClaim)`)},
	}
}

type prepareClass struct {
	code string
	re   *regexp.Regexp
}

// prepareFault reads the newest prepare error of a pod.
func (t *Toolset) prepareFault(s *subject, events []corev1.Event) (incident.Finding, []incident.Edge, bool) {
	pod := s.pod
	i := slices.IndexFunc(events, func(e corev1.Event) bool {
		return e.Reason == "FailedPrepareDynamicResources" || e.Type == corev1.EventTypeWarning && cdiError(e.Message)
	})
	if i < 0 {
		return incident.Finding{}, nil, false
	}
	e := &events[i]
	podRef := t.podRef(pod.Namespace, pod.Name)
	node := t.nodeRef(pod.Spec.NodeName)
	driver := t.driverIn(s, e.Message)
	params := map[string]string{"message": e.Message, "driver": driver, "pod": pod.Name, "node": pod.Spec.NodeName}
	edges := []incident.Edge{{From: podRef, Relation: graph.RunsOn, To: node}}
	date := func(f incident.Finding) incident.Finding {
		f.FirstSeen, f.LastSeen = e.FirstTimestamp.Time, eventTime(e)
		return f
	}
	for _, c := range prepareClasses() {
		m := c.re.FindStringSubmatch(e.Message)
		if m == nil {
			continue
		}
		switch c.code {
		case "dra.driver_not_registered":
			params["driver"] = strings.Trim(m[1], `"'`)
			edges = append(edges, incident.Edge{From: node, Relation: graph.OfferedBy, To: t.driverRef(params["driver"])})
			return date(finding(c.code, node, 0.93, params, "the kubelet of node %s knows no DRA driver %s, so pod %s cannot start", pod.Spec.NodeName, params["driver"], pod.Name)), edges, true
		default:
			claim := t.claimIn(s, e.Message)
			if claim == "" {
				continue
			}
			return date(finding(c.code, t.claimRef(pod.Namespace, claim), 0.92, params, "pod %s cannot start on node %s: %s", pod.Name, pod.Spec.NodeName, e.Message)), edges, true
		}
	}
	if driver != "" {
		edges = append(edges, incident.Edge{From: podRef, Relation: graph.OfferedBy, To: t.driverRef(driver)})
	}
	if cdiError(e.Message) {
		// The runtime asks for what the plugin should have written for the claim.
		return date(finding("dra.prepare_failed", podRef, 0.93, params, "the container runtime of node %s does not find what the driver's plugin writes for the claims of pod %s: %s", pod.Spec.NodeName, pod.Name, e.Message)), edges, true
	}
	return date(finding("dra.prepare_failed", podRef, 0.85, params, "the kubelet of node %s cannot prepare the devices of pod %s: %s", pod.Spec.NodeName, pod.Name, e.Message)), edges, true
}

func cdiError(msg string) bool {
	return strings.Contains(msg, "unresolvable CDI devices") || strings.Contains(msg, "empty device edits")
}

// driverIn finds which driver of the pod's claims a message is about.
func (t *Toolset) driverIn(s *subject, msg string) string {
	first := ""
	for _, c := range s.claims {
		for _, d := range devicesOf(c) {
			if strings.Contains(msg, d.driver) {
				return d.driver
			}
			if first == "" && (strings.Contains(msg, c.Name) || len(s.claims) == 1) {
				first = d.driver
			}
		}
	}
	return first
}

func (t *Toolset) claimIn(s *subject, msg string) string {
	for _, c := range s.claims {
		if strings.Contains(msg, c.Name) {
			return c.Name
		}
	}
	if len(s.claims) == 1 {
		return s.claims[0].Name
	}
	return ""
}

// bindingTimeout is the scheduler's default for binding conditions
// (DynamicResourcesArgs.bindingTimeout, v1.37.2).
const bindingTimeout = 600 * time.Second

// binding judges claims that are allocated while the pod still has no node:
// devices may have conditions that must come true first (F41).
func (t *Toolset) binding(s *subject) ([]incident.Finding, []string) {
	var fs []incident.Finding
	var notes []string
	for _, c := range s.claims {
		if c.Status.Allocation == nil {
			continue
		}
		for _, r := range c.Status.Allocation.Devices.Results {
			waiting, failed := conditions(c, &r)
			dev := devID{r.Driver, r.Pool, r.Device}
			switch {
			case len(failed) > 0:
				fs = append(fs, finding("dra.binding_conditions_waiting", t.claimRef(c.Namespace, c.Name), 0.93,
					map[string]string{"conditions": strings.Join(failed, ", "), "device": dev.String()}, "device %s of claim %s reports binding failure %s", dev, c.Name, strings.Join(failed, ", ")))
			case len(waiting) > 0:
				since := c.CreationTimestamp.Time
				if ts := c.Status.Allocation.AllocationTimestamp; ts != nil {
					since = ts.Time
				}
				age := t.now().Sub(since)
				if age < 2*time.Minute {
					notes = append(notes, fmt.Sprintf("device %s waits for binding condition %s since %s", dev, strings.Join(waiting, ", "), age.Round(time.Second)))
					continue
				}
				fs = append(fs, finding("dra.binding_conditions_waiting", t.claimRef(c.Namespace, c.Name), 0.9,
					map[string]string{"conditions": strings.Join(waiting, ", "), "device": dev.String(), "timeout": bindingTimeout.String()},
					"device %s of claim %s waits for binding condition %s since %s%s; the scheduler gives up after %s and starts again", dev, c.Name, strings.Join(waiting, ", "), age.Round(time.Second), saidOf(c, &r, waiting), bindingTimeout))
			}
		}
	}
	return fs, notes
}

// saidOf is what the driver reports of the conditions that are waited for.
func saidOf(c *resourceapi.ResourceClaim, r *resourceapi.DeviceRequestAllocationResult, names []string) string {
	var said []string
	for _, d := range c.Status.Devices {
		for _, k := range d.Conditions {
			if d.Driver == r.Driver && d.Pool == r.Pool && d.Device == r.Device && slices.Contains(names, k.Type) && k.Reason+k.Message != "" {
				said = append(said, strings.TrimSuffix(k.Reason+": "+k.Message, ": "))
			}
		}
	}
	return prefixed(" (", strings.Join(said, "; ")) + map[bool]string{true: ")", false: ""}[len(said) > 0]
}

func conditions(c *resourceapi.ResourceClaim, r *resourceapi.DeviceRequestAllocationResult) (waiting, failed []string) {
	var have []metav1.Condition
	for _, d := range c.Status.Devices {
		if d.Driver == r.Driver && d.Pool == r.Pool && d.Device == r.Device {
			have = d.Conditions
		}
	}
	is := func(name string) bool {
		return slices.ContainsFunc(have, func(k metav1.Condition) bool { return k.Type == name && k.Status == metav1.ConditionTrue })
	}
	for _, b := range r.BindingConditions {
		if !is(b) {
			waiting = append(waiting, b)
		}
	}
	for _, b := range r.BindingFailureConditions {
		if is(b) {
			failed = append(failed, b)
		}
	}
	return waiting, failed
}

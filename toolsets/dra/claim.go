package dra

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// ClaimIn names a claim.
type ClaimIn struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// ClaimLife is the life-cycle of a claim.
type ClaimLife struct {
	Name       string         `json:"name"`
	Namespace  string         `json:"namespace"`
	State      string         `json:"state" jsonschema:"pending, allocated, allocated,reserved; with ,deleted"`
	Owner      string         `json:"owner,omitempty" jsonschema:"kind/name, and whether it exists"`
	Template   string         `json:"template,omitempty"`
	AgeSeconds int64          `json:"age_seconds"`
	Consumers  []ConsumerView `json:"consumers"`
	Devices    []DeviceUse    `json:"devices"`
	Usable     string         `json:"usable_on,omitempty" jsonschema:"node selector of the allocation"`
	Finalizers []string       `json:"finalizers"`
	Leak       string         `json:"leak,omitempty" jsonschema:"why nobody uses what the claim holds"`
	Notes      []string       `json:"notes"`
}

// ConsumerView is an entry of reservedFor.
type ConsumerView struct {
	Kind  string `json:"kind" jsonschema:"resource, for example pods"`
	Name  string `json:"name"`
	State string `json:"state" jsonschema:"phase of the pod, gone, other uid, or not looked at"`
	Node  string `json:"node,omitempty"`
}

// DeviceUse is one allocated device.
type DeviceUse struct {
	Request    string   `json:"request"`
	Device     string   `json:"device" jsonschema:"driver/pool/device"`
	Published  bool     `json:"published" jsonschema:"a slice still offers it"`
	Taints     []string `json:"taints"`
	Conditions []string `json:"conditions"`
	AlsoHeldBy []string `json:"also_held_by"`
}

func (t *Toolset) claimTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_claim", Text: text("dra_claim"), Effect: tool.Read}, t.claimLife)
}

// unproven is the confidence of a fault that is true but not shown to stand in
// anybody's way: below what triage lets explain other faults.
const unproven = 0.45

// maxConsumers bounds how many consumers are looked up one by one.
const maxConsumers = 16

func (t *Toolset) claimLife(ctx context.Context, in ClaimIn) (tool.Output[ClaimLife], error) {
	c, err := t.read.claim(ctx, in.Namespace, in.Name)
	if err != nil {
		return tool.Output[ClaimLife]{}, err
	}
	ref := t.claimRef(c.Namespace, c.Name)
	v := view(c)
	out := ClaimLife{
		Name: c.Name, Namespace: c.Namespace, State: v.State, Usable: v.Node, AgeSeconds: int64(t.now().Sub(c.CreationTimestamp.Time) / time.Second),
		Consumers: []ConsumerView{}, Devices: []DeviceUse{}, Finalizers: append([]string{}, c.Finalizers...), Notes: []string{},
	}
	var fs []incident.Finding
	var es []incident.Edge
	t.claimOwner(ctx, c, &out)
	live := t.consumers(ctx, c, &out)
	for _, r := range c.Status.ReservedFor {
		if r.Resource == "pods" && r.APIGroup == "" && len(es) < maxConsumers {
			es = append(es, incident.Edge{From: ref, Relation: graph.HeldBy, To: t.podRef(c.Namespace, r.Name)})
		}
	}
	if c.Status.Allocation != nil {
		es = append(es, t.allocatedEdges(c)...)
		t.claimDevices(ctx, c, &out, live, &fs)
		if out.Leak = t.leaked(ctx, c); out.Leak != "" {
			f := finding("dra.claim_leaked", ref, unproven, map[string]string{"devices": itoa(len(out.Devices)), "consumer": out.Leak}, "claim %s holds %s and nobody uses it: %s", c.Name, plural(len(out.Devices), "device"), out.Leak)
			if made := metav1.GetControllerOf(c); made == nil && len(c.Status.ReservedFor) == 0 {
				out.Notes = append(out.Notes, "a claim that a person created stays until a person deletes it")
			}
			fs = append(fs, f)
		}
		if pod, end := t.reservedAgain(ctx, c); pod != "" {
			fs = append(fs, finding("dra.claim_oscillates", ref, unproven, map[string]string{"pod": pod}, "claim %s was allocated at %s to pod %s, which had finished at %s",
				c.Name, c.Status.Allocation.AllocationTimestamp.UTC().Format(time.RFC3339), pod, end.UTC().Format(time.RFC3339)))
		}
		if who := foreignConsumer(c); who != "" {
			fs = append(fs, finding("dra.reserved_for_foreign", ref, unproven, map[string]string{"consumer": who}, "claim %s is reserved for %s, which is not a pod; its own controller must give it back", c.Name, who))
		}
		f, notes := t.binding(&subject{claims: []*resourceapi.ResourceClaim{c}})
		fs, out.Notes = append(fs, f...), append(out.Notes, notes...)
	}
	if c.DeletionTimestamp != nil && t.now().Sub(c.DeletionTimestamp.Time) > leakAge {
		fs = append(fs, finding("dra.claim_deleting", ref, 0.7, map[string]string{"finalizers": strings.Join(c.Finalizers, ", "), "since": c.DeletionTimestamp.UTC().Format(time.RFC3339)},
			"claim %s is being deleted since %s; finalizers %s; reserved for %s", c.Name, c.DeletionTimestamp.UTC().Format(time.RFC3339), strings.Join(c.Finalizers, ", "), reservedText(c)))
	}
	if len(fs) == 0 && c.Status.Allocation != nil {
		fs = append(fs, finding("dra.claim_allocated", ref, 0, map[string]string{"devices": itoa(len(out.Devices)), "node": out.Usable}, "claim %s holds %s", c.Name, plural(len(out.Devices), "device")))
	}
	fs = withOrigin(fs, ref, out.Template, standalone(c))
	return tool.Output[ClaimLife]{Data: out, Text: claimLifeText(&out, fs), Findings: fs, Edges: es}, nil
}

func (t *Toolset) claimOwner(ctx context.Context, c *resourceapi.ResourceClaim, out *ClaimLife) {
	o := metav1.GetControllerOf(c)
	if o == nil {
		return
	}
	out.Owner = o.Kind + "/" + o.Name
	if o.Kind != "Pod" {
		return
	}
	p, err := t.read.pod(ctx, c.Namespace, o.Name)
	switch {
	case isNotFound(err):
		out.Owner += " (gone)"
	case err != nil:
		out.Notes = append(out.Notes, "the owner cannot be read: "+err.Error())
	case p.UID != o.UID:
		out.Owner += " (gone; another pod has the name)"
	default:
		for _, pc := range p.Spec.ResourceClaims {
			if pc.ResourceClaimTemplateName != nil && pc.Name == c.Annotations[resourceapi.PodResourceClaimAnnotation] {
				out.Template = *pc.ResourceClaimTemplateName
			}
		}
	}
}

// consumers looks the pods of reservedFor up and tells whether one is alive.
func (t *Toolset) consumers(ctx context.Context, c *resourceapi.ResourceClaim, out *ClaimLife) bool {
	live := false
	for i, r := range c.Status.ReservedFor {
		v := ConsumerView{Kind: r.Resource, Name: r.Name, State: "not looked at"}
		if r.APIGroup != "" {
			v.Kind += "." + r.APIGroup
		}
		if r.Resource == "pods" && r.APIGroup == "" && i < maxConsumers {
			p, err := t.read.pod(ctx, c.Namespace, r.Name)
			switch {
			case isNotFound(err):
				v.State = "gone"
			case err != nil:
				v.State = "unknown"
			case p.UID != r.UID:
				v.State = "another pod has the name"
			default:
				v.State, v.Node = string(p.Status.Phase), p.Spec.NodeName
				live = live || p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodPending
			}
		}
		out.Consumers = append(out.Consumers, v)
	}
	return live
}

// claimDevices judges what the claim holds: is it still published, tainted, held
// twice?
func (t *Toolset) claimDevices(ctx context.Context, c *resourceapi.ResourceClaim, out *ClaimLife, live bool, fs *[]incident.Finding) {
	ref := t.claimRef(c.Namespace, c.Name)
	w, err := t.read.around(ctx, c)
	if err != nil {
		out.Notes = append(out.Notes, "devices are not judged: "+tool.UserText(err))
	}
	for i := range c.Status.Allocation.Devices.Results {
		r := &c.Status.Allocation.Devices.Results[i]
		id := devID{r.Driver, r.Pool, r.Device}
		u := DeviceUse{Request: r.Request, Device: id.String(), Taints: []string{}, Conditions: []string{}, AlsoHeldBy: []string{}}
		for _, d := range c.Status.Devices {
			if d.Driver == r.Driver && d.Pool == r.Pool && d.Device == r.Device {
				for _, k := range d.Conditions {
					u.Conditions = append(u.Conditions, fmt.Sprintf("%s=%s", k.Type, k.Status))
				}
			}
		}
		if w != nil {
			t.deviceUse(w, c, r, id, &u, live, fs, ref)
		}
		out.Devices = append(out.Devices, u)
	}
}

func (t *Toolset) deviceUse(w *world, c *resourceapi.ResourceClaim, r *resourceapi.DeviceRequestAllocationResult, id devID, u *DeviceUse, live bool, fs *[]incident.Finding, ref incident.Ref) {
	s, d := w.fleet.lookup(id.driver, id.pool, id.device)
	u.Published = d != nil
	if d != nil {
		x := &want{tolerates: r.Tolerations}
		for _, h := range x.tainted(w, s, d) {
			u.Taints = append(u.Taints, h.String())
			if f, ok := t.evictionFault(w, c, r, id, h, live); ok {
				*fs = append(*fs, f)
			}
		}
	}
	if r.AdminAccess != nil && *r.AdminAccess || r.ShareID != nil {
		return
	}
	for _, h := range w.use.holds[id] {
		if !h.shared && h.claim.UID != c.UID {
			u.AlsoHeldBy = append(u.AlsoHeldBy, h.claim.Namespace+"/"+h.claim.Name)
		}
	}
	if len(u.AlsoHeldBy) > 0 && (d == nil || !d.multi()) {
		dev := incident.DeviceRef(t.cluster, id.driver, id.pool, id.device)
		*fs = append(*fs, finding("dra.device_double_allocated", dev, 0.93, onNode(w, id, map[string]string{"claims": c.Namespace + "/" + c.Name + ", " + strings.Join(u.AlsoHeldBy, ", ")}),
			"device %s is allocated to claim %s/%s and to %s at once", id, c.Namespace, c.Name, strings.Join(u.AlsoHeldBy, ", ")))
	}
}

// onNode adds the node of a device, where a slice says which.
func onNode(w *world, id devID, params map[string]string) map[string]string {
	if s, d := w.fleet.lookup(id.driver, id.pool, id.device); d != nil {
		if node := at(s, d); node != "" {
			params["node"] = node
		}
	}
	return params
}

// evictionFault judges an allocated device with a NoExecute taint that the
// allocation does not tolerate: the pod is or should be evicted.
func (t *Toolset) evictionFault(w *world, c *resourceapi.ResourceClaim, r *resourceapi.DeviceRequestAllocationResult, id devID, h taintHit, live bool) (incident.Finding, bool) {
	if h.taint.Effect != resourceapi.DeviceTaintEffectNoExecute {
		return incident.Finding{}, false
	}
	if tolerated(c, r, h.taint) {
		return finding("dra.toleration_not_copied", t.claimRef(c.Namespace, c.Name), 0.8, map[string]string{"toleration": taintText(h.taint)},
			"claim %s tolerates %s and its allocation does not say so: the device's pods are evicted all the same", c.Name, taintText(h.taint)), true
	}
	if live && c.Annotations[resourceapi.ExtendedResourceClaimAnnotation] == "true" && h.taint.TimeAdded != nil && t.now().Sub(h.taint.TimeAdded.Time) > 5*time.Minute {
		pod := ""
		if len(c.Status.ReservedFor) > 0 {
			pod = c.Status.ReservedFor[0].Name
		}
		return finding("dra.taint_eviction_missed", t.podRef(c.Namespace, pod), 0.7, map[string]string{"device": id.String()},
			"device %s carries %s, and pod %s, which got it by extended resource, still runs", id, h, pod), true
	}
	dev := incident.DeviceRef(t.cluster, id.driver, id.pool, id.device)
	on, params := dev, map[string]string{"rule": h.rule, "device": id.String(), "taint": taintText(h.taint)}
	if h.rule != "" {
		on = t.ruleRef(h.rule)
	}
	return finding("dra.taint_eviction", on, 0.85, params, "device %s, held by claim %s/%s, carries %s, which evicts its pods", id, c.Namespace, c.Name, h), true
}

// tolerated says whether the claim's own request tolerates a taint.
func tolerated(c *resourceapi.ResourceClaim, r *resourceapi.DeviceRequestAllocationResult, taint resourceapi.DeviceTaint) bool {
	base, _, _ := strings.Cut(r.Request, "/")
	for i := range c.Spec.Devices.Requests {
		q := &c.Spec.Devices.Requests[i]
		if q.Name == base && q.Exactly != nil && tolerates(q.Exactly.Tolerations, taint) {
			return true
		}
		for j := range q.FirstAvailable {
			if q.Name+"/"+q.FirstAvailable[j].Name == r.Request && tolerates(q.FirstAvailable[j].Tolerations, taint) {
				return true
			}
		}
	}
	return false
}

func claimLifeText(o *ClaimLife, fs []incident.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "claim %s/%s: %s, age %s", o.Namespace, o.Name, o.State, time.Duration(o.AgeSeconds)*time.Second)
	if o.Owner != "" {
		fmt.Fprintf(&b, ", owner %s", o.Owner)
	}
	if o.Usable != "" {
		fmt.Fprintf(&b, ", usable on %s", o.Usable)
	}
	b.WriteByte('\n')
	for _, c := range o.Consumers {
		fmt.Fprintf(&b, "  reserved for %s %s: %s%s\n", c.Kind, c.Name, c.State, prefixed(" on ", c.Node))
	}
	for _, d := range o.Devices {
		fmt.Fprintf(&b, "  %s = %s", d.Request, d.Device)
		if !d.Published {
			b.WriteString(", no slice offers it")
		}
		fmt.Fprintf(&b, "%s%s%s\n", prefixed(", tainted ", strings.Join(d.Taints, ", ")), prefixed(", conditions ", strings.Join(d.Conditions, " ")), prefixed(", also held by ", strings.Join(d.AlsoHeldBy, ", ")))
	}
	if len(o.Finalizers) > 0 {
		fmt.Fprintf(&b, "  finalizers %s\n", strings.Join(o.Finalizers, ", "))
	}
	for _, f := range fs {
		if f.Role == incident.Fault {
			fmt.Fprintf(&b, "finding %s: %s\n", f.Subject, f.Message)
		}
	}
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return strings.TrimRight(b.String(), "\n")
}

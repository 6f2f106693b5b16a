package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// revision is one pod template a workload has had.
type revision struct {
	number int64
	at     time.Time
	by     string
	cause  string
	spec   corev1.PodTemplateSpec
}

func revisionNumber(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// attributed says of the newest revision who made it and when. A rollback takes
// up an old revision, so the time is that of the write, not of the revision.
func attributed(revs []revision, owner metav1.Object) []revision {
	by, at := lastManager(owner, "f:template")
	newest := -1
	for i, r := range revs {
		if newest < 0 || r.number > revs[newest].number {
			newest = i
		}
	}
	if newest >= 0 {
		revs[newest].by = by
		if at.After(revs[newest].at) {
			revs[newest].at = at
		}
	}
	return revs
}

// lastManager gives who last wrote spec with a field of this name below it, and
// when, leaving out the controllers of Kubernetes.
func lastManager(o metav1.Object, field string) (by string, at time.Time) {
	for _, f := range o.GetManagedFields() {
		if f.Subresource != "" || f.FieldsV1 == nil || f.Time == nil || routine(f.Manager) {
			continue
		}
		var top map[string]map[string]json.RawMessage
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &top) != nil {
			continue
		}
		if _, ok := top["f:spec"][field]; ok && !f.Time.Time.Before(at) {
			by, at = f.Manager, f.Time.Time
		}
	}
	return by, at
}

// ownedFields lists the fields a manager owns, two levels deep: "spec.replicas",
// "metadata.labels", "data.config.yaml". Status is left out.
func ownedFields(raw *metav1.FieldsV1) []string {
	if raw == nil {
		return nil
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(raw.GetRawBytes(), &top) != nil {
		return nil
	}
	var out []string
	for k, v := range top {
		name, ok := strings.CutPrefix(k, "f:")
		if !ok || name == "status" {
			continue
		}
		var below map[string]json.RawMessage
		if json.Unmarshal(v, &below) != nil || len(below) == 0 {
			out = append(out, name)
			continue
		}
		for b := range below {
			if sub, ok := strings.CutPrefix(b, "f:"); ok {
				out = append(out, name+"."+sub)
			}
		}
	}
	slices.Sort(out)
	if len(out) > 12 {
		out = append(out[:12:12], fmt.Sprintf("and %d more", len(out)-12))
	}
	return out
}

// diffTemplates words the difference between two pod templates: images,
// commands, environment, resources, probes, and what the pod asks of a node.
// Values of environment variables that come from Secrets are never in a spec;
// plain values are shown, the caller's redaction masks secret shapes.
func diffTemplates(a, b corev1.PodTemplateSpec) []string {
	d := &differ{}
	d.containers("init container ", a.Spec.InitContainers, b.Spec.InitContainers)
	d.containers("", a.Spec.Containers, b.Spec.Containers)
	d.maps("label ", a.Labels, b.Labels, "pod-template-hash", "controller-revision-hash")
	d.maps("annotation ", a.Annotations, b.Annotations)
	d.maps("nodeSelector ", a.Spec.NodeSelector, b.Spec.NodeSelector)
	d.same("tolerations", a.Spec.Tolerations, b.Spec.Tolerations)
	d.same("affinity", a.Spec.Affinity, b.Spec.Affinity)
	d.same("topologySpreadConstraints", a.Spec.TopologySpreadConstraints, b.Spec.TopologySpreadConstraints)
	d.same("resourceClaims", a.Spec.ResourceClaims, b.Spec.ResourceClaims)
	d.same("volumes", a.Spec.Volumes, b.Spec.Volumes)
	d.same("imagePullSecrets", a.Spec.ImagePullSecrets, b.Spec.ImagePullSecrets)
	d.same("securityContext", a.Spec.SecurityContext, b.Spec.SecurityContext)
	d.words("serviceAccountName", a.Spec.ServiceAccountName, b.Spec.ServiceAccountName)
	d.words("priorityClassName", a.Spec.PriorityClassName, b.Spec.PriorityClassName)
	d.words("schedulerName", a.Spec.SchedulerName, b.Spec.SchedulerName)
	d.words("dnsPolicy", string(a.Spec.DNSPolicy), string(b.Spec.DNSPolicy))
	d.words("hostNetwork", fmt.Sprint(a.Spec.HostNetwork), fmt.Sprint(b.Spec.HostNetwork))
	d.same("runtimeClassName", a.Spec.RuntimeClassName, b.Spec.RuntimeClassName)
	if len(d.out) == 0 {
		return []string{"no difference that matters in the pod template"}
	}
	if len(d.out) > 25 {
		d.out = append(d.out[:25:25], fmt.Sprintf("and %d more differences", len(d.out)-25))
	}
	return d.out
}

type differ struct{ out []string }

func (d *differ) say(format string, args ...any) { d.out = append(d.out, fmt.Sprintf(format, args...)) }

func (d *differ) words(what, a, b string) {
	if a != b {
		d.say("%s: %s -> %s", what, orNone(a), orNone(b))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return oneLine(s, 160)
}

// same compares structures; what differs is shown as JSON.
func (d *differ) same(what string, a, b any) {
	if equality.Semantic.DeepEqual(a, b) {
		return
	}
	d.say("%s: %s -> %s", what, asJSON(a), asJSON(b))
}

func asJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil || string(raw) == "null" || string(raw) == "[]" {
		return "none"
	}
	return clip(string(raw), 300)
}

func (d *differ) maps(what string, a, b map[string]string, skip ...string) {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	names := make([]string, 0, len(keys))
	for k := range keys {
		if !slices.Contains(skip, k) {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	for _, k := range names {
		d.words(what+k, a[k], b[k])
	}
}

func (d *differ) containers(kind string, a, b []corev1.Container) {
	old := map[string]corev1.Container{}
	for _, c := range a {
		old[c.Name] = c
	}
	now := map[string]bool{}
	for _, c := range b {
		now[c.Name] = true
		before, ok := old[c.Name]
		if !ok {
			d.say("%s%s added with image %s", kind, c.Name, c.Image)
			continue
		}
		d.container(kind+c.Name, before, c)
	}
	for _, c := range a {
		if !now[c.Name] {
			d.say("%s%s removed", kind, c.Name)
		}
	}
}

func (d *differ) container(name string, a, b corev1.Container) {
	of := " of " + name
	d.words("image"+of, a.Image, b.Image)
	d.words("imagePullPolicy"+of, string(a.ImagePullPolicy), string(b.ImagePullPolicy))
	d.words("command"+of, strings.Join(a.Command, " "), strings.Join(b.Command, " "))
	d.words("args"+of, strings.Join(a.Args, " "), strings.Join(b.Args, " "))
	d.maps("env"+of+" ", envOf(a), envOf(b))
	d.same("envFrom"+of, a.EnvFrom, b.EnvFrom)
	d.maps("requests"+of+" ", quantities(a.Resources.Requests), quantities(b.Resources.Requests))
	d.maps("limits"+of+" ", quantities(a.Resources.Limits), quantities(b.Resources.Limits))
	d.same("claims"+of, a.Resources.Claims, b.Resources.Claims)
	d.same("ports"+of, a.Ports, b.Ports)
	d.same("volumeMounts"+of, a.VolumeMounts, b.VolumeMounts)
	d.same("securityContext"+of, a.SecurityContext, b.SecurityContext)
	for _, p := range []struct {
		name string
		a, b *corev1.Probe
	}{{"startupProbe", a.StartupProbe, b.StartupProbe}, {"livenessProbe", a.LivenessProbe, b.LivenessProbe}, {"readinessProbe", a.ReadinessProbe, b.ReadinessProbe}} {
		if !equality.Semantic.DeepEqual(p.a, p.b) {
			d.say("%s%s: %s -> %s", p.name, of, probeOrNone(p.a), probeOrNone(p.b))
		}
	}
}

func probeOrNone(p *corev1.Probe) string {
	if p == nil {
		return "none"
	}
	return probeText(p)
}

// envOf gives the environment as text; a reference shows what it points to.
func envOf(c corev1.Container) map[string]string {
	out := map[string]string{}
	for _, e := range c.Env {
		switch {
		case e.ValueFrom == nil:
			out[e.Name] = `"` + e.Value + `"`
		case e.ValueFrom.SecretKeyRef != nil:
			out[e.Name] = "Secret " + e.ValueFrom.SecretKeyRef.Name + " key " + e.ValueFrom.SecretKeyRef.Key
		case e.ValueFrom.ConfigMapKeyRef != nil:
			out[e.Name] = "ConfigMap " + e.ValueFrom.ConfigMapKeyRef.Name + " key " + e.ValueFrom.ConfigMapKeyRef.Key
		default:
			out[e.Name] = asJSON(e.ValueFrom)
		}
	}
	return out
}

package judge

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// reference is something a pod needs to exist.
type reference struct {
	kind, name, key, container string
	optional                   bool
}

// refsOf lists the ConfigMaps and Secrets a pod's containers and volumes need.
func refsOf(p *corev1.Pod) []reference {
	var out []reference
	add := func(kind, name, key, container string, optional *bool) {
		r := reference{kind: kind, name: name, key: key, container: container, optional: optional != nil && *optional}
		if name != "" && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, e := range c.EnvFrom {
			if r := e.ConfigMapRef; r != nil {
				add("ConfigMap", r.Name, "", c.Name, r.Optional)
			}
			if r := e.SecretRef; r != nil {
				add("Secret", r.Name, "", c.Name, r.Optional)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add("ConfigMap", r.Name, r.Key, c.Name, r.Optional)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add("Secret", r.Name, r.Key, c.Name, r.Optional)
			}
		}
	}
	for _, vol := range p.Spec.Volumes {
		// The API server adds this one itself; if it fails, the kubelet says so.
		if strings.HasPrefix(vol.Name, "kube-api-access-") {
			continue
		}
		if s := vol.ConfigMap; s != nil {
			add("ConfigMap", s.Name, "", "", s.Optional)
			for _, it := range s.Items {
				add("ConfigMap", s.Name, it.Key, "", s.Optional)
			}
		}
		if s := vol.Secret; s != nil {
			add("Secret", s.SecretName, "", "", s.Optional)
			for _, it := range s.Items {
				add("Secret", s.SecretName, it.Key, "", s.Optional)
			}
		}
		if s := vol.Projected; s != nil {
			for _, src := range s.Sources {
				if r := src.ConfigMap; r != nil {
					add("ConfigMap", r.Name, "", "", r.Optional)
					for _, it := range r.Items {
						add("ConfigMap", r.Name, it.Key, "", r.Optional)
					}
				}
				if r := src.Secret; r != nil {
					add("Secret", r.Name, "", "", r.Optional)
					for _, it := range r.Items {
						add("Secret", r.Name, it.Key, "", r.Optional)
					}
				}
			}
		}
	}
	return out
}

// references finds what the pod refers to and what is not there. A pod that
// runs already has what it needed.
func (j *judge) references(ctx context.Context, v *verdict, p *corev1.Pod, evs []source.Event) {
	if ready(p) || allStarted(p) {
		return
	}
	for _, r := range refsOf(p) {
		if r.optional {
			continue
		}
		to := j.ref("", r.kind, p.Namespace, r.name)
		switch r.kind {
		case "ConfigMap":
			cm, err := j.src.ConfigMap(ctx, p.Namespace, r.name)
			switch {
			case missing(err):
				j.absent(ctx, v, p, r, to, "kube.configmap_missing")
			case err == nil && r.key != "" && !slices.Contains(cm.Keys, r.key):
				j.absentKey(v, p, r, to, "kube.configmap_key_missing")
			}
		case "Secret":
			sec, err := j.src.Secret(ctx, p.Namespace, r.name)
			switch {
			case missing(err):
				j.absent(ctx, v, p, r, to, "kube.secret_missing")
			case err == nil && r.key != "" && sec.KeysKnown && !slices.Contains(sec.Keys, r.key):
				j.absentKey(v, p, r, to, "kube.secret_key_missing")
			}
		}
	}
	if !mounted(p) {
		for _, e := range evs {
			if e.Reason == "FailedMount" {
				j.configError(ctx, v, p, "", e.Message)
			}
		}
	}
	if rc := p.Spec.RuntimeClassName; rc != nil {
		if _, err := j.src.RuntimeClass(ctx, *rc); missing(err) {
			to := j.ref("node.k8s.io", "RuntimeClass", "", *rc)
			v.edge(v.subject, graph.Uses, to)
			v.fault("kube.runtime_class_missing", incident.Critical, 0.93, to, fmt.Sprintf("RuntimeClass %s, which pod %s names, does not exist", *rc, v.subject.Path()), params("owner", v.subject.Path()))
		}
	}
}

// allStarted reports whether every container has run at least once.
func allStarted(p *corev1.Pod) bool {
	if len(p.Status.ContainerStatuses) == 0 {
		return false
	}
	return !slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.State.Running == nil && c.State.Terminated == nil && c.LastTerminationState.Terminated == nil
	})
}

// weigh says how much a missing reference explains. A pod without a node is not
// held up by it yet: it would be next.
func weigh(p *corev1.Pod, conf float64) (incident.Severity, float64) {
	if p.Spec.NodeName == "" {
		return incident.Warning, 0.45
	}
	return incident.Critical, conf
}

func (j *judge) absent(ctx context.Context, v *verdict, p *corev1.Pod, r reference, to incident.Ref, code string) {
	v.edge(v.subject, graph.Uses, to)
	v.line("%s %s does not exist", r.kind, to.Path())
	sev, conf := weigh(p, 0.95)
	v.fault(code, sev, conf, to, fmt.Sprintf("%s %s, which pod %s needs, does not exist", r.kind, to.Path(), p.Name), params("pod", p.Name, "container", r.container, "made_by", j.madeBy(ctx, v, to)))
}

func (j *judge) absentKey(v *verdict, p *corev1.Pod, r reference, to incident.Ref, code string) {
	v.edge(v.subject, graph.Uses, to)
	v.line("%s %s has no key %s", r.kind, to.Path(), r.key)
	sev, conf := weigh(p, 0.94)
	v.fault(code, sev, conf, to, fmt.Sprintf("%s %s has no key %s, which pod %s needs", r.kind, to.Path(), r.key, p.Name), params("key", r.key, "pod", p.Name))
}

// configError reads the kubelet's words about configuration that is not there;
// they are the only source for the keys of a Secret, whose data is never read.
// What the kubelet said a moment ago and is no longer so is told, not accused.
func (j *judge) configError(ctx context.Context, v *verdict, p *corev1.Pod, container, text string) {
	if m := regexp.MustCompile(`couldn't find key (\S+) in (ConfigMap|Secret) ([^/\s]+)/([^\s"]+)`).FindStringSubmatch(text); m != nil {
		r := reference{kind: m[2], name: m[4], key: m[1], container: container}
		code := "kube.secret_key_missing"
		if m[2] == "ConfigMap" {
			code = "kube.configmap_key_missing"
		}
		if m[2] == "ConfigMap" {
			if cm, err := j.src.ConfigMap(ctx, m[3], m[4]); err == nil && slices.Contains(cm.Keys, m[1]) {
				v.line("ConfigMap %s/%s has key %s by now; the kubelet tries again", m[3], m[4], m[1])
				return
			}
		}
		j.absentKey(v, p, r, j.ref("", m[2], m[3], m[4]), code)
		return
	}
	if m := regexp.MustCompile(`(?i)references non-existent (config|secret) key: (\S+)`).FindStringSubmatch(text); m != nil {
		v.line("a volume refers to key %s, which is not there", m[2])
		kind, code := "Secret", "kube.secret_key_missing"
		if strings.EqualFold(m[1], "config") {
			kind, code = "ConfigMap", "kube.configmap_key_missing"
		}
		if name := volumeSource(p, quotedWord(text), kind, m[2]); name != "" {
			j.absentKey(v, p, reference{kind: kind, name: name, key: m[2]}, j.ref("", kind, p.Namespace, name), code)
		}
		return
	}
	if m := regexp.MustCompile(`(configmap|secret|configmaps|secrets) "([^"]+)" not found`).FindStringSubmatch(text); m != nil {
		kind, code := "Secret", "kube.secret_missing"
		if m[1][0] == 'c' {
			kind, code = "ConfigMap", "kube.configmap_missing"
		}
		if j.exists(ctx, kind, p.Namespace, m[2]) {
			v.line("%s %s/%s exists by now; the kubelet tries again", kind, p.Namespace, m[2])
			return
		}
		j.absent(ctx, v, p, reference{kind: kind, name: m[2], container: container}, j.ref("", kind, p.Namespace, m[2]), code)
		return
	}
	if m := regexp.MustCompile(`serviceaccounts? "([^"]+)" (?:not found|is forbidden)`).FindStringSubmatch(text); m != nil {
		to := j.ref("", "ServiceAccount", p.Namespace, m[1])
		if _, err := j.src.ServiceAccount(ctx, p.Namespace, m[1]); missing(err) {
			v.edge(v.subject, graph.Uses, to)
			v.line("ServiceAccount %s does not exist", to.Path())
			v.fault("kube.service_account_missing", incident.Critical, 0.95, to, fmt.Sprintf("ServiceAccount %s, whose token pod %s needs, does not exist", to.Path(), p.Name), params("owner", v.subject.Path()))
		}
		return
	}
	if container != "" && text != "" {
		v.fault("kube.container_start_error", incident.Critical, 0.85, v.subject, fmt.Sprintf("container %s of pod %s cannot be started: %s", container, v.subject.Path(), text), params("container", container, "message", text))
	}
}

// volumes finds claims that are missing or unbound, and volumes that cannot be
// attached or mounted.
func (j *judge) volumes(ctx context.Context, v *verdict, p *corev1.Pod, evs []source.Event) {
	for _, vol := range p.Spec.Volumes {
		name := ""
		switch {
		case vol.PersistentVolumeClaim != nil:
			name = vol.PersistentVolumeClaim.ClaimName
		case vol.Ephemeral != nil:
			name = p.Name + "-" + vol.Name
		default:
			continue
		}
		to := j.ref("", "PersistentVolumeClaim", p.Namespace, name)
		v.edge(v.subject, graph.Mounts, to)
		pvc, err := j.src.PVC(ctx, p.Namespace, name)
		if missing(err) && vol.PersistentVolumeClaim != nil {
			v.line("PersistentVolumeClaim %s does not exist", to.Path())
			v.fault("kube.pvc_missing", incident.Critical, 0.95, to, fmt.Sprintf("PersistentVolumeClaim %s, which pod %s mounts, does not exist", to.Path(), p.Name), params("pod", p.Name))
			continue
		}
		if err != nil || p.Spec.NodeName == "" || mounted(p) || pvc.Spec.VolumeName == "" {
			continue
		}
		done, attached := has(evs, []string{"SuccessfulAttachVolume"}, pvc.Spec.VolumeName)
		if e, ok := has(evs, []string{"FailedAttachVolume"}, pvc.Spec.VolumeName); ok && (!attached || done.Last.Before(e.Last)) {
			if containsAny(e.Message, "multi-attach") {
				v.fault("kube.volume_multi_attach", incident.Critical, 0.93, to, fmt.Sprintf("volume %s of claim %s is still attached elsewhere: %s", pvc.Spec.VolumeName, to.Path(), e.Message), params("pv", pvc.Spec.VolumeName, "node", p.Spec.NodeName, "holder", holderOf(e.Message)))
				continue
			}
			v.fault("kube.volume_attach_failed", incident.Critical, 0.9, to, fmt.Sprintf("volume %s of claim %s cannot be attached to %s: %s", pvc.Spec.VolumeName, to.Path(), p.Spec.NodeName, e.Message), params("pv", pvc.Spec.VolumeName, "message", e.Message))
		}
	}
	if e, ok := has(evs, []string{"FailedMount", "FailedMapVolume"}); ok && !mounted(p) && p.Status.Phase == corev1.PodPending && j.now().Sub(e.Last) < creating &&
		!slices.ContainsFunc(v.findings, func(f incident.Finding) bool { return f.Role == incident.Fault }) {
		if m := regexp.MustCompile(`driver name (\S+) not found in the list of registered CSI drivers`).FindStringSubmatch(e.Message); m != nil {
			j.driverAgents(ctx, v, p.Spec.NodeName, m[1])
		}
		v.fault("kube.volume_mount_failed", incident.Critical, 0.85, v.subject, fmt.Sprintf("a volume of pod %s cannot be mounted: %s", v.subject.Path(), e.Message), params("message", e.Message, "volume", quotedWord(e.Message)))
	}
}

// volumeSource is the ConfigMap or Secret from which a volume takes a key.
func volumeSource(p *corev1.Pod, volume, kind, key string) string {
	has := func(items []corev1.KeyToPath) bool {
		return slices.ContainsFunc(items, func(it corev1.KeyToPath) bool { return it.Key == key })
	}
	for _, vol := range p.Spec.Volumes {
		if vol.Name != volume {
			continue
		}
		if s := vol.ConfigMap; s != nil && kind == "ConfigMap" {
			return s.Name
		}
		if s := vol.Secret; s != nil && kind == "Secret" {
			return s.SecretName
		}
		if vol.Projected == nil {
			continue
		}
		for _, src := range vol.Projected.Sources {
			if s := src.ConfigMap; s != nil && kind == "ConfigMap" && has(s.Items) {
				return s.Name
			}
			if s := src.Secret; s != nil && kind == "Secret" && has(s.Items) {
				return s.Name
			}
		}
	}
	return ""
}

// holderOf reads which pods have a volume: "Volume is already used by pod(s) a, b".
func holderOf(text string) string {
	_, rest, _ := strings.Cut(text, "used by pod(s) ")
	return strings.TrimRight(rest, ". ")
}

// exists reports a ConfigMap or Secret that is certainly there.
func (j *judge) exists(ctx context.Context, kind, namespace, name string) bool {
	var err error
	if kind == "ConfigMap" {
		_, err = j.src.ConfigMap(ctx, namespace, name)
	} else {
		_, err = j.src.Secret(ctx, namespace, name)
	}
	return err == nil
}

func quotedWord(s string) string {
	if m := regexp.MustCompile(`"([^"]+)"`).FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// StorageIn names a PersistentVolumeClaim.
type StorageIn struct {
	Namespace string `json:"namespace"`
	PVC       string `json:"pvc"`
}

const (
	// selectedNode is set once the scheduler has chosen where a volume must be.
	selectedNode = "volume.kubernetes.io/selected-node"
	// handmade is the provisioner of classes whose volumes a person makes.
	handmade = "kubernetes.io/no-provisioner"
	// provisioning: a driver that has said nothing for so long is not there.
	provisioning = 2 * time.Minute
)

func (j *judge) storageTool(ctx context.Context, in StorageIn) (tool.Output[Judged], error) {
	c, err := j.src.PVC(ctx, in.Namespace, in.PVC)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	v := j.claim(ctx, c)
	if c.Status.Phase == corev1.ClaimBound {
		j.users(ctx, v, c)
	}
	return v.output(), nil
}

// claim judges a PersistentVolumeClaim that is not bound or cannot go.
func (j *judge) claim(ctx context.Context, c *corev1.PersistentVolumeClaim) *verdict {
	v := newVerdict(j.ref("", "PersistentVolumeClaim", c.Namespace, c.Name))
	v.state = string(c.Status.Phase)
	class := ""
	if c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	v.fact("class", class)
	if c.Spec.VolumeName != "" {
		pv := j.ref("", "PersistentVolume", "", c.Spec.VolumeName)
		v.edge(v.subject, graph.BoundTo, pv)
	}
	if c.DeletionTimestamp != nil {
		j.claimLeaves(ctx, v, c)
	}
	symptom := func(sev incident.Severity, what string) {
		v.symptom("kube.pvc_pending", sev, fmt.Sprintf("%s is %s", v.subject, what), params("class", firstOf(class, "none")))
	}
	switch c.Status.Phase {
	case corev1.ClaimBound:
		return v
	case corev1.ClaimLost:
		symptom(incident.Critical, "lost")
		v.fault("kube.pvc_lost", incident.Critical, 0.95, v.subject, fmt.Sprintf("the volume %s behind %s is gone", c.Spec.VolumeName, v.subject), params("pv", firstOf(c.Spec.VolumeName, "unknown")))
		return v
	}
	evs := j.events(ctx, v.subject, string(c.UID))
	for _, e := range limit(evs, 4) {
		v.line("event %s: %s", e.Reason, e.Message)
	}
	sc, err := j.src.StorageClass(ctx, class)
	if class == "" {
		sc, err = nil, nil
	}
	failed, isFailed := has(evs, []string{"ProvisioningFailed"})
	switch {
	case waitsForConsumer(sc) && c.Annotations[selectedNode] == "" && !isFailed:
		v.state = "waits for its first pod"
		v.line("its class binds when a pod is scheduled; that is normal")
		return v
	case j.now().Sub(c.CreationTimestamp.Time) < settle && !isFailed:
		v.line("created %s ago, still settling", j.ago(c.CreationTimestamp.Time))
		return v
	}
	symptom(incident.Warning, "not bound since "+j.ago(c.CreationTimestamp.Time))
	j.unbound(ctx, v, c, pending{class: class, sc: sc, noClass: class != "" && missing(err), events: evs, failed: failed})
	return v
}

// pending is what is known of a claim that is not bound.
type pending struct {
	class string
	sc    *storagev1.StorageClass
	// noClass: the class is named and does not exist.
	noClass bool
	events  []source.Event
	failed  source.Event
}

// unbound says why a claim has no volume.
func (j *judge) unbound(ctx context.Context, v *verdict, c *corev1.PersistentVolumeClaim, p pending) {
	ext, waiting := has(p.events, []string{"ExternalProvisioning"})
	_, working := has(p.events, []string{"Provisioning"})
	switch {
	case c.Spec.VolumeName != "":
		j.named(ctx, v, c)
	case p.noClass && !j.offers(ctx, p.class):
		v.edge(v.subject, graph.Class, j.ref("storage.k8s.io", "StorageClass", "", p.class))
		v.fault("kube.pvc_class_missing", incident.Critical, 0.95, v.subject, fmt.Sprintf("%s names StorageClass %s, which does not exist", v.subject, p.class), params("class", p.class, "meant", j.oneStorageClass(ctx, p.class)))
	case c.Spec.StorageClassName == nil:
		v.fault("kube.pvc_class_missing", incident.Critical, 0.85, v.subject, fmt.Sprintf("%s names no StorageClass and there is no default one", v.subject), params("class", "none", "meant", j.oneStorageClass(ctx, "")))
	case p.failed.Message != "" && !p.noClass:
		v.fault("kube.pvc_provision_failed", incident.Critical, 0.92, v.subject, fmt.Sprintf("no volume can be provisioned for %s: %s", v.subject, p.failed.Message), params("class", firstOf(p.class, "none"), "message", p.failed.Message))
	case working:
		v.line("its provisioner is at work")
	case waiting && p.sc != nil && j.now().Sub(ext.First) > provisioning:
		j.provisioner(ctx, v, p.sc.Provisioner)
		v.fault("kube.pvc_no_provisioner", incident.Critical, 0.85, v.subject, fmt.Sprintf("%s waits for the provisioner %s of class %s: %s", v.subject, p.sc.Provisioner, p.class, ext.Message), params("class", p.class, "provisioner", p.sc.Provisioner))
	case p.sc == nil || p.sc.Provisioner == handmade:
		j.noVolume(v, c, 0.85)
	}
}

// noVolume says that no PersistentVolume is there to take.
func (j *judge) noVolume(v *verdict, c *corev1.PersistentVolumeClaim, conf float64) {
	to := j.ref("", "PersistentVolumeClaim", c.Namespace, c.Name)
	q := c.Spec.Resources.Requests[corev1.ResourceStorage]
	modes := make([]string, 0, len(c.Spec.AccessModes))
	for _, m := range c.Spec.AccessModes {
		modes = append(modes, string(m))
	}
	text := fmt.Sprintf("no PersistentVolume offers %s %s for %s, and nothing provisions one", q.String(), strings.Join(modes, ","), to)
	v.line("%s", text)
	v.fault("kube.pvc_no_matching_pv", incident.Critical, conf, to, text, params("size", q.String(), "access_modes", strings.Join(modes, ",")))
}

// named judges a claim that asks for one volume by name.
func (j *judge) named(ctx context.Context, v *verdict, c *corev1.PersistentVolumeClaim) {
	why := ""
	pv, err := j.src.PV(ctx, c.Spec.VolumeName)
	switch {
	case missing(err):
		why = "does not exist"
	case err == nil && pv.Spec.ClaimRef != nil && (pv.Spec.ClaimRef.Namespace != c.Namespace || pv.Spec.ClaimRef.Name != c.Name || pv.Spec.ClaimRef.UID != "" && pv.Spec.ClaimRef.UID != c.UID):
		why = fmt.Sprintf("belongs to claim %s/%s (%s)", pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name, pv.Status.Phase)
	default:
		return
	}
	q := c.Spec.Resources.Requests[corev1.ResourceStorage]
	v.fault("kube.pvc_no_matching_pv", incident.Critical, 0.93, v.subject, fmt.Sprintf("%s asks for PersistentVolume %s, which %s", v.subject, c.Spec.VolumeName, why), params("size", q.String(), "access_modes", fmt.Sprint(c.Spec.AccessModes), "pv", c.Spec.VolumeName))
}

// offers reports whether a person made volumes of a class: its name need be no
// object then.
func (j *judge) offers(ctx context.Context, class string) bool {
	pvs, err := j.src.PVs(ctx)
	return err == nil && slices.ContainsFunc(pvs, func(pv *corev1.PersistentVolume) bool { return pv.Spec.StorageClassName == class })
}

// claimLeaves says why a claim that is being deleted is still there: a pod uses it.
func (j *judge) claimLeaves(ctx context.Context, v *verdict, c *corev1.PersistentVolumeClaim) {
	since := c.DeletionTimestamp.Time
	v.state += ", being deleted"
	if j.now().Sub(since) < creating || len(c.Finalizers) == 0 {
		v.line("being deleted since %s", j.ago(since))
		return
	}
	var users []string
	if pods, err := j.src.Pods(ctx, c.Namespace); err == nil {
		for _, p := range pods {
			if !over(p) && slices.Contains(claimNames(p), c.Name) {
				v.edge(v.subject, graph.HeldBy, j.pod(p))
				users = append(users, ", used by pod "+p.Name)
			}
		}
	}
	finalizers := strings.Join(c.Finalizers, ", ")
	v.fault("kube.finalizer_blocked", incident.Warning, 0.85, v.subject, fmt.Sprintf("%s is being deleted since %s and waits for the finalizers %s%s", v.subject, j.ago(since), finalizers, strings.Join(users, "")), params("finalizers", finalizers, "since", j.ago(since)))
}

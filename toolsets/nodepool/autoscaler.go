package nodepool

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	// silence is how old the autoscaler's status may be: it writes it every scan, 10
	// seconds by default (--scan-interval), and a scan of a large cluster takes minutes.
	silence = 10 * time.Minute
	// heard is how long a pod may wait before that no autoscaler has spoken of it says
	// something.
	heard = 5 * time.Minute
)

// down says, of a pod that a pool with room would take and of which no autoscaler has
// said a word, that the autoscaler does not run.
func (l *look) down(ctx context.Context, p *corev1.Pod, fits []*pool) {
	if l.t.now().Sub(p.CreationTimestamp.Time) < heard {
		return
	}
	scaled := false
	for _, q := range fits {
		scaled = scaled || q.group != nil && !q.group.atMax() || q.provider == karpenter || q.cloud != nil && q.cloud.Autoscale && q.cloud.Count < q.cloud.Max
	}
	if !scaled {
		return
	}
	deps, err := l.t.reads.Deployments(ctx, "")
	if err != nil {
		l.v.gap("Deployments", err)
	}
	found := false
	for _, d := range deps {
		if !autoscales(d) {
			continue
		}
		found = true
		wanted := 1
		if d.Spec.Replicas != nil {
			wanted = int(*d.Spec.Replicas)
		}
		if d.Status.ReadyReplicas > 0 {
			l.v.line("Deployment %s/%s runs (%d of %d ready)", d.Namespace, d.Name, d.Status.ReadyReplicas, wanted)
			continue
		}
		// What fails its pods is the deeper cause, where it is seen.
		code, what := "nodepool.autoscaler_failing", fmt.Sprintf("none of its %d replicas is ready", wanted)
		if wanted == 0 {
			code, what = "nodepool.autoscaler_down", "it is scaled to zero"
		}
		ref := l.t.ref("apps", "Deployment", d.Namespace, d.Name)
		l.grow(p, ref)
		l.v.find(code, 0.9, ref, map[string]string{"ready": "0", "wanted": strconv.Itoa(wanted)},
			"the autoscaler %s does not run: %s; so nobody adds a node for pod %s, which a pool with room would take", ref, what, p.Name)
	}
	if st := l.w.status; !found && st != nil && !st.at.IsZero() && l.t.now().Sub(st.at) > silence {
		ref := l.t.ref("", "ConfigMap", "kube-system", "cluster-autoscaler-status")
		l.grow(p, ref)
		f := l.v.find("nodepool.autoscaler_silent", 0.82, ref, map[string]string{"since": l.t.ago(st.at)},
			"the cluster autoscaler wrote its status last %s ago (usual: within %s) and has said nothing of pod %s, which a pool with room would take", l.t.ago(st.at), span(silence), p.Name)
		f.FirstSeen = st.at
	}
}

// autoscales reports whether a Deployment is the cluster autoscaler or Karpenter, by
// the image it runs.
func autoscales(d *appsv1.Deployment) bool {
	for _, c := range d.Spec.Template.Spec.Containers {
		image, _, _ := strings.Cut(c.Image, "@")
		if at := strings.LastIndex(image, ":"); at > strings.LastIndex(image, "/") {
			image = image[:at]
		}
		for part := range strings.SplitSeq(image, "/") {
			if strings.HasPrefix(part, "cluster-autoscaler") || part == "karpenter" {
				return true
			}
		}
	}
	return false
}

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
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
)

// noSpace is how programs put that a file system is full.
var noSpace = pattern.New(`(?i)no space left on device|enospc|disk quota exceeded|not enough (?:disk )?space`)

// full finds which volume of the pod is full, when its log complains of space:
// the one under the path it names, or the only one it could mean.
func (j *judge) full(ctx context.Context, v *verdict, p *corev1.Pod, container, line string) {
	if !noSpace.MatchString(line) {
		return
	}
	spec := containerSpec(p, container)
	if spec == nil {
		return
	}
	path, claim, shm := "", "", true
	claims := map[string]string{}
	for _, vol := range p.Spec.Volumes {
		switch {
		case vol.PersistentVolumeClaim != nil:
			claims[vol.Name] = vol.PersistentVolumeClaim.ClaimName
		case vol.Ephemeral != nil:
			claims[vol.Name] = p.Name + "-" + vol.Name
		}
	}
	longest, mounted := 0, map[string]string{}
	for _, m := range spec.VolumeMounts {
		if m.MountPath == "/dev/shm" {
			shm = false
		}
		if name := claims[m.Name]; name != "" {
			mounted[m.MountPath] = name
		}
		if strings.Contains(line, strings.TrimSuffix(m.MountPath, "/")+"/") && len(m.MountPath) > longest {
			longest, path, claim = len(m.MountPath), m.MountPath, claims[m.Name]
		}
	}
	switch {
	case strings.Contains(line, "/dev/shm"):
		if shm {
			v.line("container %s has no volume at /dev/shm: it has the runtime's 64 MiB", container)
		}
		return
	case path == "" && len(mounted) == 1 && !regexp.MustCompile(`(?:^|[\s"'(:=])/[\w.-]+/`).MatchString(line):
		// A relative path, or none: the working directory of a program with one volume.
		for at, name := range mounted {
			path, claim = at, name
		}
	}
	if claim == "" {
		return
	}
	to := j.ref("", "PersistentVolumeClaim", p.Namespace, claim)
	size := ""
	if c, err := j.src.PVC(ctx, p.Namespace, claim); err == nil {
		q := c.Status.Capacity[corev1.ResourceStorage]
		if q.IsZero() {
			q = c.Spec.Resources.Requests[corev1.ResourceStorage]
		}
		size = q.String()
	}
	v.edge(v.subject, graph.Mounts, to)
	v.line("%s (%s) is mounted at %s", to, size, path)
	v.fault("kube.volume_full", incident.Critical, 0.93, to, fmt.Sprintf("the volume of %s (%s, mounted at %s) is full, so container %s of pod %s cannot write: %s", to, size, path, container, v.subject.Path(), line),
		params("size", size, "path", path, "pod", p.Name, "container", container))
}

// users reads what the pods that mount a claim and are not ready complain of:
// a full volume shows in their logs and nowhere in the claim.
func (j *judge) users(ctx context.Context, v *verdict, c *corev1.PersistentVolumeClaim) {
	pods, err := j.src.Pods(ctx, c.Namespace)
	if err != nil {
		return
	}
	for _, p := range pods {
		if ready(p) || !slices.Contains(claimNames(p), c.Name) {
			continue
		}
		v.line("pod %s mounts it: %s", p.Name, podState(p))
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			l := j.decisive(ctx, p, s.Name, s.State.Running == nil && s.State.Terminated == nil)
			of := newVerdict(j.pod(p))
			j.full(ctx, of, p, s.Name, l.line)
			for _, f := range of.findings {
				if f.Subject == v.subject {
					v.line("log of %s says: %s", s.Name, l.line)
					v.find(f)
				}
			}
		}
	}
}

package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// images are the actions on which image runs, by digest.
func images(c *Cluster) []*action {
	return []*action{{c: c, compile: redeployDigest, info: planner.Info{
		Name: "redeploy_digest", Family: planner.Images, Text: "Return a container to the last image that is known to work, by digest",
		Params: workloadParams(containerParam(), planner.Param{Name: "digest", Text: "the digest, sha256:...; without, the one that ready pods run, else that of an older revision"}, partParam()),
		Risk:   incident.RiskMedium, Rights: append(workloadRights(), planner.Right{Group: "apps", Resources: []string{"replicasets"}, Verbs: []string{"get", "list"}}),
		Undo: "the image is put back", Verify: "the newest revision is rolled out and available", Sources: []string{"kubernetes.io/docs/concepts/containers/images, image names", "kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1, imageID"},
	}}}
}

// good is a digest that a container can go back to, and why.
type good struct{ digest, why, warn string }

func redeployDigest(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.find(ctx, p)
	if err != nil {
		return nil, err
	}
	k, err := e.container(p)
	if err != nil {
		return nil, err
	}
	from := text(k.m, "image")
	ref, err := name.ParseReference(from, name.WeakValidation)
	if err != nil {
		return nil, p.refuse("set_image", "the image %q of container %s is no reference: %v", from, k.name, err)
	}
	repository := repositoryOf(from)
	g := good{digest: p.str("digest"), why: "as given"}
	if g.digest == "" {
		if g, err = c.lastGood(ctx, p, e, k, repository); err != nil {
			return nil, err
		}
	}
	image := repository + "@" + g.digest
	if _, err := name.NewDigest(image); err != nil {
		return nil, p.missing("digest", "%q is no digest: %v", g.digest, err)
	}
	if d, ok := ref.(name.Digest); ok && d.DigestStr() == g.digest {
		return nil, p.missing("digest", "container %s of %s runs %s already", k.name, e.what(), g.digest)
	}
	d, err := c.imageDraft(ctx, e, k, image)
	if err != nil {
		return nil, err
	}
	d.Say += " (" + g.why + ")"
	if g.warn != "" {
		d.Warnings = append(d.Warnings, g.warn)
	}
	d.Warnings = append(d.Warnings, "the image is fixed by digest from now on: a later push to a tag changes nothing")
	return d, nil
}

// repositoryOf is an image without tag and digest, as it is written.
func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		image = image[:i]
	}
	return image
}

// digestOf gives the repository digest that a container status records; empty when
// the runtime gave the id of an image that no registry knows.
func digestOf(imageID string) string {
	imageID = strings.TrimPrefix(imageID, "docker-pullable://")
	_, digest, ok := strings.Cut(imageID, "@")
	if !ok {
		return ""
	}
	return digest
}

// lastGood finds the digest: what ready pods run and pods that fail do not, then what
// an older revision names by digest. A tag says nothing of what ran under it.
func (c *Cluster) lastGood(ctx context.Context, p params, e *edit, k container, repository string) (good, error) {
	pods, err := c.templatePods(ctx, e)
	if err != nil {
		return good{}, err
	}
	ready, failing := map[string][]string{}, map[string]bool{}
	for _, pod := range pods {
		for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
			d := digestOf(s.ImageID)
			if s.Name != k.name || d == "" || repositoryOf(specImage(pod, k.name)) != repository {
				continue
			}
			if podReady(pod) {
				ready[d] = append(ready[d], pod.Name)
			} else {
				failing[d] = true
			}
		}
	}
	var fit []string
	for d := range ready {
		if !failing[d] {
			fit = append(fit, d)
		}
	}
	slices.Sort(fit)
	switch {
	case len(fit) == 1:
		return good{digest: fit[0], why: fmt.Sprintf("ready pod %s runs it", ready[fit[0]][0])}, nil
	case len(fit) > 1:
		return good{}, p.missing("digest", "ready pods of %s run several digests; say which: %s", e.what(), strings.Join(fit, ", "))
	}
	if e.Ref.Kind != "Deployment" && e.Ref.Kind != "StatefulSet" && e.Ref.Kind != "DaemonSet" {
		return good{}, p.missing("digest", "no ready pod of %s tells a digest that no failing pod runs; say which", e.what())
	}
	all, err := c.revisions(ctx, e.Object)
	if err != nil {
		return good{}, err
	}
	now := text(k.m, "image")
	for _, r := range slices.Backward(all) {
		spec, _ := r.template["spec"].(map[string]any)
		old, ok := (&template{spec: spec}).container(k.name)
		image := text(old.m, "image")
		if d := digestOf(image); ok && d != "" && image != now && repositoryOf(image) == repository && !failing[d] {
			return good{digest: d, why: fmt.Sprintf("revision %d names it", r.number), warn: "that it worked is not proved: no pod of it is left"}, nil
		}
	}
	return good{}, p.missing("digest", "no ready pod and no older revision of %s tells a digest; say which (sha256:...)", e.what())
}

func specImage(p *corev1.Pod, container string) string {
	for _, k := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		if k.Name == container {
			return k.Image
		}
	}
	return ""
}

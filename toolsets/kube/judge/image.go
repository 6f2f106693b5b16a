package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// pullFailure is what the words of a failed pull mean.
type pullFailure struct{ code, what string }

// Families of words, as containerd, CRI-O and Docker pass them on from Docker
// Hub, GHCR, Quay, ECR, ACR, GCR and Artifact Registry. Status numbers count
// only beside their words: digests are full of digits.
var (
	pullName     = pattern.New(`(?i)invalid reference format|couldn't parse image|could not parse reference|invalid image name|repository name must be (?:lowercase|canonical)`)
	pullPlatform = pattern.New(`(?i)no match for platform|no matching manifest for|image (?:os|operating system|architecture).* (?:cannot|not supported)|no image found in (?:manifest list|image index) for architecture`)
	pullLimit    = pattern.New(`(?i)toomanyrequests|too many requests|rate ?limit|rate exceeded|throttl`)
	pullAuth     = pattern.New(`(?i)unauthorized|authentication required|authorization failed|no basic auth|failed to authorize|not authorized|insufficient_scope|pull access denied|access denied|access to the resource is denied|denied: |\bdenied$|status(?: code)?[: ]{1,2}40[13]\b|forbidden|invalid username/password|authorization token has expired|credentials? (?:expired|helper)|permission .* denied|no credentials|unauthenticated request|does not have permission`)
	pullMissing  = pattern.New(`(?i)manifest unknown|manifest_unknown|name unknown|name_unknown|manifest for .* not found|manifest tagged by .* is not found|not found|does not exist|404 not found|status(?: code)?[: ]{1,2}404\b|no such image|tag .* (?:not found|unknown)|repository .* unknown`)
	pullDial     = pattern.New(`(?i)dial tcp|no such host|i/o timeout|connection refused|tls handshake|x509|server gave http response`)
	pullReach    = pattern.New(`(?i)no such host|connection refused|connection reset|i/o timeout|dial tcp|tls handshake|x509|certificate|network is unreachable|no route to host|deadline exceeded|temporary failure in name resolution|server misbehaving|status(?: code)?[: ]{1,2}50[0234]\b|bad gateway|service unavailable|internal server error|unexpected eof|http: server gave http response to https client|proxyconnect|client\.timeout`)
	// Registries that answer alike for what is not there and what one may not see.
	pullEither = pattern.New(`(?i)does not exist or may require|insufficient_scope|requested access to the resource is denied`)
	pullSpace  = pattern.New(`(?i)no space left|disk quota|insufficient storage`)
)

// classifyPull tells the reasons of a failed pull apart. A host that cannot be
// reached is looked for before refusals, because the text of a failed look-up
// of a token server mentions authorization too; a refusal before an absence,
// because registries hide what one may not see.
func classifyPull(reason, text string) pullFailure {
	dialled := pullDial.MatchString(text)
	switch {
	case reason == "ErrImageNeverPull":
		return pullFailure{"kube.image_never_pull", "is not on the node and imagePullPolicy is Never"}
	case reason == "InvalidImageName" || pullName.MatchString(text):
		return pullFailure{"kube.image_invalid_name", "is no valid image reference"}
	case pullPlatform.MatchString(text):
		return pullFailure{"kube.image_pull_failed", "has no build for the node's platform"}
	case pullSpace.MatchString(text):
		return pullFailure{"kube.image_pull_failed", "cannot be stored: the node's disk is full"}
	case dialled:
		return pullFailure{"kube.image_registry_unreachable", "cannot be fetched: its registry cannot be reached"}
	case pullLimit.MatchString(text):
		return pullFailure{"kube.image_registry_unreachable", "cannot be fetched: its registry limits the rate of pulls"}
	case pullAuth.MatchString(text):
		return pullFailure{"kube.image_unauthorized", "is refused by the registry: the credentials are wrong or missing"}
	case pullMissing.MatchString(text):
		return pullFailure{"kube.image_not_found", "does not exist in the registry"}
	case reason == "RegistryUnavailable" || pullReach.MatchString(text):
		return pullFailure{"kube.image_registry_unreachable", "cannot be fetched: its registry does not answer as it should"}
	}
	return pullFailure{"kube.image_pull_failed", "cannot be pulled"}
}

// image judges a container whose image is not there.
func (j *judge) image(ctx context.Context, v *verdict, p *corev1.Pod, container, image string, w *corev1.ContainerStateWaiting, evs []source.Event) {
	text := w.Message
	for _, e := range evs {
		if e.Reason == "Failed" && containsAny(e.Message, "pull", "image") && (strings.Contains(e.Message, `"`+image+`"`) || e.Container() == container || e.Container() == "") && !strings.Contains(text, e.Message) && strings.Contains(e.Message, ":") {
			text = strings.TrimSpace(text + " " + e.Message)
		}
	}
	// The image's own name may hold any of the words ("quota", "denied-access").
	f := classifyPull(w.Reason, strings.ReplaceAll(text, image, ""))
	secrets := j.pullSecrets(ctx, p)
	v.line("image %s: %s", image, text)
	conf := 0.95
	if f.code == "kube.image_unauthorized" && len(secrets) == 0 && pullEither.MatchString(text) {
		f.what, conf = "is refused by the registry: there is no such repository, or it needs credentials, and the pod has none", 0.85
	}
	v.fault(f.code, incident.Critical, conf, v.subject, fmt.Sprintf("image %s of container %s in pod %s %s", image, container, v.subject.Path(), f.what), params("image", image, "container", container, "why", f.what, "within", map[bool]string{true: "registry"}[slices.Contains([]string{"kube.image_not_found", "kube.image_unauthorized", "kube.image_invalid_name"}, f.code)], "pull_secret", strings.Join(secrets, ", ")))
	if f.code != "kube.image_unauthorized" {
		return
	}
	if len(secrets) == 0 {
		v.line("the pod and its ServiceAccount name no imagePullSecrets")
	}
	for _, name := range secrets {
		to := j.ref("", "Secret", p.Namespace, name)
		if _, err := j.src.Secret(ctx, p.Namespace, name); missing(err) {
			v.edge(v.subject, graph.Uses, to)
			v.line("pull secret %s does not exist", to.Path())
			v.fault("kube.secret_missing", incident.Critical, 0.95, to, fmt.Sprintf("Secret %s, with which pod %s would pull image %s, does not exist", to.Path(), p.Name, image), params("pod", p.Name, "container", container))
		}
	}
}

// pullSecrets lists the pull secrets of a pod: its own, which admission fills
// with those of its ServiceAccount when it has none.
func (j *judge) pullSecrets(ctx context.Context, p *corev1.Pod) []string {
	refs := p.Spec.ImagePullSecrets
	if len(refs) == 0 {
		if sa, err := j.src.ServiceAccount(ctx, p.Namespace, firstOf(p.Spec.ServiceAccountName, "default")); err == nil {
			refs = sa.ImagePullSecrets
		}
	}
	var out []string
	for _, r := range refs {
		if r.Name != "" && !slices.Contains(out, r.Name) {
			out = append(out, r.Name)
		}
	}
	return out
}

// pulling reports a reason of a container that waits for its image.
func pulling(reason string) bool {
	switch reason {
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return true
	}
	return false
}

// architecture says for which machine an image would have to be built, where a
// program of it cannot be executed.
func (j *judge) architecture(ctx context.Context, p *corev1.Pod) string {
	n, err := j.src.Node(ctx, p.Spec.NodeName)
	if err != nil || n.Labels[corev1.LabelArchStable] == "" {
		return ""
	}
	return fmt.Sprintf("; node %s is %s: the image is built for another architecture, or the file is no program", n.Name, n.Labels[corev1.LabelArchStable])
}

package fit

import (
	"context"
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// serving is what a pod's own words say about the engine it starts.
type serving struct {
	container string
	settings  engine.Settings
	// argErr is an argument that cannot be read.
	argErr error
	// gpus the container gets, 0 if that is not said by counted resources.
	gpus int
	// spread says that one instance spans several pods.
	spread bool
	// longAllowed says that the engine is told to accept any context.
	longAllowed bool
}

// engineOf finds the container that starts a serving engine; ok is false if
// there is none.
func engineOf(p *corev1.Pod) (serving, bool) {
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		env := map[string]string{}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				env[e.Name] = engine.Expand(e.Value, env)
			}
		}
		words := append(append([]string{}, c.Command...), c.Args...)
		s, ok, err := engine.Command(words, env)
		if !ok && len(c.Command) == 0 && vllmImage(c.Image) && len(c.Args) > 0 {
			// The image's own entry point is the server; the arguments are its flags.
			flat := make([]string, len(c.Args))
			for i, a := range c.Args {
				flat[i] = engine.Expand(a, env)
			}
			s, err = engine.Parse(flat, engine.VLLM)
			ok = true
		}
		if !ok {
			continue
		}
		v := serving{container: c.Name, settings: s, argErr: err, gpus: counted(c.Resources), longAllowed: env["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] == "1"}
		v.spread = joined(p, words, env)
		return v, true
	}
	return serving{}, false
}

// vllmImage reports whether an image is vLLM's server image, whose entry point
// is the server.
func vllmImage(image string) bool {
	name, _, _ := strings.Cut(path.Base(image), ":")
	name, _, _ = strings.Cut(name, "@")
	return name == "vllm-openai" || name == "vllm-openai-rocm"
}

// joined reports whether several pods make one engine: the GPUs of this pod are
// then not all it has.
func joined(p *corev1.Pod, words []string, env map[string]string) bool {
	for k := range p.Labels {
		if strings.HasPrefix(k, "leaderworkerset.sigs.k8s.io/") || strings.HasPrefix(k, "ray.io/") {
			return true
		}
	}
	for _, k := range []string{"LWS_GROUP_SIZE", "RAY_ADDRESS", "LWS_LEADER_ADDRESS"} {
		if _, ok := env[k]; ok {
			return true
		}
	}
	all := strings.Join(words, " ")
	for _, s := range []string{"--nnodes", "--node-rank", "--data-parallel-size-local", "--data-parallel-address", "--dist-init-addr", "distributed-executor-backend ray", "distributed-executor-backend=ray"} {
		if strings.Contains(strings.ReplaceAll(all, "_", "-"), s) {
			return true
		}
	}
	return false
}

// counted adds up the GPUs among a container's limits. Slices count one each; a
// DRA claim is not counted here.
func counted(r corev1.ResourceRequirements) int {
	n := 0
	for name, q := range r.Limits {
		s := string(name)
		if s == "nvidia.com/gpu" || s == "amd.com/gpu" || strings.HasPrefix(s, "nvidia.com/mig-") || s == "nvidia.com/gpu.shared" {
			n += int(min(q.Value(), maxCount))
		}
	}
	return n
}

// known is a model whose dimensions were found, and where.
type known struct {
	model model.Model
	// bytes of the weights where they are published; 0 if not.
	bytes int64
	about string
}

// modelOf finds the dimensions of the model an engine is told to serve: in a
// ConfigMap mounted where the engine reads its config.json, else by its exact
// name in the catalogue. why says what stands in the way.
func (t *Toolset) modelOf(ctx context.Context, p *corev1.Pod, s serving) (k known, why string) {
	name := s.settings.Model
	if name == "" {
		if s.settings.File != "" {
			return k, "the model is named in " + s.settings.File + ", which cannot be seen from outside"
		}
		return k, "the arguments name no model"
	}
	if raw, from, err := t.mounted(ctx, p, s); err != nil {
		return k, "the config.json in " + from + " cannot be read: " + tool.UserText(err)
	} else if raw != "" {
		m, err := model.Parse(name, []byte(raw))
		if err != nil {
			return k, from + ": " + err.Error()
		}
		return known{model: m, about: "config.json in " + from}, ""
	}
	if from := downloaded(p, name); from != "" {
		name = from
	}
	id := name
	if strings.HasPrefix(name, "/") {
		// A path that ends in OWNER/NAME names the repository it was copied from.
		parts := strings.Split(strings.Trim(name, "/"), "/")
		if len(parts) < 2 {
			return k, "the model lies at " + name + ", whose config.json cannot be seen from outside"
		}
		id = strings.Join(parts[len(parts)-2:], "/")
	}
	e, _, ok := model.Lookup(t.desk.models, id)
	if !ok || !strings.Contains(id, "/") {
		return k, "model " + name + " is not in the catalogue, and its config.json cannot be seen from outside"
	}
	m, err := e.Model()
	if err != nil {
		return k, err.Error()
	}
	k = known{model: m, about: "catalogue: " + e.ID}
	if !restored(m, s.settings) {
		k.bytes = e.Bytes()
	}
	return k, ""
}

// downloaded finds the repository an init container copies to a path, as KServe's
// storage initializer does: "hf://OWNER/NAME /mnt/models".
func downloaded(p *corev1.Pod, dest string) string {
	for _, c := range p.Spec.InitContainers {
		words := append(append([]string{}, c.Command...), c.Args...)
		for i, w := range words {
			id, ok := strings.CutPrefix(w, "hf://")
			if !ok || i+1 >= len(words) || strings.TrimRight(words[i+1], "/") != strings.TrimRight(dest, "/") {
				continue
			}
			id, _, _ = strings.Cut(id, ":")
			return id
		}
	}
	return ""
}

// mounted reads config.json out of a ConfigMap that is mounted where the engine
// looks for it; raw is empty if there is none.
func (t *Toolset) mounted(ctx context.Context, p *corev1.Pod, s serving) (raw, from string, err error) {
	want := []string{}
	for _, dir := range []string{s.settings.ConfigPath, s.settings.Model} {
		if strings.HasPrefix(dir, "/") {
			want = append(want, path.Join(dir, "config.json"))
		}
	}
	if len(want) == 0 || t.objects == nil {
		return "", "", nil
	}
	var mounts []corev1.VolumeMount
	for _, c := range p.Spec.Containers {
		if c.Name == s.container {
			mounts = c.VolumeMounts
		}
	}
	for _, w := range want {
		for _, m := range mounts {
			for _, v := range p.Spec.Volumes {
				if v.Name != m.Name || v.ConfigMap == nil {
					continue
				}
				key, ok := keyAt(v.ConfigMap, m, w)
				if !ok {
					continue
				}
				from = "ConfigMap " + v.ConfigMap.Name
				data, err := t.objects.ConfigMap(ctx, p.Namespace, v.ConfigMap.Name)
				if err != nil {
					return "", from, err
				}
				if data[key] != "" {
					return data[key], from, nil
				}
			}
		}
	}
	return "", "", nil
}

// keyAt gives the key of a ConfigMap that appears at a path of the container.
func keyAt(cm *corev1.ConfigMapVolumeSource, m corev1.VolumeMount, file string) (string, bool) {
	rel := ""
	switch {
	case m.SubPath != "" && path.Clean(m.MountPath) == file:
		rel = m.SubPath
	case m.SubPath == "" && path.Dir(file) == path.Clean(m.MountPath):
		rel = path.Base(file)
	default:
		return "", false
	}
	if len(cm.Items) == 0 {
		return rel, true
	}
	for _, it := range cm.Items {
		if path.Clean(it.Path) == rel {
			return it.Key, true
		}
	}
	return "", false
}

// gpuOf finds the GPU of the pod's node by the labels of GPU feature discovery,
// else by the machine type. why says what stands in the way.
func (t *Toolset) gpuOf(ctx context.Context, p *corev1.Pod) (g estimate.GPU, about, why string) {
	if p.Spec.NodeName == "" {
		return g, "", "the pod has no node yet"
	}
	n, err := t.objects.Node(ctx, p.Spec.NodeName)
	if err != nil {
		return g, "", "node " + p.Spec.NodeName + " cannot be read: " + tool.UserText(err)
	}
	product := n.Labels["nvidia.com/gpu.product"]
	if product == "" {
		product = n.Labels["amd.com/gpu.product-name"]
	}
	mib, _ := strconv.Atoi(n.Labels["nvidia.com/gpu.memory"])
	if mib < 0 || mib > 16<<20 {
		mib = 0
	}
	if product == "" && mib == 0 {
		sku := n.Labels["node.kubernetes.io/instance-type"]
		for _, s := range t.desk.skus {
			if sku != "" && strings.EqualFold(s.SKU, sku) {
				product = s.GPU
				about = "machine type " + sku
				break
			}
		}
	}
	m, err := t.desk.gpus.Find(product)
	switch {
	case product == "" && mib == 0:
		return g, "", "node " + n.Name + " does not say which GPUs it has (no label nvidia.com/gpu.product)"
	case err != nil && mib == 0:
		return g, "", "the memory of " + product + " is not known"
	case m.MIG != "" && mib == 0:
		return g, "", "the memory of the slice " + product + " is not reported"
	case mib > 0:
		return estimate.GPU{Name: product, Bytes: int64(mib) << 20, Capability: m.Capability}, "label nvidia.com/gpu.memory of node " + n.Name, ""
	}
	if about == "" {
		about = "label nvidia.com/gpu.product of node " + n.Name + ", memory from the table"
	}
	return estimate.GPU{Name: m.Name, Bytes: m.Bytes(), Capability: m.Capability}, about, ""
}

// phase is what the serving container does now.
type phase string

const (
	isServing  phase = "ready"
	isStarting phase = "starting"
	isFailing  phase = "failing"
	isWaiting  phase = "not started"
)

// phaseOf reads a container's state. Failing is one that ended with an error and
// has not been ready since.
func phaseOf(p *corev1.Pod, container string) (ph phase, restarts int32) {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name != container {
			continue
		}
		ended := func(t *corev1.ContainerStateTerminated) bool { return t != nil && t.ExitCode != 0 }
		switch {
		case c.State.Running != nil && c.Ready:
			return isServing, c.RestartCount
		case ended(c.State.Terminated), ended(c.LastTerminationState.Terminated):
			return isFailing, c.RestartCount
		case c.State.Running != nil:
			return isStarting, c.RestartCount
		}
		return isWaiting, c.RestartCount
	}
	return isWaiting, 0
}

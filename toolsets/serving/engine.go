package serving

import (
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Engines that are known by name.
const (
	vllm   = "vLLM"
	sglang = "SGLang"
	trtllm = "TensorRT-LLM"
	triton = "Triton"
	picker = "endpoint picker"
	front  = "Dynamo frontend"
	other  = "serving process"
)

// engine is the container of a pod that serves or routes, as its own words say.
type engine struct {
	container string
	kind      string
	// names the model goes by at its API; empty if they are not said.
	names []string
	// port it listens on; 0 if that is not said.
	port int
	// model id or path it loads.
	model string
	args  map[string][]string
	env   map[string]string
}

// known gives the words by which a container's program is recognised, the most
// telling first.
func known() []struct{ word, kind string } {
	return []struct{ word, kind string }{
		{"trtllm-serve", trtllm}, {"sglang.launch_server", sglang}, {"sglang", sglang}, {"tritonserver", triton},
		{"dynamo.frontend", front}, {"dynamo.vllm", vllm}, {"dynamo.sglang", sglang}, {"dynamo.trtllm", trtllm},
		{"vllm.entrypoints", vllm}, {"vllm serve", vllm}, {"endpoint-picker", picker}, {"inference-scheduler", picker}, {"llm-d-router", picker}, {"/epp", picker},
		{"vllm", vllm}, {"tensorrt", trtllm}, {"trtllm", trtllm}, {"text-generation-inference", other}, {"llama.cpp", other}, {"llama-server", other},
	}
}

// engineOf finds the container that serves or routes requests.
func engineOf(p *corev1.Pod) (engine, bool) {
	rank, best := len(known()), engine{}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		words := strings.Join(append(slices.Clone(c.Command), c.Args...), " ") + " " + imageName(c.Image)
		for j, k := range known() {
			if j < rank && strings.Contains(strings.ToLower(words), k.word) {
				rank = j
				best = engine{container: c.Name, kind: k.kind}
				best.readArgs(c)
			}
		}
	}
	return best, best.container != ""
}

// imageName keeps the last two parts of an image's name, without registry and tag:
// that a registry is called vllm says nothing.
func imageName(image string) string {
	name, _, _ := strings.Cut(image, "@")
	dir, base := path.Split(name)
	base, _, _ = strings.Cut(base, ":")
	return path.Base(dir) + "/" + base
}

// readArgs reads flags in both spellings, also from a line given to a shell.
func (e *engine) readArgs(c *corev1.Container) {
	e.args, e.env = map[string][]string{}, map[string]string{}
	for _, v := range c.Env {
		if v.ValueFrom == nil {
			e.env[v.Name] = v.Value
		} else if f := v.ValueFrom.FieldRef; f != nil {
			e.env[v.Name] = "$(" + f.FieldPath + ")"
		}
	}
	var words []string
	for _, w := range slices.Concat(c.Command, c.Args) {
		if strings.ContainsAny(w, " \n") {
			words = append(words, strings.Fields(strings.ReplaceAll(w, "\\\n", " "))...)
			continue
		}
		words = append(words, w)
	}
	flag, served := "", false
	for i, w := range words {
		w = strings.Trim(w, `"'`)
		switch {
		case strings.HasPrefix(w, "--"):
			k, v, ok := strings.Cut(w[2:], "=")
			flag = strings.ReplaceAll(k, "_", "-")
			e.args[flag] = nil
			if ok {
				e.args[flag], flag = []string{v}, ""
			}
		case flag != "":
			e.args[flag] = append(e.args[flag], w)
		case w == "serve" && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-"):
			e.model, served = strings.Trim(words[i+1], `"'`), true
		}
	}
	if !served {
		e.model = e.flag("model", "model-path", "model-id")
	}
	e.names = e.args["served-model-name"]
	if len(e.names) == 0 && e.model != "" {
		e.names = []string{e.model}
	}
	if n, err := strconv.Atoi(e.flag("port", "http-port")); err == nil && n > 0 && n < 65536 {
		e.port = n
	}
	for _, l := range e.args["lora-modules"] {
		if name, _, ok := strings.Cut(l, "="); ok {
			e.names = append(e.names, name)
		}
	}
}

// flag gives the first value of the first of several flags that is set.
func (e engine) flag(names ...string) string {
	for _, n := range names {
		if v := e.args[n]; len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// defaultPort is where an engine listens unless told otherwise (serving reference,
// section 4); 0 if that is not known.
func (e engine) defaultPort() int {
	switch e.kind {
	case vllm, trtllm, triton, front:
		return 8000
	case sglang:
		return 30000
	}
	return 0
}

// metricsPort and metricsPath are where an engine shows its metrics.
func (e engine) metricsPort() (int, string) {
	switch e.kind {
	case triton:
		return 8002, "/metrics"
	case picker:
		return 9090, "/metrics"
	case trtllm:
		return max(e.port, 8000), "/prometheus/metrics"
	}
	if e.port > 0 {
		return e.port, "/metrics"
	}
	return e.defaultPort(), "/metrics"
}

// usesGPU reports whether a pod asks for GPUs, by device plugin or by claim.
func usesGPU(p *corev1.Pod) bool { return gpusOf(p) > 0 }

// groupOf gives the labels by which a pod's group is found, empty if it has none.
func groupOf(p *corev1.Pod) map[string]string {
	for _, keys := range [][]string{
		{"leaderworkerset.sigs.k8s.io/name", lwsGroup}, {"ray.io/cluster"}, {"jobset.sigs.k8s.io/jobset-name"}, {"grove.io/podgang"},
		{"training.kubeflow.org/job-name"}, {"trainer.kubeflow.org/trainjob-name"}, {"batch.kubernetes.io/job-name"},
	} {
		set := map[string]string{}
		for _, k := range keys {
			if v := p.Labels[k]; v != "" {
				set[k] = v
			}
		}
		if len(set) == len(keys) {
			return set
		}
	}
	return nil
}

package actions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// settersOf are the actions that change the template or the size of a workload.
func settersOf(c *Cluster) []*action {
	const proved = "the newest revision is rolled out and available"
	act := func(name, text, undo string, compile func(context.Context, *Cluster, params) (*draft, error), sources []string, more ...planner.Param) *action {
		return &action{c: c, compile: compile, info: planner.Info{
			Name: name, Family: planner.Workloads, Text: text, Params: workloadParams(append(more, partParam())...), Risk: incident.RiskMedium, Rights: workloadRights(),
			Undo: undo, Verify: proved, Sources: sources,
		}}
	}
	required := planner.Param{Name: "container", Required: true, Text: "the container"}
	return []*action{
		act("set_image", "Set the image of a container", "the image is put back", setImage, []string{"kubernetes.io/docs/concepts/containers/images"},
			containerParam(), planner.Param{Name: "image", Text: "the image, with tag or digest"}),
		act("scale", "Set the number of replicas", "the number is put back", scale, []string{"kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale"},
			planner.Param{Name: "replicas", Type: planner.Int, Text: "how many there shall be"}),
		act("patch_probe", "Correct a probe of a container", "the probe is put back", patchProbe, []string{"kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes"},
			required, planner.Param{Name: "probe", Values: []string{"liveness", "readiness", "startup"}, Text: "which one"},
			planner.Param{Name: "port", Text: "the port asked, by number or name"},
			planner.Param{Name: "path", Text: "the HTTP path asked"},
			planner.Param{Name: "initial_delay", Type: planner.Int, Text: "seconds before the first try"},
			planner.Param{Name: "period", Type: planner.Int, Text: "seconds between two tries"},
			planner.Param{Name: "timeout", Type: planner.Int, Text: "seconds for one try"},
			planner.Param{Name: "failures", Type: planner.Int, Text: "tries that may fail in a row"},
			planner.Param{Name: "value", Type: planner.JSON, Text: "the whole probe as Kubernetes writes it, or null for none"}),
		act("patch_resources", "Change requests or limits of a container", "the values are put back", patchResources, []string{"kubernetes.io/docs/concepts/configuration/manage-resources-containers"},
			containerParam(), planner.Param{Name: "resource", Text: "the resource, such as memory or nvidia.com/gpu, or /dev/shm"},
			planner.Param{Name: "value", Type: planner.Quantity, Text: "the quantity"},
			planner.Param{Name: "of", Values: []string{"requests", "limits", "both"}, Text: "which of the two; when it is not given, the limit and what was equal to it"}),
		act("patch_args", "Change command, arguments or environment of a container", "they are put back", patchArgs, []string{"kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container", "docs.vllm.ai, engine arguments"},
			containerParam(), planner.Param{Name: "what", Text: "what shall change: a flag with its value, or NAME=value for the environment"},
			planner.Param{Name: "set", Text: "flags with their values, such as --max-model-len=8192"},
			planner.Param{Name: "remove", Text: "flags that go"},
			planner.Param{Name: "env", Text: "NAME=value, or NAME=@status.podIP for a field of the pod"},
			planner.Param{Name: "unset_env", Text: "the name of a variable that goes"},
			planner.Param{Name: "args", Type: planner.JSON, Text: "all arguments, as a JSON list"},
			planner.Param{Name: "command", Type: planner.JSON, Text: "the whole command, as a JSON list"}),
		act("patch_scheduling", "Change node selector, affinity, tolerations, spread or priority", "the field is put back", patchScheduling, []string{"kubernetes.io/docs/concepts/scheduling-eviction"},
			planner.Param{Name: "field", Required: true, Text: "nodeSelector, tolerations, affinity, topologySpreadConstraints, priorityClassName, schedulerName, dnsPolicy or hostPort"},
			planner.Param{Name: "value", Text: "label=value, key=value:Effect, a topology key, a name, a port, or the whole field as JSON"},
			planner.Param{Name: "op", Values: []string{"add", "remove", "set", "relax"}, Text: "add or remove one entry, set the whole field, or relax a spread constraint or affinity to a preference"}),
	}
}

func setImage(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.find(ctx, p)
	if err != nil {
		return nil, err
	}
	k, err := e.container(p)
	if err != nil {
		return nil, err
	}
	from, image := text(k.m, "image"), p.str("image")
	switch image {
	case "":
		return nil, p.missing("image", "say which image container %s of %s shall run; now it is %s (rollout_undo goes back to an earlier one, redeploy_digest to the last good digest)", k.name, e.what(), from)
	case from:
		return nil, p.missing("image", "container %s of %s has the image %s already; give another one, or rollout_restart to pull it again", k.name, e.what(), image)
	}
	if _, err := name.ParseReference(image, name.WeakValidation); err != nil {
		return nil, p.missing("image", "%q is no image reference: %v", image, err)
	}
	d, err := c.imageDraft(ctx, e, k, image)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(image, "@") {
		if tag := image[strings.LastIndex(image, "/")+1:]; !strings.Contains(tag, ":") || strings.HasSuffix(tag, ":latest") {
			d.Warnings = append(d.Warnings, "the tag of "+image+" moves: what runs is decided at each pull")
		}
	}
	return d, nil
}

// imageDraft sets the image of one container.
func (c *Cluster) imageDraft(ctx context.Context, e *edit, k container, image string) (*draft, error) {
	say := fmt.Sprintf("Set image of container %s of %s from %s to %s", k.name, e.what(), text(k.m, "image"), image)
	d := c.draft("%s", say)
	err := d.rollout(ctx, e, say, func(t *template) error {
		k, _ := t.container(k.name)
		k.m["image"] = image
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.Verify = slices.Insert(d.Verify, 0, fieldIs(e.Object, k.at+".image", image, "container "+k.name+" has the image "+image))
	return d, nil
}

// sizes are where a kind keeps its number of replicas, by "Kind.group"; the part
// chooses among several.
func sizes(e *edit) (path []string, ok bool) {
	switch e.GroupVersionKind().GroupKind().String() {
	case "Deployment.apps", "StatefulSet.apps", "ReplicaSet.apps", "ReplicationController", "LeaderWorkerSet.leaderworkerset.x-k8s.io", "Rollout.argoproj.io":
		return []string{"spec", "replicas"}, true
	case "LLMInferenceService.serving.kserve.io":
		if strings.HasPrefix(e.t.part, "prefill") {
			return []string{"spec", "prefill", "replicas"}, true
		}
		return []string{"spec", "replicas"}, true
	case "InferenceService.serving.kserve.io":
		return []string{"spec", e.t.part, "minReplicas"}, true
	}
	return nil, false
}

func scale(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.findWhole(ctx, p)
	if err != nil {
		return nil, err
	}
	path, ok := sizes(e)
	group := -1
	if e.Ref.Kind == "RayCluster" && e.t.part != "head" {
		group, ok = rayGroup(e), true
	}
	if !ok {
		return nil, p.refuse("change what decides the number of its pods", "%s has no number of replicas", e.what())
	}
	from := int64(1)
	if group >= 0 {
		from = rayReplicas(e.Unstructured, group)
	} else if n, ok, _ := unstructured.NestedInt64(e.Object.Object, path...); ok {
		from = n
	}
	if p.str("replicas") == "" {
		return nil, p.missing("replicas", "say how many replicas %s shall have; now %d", e.what(), from)
	}
	to := p.num("replicas", 0)
	switch {
	case to < 0:
		return nil, p.missing("replicas", "%d is less than none", to)
	case to == from:
		return nil, p.missing("replicas", "%s has %d replicas already", e.what(), from)
	}
	say := fmt.Sprintf("Scale %s from %d to %d", e.what(), from, to)
	d := c.draft("%s", say)
	d.climbed(e)
	err = d.patch(e.Object, say, func(u *unstructured.Unstructured) error {
		if group >= 0 {
			list, _, _ := unstructured.NestedSlice(u.Object, "spec", "workerGroupSpecs")
			list[group].(map[string]any)["replicas"] = to
			return unstructured.SetNestedSlice(u.Object, list, "spec", "workerGroupSpecs")
		}
		return unstructured.SetNestedField(u.Object, to, path...)
	})
	if err != nil {
		return nil, err
	}
	if err := d.scaled(ctx, e, from, to); err != nil {
		return nil, err
	}
	return d, d.autoscaled(ctx, e, to)
}

func rayGroup(e *edit) int {
	list, _, _ := unstructured.NestedSlice(e.Object.Object, "spec", "workerGroupSpecs")
	return slices.IndexFunc(list, func(v any) bool { m, _ := v.(map[string]any); return text(m, "groupName") == e.t.part })
}

func rayReplicas(u *unstructured.Unstructured, group int) int64 {
	list, _, _ := unstructured.NestedSlice(u.Object, "spec", "workerGroupSpecs")
	m, _ := list[group].(map[string]any)
	n, ok, _ := unstructured.NestedInt64(m, "replicas")
	if !ok {
		return 1
	}
	return n
}

// replica is what one replica is made of: pods, GPUs asked for as extended resources,
// and claims. A replica of a LeaderWorkerSet is a leader and size-1 workers.
func (e *edit) replica() (pods, gpus, claims int, err error) {
	times := []int{1}
	list := []*template{e.t}
	if e.Ref.Kind == "LeaderWorkerSet" {
		size, ok, _ := unstructured.NestedInt64(e.Object.Object, "spec", "leaderWorkerTemplate", "size")
		if !ok {
			size = 1
		}
		all := templates(e.Unstructured)
		list, times = []*template{all[0], all[len(all)-1]}, []int{1, max(0, int(size)-1)}
	}
	for i, t := range list {
		s, err := t.typed()
		if err != nil {
			return 0, 0, 0, err
		}
		n := times[i]
		pods, gpus, claims = pods+n, gpus+n*requestedGPUs(s), claims+n*len(s.ResourceClaims)
	}
	return pods, gpus, claims, nil
}

// scaled says whom a change of the number hurts, and what proves it.
func (d *draft) scaled(ctx context.Context, e *edit, from, to int64) error {
	each, gpus, claims, err := e.replica()
	if err != nil {
		return err
	}
	if to < from {
		pods, err := d.c.templatePods(ctx, e)
		if err != nil {
			return err
		}
		// A whole group goes for a replica of a LeaderWorkerSet; else one pod each.
		if gone := int(from - to); e.Ref.Kind != "LeaderWorkerSet" && len(pods) > gone && to > 0 {
			slices.SortStableFunc(pods, leaving(e.Object))
			pods = pods[:gone]
			d.Warnings = append(d.Warnings, "the controller chooses the pods that go: those named are its likely choice")
		}
		if d.Blast, err = d.c.blast(ctx, pods); err != nil {
			return err
		}
		if d.Blast.PodCount > 0 {
			d.Lasting = "what the stopped pods held in memory and in emptyDir volumes"
		}
	} else if more := int(to - from); gpus > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d more pod(s) ask for %d GPU(s)", each*more, gpus*more))
	} else if claims > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d more pod(s) ask for devices by %d claim(s)", each*more, claims*more))
	}
	if to == 0 {
		d.Risk = incident.RiskHigh
		d.Warnings = append(d.Warnings, "nothing of it runs afterwards: whoever uses it gets no answer")
		d.Verify = append(d.Verify, incident.Check{Kind: CheckField, Subject: e.Ref, Params: map[string]string{"path": "status.replicas", "value": ""}, Say: "no pod of " + e.Ref.String() + " is left", Within: 600})
		return nil
	}
	d.Verify = append(d.Verify, proofOf(e, int(to))...)
	if to > from {
		d.Verify = slices.Insert(d.Verify, 0, incident.Check{Kind: CheckScheduled, Subject: e.Ref, Say: "every pod of " + e.Ref.String() + " has a node", Within: 300})
	}
	return nil
}

// autoscaled warns when an autoscaler will set the number back.
func (d *draft) autoscaled(ctx context.Context, e *edit, to int64) error {
	for _, a := range []struct{ kind, low, high string }{
		{"HorizontalPodAutoscaler.autoscaling", "minReplicas", "maxReplicas"}, {"ScaledObject.keda.sh", "minReplicaCount", "maxReplicaCount"},
	} {
		list, err := d.c.List(ctx, a.kind, e.GetNamespace(), "", "")
		if notThere(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, o := range list {
			ref, _, _ := unstructured.NestedStringMap(o.Object, "spec", "scaleTargetRef")
			kind := ref["kind"]
			if kind == "" {
				kind = "Deployment" // keda.sh: the default of scaleTargetRef.kind
			}
			if kind != e.Ref.Kind || ref["name"] != e.GetName() {
				continue
			}
			if to == 0 && a.kind[0] == 'H' {
				d.Warnings = append(d.Warnings, o.Ref.String()+" stands still while there are 0 replicas")
				continue
			}
			low, _, _ := unstructured.NestedInt64(o.Object, "spec", a.low)
			high, _, _ := unstructured.NestedInt64(o.Object, "spec", a.high)
			d.Warnings = append(d.Warnings, fmt.Sprintf("%s sets the number back between %d and %d: change its bounds with hpa_patch for it to last", o.Ref, low, high))
		}
	}
	return nil
}

func patchProbe(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.find(ctx, p)
	if err != nil {
		return nil, err
	}
	k, err := e.container(p)
	if err != nil {
		return nil, err
	}
	which := p.str("probe")
	if which == "" {
		return nil, p.missing("probe", "say which probe of container %s: liveness, readiness or startup", k.name)
	}
	was, _ := k.m[which+"Probe"].(map[string]any)
	next, err := nextProbe(p, e, k, which, was)
	if err != nil {
		return nil, err
	}
	from, to := probeText(was), probeText(next)
	if from == to {
		return nil, p.missing("value", "the %s probe of container %s is %s already", which, k.name, from)
	}
	say := fmt.Sprintf("Change the %s probe of container %s of %s from %s to %s", which, k.name, e.what(), from, to)
	d := c.draft("%s", say)
	err = d.rollout(ctx, e, say, func(t *template) error {
		k, _ := t.container(k.name)
		if next == nil {
			delete(k.m, which+"Probe")
			return nil
		}
		k.m[which+"Probe"] = next
		return nil
	})
	if next == nil {
		d.Warnings = append(d.Warnings, map[string]string{
			"liveness": "without it a container that hangs is not restarted", "readiness": "without it a pod gets traffic as soon as it runs",
			"startup": "without it the other probes count from the start",
		}[which])
	}
	return d, err
}

// quantityText is how a quantity that may be missing is said.
func quantityText(m map[string]any, resource string) string {
	if v, ok := m[resource]; ok {
		return fmt.Sprint(v)
	}
	return "none"
}

func patchResources(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.find(ctx, p)
	if err != nil {
		return nil, err
	}
	k, err := e.container(p)
	if err != nil {
		return nil, err
	}
	res := p.str("resource")
	if res == "shm" || strings.Contains(res, "/dev/shm") {
		return patchShm(ctx, c, p, e, k)
	}
	requests, _, _ := unstructured.NestedMap(k.m, "resources", "requests")
	limits, _, _ := unstructured.NestedMap(k.m, "resources", "limits")
	if res == "" {
		return nil, p.missing("resource", "say which resource of container %s; it has requests %s and limits %s", k.name, mapText(requests), mapText(limits))
	}
	if strings.ContainsAny(res, " \t,") {
		return nil, p.missing("resource", "%q is no name of a resource", res)
	}
	if p.str("value") == "" {
		return nil, p.missing("value", "say how much %s container %s of %s shall have; now the request is %s and the limit %s", res, k.name, e.what(), quantityText(requests, res), quantityText(limits, res))
	}
	want, err := resource.ParseQuantity(p.str("value"))
	if err != nil || want.Sign() < 0 {
		return nil, p.missing("value", "%s is no quantity of at least nothing", p.str("value"))
	}
	fields, err := fieldsOf(p, res, want, requests, limits)
	if err != nil {
		return nil, err
	}
	var changes []string
	for _, f := range fields {
		m := map[string]map[string]any{"requests": requests, "limits": limits}[f]
		if from := quantityText(m, res); !same(from, want) {
			changes = append(changes, fmt.Sprintf("%s from %s to %s", strings.TrimSuffix(f, "s"), from, p.str("value")))
		}
	}
	if len(changes) == 0 {
		return nil, p.missing("value", "container %s has %s of %s already", k.name, p.str("value"), res)
	}
	say := fmt.Sprintf("Set %s of container %s of %s: %s", res, k.name, e.what(), strings.Join(changes, ", "))
	d := c.draft("%s", say)
	err = d.rollout(ctx, e, say, func(t *template) error {
		k, _ := t.container(k.name)
		for _, f := range fields {
			if err := unstructured.SetNestedField(k.m, p.str("value"), "resources", f, res); err != nil {
				return err
			}
		}
		return nil
	})
	return d, err
}

func equal(a, b any) bool {
	q, err := resource.ParseQuantity(fmt.Sprint(a))
	return err == nil && same(fmt.Sprint(b), q)
}

func same(v string, q resource.Quantity) bool {
	x, err := resource.ParseQuantity(v)
	return err == nil && x.Cmp(q) == 0
}

// fieldsOf decides which of requests and limits a quantity is for. Extended resources
// have one value for both (kubernetes.io, extended resources).
func fieldsOf(p params, res string, want resource.Quantity, requests, limits map[string]any) ([]string, error) {
	of := p.str("of")
	_, asked := requests[res]
	_, limited := limits[res]
	if strings.Contains(res, "/") {
		if of != "" && of != "both" {
			return nil, p.missing("of", "requests and limits of the extended resource %s have to be equal", res)
		}
		if asked {
			return []string{"requests", "limits"}, nil
		}
		return []string{"limits"}, nil
	}
	over := func(m map[string]any) bool {
		x, err := resource.ParseQuantity(fmt.Sprint(m[res]))
		return err == nil && want.Cmp(x) > 0
	}
	switch {
	case of == "both":
		return []string{"requests", "limits"}, nil
	case of == "requests":
		if limited && over(limits) {
			return nil, p.missing("value", "a request of %s is above the limit %s; raise the limit too (of: both)", want.String(), quantityText(limits, res))
		}
		return []string{"requests"}, nil
	case of == "limits":
		if asked && !over(requests) && !same(quantityText(requests, res), want) {
			return nil, p.missing("value", "a limit of %s is below the request %s; lower the request too (of: both)", want.String(), quantityText(requests, res))
		}
		return []string{"limits"}, nil
	case limited && asked && (equal(requests[res], limits[res]) || !over(requests)):
		return []string{"requests", "limits"}, nil
	case limited:
		return []string{"limits"}, nil
	case asked:
		return []string{"requests"}, nil
	}
	return nil, p.missing("of", "the container has neither a request nor a limit of %s; say which shall be set: requests, limits or both", res)
}

func mapText(m map[string]any) string {
	if len(m) == 0 {
		return "none"
	}
	var out []string
	for _, k := range keys(m) {
		out = append(out, k+"="+fmt.Sprint(m[k]))
	}
	return strings.Join(out, ",")
}

// portValue is a port as Kubernetes takes it: a number, or a name.
func portValue(v string) any {
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return n
	}
	return v
}

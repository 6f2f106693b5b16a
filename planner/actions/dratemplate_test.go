package actions_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// A template is replaced for every kind of workload in the order that leaves no pod
// waiting on the old one, and undone to what was.
func TestTemplateIsReplaced(t *testing.T) {
	t.Parallel()
	const params = "namespace=ml template=gpu request=gpu selector=`device.attributes['gpu.nvidia.com'].productName == 'H100'` selector_index=0"
	for _, c := range []struct {
		name, objects, params string
		verbs                 string
		changed               string
		verify                string
	}{
		{"a bare pod", waiting("p", ""), params + " claim=p-gpu-1", "create ResourceClaimTemplate; delete Pod; create Pod", "~Pod ml/p", "Pod ml/p"},
		{"a Deployment", deployment + waiting("p", owned("apps/v1", "ReplicaSet", "dep-1")), params, "create ResourceClaimTemplate; patch Deployment", "~Deployment ml/dep", "Deployment ml/dep"},
		{"a StatefulSet", statefulSet + waiting("sts-0", owned("apps/v1", "StatefulSet", "sts")), params + " claim=sts-0-gpu-1", "create ResourceClaimTemplate; patch StatefulSet; evict Pod", "~StatefulSet ml/sts", "StatefulSet ml/sts"},
		{"a Job", job + waiting("job-x", owned("batch/v1", "Job", "job")), params, "create ResourceClaimTemplate; delete Job; create Job", "~Job ml/job", "Job ml/job"},
		{"a workload without pods", deployment, params, "create ResourceClaimTemplate; patch Deployment", "~Deployment ml/dep", "Deployment ml/dep"},
		{"one of two", deployment + waiting("p", owned("apps/v1", "ReplicaSet", "dep-1")) + waiting("q", ""), params + " claim=q-gpu-1", "create ResourceClaimTemplate; delete Pod; create Pod", "~Pod ml/q", "Pod ml/q"},
		{"the one that is named", deployment + waiting("q", ""), params + " workload=dep", "create ResourceClaimTemplate; patch Deployment", "~Deployment ml/dep", "Deployment ml/dep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, gpus+c.objects)
			before := b.state()
			d := b.draft("claim_template_replace", c.params)
			var verbs []string
			for _, w := range d.Writes {
				verbs = append(verbs, w.Verb+" "+w.Ref.Kind)
			}
			if got := strings.Join(verbs, "; "); got != c.verbs {
				t.Errorf("the writes are %s, want %s", got, c.verbs)
			}
			last := d.Verify[len(d.Verify)-1]
			if last.Kind != "pods_scheduled" || last.Subject.String() != c.verify {
				t.Errorf("proved by %+v", last)
			}
			if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, "asks for H200 and would get H100") }) {
				t.Errorf("nobody is told that the model changes: %q", d.Warnings)
			}
			done := b.do(d)
			after := b.state()
			name := d.Writes[0].Ref.Name
			// The eviction of a pod is not taken back: its controller made it anew.
			diff := strings.ReplaceAll(differ(before, after), "-Pod ml/sts-0; ", "")
			if diff != c.changed+"; +ResourceClaimTemplate ml/"+name {
				t.Errorf("changed: %s", differ(before, after))
			}
			changed := after[strings.TrimPrefix(c.changed, "~")]
			if !strings.Contains(changed, `"resourceClaimTemplateName":"`+name+`"`) || strings.Contains(changed, `"resourceClaimTemplateName":"gpu"`) || strings.Contains(changed, "uid-job") || strings.Contains(changed, "kube-api-access") {
				t.Errorf("it stands as %s", changed)
			}
			tpl := after["ResourceClaimTemplate ml/"+name]
			for _, part := range []string{"productName == 'H100'", "device.driver == 'gpu.nvidia.com'", `"from":"template"`, `"team":"llm"`, `"note":"keep"`, `"gumshoe.ai/replaces":"gpu"`, `"count":2`} {
				if !strings.Contains(tpl, part) {
					t.Errorf("%s is not in %s", part, tpl)
				}
			}
			if strings.Contains(tpl, "argocd") || strings.Contains(tpl, "H200") {
				t.Errorf("the new template is %s", tpl)
			}
			b.undo(d, done)
			rest := differ(before, b.state())
			want := ""
			switch {
			case strings.Contains(c.verbs, "evict"):
				want = "-Pod ml/sts-0"
			case strings.Contains(c.verbs, "delete"):
				want = c.changed // made anew without what the server had put in
			}
			if rest != want {
				k := strings.TrimPrefix(c.changed, "~")
				t.Errorf("undone: %s: %s, was %s", rest, b.state()[k], before[k])
			}
			if strings.Contains(b.state()[strings.TrimPrefix(c.changed, "~")], name) {
				t.Error("the workload still names the new template")
			}
		})
	}
}

// Making the same change again makes no second template, and its name does not grow.
func TestTheNameFollowsFromTheContent(t *testing.T) {
	t.Parallel()
	b := newBench(t, gpus+deployment)
	d := b.draft("claim_template_replace", "namespace=ml template=gpu count=1")
	b.do(d)
	first := d.Writes[0].Ref.Name
	if len(first) != len("gpu-")+8 {
		t.Errorf("the name is %s", first)
	}
	again := b.draft("claim_template_replace", "namespace=ml template="+first+" count=2")
	second := again.Writes[0].Ref.Name
	if len(second) != len(first) || second == first {
		t.Errorf("of %s is made %s", first, second)
	}
	b.do(again)
	back := b.draft("claim_template_replace", "namespace=ml template="+second+" count=1")
	if len(back.Writes) != 1 || back.Writes[0].Verb != incident.VerbPatch {
		t.Errorf("a template of this content is there already: %+v", back.Writes)
	}
	b.do(back)
	if got := b.state()["Deployment ml/dep"]; !strings.Contains(got, first) {
		t.Errorf("it stands as %s", got)
	}
}

// Every parameter makes the change that it says, and only that.
func TestChangesOfAClaim(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		params string
		path   string
		want   string
		warns  string
	}{
		{"count=1", "requests", `"count":1`, "must be able to work with that"},
		{"allocation_mode=All", "requests", `"allocationMode":"All"`, ""},
		{"selector=`device.driver == 'x'`", "requests", `"selectors":[{"cel":{"expression":"device.driver == 'x'"}}]`, "H200"},
		{"drop_selector=0", "requests", `"selectors":[{"cel":{"expression":"device.driver == 'gpu.nvidia.com'"}}]`, "kept out"},
		{"drop_selector=-1", "requests", `"exactly":{"allocationMode":"ExactCount","count":2,"deviceClassName":"gpu.nvidia.com"}`, "kept out"},
		{"class=mig.nvidia.com", "requests", `"deviceClassName":"mig.nvidia.com"`, "class mig.nvidia.com"},
		{"toleration=gpu.nvidia.com/xid=48:NoSchedule", "requests", `"tolerations":[{"effect":"NoSchedule","key":"gpu.nvidia.com/xid","operator":"Equal","value":"48"}]`, "meant to keep work off"},
		{"toleration=example.com/x", "requests", `"tolerations":[{"key":"example.com/x","operator":"Exists"}]`, "meant to keep work off"},
		{"capacity_name=memory capacity_value=40Gi", "requests", `"capacity":{"requests":{"memory":"40Gi"}}`, "no amount"},
		{"drop_constraint=1", "constraints", `[{"matchAttribute":"resource.kubernetes.io/pcieRoot"}]`, "slower"},
		{"drop_constraint=-1", "constraints", `null`, "slower"},
		{"constraint=1 match_attribute=resource.kubernetes.io/numaNode", "constraints", `"matchAttribute":"resource.kubernetes.io/numaNode"`, "slower"},
		{"first_available=`[{\"name\":\"a\",\"deviceClassName\":\"gpu.nvidia.com\",\"count\":2},{\"name\":\"b\",\"deviceClassName\":\"mig.nvidia.com\"}]`", "requests",
			`[{"firstAvailable":[{"count":2,"deviceClassName":"gpu.nvidia.com","name":"a"},{"deviceClassName":"mig.nvidia.com","name":"b"}],"name":"gpu"}]`, ""},
		{"count=1 class=mig.nvidia.com", "requests", `"count":1,"deviceClassName":"mig.nvidia.com"`, ""},
	} {
		t.Run(c.params, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, gpus+deployment)
			d := b.draft("claim_template_replace", "namespace=ml template=gpu "+c.params)
			b.do(d)
			u := b.get("resource.k8s.io", "v1", "resourceclaimtemplates", "ml", d.Writes[0].Ref.Name)
			got, _, err := unstructured.NestedFieldCopy(u.Object, "spec", "spec", "devices", c.path)
			if err != nil {
				t.Fatal(err)
			}
			if raw := compact(t, got); !strings.Contains(raw, c.want) {
				t.Errorf("%s is %s, want %s", c.path, raw, c.want)
			}
			if !strings.Contains(strings.Join(d.Warnings, "\n"), c.warns) {
				t.Errorf("warnings %q", d.Warnings)
			}
			old := b.get("resource.k8s.io", "v1", "resourceclaimtemplates", "ml", "gpu")
			if n, _, _ := unstructured.NestedSlice(old.Object, "spec", "spec", "devices", "constraints"); len(n) != 2 {
				t.Error("the old template changed")
			}
		})
	}
}

// What is not sure is not compiled.
func TestTemplateIsNotReplaced(t *testing.T) {
	t.Parallel()
	sized := strings.Replace(statefulSet, "updateStrategy: {type: RollingUpdate}", "updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}", 1)
	paused := strings.Replace(deployment, "  replicas: 1\n", "  replicas: 1\n  paused: true\n", 1)
	operated := strings.Replace(deployment, "metadata: {name: dep, namespace: ml, uid: uid-dep}", "metadata: {name: dep, namespace: ml, uid: uid-dep, ownerReferences: [{apiVersion: example.com/v1, kind: Engine, name: e, uid: e, controller: true}]}", 1)
	two := waiting("p", "") + waiting("q", "")
	for _, c := range []struct{ name, objects, params, kind, why string }{
		{"nothing to change", deployment, "template=gpu", "missing change", "count, drop_selector, selector"},
		{"words alone", deployment, "template=gpu change=less", "missing change", "parameters"},
		{"what already is", deployment, "template=gpu count=2", "missing change", "parameters"},
		{"no such template", deployment, "template=nope count=1", "missing template", "there is no"},
		{"no such request", deployment, "template=gpu request=x count=1", "missing request", "there are gpu"},
		{"no such class", deployment, "template=gpu class=nope", "missing class", "there is no DeviceClass"},
		{"no device", deployment, "template=gpu count=0", "missing count", "1 to 32"},
		{"too many devices", deployment, "template=gpu count=33", "missing count", "1 to 32"},
		{"no CEL", deployment, "template=gpu selector=`device.x ==`", "missing selector", "does not compile"},
		{"no bool", deployment, "template=gpu selector=`'text'`", "missing selector", "does not compile"},
		{"no such selector", deployment, "template=gpu selector=true selector_index=7", "missing selector_index", "there are 2"},
		{"no selector to drop", deployment, "template=gpu drop_selector=2", "missing drop_selector", "there are 2"},
		{"both", deployment, "template=gpu selector=true drop_selector=0", "missing drop_selector", "one of the two"},
		{"no such constraint", deployment, "template=gpu drop_constraint=2", "missing drop_constraint", "there are 2"},
		{"which constraint", deployment, "template=gpu match_attribute=a/b", "missing constraint", "say which"},
		{"an attribute without domain", deployment, "template=gpu constraint=0 match_attribute=numaNode", "missing match_attribute", "domain/name"},
		{"every taint", deployment, "template=gpu toleration=:NoSchedule", "missing toleration", "never all taints"},
		{"no effect", deployment, "template=gpu toleration=a:Never", "missing toleration", "none of the effects"},
		{"a capacity without a name", deployment, "template=gpu capacity_value=1Gi", "missing capacity_name", "needs the name"},
		{"admin access", deployment, "template=gpu first_available=`[{\"name\":\"a\",\"deviceClassName\":\"gpu.nvidia.com\",\"adminAccess\":true}]`", "refused", "administrative"},
		{"an unknown parameter", deployment, "template=gpu volume=11", "missing volume", "no such parameter"},
		{"nobody uses it", "", "template=gpu count=1", "missing workload", "no pod that a change would help"},
		{"several use it", two, "template=gpu count=1", "missing workload", "Pod p, Pod q"},
		{"not a user", two, "template=gpu count=1 workload=z", "missing workload", "Pod p, Pod q"},
		{"a paused rollout", paused, "template=gpu count=1", "refused", "is paused"},
		{"a partition", sized + waiting("sts-0", owned("apps/v1", "StatefulSet", "sts")), "template=gpu count=1", "refused", "partition 1"},
		{"an operator's own", operated, "template=gpu count=1", "refused", "Engine e"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := newBench(t, gpus+c.objects).compile("claim_template_replace", "namespace=ml "+c.params)
			refusal(t, err, c.kind, c.why)
		})
	}
}

// A pod that runs is not hurt unsaid: its devices and hours are counted.
func TestBlastOfAReplacedTemplate(t *testing.T) {
	t.Parallel()
	running := strings.Replace(strings.Replace(waiting("sts-0", owned("apps/v1", "StatefulSet", "sts")), "status: {phase: Pending,", "status: {phase: Running, startTime: \"2026-03-01T02:00:00Z\",", 1), "spec:\n  containers", "spec:\n  nodeName: n1\n  containers", 1)
	running = strings.Replace(running, "spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.nvidia.com}}]}}",
		"spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.nvidia.com}}]}}\nstatus: {allocation: {devices: {results: [{request: gpu, driver: gpu.nvidia.com, pool: n1, device: gpu-0}, {request: gpu, driver: gpu.nvidia.com, pool: n1, device: gpu-1}]}}}", 1)
	d := newBench(t, gpus+statefulSet+running).draft("claim_template_replace", "namespace=ml template=gpu count=1")
	if d.Blast.PodCount != 1 || d.Blast.GPUs != 2 || d.Blast.GPUHours != 20 || len(d.Blast.Workloads) != 1 {
		t.Errorf("blast %+v", d.Blast)
	}
	if len(d.Before) != 0 || !strings.Contains(strings.Join(d.Warnings, "\n"), "no pod of StatefulSet ml/sts waits") {
		t.Errorf("nothing waits: before %+v, warnings %q", d.Before, d.Warnings)
	}
	if w := d.Writes[1]; len(w.Await) != 1 || w.Await[0].Params["value"] != "4" {
		t.Errorf("the controller is not waited for: %+v", w.Await)
	}
}

// The scheduler's allocator is asked whether the pod that waits fits with the
// change; where it does not, a person is told before the plan is approved.
func TestReplacedTemplateIsProvedToFit(t *testing.T) {
	t.Parallel()
	const selector = " selector=`device.attributes['gpu.nvidia.com'].productName == 'H100'` selector_index=0"
	for _, c := range []struct{ name, objects, params, fits, warns string }{
		{"it fits", statefulSet + waiting("sts-0", owned("apps/v1", "StatefulSet", "sts")), selector + " drop_constraint=-1", "pod ml/sts-0 fits on node n1", ""},
		{"a bare pod fits", waiting("p", ""), selector + " drop_constraint=-1", "pod ml/p fits on node n1", ""},
		{"it does not fit yet", statefulSet + waiting("sts-0", owned("apps/v1", "StatefulSet", "sts")), selector, "fits on no node", "no place yet for ml/sts-0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newBench(t, gpus+c.objects).draft("claim_template_replace", "namespace=ml template=gpu"+c.params)
			if len(d.Capacity) != 1 || !strings.Contains(d.Capacity[0].Text, c.fits) {
				t.Errorf("capacity %+v, want %q", d.Capacity, c.fits)
			}
			if got := strings.Join(d.Warnings, "\n"); !strings.Contains(got, c.warns) || c.warns == "" && strings.Contains(got, "no place yet") {
				t.Errorf("warnings %q", d.Warnings)
			}
		})
	}
}

package actions

import (
	"slices"
	"strings"
	"testing"
)

func TestProbes(t *testing.T) {
	t.Parallel()
	done := []string{CheckRollout}
	runAll(t, "workloads.yaml", map[string]deed{
		"slower": {
			action: "patch_probe", params: onServe + "container=serve; probe=liveness; failures=12; initial_delay=60", pods: 2, gpus: 4, verify: done,
			say:    "from (httpGet /health, port 8000, every 10s) to (httpGet /health, port 8000, after 60s, every 10s, 12 failures)",
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[0].livenessProbe.failureThreshold": "12", "Deployment/ml/serve spec.template.spec.containers[0].livenessProbe.httpGet.path": "/health"},
		},
		"another port": {
			action: "patch_probe", params: onServe + "container=serve; probe=liveness; port=http; path=/live", pods: 2, gpus: 4, verify: done, say: "to (httpGet /live, port http",
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[0].livenessProbe.httpGet.port": "http"},
		},
		"a startup probe that asks what the liveness probe asks": {
			action: "patch_probe", params: onServe + "container=serve; probe=startup", pods: 2, gpus: 4, verify: done, say: "startup probe of container serve of Deployment ml/serve from none to (httpGet /health, port 8000, every 10s, 60 failures)",
		},
		"a new one": {
			action: "patch_probe", params: onServe + "container=proxy; probe=readiness; port=9000", pods: 2, gpus: 4, verify: done, say: "from none to (tcpSocket, port 9000)",
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[1].readinessProbe": `{"tcpSocket":{"port":9000}}`},
		},
		"none": {
			action: "patch_probe", params: onServe + "container=serve; probe=liveness; value=null", pods: 2, gpus: 4, verify: done, say: "to none", warn: []string{"not restarted"},
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[0].livenessProbe": ""},
		},
		"whole": {
			action: "patch_probe", params: onServe + `container=serve; probe=liveness; value={"grpc":{"port":9003},"periodSeconds":5}`, pods: 2, gpus: 4, verify: done, say: "to (grpc, port 9003, every 5s)",
		},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"which":         {action: "patch_probe", params: onServe + "container=serve", param: "probe"},
		"what":          {action: "patch_probe", params: onServe + "container=serve; probe=liveness", param: "value", says: []string{"httpGet /health, port 8000", "8000 http"}},
		"asks nothing":  {action: "patch_probe", params: onServe + `container=serve; probe=liveness; value={"periodSeconds":5}`, param: "value", says: []string{"asks nothing"}},
		"the same":      {action: "patch_probe", params: onServe + "container=serve; probe=liveness; period=10", param: "value", says: []string{"already"}},
		"no port known": {action: "patch_probe", params: onServe + "container=proxy; probe=startup", param: "port", says: []string{"(none declared)"}},
		"none of none":  {action: "patch_probe", params: onServe + "container=proxy; probe=startup; value=null", param: "value", says: []string{"has no startup probe"}},
		"too often":     {action: "patch_probe", params: onServe + "container=serve; probe=liveness; period=0", param: "period", says: []string{"at least 1"}},
	})
}

func TestResources(t *testing.T) {
	t.Parallel()
	done := []string{CheckRollout}
	at := "Deployment/ml/serve spec.template.spec.containers[0].resources."
	runAll(t, "workloads.yaml", map[string]deed{
		"the limit": {action: "patch_resources", params: onServe + "container=serve; resource=memory; value=16Gi", pods: 2, gpus: 4, verify: done, say: "limit from 8Gi to 16Gi", fields: map[string]string{at + "limits.memory": "16Gi", at + "requests.memory": "4Gi"}},
		"both, since a request is no more than its limit": {action: "patch_resources", params: onServe + "container=serve; resource=memory; value=2Gi", pods: 2, gpus: 4, verify: done, say: "request from 4Gi to 2Gi, limit from 8Gi to 2Gi"},
		"the request alone":     {action: "patch_resources", params: onServe + "container=serve; resource=cpu; value=500m", pods: 2, gpus: 4, verify: done, say: "request from 1 to 500m", fields: map[string]string{at + "requests.cpu": "500m", at + "limits.cpu": ""}},
		"GPUs":                  {action: "patch_resources", params: onServe + "container=serve; resource=nvidia.com/gpu; value=1", pods: 2, gpus: 4, verify: done, say: "Set nvidia.com/gpu of container serve of Deployment ml/serve: limit from 2 to 1", fields: map[string]string{at + `limits.nvidia\.com/gpu`: "1"}},
		"equal ones stay equal": {action: "patch_resources", params: "kind=RayCluster.ray.io; namespace=ml; name=ray; container=ray-worker; resource=memory; value=16Gi", verify: []string{CheckReady}, say: "request from 8Gi to 16Gi, limit from 8Gi to 16Gi"},
		"shared memory": {
			action: "patch_resources", params: onServe + "container=serve; resource=an emptyDir of medium Memory at /dev/shm; value=8Gi", pods: 2, gpus: 4, verify: done, say: "from the 64Mi that runtimes give by default to 8Gi", warn: []string{"counts against"},
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.volumes[1]": `{"emptyDir":{"medium":"Memory","sizeLimit":"8Gi"},"name":"shm"}`, "Deployment/ml/serve spec.template.spec.containers[0].volumeMounts[1]": `{"mountPath":"/dev/shm","name":"shm"}`},
		},
		"more shared memory": {
			action: "patch_resources", params: "kind=Deployment; namespace=ml; name=shm; resource=/dev/shm; value=2Gi", verify: done, say: "from 1Gi to 2Gi", objects: withShm("emptyDir: {medium: Memory, sizeLimit: 1Gi}"),
			fields: map[string]string{"Deployment/ml/shm spec.template.spec.volumes[0].emptyDir.sizeLimit": "2Gi"},
		},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"of what":            {action: "patch_resources", params: onServe + "container=serve", param: "resource", says: []string{"memory=4Gi", "memory=8Gi"}},
		"how much":           {action: "patch_resources", params: onServe + "container=serve; resource=memory", param: "value", says: []string{"the request is 4Gi and the limit 8Gi"}},
		"the same":           {action: "patch_resources", params: onServe + "container=serve; resource=memory; value=8192Mi", param: "value", says: []string{"already"}},
		"a request too high": {action: "patch_resources", params: onServe + "container=serve; resource=memory; value=9Gi; of=requests", param: "value", says: []string{"above the limit"}},
		"a limit too low":    {action: "patch_resources", params: onServe + "container=serve; resource=memory; value=1Gi; of=limits", param: "value", says: []string{"below the request"}},
		"GPUs requested":     {action: "patch_resources", params: onServe + "container=serve; resource=nvidia.com/gpu; value=1; of=requests", param: "of"},
		"neither":            {action: "patch_resources", params: onServe + "container=proxy; resource=memory; value=1Gi", param: "of"},
		"another volume":     {action: "patch_resources", params: "kind=Deployment; namespace=ml; name=shm; resource=/dev/shm; value=2Gi", objects: withShm("hostPath: {path: /dev/shm}"), says: []string{"no emptyDir"}},
	})
}

func withShm(volume string) string {
	return strings.ReplaceAll(`apiVersion: apps/v1
kind: Deployment
metadata: {name: shm, namespace: ml, uid: shm}
spec:
  replicas: 1
  selector: {matchLabels: {app: shm}}
  template:
    metadata: {labels: {app: shm}}
    spec:
      containers: [{name: c, image: "a:1", volumeMounts: [{name: shm, mountPath: /dev/shm}]}]
      volumes: [{name: shm, VOLUME}]
`, "VOLUME", volume)
}

func TestArgs(t *testing.T) {
	t.Parallel()
	done := []string{CheckRollout}
	at := "Deployment/ml/serve spec.template.spec.containers[0]."
	runAll(t, "workloads.yaml", map[string]deed{
		"a flag and its value": {
			action: "patch_args", params: onServe + "container=serve; what=--max-model-len 4096", pods: 2, gpus: 4, verify: done, say: "Change container serve of Deployment ml/serve: set --max-model-len from 8192 to 4096",
			fields: map[string]string{at + "args": `["m/model","--max-model-len","4096","--gpu-memory-utilization=0.90","--enable_prefix_caching"]`},
		},
		"several": {
			action: "patch_args", params: onServe + "container=serve; set=--gpu-memory-utilization 0.85 --enable-prefix-caching --tensor-parallel-size=2; remove=--max-model-len=8192", pods: 2, gpus: 4, verify: done,
			say:    "remove --max-model-len (it is 8192), set --gpu-memory-utilization from 0.90 to 0.85, set --enable-prefix-caching (it is (set)), add --tensor-parallel-size=2",
			fields: map[string]string{at + "args": `["m/model","--gpu-memory-utilization=0.85","--enable_prefix_caching","--tensor-parallel-size=2"]`},
		},
		"in a shell's line": {
			action: "patch_args", params: onServe + "container=proxy; set=--port=9001 --depth=3; remove=--verbose", pods: 2, gpus: 4, verify: done, say: "set --port from 9000 to 9001",
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[1].command": `["sh","-c","exec proxy --port 9001 --depth=3"]`},
		},
		"environment":        {action: "patch_args", params: onServe + "container=serve; env=LEVEL=debug; unset_env=HF_TOKEN", pods: 2, gpus: 4, verify: done, say: "set env LEVEL from info to debug, remove env HF_TOKEN (it is a reference)", fields: map[string]string{at + "env": `[{"name":"LEVEL","value":"debug"}]`}},
		"a field of the pod": {action: "patch_args", params: onServe + "container=serve; what=VLLM_NIXL_SIDE_CHANNEL_HOST from status.podIP", pods: 2, gpus: 4, verify: done, say: "add env VLLM_NIXL_SIDE_CHANNEL_HOST=the pod's status.podIP", fields: map[string]string{at + "env[2].valueFrom.fieldRef.fieldPath": "status.podIP"}},
		"everything":         {action: "patch_args", params: onServe + `container=proxy; command=["proxy"]; args=["--port","1"]`, pods: 2, gpus: 4, verify: done, say: `set the command from ["sh" "-c"`, fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[1].args": `["--port","1"]`}},
		"of an InferenceService": {
			action: "patch_args", params: "kind=InferenceService; namespace=ml; name=bert; set=--dtype=bfloat16", verify: []string{CheckReady}, say: "container kserve-container of InferenceService ml/bert: set --dtype from half to bfloat16",
			fields: map[string]string{"InferenceService/ml/bert spec.predictor.model.args": `["--dtype=bfloat16"]`},
		},
		"where the image had its own": {action: "patch_args", params: "kind=Deployment; namespace=ml; name=halted; set=--x=1", verify: nil, say: "add --x=1", warn: []string{"CMD", "paused"}},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"prose":            {action: "patch_args", params: onServe + "container=serve; what=--max-model-len, --max-num-seqs or more GPUs", param: "set", says: []string{"not exact enough", "--max-model-len 8192"}},
		"no value":         {action: "patch_args", params: onServe + "container=serve; what=--tensor-parallel-size", param: "set"},
		"nothing":          {action: "patch_args", params: onServe + "container=serve", param: "set", says: []string{"vllm serve m/model"}},
		"the same":         {action: "patch_args", params: onServe + "container=serve; set=--max-model-len=8192", param: "set", says: []string{"runs that already"}},
		"not there":        {action: "patch_args", params: onServe + "container=serve; remove=--nope", param: "remove", says: []string{"--nope is not there"}},
		"is it its value?": {action: "patch_args", params: onServe + "container=serve; remove=--max-model-len", param: "remove", says: []string{"give all arguments"}},
		"a secret":         {action: "patch_args", params: onServe + "container=serve; env=HF_TOKEN=hf_abc", says: []string{"looks like a secret", "Secret"}},
		"to the shell":     {action: "patch_args", params: onServe + "container=proxy; set=--port=$(id)", param: "set", says: []string{"means something to the shell"}},
		"no list":          {action: "patch_args", params: onServe + `container=serve; args={"a":1}`, param: "args"},
		"no variable":      {action: "patch_args", params: onServe + "container=serve; unset_env=NOPE", param: "unset_env"},
		"the same value":   {action: "patch_args", params: onServe + "container=serve; env=LEVEL=info", param: "env"},
	})
}

func TestScheduling(t *testing.T) {
	t.Parallel()
	done := []string{CheckScheduled, CheckRollout}
	at := "Deployment/ml/serve spec.template.spec."
	runAll(t, "workloads.yaml", map[string]deed{
		"node selector":        {action: "patch_scheduling", params: onServe + "field=nodeSelector; value=pool=l40s", pods: 2, gpus: 4, verify: done, say: "Set pool in nodeSelector from h100 to l40s of Deployment ml/serve", fields: map[string]string{at + "nodeSelector": `{"pool":"l40s"}`}},
		"no node selector":     {action: "patch_scheduling", params: onServe + "field=nodeSelector; value=pool; op=remove", pods: 2, gpus: 4, verify: done, say: "Remove pool=h100", fields: map[string]string{at + "nodeSelector": ""}},
		"toleration":           {action: "patch_scheduling", params: onServe + "field=tolerations; value=nvidia.com/gpu=present:NoSchedule", pods: 2, gpus: 4, verify: done, say: "Tolerate the taint", fields: map[string]string{at + "tolerations[1]": `{"effect":"NoSchedule","key":"nvidia.com/gpu","operator":"Equal","value":"present"}`}},
		"no toleration":        {action: "patch_scheduling", params: onServe + "field=tolerations; value=old; op=remove", pods: 2, gpus: 4, verify: done, say: "Remove the toleration of old", fields: map[string]string{at + "tolerations": ""}},
		"a preferred spread":   {action: "patch_scheduling", params: onServe + "field=topologySpreadConstraints; value=zone; op=relax", pods: 2, gpus: 4, verify: done, say: "from DoNotSchedule to ScheduleAnyway", fields: map[string]string{at + "topologySpreadConstraints[0].whenUnsatisfiable": "ScheduleAnyway"}},
		"no spread":            {action: "patch_scheduling", params: onServe + "field=topologySpreadConstraints; value=zone; op=remove", pods: 2, gpus: 4, verify: done, say: "Remove the spread constraint on zone", fields: map[string]string{at + "topologySpreadConstraints": ""}},
		"preferred affinity":   {action: "patch_scheduling", params: onServe + "field=affinity; value=podAntiAffinity; op=relax", pods: 2, gpus: 4, verify: done, say: "Make the required podAntiAffinity a preference", fields: map[string]string{at + "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution": "", at + "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight": "100"}},
		"no affinity":          {action: "patch_scheduling", params: onServe + "field=affinity; op=remove", pods: 2, gpus: 4, verify: done, say: "Remove the affinity", fields: map[string]string{at + "affinity": ""}},
		"a whole field":        {action: "patch_scheduling", params: onServe + `field=tolerations; value=[{"operator":"Exists"}]`, pods: 2, gpus: 4, verify: done, say: "Set tolerations from", fields: map[string]string{at + "tolerations": `[{"operator":"Exists"}]`}},
		"priority":             {action: "patch_scheduling", params: onServe + "field=priorityClassName; value=urgent", pods: 2, gpus: 4, verify: done, say: "Set priorityClassName from calm to urgent", warn: []string{"push others"}},
		"dnsPolicy":            {action: "patch_scheduling", params: onServe + "field=dnsPolicy; value=ClusterFirstWithHostNet", pods: 2, gpus: 4, verify: done, say: "from none to ClusterFirstWithHostNet"},
		"host port":            {action: "patch_scheduling", params: onServe + "field=hostPort; value=8000", pods: 2, gpus: 4, verify: done, say: "Remove host port 8000 of container serve", fields: map[string]string{at + "containers[0].ports": `[{"containerPort":8000,"name":"http"}]`}},
		"a Job that never ran": {action: "patch_scheduling", params: "kind=Job; namespace=ml; name=waiting; field=nodeSelector; value=pool=h100", verify: []string{CheckExists}, say: "Add pool=h100 to nodeSelector of Job ml/waiting"},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"which field":        {action: "patch_scheduling", params: onServe + "field=tolerations, nodeSelector or affinity", param: "field", says: []string{"none of nodeSelector"}},
		"what":               {action: "patch_scheduling", params: onServe + "field=nodeSelector", param: "value", says: []string{`{"pool":"h100"}`}},
		"no such node":       {action: "patch_scheduling", params: onServe + "field=nodeSelector; value=pool=b200", param: "value", says: []string{"no node has the label pool=b200"}},
		"has it already":     {action: "patch_scheduling", params: onServe + "field=nodeSelector; value=pool=h100", param: "op", says: []string{"op remove"}},
		"tolerated":          {action: "patch_scheduling", params: onServe + "field=tolerations; value=old=x:NoSchedule", param: "value", says: []string{"already"}},
		"no taint":           {action: "patch_scheduling", params: onServe + "field=tolerations; value=a b c", param: "value"},
		"no toleration":      {action: "patch_scheduling", params: onServe + "field=tolerations; value=nope; op=remove", param: "value"},
		"relax or remove":    {action: "patch_scheduling", params: onServe + "field=topologySpreadConstraints; value=zone", param: "op"},
		"no such spread":     {action: "patch_scheduling", params: onServe + "field=topologySpreadConstraints; value=rack", param: "value", says: []string{"zone"}},
		"affinity in prose":  {action: "patch_scheduling", params: onServe + "field=affinity; value=the anti-affinity", param: "value"},
		"no affinity JSON":   {action: "patch_scheduling", params: onServe + `field=affinity; value={"nope":1}`, param: "value", says: []string{"no affinity"}},
		"requires nothing":   {action: "patch_scheduling", params: "kind=Deployment; namespace=ml; name=halted; field=affinity; op=remove", param: "field"},
		"no class":           {action: "patch_scheduling", params: onServe + "field=priorityClassName; value=nope", param: "value", says: []string{"no PriorityClass"}},
		"no such host port":  {action: "patch_scheduling", params: onServe + "field=hostPort; value=1", param: "value"},
		"no such dnsPolicy":  {action: "patch_scheduling", params: onServe + "field=dnsPolicy; value=x", param: "value"},
		"the same scheduler": {action: "patch_scheduling", params: onServe + "field=schedulerName; value=default-scheduler", param: "value", says: []string{"already"}},
	})
}

func TestSplitWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		`--a=1  --b "x y"`: {"--a=1", "--b", "x y"},
		`--c='{"a": 1}'`:   {`--c={"a": 1}`},
		`--d ""`:           {"--d", ""},
		"":                 nil,
	} {
		if got, err := splitWords(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
	if _, err := splitWords(`--a "x`); err == nil {
		t.Error("an open quote is no error")
	}
}

func TestSetFlag(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		args, want []string
		s          setting
		from       string
	}{
		"joined":            {[]string{"--a=1"}, []string{"--a=2"}, setting{"--a", "2", true}, "1"},
		"apart":             {[]string{"--a", "1", "b"}, []string{"--a", "2", "b"}, setting{"--a", "2", true}, "1"},
		"a negative number": {[]string{"--a", "-1"}, []string{"--a", "2"}, setting{"--a", "2", true}, "-1"},
		"twice":             {[]string{"--a=1", "--a", "1"}, []string{"--a=2", "--a", "2"}, setting{"--a", "2", true}, "1"},
		"a switch before":   {[]string{"--a", "--b"}, []string{"--a", "2", "--b"}, setting{"--a", "2", true}, "(set)"},
		"underscores":       {[]string{"--max_len=1"}, []string{"--max_len=2"}, setting{"--max-len", "2", true}, "1"},
		"no prefix match":   {[]string{"--ab=1"}, []string{"--ab=1"}, setting{"--a", "2", true}, ""},
		"short":             {[]string{"-tp", "1"}, []string{"-tp", "2"}, setting{"-tp", "2", true}, "1"},
	} {
		got, from, _, err := setFlag(x.args, x.s)
		if err != nil || !slices.Equal(got, x.want) || from != x.from {
			t.Errorf("%s: %q from %q, %v; want %q from %q", name, got, from, err, x.want, x.from)
		}
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		script string
		s      setting
		remove bool
		want   string
	}{
		"joined":           {"run --a=1 --b", setting{"--a", "2", true}, false, "run --a=2 --b"},
		"apart":            {"run --a 1 \\\n --b", setting{"--a", "2", true}, false, "run --a 2 \\\n --b"},
		"quoted":           {`run --a "x y" --b`, setting{"--a", "z", true}, false, "run --a z --b"},
		"a variable":       {"run --a $N", setting{"--a", "2", true}, false, "run --a 2"},
		"a switch":         {"run --a --b", setting{"--a", "2", true}, false, "run --a=2 --b"},
		"out with a value": {"run --a=1 --b", setting{name: "--a"}, true, "run --b"},
		"out of the end":   {"run --b", setting{name: "--b"}, true, "run "},
		"one of two lines": {"prep\nrun --a 1", setting{"--a", "2", true}, false, "prep\nrun --a 2"},
	} {
		got, _, found, err := setInScript(x.script, x.s, x.remove)
		if err != nil || !found || got != x.want {
			t.Errorf("%s: %q %v %v, want %q", name, got, found, err, x.want)
		}
	}
	if _, err := appendToScript("a && b", setting{"--x", "1", true}); err == nil {
		t.Error("a flag is added to a script of two commands")
	}
	if got, err := appendToScript("run \\\n  --a", setting{"--x", "1", true}); err != nil || got != "run \\\n  --a --x=1" {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzParseSettings(f *testing.F) {
	for _, s := range []string{"--a=1 --b 2", `--c '{"x": 1}'`, "-tp -1", "--", "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseSettings(s)
		if err != nil {
			return
		}
		for _, x := range list {
			if !flagName(x.name) {
				t.Errorf("%q gives the flag %q", s, x.name)
			}
			args, _, found, err := setFlag([]string{x.String()}, x)
			if err != nil || !found || args[0] != x.String() {
				t.Errorf("%q set on itself gives %q %v %v", x, args, found, err)
			}
		}
	})
}

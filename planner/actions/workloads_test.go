package actions

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

const onServe = "kind=Deployment; namespace=ml; name=serve; "

func TestRollouts(t *testing.T) {
	t.Parallel()
	rollout := []string{CheckRollout}
	runAll(t, "workloads.yaml", map[string]deed{
		"restart": {
			action: "rollout_restart", params: onServe, say: "Restart the pods of Deployment ml/serve", pods: 2, gpus: 4, verify: rollout, risk: incident.RiskMedium,
			fields: map[string]string{`Deployment/ml/serve spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt`: "2026-03-01T12:00:00Z"},
			warn:   []string{"maxUnavailable comes to 0), so 1 new pod(s) must find free GPUs"},
		},
		"restart of a pod's workload": {
			action: "rollout_restart", params: "kind=Pod; namespace=ml; name=serve-3-b", say: "Deployment ml/serve", pods: 2, gpus: 4, verify: rollout,
			warn: []string{"Pod ml/serve-3-b is made by Deployment ml/serve, which is changed instead"},
		},
		"restart of groups": {
			action: "rollout_restart", params: "kind=LeaderWorkerSet; namespace=ml; name=llm", say: "Restart the pods of LeaderWorkerSet ml/llm", pods: 1, gpus: 8, verify: []string{CheckReady}, warn: []string{"whole groups"},
			fields: map[string]string{`LeaderWorkerSet.leaderworkerset.x-k8s.io/ml/llm spec.leaderWorkerTemplate.leaderTemplate.metadata.annotations.kubectl\.kubernetes\.io/restartedAt`: "2026-03-01T12:00:00Z"},
		},
		"restart on delete": {
			action: "rollout_restart", params: "kind=DaemonSet; namespace=ml; name=agent", say: "DaemonSet ml/agent", warn: []string{"OnDelete"},
		},
		"undo to what still serves": {
			action: "rollout_undo", params: onServe, say: "Return Deployment ml/serve from revision 3 to 1: image of serve from reg.io/serve:3 to reg.io/serve:1", pods: 1, gpus: 2 /* the pod of revision 1 stays */, verify: rollout,
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[0].image": "reg.io/serve:1", "Deployment/ml/serve spec.template.metadata.labels": `{"app":"serve"}`, "Deployment/ml/serve spec.template.spec.nodeSelector": ""},
		},
		"undo to a named revision": {
			action: "rollout_undo", params: onServe + "revision=2", say: "from revision 3 to 2", pods: 2, gpus: 4, verify: rollout,
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[0].image": "reg.io/serve:2"},
		},
		"undo of a StatefulSet frees it": {
			action: "rollout_undo", params: "kind=StatefulSet; namespace=ml; name=db", say: "Return StatefulSet ml/db from revision 2 to 1: image of db from db:2 to db:1", pods: 1, verify: rollout, oneWay: true,
			fields: map[string]string{"StatefulSet/ml/db spec.template.spec.containers[0].image": "db:1", `StatefulSet/ml/db spec.template.$patch`: "", "Pod/ml/db-1 metadata.name": "(gone)", "Pod/ml/db-0 metadata.name": "db-0"},
		},
		"undo of a DaemonSet": {
			action: "rollout_undo", params: "kind=DaemonSet; namespace=ml; name=agent", say: "image of agent from agent:2 to agent:1", warn: []string{"OnDelete"},
			fields: map[string]string{"DaemonSet/ml/agent spec.template.spec.containers[0].image": "agent:1"},
		},
		"pause": {
			action: "pause_rollout", params: "namespace=ml; name=serve", say: "Pause the rollout", verify: []string{CheckField}, risk: incident.RiskLow,
			fields: map[string]string{"Deployment/ml/serve spec.paused": "true"},
		},
		"resume": {
			action: "resume_rollout", params: "namespace=ml; name=halted", say: "Resume the rollout", verify: []string{CheckField, CheckRollout},
			fields: map[string]string{"Deployment/ml/halted spec.paused": ""},
		},
		"one GPU": {
			action: "rollout_strategy_patch", params: "namespace=ml; name=serve; max_surge=0; max_unavailable=1", verify: rollout, pods: 1, gpus: 2,
			say:    "from RollingUpdate maxSurge 25% maxUnavailable 25% to RollingUpdate maxSurge 0 maxUnavailable 1",
			fields: map[string]string{"Deployment/ml/serve spec.strategy": `{"rollingUpdate":{"maxSurge":0,"maxUnavailable":1},"type":"RollingUpdate"}`},
		},
		"recreate": {
			action: "rollout_strategy_patch", params: "namespace=ml; name=serve; type=Recreate", say: "to Recreate", verify: rollout, pods: 1, gpus: 2,
			warn: []string{"stops all pods"}, fields: map[string]string{"Deployment/ml/serve spec.strategy": `{"type":"Recreate"}`},
		},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"no such revision":       {action: "rollout_undo", params: onServe + "revision=9", param: "revision", says: []string{"has no revision 9", "1 (reg.io/serve:1, reg.io/proxy:1)", "2 (reg.io/serve:2"}},
		"the present revision":   {action: "rollout_undo", params: onServe + "revision=3", param: "revision", says: []string{"at revision 3 already"}},
		"nothing to go back to":  {action: "rollout_undo", params: "kind=Deployment; namespace=ml; name=graph-frontend", says: []string{"DynamoGraphDeployment ml/graph"}},
		"paused":                 {action: "rollout_restart", params: "kind=Deployment; namespace=ml; name=halted", says: []string{"resume_rollout"}},
		"undo of a Job":          {action: "rollout_undo", params: "kind=Job; namespace=ml; name=train", says: []string{"keeps no revisions"}},
		"paused already":         {action: "pause_rollout", params: "namespace=ml; name=halted", says: []string{"paused already"}},
		"strategy of nothing":    {action: "rollout_strategy_patch", params: "namespace=ml; name=serve", param: "max_unavailable", says: []string{"maxSurge 25%"}},
		"strategy that is stuck": {action: "rollout_strategy_patch", params: "namespace=ml; name=serve; max_surge=0; max_unavailable=0", param: "max_unavailable", says: []string{"both be 0"}},
		"strategy of both kinds": {action: "rollout_strategy_patch", params: "namespace=ml; name=serve; type=Recreate; max_surge=1", param: "type", says: []string{"takes no"}},
		"no count":               {action: "rollout_strategy_patch", params: "namespace=ml; name=serve; max_surge=many", param: "max_surge", says: []string{"neither a count"}},
		"KServe has no rollout":  {action: "rollout_restart", params: "kind=InferenceService; namespace=ml; name=bert", says: []string{"delete_pod"}},
	})
}

func TestSetImage(t *testing.T) {
	t.Parallel()
	runAll(t, "workloads.yaml", map[string]deed{
		"of one of two containers": {
			action: "set_image", params: onServe + "container=proxy; image=reg.io/proxy:2", say: "Set image of container proxy of Deployment ml/serve from reg.io/proxy:1 to reg.io/proxy:2",
			pods: 2, gpus: 4, verify: []string{CheckField, CheckRollout}, fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[1].image": "reg.io/proxy:2"},
		},
		"a tag that moves": {action: "set_image", params: onServe + "container=proxy; image=reg.io/proxy", say: "to reg.io/proxy", pods: 2, gpus: 4, verify: []string{CheckField, CheckRollout}, warn: []string{"moves"}},
		"of a CronJob": {
			action: "set_image", params: "kind=CronJob; namespace=ml; name=nightly; image=a:2", say: "of CronJob ml/nightly from a:1 to a:2", verify: []string{CheckField}, warn: []string{"next run"},
			fields: map[string]string{"CronJob/ml/nightly spec.jobTemplate.spec.template.spec.containers[0].image": "a:2"},
		},
		"of a leader's pod": {
			action: "set_image", params: "kind=Pod; namespace=ml; name=llm-0; image=v:2", say: "of container leader of LeaderWorkerSet ml/llm, leader from v:1 to v:2", pods: 1, gpus: 8,
			verify: []string{CheckField, CheckReady}, warn: []string{"whole groups", "is changed instead"},
			fields: map[string]string{"LeaderWorkerSet.leaderworkerset.x-k8s.io/ml/llm spec.leaderWorkerTemplate.leaderTemplate.spec.containers[0].image": "v:2"},
		},
		"of a worker group": {
			action: "set_image", params: "kind=RayCluster.ray.io; namespace=ml; name=ray; container=ray-worker; image=ray:2", say: "RayCluster ml/ray, gpu", verify: []string{CheckField, CheckReady}, warn: []string{"upgradeStrategy"},
			fields: map[string]string{"RayCluster.ray.io/ml/ray spec.workerGroupSpecs[0].template.spec.containers[0].image": "ray:2"},
		},
		"of a Job": {
			action: "set_image", params: "kind=Job; namespace=ml; name=train; image=train:2", say: "from train:1 to train:2", pods: 1, gpus: 2, verify: []string{CheckField, CheckScheduled}, warn: []string{"created again"},
			fields: map[string]string{"Job/ml/train spec.template.spec.containers[0].image": "train:2", "Job/ml/train metadata.labels": `{"team":"a"}`},
		},
		"of a bare pod": {
			action: "set_image", params: "kind=Pod; namespace=ml; name=lonely; image=busybox:1", say: "from busybox:nope to busybox:1", pods: 1, verify: []string{CheckField, CheckReady},
			fields: map[string]string{"Pod/ml/lonely spec.containers[0].image": "busybox:1", "Pod/ml/lonely spec.nodeName": "", "Pod/ml/lonely spec.volumes": `[{"hostPath":{"path":"/data"},"name":"d"}]`},
		},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"no such container": {action: "set_image", params: onServe + "container=web; image=a:1", param: "container", says: []string{"serve, proxy"}},
		"which container":   {action: "set_image", params: onServe + "image=a:1", param: "container", says: []string{"serve, proxy"}},
		"the same":          {action: "set_image", params: onServe + "container=serve; image=reg.io/serve:3", param: "image", says: []string{"already"}},
		"none":              {action: "set_image", params: onServe + "container=serve", param: "image", says: []string{"now it is reg.io/serve:3"}},
		"no reference":      {action: "set_image", params: onServe + "container=serve; image=Reg.io/UP CASE", param: "image", says: []string{"no image reference"}},
		"an operator's":     {action: "set_image", params: "kind=Deployment; namespace=ml; name=graph-frontend; image=d:2", says: []string{"made by DynamoGraphDeployment ml/graph", "change DynamoGraphDeployment ml/graph"}},
		"which part":        {action: "set_image", params: "kind=RayCluster.ray.io; namespace=ml; name=ray; image=a:1", param: "part", says: []string{"head, gpu"}},
		"no such part":      {action: "set_image", params: "kind=RayCluster.ray.io; namespace=ml; name=ray; image=a:1; part=cpu", param: "part", says: []string{"head, gpu"}},
		"a static pod":      {action: "set_image", params: "kind=Pod; namespace=ml; name=static-n1; image=a:2", says: []string{"static pod of node n1"}},
	})
}

func TestScale(t *testing.T) {
	t.Parallel()
	runAll(t, "workloads.yaml", map[string]deed{
		"up": {
			action: "scale", params: onServe + "replicas=3", say: "Scale Deployment ml/serve from 2 to 3", verify: []string{CheckScheduled, CheckRollout},
			fields: map[string]string{"Deployment/ml/serve spec.replicas": "3"}, warn: []string{"1 more pod(s) ask for 2 GPU(s)", "HorizontalPodAutoscaler ml/serve sets the number back between 2 and 4"},
		},
		"down":       {action: "scale", params: onServe + "replicas=1", say: "from 2 to 1", pods: 1, gpus: 2, verify: []string{CheckRollout}, warn: []string{"likely choice"}},
		"to nothing": {action: "scale", params: onServe + "replicas=0", say: "from 2 to 0", pods: 2, gpus: 4, verify: []string{CheckField}, risk: incident.RiskHigh, warn: []string{"nothing of it runs", "stands still"}},
		"a group": {
			action: "scale", params: "kind=RayCluster.ray.io; namespace=ml; name=ray; part=gpu; replicas=3", say: "from 2 to 3", verify: []string{CheckScheduled, CheckReady},
			fields: map[string]string{"RayCluster.ray.io/ml/ray spec.workerGroupSpecs[0].replicas": "3"},
		},
		"whole groups": {
			action: "scale", params: "kind=LeaderWorkerSet; namespace=ml; name=llm; replicas=3", say: "Scale LeaderWorkerSet ml/llm from 1 to 3", verify: []string{CheckScheduled, CheckReady}, warn: []string{"4 more pod(s) ask for 32 GPU(s)"},
			fields: map[string]string{"LeaderWorkerSet.leaderworkerset.x-k8s.io/ml/llm spec.replicas": "3"},
		},
		"an InferenceService": {
			action: "scale", params: "kind=InferenceService; namespace=ml; name=bert; replicas=2", say: "from 1 to 2", verify: []string{CheckScheduled, CheckReady},
			fields: map[string]string{"InferenceService/ml/bert spec.predictor.minReplicas": "2"},
		},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"no number":   {action: "scale", params: onServe, param: "replicas", says: []string{"now 2"}},
		"the same":    {action: "scale", params: onServe + "replicas=2", param: "replicas", says: []string{"already"}},
		"less":        {action: "scale", params: onServe + "replicas=-1", param: "replicas", says: []string{"less than none"}},
		"which group": {action: "scale", params: "kind=RayCluster.ray.io; namespace=ml; name=ray; replicas=3", param: "part", says: []string{"head, gpu"}},
		"a DaemonSet": {action: "scale", params: "kind=DaemonSet; namespace=ml; name=agent; replicas=1", says: []string{"no number of replicas"}},
	})
}

func TestPods(t *testing.T) {
	t.Parallel()
	runAll(t, "workloads.yaml", map[string]deed{
		"delete": {
			action: "delete_pod", params: "namespace=ml; name=serve-3-b", say: "Delete Pod ml/serve-3-b; ReplicaSet serve-3 makes a new one", pods: 1, gpus: 2, verify: []string{CheckReady}, oneWay: true,
			fields: map[string]string{"Pod/ml/serve-3-b spec": "(gone)"}, warn: []string{"node n2 is not ready", "evict_pod does"},
		},
		"delete and create": {
			action: "delete_pod", params: "namespace=ml; name=lonely; recreate=true", say: "create it again", pods: 1, verify: []string{CheckReady},
			fields: map[string]string{"Pod/ml/lonely spec.nodeName": "", "Pod/ml/lonely status.phase": "Pending"},
		},
		"evict": {action: "evict_pod", params: "namespace=ml; name=db-0", say: "Evict Pod ml/db-0; StatefulSet db makes a new one", pods: 1, verify: []string{CheckReady}, oneWay: true, fields: map[string]string{"Pod/ml/db-0 spec": "(gone)"}},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"bare":         {action: "delete_pod", params: "namespace=ml; name=lonely", says: []string{"recreate true"}},
		"evicted bare": {action: "evict_pod", params: "namespace=ml; name=lonely", says: []string{"no controller"}},
		"static":       {action: "delete_pod", params: "namespace=ml; name=static-n1", says: []string{"static pod of node n1"}},
		"terminating": {
			action: "delete_pod", params: "namespace=ml; name=going", says: []string{"being deleted already", "hold"},
			objects: "apiVersion: v1\nkind: Pod\nmetadata: {name: going, namespace: ml, deletionTimestamp: \"2026-03-01T11:00:00Z\", finalizers: [hold]}\nspec: {containers: [{name: c, image: a}]}\n",
		},
	})
}

func TestJobs(t *testing.T) {
	t.Parallel()
	runAll(t, "workloads.yaml", map[string]deed{
		"recreate": {
			action: "recreate_job", params: "namespace=ml; name=train", say: "Delete Job ml/train and create it again", pods: 1, gpus: 2, verify: []string{CheckScheduled}, risk: incident.RiskHigh, warn: []string{"still runs"},
			fields: map[string]string{"Job/ml/train spec.selector": "", "Job/ml/train spec.template.metadata.labels": `{"team":"a"}`, "Job/ml/train status.active": ""},
		},
		"resume":           {action: "resume_job", params: "kind=Job; namespace=ml; name=waiting", say: "Resume Job ml/waiting", verify: []string{CheckField, CheckScheduled}, fields: map[string]string{"Job/ml/waiting spec.suspend": "false"}},
		"suspend":          {action: "suspend_job", params: "kind=Job; namespace=ml; name=train", say: "Suspend Job ml/train", pods: 1, gpus: 2, verify: []string{CheckField}, fields: map[string]string{"Job/ml/train spec.suspend": "true"}},
		"suspend a series": {action: "suspend_job", params: "kind=CronJob; namespace=ml; name=nightly", say: "Suspend CronJob ml/nightly", verify: []string{CheckField}, warn: []string{"go on"}, fields: map[string]string{"CronJob/ml/nightly spec.suspend": "true"}},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"of a queue":    {action: "resume_job", params: "kind=Job; namespace=ml; name=queued", says: []string{"Kueue", "queue q"}},
		"not suspended": {action: "resume_job", params: "kind=Job; namespace=ml; name=train", says: []string{"is not suspended"}},
		"no Job":        {action: "suspend_job", params: onServe, says: []string{"cannot be suspended"}},
	})
}

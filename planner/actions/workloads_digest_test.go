package actions

import (
	"strings"
	"testing"
)

const digestA, digestC = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

// pinned is a Deployment whose pods all fail, with an older revision by digest.
func pinned() string {
	return strings.ReplaceAll(`apiVersion: apps/v1
kind: Deployment
metadata: {name: pin, namespace: ml, uid: pin}
spec:
  replicas: 1
  selector: {matchLabels: {app: pin}}
  template: {metadata: {labels: {app: pin}}, spec: {containers: [{name: c, image: "reg.io:5000/pin:2"}]}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: pin-1, namespace: ml, uid: pin-1, annotations: {deployment.kubernetes.io/revision: "1"}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: pin, uid: pin, controller: true}]}
spec:
  selector: {matchLabels: {app: pin}}
  template: {metadata: {labels: {app: pin}}, spec: {containers: [{name: c, image: "reg.io:5000/pin@DIGEST"}]}}
`, "DIGEST", digestC)
}

func TestRedeployDigest(t *testing.T) {
	t.Parallel()
	runAll(t, "workloads.yaml", map[string]deed{
		"what a ready pod runs": {
			action: "redeploy_digest", params: onServe + "container=serve", pods: 2, gpus: 4, verify: []string{CheckField, CheckRollout},
			say:    "Set image of container serve of Deployment ml/serve from reg.io/serve:3 to reg.io/serve@" + digestA + " (ready pod serve-1-a runs it)",
			fields: map[string]string{"Deployment/ml/serve spec.template.spec.containers[0].image": "reg.io/serve@" + digestA},
		},
		"what an older revision names": {
			action: "redeploy_digest", params: "kind=Deployment; namespace=ml; name=pin", objects: pinned(), verify: []string{CheckField, CheckRollout},
			say: "to reg.io:5000/pin@" + digestC + " (revision 1 names it)", warn: []string{"not proved", "fixed by digest"},
		},
		"a given one": {action: "redeploy_digest", params: onServe + "container=proxy; digest=" + digestC, pods: 2, gpus: 4, verify: []string{CheckField, CheckRollout}, say: "to reg.io/proxy@" + digestC + " (as given)"},
	})
	runAll(t, "workloads.yaml", map[string]denial{
		"nobody tells":    {action: "redeploy_digest", params: "kind=Deployment; namespace=ml; name=halted", param: "digest", says: []string{"no ready pod and no older revision"}},
		"of another kind": {action: "redeploy_digest", params: "kind=CronJob; namespace=ml; name=nightly", param: "digest", says: []string{"say which"}},
		"no digest":       {action: "redeploy_digest", params: onServe + "container=serve; digest=sha256:abc", param: "digest", says: []string{"no digest"}},
	})
}

func TestRepositoryOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"a": "a", "a:1": "a", "r:5000/a": "r:5000/a", "r:5000/a:1@sha256:x": "r:5000/a", "r/a@sha256:x": "r/a"} {
		if got := repositoryOf(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"docker-pullable://a@sha256:x": "sha256:x", "a@sha256:x": "sha256:x", "sha256:x": ""} {
		if got := digestOf(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

package apiserver

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubectl runs the kubectl on PATH against a served bundle.
type kubectl struct {
	t    *testing.T
	home string
}

func newKubectl(t *testing.T, s *Server) *kubectl {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is not on PATH: the served API is not tried with it")
	}
	url, stop, err := Serve(t.Context(), s, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	k := &kubectl{t: t, home: t.TempDir()}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["b"] = &clientcmdapi.Cluster{Server: url}
	cfg.AuthInfos["u"] = &clientcmdapi.AuthInfo{}
	cfg.Contexts["b"] = &clientcmdapi.Context{Cluster: "b", AuthInfo: "u", Namespace: "shop"}
	cfg.CurrentContext = "b"
	if err := clientcmd.WriteToFile(*cfg, filepath.Join(k.home, "config")); err != nil {
		t.Fatal(err)
	}
	return k
}

// try gives what kubectl writes to either stream, and its exit code.
func (k *kubectl) try(stdin string, args ...string) (text string, code int) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Env = append(os.Environ(), "HOME="+k.home, "KUBECONFIG="+filepath.Join(k.home, "config"), "KUBECACHEDIR="+filepath.Join(k.home, "cache"), "KUBECTL_EXTERNAL_DIFF=diff -u -N")
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		k.t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), code
}

// run fails the test when kubectl does.
func (k *kubectl) run(args ...string) string {
	k.t.Helper()
	out, code := k.try("", args...)
	if code != 0 {
		k.t.Errorf("kubectl %s exits %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// refused fails the test unless kubectl fails with the words.
func (k *kubectl) refused(words string, args ...string) {
	k.t.Helper()
	out, code := k.try("", args...)
	if code == 0 || !strings.Contains(out, words) {
		k.t.Errorf("kubectl %s exits %d, want an error with %q:\n%s", strings.Join(args, " "), code, words, out)
	}
}

func (k *kubectl) is(want string, args ...string) {
	k.t.Helper()
	if out := strings.TrimSpace(k.run(args...)); out != want {
		k.t.Errorf("kubectl %s says %q, want %q", strings.Join(args, " "), out, want)
	}
}

func TestKubectlReads(t *testing.T) {
	t.Parallel()
	k := newKubectl(t, shop(t))
	has(t, k.run("version"), "Server Version: v1.37.2")
	has(t, k.run("get", "pods"), "NAME            READY   STATUS             RESTARTS     AGE",
		"orders          2/3     CrashLoopBackOff   5 (5m ago)   60m", "web-6d4-aaaaa   1/1     Running            0            8d", "train           0/1     Pending")
	has(t, k.run("get", "pods", "-A", "-o", "wide"), "NOMINATED NODE", "10.1.0.5", "team        lone")
	has(t, k.run("get", "pod/orders", "-o", "yaml"), "kind: Pod", "uid: 00000000-0000-4000-8000-000000000021", `resourceVersion: "121"`)
	k.is("web-6d4-aaaaa", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}")
	k.is("web-6d4-aaaaa", "get", "pods", "-l", "app in (web, other),tier", "-o", "jsonpath={.items[*].metadata.name}")
	k.is("pull train", "get", "pods", "--field-selector", "status.phase=Pending", "-o", "jsonpath={.items[*].metadata.name}")
	k.is("lone", "get", "pods", "-A", "--field-selector", "spec.nodeName=gpu-1,status.phase!=Running,status.phase!=Pending", "-o", "jsonpath={.items[*].metadata.name}")
	k.refused("field label not supported: spec.color", "get", "pods", "--field-selector", "spec.color=red")
	k.refused(`pods "nobody" not found`, "get", "pod", "nobody")
	k.refused(`the server doesn't have a resource type "flops"`, "get", "flops")
	has(t, k.run("get", "all"), "pod/orders", "service/web", "deployment.apps/web", "replicaset.apps/web-6d4", "widget.example.com/red-one")
	has(t, k.run("get", "widgets"), "COLOR", "red-one    red     3", "60m")
	k.is("red-one", "get", "wd", "--field-selector", "spec.color=red", "-o", "jsonpath={.items[*].metadata.name}")
	has(t, k.run("get", "pods", "--sort-by=.metadata.creationTimestamp"), "web-6d4-aaaaa")
	has(t, k.run("get", "pods", "-A", "--chunk-size=1"), "lone", "orders", "pull", "train", "web-6d4-aaaaa")
	has(t, k.run("get", "nodes,sc,pv,pvc,hpa,ing,pdb,quota,resourceclaims,resourceslices"), "NotReady,SchedulingDisabled", "fast (default)", "Bound", "cpu: 41%/80%", "shop.example.com", "requests.cpu: 1/8", "pending", "gpu.example.com")
	has(t, k.run("get", "pods", "-w", "--request-timeout=1s"), "orders")
	has(t, k.run("events"), "FailedScheduling", "BackOff")
	has(t, k.run("events", "--for", "pod/train"), "cannot allocate all claims")
	has(t, k.run("api-resources"), "widgets", "wd", "example.com/v1", "resourceclaims", "selfsubjectaccessreviews")
	has(t, k.run("api-versions"), "apps/v1", "example.com/v1", "resource.k8s.io/v1", "v1")
	has(t, k.run("cluster-info"), "Kubernetes control plane")
	k.refused("Metrics API not available", "top", "pods")
	k.refused("Metrics API not available", "top", "nodes")
	k.refused("a bundle runs no containers", "exec", "web-6d4-aaaaa", "--", "ls")
}

func TestKubectlDescribes(t *testing.T) {
	t.Parallel()
	k := newKubectl(t, shop(t))
	has(t, k.run("describe", "pod", "orders"), "CrashLoopBackOff", "Restart Count:  5", "Exit Code:    1", "Back-off restarting failed container main")
	has(t, k.run("describe", "pod", "train"), "FailedScheduling", "cannot allocate all claims")
	has(t, k.run("describe", "node", "gpu-1"), "Non-terminated Pods:", "orders", "Ready")
	has(t, k.run("describe", "node", "gpu-2"), "NodeNotReady", "Unschedulable:      true")
	has(t, k.run("describe", "deployment", "web"), "NewReplicaSet:   web-6d4 (2/2 replicas created)", "OldReplicaSets:  web-5c3 (0/0 replicas created)")
	has(t, k.run("describe", "resourceclaim", "train-gpu"), "gpu.example.com")
	has(t, k.run("describe", "svc,pvc,hpa,ing,pdb,job,widget"), "10.0.0.7", "Access Modes:  RWO", "41% (205m) / 80%", "shop.example.com", "turning")
	has(t, k.run("explain", "pod.spec.containers.resources"), "KIND:       Pod", "ResourceRequirements", "map[string]Quantity")
	has(t, k.run("explain", "deployment.spec", "--recursive"), "template", "revisionHistoryLimit")
	has(t, k.run("explain", "widget.spec"), "Color of the widget.")
	has(t, k.run("explain", "resourceclaim.spec.devices"), "constraints")
}

func TestKubectlLogs(t *testing.T) {
	t.Parallel()
	k := newKubectl(t, shop(t))
	k.is("started\nGET /healthz 200\nGET / 200", "logs", "web-6d4-aaaaa")
	k.is("GET / 200", "logs", "deploy/web", "--tail=1")
	k.is("2026-03-01T11:59:30Z GET / 200", "logs", "web-6d4-aaaaa", "--timestamps", "--since=45s")
	k.is("GET /healthz 200\nGET / 200", "logs", "web-6d4-aaaaa", "--since-time=2026-03-01T11:59:00Z")
	k.is("star", "logs", "web-6d4-aaaaa", "--limit-bytes=4")
	k.is("starting orders 1.4", "logs", "orders", "-c", "main")
	k.is("starting orders 1.4\nFATAL connection refused", "logs", "orders", "-c", "main", "--previous")
	k.is("started\nGET /healthz 200\nGET / 200", "logs", "-f", "web-6d4-aaaaa")
	has(t, k.run("logs", "orders", "--all-containers", "--prefix"), "[pod/orders/main] starting orders 1.4", "[pod/orders/migrate] migrated", "[pod/orders/proxy] listening")
	has(t, k.run("logs", "-l", "app=web"), "GET / 200")
	k.refused("is not valid for pod", "logs", "orders", "-c", "nope")
	k.refused(`previous terminated container "main" in pod "web-6d4-aaaaa" not found`, "logs", "web-6d4-aaaaa", "-p")
	k.refused("is waiting to start: trying and failing to pull image", "logs", "pull")
	k.is("", "logs", "train")
}

func TestKubectlWrites(t *testing.T) {
	t.Parallel()
	k := newKubectl(t, shop(t))
	k.is("pod/train labeled", "label", "pod", "train", "team=ml")
	k.is("ml", "get", "pod", "train", "-o", "jsonpath={.metadata.labels.team}")
	k.refused("already has a value", "label", "pod", "train", "team=web")
	k.is("pod/train labeled (server dry run)", "label", "pod", "train", "team=web", "--overwrite", "--dry-run=server")
	k.is("ml", "get", "pod", "train", "-o", "jsonpath={.metadata.labels.team}")
	k.is("pod/train annotated", "annotate", "pod", "train", "note=why")
	k.is("node/gpu-2 uncordoned", "uncordon", "gpu-2")
	has(t, k.run("taint", "node", "gpu-2", "dedicated=ml:NoSchedule"), "node/gpu-2 tainted")

	k.is("deployment.apps/web patched", "patch", "deployment", "web", "-p", `{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"LEVEL","value":"debug"}]}]}}}}`)
	k.is("fast debug", "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].value}")
	k.is("3", "get", "deployment", "web", "-o", "jsonpath={.metadata.generation}")
	k.is("deployment.apps/web patched", "patch", "deployment", "web", "--type=json", "-p", `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"registry.example.com/web:3"}]`)
	k.is("configmap/settings patched", "patch", "configmap", "settings", "--type=merge", "-p", `{"data":{"mode":null,"extra":"1"}}`)
	k.is(`{"extra":"1","level":"info"}`, "get", "configmap", "settings", "-o", "jsonpath={.data}")
	k.is("widget.example.com/red-one patched", "patch", "widget", "red-one", "--type=merge", "-p", `{"spec":{"color":"green"}}`)
	k.refused("accepted media types include", "patch", "widget", "red-one", "--type=strategic", "-p", `{"spec":{"color":"green"}}`)
	k.is("widget.example.com/red-one patched", "patch", "widget", "red-one", "--subresource=status", "--type=merge", "-p", `{"status":{"detail":"done"}}`)
	k.is("done green", "get", "widget", "red-one", "-o", "jsonpath={.status.detail} {.spec.color}")
	has(t, k.run("patch", "configmap", "settings", "--dry-run=server", "--type=merge", "-p", `{"data":{"extra":"2"}}`), "configmap/settings patched")
	k.is("1", "get", "configmap", "settings", "-o", "jsonpath={.data.extra}")

	k.is("deployment.apps/web scaled", "scale", "deployment", "web", "--replicas=5")
	k.is("5", "get", "deployment", "web", "-o", "jsonpath={.spec.replicas}")
	k.is("widget.example.com/red-one scaled", "scale", "widget", "red-one", "--replicas=7")
	k.is("7", "get", "widget", "red-one", "-o", "jsonpath={.spec.replicas}")
	k.is("deployment.apps/web image updated", "set", "image", "deployment/web", "main=registry.example.com/web:9")
	k.is("pod \"lone\" deleted", "delete", "pod", "lone", "-n", "team")
	k.is("widget.example.com \"blue-one\" deleted", "delete", "widget", "blue-one")
	k.refused(`widgets.example.com "blue-one" not found`, "delete", "widget", "blue-one")
	has(t, k.run("drain", "gpu-1", "--ignore-daemonsets", "--force", "--pod-selector=app=web"), "pod/web-6d4-aaaaa evicted", "node/gpu-1 drained")
	k.is("namespace \"team\" deleted", "delete", "namespace", "team")
	k.is("job.batch/extra created", "create", "job", "extra", "--image=registry.example.com/report:1")
	k.refused("already exists", "create", "configmap", "settings")
}

func TestKubectlRollout(t *testing.T) {
	t.Parallel()
	k := newKubectl(t, shop(t))
	k.is(`deployment "web" successfully rolled out`, "rollout", "status", "deployment/web", "--timeout=5s")
	has(t, k.run("rollout", "history", "deployment/web"), "1         <none>", "2         <none>")
	k.is("deployment.apps/web rolled back", "rollout", "undo", "deployment/web")
	k.is("registry.example.com/web:1", "get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	k.is("deployment.apps/web restarted", "rollout", "restart", "deployment/web")
	has(t, k.run("get", "deployment", "web", "-o", "yaml"), "kubectl.kubernetes.io/restartedAt")
	// There is no controller that would roll it out.
	k.refused("timed out", "rollout", "status", "deployment/web", "--timeout=1s")
	k.is("deployment.apps/web paused", "rollout", "pause", "deployment/web")
}

const manifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: fresh, namespace: shop}
data: {a: "1", b: "2"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - {name: main, image: "registry.example.com/api:1"}
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: fresh, namespace: shop}
spec: {color: white}
`

func TestKubectlApply(t *testing.T) {
	t.Parallel()
	for _, mode := range [][]string{nil, {"--server-side"}} {
		t.Run(strings.Join(mode, ""), func(t *testing.T) {
			t.Parallel()
			k := newKubectl(t, shop(t))
			apply := func(text string, args ...string) string {
				t.Helper()
				out, code := k.try(text, append(append([]string{"apply", "-f", "-"}, mode...), args...)...)
				if code != 0 {
					t.Errorf("apply %v exits %d:\n%s", args, code, out)
				}
				return out
			}
			has(t, apply(manifest, "--dry-run=server"), "configmap/fresh", "deployment.apps/api", "widget.example.com/fresh", "server dry run")
			k.refused("not found", "get", "configmap", "fresh")
			apply(manifest)
			k.is("1 2", "get", "configmap", "fresh", "-o", "jsonpath={.data.a} {.data.b}")
			changed := strings.NewReplacer(`a: "1", b: "2"`, `a: "9"`, "api:1", "api:2", "white", "black").Replace(manifest)
			out, code := k.try(changed, append([]string{"diff", "-f", "-"}, mode...)...)
			if code != 1 {
				t.Errorf("diff exits %d, want 1:\n%s", code, out)
			}
			has(t, out, "-  b: \"2\"", "+        - image: registry.example.com/api:2"[9:], "+  color: black")
			apply(changed)
			k.is(`{"a":"9"}`, "get", "configmap", "fresh", "-o", "jsonpath={.data}")
			k.is("registry.example.com/api:2", "get", "deployment", "api", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
			before := k.run("get", "deployment,configmap,widget", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
			apply(changed)
			if after := k.run("get", "deployment,configmap,widget", "-o", "jsonpath={.items[*].metadata.resourceVersion}"); after != before {
				t.Errorf("an apply of the same changed versions %s to %s", before, after)
			}
			if out, code := k.try(changed, append([]string{"diff", "-f", "-"}, mode...)...); code != 0 {
				t.Errorf("diff of the same exits %d:\n%s", code, out)
			}
			out, code = k.try(strings.ReplaceAll(changed, "replicas: 1", "replicsa: 1"), append([]string{"apply", "-f", "-"}, mode...)...)
			if code == 0 {
				t.Errorf("a misspelt field is taken:\n%s", out)
			}
			has(t, out, `spec.replicsa`)
			out, code = k.try(changed, "delete", "-f", "-")
			if code != 0 {
				t.Errorf("delete exits %d:\n%s", code, out)
			}
			has(t, out, `configmap "fresh" deleted`, `deployment.apps "api" deleted`)
		})
	}
}

func TestKubectlServerSideConflict(t *testing.T) {
	t.Parallel()
	k := newKubectl(t, shop(t))
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared, namespace: shop}\ndata: {a: \"%\"}\n"
	if out, code := k.try(strings.ReplaceAll(text, "%", "1"), "apply", "--server-side", "--field-manager=one", "-f", "-"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	out, code := k.try(strings.ReplaceAll(text, "%", "2"), "apply", "--server-side", "--field-manager=two", "-f", "-")
	if code == 0 {
		t.Errorf("a field of another manager is taken:\n%s", out)
	}
	has(t, out, `conflict with "one"`, ".data.a")
	if out, code := k.try(strings.ReplaceAll(text, "%", "2"), "apply", "--server-side", "--force-conflicts", "--field-manager=two", "-f", "-"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	k.is("2", "get", "configmap", "shared", "-o", "jsonpath={.data.a}")
}

func TestKubectlAuth(t *testing.T) {
	t.Parallel()
	s := made(t, map[string]string{
		"bundle.yaml": `
formatVersion: 1
captured: "2026-03-01T12:00:00Z"
denied:
- {verb: "*", resource: nodes}
- {verb: list, resource: pods, namespace: team}
`,
		"objects/a.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: team}\n",
	})
	k := newKubectl(t, s)
	k.is("yes", "auth", "can-i", "list", "pods")
	k.is("yes", "auth", "can-i", "get", "pods", "--subresource=log")
	for _, q := range [][]string{{"list", "nodes"}, {"list", "pods", "-n", "team"}, {"list", "pods", "-A"}, {"*", "*"}} {
		out, code := k.try("", append([]string{"auth", "can-i"}, q...)...)
		if code != 1 || !strings.HasPrefix(out, "no") && !strings.Contains(out, "\nno") {
			t.Errorf("can-i %v: exit %d, %s", q, code, out)
		}
	}
	has(t, k.run("auth", "can-i", "--list"), "pods/log", "selfsubjectaccessreviews.authorization.k8s.io")
	has(t, k.run("auth", "whoami"), "bundle-reader")
	k.refused(`nodes is forbidden: User "bundle-reader" cannot list resource "nodes" in API group "" at the cluster scope`, "get", "nodes")
	k.refused(`nodes "gpu-1" is forbidden: User "bundle-reader" cannot get resource "nodes" in API group "" at the cluster scope`, "get", "node", "gpu-1")
	k.refused(`pods is forbidden: User "bundle-reader" cannot list resource "pods" in API group "" in the namespace "team"`, "get", "pods", "-n", "team")
	k.refused(`cannot list resource "pods" in API group "" at the cluster scope`, "get", "pods", "-A")
	k.is("pod/b", "get", "pod", "b", "-n", "team", "-o", "name")
	has(t, k.run("auth", "whoami", "--as=ann", "--as-group=sre"), "ann", "sre")
	k.refused(`User "ann" cannot list resource "nodes"`, "get", "nodes", "--as=ann")
}

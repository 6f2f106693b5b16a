package bundle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/redact"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
)

const header = "formatVersion: 1\ncaptured: \"2026-03-01T12:00:00Z\"\n"

func clock() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// cluster serves a bundle of files over HTTP; wrap may come between.
func cluster(t *testing.T, files map[string]string, wrap func(http.Handler) http.Handler) *rest.Config {
	t.Helper()
	fsys := fstest.MapFS{"bundle.yaml": {Data: []byte(header)}}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	b, err := bundle.Open(fsys, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, b, wrap)
}

func serve(t *testing.T, b *bundle.Bundle, wrap func(http.Handler) http.Handler) *rest.Config {
	t.Helper()
	s, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = s
	if wrap != nil {
		h = wrap(s)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	return &rest.Config{Host: srv.URL, QPS: -1}
}

// captured takes a bundle and opens it again.
func captured(t *testing.T, cfg *rest.Config, o bundle.CaptureOptions) (*bundle.Bundle, *bundle.Summary) {
	t.Helper()
	if o.Now == nil {
		o.Now = clock
	}
	out := filepath.Join(t.TempDir(), "out")
	sum, err := bundle.Capture(t.Context(), cfg, out, o)
	if err != nil {
		t.Fatal(err)
	}
	alone(t, out)
	b, closer, err := bundle.OpenPath(out, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = closer() })
	return b, sum
}

// alone fails when a directory holds anything but the named file.
func alone(t *testing.T, out string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(out) {
		t.Errorf("beside %s: %v %v", out, entries, err)
	}
}

// failing captures into a directory that must stay empty.
func failing(t *testing.T, ctx context.Context, cfg *rest.Config, o bundle.CaptureOptions, says string) {
	t.Helper()
	dir := t.TempDir()
	for _, out := range []string{"out", "out.tar.zst", "deep/er/out"} {
		sum, err := bundle.Capture(ctx, cfg, filepath.Join(dir, out), o)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("capture gives %v, %v, want %q", sum, err, says)
		}
		if left, rerr := os.ReadDir(dir); rerr != nil || len(left) > 0 {
			t.Errorf("a capture that fails leaves %v %v", left, rerr)
		}
	}
}

func byKey(b *bundle.Bundle) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, u := range b.Objects {
		out[u.GetAPIVersion()+" "+u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName()] = u.Object
	}
	return out
}

// TestCaptureOfACapture: what is captured, served and captured again is the same.
func TestCaptureOfACapture(t *testing.T) {
	t.Parallel()
	src, err := bundle.Open(os.DirFS("apiserver/testdata/shop"), bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	first, _ := captured(t, serve(t, src, nil), bundle.CaptureOptions{Cluster: "prod-eu", Version: "v0"})
	archive := filepath.Join(t.TempDir(), "second.tar.zst")
	sum, err := bundle.Capture(t.Context(), serve(t, first, nil), archive, bundle.CaptureOptions{Cluster: "prod-eu", Version: "v0", Now: first.Clock})
	if err != nil {
		t.Fatal(err)
	}
	alone(t, archive)
	second, closer, err := bundle.OpenPath(archive, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer() }()
	if d := cmp.Diff(byKey(first), byKey(second)); d != "" {
		t.Errorf("the second capture differs:\n%s", d)
	}
	if d := cmp.Diff(first.Manifest, second.Manifest); d != "" {
		t.Errorf("the manifest differs:\n%s", d)
	}
	if sum.Objects != len(first.Objects) || sum.Logs != 6 {
		t.Errorf("summary %+v", sum)
	}
	// All objects of the source are there, though not all of each.
	for k := range byKey(src) {
		if byKey(first)[k] == nil {
			t.Errorf("%s is missing", k)
		}
	}
	for _, l := range []struct {
		pod, container string
		previous       bool
	}{{"web-6d4-aaaaa", "main", false}, {"orders", "main", false}, {"orders", "main", true}, {"orders", "migrate", false}, {"orders", "metrics", false}} {
		want, got := logText(t, src, "shop", l.pod, l.container, l.previous), logText(t, second, "shop", l.pod, l.container, l.previous)
		if got != want {
			t.Errorf("log of %+v is %q, want %q", l, got, want)
		}
	}
}

func logText(t *testing.T, b *bundle.Bundle, ns, pod, container string, previous bool) string {
	t.Helper()
	f, err := b.Log(ns, pod, container, previous)
	if err != nil {
		t.Errorf("log of %s/%s/%s: %v", ns, pod, container, err)
		return ""
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		t.Error(err)
	}
	return string(raw)
}

// TestCaptureDropsAndKeeps goes through what a capture changes.
func TestCaptureDropsAndKeeps(t *testing.T) {
	t.Parallel()
	b, _ := captured(t, cluster(t, map[string]string{
		"objects/a.yaml": `
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-root-ca.crt, namespace: shop}
data: {ca.crt: long}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: files
  namespace: shop
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}", keep: this}
  managedFields: [{manager: helm, operation: Update, time: "2026-01-01T00:00:00Z", fieldsType: FieldsV1, fieldsV1: {f:data: {}}}]
binaryData: {key: c2VjcmV0}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions: [{name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, description: very long}}, additionalPrinterColumns: [{name: C, type: string, jsonPath: .spec.c}]}]
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w, namespace: shop}
spec: {c: red}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: rb, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: fs}
`,
		"bundle.yaml": header,
	}, nil), bundle.CaptureOptions{})
	all := byKey(b)
	at := func(key string, path ...string) any {
		v, _, _ := unstructured.NestedFieldNoCopy(all[key], path...)
		return v
	}
	if v := at("v1 ConfigMap shop/kube-root-ca.crt", "data", "ca.crt"); v != "(left out)" {
		t.Errorf("the CA is %v", v)
	}
	files := "v1 ConfigMap shop/files"
	if a := at(files, "metadata", "annotations"); fmt.Sprint(a) != "map[keep:this]" {
		t.Errorf("annotations %v", a)
	}
	if m := at(files, "metadata", "managedFields"); fmt.Sprint(m) != "[map[manager:helm operation:Update time:2026-01-01T00:00:00Z]]" {
		t.Errorf("managers %v", m)
	}
	if v := at(files, "binaryData"); fmt.Sprint(v) != "map[key:]" {
		t.Errorf("binary data %v", v)
	}
	if all["example.com/v1 Widget shop/w"] == nil || all["rbac.authorization.k8s.io/v1 RoleBinding shop/rb"] == nil {
		t.Errorf("custom objects or bindings are missing: %v", all)
	}
	crd := fmt.Sprint(all["apiextensions.k8s.io/v1 CustomResourceDefinition /widgets.example.com"])
	if strings.Contains(crd, "very long") || !strings.Contains(crd, "additionalPrinterColumns") {
		t.Errorf("definition %s", crd)
	}
	if all["flowcontrol.apiserver.k8s.io/v1 FlowSchema /fs"] != nil {
		t.Error("flow schemas are captured")
	}
	m := b.Manifest
	if !slices.ContainsFunc(m.LeftOut, func(l bundle.LeftOut) bool {
		return l.What == "flowschemas" && l.Group == "flowcontrol.apiserver.k8s.io" && l.Why != ""
	}) {
		t.Errorf("nothing is said of flow schemas: %v", m.LeftOut)
	}
	i := slices.IndexFunc(m.Resources, func(r bundle.Resource) bool { return r.Plural == "deployments" })
	if r := m.Resources[i]; fmt.Sprint(r.ShortNames, r.Categories, r.Subresources, r.Verbs) != "[deploy] [all] [scale status] []" || r.Singular != "deployment" {
		t.Errorf("deployments: %+v", r)
	}
	if !m.LogTimestamps || m.FormatVersion != bundle.FormatVersion || !m.Captured.Equal(clock()) {
		t.Errorf("manifest %+v", m)
	}
}

// TestCanary: a secret that is anywhere in a cluster is nowhere in its bundle.
func TestCanary(t *testing.T) {
	t.Parallel()
	const canary, word = "hf_CANARYcanaryCANARYcanary0123", "correct-horse-battery"
	asked := map[string]bool{}
	cfg := cluster(t, map[string]string{
		"objects/a.yaml": `
apiVersion: v1
kind: Secret
metadata:
  name: s
  namespace: shop
  labels: {l: "` + word + `"}
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"data":{"x":"` + canary + `"}}', other: ` + canary + `}
type: Opaque
data: {token: ` + canary + `}
stringData: {token: ` + word + `}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: c
  namespace: shop
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: '{"data":{"db-password":"` + word + `"}}'
    other/applied: '{"spec":{"env":[{"name":"DB_PASSWORD","value":"` + word + `"}],"args":["--api-key","` + word + `"]}}'
data:
  token: ` + canary + `
  DB_PASSWORD: ` + word + `
  app.properties: "x=1\ndb.password=` + word + `\n"
  app.json: '{"nested":[{"client_secret":"` + word + `"}]}'
binaryData: {blob: ` + canary + `}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec:
  nodeName: w
  containers:
  - name: main
    args: [--db-password, ` + word + `, "--token=` + canary + `", --verbose, plain]
    env:
    - {name: HF_TOKEN, value: ` + canary + `}
    - {name: DB_PASSWORD, value: ` + word + `}
    - {name: MODE, value: fast}
    - {name: REF, valueFrom: {secretKeyRef: {name: s, key: token}}}
status:
  phase: Running
  containerStatuses:
  - {name: main, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, message: "login with ` + canary + `"}}}
---
apiVersion: v1
kind: Event
metadata: {name: e, namespace: shop}
involvedObject: {kind: Pod, name: p, namespace: shop}
message: "exec: curl -H 'Authorization: Bearer ` + canary + `'"
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w, namespace: shop}
spec: {url: "https://user:` + word + `@example.com", replicas: 3, ratio: 1.5}
`,
		"logs/shop/p/main.log":          "2026-03-01T11:00:00Z using password=" + word + "\n",
		"logs/shop/p/main.previous.log": "2026-03-01T11:00:00Z token " + canary + "\n",
	}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "secrets") {
				asked[r.Header.Get("Accept")] = true
			}
			next.ServeHTTP(w, r)
		})
	})
	for _, out := range []string{"out", "out.tar.zst"} {
		dir := t.TempDir()
		if _, err := bundle.Capture(t.Context(), cfg, filepath.Join(dir, out), bundle.CaptureOptions{Now: clock, Redactor: redact.New()}); err != nil {
			t.Fatal(err)
		}
		b, closer, err := bundle.OpenPath(filepath.Join(dir, out), bundle.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		err = fstest.TestFS(b.FS(), "bundle.yaml", "logs/shop/p/main.log")
		if err != nil {
			t.Error(err)
		}
		walk(t, b, func(name string, raw []byte) {
			for _, secret := range []string{canary, word} {
				if bytes.Contains(raw, []byte(secret)) {
					t.Errorf("%s holds %q:\n%s", name, secret, raw)
				}
			}
		})
		// What is no secret is there.
		all, err := json.Marshal(byKey(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"--verbose","plain"`, `"value":"fast"`, `"name":"DB_PASSWORD"`, `"secretKeyRef":{"key":"token","name":"s"}`, `"replicas":3`, `"ratio":1.5`, `"v1 Secret shop/s"`, "x=1"} {
			if !strings.Contains(string(all), want) {
				t.Errorf("%s is not in %s", want, all)
			}
		}
		if err := closer(); err != nil {
			t.Error(err)
		}
	}
	for accept := range asked {
		if !strings.HasPrefix(accept, "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList") {
			t.Errorf("Secrets are asked for as %q", accept)
		}
	}
	if len(asked) == 0 {
		t.Error("Secrets are not asked for at all")
	}
}

func walk(t *testing.T, b *bundle.Bundle, fn func(string, []byte)) {
	t.Helper()
	err := fs.WalkDir(b.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(b.FS(), name)
		fn(name, raw)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestCaptureNamespaces: a capture of one namespace holds that, what belongs to
// no namespace, and the events of that.
func TestCaptureNamespaces(t *testing.T) {
	t.Parallel()
	src, err := bundle.Open(os.DirFS("apiserver/testdata/shop"), bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	cfg := serve(t, src, nil)
	b, sum := captured(t, cfg, bundle.CaptureOptions{Namespaces: []string{"team"}})
	all := byKey(b)
	for key, want := range map[string]bool{
		"v1 Pod team/lone": true, "v1 Node /gpu-1": true, "resource.k8s.io/v1 ResourceSlice /gpu-1-slice": true, "resource.k8s.io/v1 DeviceClass /gpu.example.com": true,
		"v1 PersistentVolume /pv-1": true, "v1 Event default/gpu-2.1": true, "v1 Namespace /shop": true, "resource.k8s.io/v1 ResourceClaim shop/train-gpu": true,
		"v1 Pod shop/orders": false, "v1 Event shop/train.1": false, "apps/v1 Deployment shop/web": false,
	} {
		if (all[key] != nil) != want {
			t.Errorf("%s: there %v, want %v", key, all[key] != nil, want)
		}
	}
	// Of another namespace's claim goes along what it holds, and nothing else.
	other := unstructured.Unstructured{Object: all["resource.k8s.io/v1 ResourceClaim shop/held-gpu"]}
	if kept, _, _ := unstructured.NestedSlice(other.Object, "status", "allocation", "devices", "results"); len(kept) == 0 {
		t.Errorf("what it holds is lost: %v", other.Object)
	}
	if spec, _, _ := unstructured.NestedMap(other.Object, "spec"); len(spec) > 0 || len(other.GetLabels())+len(other.GetAnnotations())+len(other.GetOwnerReferences()) > 0 {
		t.Errorf("another namespace's claim goes along whole: %v", other.Object)
	}
	if !slices.Equal(b.Manifest.Across, []string{"resourceclaims.resource.k8s.io"}) {
		t.Errorf("manifest %+v", b.Manifest)
	}
	s, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]int{"/apis/resource.k8s.io/v1/resourceclaims": 200, "/apis/resource.k8s.io/v1/namespaces/shop/resourceclaims/train-gpu": 200, "/api/v1/pods": 403, "/api/v1/namespaces/shop/pods": 403, "/api/v1/namespaces/team/pods": 200, "/api/v1/namespaces/default/events": 200} {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if rec.Code != code {
			t.Errorf("%s is served with %d, want %d: %s", path, rec.Code, code, rec.Body)
		}
	}
	// Whoever may not list all claims gets those of the namespaces, and no word
	// that they are all.
	b, _ = captured(t, serve(t, src, replacing(map[string]http.HandlerFunc{"/v1/resourceclaims": answer(403, "Forbidden", "no")})), bundle.CaptureOptions{Namespaces: []string{"shop"}})
	if len(b.Manifest.Across) > 0 || byKey(b)["resource.k8s.io/v1 ResourceClaim shop/train-gpu"] == nil {
		t.Errorf("without the right to all claims: %v", b.Manifest.Across)
	}
	if !slices.Equal(sum.Limited, []string{"team"}) {
		t.Errorf("summary %+v", sum)
	}
	if _, err := os.Stat(filepath.Join("logs", "shop")); err == nil {
		t.Error("logs of another namespace")
	}
	failing(t, t.Context(), cfg, bundle.CaptureOptions{Namespaces: []string{"taem"}}, "namespace taem does not exist")
	failing(t, t.Context(), cfg, bundle.CaptureOptions{Namespaces: []string{"../x"}}, `"../x" is no name of a namespace`)
}

func TestCaptureRefusesToOverwrite(t *testing.T) {
	t.Parallel()
	cfg := cluster(t, nil, nil)
	dir := t.TempDir()
	for _, name := range []string{"file.tar.zst", "dir", "link"} {
		out := filepath.Join(dir, name)
		var err error
		switch name {
		case "dir":
			err = os.Mkdir(out, 0o755)
		case "link":
			err = os.Symlink("nowhere", out)
		default:
			err = os.WriteFile(out, []byte("mine"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Capture(t.Context(), cfg, out, bundle.CaptureOptions{}); err == nil || !strings.Contains(err.Error(), "exists already; name a new directory or file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "file.tar.zst")); err != nil || string(raw) != "mine" {
		t.Errorf("%q %v", raw, err)
	}
	if _, err := bundle.Capture(t.Context(), cfg, filepath.Join(dir, "file.tar.zst", "out"), bundle.CaptureOptions{}); err == nil {
		t.Error("a file is taken for a directory")
	}
}

func shopFiles() map[string]string {
	files := map[string]string{}
	for i := range 3 {
		files[fmt.Sprintf("objects/p%d.yaml", i)] = fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p%d, namespace: shop}\nspec: {nodeName: w, containers: [{name: m}]}\nstatus: {containerStatuses: [{name: m, ready: false, restartCount: %d}]}\n", i, i)
		files[fmt.Sprintf("logs/shop/p%d/m.log", i)] = fmt.Sprintf("2026-03-01T11:00:00Z log of p%d\n", i)
		files[fmt.Sprintf("logs/shop/p%d/m.previous.log", i)] = fmt.Sprintf("2026-03-01T10:00:00Z before p%d\n", i)
	}
	files["objects/n.yaml"] = "apiVersion: v1\nkind: Node\nmetadata: {name: w}\n"
	return files
}

package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Redactor masks secrets in text before it is written.
type Redactor interface{ String(string) string }

// Source records what is not of the Kubernetes API into its place of a bundle.
type Source interface {
	// Record writes files by slash-separated names within the bundle, redacted,
	// and says what it left out. An error fails the whole capture.
	Record(ctx context.Context, write func(name string, raw []byte) error) ([]LeftOut, error)
}

// CaptureOptions say what goes into a bundle.
type CaptureOptions struct {
	// Namespaces to capture; empty means all.
	Namespaces []string
	Redactor   Redactor
	// LogBytes is how much of the end of each log is kept; 0 means 256 KiB.
	LogBytes int64
	Now      func() time.Time
	Cluster  string
	Version  string
	// Logs gives logs from elsewhere, "namespace/pod/container[.previous]" to text.
	Logs map[string]string
	// Sources record what lies beside the Kubernetes API: metrics, flows.
	Sources []Source
	// Denied rights to record beside those the capture met.
	Denied []Denied
}

// pageSize of the lists of a capture.
const pageSize = 500

// Capture writes what a cluster says now into a bundle at out, a directory or a
// .tar.zst. Secret values are never asked for. A list that is forbidden is
// recorded and the capture goes on. Nothing is left behind when it fails.
func Capture(ctx context.Context, cfg *rest.Config, out string, o CaptureOptions) (*Summary, error) {
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("%s exists already; name a new directory or file", out)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(out)), 0o755); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".gumshoe-capture-")
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	defer os.RemoveAll(dir)
	c, err := newCapture(cfg, dir, o)
	if err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	if strings.HasSuffix(out, ".tar.zst") {
		tmp := dir + ".tar.zst"
		if err := errors.Join(pack(dir, tmp), os.Rename(tmp, out)); err != nil {
			return nil, errors.Join(fmt.Errorf("bundle %s: %w", out, err), ignoreMissing(os.Remove(tmp)))
		}
	} else if err := os.Rename(dir, out); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	} else if err := os.Chmod(out, 0o755); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	b, closer, err := OpenPath(out, DefaultLimits())
	if err != nil {
		return nil, err
	}
	defer func() { _ = closer() }()
	s := Inspect(b)
	return &s, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

type capture struct {
	dir      string
	o        CaptureOptions
	disc     discovery.DiscoveryInterface
	dyn      dynamic.Interface
	meta     metadata.Interface
	kube     kubernetes.Interface
	manifest Manifest
}

func newCapture(cfg *rest.Config, dir string, o CaptureOptions) (*capture, error) {
	if o.LogBytes == 0 {
		o.LogBytes = 256 << 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &capture{dir: dir, o: o}
	var err error
	if c.disc, err = discovery.NewDiscoveryClientForConfig(cfg); err != nil {
		return nil, err
	}
	if c.dyn, err = dynamic.NewForConfig(cfg); err != nil {
		return nil, err
	}
	if c.meta, err = metadata.NewForConfig(cfg); err != nil {
		return nil, err
	}
	c.kube, err = kubernetes.NewForConfig(cfg)
	return c, err
}

func (c *capture) run(ctx context.Context) error {
	v, err := c.disc.ServerVersion()
	if err != nil {
		return fmt.Errorf("the API server does not answer: %w", err)
	}
	c.manifest = Manifest{FormatVersion: FormatVersion, Gumshoe: c.o.Version, Captured: c.o.Now().UTC().Truncate(time.Second), Cluster: c.o.Cluster,
		ServerVersion: v.GitVersion, Namespaces: c.o.Namespaces, Denied: c.o.Denied}
	if err := c.discover(); err != nil {
		return err
	}
	var pods []*unstructured.Unstructured
	for _, r := range c.manifest.Resources {
		if why := skipped(r); why != "" {
			c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: r.Plural, Why: why})
			continue
		}
		objs, err := c.objects(ctx, r)
		if err != nil {
			return err
		}
		if r.Group == "" && r.Plural == "pods" {
			pods = objs
		}
		if err := c.write(r, objs); err != nil {
			return err
		}
	}
	if err := c.logs(ctx, pods); err != nil {
		return err
	}
	for _, src := range c.o.Sources {
		left, err := src.Record(ctx, func(name string, raw []byte) error { return c.file(filepath.FromSlash(name), raw) })
		if err != nil {
			return err
		}
		c.manifest.LeftOut = append(c.manifest.LeftOut, left...)
	}
	raw, err := yaml.Marshal(c.manifest)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "bundle.yaml"), raw, 0o644)
}

// discover lists what is served, one version a kind: the server's preferred.
func (c *capture) discover() error {
	lists, err := discovery.ServerPreferredResources(c.disc)
	if err != nil && len(lists) == 0 {
		return fmt.Errorf("discovery: %w", err)
	}
	if err != nil {
		c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: "some API groups", Why: err.Error()})
	}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			return err
		}
		for _, r := range l.APIResources {
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") || (gv.Group == "events.k8s.io") {
				continue
			}
			c.manifest.Resources = append(c.manifest.Resources, Resource{Group: gv.Group, Version: gv.Version, Kind: r.Kind, Plural: r.Name, Singular: r.SingularName, Namespaced: r.Namespaced, ShortNames: r.ShortNames})
		}
	}
	return nil
}

// skipped says why a kind is not captured, empty if it is.
func skipped(r Resource) string {
	switch r.Group {
	case "rbac.authorization.k8s.io":
		return "roles and bindings are not needed to explain a workload"
	case "flowcontrol.apiserver.k8s.io", "certificates.k8s.io", "internal.apiserver.k8s.io", "storagemigration.k8s.io":
		return "not needed to explain a workload"
	}
	if r.Group == "" && r.Plural == "componentstatuses" {
		return "deprecated and misleading"
	}
	if r.Group == "networking.k8s.io" && (r.Plural == "ipaddresses" || r.Plural == "servicecidrs") {
		return "book-keeping of cluster IPs"
	}
	if r.Group == "metrics.k8s.io" {
		return "metrics come from Prometheus"
	}
	return ""
}

// objects lists a kind in the wanted namespaces.
func (c *capture) objects(ctx context.Context, r Resource) ([]*unstructured.Unstructured, error) {
	namespaces := []string{""}
	if r.Namespaced && len(c.o.Namespaces) > 0 {
		namespaces = c.o.Namespaces
	}
	var out []*unstructured.Unstructured
	for _, ns := range namespaces {
		objs, err := c.list(ctx, r, ns)
		switch {
		case apierrors.IsForbidden(err):
			c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: r.Plural, Why: err.Error()})
			for _, verb := range []string{"get", "list", "watch"} {
				c.manifest.Denied = append(c.manifest.Denied, Denied{Verb: verb, Group: r.Group, Resource: r.Plural, Namespace: ns})
			}
			continue
		case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err), apierrors.IsServiceUnavailable(err):
			c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: r.Plural, Why: err.Error()})
			continue
		case err != nil:
			return nil, fmt.Errorf("list %s: %w", r.Plural, err)
		}
		out = append(out, objs...)
	}
	sortObjects(out)
	return out, nil
}

func (c *capture) list(ctx context.Context, r Resource, ns string) ([]*unstructured.Unstructured, error) {
	gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural}
	var out []*unstructured.Unstructured
	opts := metav1.ListOptions{Limit: pageSize}
	for {
		var next string
		if r.Group == "" && r.Plural == "secrets" {
			// Values are never asked for.
			l, err := c.meta.Resource(gvr).Namespace(ns).List(ctx, opts)
			if err != nil {
				return nil, err
			}
			for _, m := range l.Items {
				out = append(out, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret",
					"metadata": map[string]any{"name": m.Name, "namespace": m.Namespace, "uid": string(m.UID), "creationTimestamp": m.CreationTimestamp.UTC().Format(time.RFC3339), "resourceVersion": m.ResourceVersion}}})
			}
			next = l.Continue
		} else {
			l, err := c.dyn.Resource(gvr).Namespace(ns).List(ctx, opts)
			if err != nil {
				return nil, err
			}
			for i := range l.Items {
				out = append(out, c.clean(&l.Items[i]))
			}
			next = l.GetContinue()
		}
		if next == "" {
			return out, nil
		}
		opts.Continue = next
	}
}

// clean drops what makes a bundle large and masks what must not leave.
func (c *capture) clean(u *unstructured.Unstructured) *unstructured.Unstructured {
	fields := u.GetManagedFields()
	for i := range fields {
		fields[i].FieldsV1 = nil
		fields[i].FieldsType = ""
	}
	u.SetManagedFields(fields)
	if a := u.GetAnnotations(); a != nil {
		delete(a, "kubectl.kubernetes.io/last-applied-configuration")
		u.SetAnnotations(a)
	}
	if u.GetKind() == "ConfigMap" && u.GetName() == "kube-root-ca.crt" {
		// Every namespace has the cluster's CA; that it is there is enough.
		u.Object["data"] = map[string]any{"ca.crt": "(left out)"}
	}
	if u.GetKind() == "CustomResourceDefinition" {
		versions, _, _ := unstructured.NestedSlice(u.Object, "spec", "versions")
		for _, v := range versions {
			if m, ok := v.(map[string]any); ok {
				m["schema"] = map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
			}
		}
		_ = unstructured.SetNestedSlice(u.Object, versions, "spec", "versions")
	}
	if c.o.Redactor != nil {
		u.Object, _ = mask(u.Object, c.o.Redactor).(map[string]any)
	}
	return u
}

// mask redacts every string of a document; keys and structure stay.
func mask(v any, r Redactor) any {
	switch v := v.(type) {
	case string:
		return r.String(v)
	case []any:
		for i := range v {
			v[i] = mask(v[i], r)
		}
	case map[string]any:
		for k := range v {
			v[k] = mask(v[k], r)
		}
	}
	return v
}

// write puts the objects of a kind into one file per namespace.
func (c *capture) write(r Resource, objs []*unstructured.Unstructured) error {
	group := r.Group
	if group == "" {
		group = "core"
	}
	files := map[string][]byte{}
	for _, u := range objs {
		ns := u.GetNamespace()
		if ns == "" {
			ns = "_cluster"
		}
		raw, err := yaml.Marshal(u.Object)
		if err != nil {
			return err
		}
		name := filepath.Join("objects", ns, r.Plural+"."+group+".yaml")
		if len(files[name]) > 0 {
			files[name] = append(files[name], "---\n"...)
		}
		files[name] = append(files[name], raw...)
	}
	for name, raw := range files {
		if err := c.file(name, raw); err != nil {
			return err
		}
	}
	return nil
}

func (c *capture) file(name string, raw []byte) error {
	full := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	return os.WriteFile(full, raw, 0o644)
}

// logs keeps the end of every container's log, current and previous.
func (c *capture) logs(ctx context.Context, pods []*unstructured.Unstructured) error {
	for k, text := range c.o.Logs {
		if err := c.file(filepath.Join("logs", filepath.FromSlash(k)+".log"), []byte(c.redact(text))); err != nil {
			return err
		}
	}
	refused := false
	for _, u := range pods {
		raw, err := json.Marshal(u.Object)
		if err != nil {
			return err
		}
		var pod corev1.Pod
		if err := json.Unmarshal(raw, &pod); err != nil || pod.Spec.NodeName == "" {
			continue
		}
		for _, st := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			for _, previous := range []bool{false, true} {
				if (previous && st.RestartCount == 0) || refused {
					continue
				}
				text, err := c.log(ctx, &pod, st.Name, previous)
				if apierrors.IsForbidden(err) {
					refused = true
					c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: "logs", Why: err.Error()})
					c.manifest.Denied = append(c.manifest.Denied, Denied{Verb: "get", Resource: "pods/log"})
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil || text == "" {
					continue
				}
				name := st.Name + ".log"
				if previous {
					name = st.Name + ".previous.log"
				}
				if err := c.file(filepath.Join("logs", pod.Namespace, pod.Name, name), []byte(c.redact(text))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// log reads the end of one log: as many lines as fit into LogBytes.
func (c *capture) log(ctx context.Context, pod *corev1.Pod, container string, previous bool) (string, error) {
	lines := c.o.LogBytes / 80
	rc, err := c.kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, Previous: previous, TailLines: &lines}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, c.o.LogBytes))
	return string(raw), err
}

func (c *capture) redact(s string) string {
	if c.o.Redactor == nil {
		return s
	}
	return c.o.Redactor.String(s)
}

package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Redactor masks secrets before anything is written. JSON masks what lies
// behind telling keys as well.
type Redactor interface {
	String(string) string
	JSON(json.RawMessage) json.RawMessage
}

// Source records what is not of the Kubernetes API into its place of a bundle.
type Source interface {
	// Record writes files by slash-separated names within the bundle, redacted,
	// and says what it left out. An error fails the whole capture.
	Record(ctx context.Context, write func(name string, raw []byte) error) ([]LeftOut, error)
}

// CaptureOptions say what goes into a bundle.
type CaptureOptions struct {
	// Namespaces to capture; empty means all. Cluster-scoped objects are
	// captured in any case, with their events, and so are ResourceClaims: they
	// say who holds which device.
	Namespaces []string
	Redactor   Redactor
	// LogBytes is how much of the end of each log is kept; 0 means 256 KiB.
	LogBytes int64
	// LogTotalBytes is how much is kept of all logs together; 0 means 256 MiB.
	// Logs of containers in trouble go first.
	LogTotalBytes int64
	Now           func() time.Time
	Cluster       string
	Version       string
	// Logs gives logs from elsewhere, "namespace/pod/container[.previous]" to text.
	Logs map[string]string
	// Sources record what lies beside the Kubernetes API: metrics, flows.
	Sources []Source
	// Denied rights to record beside those the capture met.
	Denied []Denied
}

// Capture writes what a cluster says now into a bundle at out, a directory or a
// .tar.zst. Secret values are never asked for. A list that is forbidden or
// fails is recorded and the capture goes on; it fails when the server stops
// answering, accepts no identity, or gives not one list. Nothing is left behind
// when it fails.
func Capture(ctx context.Context, cfg *rest.Config, out string, o CaptureOptions) (s *Summary, err error) {
	out = filepath.Clean(out)
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("%s exists already; name a new directory or file", out)
	}
	parent := filepath.Dir(out)
	made, err := makeParents(parent)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	defer func() {
		if err != nil {
			for _, d := range made {
				_ = os.Remove(d) // only when nothing else came to lie in it
			}
		}
	}()
	work, err := os.MkdirTemp(parent, ".gumshoe-capture-")
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	defer os.RemoveAll(work)
	dir := filepath.Join(work, "bundle")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	defer root.Close()
	c, err := newCapture(cfg, root, o)
	if err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	// What cannot be opened again is no bundle.
	b, err := Open(root.FS(), DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	sum := Inspect(b)
	done := dir
	if strings.HasSuffix(out, ".tar.zst") {
		done = filepath.Join(work, "bundle.tar.zst")
		if err := pack(dir, done); err != nil {
			return nil, fmt.Errorf("bundle %s: %w", out, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	if err := os.Rename(done, out); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", out, err)
	}
	return &sum, nil
}

// makeParents makes a directory with its parents and tells which are new, the
// deepest first.
func makeParents(dir string) (made []string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o755)
}

type capture struct {
	root     *os.Root
	o        CaptureOptions
	disc     discovery.DiscoveryInterfaceWithContext
	dyn      dynamic.Interface
	meta     metadata.Interface
	kube     kubernetes.Interface
	manifest Manifest
	// lists that were answered, and the first that was not.
	answered int
	failed   error
	// bytes of objects written so far.
	bytes int64
}

func newCapture(cfg *rest.Config, root *os.Root, o CaptureOptions) (*capture, error) {
	if o.LogBytes <= 0 {
		o.LogBytes = 256 << 10
	}
	if o.LogTotalBytes <= 0 {
		o.LogTotalBytes = 256 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &capture{root: root, o: o}
	disc, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	c.disc = disc
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
	v, err := c.disc.ServerVersionWithContext(ctx)
	if err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("the API server does not answer: %w", err))
	}
	c.manifest = Manifest{FormatVersion: FormatVersion, Gumshoe: c.o.Version, Captured: c.o.Now().UTC().Truncate(time.Second), Cluster: c.o.Cluster,
		ServerVersion: v.GitVersion, Namespaces: c.o.Namespaces, LogTimestamps: len(c.o.Logs) == 0, Denied: slices.Clone(c.o.Denied)}
	if err := c.discover(ctx); err != nil {
		return err
	}
	if err := c.checkNamespaces(ctx); err != nil {
		return err
	}
	var pods []*unstructured.Unstructured
	for _, r := range c.manifest.Resources {
		if why := skipped(r); why != "" {
			c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: r.Plural, Group: r.Group, Why: why})
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
	if c.answered == 0 && c.failed != nil {
		return fmt.Errorf("the API server answered not one list; if this identity is confined to namespaces, name them with -n: %w", c.failed)
	}
	if err := c.logs(ctx, pods); err != nil {
		return err
	}
	for _, src := range c.o.Sources {
		left, err := src.Record(ctx, func(name string, raw []byte) error { return c.file(name, raw) })
		if err != nil {
			return err
		}
		c.manifest.LeftOut = append(c.manifest.LeftOut, left...)
	}
	raw, err := yaml.Marshal(c.manifest)
	if err != nil {
		return err
	}
	return c.file("bundle.yaml", raw)
}

// checkNamespaces refuses a namespace that is not there: its bundle would be
// empty and look healthy.
func (c *capture) checkNamespaces(ctx context.Context) error {
	for _, ns := range c.o.Namespaces {
		if !plainName(ns) || ns == "" {
			return fmt.Errorf("%q is no name of a namespace", ns)
		}
		_, err := c.kube.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace %s does not exist: %w", ns, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Whoever may not read the namespace may still read what is in it.
	}
	return nil
}

// skipped says why a kind is not captured, empty if it is.
func skipped(r Resource) string {
	switch r.Group {
	case "flowcontrol.apiserver.k8s.io", "certificates.k8s.io", "internal.apiserver.k8s.io", "storagemigration.k8s.io":
		return "not needed to explain a workload"
	case "metrics.k8s.io":
		return "metrics come from Prometheus"
	}
	if r.Group == "" && r.Plural == "componentstatuses" {
		return "deprecated and misleading"
	}
	if r.Group == "networking.k8s.io" && (r.Plural == "ipaddresses" || r.Plural == "servicecidrs") {
		return "book-keeping of cluster IPs"
	}
	return ""
}

// discover lists what is served, one version a kind: the server's preferred.
func (c *capture) discover(ctx context.Context) error {
	groups, lists, err := c.disc.ServerGroupsAndResourcesWithContext(ctx)
	if err != nil && len(lists) == 0 {
		return errors.Join(ctx.Err(), fmt.Errorf("discovery: %w", err))
	}
	if err != nil {
		c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: "some API groups", Why: err.Error()})
	}
	byVersion := map[string]*metav1.APIResourceList{}
	for _, l := range lists {
		byVersion[l.GroupVersion] = l
	}
	for _, g := range groups {
		if g.Name == "events.k8s.io" {
			continue // the same store as the core events
		}
		seen := map[string]bool{}
		versions := append([]metav1.GroupVersionForDiscovery{g.PreferredVersion}, g.Versions...)
		for _, v := range versions {
			l := byVersion[v.GroupVersion]
			if l == nil {
				continue
			}
			for _, r := range served(g.Name, v.Version, l.APIResources) {
				if !seen[r.Plural] {
					seen[r.Plural] = true
					c.manifest.Resources = append(c.manifest.Resources, r)
				}
			}
		}
	}
	if len(c.manifest.Resources) == 0 {
		return errors.New("discovery: the server offers nothing that can be listed; is this a Kubernetes API server?")
	}
	if err := c.manifest.validate(); err != nil {
		return fmt.Errorf("discovery: the server's answer is no Kubernetes API: %w", err)
	}
	return nil
}

// usualVerbs are what most kinds offer; only others are recorded.
func usualVerbs() []string {
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// served turns the listable resources of a group version into ours, with their
// subresources.
func served(group, version string, list []metav1.APIResource) []Resource {
	subs := map[string][]string{}
	for _, r := range list {
		if name, sub, ok := strings.Cut(r.Name, "/"); ok {
			subs[name] = append(subs[name], sub)
		}
	}
	var out []Resource
	for _, r := range list {
		if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") {
			continue
		}
		res := Resource{Group: group, Version: version, Kind: r.Kind, Plural: r.Name, Singular: r.SingularName, Namespaced: r.Namespaced,
			ShortNames: r.ShortNames, Categories: r.Categories, Subresources: subs[r.Name]}
		slices.Sort(res.Subresources)
		if verbs := slices.Sorted(slices.Values(r.Verbs)); !slices.Equal(verbs, usualVerbs()) {
			res.Verbs = verbs
		}
		out = append(out, res)
	}
	return out
}

// missed records a list that was not answered. It gives back what ends the
// whole capture.
func (c *capture) missed(ctx context.Context, r Resource, ns string, err error) error {
	status, isStatus := errors.AsType[*apierrors.StatusError](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server does not accept this identity: %w", err)
	case !isStatus:
		return fmt.Errorf("list %s: %w", r.Plural, err)
	}
	if c.failed == nil {
		c.failed = err
	}
	code := int(status.ErrStatus.Code)
	if code < 400 || code > 599 {
		code = http.StatusInternalServerError
	}
	c.manifest.LeftOut = append(c.manifest.LeftOut, LeftOut{What: r.Plural, Group: r.Group, Namespace: ns, Code: code, Why: err.Error()})
	if apierrors.IsForbidden(err) {
		for _, verb := range []string{"get", "list", "watch"} {
			c.manifest.Denied = append(c.manifest.Denied, Denied{Verb: verb, Group: r.Group, Resource: r.Plural, Namespace: ns})
		}
	}
	return nil
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
		if !plainName(ns) {
			return fmt.Errorf("list %s: the server names a namespace %q", r.Plural, ns)
		}
		raw, err := yaml.Marshal(u.Object)
		if err != nil {
			return err
		}
		if c.bytes += int64(len(raw)); c.bytes > DefaultLimits().ObjectBytes {
			return fmt.Errorf("list %s: the objects have more than %d bytes; name namespaces with -n", r.Plural, DefaultLimits().ObjectBytes)
		}
		name := path.Join("objects", ns, r.Plural+"."+group+".yaml")
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

// file writes beneath the bundle; the root lets nothing out of it.
func (c *capture) file(name string, raw []byte) error {
	if err := c.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, plain(err))
	}
	if err := c.root.WriteFile(name, raw, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, plain(err))
	}
	return nil
}

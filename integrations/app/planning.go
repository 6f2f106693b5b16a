package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/investigate"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/triage"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// ExecutorConfig is the identity that may write: apart from the one that reads.
type ExecutorConfig struct {
	// Kubeconfig and Context of the executor; empty means those that are read with,
	// so that a person at a terminal acts with their own rights.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`
}

func (c ExecutorConfig) validate() error {
	if c.Context != "" && c.Kubeconfig == "" {
		return errors.New("executor.context: it is a context of executor.kubeconfig, which is not set")
	}
	return nil
}

// executorREST gives the client configuration of the executor.
func (a *App) executorREST() (*rest.Config, error) {
	e := a.cfg.Executor
	if a.src.recorded || e.Kubeconfig == "" {
		return rest.CopyConfig(a.src.rest), nil
	}
	k := a.cfg.Kubernetes
	k.Kubeconfig, k.Context = e.Kubeconfig, e.Context
	src, err := liveSource(k, a.cfg.Prometheus, a.cfg.Hubble)
	if err != nil {
		return nil, fmt.Errorf("executor: %w", err)
	}
	return src.rest, nil
}

// actionsOf gives the actions for the cluster of a source.
func actionsOf(cfg Config, src *source) (*actions.Catalogue, error) {
	var pools []actions.PoolCloud
	clouds, err := poolClouds(cfg, src.recorded, time.Now)
	if err != nil {
		return nil, err
	}
	for _, api := range slices.Sorted(maps.Keys(clouds)) {
		pools = append(pools, clouds[api])
	}
	dyn, err := dynamic.NewForConfig(src.rest)
	if err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(src.rest)
	if err != nil {
		return nil, fmt.Errorf("discovery client: %w", err)
	}
	return actions.New(actions.Config{
		Cluster: src.cluster, Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disc)), Now: src.now, Clouds: pools,
		Allocate: allocate(sync.OnceValue(func() int {
			v, err := disc.ServerVersion()
			if err != nil {
				return 0 // the allocator then assumes what it says it assumes
			}
			n, _ := strconv.Atoi(strings.TrimRight(v.Minor, "+"))
			return n
		})),
	})
}

// allocate is the scheduler's allocator with the features that the server shows.
func allocate(minor func() int) actions.Allocate {
	return func(ctx context.Context, d actions.Devices, n *corev1.Node, p *corev1.Pod, claims []*resourceapi.ResourceClaim) ([]*resourceapi.ResourceClaim, string, error) {
		f := allocator.ForServer(minor()).Observe(d.Slices, d.Claims, d.Classes, d.RulesServed).Features
		return allocator.Place(ctx, allocator.Snapshot{Features: f, Slices: d.Slices, Claims: d.Claims, Classes: d.Classes, Rules: d.Rules}, n, p, claims)
	}
}

// catalogue gives the actions for the cluster of this App.
func (a *App) catalogue() (*actions.Catalogue, error) { return actionsOf(a.cfg, a.src) }

// backends gives the backends by API. While a plan is made they only dry-run.
func (a *App) backends(k *actions.Backend, planning bool) (map[string]planner.Backend, error) {
	clouds, err := poolClouds(a.cfg, a.src.recorded, time.Now)
	if err != nil {
		return nil, err
	}
	out := map[string]planner.Backend{incident.APIKubernetes: k}
	for api, c := range clouds {
		out[api] = c
		if planning {
			out[api] = undryable{c}
		}
	}
	return out, nil
}

// sourcer gives the changes of repositories.
func sourcer(c *actions.Catalogue) planner.Sourcer { return c }

// clusterUID is the uid of kube-system, which names a cluster as nothing else does.
func (a *App) clusterUID(ctx context.Context) (string, error) {
	client, err := kubernetes.NewForConfig(a.src.rest)
	if err != nil {
		return "", fmt.Errorf("kubernetes client: %w", err)
	}
	ns, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		if a.src.recorded { // a bundle may hold no namespaces; it is one cluster all the same
			return "bundle:" + a.src.cluster, nil
		}
		return "", &tool.Error{Kind: tool.Unreachable, User: "which cluster this is cannot be seen: namespace kube-system: " + err.Error(), Fix: "grant get on namespaces", Err: err}
	}
	if ns.UID == "" {
		return "bundle:" + a.src.cluster, nil
	}
	return string(ns.UID), nil
}

// looker looks with the reading tools, each time anew: what a tool remembers of the
// cluster from before a change would be no proof.
type looker struct{ a *App }

var _ actions.Looker = looker{}

// Faults implements actions.Looker.
func (l looker) Faults(ctx context.Context, subjects ...incident.Ref) ([]incident.Finding, []string, error) {
	known, err := proposable()
	if err != nil {
		return nil, nil, err
	}
	inv, err := investigate.New(investigate.Config{
		Cluster: l.a.src.cluster, Toolsets: l.a.toolsets, Actions: known,
		Triager: triage.New(triage.Config{Cluster: l.a.src.cluster, Toolsets: l.a.toolsets, Library: l.a.library}),
		Now:     l.a.src.now, Redactor: l.a.redactor, Suspicious: l.a.detector.Marks,
	})
	if err != nil {
		return nil, nil, err
	}
	r, err := inv.Run(tool.Fresh(ctx), incident.Question{Subjects: subjects, Cluster: l.a.src.cluster}, event.SinkFunc(func(event.Event) {}))
	if err != nil {
		return nil, nil, err
	}
	if r.Stop == incident.StopUnreachable || r.Stop == incident.StopInterrupted {
		return nil, nil, errors.New(first(r.StopReason, string(r.Stop)))
	}
	var missed []string
	for _, g := range r.Diagnosis.NotSeen {
		missed = append(missed, g.Source+": "+g.Why)
	}
	return r.Findings, missed, nil
}

// Call implements actions.Looker.
func (l looker) Call(ctx context.Context, name string, args json.RawMessage, probe bool) (incident.Evidence, []incident.Finding, error) {
	a := *l.a
	a.cfg.AllowProbe = probe
	said, err := a.CallTool(ctx, name, args)
	return said.Evidence, said.Findings, err
}

// openJournal opens the store for plans: they have to be kept.
func openJournal(cfg Config) (*file.Store, error) {
	if !cfg.Store.wanted() {
		return nil, &tool.Error{Kind: tool.Invalid, User: "plans have to be kept, and the store is off", Fix: "set store.dir or GUMSHOE_STATE to a directory"}
	}
	s, err := file.Open(file.Config{Dir: cfg.Store.Dir, LockWait: storeWait})
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "the store cannot be opened: " + err.Error(), Fix: storeFix, Err: err}
	}
	return s, nil
}

// Actions describes every action that ships, by family and name. No cluster is needed.
func Actions() ([]planner.Info, error) {
	c, err := actions.New(actions.Config{Now: time.Now})
	if err != nil {
		return nil, err
	}
	all := c.Infos()
	slices.SortStableFunc(all, func(a, b planner.Info) int {
		return cmp.Or(strings.Compare(a.Family, b.Family), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

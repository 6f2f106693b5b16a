package actions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Config says what the actions read.
type Config struct {
	// Cluster is the name facts are labelled with.
	Cluster string
	// Dynamic reads objects; it never writes.
	Dynamic dynamic.Interface
	Mapper  meta.RESTMapper
	Now     func() time.Time
	// Allocate is the scheduler's allocator for dynamic resources; without it a pod
	// with claims is not proved to fit anywhere.
	Allocate Allocate
	// Clouds are the providers whose API changes node pools; none is fine.
	Clouds []PoolCloud
}

// Catalogue is the list of actions that ship.
type Catalogue struct{ cluster *Cluster }

var _ planner.Catalogue = (*Catalogue)(nil)

// New gives the actions for one cluster.
func New(cfg Config) (*Catalogue, error) {
	if cfg.Now == nil {
		return nil, errors.New("actions: a clock is needed")
	}
	return &Catalogue{cluster: &Cluster{name: cfg.Cluster, dyn: cfg.Dynamic, mapper: cfg.Mapper, now: cfg.Now, allocate: cfg.Allocate, clouds: cfg.Clouds}}, nil
}

// Infos implements planner.Catalogue: every action by name.
func (c *Catalogue) Infos() []planner.Info {
	var out []planner.Info
	for _, a := range all(c.cluster) {
		out = append(out, a.Info())
	}
	slices.SortFunc(out, func(a, b planner.Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Session implements planner.Catalogue.
func (c *Catalogue) Session() planner.Session {
	cluster := c.cluster.session()
	s := &session{cluster: cluster, actions: map[string]*action{}}
	for _, a := range all(cluster) {
		s.actions[a.info.Name] = a
	}
	return s
}

type session struct {
	cluster *Cluster
	actions map[string]*action
}

var _ planner.Standing = (*session)(nil)

// Action implements planner.Session.
func (s *session) Action(name string) planner.Action {
	if a, ok := s.actions[name]; ok {
		return a
	}
	return nil
}

// Stand implements planner.Standing. An object that cannot be read stands for itself.
func (s *session) Stand(ctx context.Context, r incident.Ref) incident.Ref {
	// What the plan removes is gone for the session: it is read as it is now.
	c := s.cluster.session()
	o, err := c.Get(ctx, kindOf(r), r.Namespace, r.Name)
	if err != nil {
		return r
	}
	for range maxClimb {
		ref := metav1.GetControllerOf(o.Unstructured)
		if ref == nil || ref.Kind == "Node" {
			break
		}
		above, err := c.Get(ctx, kindOf(incident.Ref{Kind: ref.Kind, Group: groupOf(ref.APIVersion)}), o.GetNamespace(), ref.Name)
		if err != nil {
			break
		}
		o = above
	}
	return o.Ref
}

// groupOf gives the group of "group/version", empty for "v1".
func groupOf(apiVersion string) string {
	g, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return g
}

// all is the explicit list of what ships, a family a line.
func all(c *Cluster) []*action {
	return slices.Concat(
		nodes(c),
		workloads(c),
		images(c),
		services(c),
		settings(c),
		dra(c),
		network(c),
		drains(c),
		pools(c),
		replicas(c),
		retirements(c),
		poolMoves(c),
	)
}

// action is a planner.Action made of data and one function.
type action struct {
	info planner.Info
	c    *Cluster
	// compile gets parameters that the schema accepts.
	compile func(ctx context.Context, c *Cluster, p params) (*draft, error)
}

var _ planner.Action = (*action)(nil)

// Info implements planner.Action.
func (a *action) Info() planner.Info { return a.info }

// Compile implements planner.Action.
func (a *action) Compile(ctx context.Context, raw map[string]string) (planner.Draft, error) {
	p, err := a.accept(raw)
	if err != nil {
		return planner.Draft{}, err
	}
	planned, placed := maps.Clone(a.c.planned), a.c.placed
	d, err := a.compile(ctx, a.c, p)
	if err != nil {
		a.c.planned, a.c.placed = planned, placed // what is not done is not seen as done
		return planner.Draft{}, err
	}
	if d.Risk.Weight() < a.info.Risk.Weight() || d.Risk == "" {
		d.Risk = a.info.Risk
	}
	return d.Draft, nil
}

// params are the accepted parameters of one action.
type params struct {
	action string
	values map[string]string
}

// str gives a value, empty when it was not given.
func (p params) str(name string) string { return p.values[name] }

// missing says that a person has to give a parameter, or a better one.
func (p params) missing(name, why string, args ...any) error {
	return &planner.Missing{Action: p.action, Param: name, Why: fmt.Sprintf(why, args...)}
}

// refuse says that the change is never made, and what can be done instead.
func (p params) refuse(way, why string, args ...any) error {
	return &planner.Refused{Action: p.action, Why: fmt.Sprintf(why, args...), Way: way}
}

// nodeRef names a node.
func nodeRef(cluster, name string) incident.Ref {
	return incident.Ref{Cluster: cluster, Kind: "Node", Name: name}
}

// Package source reads one Kubernetes cluster for the tools of package kube:
// typed reads behind a short cache, any other kind through the dynamic client,
// and errors that say what is missing and what would open it. It only reads.
// The values of Secrets are never asked for.
package source

import (
	"fmt"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// DefaultTTL is how long an answer of the API server is reused.
const DefaultTTL = 15 * time.Second

// maxCached bounds the number of objects kept, summed over all lists. The
// largest cluster we promise has 20,000 pods and 5,000 nodes.
const maxCached = 80_000

// pageSize is the Limit of one list request.
const pageSize = 2000

// Config says which cluster is read and how.
type Config struct {
	// Client reads the built-in kinds; give it protobuf content types.
	Client kubernetes.Interface
	// Dynamic reads every other kind.
	Dynamic dynamic.Interface
	// Discovery tells which kinds the server has. Nil means Client.Discovery().
	Discovery discovery.DiscoveryInterface
	// Metadata reads objects without spec and status, which is the only way
	// Secrets are read. Nil means plain requests over Client's transport.
	Metadata metadata.Interface
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; with a bundle it stands at the capture time. Nil means time.Now.
	Now func() time.Time
	// TTL is how long an answer is reused; zero means DefaultTTL. The cache ages
	// by Now, so a standing clock keeps every answer.
	TTL time.Duration
}

// Source reads one cluster. It is safe for concurrent use. The objects it
// returns are shared between callers and must not be changed.
type Source struct {
	client  kubernetes.Interface
	dynamic dynamic.Interface
	disco   discovery.DiscoveryInterface
	meta    metaReader
	cluster string
	now     func() time.Time
	ttl     time.Duration
	cache   *tool.Kept[any]
	unseen  tool.Unseen
}

// New makes a Source. It fails when a client is missing and does not talk to
// the cluster.
func New(c Config) (*Source, error) {
	if c.Client == nil {
		return nil, fmt.Errorf("source: Client is required")
	}
	if c.Dynamic == nil {
		return nil, fmt.Errorf("source: Dynamic is required")
	}
	if c.Discovery == nil {
		c.Discovery = c.Client.Discovery()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.TTL <= 0 {
		c.TTL = DefaultTTL
	}
	meta := newPlainMetadata(c.Client)
	if c.Metadata != nil {
		meta = metaClient{c.Metadata}
	}
	return &Source{
		client: c.Client, dynamic: c.Dynamic, disco: c.Discovery, meta: meta,
		cluster: c.Cluster, now: c.Now, ttl: c.TTL,
		cache: tool.NewKept[any](tool.Keep{Now: c.Now, Most: maxCached}),
	}, nil
}

// Cluster gives the name that references of this source carry.
func (s *Source) Cluster() string { return s.cluster }

// Now gives the time of the source's clock.
func (s *Source) Now() time.Time { return s.now() }

// Ref makes a reference to an object of this cluster.
func (s *Source) Ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: s.cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

// Limits lists the reads the API server has refused since a moment, so that an answer
// can say what it could not see. The order is stable.
func (s *Source) Limits(since time.Time) []incident.Gap { return s.unseen.Since(since) }

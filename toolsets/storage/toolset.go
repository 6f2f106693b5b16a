// Package storage explains what keeps a pod from its volumes and its images: where
// a volume is attached, who holds it, whether its CSI driver is there and answers,
// how many volumes a node may still take, and how long pulling took elsewhere. It
// reads Kubernetes objects and events only, and writes nothing.
package storage

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Event is what happened to an object, repeats merged.
type Event struct {
	// Kind and Name of the object, in the namespace that was asked about.
	Kind, Name      string
	Reason, Message string
	Warning         bool
	// Source is the component that reported it.
	Source string
	Count  int
	// First and Last are when it was seen first and last.
	First, Last time.Time
}

// Reads are the reads of one cluster. All are required; objects are shared with
// other readers and never written to. Errors are *tool.Error with a kind: a
// missing object is tool.NotFound, a refused read tool.Forbidden.
type Reads struct {
	Pod          func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Pods         func(ctx context.Context, namespace string) ([]*corev1.Pod, error)
	PodsOnNode   func(ctx context.Context, node string) ([]*corev1.Pod, error)
	Node         func(ctx context.Context, name string) (*corev1.Node, error)
	Nodes        func(context.Context) ([]*corev1.Node, error)
	Claim        func(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume       func(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	Volumes      func(context.Context) ([]*corev1.PersistentVolume, error)
	Class        func(ctx context.Context, name string) (*storagev1.StorageClass, error)
	Attachments  func(context.Context) ([]*storagev1.VolumeAttachment, error)
	CSINode      func(ctx context.Context, name string) (*storagev1.CSINode, error)
	CSINodes     func(context.Context) ([]*storagev1.CSINode, error)
	Driver       func(ctx context.Context, name string) (*storagev1.CSIDriver, error)
	Deployment   func(ctx context.Context, namespace, name string) (*appsv1.Deployment, error)
	ReplicaSet   func(ctx context.Context, namespace, name string) (*appsv1.ReplicaSet, error)
	Deployments  func(ctx context.Context, namespace string) ([]*appsv1.Deployment, error)
	StatefulSets func(ctx context.Context, namespace string) ([]*appsv1.StatefulSet, error)
	DaemonSets   func(ctx context.Context, namespace string) ([]*appsv1.DaemonSet, error)
	// Events of one object, or of all objects of a kind where name is empty; newest
	// last seen first.
	Events func(ctx context.Context, kind, namespace, name string) ([]Event, error)
	// Allowed asks whether this identity may list a cluster-wide resource.
	Allowed func(ctx context.Context, verb, group, resource string) (bool, error)
}

// Config says which cluster is read.
type Config struct {
	Reads Reads
	// Metrics tells what the volumes of an Elastic SAN read together. Nil: not seen.
	Metrics Metrics
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; with a bundle it stands at the capture time. Nil means time.Now.
	Now func() time.Time
}

// Toolset offers the storage_* tools. It is safe for concurrent use.
type Toolset struct {
	reads   Reads
	cluster string
	now     func() time.Time
	metrics Metrics
	signs   []sign
	tools   []tool.Tool
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// New makes the toolset. It fails when a read is missing or the table of
// signatures is broken, and does not talk to the cluster.
func New(c Config) (*Toolset, error) {
	if err := c.Reads.complete(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	signs, err := shippedSigns()
	if err != nil {
		return nil, err
	}
	t := &Toolset{reads: c.Reads, metrics: c.Metrics, cluster: c.Cluster, now: c.Now, signs: signs}
	for _, mk := range []func() (tool.Tool, error){t.volumesTool, t.driversTool, t.pullsTool} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

func (r Reads) complete() error {
	for name, missing := range map[string]bool{
		"Pod": r.Pod == nil, "Pods": r.Pods == nil, "PodsOnNode": r.PodsOnNode == nil, "Node": r.Node == nil, "Nodes": r.Nodes == nil,
		"Claim": r.Claim == nil, "Volume": r.Volume == nil, "Volumes": r.Volumes == nil, "Class": r.Class == nil, "Attachments": r.Attachments == nil,
		"CSINode": r.CSINode == nil, "CSINodes": r.CSINodes == nil, "Driver": r.Driver == nil, "Deployment": r.Deployment == nil,
		"ReplicaSet": r.ReplicaSet == nil, "Deployments": r.Deployments == nil, "StatefulSets": r.StatefulSets == nil, "DaemonSets": r.DaemonSets == nil,
		"Events": r.Events == nil, "Allowed": r.Allowed == nil,
	} {
		if missing {
			return fmt.Errorf("storage: Reads.%s is required", name)
		}
	}
	return nil
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "storage" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset: denied when none of the cluster-wide objects of
// storage may be read, ready with limits when some may not.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	var limits []incident.Gap
	looks := []struct{ group, resource, shows string }{
		{"", "persistentvolumes", "volumes and their drivers"},
		{storageGroup, "volumeattachments", "where volumes are attached"},
		{storageGroup, "csinodes", "drivers and attach limits of nodes"},
	}
	for _, l := range looks {
		ok, err := t.reads.Allowed(ctx, "list", l.group, l.resource)
		if err != nil {
			st := tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
			if errors.Is(err, context.Canceled) || tool.KindOf(err) == tool.Unreachable {
				st.Fix = "check the connection to the API server"
			}
			return st
		}
		if !ok {
			name := l.resource
			if l.group != "" {
				name += "." + l.group
			}
			limits = append(limits, incident.Gap{Source: l.shows, Why: "this identity may not list " + name, Fix: "grant verbs get and list on " + name})
		}
	}
	if len(limits) == len(looks) {
		return tool.Status{State: tool.Denied, Limits: limits,
			Reason: "this identity may list neither persistentvolumes nor volumeattachments nor csinodes",
			Fix:    "grant get and list on persistentvolumes, and on volumeattachments, csinodes, csidrivers and storageclasses in storage.k8s.io"}
	}
	return tool.Status{State: tool.Ready, Limits: limits}
}

//go:embed text
var texts embed.FS

// text reads the words a model is told about a tool.
func text(name string) string {
	raw, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

const storageGroup = "storage.k8s.io"

// ref makes a reference to an object of this cluster.
func (t *Toolset) ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: t.cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

func (t *Toolset) podRef(p *corev1.Pod) incident.Ref { return t.ref("", "Pod", p.Namespace, p.Name) }

func (t *Toolset) claimRef(namespace, name string) incident.Ref {
	return t.ref("", "PersistentVolumeClaim", namespace, name)
}

func (t *Toolset) volumeRef(name string) incident.Ref {
	return t.ref("", "PersistentVolume", "", name)
}

func (t *Toolset) nodeRef(name string) incident.Ref { return t.ref("", "Node", "", name) }

func (t *Toolset) attachmentRef(name string) incident.Ref {
	return t.ref(storageGroup, "VolumeAttachment", "", name)
}

func (t *Toolset) csiNodeRef(name string) incident.Ref {
	return t.ref(storageGroup, "CSINode", "", name)
}

func (t *Toolset) driverRef(name string) incident.Ref {
	return t.ref(storageGroup, "CSIDriver", "", name)
}

func (t *Toolset) classRef(name string) incident.Ref {
	return t.ref(storageGroup, "StorageClass", "", name)
}

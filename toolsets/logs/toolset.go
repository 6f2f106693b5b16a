// Package logs compares the logs of the pods of one distributed job: which rank
// failed or fell silent first, and who only waited for it. It reads the logs that
// the API server gives and, where there is a store of logs, those of runs that the
// cluster no longer keeps. It only reads.
package logs

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

//go:embed text/*.md
var texts embed.FS

// Pods reads pods; what it gives is shared and never written to.
type Pods interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	PodsMatching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error)
}

// Objects reads any object. Errors are tool.Errors.
type Objects interface {
	Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error)
}

// Container names one run of a container.
type Container struct {
	Namespace, Pod, Name string
	Previous             bool
}

// Tailer reads the end of a container's log, its lines dated by the kubelet. cut
// says that the log goes further back.
type Tailer interface {
	Tail(ctx context.Context, c Container, lines int) (text string, cut bool, err error)
}

// Store is a store of logs that keeps what the cluster has forgotten. Lines are
// dated like the kubelet's. It gives a tool.Error of kind NotServed where there is
// none.
type Store interface {
	PodLog(ctx context.Context, namespace, pod, container string, from, to time.Time) (text string, cut bool, err error)
}

// Config says what is read.
type Config struct {
	Pods    Pods
	Objects Objects
	Logs    Tailer
	// Store may be nil.
	Store Store
	// Reach asks whether the cluster answers at all; nil means that it is not asked.
	Reach func(context.Context) error
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// ttl is how long the reading of one job is reused: the checks of its pods ask for
// the same one within an investigation.
const ttl = 15 * time.Second

// Toolset offers logs_ranks. It is safe for concurrent use.
type Toolset struct {
	cfg   Config
	tools []tool.Tool
	memo  *tool.Kept[*reading]
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// New makes the toolset. It talks to nothing.
func New(c Config) (*Toolset, error) {
	if c.Pods == nil || c.Objects == nil || c.Logs == nil {
		return nil, errors.New("logs: Pods, Objects and Logs are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	t := &Toolset{cfg: c, memo: tool.NewKept[*reading](tool.Keep{Now: c.Now, For: ttl, Most: 64})}
	one, err := t.ranksTool()
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	t.tools = []tool.Tool{one}
	return t, nil
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "logs" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset: ready, or broken where the cluster does not answer.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	if t.cfg.Reach == nil {
		return tool.Status{State: tool.Ready}
	}
	err := t.cfg.Reach(ctx)
	if err == nil || tool.KindOf(err) == tool.Forbidden {
		return tool.Status{State: tool.Ready}
	}
	st := tool.Status{State: tool.Broken, Reason: err.Error()}
	if e, ok := errors.AsType[*tool.Error](err); ok {
		st.Reason, st.Fix = e.User, e.Fix
	}
	return st
}

// read makes a read-only tool whose text lies beside the code.
func read[In, Out any](name string, fn tool.Func[In, Out]) (tool.Tool, error) {
	text, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", name, err)
	}
	return tool.New(tool.Info{Name: name, Text: strings.TrimSpace(string(text)), Effect: tool.Read}, fn)
}

func (t *Toolset) ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: t.cfg.Cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

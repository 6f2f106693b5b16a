package app

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs"
)

// newLogs wires the comparison of logs to what the Kubernetes toolset reads.
func newLogs(src *source, k *kube.Toolset) (*logs.Toolset, error) {
	eyes := logEyes{src: k.Source()}
	reach := func(ctx context.Context) error {
		_, err := k.Source().ServerVersion(ctx)
		return err
	}
	return logs.New(logs.Config{Pods: eyes, Objects: eyes, Logs: eyes, Reach: reach, Cluster: src.cluster, Now: src.now})
}

// logEyes is what the comparison of logs sees of a cluster.
type logEyes struct{ src *kubesource.Source }

var (
	_ logs.Pods    = logEyes{}
	_ logs.Objects = logEyes{}
	_ logs.Tailer  = logEyes{}
)

// logBytes bounds one log that is read for comparison.
const logBytes = 256 << 10

// Pod implements logs.Pods.
func (e logEyes) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return e.src.Pod(ctx, namespace, name)
}

// PodsMatching implements logs.Pods.
func (e logEyes) PodsMatching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error) {
	return e.src.PodsMatching(ctx, namespace, sel)
}

// Get implements logs.Objects.
func (e logEyes) Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error) {
	return e.src.Get(ctx, ref)
}

// Tail implements logs.Tailer.
func (e logEyes) Tail(ctx context.Context, c logs.Container, lines int) (string, bool, error) {
	l, err := e.src.Logs(ctx, c.Namespace, c.Pod, kubesource.LogQuery{Container: c.Name, Previous: c.Previous, Tail: lines, Limit: logBytes})
	return l.Text, l.Cut, err
}

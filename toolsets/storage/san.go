package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// Metrics answers PromQL; nil where there is no Prometheus.
type Metrics interface {
	// Range evaluates an expression over a window. Data may come together with an
	// error that says what of it is missing.
	Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]metric.Series, error)
}

const (
	// elasticSAN is the CSI driver of Azure Elastic SAN.
	elasticSAN = "san.csi.azure.com"
	// perTiB is the throughput that all volumes of a SAN share for each TiB of base
	// capacity, in bytes a second (Azure Elastic SAN scale targets: 200 MB/s).
	perTiB = 200e6
	// defaultTiB is the base capacity of a SAN that is made for a class (Azure Container
	// Storage with Elastic SAN).
	defaultTiB = 1
	// near and floor are the shares of the ceiling that the mean and the least of the
	// window must reach before that it is a plateau.
	near, floor = 0.85, 0.7
	// plateau is how long.
	plateau = 10 * time.Minute
	// slowStart is how long a pod may take before that it is not ready says something.
	slowStart = 5 * time.Minute
	// mostReaders bounds the pods that are asked about.
	mostReaders = 200
)

// ceiling says, of a pod that is not ready and reads from an Elastic SAN, that its
// volumes together read as much as the SAN gives: no error tells of that.
func (l *look) ceiling(ctx context.Context, p *corev1.Pod, m *mountOf) {
	if m.driver != elasticSAN || m.class == "" || m.pv == nil || p.Spec.NodeName == "" || ready(p) {
		return
	}
	base := float64(defaultTiB)
	sc, err := l.t.reads.Class(ctx, m.class)
	if err != nil {
		l.v.gap("StorageClass "+m.class, err)
		return
	}
	for k, v := range sc.Parameters {
		if n, err := strconv.ParseFloat(v, 64); strings.EqualFold(k, "initialStorageTiB") && err == nil && n > 0 {
			base = n
		}
	}
	readers := l.readers(ctx, m.class)
	if len(readers) < 2 {
		return
	}
	if l.t.metrics == nil {
		l.v.line("how much the %d pods on the SAN of class %s read together is not known: there is no Prometheus", len(readers), m.class)
		return
	}
	var names, spaces []string
	for _, r := range readers {
		names = append(names, r.Name)
		if !slices.Contains(spaces, r.Namespace) {
			spaces = append(spaces, r.Namespace)
		}
	}
	expr := fmt.Sprintf(`sum(rate(container_fs_reads_bytes_total{container!="",namespace=~%s,pod=~%s}[5m]))`, metric.AnyOf(spaces...), metric.AnyOf(names...))
	now := l.t.now()
	series, err := l.t.metrics.Range(ctx, expr, now.Add(-plateau), now, time.Minute)
	if err != nil && len(series) == 0 {
		l.v.line("how much the %d pods on the SAN of class %s read together is not known: %s", len(readers), m.class, tool.UserText(err))
		return
	}
	if len(series) != 1 || len(series[0].Points) < int(plateau/time.Minute/2) {
		l.v.line("how much the %d pods on the SAN of class %s read together is not known: their containers have no series", len(readers), m.class)
		return
	}
	sum, least := 0.0, series[0].Points[0].Value
	for _, x := range series[0].Points {
		sum += x.Value
		least = min(least, x.Value)
	}
	mean, most := sum/float64(len(series[0].Points)), base*perTiB
	l.v.line("%d pods on the SAN of class %s read %.0f MB/s together over %s (least %.0f); a SAN of %g TiB base gives %.0f MB/s to all", len(readers), m.class, mean/1e6, span(plateau), least/1e6, base, most/1e6)
	if mean < near*most || least < floor*most {
		return
	}
	if waited := now.Sub(p.CreationTimestamp.Time); waited > slowStart {
		l.v.find("storage.start_slow", 0, l.t.podRef(p), map[string]string{"what": "reading from volumes of class " + m.class, "took": span(waited), "peers": fmt.Sprintf("%d pods share the SAN", len(readers))},
			"pod %s is not ready %s after it was made, while it and %d other pods read all that their SAN gives", p.Name, span(waited), len(readers)-1)
	}
	l.v.find("storage.san_ceiling", 0.84, l.t.classRef(m.class), map[string]string{"pods": strconv.Itoa(len(readers)), "reads": fmt.Sprintf("%.0f MB/s", mean/1e6), "ceiling": fmt.Sprintf("%.0f MB/s", most/1e6), "base": fmt.Sprintf("%g TiB", base)},
		"%d pods on the Elastic SAN of class %s read %.0f MB/s together for %s, which is what it gives: %.0f MB/s for %g TiB of base capacity, shared by all its volumes", len(readers), m.class, mean/1e6, span(plateau), most/1e6, base)
}

// readers are the live pods on nodes that mount a volume of a class.
func (l *look) readers(ctx context.Context, class string) []*corev1.Pod {
	pvs, err := l.t.reads.Volumes(ctx)
	if err != nil {
		l.v.gap("volumes", err)
		return nil
	}
	claims := map[string][]string{}
	for _, pv := range pvs {
		if r := pv.Spec.ClaimRef; pv.Spec.StorageClassName == class && r != nil {
			claims[r.Namespace] = append(claims[r.Namespace], r.Name)
		}
	}
	var out []*corev1.Pod
	spaces := map[string]bool{}
	for ns := range claims {
		spaces[ns] = true
	}
	for _, ns := range sorted(spaces) {
		pods, err := l.t.reads.Pods(ctx, ns)
		if err != nil {
			l.v.gap("pods in "+ns, err)
			continue
		}
		for _, o := range pods {
			if len(out) < mostReaders && o.Spec.NodeName != "" && !over(o) && slices.ContainsFunc(claimNames(o), func(c string) bool { return slices.Contains(claims[ns], c) }) {
				out = append(out, o)
			}
		}
	}
	return out
}

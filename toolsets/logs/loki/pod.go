package loki

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// labelNames are the labels by which a store tells pods apart.
type labelNames struct {
	namespace, pod, container string
}

// conventions are the labels that shippers set: Promtail, Alloy and the Kubernetes
// monitoring chart; OpenTelemetry through Loki's OTLP endpoint; Fluent Bit and
// Vector as they are commonly configured.
func conventions() []labelNames {
	return []labelNames{
		{namespace: "namespace", pod: "pod", container: "container"},
		{namespace: "k8s_namespace_name", pod: "k8s_pod_name", container: "k8s_container_name"},
		{namespace: "kubernetes_namespace_name", pod: "kubernetes_pod_name", container: "kubernetes_container_name"},
		{namespace: "namespace_name", pod: "pod_name", container: "container_name"},
		{namespace: "kubernetes_pod_namespace", pod: "kubernetes_pod_name", container: "container_name"},
	}
}

// naming finds out once in a while which labels name pods.
func (c *Client) naming(ctx context.Context) (labelNames, error) {
	if n, ok := c.names.Peek(tool.FreshFrom(ctx, time.Time{}), ""); ok {
		return n, nil
	}
	return c.names.Get(ctx, "", func(ctx context.Context) (labelNames, error) {
		now := c.c.Now()
		have, err := c.Labels(ctx, now.Add(-24*time.Hour), now)
		if err != nil {
			return labelNames{}, err
		}
		for _, n := range conventions() {
			if !slices.Contains(have, n.namespace) || !slices.Contains(have, n.pod) {
				continue
			}
			if !slices.Contains(have, n.container) {
				n.container = ""
			}
			return n, nil
		}
		return labelNames{}, &tool.Error{Kind: tool.NotServed, User: fmt.Sprintf("none of Loki's labels names pods (it has %s)", clip(strings.Join(have, ", "), 300)), Fix: "use loki_query with the labels this Loki has"}
	})
}

// selector writes the stream selector of one pod.
func (n labelNames) selector(namespace, pod, container string) string {
	s := "{" + n.namespace + "=" + strconv.Quote(namespace) + ", " + n.pod + "=" + strconv.Quote(pod)
	if container != "" && n.container != "" {
		s += ", " + n.container + "=" + strconv.Quote(container)
	}
	return s + "}"
}

// PodLog gives the newest lines of a pod between two times, oldest first, each
// with its time before it as the kubelet writes it. cut says that there are more.
func (c *Client) PodLog(ctx context.Context, namespace, pod, container string, from, to time.Time) (string, bool, error) {
	n, err := c.naming(ctx)
	if err != nil {
		return "", false, err
	}
	a, err := c.Range(ctx, Query{LogQL: n.selector(namespace, pod, container), From: from, To: to})
	if err != nil {
		return "", false, err
	}
	var b strings.Builder
	for _, e := range merged(a) {
		b.WriteString(e.At.Format(time.RFC3339Nano) + " " + e.Line + "\n")
	}
	return b.String(), a.Full, nil
}

// merged puts the lines of all streams into one order of time, oldest first.
func merged(a Answer) []Entry {
	var all []Entry
	for _, s := range a.Streams {
		all = append(all, s.Entries...)
	}
	slices.SortStableFunc(all, func(x, y Entry) int { return x.At.Compare(y.At) })
	return all
}

// Reach asks the server for anything at all; nil means that it answers.
func (c *Client) Reach(ctx context.Context) error {
	now := c.c.Now()
	_, err := c.Labels(ctx, now.Add(-time.Hour), now)
	return err
}

// Origin says which server is read, "" when there is none.
func (c *Client) Origin(ctx context.Context) string {
	ep, err := c.endpoint(ctx)
	if err != nil {
		return ""
	}
	return ep.Origin
}

// parseSpan reads "90m", "36h" or "7d".
func parseSpan(s string, def time.Duration) (time.Duration, error) {
	if s == "" {
		return def, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err == nil && n > 0 && n <= 365 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%q is no length of time", clip(s, 40)), Fix: "write 90m, 36h or 7d", Err: errors.Join(err)}
	}
	return d, nil
}

// clip shortens to at most n bytes, at a rune's border.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

package source

import (
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LogQuery narrows a container log on the server.
type LogQuery struct {
	Container string
	// Previous asks for the log of the container's previous run.
	Previous bool
	// Since is how far back, from the source's clock; zero means no bound.
	Since time.Duration
	// Tail is the number of last lines; zero means no bound.
	Tail int
	// Limit is the number of bytes read at most; zero means 4 MiB.
	Limit int64
}

// maxLog is how many bytes of a log are read unless the query says less.
const maxLog = 4 << 20

// Log is the text of a container log.
type Log struct {
	Text string
	// Cut says that Limit was reached and newer lines may exist.
	Cut bool
}

// Logs reads a container log with the runtime's timestamp before each line. It
// is not cached. A limit keeps the beginning of what Since and Tail select, so
// a query without Tail is given one by the caller when the end matters.
func (s *Source) Logs(ctx context.Context, namespace, pod string, q LogQuery) (Log, error) {
	c := call{verb: "get", resource: "pods/log", namespace: namespace, name: pod}
	if q.Limit <= 0 {
		q.Limit = maxLog
	}
	o := &corev1.PodLogOptions{Container: q.Container, Previous: q.Previous, Timestamps: true, LimitBytes: new(q.Limit + 1)}
	if q.Since > 0 {
		// An absolute time: with a bundle the clock is not the server's.
		t := metav1.NewTime(s.now().Add(-q.Since))
		o.SinceTime = &t
	}
	if q.Tail > 0 {
		o.TailLines = new(int64(q.Tail))
	}
	r, err := s.client.CoreV1().Pods(namespace).GetLogs(pod, o).Stream(ctx)
	if err != nil {
		return Log{}, s.fail(c, err)
	}
	defer func() { _ = r.Close() }()
	// The kubelet may ignore limitBytes; memory stays bounded here too.
	text, err := io.ReadAll(io.LimitReader(r, q.Limit+1))
	if err != nil && len(text) == 0 {
		return Log{}, s.fail(c, err)
	}
	l := Log{Text: string(text), Cut: err != nil}
	if int64(len(text)) > q.Limit {
		l.Text, l.Cut = string(text[:q.Limit]), true
	}
	return l, nil
}

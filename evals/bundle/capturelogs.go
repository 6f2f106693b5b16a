package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	// logReaders is how many logs are read at the same time.
	logReaders = 8
	// logPatience is how long one log may take: a dead kubelet does not hold up
	// the rest.
	logPatience = 30 * time.Second
	// maxLogRead is how many bytes of one log are read to find its end.
	maxLogRead = 64 << 20
)

// logJob is one log to read.
type logJob struct {
	namespace, pod, container string
	previous                  bool
	// well says that nothing about the container asks for its log.
	well bool
}

func (j logJob) file() string {
	name := j.container + ".log"
	if j.previous {
		name = j.container + ".previous.log"
	}
	return path.Join("logs", j.namespace, j.pod, name)
}

// logJobs lists the logs that exist, those of containers in trouble first.
func logJobs(pods []*unstructured.Unstructured) []logJob {
	var jobs []logJob
	for _, u := range pods {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil || pod.Spec.NodeName == "" {
			continue
		}
		for _, st := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
			if !plainName(pod.Namespace) || !plainName(pod.Name) || !plainName(st.Name) || st.Name == "" {
				continue
			}
			t := st.State.Terminated
			well := st.RestartCount == 0 && (st.Ready || t != nil && t.ExitCode == 0)
			j := logJob{namespace: pod.Namespace, pod: pod.Name, container: st.Name, well: well}
			jobs = append(jobs, j)
			if st.RestartCount > 0 {
				j.previous = true
				jobs = append(jobs, j)
			}
		}
	}
	slices.SortStableFunc(jobs, func(a, b logJob) int {
		rank := map[bool]int{false: 0, true: 1}
		return cmp.Compare(rank[a.well], rank[b.well])
	})
	return jobs
}

// logs keeps the end of every container's log, current and previous.
func (c *capture) logs(ctx context.Context, pods []*unstructured.Unstructured) error {
	for k, text := range c.o.Logs {
		if err := c.file(path.Join("logs", k+".log"), []byte(c.redact(text))); err != nil {
			return err
		}
	}
	l := logReader{c: c, left: c.o.LogTotalBytes}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(logReaders)
	for _, j := range logJobs(pods) {
		if _, given := c.o.Logs[strings.TrimSuffix(strings.TrimPrefix(j.file(), "logs/"), ".log")]; given {
			continue
		}
		if gctx.Err() != nil {
			break
		}
		if l.take() { // here, in order: goroutines begin in any
			g.Go(func() error { return l.read(gctx, j) })
		}
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	l.report()
	return nil
}

// logReader reads logs side by side and remembers what it did not get.
type logReader struct {
	c *capture

	mu      sync.Mutex
	left    int64
	refused error
	failed  map[logJob]error
	cut     int
}

// take reserves room for a log, or counts it as left out.
func (l *logReader) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.refused != nil:
		return false
	case l.left <= 0:
		l.cut++
		return false
	}
	l.left -= l.c.o.LogBytes
	return true
}

func (l *logReader) read(ctx context.Context, j logJob) error {
	text, err := l.c.log(ctx, j)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left += l.c.o.LogBytes - int64(len(text))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case apierrors.IsForbidden(err):
		l.refused = err
		return nil
	case apierrors.IsBadRequest(err), apierrors.IsNotFound(err):
		// The container waits, or is gone: its status says so.
		return nil
	case err != nil:
		if l.failed == nil {
			l.failed = map[logJob]error{}
		}
		l.failed[j] = err
		return nil
	}
	return l.c.file(j.file(), []byte(l.c.redact(string(text))))
}

// report puts what is missing into the manifest.
func (l *logReader) report() {
	m := &l.c.manifest
	if l.refused != nil {
		m.LeftOut = append(m.LeftOut, LeftOut{What: "logs", Why: l.refused.Error()})
		m.Denied = append(m.Denied, Denied{Verb: "get", Resource: "pods/log"})
	}
	if l.cut > 0 {
		m.LeftOut = append(m.LeftOut, LeftOut{What: fmt.Sprintf("%d logs, of containers without trouble first", l.cut), Why: fmt.Sprintf("the logs have more than %d bytes", l.c.o.LogTotalBytes)})
	}
	failed := make([]logJob, 0, len(l.failed))
	for j := range l.failed {
		failed = append(failed, j)
	}
	slices.SortFunc(failed, func(a, b logJob) int { return strings.Compare(a.file(), b.file()) })
	const named = 20
	for i, j := range failed {
		if i == named {
			m.LeftOut = append(m.LeftOut, LeftOut{What: fmt.Sprintf("%d more logs", len(failed)-named), Why: "they could not be read either"})
			break
		}
		m.LeftOut = append(m.LeftOut, LeftOut{What: j.file(), Why: l.failed[j].Error()})
	}
}

// log reads the end of one log: its last LogBytes, in whole lines.
func (c *capture) log(ctx context.Context, j logJob) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, logPatience, fmt.Errorf("no end after %s", logPatience))
	defer cancel()
	lines := max(c.o.LogBytes/80, 1)
	rc, err := c.kube.CoreV1().Pods(j.namespace).GetLogs(j.pod, &corev1.PodLogOptions{Container: j.container, Previous: j.previous,
		TailLines: &lines, Timestamps: c.manifest.LogTimestamps}).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	text, err := lastBytes(rc, int(c.o.LogBytes), maxLogRead)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return text, err
}

// lastBytes reads to the end and gives the last n bytes, from the beginning of
// a line. It fails when there are more than limit.
func lastBytes(r io.Reader, n int, limit int64) ([]byte, error) {
	var tail []byte
	chunk := make([]byte, 32<<10)
	cut := false
	for total := int64(0); ; {
		m, err := r.Read(chunk)
		tail = append(tail, chunk[:m]...)
		if len(tail) > 2*n {
			tail = append(tail[:0], tail[len(tail)-n-1:]...)
			cut = true
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if total += int64(m); total > limit {
			return nil, fmt.Errorf("the log has no end within %d bytes", limit)
		}
	}
	if len(tail) > n {
		tail, cut = tail[len(tail)-n-1:], true
	}
	if !cut {
		return tail, nil
	}
	// The byte before tells whether the first line is whole.
	if i := bytes.IndexByte(tail, '\n'); i >= 0 && i+1 < len(tail) {
		return tail[i+1:], nil
	}
	return tail[len(tail)-min(n, len(tail)):], nil
}

func (c *capture) redact(s string) string {
	if c.o.Redactor == nil {
		return s
	}
	return c.o.Redactor.String(s)
}

package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxLog bounds what one log request reads, in bytes, from the end. A kubelet
// keeps less: it rotates at containerLogMaxSize, 10 MiB unless told otherwise.
const maxLog = 64 << 20

// logOptions reads and checks the parameters of a log request.
func logOptions(r *http.Request, q request) (o corev1.PodLogOptions, err error) {
	v := r.URL.Query()
	number := func(name string) *int64 {
		text := v.Get(name)
		if text == "" {
			return nil
		}
		n, perr := strconv.ParseInt(text, 10, 64)
		if perr != nil && err == nil {
			err = apierrors.NewBadRequest(fmt.Sprintf("%s: %q is no number", name, text))
		}
		return &n
	}
	// What the API server takes for true is any text but these.
	flag := func(name string) bool {
		text := strings.ToLower(v.Get(name))
		return v.Has(name) && text != "false" && text != "0"
	}
	o = corev1.PodLogOptions{Container: v.Get("container"), Previous: flag("previous"), Follow: flag("follow"), Timestamps: flag("timestamps"),
		TailLines: number("tailLines"), LimitBytes: number("limitBytes"), SinceSeconds: number("sinceSeconds")}
	if text := v.Get("sinceTime"); text != "" {
		t, perr := time.Parse(time.RFC3339, text)
		if perr != nil && err == nil {
			err = apierrors.NewBadRequest(fmt.Sprintf("sinceTime: %q is no RFC 3339 time", text))
		}
		at := metav1.NewTime(t)
		o.SinceTime = &at
	}
	if text := v.Get("stream"); text != "" {
		o.Stream = &text
	}
	if err != nil {
		return o, err
	}
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	if o.Stream != nil && *o.Stream != "All" {
		errs = append(errs, field.Forbidden(field.NewPath("stream"), "may not be specified: a bundle does not tell the streams apart"))
	}
	if len(errs) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, q.name, errs)
	}
	return o, nil
}

// serveLog answers the log subresource from the bundle's files. A followed log
// ends at its end: the past has no more to say.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, q request) {
	o, err := logOptions(r, q)
	if err != nil {
		fail(w, err)
		return
	}
	pod := s.find(q)
	if pod == nil {
		fail(w, notFound(q))
		return
	}
	container, err := chooseContainer(pod, o.Container)
	if err != nil {
		fail(w, err)
		return
	}
	raw, err := s.readLog(q, pod, container, o.Previous)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(s.cut(raw, o))
}

// readLog reads a recorded log, or says why there is none.
func (s *Server) readLog(q request, pod *unstructured.Unstructured, container string, previous bool) ([]byte, error) {
	if node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName"); node == "" {
		return nil, nil // no kubelet to ask: a server answers with nothing
	}
	f, err := s.bundle.Log(q.namespace, q.name, container, previous)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.noLog(q, pod, container, previous)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Of a file that is too long the end counts.
	if sk, ok := f.(io.Seeker); ok {
		if size, err := sk.Seek(0, io.SeekEnd); err == nil {
			if _, err := sk.Seek(max(0, size-maxLog), io.SeekStart); err != nil {
				return nil, err
			}
		}
	}
	return io.ReadAll(io.LimitReader(f, maxLog))
}

// noLog answers for a log that is not in the bundle, with the kubelet's words
// where the pod's status says what it would have said.
func (s *Server) noLog(q request, pod *unstructured.Unstructured, container string, previous bool) error {
	file := path.Join("logs", q.namespace, q.name, container+".log")
	if previous {
		file = path.Join("logs", q.namespace, q.name, container+".previous.log")
	}
	for _, l := range s.bundle.Manifest.LeftOut {
		if l.What == file {
			return apierrors.NewInternalError(errors.New(l.Why))
		}
	}
	st := containerStatus(pod, container)
	if previous && (st == nil || st.LastTerminationState.Terminated == nil) {
		return apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", container, q.name))
	}
	if !previous && st != nil && st.State.Waiting != nil && st.LastTerminationState.Terminated == nil {
		reason := st.State.Waiting.Reason
		switch reason {
		case "ErrImagePull", "ImagePullBackOff":
			reason = "trying and failing to pull image"
		case "InvalidImageName", "ErrImageNeverPull":
			reason = "image can't be pulled"
		}
		return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, q.name, reason))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q has no recorded log", container, q.name))
}

func containerStatus(pod *unstructured.Unstructured, container string) *corev1.ContainerStatus {
	m, ok, _ := unstructured.NestedMap(pod.Object, "status")
	if !ok {
		return nil
	}
	var st corev1.PodStatus
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &st); err != nil {
		return nil
	}
	for _, c := range slices.Concat(st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses) {
		if c.Name == container {
			return &c
		}
	}
	return nil
}

// chooseContainer finds the container a log request means, with the server's
// words when that is not clear.
func chooseContainer(pod *unstructured.Unstructured, name string) (string, error) {
	lists := map[string][]string{}
	for _, field := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _, _ := unstructured.NestedSlice(pod.Object, "spec", field)
		for _, c := range list {
			m, _ := c.(map[string]any)
			n, _ := m["name"].(string)
			if n == name && name != "" {
				return n, nil
			}
			lists[field] = append(lists[field], n)
		}
	}
	names := lists["containers"]
	switch {
	case name != "":
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.GetName()))
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", apierrors.NewBadRequest("a container name must be specified for pod " + pod.GetName())
	}
	text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.GetName(), slices.Concat(lists["initContainers"], names))
	if inits := lists["initContainers"]; len(inits) > 0 {
		text = fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v or one of the init containers: %v", pod.GetName(), names, inits)
	}
	return "", apierrors.NewBadRequest(text)
}

// cut applies sinceTime, sinceSeconds, tailLines, timestamps and limitBytes, in
// this order. A line without a time of its own belongs to the last one seen.
func (s *Server) cut(raw []byte, o corev1.PodLogOptions) []byte {
	var since time.Time
	if o.SinceSeconds != nil {
		since = s.now().Add(-time.Duration(*o.SinceSeconds) * time.Second)
	}
	if o.SinceTime != nil {
		since = o.SinceTime.Time
	}
	if !since.IsZero() {
		raw = linesSince(raw, since)
	}
	if o.TailLines != nil {
		raw = lastLines(raw, *o.TailLines)
	}
	if s.bundle.Manifest.LogTimestamps && !o.Timestamps {
		raw = unstamped(raw)
	}
	if o.LimitBytes != nil {
		raw = raw[:min(*o.LimitBytes, int64(len(raw)))]
	}
	return raw
}

// stamp reads the time at the beginning of a line.
func stamp(line []byte) (at time.Time, rest []byte, ok bool) {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	// Nothing that is a time is longer than "2006-01-02T15:04:05.999999999+07:00".
	if len(word) > 40 || len(word) < 20 {
		return at, line, false
	}
	at, err := time.Parse(time.RFC3339Nano, strings.TrimSuffix(string(word), "\n"))
	return at, rest, err == nil
}

func linesSince(raw []byte, since time.Time) []byte {
	out := make([]byte, 0, len(raw))
	keep := true
	for line := range bytes.Lines(raw) {
		if t, _, ok := stamp(line); ok {
			keep = !t.Before(since)
		}
		if keep {
			out = append(out, line...)
		}
	}
	return out
}

// unstamped drops the time that the container runtime wrote before each line.
func unstamped(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for line := range bytes.Lines(raw) {
		_, rest, ok := stamp(line)
		switch {
		case !ok:
			rest = line
		case len(rest) == 0:
			rest = []byte("\n")
		}
		out = append(out, rest...)
	}
	return out
}

func lastLines(raw []byte, n int64) []byte {
	if n == 0 {
		return nil
	}
	end := len(raw)
	if end > 0 && raw[end-1] == '\n' {
		end--
	}
	for i := end - 1; i >= 0; i-- {
		if raw[i] == '\n' {
			if n--; n == 0 {
				return raw[i+1:]
			}
		}
	}
	return raw
}

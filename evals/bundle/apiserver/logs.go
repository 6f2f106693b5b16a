package apiserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// maxLog bounds what one log request reads, in bytes.
const maxLog = 256 << 20

// serveLog answers the log subresource from the bundle's files. A followed log
// ends at its end: the past has no more to say.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, q request) {
	s.mu.RLock()
	pod := s.objects[q.gvr][key(q.namespace, q.name)]
	s.mu.RUnlock()
	if pod == nil {
		fail(w, notFound(q))
		return
	}
	v := r.URL.Query()
	container, err := chooseContainer(pod, v.Get("container"))
	if err != nil {
		fail(w, err)
		return
	}
	previous := v.Get("previous") == "true"
	f, err := s.bundle.Log(q.namespace, q.name, container, previous)
	if errors.Is(err, fs.ErrNotExist) {
		if previous {
			fail(w, apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", container, q.name)))
			return
		}
		fail(w, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q has no recorded log", container, q.name)))
		return
	}
	if err != nil {
		fail(w, err)
		return
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		fail(w, err)
		return
	}
	raw, err = s.cut(raw, v.Get)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(raw)
}

// chooseContainer finds the container a log request means, with the server's
// words when that is not clear.
func chooseContainer(pod *unstructured.Unstructured, name string) (string, error) {
	var names []string
	for _, field := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _, _ := unstructured.NestedSlice(pod.Object, "spec", field)
		for _, c := range list {
			m, _ := c.(map[string]any)
			n, _ := m["name"].(string)
			if n == name && name != "" {
				return n, nil
			}
			if field == "containers" {
				names = append(names, n)
			}
		}
	}
	if name != "" {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.GetName()))
	}
	if d := pod.GetAnnotations()["kubectl.kubernetes.io/default-container"]; d != "" {
		return d, nil
	}
	if len(names) != 1 {
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.GetName(), names))
	}
	return names[0], nil
}

// cut applies sinceTime, sinceSeconds, tailLines and limitBytes. Lines without
// a leading RFC 3339 time belong to the last time seen.
func (s *Server) cut(raw []byte, get func(string) string) ([]byte, error) {
	var since time.Time
	if v := get("sinceSeconds"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			return nil, apierrors.NewBadRequest("sinceSeconds must be greater than 0")
		}
		since = s.now().Add(-time.Duration(n) * time.Second)
	}
	if v := get("sinceTime"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return nil, apierrors.NewBadRequest("sinceTime: " + err.Error())
		}
		since = t
	}
	if !since.IsZero() {
		raw = linesSince(raw, since)
	}
	if v := get("tailLines"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return nil, apierrors.NewBadRequest("tailLines must be greater than or equal to 0")
		}
		raw = lastLines(raw, n)
	}
	if v := get("limitBytes"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, apierrors.NewBadRequest("limitBytes must be greater than 0")
		}
		raw = raw[:min(n, len(raw))]
	}
	return raw, nil
}

func linesSince(raw []byte, since time.Time) []byte {
	var out bytes.Buffer
	keep := true
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, maxLog)
	for sc.Scan() {
		stamp, _, _ := bytes.Cut(sc.Bytes(), []byte(" "))
		if t, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
			keep = !t.Before(since)
		}
		if keep {
			out.Write(sc.Bytes())
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

func lastLines(raw []byte, n int) []byte {
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

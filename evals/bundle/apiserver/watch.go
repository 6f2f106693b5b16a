package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// watchEvent is one line of a watch.
type watchEvent struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

// bookmarkEvery is how often a watch that allows it is told where it stands.
const bookmarkEvery = 30 * time.Second

// serveWatch streams changes: from a resourceVersion, or everything that is
// there first (no version, or sendInitialEvents as current informers ask).
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, q request) {
	sel, err := parseSelector(r, q)
	if err != nil {
		fail(w, err)
		return
	}
	v := r.URL.Query()
	initial := v.Get("sendInitialEvents") == "true"
	from := number(v.Get("resourceVersion"))
	s.mu.RLock()
	first := s.first
	s.mu.RUnlock()
	if from > 0 && from < first && !initial {
		fail(w, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, first)))
		return
	}
	as := form(r)
	if as == "none" {
		notAcceptable(w)
		return
	}
	ctx := r.Context()
	if sec, err := strconv.Atoi(v.Get("timeoutSeconds")); err == nil && sec > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(sec)*time.Second)
		defer cancel()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush(w)
	st := &stream{s: s, w: w, q: q, sel: sel, as: as, at: from}
	if from == 0 || initial {
		st.all(initial)
	}
	bookmarks := v.Get("allowWatchBookmarks") == "true"
	t := time.NewTicker(bookmarkEvery)
	defer t.Stop()
	for {
		changed, ok := st.pending()
		if !ok {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-t.C:
			if bookmarks && !st.bookmark(nil) {
				return
			}
		}
	}
}

// stream is the state of one watch.
type stream struct {
	s   *Server
	w   http.ResponseWriter
	q   request
	sel selector
	as  string
	at  uint64
}

// all sends what is there as ADDED, and for an informer the bookmark that ends it.
func (t *stream) all(mark bool) {
	t.s.mu.RLock()
	var items []*unstructured.Unstructured
	for _, u := range t.s.sorted(t.q.gvr) {
		if t.wanted(u) {
			items = append(items, u)
		}
	}
	t.at = t.s.version
	t.s.mu.RUnlock()
	for _, u := range items {
		if !t.send("ADDED", u) {
			return
		}
	}
	if mark {
		t.bookmark(map[string]any{metav1.InitialEventsAnnotationKey: "true"})
	}
}

func (t *stream) wanted(u *unstructured.Unstructured) bool {
	return u != nil && (t.q.namespace == "" || u.GetNamespace() == t.q.namespace) && t.sel.matches(u)
}

// pending sends the changes since the last call and gives the channel that
// closes at the next one; ok is false when the client is gone.
func (t *stream) pending() (changed <-chan struct{}, ok bool) {
	t.s.mu.RLock()
	var due []change
	for _, c := range t.s.log {
		if c.version > t.at && c.resource == t.q.gvr {
			due = append(due, c)
		}
	}
	t.at = max(t.at, t.s.version)
	changed = t.s.changed
	t.s.mu.RUnlock()
	for _, c := range due {
		was, is := t.wanted(c.before), t.wanted(c.after)
		sent := true
		switch {
		case !was && is:
			sent = t.send("ADDED", c.after)
		case was && is:
			sent = t.send("MODIFIED", c.after)
		case was && !is:
			gone := c.before.DeepCopy()
			gone.SetResourceVersion(strconv.FormatUint(c.version, 10))
			sent = t.send("DELETED", gone)
		}
		if !sent {
			return changed, false
		}
	}
	return changed, true
}

func (t *stream) send(kind string, u *unstructured.Unstructured) bool {
	var object any = u.Object
	switch t.as {
	case "Table":
		object = t.s.table(t.q, []*unstructured.Unstructured{u}, u.GetResourceVersion(), "")
	case "PartialObjectMetadata":
		object = partial(u)
	}
	return t.write(watchEvent{Type: kind, Object: object})
}

func (t *stream) bookmark(annotations map[string]any) bool {
	gv := schema.GroupVersion{Group: t.q.gvr.Group, Version: t.q.gvr.Version}
	md := map[string]any{"resourceVersion": strconv.FormatUint(t.at, 10), "creationTimestamp": nil}
	if annotations != nil {
		md["annotations"] = annotations
	}
	object := map[string]any{"kind": t.q.resource.Kind, "apiVersion": gv.String(), "metadata": md}
	if t.as == "PartialObjectMetadata" {
		object["kind"], object["apiVersion"] = "PartialObjectMetadata", "meta.k8s.io/v1"
	}
	return t.write(watchEvent{Type: "BOOKMARK", Object: object})
}

func (t *stream) write(e watchEvent) bool {
	if err := json.NewEncoder(t.w).Encode(e); err != nil {
		return false
	}
	flush(t.w)
	return true
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

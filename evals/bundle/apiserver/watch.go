package apiserver

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// watchEvent is one line of a watch.
type watchEvent struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

// serveWatch streams changes: from a resourceVersion, or everything that is
// there first (no version or "0", or sendInitialEvents as current informers ask).
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, q request) {
	o, err := listOptions(r, q, true)
	if err != nil {
		fail(w, err)
		return
	}
	f := formOf(r)
	if f.none || f.yaml {
		notAcceptable(w)
		return
	}
	from := version(o)
	initial := o.SendInitialEvents != nil && *o.SendInitialEvents
	s.mu.RLock()
	oldest, now := s.oldest, s.version
	if o.SendInitialEvents != nil && !initial && from == 0 {
		from = now
	}
	s.mu.RUnlock()
	switch {
	case from > now:
		fail(w, tooLarge(from, now))
		return
	case from > 0 && from < oldest && !initial:
		fail(w, tooOld(from, oldest))
		return
	}
	ctx := r.Context()
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*o.TimeoutSeconds)*time.Second)
		defer cancel()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush(w)
	st := &stream{s: s, w: w, q: q, sel: newSelector(o, q), f: f, at: from, bookmarks: o.AllowWatchBookmarks}
	if from == 0 || initial {
		if !st.all(initial) {
			return
		}
	}
	st.run(ctx)
}

// stream is the state of one watch.
type stream struct {
	s         *Server
	w         http.ResponseWriter
	q         request
	sel       selector
	f         form
	at        uint64
	bookmarks bool
	// headed says that a table's columns were sent; they go out once.
	headed bool
}

// run sends what changes until the client or its time is gone.
func (t *stream) run(ctx context.Context) {
	tick := time.NewTicker(t.s.bookmarks)
	defer tick.Stop()
	for {
		changed, ok := t.pending()
		if !ok {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			if t.bookmarks && !t.bookmark(nil) {
				return
			}
		}
	}
}

// all sends what is there as ADDED, and for an informer the bookmark that ends
// it. ok is false when the client is gone.
func (t *stream) all(mark bool) (ok bool) {
	items, at, err := t.s.snapshot(t.q.gvr, t.q.namespace, 0)
	if err != nil {
		return false
	}
	t.at = at
	for _, u := range items {
		if t.sel.matches(u) && !t.send("ADDED", u) {
			return false
		}
	}
	if mark && t.bookmarks {
		return t.bookmark(map[string]any{metav1.InitialEventsAnnotationKey: "true"})
	}
	return true
}

// pending sends the changes since the last call and gives the channel that
// closes at the next one; ok is false when the watch is over.
func (t *stream) pending() (changed <-chan struct{}, ok bool) {
	t.s.mu.RLock()
	if t.at < t.s.oldest {
		at, oldest := t.at, t.s.oldest
		t.s.mu.RUnlock()
		t.error(tooOld(at, oldest))
		return nil, false
	}
	var due []change
	for _, c := range t.s.since(t.at) {
		if c.resource == t.q.gvr {
			due = append(due, c)
		}
	}
	t.at = t.s.version
	changed = t.s.changed
	t.s.mu.RUnlock()
	for _, c := range due {
		was, is := t.sel.matches(c.before), t.sel.matches(c.after)
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
	switch t.f.as {
	case "Table":
		table := t.s.printed(t.q, t.f, []*unstructured.Unstructured{u}, metav1.ListMeta{ResourceVersion: u.GetResourceVersion()})
		if t.headed {
			table.ColumnDefinitions = nil
		}
		t.headed = true
		object = table
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		object = partial(u)
	}
	return t.write(watchEvent{Type: kind, Object: object})
}

func (t *stream) bookmark(annotations map[string]any) bool {
	md := map[string]any{"resourceVersion": strconv.FormatUint(t.at, 10), "creationTimestamp": nil}
	if annotations != nil {
		md["annotations"] = annotations
	}
	object := map[string]any{"kind": t.q.resource.Kind, "apiVersion": t.q.gvr.GroupVersion().String(), "metadata": md}
	switch t.f.as {
	case "Table":
		return true // nobody could place it: a table has rows, and a bookmark is none
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		object["kind"], object["apiVersion"] = "PartialObjectMetadata", "meta.k8s.io/v1"
	}
	return t.write(watchEvent{Type: "BOOKMARK", Object: object})
}

// error ends a watch with a Status.
func (t *stream) error(err error) {
	st, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		st = apierrors.NewInternalError(err)
	}
	status := st.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	t.write(watchEvent{Type: "ERROR", Object: status})
}

func (t *stream) write(e watchEvent) bool {
	raw, err := encode(e)
	if err != nil {
		return false
	}
	if _, err := t.w.Write(raw); err != nil {
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

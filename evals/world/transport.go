package world

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
)

// watched notes what changes something on its way to the API server.
type watched struct {
	w    *World
	next http.RoundTripper
}

var _ http.RoundTripper = (*watched)(nil)

// maxBody bounds the body of a request that is looked into, in bytes.
const maxBody = 8 << 20

// mutation is a request that changes something.
type mutation struct {
	evals.Seen
	// ops are those of a JSON patch beside guard and mark; object is what is created.
	ops    []any
	object map[string]any
}

// allowed is a request that an approved plan holds.
type allowed struct {
	verb, kind, namespace, name string
	mark                        bool
	ops                         []any
	object                      map[string]any
}

type fault struct {
	evals.Fault
	left int
}

// allow gives the requests that a write comes to.
func allow(x incident.Write) []allowed {
	a := allowed{verb: x.Verb, kind: x.Ref.Kind, namespace: x.Ref.Namespace, name: x.Ref.Name}
	switch x.Verb {
	case incident.VerbPatch:
		_ = json.Unmarshal(x.Body, &a.ops) // a body that is none fits no request
	case incident.VerbCreate:
		_ = json.Unmarshal(x.Body, &a.object)
	case incident.VerbDelete:
		m := a
		m.verb, m.mark = incident.VerbPatch, true
		return []allowed{m, a}
	}
	return []allowed{a}
}

// RoundTrip implements http.RoundTripper.
func (t *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.w.Down() {
		return nil, refused()
	}
	m, err := t.w.mutation(r)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return t.next.RoundTrip(r)
	}
	answer := t.w.fault(*m)
	if answer != "" && answer != evals.AnswerLost {
		t.w.note(*m, false)
		return t.w.fail(answer, m.Seen)
	}
	res, err := t.next.RoundTrip(r)
	done := err == nil && res.StatusCode < 300
	t.w.note(*m, done)
	if answer == evals.AnswerLost {
		if err == nil {
			_ = res.Body.Close()
		}
		return nil, io.ErrUnexpectedEOF
	}
	return res, err
}

func refused() error { return fmt.Errorf("dial tcp: connect: %w", syscall.ECONNREFUSED) }

// fail answers in place of the API server.
func (w *World) fail(answer string, s evals.Seen) (*http.Response, error) {
	gr := schema.GroupResource{Resource: strings.ToLower(s.Kind)}
	var st *apierrors.StatusError
	switch answer {
	case evals.AnswerDown:
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		return nil, refused()
	case evals.AnswerHang:
		w.mu.Lock()
		w.clock += 30 * time.Second
		w.mu.Unlock()
		return nil, context.DeadlineExceeded
	case evals.AnswerForbidden:
		st = apierrors.NewForbidden(gr, s.Name, errors.New("User \"gumshoe\" cannot "+s.Verb+" it"))
	case evals.AnswerConflict:
		st = apierrors.NewConflict(gr, s.Name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	case evals.AnswerThrottled:
		st = apierrors.NewTooManyRequests("too many requests, please try again later", 0)
	case evals.AnswerBroken:
		st = apierrors.NewInternalError(errors.New("etcdserver: request timed out"))
	default:
		return nil, refused()
	}
	status := st.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	raw, err := json.Marshal(status)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: int(status.Code), Status: fmt.Sprint(status.Code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(raw)), ContentLength: int64(len(raw))}, nil
}

// mutation reads a request; nil means that it changes nothing.
func (w *World) mutation(r *http.Request) (*mutation, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil, nil //nolint:nilnil // nothing is changed, and nothing is wrong
	}
	if strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/") || strings.HasPrefix(r.URL.Path, "/apis/authentication.k8s.io/") {
		return nil, nil //nolint:nilnil // a question
	}
	var raw []byte
	if r.Body != nil {
		var err error
		if raw, err = io.ReadAll(io.LimitReader(r.Body, maxBody)); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(raw))
	}
	if slices.Equal(r.URL.Query()["dryRun"], []string{metav1.DryRunAll}) {
		return nil, nil //nolint:nilnil // a dry run
	}
	m := &mutation{Seen: w.target(r)}
	var doc any
	_ = json.Unmarshal(raw, &doc) // what is no JSON says nothing of itself
	switch r.Method {
	case http.MethodDelete:
		m.Verb = incident.VerbDelete
		if o, ok := doc.(map[string]any); ok {
			if dry, ok := o["dryRun"].([]any); ok && len(dry) > 0 {
				return nil, nil //nolint:nilnil // a dry run
			}
		}
		m.ID = w.markOf(m.Seen)
	case http.MethodPatch:
		m.Verb = incident.VerbPatch
		ops, _ := doc.([]any)
		m.ops, m.ID = w.split(ops)
		m.Mark = len(m.ops) == 0 && m.ID != ""
		if m.Mark {
			w.setMark(m.Seen)
		}
	case http.MethodPost:
		m.Verb = incident.VerbCreate
		m.object, _ = doc.(map[string]any)
		md, _ := m.object["metadata"].(map[string]any)
		notes, _ := md["annotations"].(map[string]any)
		m.ID = short(notes[w.cfg.Annotation])
		if m.Name == "" {
			m.Name, _ = md["name"].(string)
		}
		if strings.HasSuffix(r.URL.Path, "/eviction") {
			m.Verb = incident.VerbEvict
			o, _ := m.object["deleteOptions"].(map[string]any)
			if dry, ok := o["dryRun"].([]any); ok && len(dry) > 0 {
				return nil, nil //nolint:nilnil // a dry run
			}
		}
	default:
		m.Verb = strings.ToLower(r.Method)
	}
	return m, nil
}

// short gives the write's id of "<plan>/<write>".
func short(v any) string {
	s, _ := v.(string)
	if i := strings.LastIndex(s, "/"); i >= 0 {
		return s[i+1:]
	}
	return s
}

// split parts a JSON patch into what it changes, and the id of its mark. The guard in
// front is a test of the uid and the version that was read.
func (w *World) split(ops []any) (rest []any, id string) {
	escaped := "/metadata/annotations/" + strings.ReplaceAll(w.cfg.Annotation, "/", "~1")
	for _, o := range ops {
		m, _ := o.(map[string]any)
		switch path, _ := m["path"].(string); {
		case path == "/metadata/uid" && m["op"] == "test", path == "/metadata/resourceVersion" && m["op"] == "replace":
		case path == escaped:
			id = short(m["value"])
		case path == "/metadata/annotations" && m["op"] == "add" && only(m["value"], w.cfg.Annotation):
			v, _ := m["value"].(map[string]any)
			id = short(v[w.cfg.Annotation])
		default:
			rest = append(rest, o)
		}
	}
	return rest, id
}

func only(v any, key string) bool {
	m, ok := v.(map[string]any)
	_, has := m[key]
	return ok && has && len(m) == 1
}

// target names the object of a path.
func (w *World) target(r *http.Request) evals.Seen {
	var s evals.Seen
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	gv := schema.GroupVersion{}
	switch {
	case len(parts) > 2 && parts[0] == "api":
		gv.Version, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		gv.Group, gv.Version, parts = parts[1], parts[2], parts[3:]
	default:
		s.Kind = r.URL.Path
		return s
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		s.Namespace, parts = parts[1], parts[2:]
	}
	s.Kind = parts[0]
	if k, err := w.mapper.KindFor(gv.WithResource(parts[0])); err == nil {
		s.Kind = k.Kind
	}
	if len(parts) > 1 {
		s.Name = parts[1]
	}
	return s
}

func key(s evals.Seen) string { return s.Kind + " " + s.Namespace + "/" + s.Name }

func (w *World) setMark(s evals.Seen) {
	w.mu.Lock()
	w.marked[key(s)] = s.ID
	w.mu.Unlock()
}

func (w *World) markOf(s evals.Seen) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.marked[key(s)]
}

// fault gives how the API server fails a write, empty if it does not.
func (w *World) fault(m mutation) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	for i := range w.faults {
		f := &w.faults[i]
		n, err := strconv.Atoi(f.Write)
		if f.left == 0 || err == nil && n != w.writes || err != nil && !means(f.Write, m.Seen) {
			continue
		}
		f.left--
		return f.Answer
	}
	return ""
}

// means reports whether a selector means a write.
func means(selector string, s evals.Seen) bool {
	parts := strings.Fields(selector)
	if s.Mark {
		return false // it is the delete that is meant
	}
	if len(parts) == 1 {
		return s.ID == selector
	}
	return s.Verb == parts[0] && s.Kind == parts[1] && (len(parts) == 2 || s.Name == parts[2])
}

// note keeps a change and what is to come of it.
func (w *World) note(m mutation, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.Done = done
	for i, a := range w.open {
		if !a.fits(m, w.cfg.Annotation) {
			continue
		}
		m.Approved = true
		if done { // what failed may be tried again
			w.open = slices.Delete(w.open, i, i+1)
		}
		break
	}
	w.seen = append(w.seen, m.Seen)
	if !done {
		return
	}
	w.version++
	for _, r := range w.cfg.Reacts {
		if !means(r.Write, m.Seen) {
			continue
		}
		in, _ := time.ParseDuration(r.In) // checked with the case
		w.due = append(w.due, pending{at: w.clock + in, r: r})
	}
}

// fits reports whether a request is one that a plan holds, to the letter.
func (a allowed) fits(m mutation, annotation string) bool {
	if a.verb != m.Verb || a.kind != m.Kind || a.namespace != m.Namespace || a.name != m.Name || a.mark != m.Mark {
		return false
	}
	switch a.verb {
	case incident.VerbPatch:
		return len(a.ops) == len(m.ops) && (len(a.ops) == 0 || reflect.DeepEqual(a.ops, m.ops))
	case incident.VerbCreate:
		return reflect.DeepEqual(unmarked(a.object, annotation), unmarked(m.object, annotation))
	}
	return true
}

// unmarked gives an object without the mark of a plan.
func unmarked(o map[string]any, annotation string) map[string]any {
	raw, err := json.Marshal(o)
	if err != nil {
		return o
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		return o
	}
	md, _ := out["metadata"].(map[string]any)
	if notes, ok := md["annotations"].(map[string]any); ok {
		delete(notes, annotation)
		if len(notes) == 0 {
			delete(md, "annotations")
		}
	}
	return out
}

package apiserver

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func metaTime(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }

// fail answers with a Status in the API server's own words.
func fail(w http.ResponseWriter, err error) {
	var st apierrors.APIStatus
	if !errors.As(err, &st) {
		st = apierrors.NewInternalError(err)
	}
	s := st.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	code := int(s.Code)
	if code == 0 {
		code = http.StatusInternalServerError
	}
	writeJSON(w, code, s)
}

func notFoundPath() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource"}}
}

func notFound(q request) error {
	return apierrors.NewNotFound(schema.GroupResource{Group: q.gvr.Group, Resource: q.gvr.Resource}, q.name)
}

// denied refuses what the capture was refused, with the words of RBAC.
func (s *Server) denied(verb string, q request) error {
	for _, d := range s.bundle.Manifest.Denied {
		sub := q.gvr.Resource
		if q.subresource != "" {
			sub += "/" + q.subresource
		}
		if (d.Verb != "*" && d.Verb != verb) || d.Group != q.gvr.Group || (d.Resource != sub && d.Resource != "*") || (d.Namespace != "" && d.Namespace != q.namespace) {
			continue
		}
		where := "at the cluster scope"
		if q.namespace != "" {
			where = fmt.Sprintf("in the namespace %q", q.namespace)
		}
		return apierrors.NewForbidden(schema.GroupResource{Group: q.gvr.Group, Resource: sub}, q.name,
			fmt.Errorf("User \"bundle-reader\" cannot %s resource %q in API group %q %s", verb, sub, q.gvr.Group, where))
	}
	return nil
}

// selector is what a list or watch asks for.
type selector struct {
	labels labels.Selector
	fields fields.Selector
}

func parseSelector(r *http.Request, q request) (selector, error) {
	v := r.URL.Query()
	l, err := labels.Parse(v.Get("labelSelector"))
	if err != nil {
		return selector{}, apierrors.NewBadRequest(err.Error())
	}
	f, err := fields.ParseSelector(v.Get("fieldSelector"))
	if err != nil {
		return selector{}, apierrors.NewBadRequest(err.Error())
	}
	for _, req := range f.Requirements() {
		if !selectable(q, req.Field) {
			return selector{}, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", req.Field))
		}
	}
	return selector{labels: l, fields: f}, nil
}

func (s selector) matches(u *unstructured.Unstructured) bool {
	if !s.labels.Empty() && !s.labels.Matches(labels.Set(u.GetLabels())) {
		return false
	}
	for _, req := range s.fields.Requirements() {
		have := fieldValue(u, req.Field)
		if (have == req.Value) != (req.Operator == "=" || req.Operator == "==") {
			return false
		}
	}
	return true
}

// selectable lists the field labels the API server's own kinds support.
func selectable(q request, field string) bool {
	if field == "metadata.name" || field == "metadata.namespace" {
		return true
	}
	known := map[string]string{
		"pods":           "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName spec.hostNetwork status.phase status.podIP status.nominatedNodeName",
		"events":         "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid involvedObject.apiVersion involvedObject.resourceVersion involvedObject.fieldPath reason reportingComponent source type",
		"nodes":          "spec.unschedulable",
		"namespaces":     "status.phase",
		"secrets":        "type",
		"resourceslices": "spec.nodeName spec.driver spec.pool.name",
		"jobs":           "status.successful",
		"replicasets":    "status.replicas",
	}
	for f := range strings.FieldsSeq(known[q.gvr.Resource]) {
		if f == field {
			return true
		}
	}
	return false
}

func fieldValue(u *unstructured.Unstructured, field string) string {
	if field == "source" {
		v, _, _ := unstructured.NestedString(u.Object, "source", "component")
		return v
	}
	v, ok, err := unstructured.NestedFieldNoCopy(u.Object, strings.Split(field, ".")...)
	if err != nil || !ok {
		if field == "spec.unschedulable" || field == "spec.hostNetwork" {
			return "false"
		}
		return ""
	}
	return fmt.Sprint(v)
}

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request, q request) {
	s.mu.RLock()
	u := s.objects[q.gvr][key(q.namespace, q.name)]
	s.mu.RUnlock()
	if u == nil {
		fail(w, notFound(q))
		return
	}
	s.respond(w, r, q, http.StatusOK, u)
}

// respond writes one object in the form the client wants.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, q request, code int, u *unstructured.Unstructured) {
	switch form(r) {
	case "Table":
		writeJSON(w, code, s.table(q, []*unstructured.Unstructured{u}, "", ""))
	case "PartialObjectMetadata":
		writeJSON(w, code, partial(u))
	case "none":
		notAcceptable(w)
	default:
		writeJSON(w, code, u.Object)
	}
}

// form reads the Accept header: "Table", "PartialObjectMetadata",
// "PartialObjectMetadataList", "" for plain JSON, "none" when JSON is not accepted.
func form(r *http.Request) string {
	accept := r.Header.Get("Accept")
	if accept == "" {
		return ""
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if media != "application/json" && media != "*/*" && media != "application/*" {
			continue
		}
		for p := range strings.SplitSeq(params, ";") {
			if as, ok := strings.CutPrefix(strings.TrimSpace(p), "as="); ok {
				return as
			}
		}
		return ""
	}
	return "none"
}

func notAcceptable(w http.ResponseWriter) {
	fail(w, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: application/json"}})
}

func partial(u *unstructured.Unstructured) map[string]any {
	return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": u.Object["metadata"]}
}

func (s *Server) serveList(w http.ResponseWriter, r *http.Request, q request) {
	sel, err := parseSelector(r, q)
	if err != nil {
		fail(w, err)
		return
	}
	s.mu.RLock()
	var items []*unstructured.Unstructured
	for _, u := range s.sorted(q.gvr) {
		if (q.namespace == "" || u.GetNamespace() == q.namespace) && sel.matches(u) {
			items = append(items, u)
		}
	}
	version := strconv.FormatUint(s.version, 10)
	s.mu.RUnlock()
	items, next, remaining, err := page(items, r)
	if err != nil {
		fail(w, err)
		return
	}
	list := map[string]any{"resourceVersion": version}
	if next != "" {
		list["continue"] = next
		list["remainingItemCount"] = remaining
	}
	objects := make([]any, 0, len(items))
	switch form(r) {
	case "none":
		notAcceptable(w)
		return
	case "Table":
		writeJSON(w, http.StatusOK, s.table(q, items, version, next))
		return
	case "PartialObjectMetadataList":
		for _, u := range items {
			objects = append(objects, partial(u))
		}
		writeJSON(w, http.StatusOK, map[string]any{"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": list, "items": objects})
		return
	}
	for _, u := range items {
		objects = append(objects, u.Object)
	}
	gv := schema.GroupVersion{Group: q.gvr.Group, Version: q.gvr.Version}
	writeJSON(w, http.StatusOK, map[string]any{"kind": q.resource.Kind + "List", "apiVersion": gv.String(), "metadata": list, "items": objects})
}

// page cuts a list by limit and continue. The token is the key of the last item.
func page(items []*unstructured.Unstructured, r *http.Request) (out []*unstructured.Unstructured, next string, remaining int, err error) {
	v := r.URL.Query()
	if token := v.Get("continue"); token != "" {
		raw, derr := base64.RawURLEncoding.DecodeString(token)
		var after string
		if derr == nil {
			derr = json.Unmarshal(raw, &after)
		}
		if derr != nil {
			return nil, "", 0, apierrors.NewBadRequest("continue key is not valid: " + derr.Error())
		}
		i := 0
		for i < len(items) && order(items[i]) <= after {
			i++
		}
		items = items[i:]
	}
	limit := 0
	if l := v.Get("limit"); l != "" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 0 {
			return nil, "", 0, apierrors.NewBadRequest("limit: " + l + " is no count")
		}
	}
	if limit == 0 || len(items) <= limit {
		return items, "", 0, nil
	}
	last := items[limit-1]
	raw, err := json.Marshal(order(last))
	if err != nil {
		return nil, "", 0, err
	}
	return items[:limit], base64.RawURLEncoding.EncodeToString(raw), len(items) - limit, nil
}

// order compares as namespace, then name: no name holds a NUL.
func order(u *unstructured.Unstructured) string { return u.GetNamespace() + "\x00" + u.GetName() }

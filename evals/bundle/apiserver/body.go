package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// maxBody bounds what a write may carry, in bytes; the API server's own limit
// (genericapiserver's MaxRequestBodyBytes).
const maxBody = 3 << 20

func readBody(r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(raw) > maxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	return raw, nil
}

func mediaType(r *http.Request) string {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media == "" {
		return "application/json"
	}
	return media
}

func unsupported(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", ")}}
}

// toJSON turns a body in any form that the API server takes into JSON; kind is
// what a protobuf body without a type is.
func toJSON(media string, body []byte, kind schema.GroupVersionKind) ([]byte, error) {
	switch media {
	case "application/json":
		return body, nil
	case "application/yaml", string("application/apply-patch+yaml"):
		obj, err := bundle.DecodeYAML(body)
		if err != nil {
			return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
		}
		return json.Marshal(obj)
	case runtime.ContentTypeProtobuf:
		obj, _, err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Decode(body, &kind, nil)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		raw, err := json.Marshal(obj)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return raw, nil
	}
	return nil, unsupported("application/json", "application/yaml", runtime.ContentTypeProtobuf)
}

// into reads a body as an object of a built-in kind.
func into(r *http.Request, kind schema.GroupVersionKind, obj any) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	raw, err := toJSON(mediaType(r), body, kind)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, obj); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

// decode reads a body as an object of the addressed kind. Warnings are what a
// client hears that has not asked for strictness.
func decode(r *http.Request, q request, body []byte) (u *unstructured.Unstructured, warnings []string, err error) {
	raw, err := toJSON(mediaType(r), body, q.resource.gvk)
	if err != nil {
		return nil, nil, err
	}
	return parse(q, raw, validationOf(r))
}

func validationOf(r *http.Request) string { return r.URL.Query().Get("fieldValidation") }

// parse reads JSON as an object of the addressed kind, the way the API server
// does: a built-in kind goes through its Go type, which drops or refuses what
// it has no field for. validation is "", "Ignore", "Warn" or "Strict".
func parse(q request, raw []byte, validation string) (u *unstructured.Unstructured, warnings []string, err error) {
	want := q.resource.gvk
	var obj map[string]any
	if err := utiljson.Unmarshal(raw, &obj); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if obj == nil {
		return nil, nil, apierrors.NewBadRequest("the object provided is unrecognized: the body is no object")
	}
	u = &unstructured.Unstructured{Object: obj}
	if _, ok := obj["kind"]; !ok {
		u.SetKind(want.Kind)
	}
	if _, ok := obj["apiVersion"]; !ok {
		u.SetAPIVersion(want.GroupVersion().String())
	}
	if got := u.GroupVersionKind(); got != want {
		if got.Kind == want.Kind && got.Group == want.Group {
			return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
		}
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s", got.Kind, got.GroupVersion(), want.Kind))
	}
	cannot := func(err error) error {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %s", want.Kind, want.Version, want.Kind, err))
	}
	var strict []error
	if q.resource.typed {
		typed, err := scheme.Scheme.New(want)
		if err != nil {
			return nil, nil, cannot(err)
		}
		if strict, err = kjson.UnmarshalStrict(raw, typed); err != nil {
			return nil, nil, cannot(err)
		}
		obj, err = runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
		if err != nil {
			return nil, nil, cannot(err)
		}
		u = &unstructured.Unstructured{Object: obj}
		u.SetGroupVersionKind(want)
	} else {
		var md metav1.PartialObjectMetadata
		if strict, err = kjson.UnmarshalStrict(raw, &md); err != nil {
			return nil, nil, cannot(err)
		}
		// Only the metadata has a known form.
		strict = slices.DeleteFunc(strict, func(err error) bool { return !strings.Contains(err.Error(), `"metadata.`) })
	}
	tidy(u)
	switch {
	case len(strict) == 0:
	case validation == metav1.FieldValidationStrict:
		return nil, nil, cannot(runtime.NewStrictDecodingError(strict))
	case validation != metav1.FieldValidationIgnore:
		for _, err := range strict {
			warnings = append(warnings, err.Error())
		}
	}
	return u, warnings, nil
}

// tidy drops what a Go type writes though nobody set it.
func tidy(u *unstructured.Unstructured) {
	drop := func(m map[string]any, field string, empty func(any) bool) {
		if v, ok := m[field]; ok && empty(v) {
			delete(m, field)
		}
	}
	null := func(v any) bool { return v == nil }
	if md, ok := u.Object["metadata"].(map[string]any); ok {
		drop(md, "creationTimestamp", null)
	}
	if md, ok, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "template", "metadata"); ok {
		if m, ok := md.(map[string]any); ok {
			drop(m, "creationTimestamp", null)
		}
	}
	drop(u.Object, "status", func(v any) bool {
		m, ok := v.(map[string]any)
		return v == nil || ok && len(m) == 0
	})
}

// canonical gives an object as the API server would have stored it, so that
// what only looks different does not count as a change. An object that its Go
// type cannot hold stays as it is.
func canonical(q request, u *unstructured.Unstructured) *unstructured.Unstructured {
	if !q.resource.typed {
		return u
	}
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return u
	}
	out, _, err := parse(q, raw, metav1.FieldValidationIgnore)
	if err != nil {
		return u
	}
	return out
}

// address gives an object the namespace of its path, or refuses another one.
func address(q request, u *unstructured.Unstructured) error {
	if !q.resource.Namespaced {
		if u.GetNamespace() != "" {
			return apierrors.NewBadRequest("namespace may not be set on cluster-scoped objects: the namespace of the provided object does not match the namespace sent on the request")
		}
		return nil
	}
	if u.GetNamespace() == "" {
		u.SetNamespace(q.namespace)
	}
	if u.GetNamespace() != q.namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// warn puts warnings into the header that kubectl prints.
func warn(w http.ResponseWriter, warnings []string) {
	for _, text := range warnings {
		// RFC 7234 section 5.5: code, agent, quoted text.
		w.Header().Add("Warning", fmt.Sprintf("299 - %s", quoteHeader(text)))
	}
}

func quoteHeader(s string) string {
	var b bytes.Buffer
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Canonical puts every object of a built-in kind into the form in which a real server
// keeps it, as a write would: an object that people wrote lacks fields that are there,
// empty or not, after the first change.
func (s *Server) Canonical() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for gvr, t := range s.tables {
		q := request{resource: s.byPath[gvr], gvr: gvr}
		if q.resource == nil {
			continue
		}
		for i := range t.items {
			t.items[i].object = canonical(q, t.items[i].object)
		}
	}
}

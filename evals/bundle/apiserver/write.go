package apiserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// maxBody bounds what a write may carry, in bytes; the API server's own limit is 3 MiB.
const maxBody = 3 << 20

// serveWrite changes objects in memory. Nothing is ever written to the bundle.
func (s *Server) serveWrite(w http.ResponseWriter, r *http.Request, q request, verb string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	if err != nil {
		fail(w, err)
		return
	}
	dry := r.URL.Query().Get("dryRun") == "All"
	s.mu.Lock()
	var out *unstructured.Unstructured
	code := http.StatusOK
	switch verb {
	case "create":
		out, err = s.create(r, q, body, dry)
		code = http.StatusCreated
	case "update":
		out, err = s.update(q, body, dry)
	case "patch":
		out, err = s.patch(r, q, body, dry)
	case "delete":
		out, err = s.remove(q, body, dry)
	default:
		err = apierrors.NewMethodNotSupported(schema.GroupResource{Group: q.gvr.Group, Resource: q.gvr.Resource}, verb)
	}
	s.mu.Unlock()
	if err != nil {
		fail(w, err)
		return
	}
	if verb == "delete" && out.GetDeletionTimestamp() == nil {
		writeJSON(w, code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
			Details: &metav1.StatusDetails{Name: q.name, Group: q.gvr.Group, Kind: q.gvr.Resource, UID: out.GetUID()}})
		return
	}
	s.respond(w, r, q, code, out)
}

// decode reads a body as an object of the addressed kind.
func decode(q request, body []byte) (*unstructured.Unstructured, error) {
	raw, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(raw, &u.Object); err != nil || u.Object == nil {
		return nil, apierrors.NewBadRequest("the body is no object")
	}
	want := schema.GroupVersionKind{Group: q.gvr.Group, Version: q.gvr.Version, Kind: q.resource.Kind}
	if u.GetKind() == "" {
		u.SetGroupVersionKind(want)
	}
	if u.GroupVersionKind() != want {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object is a %s, the path wants a %s", u.GroupVersionKind(), want))
	}
	if q.resource.Namespaced {
		if u.GetNamespace() == "" {
			u.SetNamespace(q.namespace)
		}
		if u.GetNamespace() != q.namespace {
			return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
	}
	return u, nil
}

func (s *Server) create(r *http.Request, q request, body []byte, dry bool) (*unstructured.Unstructured, error) {
	if q.name != "" {
		return nil, apierrors.NewMethodNotSupported(schema.GroupResource{Group: q.gvr.Group, Resource: q.gvr.Resource}, "create")
	}
	u, err := decode(q, body)
	if err != nil {
		return nil, err
	}
	if err := strict(r, u); err != nil {
		return nil, err
	}
	if u.GetName() == "" && u.GetGenerateName() != "" {
		u.SetName(u.GetGenerateName() + string(s.uid())[:5])
	}
	if u.GetName() == "" {
		return nil, apierrors.NewBadRequest("metadata.name or metadata.generateName is required")
	}
	if q.namespace != "" && s.objects[schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}][key("", q.namespace)] == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, q.namespace)
	}
	k := key(u.GetNamespace(), u.GetName())
	if s.objects[q.gvr][k] != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Group: q.gvr.Group, Resource: q.gvr.Resource}, u.GetName())
	}
	u.SetUID(s.uid())
	u.SetCreationTimestamp(metaTime(s.now()))
	u.SetGeneration(1)
	u.SetResourceVersion("")
	if dry {
		return u, nil
	}
	return s.store(q, nil, u), nil
}

// update replaces an object, or only its status.
func (s *Server) update(q request, body []byte, dry bool) (*unstructured.Unstructured, error) {
	u, err := decode(q, body)
	if err != nil {
		return nil, err
	}
	old := s.objects[q.gvr][key(q.namespace, q.name)]
	if old == nil {
		return nil, notFound(q)
	}
	return s.replace(q, old, u, dry)
}

func (s *Server) replace(q request, old, u *unstructured.Unstructured, dry bool) (*unstructured.Unstructured, error) {
	gr := schema.GroupResource{Group: q.gvr.Group, Resource: q.gvr.Resource}
	if u.GetName() != old.GetName() {
		return nil, apierrors.NewBadRequest("the name of the object does not match the name on the URL")
	}
	if v := u.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(gr, q.name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	if id := u.GetUID(); id != "" && id != old.GetUID() {
		return nil, apierrors.NewConflict(gr, q.name, fmt.Errorf("Precondition failed: UID in precondition: %s, UID in object meta: %s", id, old.GetUID()))
	}
	next := u.DeepCopy()
	if q.subresource == "status" {
		next = old.DeepCopy()
		next.Object["status"] = u.Object["status"]
	} else if st, ok := old.Object["status"]; ok {
		next.Object["status"] = st
	}
	next.SetUID(old.GetUID())
	next.SetCreationTimestamp(old.GetCreationTimestamp())
	next.SetGeneration(old.GetGeneration())
	if q.subresource != "status" && fmt.Sprint(next.Object["spec"]) != fmt.Sprint(old.Object["spec"]) {
		next.SetGeneration(old.GetGeneration() + 1)
	}
	next.SetResourceVersion(old.GetResourceVersion())
	if dry {
		return next, nil
	}
	if next.GetDeletionTimestamp() != nil && len(next.GetFinalizers()) == 0 {
		return s.store(q, old, nil), nil
	}
	return s.store(q, old, next), nil
}

// patch applies a JSON, merge or strategic merge patch. Server-side apply needs
// the schemas of the cluster's own API server, which a bundle does not hold.
func (s *Server) patch(r *http.Request, q request, body []byte, dry bool) (*unstructured.Unstructured, error) {
	old := s.objects[q.gvr][key(q.namespace, q.name)]
	if old == nil {
		return nil, notFound(q)
	}
	before, err := json.Marshal(old.Object)
	if err != nil {
		return nil, err
	}
	var after []byte
	switch kind := types.PatchType(r.Header.Get("Content-Type")); kind {
	case types.JSONPatchType:
		p, derr := jsonpatch.DecodePatch(body)
		if derr != nil {
			return nil, apierrors.NewBadRequest(derr.Error())
		}
		after, err = p.Apply(before)
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, body)
	case types.StrategicMergePatchType:
		obj, serr := scheme.Scheme.New(old.GroupVersionKind())
		if serr != nil {
			return nil, unsupported("strategic merge patch is for built-in kinds; use a merge patch for " + q.resource.Kind)
		}
		after, err = strategicpatch.StrategicMergePatch(before, body, obj)
	case types.ApplyYAMLPatchType:
		return nil, unsupported("a bundle takes no server-side apply: it does not hold the cluster's schemas; apply from the client side, or send a merge patch")
	default:
		return nil, unsupported(fmt.Sprintf("content type %q is no patch type", kind))
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(after, &u.Object); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := strict(r, u); err != nil {
		return nil, err
	}
	return s.replace(q, old, u, dry)
}

func unsupported(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType, Message: text}}
}

// strict refuses unknown fields of built-in kinds when the client asks for it.
func strict(r *http.Request, u *unstructured.Unstructured) error {
	if r.URL.Query().Get("fieldValidation") != "Strict" {
		return nil
	}
	obj, err := scheme.Scheme.New(u.GroupVersionKind())
	if err != nil {
		return nil //nolint:nilerr // no schema for a kind that is not built in
	}
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(raw, obj); err != nil {
		return apierrors.NewBadRequest("strict decoding error: " + err.Error())
	}
	return nil
}

func (s *Server) remove(q request, body []byte, dry bool) (*unstructured.Unstructured, error) {
	old := s.objects[q.gvr][key(q.namespace, q.name)]
	if old == nil {
		return nil, notFound(q)
	}
	var o metav1.DeleteOptions
	if len(body) > 0 {
		if err := json.Unmarshal(body, &o); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	gr := schema.GroupResource{Group: q.gvr.Group, Resource: q.gvr.Resource}
	if p := o.Preconditions; p != nil {
		if p.UID != nil && *p.UID != old.GetUID() {
			return nil, apierrors.NewConflict(gr, q.name, fmt.Errorf("Precondition failed: UID in precondition: %s, UID in object meta: %s", *p.UID, old.GetUID()))
		}
		if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
			return nil, apierrors.NewConflict(gr, q.name, fmt.Errorf("Precondition failed: ResourceVersion in precondition: %s, ResourceVersion in object meta: %s", *p.ResourceVersion, old.GetResourceVersion()))
		}
	}
	if dry || len(o.DryRun) > 0 {
		return old, nil
	}
	if len(old.GetFinalizers()) > 0 {
		if old.GetDeletionTimestamp() != nil {
			return old, nil
		}
		next := old.DeepCopy()
		now := metaTime(s.now())
		next.SetDeletionTimestamp(&now)
		return s.store(q, old, next), nil
	}
	s.store(q, old, nil)
	return old, nil
}

// store puts a new state in and tells the watches. The caller holds the lock.
func (s *Server) store(q request, before, after *unstructured.Unstructured) *unstructured.Unstructured {
	s.version++
	c := change{version: s.version, resource: q.gvr, before: before, after: after}
	m := maps.Clone(s.objects[q.gvr])
	if m == nil {
		m = map[string]*unstructured.Unstructured{}
	}
	if after == nil {
		delete(m, key(before.GetNamespace(), before.GetName()))
	} else {
		after.SetResourceVersion(strconv.FormatUint(s.version, 10))
		m[key(after.GetNamespace(), after.GetName())] = after
	}
	s.objects[q.gvr] = m
	s.log = append(s.log, c)
	close(s.changed)
	s.changed = make(chan struct{})
	if after == nil {
		return before
	}
	return after
}

// uid makes identities that are the same in every run of the same bundle.
func (s *Server) uid() types.UID {
	s.uids++
	sum := sha256.Sum256(strconv.AppendUint([]byte(s.bundle.Manifest.Cluster+"/"), s.uids, 10))
	h := hex.EncodeToString(sum[:16])
	return types.UID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

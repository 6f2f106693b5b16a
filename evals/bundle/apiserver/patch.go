package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	// maxOperations bounds a JSON patch, as the API server does (its
	// maxJSONPatchOperations).
	maxOperations = 10_000
	// maxCopies bounds the copy operations in one: each can double the object.
	maxCopies = 100
)

func patchType(r *http.Request) types.PatchType {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return types.PatchType(strings.TrimSpace(media))
}

// patch applies a JSON, merge or strategic merge patch, or a server-side apply.
// The caller holds the lock.
func (s *Server) patch(r *http.Request, q request, body []byte, o options) (written, error) {
	kind := patchType(r)
	old := s.table(q.gvr).get(q.namespace, q.name)
	if kind == types.ApplyYAMLPatchType {
		return s.apply(r, q, old, body, o)
	}
	if old == nil {
		return written{}, notFound(q)
	}
	after, err := patched(kind, q.resource.typed, q.resource.gvk, old, body)
	if err != nil {
		return written{}, err
	}
	u, warnings, err := parse(q, after, validationOf(r))
	if err != nil {
		return written{}, err
	}
	if u.GetNamespace() != q.namespace {
		return written{}, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	out, err := s.replace(q, old, u, o)
	out.warnings = warnings
	return out, err
}

// patched gives the JSON of an object after a patch.
func patched(kind types.PatchType, typed bool, gvk schema.GroupVersionKind, old *unstructured.Unstructured, body []byte) ([]byte, error) {
	before, err := json.Marshal(old.Object)
	if err != nil {
		return nil, err
	}
	switch kind {
	case types.JSONPatchType:
		return jsonPatched(before, body)
	case types.MergePatchType:
		if !json.Valid(body) {
			return nil, apierrors.NewBadRequest("error decoding patch: the body is no JSON")
		}
		after, err := jsonpatch.MergePatch(before, body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return after, nil
	case types.StrategicMergePatchType:
		if !typed {
			break
		}
		obj, err := scheme.Scheme.New(gvk)
		if err != nil {
			return nil, err
		}
		after, err := strategicpatch.StrategicMergePatch(before, body, obj)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return after, nil
	}
	accepted := []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType)}
	if typed {
		accepted = append(accepted, string(types.StrategicMergePatchType))
	}
	return nil, unsupported(accepted...)
}

func jsonPatched(before, body []byte) ([]byte, error) {
	p, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	if len(p) > maxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(p)))
	}
	rejected := func(err error) error {
		return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	copies := 0
	for _, op := range p {
		if op.Kind() == "copy" {
			copies++
		}
	}
	if copies > maxCopies {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum copy operations in a JSON patch is %d, got %d", maxCopies, copies))
	}
	if copies == 0 {
		after, err := p.Apply(before)
		if err != nil {
			return nil, rejected(err)
		}
		return after, nil
	}
	// Up to each copy in one go, so that what copies make is measured.
	for len(p) > 0 {
		n := 1
		for n < len(p) && p[n].Kind() != "copy" {
			n++
		}
		if before, err = p[:n].Apply(before); err != nil {
			return nil, rejected(err)
		}
		if len(before) > maxBody {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
		}
		p = p[n:]
	}
	return before, nil
}

// apply is a server-side apply: it makes the object or merges into it what the
// manager owns.
func (s *Server) apply(r *http.Request, q request, old *unstructured.Unstructured, body []byte, o options) (written, error) {
	raw, err := toJSON(string(types.ApplyYAMLPatchType), body, q.resource.gvk)
	if err != nil {
		return written{}, err
	}
	// What the manager wants is taken as it stands: a field that its Go type
	// would fill in with nothing is not the manager's.
	intent := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &intent.Object); err != nil || intent.Object == nil {
		return written{}, apierrors.NewBadRequest("error decoding YAML: the body is no object")
	}
	if _, warnings, err := parse(q, raw, validationOf(r)); err != nil {
		return written{}, err
	} else if len(warnings) > 0 {
		// Fields without a place in the schema cannot be merged.
		return written{}, apierrors.NewBadRequest("failed to create typed patch object: " + strings.Join(warnings, "; "))
	}
	if intent.GetName() == "" {
		intent.SetName(q.name)
	}
	if intent.GetName() != q.name {
		return written{}, apierrors.NewBadRequest(fmt.Sprintf("name in URL does not match name in apply configuration: %s, %s", q.name, intent.GetName()))
	}
	if err := address(q, intent); err != nil {
		return written{}, err
	}
	if intent.Object["metadata"].(map[string]any)["managedFields"] != nil {
		return written{}, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	live := old
	if old == nil {
		if !creatable(q) {
			return written{}, notFound(q)
		}
		if id := intent.GetUID(); id != "" {
			return written{}, conflict(q, "uid mismatch: the provided object specified uid %s, and no existing object was found", id)
		}
		live = &unstructured.Unstructured{Object: map[string]any{}}
		live.SetGroupVersionKind(q.resource.gvk)
		live.SetName(q.name)
		live.SetNamespace(q.namespace)
	} else {
		live = canonical(q, old)
	}
	merged, err := s.fields.apply(q, live, intent, o, s.now())
	if err != nil {
		return written{}, err
	}
	raw, err = json.Marshal(merged.Object)
	if err != nil {
		return written{}, err
	}
	u, _, err := parse(q, raw, "")
	if err != nil {
		return written{}, err
	}
	if old == nil {
		return s.insertApplied(q, u, o)
	}
	// The managers were worked out with the merge.
	managers := u.GetManagedFields()
	next := carry(q, live, u)
	next.SetManagedFields(managers)
	if v := intent.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return written{}, conflict(q, "the object has been modified; please apply your changes to the latest version and try again")
	}
	if err := validate(q, next, live); err != nil {
		return written{}, err
	}
	if same(live, next) && sameManagers(live, next) {
		return written{object: old}, nil
	}
	return s.settle(q, old, next, o), nil
}

// insertApplied makes the object of an apply; its managers are in it already.
func (s *Server) insertApplied(q request, u *unstructured.Unstructured, o options) (written, error) {
	managers := u.GetManagedFields()
	u.SetManagedFields(nil)
	o.managers = managers
	return s.insert(q, u, o)
}

package apiserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// written is the outcome of a write.
type written struct {
	object   *unstructured.Unstructured
	warnings []string
	created  bool
}

// serveWrite changes objects in memory. Nothing is ever written to the bundle.
func (s *Server) serveWrite(w http.ResponseWriter, r *http.Request, q request, verb string) {
	body, err := readBody(r)
	if err != nil {
		fail(w, err)
		return
	}
	if formOf(r).none {
		notAcceptable(w)
		return
	}
	switch verb {
	case "delete":
		s.serveDelete(w, r, q, body)
		return
	case "deletecollection":
		s.serveDeleteCollection(w, r, q, body)
		return
	}
	out, err := s.change(r, q, verb, body)
	if err != nil {
		fail(w, err)
		return
	}
	warn(w, out.warnings)
	code := http.StatusOK
	if out.created {
		code = http.StatusCreated
	}
	s.respond(w, r, q, code, out.object)
}

// options are the query parameters of a write.
type options struct {
	dry     bool
	manager string
	force   bool
	// managers that an apply has worked out for a new object.
	managers []metav1.ManagedFieldsEntry
}

// writeOptions reads and checks the parameters with the API server's own rules.
func writeOptions(r *http.Request, verb string) (options, error) {
	v := r.URL.Query()
	p := metav1.PatchOptions{DryRun: v["dryRun"], FieldManager: v.Get("fieldManager"), FieldValidation: v.Get("fieldValidation")}
	var errs field.ErrorList
	kind := "PatchOptions"
	switch verb {
	case "create":
		kind = "CreateOptions"
		errs = metav1validation.ValidateCreateOptions(&metav1.CreateOptions{DryRun: p.DryRun, FieldManager: p.FieldManager, FieldValidation: p.FieldValidation})
	case "update":
		kind = "UpdateOptions"
		errs = metav1validation.ValidateUpdateOptions(&metav1.UpdateOptions{DryRun: p.DryRun, FieldManager: p.FieldManager, FieldValidation: p.FieldValidation})
	default:
		if f := v.Get("force"); f != "" {
			force := f == "true" || f == "1"
			p.Force = &force
		}
		errs = metav1validation.ValidatePatchOptions(&p, patchType(r))
	}
	if len(errs) > 0 {
		return options{}, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
	}
	o := options{dry: len(p.DryRun) > 0, manager: p.FieldManager, force: p.Force != nil && *p.Force}
	if o.manager == "" {
		o.manager = agent(r.UserAgent())
	}
	return o, nil
}

// agent is the manager of a client that names none: the program in front of
// its User-Agent.
func agent(ua string) string {
	name, _, _ := strings.Cut(ua, "/")
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, name)
	if name == "" {
		return "unknown"
	}
	return string([]rune(name)[:min(128, len([]rune(name)))])
}

// change runs a create, update or patch under the lock.
func (s *Server) change(r *http.Request, q request, verb string, body []byte) (written, error) {
	o, err := writeOptions(r, verb)
	if err != nil {
		return written{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch verb {
	case "create":
		return s.create(r, q, body, o)
	case "update":
		return s.update(r, q, body, o)
	case "patch":
		return s.patch(r, q, body, o)
	}
	return written{}, apierrors.NewMethodNotSupported(q.gvr.GroupResource(), verb)
}

func (s *Server) create(r *http.Request, q request, body []byte, o options) (written, error) {
	if q.name != "" {
		return written{}, apierrors.NewMethodNotSupported(q.gvr.GroupResource(), "create")
	}
	u, warnings, err := decode(r, q, body)
	if err != nil {
		return written{}, err
	}
	out, err := s.insert(q, u, o)
	out.warnings = warnings
	return out, err
}

// insert puts a new object in.
func (s *Server) insert(q request, u *unstructured.Unstructured, o options) (written, error) {
	gr := q.gvr.GroupResource()
	if err := address(q, u); err != nil {
		return written{}, err
	}
	if u.GetResourceVersion() != "" {
		return written{}, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if q.resource.Namespaced {
		ns := s.table(namespaces()).get("", q.namespace)
		if ns == nil {
			return written{}, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, q.namespace)
		}
		if ns.GetDeletionTimestamp() != nil {
			return written{}, apierrors.NewForbidden(gr, u.GetName(), fmt.Errorf("unable to create new content in namespace %s because it is being terminated", q.namespace))
		}
	}
	s.prepare(q, u)
	if err := validate(q, u, nil); err != nil {
		return written{}, err
	}
	if s.table(q.gvr).get(u.GetNamespace(), u.GetName()) != nil {
		return written{}, apierrors.NewAlreadyExists(gr, u.GetName())
	}
	if o.managers != nil {
		u.SetManagedFields(o.managers)
	} else {
		s.fields.update(q, nil, u, o.manager, s.now())
	}
	if o.dry {
		return written{object: u, created: true}, nil
	}
	return written{object: s.store(q.gvr, nil, u), created: true}, nil
}

// prepare sets what the server sets on a new object.
func (s *Server) prepare(q request, u *unstructured.Unstructured) {
	u.SetUID(s.uid())
	if base := u.GetGenerateName(); u.GetName() == "" && base != "" {
		// The name that the API server would make has room for five characters
		// after a base of at most 58 (names.SimpleNameGenerator).
		base = base[:min(len(base), 58)]
		for u.GetName() == "" || s.table(q.gvr).get(u.GetNamespace(), u.GetName()) != nil {
			u.SetName(base + string(s.uid())[:5])
		}
	}
	u.SetCreationTimestamp(metaTime(s.now()))
	u.SetDeletionTimestamp(nil)
	u.SetDeletionGracePeriodSeconds(nil)
	u.SetSelfLink("")
	unstructured.RemoveNestedField(u.Object, "metadata", "generation")
	if _, ok := u.Object["spec"]; ok {
		u.SetGeneration(1)
	}
	if q.resource.hasStatus() {
		delete(u.Object, "status")
	}
	switch q.resource.gvk.GroupKind().String() {
	case "Pod":
		u.Object["status"] = map[string]any{"phase": "Pending"}
	case "Namespace":
		labels := u.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["kubernetes.io/metadata.name"] = u.GetName()
		u.SetLabels(labels)
		u.Object["spec"] = map[string]any{"finalizers": []any{"kubernetes"}}
		u.Object["status"] = map[string]any{"phase": "Active"}
	}
}

// validate checks the metadata with the API server's own rules; old is nil for
// a new object.
func validate(q request, u, old *unstructured.Unstructured) error {
	name := validation.NameIsDNSSubdomain
	switch q.resource.gvk.GroupKind().String() {
	case "Namespace", "Service":
		name = validation.NameIsDNSLabel
	case "Role.rbac.authorization.k8s.io", "RoleBinding.rbac.authorization.k8s.io", "ClusterRole.rbac.authorization.k8s.io", "ClusterRoleBinding.rbac.authorization.k8s.io":
		name = path.ValidatePathSegmentName
	}
	at := field.NewPath("metadata")
	errs := validation.ValidateObjectMetaAccessor(u, q.resource.Namespaced, name, at)
	if old != nil {
		errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(u, old, at)...)
		if old.GetDeletionTimestamp() != nil {
			errs = append(errs, validation.ValidateNoNewFinalizers(u.GetFinalizers(), old.GetFinalizers(), at.Child("finalizers"))...)
		}
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(q.resource.gvk.GroupKind(), u.GetName(), errs)
	}
	return nil
}

// update replaces an object, or only its status.
func (s *Server) update(r *http.Request, q request, body []byte, o options) (written, error) {
	u, warnings, err := decode(r, q, body)
	if err != nil {
		return written{}, err
	}
	if err := address(q, u); err != nil {
		return written{}, err
	}
	old := s.table(q.gvr).get(q.namespace, q.name)
	if old == nil {
		return written{}, notFound(q)
	}
	if u.GetResourceVersion() == "" && !q.resource.typed {
		return written{}, apierrors.NewInvalid(q.resource.gvk.GroupKind(), q.name, field.ErrorList{field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update")})
	}
	out, err := s.replace(q, old, u, o)
	out.warnings = warnings
	return out, err
}

// conflict is what a client hears that changed an object it had not seen last.
func conflict(q request, format string, args ...any) error {
	return apierrors.NewConflict(q.gvr.GroupResource(), q.name, fmt.Errorf(format, args...))
}

// replace puts u in place of old.
func (s *Server) replace(q request, old, u *unstructured.Unstructured, o options) (written, error) {
	if u.GetName() != old.GetName() {
		return written{}, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", u.GetName(), q.name))
	}
	if id := u.GetUID(); id != "" && id != old.GetUID() {
		return written{}, conflict(q, "Precondition failed: UID in precondition: %s, UID in object meta: %s", id, old.GetUID())
	}
	if v := u.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return written{}, conflict(q, "the object has been modified; please apply your changes to the latest version and try again")
	}
	was := canonical(q, old)
	next := carry(q, was, u)
	if err := validate(q, next, was); err != nil {
		return written{}, err
	}
	if same(was, next) {
		// Nothing changes, so no version passes and no watch hears of it.
		return written{object: old}, nil
	}
	s.fields.update(q, was, next, o.manager, s.now())
	return s.settle(q, old, next, o), nil
}

// settle stores what a write made of an object; one that only waited for its
// last finalizer goes.
func (s *Server) settle(q request, old, next *unstructured.Unstructured, o options) written {
	switch {
	case o.dry:
		return written{object: next}
	case next.GetDeletionTimestamp() != nil && len(next.GetFinalizers()) == 0 && !awaited(q):
		s.store(q.gvr, old, nil)
		return written{object: next}
	}
	return written{object: s.store(q.gvr, old, next)}
}

// awaited kinds stay though they have no finalizer in their metadata: pods end
// through their kubelet, namespaces through finalizers in their spec.
func awaited(q request) bool {
	return q.gvr.Group == "" && (q.gvr.Resource == "pods" || q.gvr.Resource == "namespaces")
}

// carry keeps what a client cannot change.
func carry(q request, old, u *unstructured.Unstructured) *unstructured.Unstructured {
	next := u.DeepCopy()
	switch {
	case q.subresource == "status":
		next = old.DeepCopy()
		delete(next.Object, "status")
		if st, ok := u.Object["status"]; ok {
			next.Object["status"] = st
		}
		next.SetManagedFields(u.GetManagedFields())
	case q.resource.hasStatus():
		delete(next.Object, "status")
		if st, ok := old.Object["status"]; ok {
			next.Object["status"] = st
		}
	}
	next.SetUID(old.GetUID())
	next.SetCreationTimestamp(old.GetCreationTimestamp())
	next.SetDeletionTimestamp(old.GetDeletionTimestamp())
	next.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	next.SetGenerateName(old.GetGenerateName())
	next.SetResourceVersion(old.GetResourceVersion())
	unstructured.RemoveNestedField(next.Object, "metadata", "generation")
	if g := old.GetGeneration(); g > 0 {
		next.SetGeneration(g)
	}
	if q.subresource != "status" && !equality.Semantic.DeepEqual(next.Object["spec"], old.Object["spec"]) && (old.GetGeneration() > 0 || q.resource.hasStatus()) {
		next.SetGeneration(old.GetGeneration() + 1)
	}
	return next
}

// same reports whether two states differ in nothing but who wrote what.
func same(a, b *unstructured.Unstructured) bool {
	bare := func(u *unstructured.Unstructured) map[string]any {
		out := make(map[string]any, len(u.Object))
		for k, v := range u.Object {
			if md, ok := v.(map[string]any); ok && k == "metadata" {
				rest := make(map[string]any, len(md))
				for f, v := range md {
					if f != "managedFields" {
						rest[f] = v
					}
				}
				v = rest
			}
			out[k] = v
		}
		return out
	}
	return equality.Semantic.DeepEqual(bare(a), bare(b))
}

// creatable reports whether an apply may make the object.
func creatable(q request) bool {
	return q.subresource == "" && slices.Contains(q.resource.verbs(), "create")
}

package apiserver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// reader is who the server takes a client for that does not say to act as another.
const reader = "bundle-reader"

// userOf gives the name and the groups of a client. A bundle keeps no users: whoever
// a client says it acts as, it is.
func userOf(r *http.Request) (name string, groups []string) {
	if name = r.Header.Get("Impersonate-User"); name == "" {
		return reader, []string{"system:authenticated"}
	}
	for _, g := range append(r.Header.Values("Impersonate-Group"), "system:authenticated") {
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	return name, groups
}

// Forbid takes rights from one user; what the manifest denies is denied to all.
func (s *Server) Forbid(user string, rights ...bundle.Denied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lacks == nil {
		s.lacks = map[string][]bundle.Denied{}
	}
	s.lacks[user] = append(s.lacks[user], rights...)
}

// Trust lets one user read and write everything, also what the capture was denied: the
// cluster's own controllers.
func (s *Server) Trust(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trusted == nil {
		s.trusted = map[string]bool{}
	}
	s.trusted[user] = true
}

func (s *Server) trusts(user string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.trusted[user]
}

// deniedTo gives all rights that a user lacks.
func (s *Server) deniedTo(user string) []bundle.Denied {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Concat(s.bundle.Manifest.Denied, s.lacks[user])
}

// fail answers with a Status in the API server's own words.
func fail(w http.ResponseWriter, err error) {
	st, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		st = apierrors.NewInternalError(err)
	}
	s := st.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if s.Code < 400 || s.Code > 599 {
		s.Code = http.StatusInternalServerError
	}
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(s.Details.RetryAfterSeconds))
	}
	writeJSON(w, int(s.Code), s)
}

// noPage is what a server says of a path that it does not have. Clients tell
// it from an object that is not there by its being no Status.
func noPage(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte("404 page not found\n"))
}

func notFound(q request) error { return apierrors.NewNotFound(q.gvr.GroupResource(), q.name) }

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// attributes are what a request is judged by.
type attributes struct {
	// user is who asks; empty is the reader.
	user string

	verb, group, resource, subresource, namespace, name string
}

func attributesOf(verb string, q request) attributes {
	a := attributes{verb: verb, group: q.gvr.Group, resource: q.gvr.Resource, subresource: q.subresource, namespace: q.namespace, name: q.name}
	if a.group == "" && a.resource == "namespaces" {
		// A namespace counts as lying within itself.
		a.namespace = q.name
	}
	return a
}

// path gives "resource" or "resource/subresource".
func (a attributes) path() string {
	if a.subresource == "" {
		return a.resource
	}
	return a.resource + "/" + a.subresource
}

// across reports whether the request reaches over all namespaces.
func (a attributes) across(r *resource) bool {
	return r != nil && r.Namespaced && a.namespace == ""
}

// forbid is a refusal in the words of the RBAC authorizer.
func forbid(a attributes, why string) error {
	where := "at the cluster scope"
	if a.namespace != "" {
		where = fmt.Sprintf("in the namespace %q", a.namespace)
	}
	text := fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", cmp.Or(a.user, reader), a.verb, a.path(), a.group, where)
	if why != "" {
		text += ": " + why
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.group, Resource: a.resource}, a.name, errors.New(text))
}

// denied refuses what the capture was refused, and what it did not look at:
// nothing there would be an answer where there is none.
func (s *Server) denied(a attributes) error {
	if s.trusts(a.user) {
		return nil
	}
	res := s.resourceOf(a)
	for _, d := range s.deniedTo(cmp.Or(a.user, reader)) {
		same := func(want, have string) bool { return want == "*" || want == have }
		if !same(d.Verb, a.verb) || !same(d.Group, a.group) || !same(d.Resource, a.path()) {
			continue
		}
		// Who lacks a right in one namespace lacks it over all of them.
		if d.Namespace == "" || d.Namespace == a.namespace || a.across(res) {
			return forbid(a, "")
		}
	}
	if res == nil {
		return nil
	}
	if limit := s.bundle.Manifest.Namespaces; len(limit) > 0 && res.Namespaced && !s.bundle.HasNamespace(a.namespace) && !s.bundle.HasAcross(res.gvr.GroupResource()) {
		ofCluster := a.group == "" && a.resource == "events" && a.namespace == metav1.NamespaceDefault
		if !ofCluster {
			return forbid(a, "the bundle holds only the namespaces "+strings.Join(limit, ", "))
		}
	}
	return s.missing(a, res)
}

// missing answers for a kind that was left out, as the server answered then.
func (s *Server) missing(a attributes, res *resource) error {
	if !slices.Contains([]string{"get", "list", "watch"}, a.verb) {
		return nil
	}
	for _, l := range res.leftOut {
		switch {
		case l.Namespace != "" && l.Namespace != a.namespace && !a.across(res):
			continue
		case l.Namespace == "" && s.holds(res):
			continue // words about a part of it
		case l.Code == 0 || l.Code == http.StatusForbidden:
			return forbid(a, "the bundle does not hold it: "+l.Why)
		}
		err := apierrors.NewGenericServerResponse(l.Code, a.verb, res.gvr.GroupResource(), a.name, l.Why, 0, false)
		err.ErrStatus.Message = l.Why
		return err
	}
	return nil
}

func (s *Server) holds(res *resource) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.table(res.gvr).items) > 0
}

// resourceOf finds the kind a request is about in any version.
func (s *Server) resourceOf(a attributes) *resource {
	for _, r := range s.resources {
		if r.Group == a.group && r.Plural == a.resource {
			return r
		}
	}
	return nil
}

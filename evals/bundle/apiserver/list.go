package apiserver

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request, q request) {
	if v, err := strconv.ParseUint(r.URL.Query().Get("resourceVersion"), 10, 64); err == nil {
		s.mu.RLock()
		now := s.version
		s.mu.RUnlock()
		if v > now {
			fail(w, tooLarge(v, now))
			return
		}
	}
	u := s.find(q)
	if u == nil {
		fail(w, notFound(q))
		return
	}
	s.respond(w, r, q, http.StatusOK, u)
}

// page is one page of a list.
type page struct {
	items []*unstructured.Unstructured
	meta  metav1.ListMeta
}

func (s *Server) serveList(w http.ResponseWriter, r *http.Request, q request) {
	f := formOf(r)
	if f.none {
		notAcceptable(w)
		return
	}
	p, err := s.list(r, q)
	if err != nil {
		fail(w, err)
		return
	}
	switch f.as {
	case "Table":
		f.write(w, http.StatusOK, s.printed(q, f, p.items, p.meta))
		return
	case "PartialObjectMetadata":
		notAcceptable(w)
		return
	}
	objects := make([]any, 0, len(p.items))
	for _, u := range p.items {
		if f.as != "" {
			objects = append(objects, partial(u))
			continue
		}
		objects = append(objects, u.Object)
	}
	kind, apiVersion := q.resource.Kind+"List", q.gvr.GroupVersion().String()
	if f.as != "" {
		kind, apiVersion = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	f.write(w, http.StatusOK, map[string]any{"kind": kind, "apiVersion": apiVersion, "metadata": p.meta, "items": objects})
}

// list reads a page as the options of a request ask for it.
func (s *Server) list(r *http.Request, q request) (page, error) {
	o, err := listOptions(r, q, false)
	if err != nil {
		return page{}, err
	}
	var at uint64
	var after *row
	if o.Continue != "" {
		t, err := parseToken(o.Continue)
		if err != nil {
			return page{}, err
		}
		at, after = t.Version, &row{namespace: t.Namespace, name: t.Name}
	} else if o.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
		at = version(o)
	}
	all, seen, err := s.snapshot(q.gvr, q.namespace, at)
	if apierrors.IsResourceExpired(err) && after != nil {
		return page{}, s.expired(*after)
	}
	if err != nil {
		return page{}, err
	}
	if at == 0 && version(o) > seen {
		return page{}, tooLarge(version(o), seen)
	}
	if after != nil {
		all = all[sort.Search(len(all), func(i int) bool {
			return compare(row{namespace: all[i].GetNamespace(), name: all[i].GetName()}, *after) > 0
		}):]
	}
	sel := newSelector(o, q)
	p := page{meta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(seen, 10)}}
	for i, u := range all {
		if o.Limit > 0 && int64(len(p.items)) == o.Limit {
			rest := all[i:]
			// More may follow only if something does that is wanted.
			if !slices.ContainsFunc(rest, sel.matches) {
				break
			}
			last := p.items[len(p.items)-1]
			p.meta.Continue = token{Version: seen, Namespace: last.GetNamespace(), Name: last.GetName()}.String()
			if sel.all() {
				n := int64(len(rest))
				p.meta.RemainingItemCount = &n
			}
			break
		}
		if sel.matches(u) {
			p.items = append(p.items, u)
		}
	}
	return p, nil
}

// token says where a paged list goes on, and as of which version.
type token struct {
	Version   uint64 `json:"rv"`
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"name"`
}

// String gives the opaque form.
func (t token) String() string {
	raw, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parseToken(text string) (token, error) {
	var t token
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err == nil && t.Name == "" {
		err = fmt.Errorf("it names no object")
	}
	if err != nil {
		return t, apierrors.NewBadRequest("continue key is not valid: " + err.Error())
	}
	return t, nil
}

// expired refuses to go on with a list that has grown too old, and gives a
// token that goes on with what there is now.
func (s *Server) expired(after row) error {
	err := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, " +
		"or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list: " +
		"objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
	err.ErrStatus.Continue = token{Namespace: after.namespace, Name: after.name}.String()
	return err
}

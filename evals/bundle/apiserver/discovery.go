package apiserver

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiversion "k8s.io/apimachinery/pkg/version"
)

func (s *Server) serveVersion(w http.ResponseWriter) {
	v := s.bundle.Manifest.ServerVersion
	if v == "" {
		v = "v1.37.2"
	}
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	info := apiversion.Info{GitVersion: v, Major: parts[0], GitTreeState: "clean", Compiler: "gc", Platform: "linux/amd64", BuildDate: s.now().UTC().Format("2006-01-02T15:04:05Z")}
	if len(parts) > 1 {
		info.Minor = parts[1]
	}
	writeJSON(w, http.StatusOK, info)
}

// sub is a served subresource with what it takes and gives.
type sub struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

// served lists the subresources of a kind that this server answers.
func (r *resource) served() []sub {
	var out []sub
	for _, name := range r.Subresources {
		switch name {
		case "status":
			out = append(out, sub{name, r.gvk, []string{"get", "patch", "update"}})
		case "log":
			out = append(out, sub{name, r.gvk, []string{"get"}})
		case "scale":
			out = append(out, sub{name, scaleKind(), []string{"get", "patch", "update"}})
		case "eviction":
			out = append(out, sub{name, schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"}, []string{"create"}})
		case "binding":
			out = append(out, sub{name, schema.GroupVersionKind{Version: "v1", Kind: "Binding"}, []string{"create"}})
		}
	}
	return out
}

func kindToSingular(kind string) string { return strings.ToLower(kind) }

// all gives what is served, reviews included.
func (s *Server) all() []*resource {
	out := slices.Clone(s.resources)
	for _, r := range reviews() {
		out = append(out, &resource{Resource: r, gvr: gvr(r), gvk: schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}})
	}
	return out
}

// groups lists the API groups by name, each with its versions, the newest and
// most stable first.
func (s *Server) groups() []metav1.APIGroup {
	byName := map[string]*metav1.APIGroup{}
	var names []string
	for _, r := range s.all() {
		g := byName[r.Group]
		if g == nil {
			g = &metav1.APIGroup{Name: r.Group}
			byName[r.Group] = g
			names = append(names, r.Group)
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: r.gvr.GroupVersion().String(), Version: r.Version}
		if !slices.Contains(g.Versions, v) {
			g.Versions = append(g.Versions, v)
		}
	}
	slices.Sort(names)
	out := make([]metav1.APIGroup, 0, len(names))
	for _, n := range names {
		g := byName[n]
		slices.SortStableFunc(g.Versions, func(a, b metav1.GroupVersionForDiscovery) int {
			return -apiversion.CompareKubeAwareVersionStrings(a.Version, b.Version)
		})
		g.PreferredVersion = g.Versions[0]
		out = append(out, *g)
	}
	return out
}

func (s *Server) serveRoots(w http.ResponseWriter, r *http.Request, p string) {
	w.Header().Set("Vary", "Accept")
	if v := aggregated(r); v != "" {
		s.serveAggregated(w, p, v)
		return
	}
	if p == "/api" {
		out := metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}}}
		for _, g := range s.groups() {
			if g.Name == "" {
				for _, v := range g.Versions {
					out.Versions = append(out.Versions, v.Version)
				}
			}
		}
		writeJSON(w, http.StatusOK, out)
		return
	}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	for _, g := range s.groups() {
		if g.Name != "" {
			list.Groups = append(list.Groups, g)
		}
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Server) serveGroup(w http.ResponseWriter, name string) {
	for _, g := range s.groups() {
		if g.Name == name && name != "" {
			g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
			writeJSON(w, http.StatusOK, g)
			return
		}
	}
	noPage(w)
}

func (s *Server) serveGroupVersion(w http.ResponseWriter, gv schema.GroupVersion) {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, r := range s.all() {
		if r.gvr.GroupVersion() != gv {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: r.Plural, SingularName: r.Singular, Kind: r.Kind, Namespaced: r.Namespaced,
			ShortNames: r.ShortNames, Categories: r.Categories, Verbs: r.verbs()})
		for _, sub := range r.served() {
			a := metav1.APIResource{Name: r.Plural + "/" + sub.name, Kind: sub.kind.Kind, Namespaced: r.Namespaced, Verbs: sub.verbs}
			if sub.kind.GroupVersion() != gv {
				a.Group, a.Version = sub.kind.Group, sub.kind.Version
			}
			list.APIResources = append(list.APIResources, a)
		}
	}
	if len(list.APIResources) == 0 {
		noPage(w)
		return
	}
	writeJSON(w, http.StatusOK, list)
}

// aggregated tells the version in which a client takes all of discovery at
// once, empty if it does not.
func aggregated(r *http.Request) string {
	for clause := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		media, params, err := mime.ParseMediaType(clause)
		if err != nil || media != "application/json" {
			continue
		}
		switch {
		case params["as"] == "":
			return ""
		case params["as"] == "APIGroupDiscoveryList" && params["g"] == apidiscoveryv2.GroupName && (params["v"] == "v2" || params["v"] == "v2beta1"):
			return params["v"]
		}
	}
	return ""
}

// serveAggregated answers all of /api or /apis in one document. v2beta1 has the
// same form as v2.
func (s *Server) serveAggregated(w http.ResponseWriter, p, v string) {
	list := apidiscoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: apidiscoveryv2.GroupName + "/" + v}, Items: []apidiscoveryv2.APIGroupDiscovery{}}
	for _, g := range s.groups() {
		if (g.Name == "") != (p == "/api") {
			continue
		}
		d := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.Name}}
		for _, gv := range g.Versions {
			d.Versions = append(d.Versions, s.versionDiscovery(schema.GroupVersion{Group: g.Name, Version: gv.Version}))
		}
		list.Items = append(list.Items, d)
	}
	w.Header().Set("Content-Type", "application/json;g="+apidiscoveryv2.GroupName+";v="+v+";as=APIGroupDiscoveryList")
	raw, err := encode(list)
	if err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(raw)
}

func (s *Server) versionDiscovery(gv schema.GroupVersion) apidiscoveryv2.APIVersionDiscovery {
	kind := func(k schema.GroupVersionKind) *metav1.GroupVersionKind {
		return &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
	}
	out := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for _, r := range s.all() {
		if r.gvr.GroupVersion() != gv {
			continue
		}
		d := apidiscoveryv2.APIResourceDiscovery{Resource: r.Plural, ResponseKind: kind(r.gvk), Scope: apidiscoveryv2.ScopeCluster, SingularResource: r.Singular,
			Verbs: r.verbs(), ShortNames: r.ShortNames, Categories: r.Categories}
		if r.Namespaced {
			d.Scope = apidiscoveryv2.ScopeNamespace
		}
		for _, sub := range r.served() {
			d.Subresources = append(d.Subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: sub.name, ResponseKind: kind(sub.kind), Verbs: sub.verbs})
		}
		out.Resources = append(out.Resources, d)
	}
	return out
}

package sourcetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type kind struct {
	group, version, kind, resource string
	namespaced                     bool
	short                          []string
}

func (k kind) gr() schema.GroupResource {
	return schema.GroupResource{Group: k.group, Resource: k.resource}
}

func (k kind) gv() string { return schema.GroupVersion{Group: k.group, Version: k.version}.String() }

// builtin lists the kinds an API server of v1.37 has, as far as the tests need
// them: group/version resource Kind scope shortnames.
func builtin() []kind {
	const table = `
v1 pods Pod ns po
v1 nodes Node - no
v1 namespaces Namespace - ns
v1 services Service ns svc
v1 endpoints Endpoints ns ep
v1 events Event ns ev
v1 configmaps ConfigMap ns cm
v1 secrets Secret ns
v1 serviceaccounts ServiceAccount ns sa
v1 resourcequotas ResourceQuota ns quota
v1 limitranges LimitRange ns limits
v1 persistentvolumeclaims PersistentVolumeClaim ns pvc
v1 persistentvolumes PersistentVolume - pv
v1 replicationcontrollers ReplicationController ns rc
apps/v1 deployments Deployment ns deploy
apps/v1 replicasets ReplicaSet ns rs
apps/v1 statefulsets StatefulSet ns sts
apps/v1 daemonsets DaemonSet ns ds
apps/v1 controllerrevisions ControllerRevision ns
batch/v1 jobs Job ns
batch/v1 cronjobs CronJob ns cj
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler ns hpa
policy/v1 poddisruptionbudgets PodDisruptionBudget ns pdb
coordination.k8s.io/v1 leases Lease ns
discovery.k8s.io/v1 endpointslices EndpointSlice ns
events.k8s.io/v1 events Event ns ev
networking.k8s.io/v1 ingresses Ingress ns ing
networking.k8s.io/v1 ingressclasses IngressClass -
networking.k8s.io/v1 networkpolicies NetworkPolicy ns netpol
storage.k8s.io/v1 storageclasses StorageClass - sc
storage.k8s.io/v1 csidrivers CSIDriver -
storage.k8s.io/v1 csinodes CSINode -
storage.k8s.io/v1 volumeattachments VolumeAttachment -
scheduling.k8s.io/v1 priorityclasses PriorityClass - pc
node.k8s.io/v1 runtimeclasses RuntimeClass -
admissionregistration.k8s.io/v1 validatingwebhookconfigurations ValidatingWebhookConfiguration -
admissionregistration.k8s.io/v1 mutatingwebhookconfigurations MutatingWebhookConfiguration -
apiregistration.k8s.io/v1 apiservices APIService -
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition - crd,crds
resource.k8s.io/v1 resourceclaims ResourceClaim ns
resource.k8s.io/v1 resourceclaimtemplates ResourceClaimTemplate ns
resource.k8s.io/v1 deviceclasses DeviceClass -
resource.k8s.io/v1 resourceslices ResourceSlice -`
	var out []kind
	for line := range strings.SplitSeq(strings.TrimSpace(table), "\n") {
		f := strings.Fields(line)
		gv, err := schema.ParseGroupVersion(f[0])
		if err != nil {
			continue
		}
		k := kind{group: gv.Group, version: gv.Version, resource: f[1], kind: f[2], namespaced: f[3] == "ns"}
		if len(f) > 4 {
			k.short = strings.Split(f[4], ",")
		}
		out = append(out, k)
	}
	return out
}

func (s *Server) groupList() map[string]any {
	var names []string
	versions := map[string][]any{}
	for _, k := range s.kinds {
		if k.group == "" {
			continue
		}
		v := map[string]any{"groupVersion": k.gv(), "version": k.version}
		if !slices.Contains(names, k.group) {
			names = append(names, k.group)
		}
		if !slices.ContainsFunc(versions[k.group], func(o any) bool { return o.(map[string]any)["groupVersion"] == k.gv() }) {
			versions[k.group] = append(versions[k.group], v)
		}
	}
	groups := []any{}
	for _, n := range names {
		groups = append(groups, map[string]any{"name": n, "versions": versions[n], "preferredVersion": versions[n][0]})
	}
	return map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
}

func (s *Server) resourceList(group, version string) map[string]any {
	rs := []any{}
	for _, k := range s.kinds {
		if k.group == group && k.version == version {
			rs = append(rs, map[string]any{"name": k.resource, "singularName": strings.ToLower(k.kind), "namespaced": k.namespaced, "kind": k.kind, "verbs": []string{"get", "list", "watch"}, "shortNames": k.short})
		}
	}
	return map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": schema.GroupVersion{Group: group, Version: version}.String(), "resources": rs}
}

func (s *Server) refuses(verb string, gr schema.GroupResource, ns string) bool {
	return s.Forbid != nil && s.Forbid(verb, gr.String(), ns)
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, group, version string, rest []string) {
	ns := ""
	if rest[0] == "namespaces" && len(rest) > 2 {
		ns, rest = rest[1], rest[2:]
	}
	i := slices.IndexFunc(s.kinds, func(k kind) bool { return k.group == group && k.version == version && k.resource == rest[0] })
	if i < 0 {
		http.NotFound(w, r)
		return
	}
	k := s.kinds[i]
	verb := "list"
	if len(rest) > 1 {
		verb = "get"
	}
	sub := k.gr()
	if len(rest) > 2 {
		sub.Resource += "/" + rest[2]
	}
	if s.refuses(verb, sub, ns) {
		fail(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("%s is forbidden: User \"viewer\" cannot %s resource %q in API group %q", rest[0], verb, rest[0], group), "")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch len(rest) {
	case 1:
		s.list(w, r, k, ns)
	case 2:
		s.get(w, r, k, ns, rest[1])
	default:
		s.log(w, r, ns, rest[1])
	}
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, k kind, ns, name string) {
	for _, o := range s.objects[k.gr()] {
		if o.GetName() == name && o.GetNamespace() == ns {
			send(w, s.form(r, k, o))
			return
		}
	}
	fail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.gr(), name), name)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, k kind, ns string) {
	q := r.URL.Query()
	ls, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", err.Error(), "")
		return
	}
	fs, err := fields.ParseSelector(q.Get("fieldSelector"))
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", err.Error(), "")
		return
	}
	matched := []any{}
	for _, o := range s.objects[k.gr()] {
		if (ns == "" || o.GetNamespace() == ns) && ls.Matches(labels.Set(o.GetLabels())) && fieldsMatch(fs, o) {
			matched = append(matched, s.form(r, k, o))
		}
	}
	meta := map[string]any{"resourceVersion": "1"}
	from, _ := strconv.Atoi(q.Get("continue"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	from = min(from, len(matched))
	page := matched[from:]
	if limit > 0 && len(page) > limit {
		page = page[:limit]
		meta["continue"] = strconv.Itoa(from + limit)
		if ls.Empty() && fs.Empty() {
			meta["remainingItemCount"] = len(matched) - from - limit
		}
	}
	listKind, gv := k.kind+"List", k.gv()
	if s.metadataOnly(r) {
		listKind, gv = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	send(w, map[string]any{"kind": listKind, "apiVersion": gv, "metadata": meta, "items": page})
}

func fieldsMatch(sel fields.Selector, o *unstructured.Unstructured) bool {
	for _, req := range sel.Requirements() {
		v, _, _ := unstructured.NestedFieldNoCopy(o.Object, strings.Split(req.Field, ".")...)
		got := ""
		if v != nil {
			got = fmt.Sprint(v)
		}
		if (got == req.Value) != (req.Operator != "!=") {
			return false
		}
	}
	return true
}

func (s *Server) metadataOnly(r *http.Request) bool {
	return !s.NoMetadata && strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
}

func (s *Server) form(r *http.Request, k kind, o *unstructured.Unstructured) any {
	if s.metadataOnly(r) {
		return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o.Object["metadata"]}
	}
	return o.Object
}

func (s *Server) log(w http.ResponseWriter, r *http.Request, ns, pod string) {
	q := r.URL.Query()
	key := ns + "/" + pod + "/" + q.Get("container")
	if q.Get("previous") == "true" {
		key += ".previous"
	}
	text, ok := s.logs[key]
	if !ok {
		fail(w, http.StatusBadRequest, "BadRequest", "previous terminated container "+strconv.Quote(q.Get("container"))+" in pod "+strconv.Quote(pod)+" not found", pod)
		return
	}
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	if since, err := time.Parse(time.RFC3339, q.Get("sinceTime")); err == nil {
		lines = slices.DeleteFunc(slices.Clone(lines), func(l string) bool {
			stamp, _, _ := strings.Cut(l, " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			return err == nil && at.Before(since)
		})
	}
	if n, err := strconv.Atoi(q.Get("tailLines")); err == nil && n < len(lines) {
		lines = lines[len(lines)-n:]
	}
	out := strings.Join(lines, "")
	if n, err := strconv.Atoi(q.Get("limitBytes")); err == nil && n < len(out) {
		out = out[:n]
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(out))
}

// review answers SelfSubjectAccessReview and SelfSubjectRulesReview from Forbid.
func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", err.Error(), "")
		return
	}
	if strings.HasSuffix(r.URL.Path, "rulesreviews") {
		rule := map[string]any{"verbs": []string{"*"}, "apiGroups": []string{"*"}, "resources": []string{"*"}}
		if s.Forbid != nil {
			rule = map[string]any{"verbs": []string{"get", "list"}, "apiGroups": []string{""}, "resources": []string{"pods"}}
		}
		body["status"] = map[string]any{"incomplete": false, "nonResourceRules": []any{}, "resourceRules": []any{rule}}
		send(w, body)
		return
	}
	at := func(f string) string {
		v, _, _ := unstructured.NestedString(body, "spec", "resourceAttributes", f)
		return v
	}
	gr := schema.GroupResource{Group: at("group"), Resource: at("resource")}
	if sub := at("subresource"); sub != "" {
		gr.Resource += "/" + sub
	}
	body["status"] = map[string]any{"allowed": !s.refuses(at("verb"), gr, at("namespace"))}
	send(w, body)
}

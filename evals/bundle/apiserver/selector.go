package apiserver

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metainternalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// listOptions reads and checks the options of a list or watch, with the API
// server's own code.
func listOptions(r *http.Request, q request, watch bool) (internalversion.ListOptions, error) {
	var o internalversion.ListOptions
	if err := metainternalversionscheme.ParameterCodec.DecodeParameters(r.URL.Query(), metav1.SchemeGroupVersion, &o); err != nil {
		return o, apierrors.NewBadRequest(err.Error())
	}
	o.Watch = watch
	if errs := validation.ValidateListOptions(&o, true); len(errs) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	if v := o.ResourceVersion; v != "" {
		if _, err := strconv.ParseUint(v, 10, 64); err != nil {
			return o, apierrors.NewBadRequest(fmt.Sprintf("Invalid value for resourceVersion: %q", v))
		}
	}
	if o.LabelSelector == nil {
		o.LabelSelector = labels.Everything()
	}
	if o.FieldSelector == nil {
		o.FieldSelector = fields.Everything()
	}
	for _, req := range o.FieldSelector.Requirements() {
		if err := selectable(q.resource, req.Field); err != nil {
			return o, apierrors.NewBadRequest(err.Error())
		}
	}
	return o, nil
}

// version gives the resourceVersion of the options, 0 for none.
func version(o internalversion.ListOptions) uint64 {
	v, _ := strconv.ParseUint(o.ResourceVersion, 10, 64)
	return v
}

// selector is what a list or watch asks for.
type selector struct {
	namespace string
	labels    labels.Selector
	fields    []fields.Requirement
}

func newSelector(o internalversion.ListOptions, q request) selector {
	return selector{namespace: q.namespace, labels: o.LabelSelector, fields: o.FieldSelector.Requirements()}
}

// all reports whether nothing but a namespace is asked for.
func (s selector) all() bool { return s.labels.Empty() && len(s.fields) == 0 }

func (s selector) matches(u *unstructured.Unstructured) bool {
	if u == nil || s.namespace != "" && u.GetNamespace() != s.namespace {
		return false
	}
	if !s.labels.Empty() && !s.labels.Matches(labels.Set(u.GetLabels())) {
		return false
	}
	for _, req := range s.fields {
		if (fieldValue(u, req.Field) == req.Value) == (req.Operator == "!=") {
			return false
		}
	}
	return true
}

// selectable says which field labels a kind supports beside its name and
// namespace, as the conversion functions of kube-apiserver v1.37 register them.
// A CustomResourceDefinition names its own.
func selectable(r *resource, field string) error {
	if field == "metadata.name" || field == "metadata.namespace" && r.Namespaced {
		return nil
	}
	if r.custom != nil {
		if slices.Contains(r.custom.selectable, field) {
			return nil
		}
		return fmt.Errorf("field label not supported: %s", field)
	}
	known := map[string]string{
		"pods":                              "spec.nodeName spec.host spec.restartPolicy spec.schedulerName spec.serviceAccountName spec.hostNetwork status.phase status.podIP status.podIPs status.nominatedNodeName",
		"events":                            "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid involvedObject.apiVersion involvedObject.resourceVersion involvedObject.fieldPath reason reportingComponent source type",
		"events.events.k8s.io":              "regarding.kind regarding.namespace regarding.name regarding.uid regarding.apiVersion regarding.resourceVersion regarding.fieldPath reason reportingController type",
		"nodes":                             "spec.unschedulable",
		"namespaces":                        "status.phase",
		"secrets":                           "type",
		"services":                          "spec.clusterIP spec.type",
		"replicationcontrollers":            "status.replicas",
		"replicasets.apps":                  "status.replicas",
		"jobs.batch":                        "status.successful",
		"resourceslices.resource.k8s.io":    "spec.nodeName spec.driver spec.pool.name",
		"certificatesigningrequests." + csr: "spec.signerName",
	}
	fields, special := known[r.gvr.GroupResource().String()]
	if slices.Contains(strings.Fields(fields), field) {
		return nil
	}
	if special {
		return fmt.Errorf("field label not supported: %s", field)
	}
	return fmt.Errorf("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", field)
}

const csr = "certificates.k8s.io"

// fieldValue gives a selectable field as text.
func fieldValue(u *unstructured.Unstructured, field string) string {
	path := strings.Split(field, ".")
	switch field {
	case "metadata.name":
		return u.GetName()
	case "metadata.namespace":
		return u.GetNamespace()
	case "spec.host":
		path = []string{"spec", "nodeName"}
	case "source":
		// The component of the reporter, wherever the event has it.
		v, _, _ := unstructured.NestedString(u.Object, "source", "component")
		if v == "" {
			v, _, _ = unstructured.NestedString(u.Object, "reportingComponent")
		}
		return v
	case "status.podIPs":
		ips, _, _ := unstructured.NestedSlice(u.Object, "status", "podIPs")
		var out []string
		for _, ip := range ips {
			if m, ok := ip.(map[string]any); ok {
				out = append(out, fmt.Sprint(m["ip"]))
			}
		}
		return strings.Join(out, ",")
	case "status.successful":
		path = []string{"status", "succeeded"}
	}
	v, ok, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	if err == nil && ok && v != nil {
		return fmt.Sprint(v)
	}
	switch field {
	case "spec.unschedulable", "spec.hostNetwork":
		return "false"
	case "status.replicas", "status.successful":
		return "0"
	}
	return ""
}

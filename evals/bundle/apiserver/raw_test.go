package apiserver

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newAnswer() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// ask sends one request; headers are "Name: value".
func ask(t testing.TB, s *Server, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	rec := newAnswer()
	s.ServeHTTP(rec, r)
	return rec
}

// status reads an answer as the API server's Status, with its code.
func status(t testing.TB, rec *httptest.ResponseRecorder) metav1.Status {
	t.Helper()
	var st metav1.Status
	if err := json.Unmarshal(rec.Body.Bytes(), &st); err != nil || st.Kind != "Status" || st.APIVersion != "v1" {
		t.Errorf("the answer is no Status: %v\n%s", err, rec.Body)
	}
	if st.Status == metav1.StatusFailure && int(st.Code) != rec.Code {
		t.Errorf("Status code %d in an answer of %d", st.Code, rec.Code)
	}
	return st
}

// TestAnswers goes through what a server says to requests that are wrong, or
// ask for something special.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const merge, pod = "Content-Type: application/merge-patch+json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"m","image":"i"}]}}`
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		code                     int
		reason                   metav1.StatusReason
		says                     string
	}{
		{"no such object", "GET", "/api/v1/namespaces/shop/pods/x", "", nil, 404, metav1.StatusReasonNotFound, `pods \"x\" not found`},
		{"no such custom object", "GET", "/apis/example.com/v1/namespaces/shop/widgets/x", "", nil, 404, metav1.StatusReasonNotFound, `widgets.example.com \"x\" not found`},
		{"a field selector that is not supported", "GET", "/api/v1/pods?fieldSelector=spec.color%3Dred", "", nil, 400, metav1.StatusReasonBadRequest, "field label not supported: spec.color"},
		{"a field selector on a kind that has none", "GET", "/apis/apps/v1/deployments?fieldSelector=spec.replicas%3D2", "", nil, 400, metav1.StatusReasonBadRequest, `is not a known field selector: only \"metadata.name\", \"metadata.namespace\"`},
		{"a broken label selector", "GET", "/api/v1/pods?labelSelector=a%20in%20b", "", nil, 400, metav1.StatusReasonBadRequest, "unable to parse requirement"},
		{"a broken continue", "GET", "/api/v1/pods?continue=%21", "", nil, 400, metav1.StatusReasonBadRequest, "continue key is not valid"},
		{"a broken limit", "GET", "/api/v1/pods?limit=x", "", nil, 400, metav1.StatusReasonBadRequest, "invalid syntax"},
		{"a broken version", "GET", "/api/v1/pods?resourceVersion=x", "", nil, 400, metav1.StatusReasonBadRequest, "Invalid value for resourceVersion"},
		{"a version that is to come", "GET", "/api/v1/pods?resourceVersion=99999999", "", nil, 504, metav1.StatusReasonTimeout, "Too large resource version"},
		{"a version of one object that is to come", "GET", "/api/v1/namespaces/shop/pods/orders?resourceVersion=99999999", "", nil, 504, metav1.StatusReasonTimeout, "Too large resource version"},
		{"a match without a version", "GET", "/api/v1/pods?resourceVersionMatch=Exact", "", nil, 422, metav1.StatusReasonInvalid, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"initial events without a match", "GET", "/api/v1/pods?watch=1&sendInitialEvents=true", "", nil, 422, metav1.StatusReasonInvalid, "sendInitialEvents requires setting resourceVersionMatch"},
		{"a form nobody speaks", "GET", "/api/v1/pods", "", []string{"Accept: application/vnd.kubernetes.protobuf"}, 406, metav1.StatusReasonNotAcceptable, "application/json"},
		{"a method of no use", "PUT", "/api/v1/pods", "", nil, 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"create in no namespace", "POST", "/api/v1/pods", pod, nil, 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"create in a namespace that is not there", "POST", "/api/v1/namespaces/none/pods", pod, nil, 404, metav1.StatusReasonNotFound, `namespaces \"none\" not found`},
		{"create in another namespace", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"x"`, `"x","namespace":"team"`, 1), nil, 400, metav1.StatusReasonBadRequest, "does not match the namespace sent on the request"},
		{"create twice", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"x"`, `"orders"`, 1), nil, 409, metav1.StatusReasonAlreadyExists, `pods \"orders\" already exists`},
		{"create with a version", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"x"`, `"x","resourceVersion":"3"`, 1), nil, 400, metav1.StatusReasonBadRequest, "resourceVersion should not be set"},
		{"create without a name", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"name":"x"`, ``, 1), nil, 422, metav1.StatusReasonInvalid, "name or generateName is required"},
		{"create with a bad name", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"x"`, `"X_"`, 1), nil, 422, metav1.StatusReasonInvalid, "lowercase RFC 1123 subdomain"},
		{"create with a bad label", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"x"`, `"x","labels":{"a b":"c"}`, 1), nil, 422, metav1.StatusReasonInvalid, "metadata.labels"},
		{"create of another kind", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"Pod"`, `"Service"`, 1), nil, 400, metav1.StatusReasonBadRequest, "cannot be handled as a Pod"},
		{"create of another version", "POST", "/apis/apps/v1/namespaces/shop/deployments", `{"apiVersion":"apps/v1beta1","kind":"Deployment","metadata":{"name":"x"}}`, nil, 400, metav1.StatusReasonBadRequest, "does not match the expected API version (apps/v1)"},
		{"a wrong type", "POST", "/api/v1/namespaces/shop/pods", strings.Replace(pod, `"m"`, `7`, 1), nil, 400, metav1.StatusReasonBadRequest, "cannot unmarshal number into Go struct field"},
		{"a wrong type in a custom object's metadata", "POST", "/apis/example.com/v1/namespaces/shop/widgets", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"x","labels":{"a":1}}}`, nil, 400, metav1.StatusReasonBadRequest, "cannot unmarshal number"},
		{"an unknown field", "POST", "/api/v1/namespaces/shop/pods?fieldValidation=Strict", strings.Replace(pod, `"image"`, `"imag":1,"image"`, 1), nil, 400, metav1.StatusReasonBadRequest, `strict decoding error: unknown field \"spec.containers[0].imag\"`},
		{"no JSON", "POST", "/api/v1/namespaces/shop/pods", `{`, nil, 400, metav1.StatusReasonBadRequest, ""},
		{"no object", "POST", "/api/v1/namespaces/shop/pods", `null`, nil, 400, metav1.StatusReasonBadRequest, "no object"},
		{"a body in no known form", "POST", "/api/v1/namespaces/shop/pods", `x`, []string{"Content-Type: text/html"}, 415, metav1.StatusReasonUnsupportedMediaType, "accepted media types include"},
		{"broken protobuf", "POST", "/api/v1/namespaces/shop/pods", `k8s`, []string{"Content-Type: application/vnd.kubernetes.protobuf"}, 400, metav1.StatusReasonBadRequest, ""},
		{"YAML with aliases", "POST", "/api/v1/namespaces/shop/configmaps", "a: &a x\nb: *a\n", []string{"Content-Type: application/yaml"}, 400, metav1.StatusReasonBadRequest, "aliases"},
		{"too large a body", "POST", "/api/v1/namespaces/shop/pods", strings.Repeat(" ", maxBody+1), nil, 413, metav1.StatusReasonRequestEntityTooLarge, ""},
		{"dry run of no sort", "POST", "/api/v1/namespaces/shop/pods?dryRun=Some", pod, nil, 422, metav1.StatusReasonInvalid, "dryRun"},
		{"validation of no sort", "POST", "/api/v1/namespaces/shop/pods?fieldValidation=Some", pod, nil, 422, metav1.StatusReasonInvalid, "fieldValidation"},
		{"update of another name", "PUT", "/api/v1/namespaces/shop/pods/orders", pod, nil, 400, metav1.StatusReasonBadRequest, "does not match the name on the URL"},
		{"update of nothing", "PUT", "/api/v1/namespaces/shop/pods/x", pod, nil, 404, metav1.StatusReasonNotFound, ""},
		{"update of a custom object without a version", "PUT", "/apis/example.com/v1/namespaces/shop/widgets/red-one", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"red-one"}}`, nil, 422, metav1.StatusReasonInvalid, "must be specified for an update"},
		{"patch of no sort", "PATCH", "/api/v1/namespaces/shop/pods/orders", `{}`, []string{"Content-Type: application/json"}, 415, metav1.StatusReasonUnsupportedMediaType, "application/strategic-merge-patch+json"},
		{"patch of nothing", "PATCH", "/api/v1/namespaces/shop/pods/x", `{}`, []string{merge}, 404, metav1.StatusReasonNotFound, ""},
		{"patch that is no JSON", "PATCH", "/api/v1/namespaces/shop/pods/orders", `{`, []string{merge}, 400, metav1.StatusReasonBadRequest, ""},
		{"patch of the name", "PATCH", "/api/v1/namespaces/shop/pods/orders", `{"metadata":{"name":"y"}}`, []string{merge}, 400, metav1.StatusReasonBadRequest, "does not match the name on the URL"},
		{"patch of the kind", "PATCH", "/api/v1/namespaces/shop/pods/orders", `{"kind":"Node"}`, []string{merge}, 400, metav1.StatusReasonBadRequest, "cannot be handled as a Pod"},
		{"patch of an old version", "PATCH", "/api/v1/namespaces/shop/pods/orders", `{"metadata":{"resourceVersion":"1","labels":{"a":"b"}}}`, []string{merge}, 409, metav1.StatusReasonConflict, "the object has been modified"},
		{"patch of another uid", "PATCH", "/api/v1/namespaces/shop/pods/orders", `{"metadata":{"uid":"1"}}`, []string{merge}, 409, metav1.StatusReasonConflict, "Precondition failed: UID in precondition"},
		{"JSON patch whose test fails", "PATCH", "/api/v1/namespaces/shop/pods/orders", `[{"op":"test","path":"/spec/nodeName","value":"x"}]`, []string{"Content-Type: application/json-patch+json"}, 422, metav1.StatusReasonInvalid, ""},
		{"JSON patch of no sort", "PATCH", "/api/v1/namespaces/shop/pods/orders", `{}`, []string{"Content-Type: application/json-patch+json"}, 400, metav1.StatusReasonBadRequest, ""},
		{"apply without a manager", "PATCH", "/api/v1/namespaces/shop/configmaps/settings", `{}`, []string{"Content-Type: application/apply-patch+yaml"}, 422, metav1.StatusReasonInvalid, "fieldManager"},
		{"apply of another name", "PATCH", "/api/v1/namespaces/shop/configmaps/settings?fieldManager=me", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}`, []string{"Content-Type: application/apply-patch+yaml"}, 400, metav1.StatusReasonBadRequest, "name in URL"},
		{"apply with managers", "PATCH", "/api/v1/namespaces/shop/configmaps/settings?fieldManager=me", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","managedFields":[{"manager":"x"}]}}`, []string{"Content-Type: application/apply-patch+yaml"}, 400, metav1.StatusReasonBadRequest, "metadata.managedFields must be nil"},
		{"apply of no object", "PATCH", "/api/v1/namespaces/shop/configmaps/settings?fieldManager=me", `[]`, []string{"Content-Type: application/apply-patch+yaml"}, 400, metav1.StatusReasonBadRequest, "no object"},
		{"apply of a status to nothing", "PATCH", "/api/v1/namespaces/shop/pods/x/status?fieldManager=me", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`, []string{"Content-Type: application/apply-patch+yaml"}, 404, metav1.StatusReasonNotFound, ""},
		{"delete of nothing", "DELETE", "/api/v1/namespaces/shop/pods/x", "", nil, 404, metav1.StatusReasonNotFound, ""},
		{"delete of another uid", "DELETE", "/api/v1/namespaces/shop/pods/orders", `{"preconditions":{"uid":"1"}}`, nil, 409, metav1.StatusReasonConflict, "UID in precondition: 1"},
		{"delete of another version", "DELETE", "/api/v1/namespaces/shop/pods/orders", `{"preconditions":{"resourceVersion":"1"}}`, nil, 409, metav1.StatusReasonConflict, "ResourceVersion in precondition: 1"},
		{"delete with options of no sort", "DELETE", "/api/v1/namespaces/shop/pods/orders", `{"propagationPolicy":"Sideways"}`, nil, 422, metav1.StatusReasonInvalid, "propagationPolicy"},
		{"delete of a namespace that stays", "DELETE", "/api/v1/namespaces/default", "", nil, 403, metav1.StatusReasonForbidden, "this namespace may not be deleted"},
		{"scale of nothing", "GET", "/apis/apps/v1/namespaces/shop/deployments/x/scale", "", nil, 404, metav1.StatusReasonNotFound, ""},
		{"scale below nothing", "PATCH", "/apis/apps/v1/namespaces/shop/deployments/web/scale", `{"spec":{"replicas":-1}}`, []string{merge}, 422, metav1.StatusReasonInvalid, "must be greater than or equal to 0"},
		{"scale of an old version", "PATCH", "/apis/apps/v1/namespaces/shop/deployments/web/scale", `{"metadata":{"resourceVersion":"1"},"spec":{"replicas":1}}`, []string{merge}, 409, metav1.StatusReasonConflict, "the object has been modified"},
		{"create of a scale", "POST", "/apis/apps/v1/namespaces/shop/deployments/web/scale", `{}`, nil, 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"exec", "POST", "/api/v1/namespaces/shop/pods/orders/exec?command=ls", "", nil, 400, metav1.StatusReasonBadRequest, "a bundle runs no containers"},
		{"a review of a review", "GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", nil, 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"a review of nothing", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{}`, nil, 400, metav1.StatusReasonBadRequest, "exactly one of"},
		{"rules of no namespace", "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", `{}`, nil, 400, metav1.StatusReasonBadRequest, "no namespace on request"},
		{"a review of nobody", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", `{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}`, nil, 400, metav1.StatusReasonBadRequest, "user or group"},
		{"a review of somebody and nothing", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", `{"spec":{"user":"ann"}}`, nil, 400, metav1.StatusReasonBadRequest, "exactly one of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := shop(t)
			before := s.version
			rec := ask(t, s, c.method, c.path, c.body, c.headers...)
			st := status(t, rec)
			if rec.Code != c.code || st.Reason != c.reason || st.Status != metav1.StatusFailure {
				t.Errorf("%d %s, want %d %s: %s", rec.Code, st.Reason, c.code, c.reason, rec.Body)
			}
			has(t, rec.Body.String(), c.says)
			if s.version != before {
				t.Error("a refused request has changed something")
			}
		})
	}
}

// TestNoPage: clients tell a path that is not served from an object that is
// not there by the answer's being no Status.
func TestNoPage(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for _, p := range []string{"/", "/apiz", "/api/v2", "/api/v1/flops", "/apis/none.example.com", "/apis/none.example.com/v1", "/apis/apps/v1/flops", "/apis/apps/v1beta1/deployments",
		"/api/v1/pods/orders", "/api/v1/namespaces/shop/nodes", "/api/v1/namespaces/shop/nodes/gpu-1", "/api/v1/namespaces/shop/configmaps/settings/status", "/api/v1/namespaces/shop/pods/orders/none",
		"/apis/example.com/v1/gadgets/x/scale", "/api/v1/namespaces//pods", "/openapi/v3/apis/none/v1", "/openapi/v3x", "/metrics", "/apis/apps/v1/namespaces/shop/deployments/web/log"} {
		rec := ask(t, s, http.MethodGet, p, "")
		if rec.Code != http.StatusNotFound || rec.Body.String() != "404 page not found\n" {
			t.Errorf("%s: %d %s", p, rec.Code, rec.Body)
		}
	}
	for _, p := range []string{"/healthz", "/readyz", "/livez", "/version", "/api", "/apis", "/apis/apps", "/apis/apps/v1", "/api/v1/", "/openapi/v3", "/openapi/v2"} {
		if rec := ask(t, s, http.MethodGet, p, ""); rec.Code != http.StatusOK {
			t.Errorf("%s: %d %s", p, rec.Code, rec.Body)
		}
	}
}

// TestForms reads one object and a list in each form.
func TestForms(t *testing.T) {
	t.Parallel()
	s := shop(t)
	table := "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	has(t, ask(t, s, "GET", "/api/v1/namespaces/shop/pods/orders", "", "Accept: application/yaml").Body.String(), "kind: Pod\n")
	has(t, ask(t, s, "GET", "/api/v1/namespaces/shop/pods", "", "Accept: application/yaml, application/json").Body.String(), "kind: PodList\n")
	has(t, ask(t, s, "GET", "/api/v1/namespaces/shop/pods", "", "Accept: application/vnd.kubernetes.protobuf, */*").Body.String(), `"kind":"PodList"`)
	has(t, ask(t, s, "GET", "/api/v1/namespaces/shop/pods", "", "Accept: application/json;as=Unheard;v=v1;g=meta.k8s.io,application/json").Body.String(), `"kind":"PodList"`)
	has(t, ask(t, s, "GET", "/api/v1/namespaces/shop/pods", "", "Accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").Body.String(), `"kind":"PartialObjectMetadataList"`, `"kind":"PartialObjectMetadata"`)
	one := ask(t, s, "GET", "/api/v1/namespaces/shop/pods/orders", "", "Accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").Body.String()
	has(t, one, `"kind":"PartialObjectMetadata"`)
	if strings.Contains(one, "containers") {
		t.Errorf("metadata holds a spec: %s", one)
	}
	for policy, want := range map[string]string{"": `"kind":"PartialObjectMetadata"`, "Metadata": `"kind":"PartialObjectMetadata"`, "Object": `"containers"`, "None": `"object":null`} {
		got := ask(t, s, "GET", "/api/v1/namespaces/shop/pods?includeObject="+policy, "", table).Body.String()
		has(t, got, `"kind":"Table"`, `"name":"Nominated Node","type":"string","format":"","description":"","priority":1`, want)
	}
	w := ask(t, s, "GET", "/api/v1/namespaces/shop/pods?watch=1&timeoutSeconds=1&fieldSelector=status.phase%3DPending", "", table).Body.String()
	if n := strings.Count(w, `"name":"Nominated Node"`); n != 1 || strings.Count(w, `"type":"ADDED"`) != 2 {
		t.Errorf("a watch of tables sends its columns %d times:\n%s", n, w)
	}
	if rec := ask(t, s, "GET", "/api/v1/namespaces/shop/pods?watch=1", "", "Accept: application/yaml"); rec.Code != http.StatusNotAcceptable {
		t.Errorf("a watch in YAML: %d", rec.Code)
	}
}

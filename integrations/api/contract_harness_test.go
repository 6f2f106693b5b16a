package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
)

// contract holds every exchange against the document and remembers which of its
// answers were seen.
type contract struct {
	t   *testing.T
	r   *running
	doc *openapi3.T

	mu   sync.Mutex
	seen map[string]bool // "operation status"
}

func newContract(t *testing.T, r *running) *contract {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &contract{t: t, r: r, doc: doc, seen: map[string]bool{}}
}

// route finds the operation of a request: the path with the fewest parameters.
func (c *contract) route(q *http.Request) (*routers.Route, map[string]string) {
	parts := strings.Split(q.URL.EscapedPath(), "/")
	var best *routers.Route
	var given map[string]string
	for path, item := range c.doc.Paths.Map() {
		op, params := item.GetOperation(q.Method), map[string]string{}
		want := strings.Split(path, "/")
		fits := op != nil && len(want) == len(parts)
		for i := 0; fits && i < len(want); i++ {
			if name, ok := strings.CutPrefix(want[i], "{"); ok {
				params[strings.TrimSuffix(name, "}")] = parts[i]
			} else {
				fits = want[i] == parts[i]
			}
		}
		if fits && (best == nil || len(params) < len(given)) {
			best, given = &routers.Route{Spec: c.doc, Path: path, PathItem: item, Method: q.Method, Operation: op}, params
		}
	}
	return best, given
}

// sent is one request of the contract.
type sent struct {
	as, method, path, body string
	header                 map[string]string
	// bad says that the request itself breaks the document.
	bad bool
}

// do sends a request, holds it and its answer against the document, and gives the answer.
func (c *contract) do(s sent) (int, []byte, http.Header) {
	c.t.Helper()
	q := c.r.request(c.t, s.as, s.method, s.path)
	if s.body != "" {
		q.Body, q.ContentLength = io.NopCloser(strings.NewReader(s.body)), int64(len(s.body))
		q.Header.Set("Content-Type", "application/json")
	}
	for k, v := range s.header {
		q.Header.Set(k, v)
	}
	route, params := c.route(q)
	if route == nil {
		c.t.Fatalf("%s %s is not in the document", s.method, s.path)
	}
	in := &openapi3filter.RequestValidationInput{Request: q.Clone(c.t.Context()), PathParams: params, Route: route, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: false,
	}}
	in.Request.Body = io.NopCloser(strings.NewReader(s.body))
	if err := openapi3filter.ValidateRequest(c.t.Context(), in); (err != nil) != s.bad {
		c.t.Errorf("%s %s %.200s: the document says %v", s.method, s.path, s.body, err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	id := route.Operation.OperationID
	if route.Operation.Responses.Status(resp.StatusCode) == nil {
		c.t.Errorf("%s answers %d, which the document does not name: %s", id, resp.StatusCode, raw)
	}
	media := resp.Header.Get("Content-Type")
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	out.SetBodyBytes(raw)
	if !strings.HasPrefix(media, "application/json") { // texts are only held by their content type
		out.Options.ExcludeResponseBody = true
		if want := route.Operation.Responses.Status(resp.StatusCode); want != nil && resp.StatusCode/100 == 2 && len(raw) > 0 && want.Value.Content[media] == nil && want.Value.Content.Get(media) == nil {
			c.t.Errorf("%s answers with %q, which the document does not name", id, media)
		}
	}
	if err := openapi3filter.ValidateResponse(c.t.Context(), out); err != nil {
		c.t.Errorf("%s %s, %d: %v\n%.400s", s.method, s.path, resp.StatusCode, err, raw)
	}
	if resp.StatusCode >= 400 {
		var p access.Problem
		if err := json.Unmarshal(raw, &p); err != nil || p.Error.Code == "" || p.Error.Message == "" {
			c.t.Errorf("%s: the error %d is %s", id, resp.StatusCode, raw)
		}
	}
	c.mu.Lock()
	c.seen[id+" "+strconv.Itoa(resp.StatusCode)] = true
	c.mu.Unlock()
	return resp.StatusCode, raw, resp.Header
}

// want sends a request and fails when the status is another one; say has to be in the
// answer.
func (c *contract) want(status int, say string, s sent) []byte {
	c.t.Helper()
	got, raw, _ := c.do(s)
	if got != status || !strings.Contains(string(raw), say) {
		c.t.Errorf("%s %s %.200s: %d %.300s, want %d with %q", s.method, s.path, s.body, got, raw, status, say)
	}
	return raw
}

func read[T any](t *testing.T, raw []byte) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %.400s", err, raw)
	}
	return v
}

// every gives the operations of the document by their id.
func (c *contract) every() map[string]sent {
	out := map[string]sent{}
	for path, item := range c.doc.Paths.Map() {
		for method, op := range item.Operations() {
			out[op.OperationID] = sent{method: method, path: path}
		}
	}
	return out
}

const noRun, noSession, noPlan = "run-00000000000000ff", "s-00000000000000ff", "plan-0000000000ff"

// real puts ids of things that are not there into a path of the document.
func (s sent) real() string {
	id := noSession
	switch {
	case strings.Contains(s.path, "/plans/"):
		id = noPlan
	case strings.Contains(s.path, "/runs/"):
		id = noRun
	}
	return strings.NewReplacer("{id}", id, "{evidence}", "E1", "{digest}", "sha256:"+strings.Repeat("0", 64)).Replace(s.path)
}

// bodyOf gives the smallest document that each operation takes.
func bodyOf(id string) string {
	return map[string]string{
		"createInvestigation": `{"question":"is namespace shop healthy"}`, "continueInvestigation": `{"question":"why"}`, "cancelInvestigation": `{}`,
		"proposePlan": `{"run":"` + noRun + `"}`, "approvePlan": `{"digest":"sha256:0"}`, "rejectPlan": `{"comment":"no"}`, "revokeApproval": `{}`, "commentPlan": `{"comment":"hm"}`,
		"undoPlan": `{"reason":"it was wrong"}`, "resetBreaker": `{"reason":"mended"}`, "setModel": `{"model":"offline"}`, "mergeSession": `{"into":"s-00000000000000aa"}`,
		"noteAlerts":  `{"resolved":true}`,
		"linkSession": `{"surface":"slack","key":"C1/1"}`, "followAfter": `{}`,
	}[id]
}

func query(id string) string {
	switch id {
	case "unlinkSession", "findLink":
		return "?surface=slack&key=C1%2F1"
	}
	return ""
}

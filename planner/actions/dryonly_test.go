package actions

import (
	"net/http"
	"strings"
	"testing"
)

type passed struct{ n int }

func (p *passed) RoundTrip(*http.Request) (*http.Response, error) {
	p.n++
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// Planning's client lets through what reads and what is a dry run, and nothing else.
func TestDryOnly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		method, url, body string
		ok                bool
	}{
		{"GET", "/api/v1/pods", "", true},
		{"POST", "/api/v1/namespaces/x/pods", "{}", false},
		{"POST", "/api/v1/namespaces/x/pods?dryRun=All", "{}", true},
		{"POST", "/api/v1/namespaces/x/pods?dryRun=", "{}", false},
		{"POST", "/api/v1/namespaces/x/pods?dryRun=All&dryRun=None", "{}", false},
		{"POST", "/api/v1/namespaces/x/pods?dryrun=All", "{}", false},
		{"PATCH", "/api/v1/namespaces/x/pods/p", "[]", false},
		{"PATCH", "/api/v1/namespaces/x/pods/p?dryRun=All", "[]", true},
		{"PUT", "/api/v1/namespaces/x/pods/p", "{}", false},
		{"DELETE", "/api/v1/namespaces/x/pods/p", "", false},
		{"DELETE", "/api/v1/namespaces/x/pods/p", `{"dryRun":["All"]}`, true},
		{"DELETE", "/api/v1/namespaces/x/pods/p", `{"dryRun":[]}`, false},
		{"DELETE", "/api/v1/namespaces/x/pods/p", `{"dryRun":["None"]}`, false},
		{"DELETE", "/api/v1/namespaces/x/pods/p", `not json`, false},
		{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "{}", true},
		{"POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}", true},
		{"POST", "/apis/authentication.k8s.io/v1/tokenreviews", "{}", false},
		{"CONNECT", "/api/v1/namespaces/x/pods/p/exec", "", false},
	} {
		p := &passed{}
		var body *strings.Reader
		r, err := http.NewRequestWithContext(t.Context(), tc.method, "http://server"+tc.url, http.NoBody)
		if tc.body != "" {
			body = strings.NewReader(tc.body)
			r, err = http.NewRequestWithContext(t.Context(), tc.method, "http://server"+tc.url, body)
		}
		if err != nil {
			t.Fatal(err)
		}
		res, err := DryOnly(p).RoundTrip(r)
		if (err == nil) != tc.ok || (p.n == 1) != tc.ok {
			t.Errorf("%s %s %s: %v, passed on %d times", tc.method, tc.url, tc.body, err, p.n)
		}
		if res != nil {
			_ = res.Body.Close()
		}
	}
}

package apiserver

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzRequest sends anything to a server: it answers, and in JSON where it
// fails, and lives on.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][5]string{
		{"GET", "/api/v1/namespaces/shop/pods?limit=1&labelSelector=app", "", "application/json;as=Table;v=v1;g=meta.k8s.io", ""},
		{"GET", "/api/v1/namespaces/shop/pods/orders/log?container=main&previous=true&tailLines=3&sinceSeconds=9&limitBytes=4", "", "", ""},
		{"GET", "/apis/example.com/v1/widgets?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", ""},
		{"GET", "/api/v1/pods?continue=eyJydiI6MSwibmFtZSI6ImEifQ&fieldSelector=spec.nodeName!%3Da", "", "application/yaml", ""},
		{"POST", "/api/v1/namespaces/shop/configmaps", `{"metadata":{"generateName":"a-"},"data":{"a":"b"}}`, "", "application/json"},
		{"POST", "/api/v1/namespaces/shop/configmaps", "metadata: {name: x}\n", "", "application/yaml"},
		{"POST", "/api/v1/namespaces/shop/pods", "k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\x00\x1a\x00\x22\x00", "", "application/vnd.kubernetes.protobuf"},
		{"PUT", "/apis/apps/v1/namespaces/shop/deployments/web", `{"metadata":{"name":"web"},"spec":{"replicas":3}}`, "", ""},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/web", `{"spec":{"template":{"spec":{"containers":[{"name":"main","$patch":"delete"}]}}}}`, "", "application/strategic-merge-patch+json"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/web", `[{"op":"move","from":"/spec","path":"/spec/a"}]`, "", "application/json-patch+json"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=a&force=true", "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 2}\n", "", "application/apply-patch+yaml"},
		{"PATCH", "/apis/example.com/v1/namespaces/shop/widgets/red-one/scale", `{"spec":{"replicas":3}}`, "", "application/merge-patch+json"},
		{"DELETE", "/api/v1/namespaces/team", `{"propagationPolicy":"Foreground"}`, "", ""},
		{"DELETE", "/api/v1/namespaces/shop/pods?labelSelector=app", "", "", ""},
		{"POST", "/api/v1/namespaces/shop/pods/orders/eviction", `{}`, "", ""},
		{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"spec":{"resourceAttributes":{"verb":"*"}}}`, "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	b := openShop(f)
	f.Fuzz(func(t *testing.T, method, path, body, accept, contentType string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "/openapi/") {
			return
		}
		switch method {
		case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		default:
			return
		}
		s := newServer(t, b)
		// A watch goes on until its client leaves.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, method, "/", strings.NewReader(body))
		r.URL = u
		r.Header.Set("Accept", accept)
		r.Header.Set("Content-Type", contentType)
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		if rec.Code < 200 || rec.Code > 599 {
			t.Errorf("code %d", rec.Code)
		}
		if rec.Code >= 400 && rec.Body.String() != "404 page not found\n" && !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%d is no JSON: %s", rec.Code, rec.Body)
		}
		if rec.Code == http.StatusInternalServerError && strings.Contains(rec.Body.String(), " at evals/") {
			t.Errorf("a panic: %s", rec.Body)
		}
		if after := ask(t, s, "GET", "/api/v1/namespaces/default/events", ""); after.Code != http.StatusOK {
			t.Errorf("after it the server says %d %s", after.Code, after.Body)
		}
	})
}

// FuzzLog cuts logs by any parameters: what comes back is part of what is there.
func FuzzLog(f *testing.F) {
	f.Add([]byte(line1+line2+line3), int64(2), int64(60), int64(10), true, true)
	f.Add([]byte("\n\n\x00\xff 2026-03-01T11:00:00Z"), int64(1), int64(1), int64(1), false, false)
	f.Add([]byte("2026-03-01T11:00:00Z\n2026-03-01T11:00:00Z \n"), int64(0), int64(0), int64(0), false, true)
	recorded := openShop(f)
	f.Fuzz(func(t *testing.T, raw []byte, tail, since, limit int64, stamps, stamped bool) {
		b := *recorded
		b.Manifest.LogTimestamps = stamped
		s := &Server{bundle: &b, now: b.Clock}
		q := url.Values{}
		if tail >= 0 {
			q.Set("tailLines", strconv.FormatInt(tail, 10))
		}
		if since > 0 {
			q.Set("sinceSeconds", strconv.FormatInt(since, 10))
		}
		if limit > 0 {
			q.Set("limitBytes", strconv.FormatInt(limit, 10))
		}
		if stamps {
			q.Set("timestamps", "true")
		}
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/?"+q.Encode(), nil)
		o, err := logOptions(r, request{})
		if err != nil {
			t.Fatal(err)
		}
		out := s.cut(raw, o)
		if limit > 0 && int64(len(out)) > limit {
			t.Errorf("%d bytes of %d allowed", len(out), limit)
		}
		if tail >= 0 && int64(strings.Count(string(out), "\n")) > tail {
			t.Errorf("%q has more than %d lines", out, tail)
		}
		if (stamps || !stamped) && since <= 0 && !strings.Contains(string(raw), string(out)) {
			t.Errorf("%q is not in %q", out, raw)
		}
	})
}

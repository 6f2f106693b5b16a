package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"testing/synctest"

	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
)

// answer gives a Status instead of what the server would say.
func answer(code int, reason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"reason":%q,"code":%d}`, message, reason, code)
	}
}

// replacing answers some requests by other handlers, by a part of the path.
func replacing(by map[string]http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for part, h := range by {
				if strings.HasSuffix(r.URL.Path, part) {
					h(w, r)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// TestCapturePartly: what fails or is forbidden is said, and served as it was.
func TestCapturePartly(t *testing.T) {
	t.Parallel()
	cfg := cluster(t, shopFiles(), replacing(map[string]http.HandlerFunc{
		"/nodes":                           answer(403, "Forbidden", `nodes is forbidden: User "me" cannot list resource "nodes" in API group "" at the cluster scope`),
		"/apis/storage.k8s.io/v1/csinodes": answer(503, "ServiceUnavailable", "etcdserver: no leader"),
		"/configmaps":                      answer(500, "InternalError", "conversion webhook failed"),
		"/services":                        answer(404, "NotFound", "the server could not find the requested resource"),
		"/limitranges": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>bad gateway</html>")
		},
	}))
	b, sum := captured(t, cfg, bundle.CaptureOptions{})
	left := map[string]int{}
	for _, l := range b.Manifest.LeftOut {
		left[l.What] = l.Code
	}
	for what, code := range map[string]int{"nodes": 403, "csinodes": 503, "configmaps": 500, "services": 404, "limitranges": 502} {
		if left[what] != code {
			t.Errorf("%s is left out with %d, want %d", what, left[what], code)
		}
	}
	var text bytes.Buffer
	if err := sum.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"left out    csinodes: etcdserver: no leader", "denied      list nodes everywhere", "left out    nodes: nodes is forbidden"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	s, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]int{"/api/v1/nodes": 403, "/apis/storage.k8s.io/v1/csinodes": 503, "/api/v1/configmaps": 500, "/api/v1/services": 404, "/api/v1/limitranges": 502, "/api/v1/pods": 200} {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if rec.Code != code {
			t.Errorf("%s is served with %d, was captured with %d: %s", path, rec.Code, code, rec.Body)
		}
	}
}

func TestCaptureFails(t *testing.T) {
	t.Parallel()
	all := func(h http.HandlerFunc) *rest.Config {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		return &rest.Config{Host: srv.URL, QPS: -1}
	}
	o := bundle.CaptureOptions{Now: clock}
	lists := func(h http.HandlerFunc) *rest.Config {
		return cluster(t, shopFiles(), func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Count(r.URL.Path, "/") < 3 || r.URL.Path == "/version" || strings.Count(r.URL.Path, "/") == 3 && strings.HasPrefix(r.URL.Path, "/apis/") {
					next.ServeHTTP(w, r)
					return
				}
				h(w, r)
			})
		})
	}
	for name, c := range map[string]struct {
		cfg  *rest.Config
		says string
	}{
		"nobody there":     {&rest.Config{Host: "http://127.0.0.1:1"}, "the API server does not answer"},
		"HTML":             {all(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello</html>") }), "the API server does not answer"},
		"an empty API":     {all(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }), "discovery: "},
		"no right to list": {lists(answer(403, "Forbidden", "no")), "the API server answered not one list; if this identity is confined to namespaces, name them with -n"},
		"all lists down":   {lists(answer(503, "ServiceUnavailable", "down")), "the API server answered not one list"},
		"an expired token": {lists(answer(401, "Unauthorized", "Unauthorized")), "the API server does not accept this identity"},
		"objects without names": {lists(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[{"kind":"Pod","apiVersion":"v1","metadata":{}}]}`)
		}), "apiVersion, kind and metadata.name are required"},
		"a namespace that is a path": {lists(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"../../../evil"}}]}`)
		}), `names a namespace "../../../evil"`},
		"a name that is a path": {lists(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[{"kind":"Pod","apiVersion":"v1","metadata":{"name":"../../evil","namespace":"a"}}]}`)
		}), `"../../evil" is no name of an object`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failing(t, t.Context(), c.cfg, o, c.says)
		})
	}
}

// cutting lets a request through, or cuts its connection or its answer.
type cutting struct {
	next http.RoundTripper
	half bool
}

func (c cutting) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/configmaps") {
		return c.next.RoundTrip(r)
	}
	if !c.half {
		return nil, &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	}
	body := io.MultiReader(strings.NewReader(`{"kind":"ConfigMapList","items":[{"metadata":{"name":"a`), iotest.ErrReader(io.ErrUnexpectedEOF))
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(body), Request: r}, nil
}

// TestCutConnections: a server that goes away ends a capture, once the client's
// own retries are over.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b, err := bundle.Open(fstest.MapFS{"bundle.yaml": {Data: []byte(header)}}, bundle.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			s, err := apiserver.New(b)
			if err != nil {
				t.Fatal(err)
			}
			cfg := s.RESTConfig()
			cfg.Transport = cutting{cfg.Transport, half}
			failing(t, t.Context(), cfg, bundle.CaptureOptions{}, "list configmaps: ")
		})
	}
}

// TestEndlessLists: continue tokens that never end do not hold a capture.
func TestEndlessLists(t *testing.T) {
	t.Parallel()
	n := 0
	page := func(items string, next func() string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"kind":"PodList","apiVersion":"v1","metadata":{"continue":%q},"items":[%s]}`, next(), items)
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"the same token":       page(`{"metadata":{"name":"a","namespace":"b"}}`, func() string { return "again" }),
		"empty pages for ever": page("", func() string { n++; return fmt.Sprint(n) }),
	} {
		t.Run(name, func(t *testing.T) {
			failing(t, t.Context(), cluster(t, shopFiles(), replacing(map[string]http.HandlerFunc{"/api/v1/pods": h})), bundle.CaptureOptions{}, "the server brings the list to no end")
		})
	}
}

// TestExpiredPage: a list that expires between two pages is read again whole.
func TestExpiredPage(t *testing.T) {
	t.Parallel()
	cfg := cluster(t, shopFiles(), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			switch {
			case r.URL.Path == "/api/v1/pods" && q.Get("continue") != "":
				answer(410, "Expired", "too old")(w, r)
				return
			case r.URL.Path == "/api/v1/pods" && q.Get("limit") != "":
				q.Set("limit", "1")
				r.URL.RawQuery = q.Encode()
			}
			next.ServeHTTP(w, r)
		})
	})
	b, _ := captured(t, cfg, bundle.CaptureOptions{})
	n := 0
	for _, u := range b.Objects {
		if u.GetKind() == "Pod" {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d pods", n)
	}
}

// TestCaptureEndsWithItsContext: a server that does not answer holds nobody
// whose time is over, wherever it stops.
func TestCaptureEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"/version", "/apis", "/namespaces/shop/pods", "/namespaces/shop/pods/p1/log", "/namespaces/shop", "/nodes"} {
		t.Run(strings.ReplaceAll(where, "/", "_"), func(t *testing.T) {
			t.Parallel()
			for _, out := range []string{"out", "x/out.tar.zst"} {
				ctx, cancel := context.WithCancel(t.Context())
				cfg := cluster(t, shopFiles(), replacing(map[string]http.HandlerFunc{where: func(_ http.ResponseWriter, r *http.Request) {
					cancel()
					<-r.Context().Done()
				}}))
				dir := t.TempDir()
				_, err := bundle.Capture(ctx, cfg, filepath.Join(dir, out), bundle.CaptureOptions{Namespaces: []string{"shop"}})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("left %v %v", left, err)
				}
				cancel()
			}
		})
	}
}

func TestCaptureLogs(t *testing.T) {
	t.Parallel()
	files := shopFiles()
	files["objects/sick.yaml"] = "apiVersion: v1\nkind: Pod\nmetadata: {name: aa, namespace: shop}\nspec: {nodeName: w, containers: [{name: m}]}\nstatus: {containerStatuses: [{name: m, ready: true, restartCount: 0}]}\n"
	files["logs/shop/aa/m.log"] = strings.Repeat("2026-03-01T11:00:00Z fine\n", 100)
	long := strings.Repeat("2026-03-01T11:00:00Z "+strings.Repeat("x", 500)+"\n", 2000)
	files["logs/shop/p2/m.log"] = long + "2026-03-01T11:59:00Z the end\n"
	b, _ := captured(t, cluster(t, files, nil), bundle.CaptureOptions{LogBytes: 4096})
	if got := logText(t, b, "shop", "p1", "m", true); got != "2026-03-01T10:00:00Z before p1\n" {
		t.Errorf("previous log %q", got)
	}
	got := logText(t, b, "shop", "p2", "m", false)
	if len(got) > 4096 || len(got) < 3000 || !strings.HasSuffix(got, "the end\n") || !strings.HasPrefix(got, "2026-03-01T11:00:00Z x") {
		t.Errorf("the end of a long log is %d bytes: %.60q ... %.60q", len(got), got, got[max(0, len(got)-60):])
	}
	if f, err := b.Log("shop", "p0", "m", true); err == nil {
		_ = f.Close()
		t.Error("the previous log of a container that has not restarted")
	}

	// Containers in trouble go first when there is not room for all.
	b, _ = captured(t, cluster(t, files, nil), bundle.CaptureOptions{LogBytes: 4096, LogTotalBytes: 10})
	if f, err := b.Log("shop", "aa", "m", false); err == nil {
		_ = f.Close()
		t.Error("the log of a well container is kept before the others")
	}
	if !slices.ContainsFunc(b.Manifest.LeftOut, func(l bundle.LeftOut) bool {
		return strings.Contains(l.What, "logs, of containers without trouble first")
	}) {
		t.Errorf("nothing is said of the logs: %v", b.Manifest.LeftOut)
	}
}

func TestCaptureLogTrouble(t *testing.T) {
	t.Parallel()
	cfg := cluster(t, shopFiles(), replacing(map[string]http.HandlerFunc{
		"/pods/p0/log": answer(500, "InternalError", "the kubelet is away"),
		"/pods/p1/log": answer(400, "BadRequest", "container is waiting to start"),
	}))
	b, _ := captured(t, cfg, bundle.CaptureOptions{})
	if i := slices.IndexFunc(b.Manifest.LeftOut, func(l bundle.LeftOut) bool {
		return l.What == "logs/shop/p0/m.log" && strings.Contains(l.Why, "the kubelet is away")
	}); i < 0 {
		t.Errorf("left out: %v", b.Manifest.LeftOut)
	}
	if got := logText(t, b, "shop", "p2", "m", true); got != "2026-03-01T10:00:00Z before p2\n" {
		t.Errorf("%q", got)
	}
	cfg = cluster(t, shopFiles(), replacing(map[string]http.HandlerFunc{"/log": answer(403, "Forbidden", "pods/log is forbidden")}))
	b, _ = captured(t, cfg, bundle.CaptureOptions{})
	if !slices.Contains(b.Manifest.Denied, bundle.Denied{Verb: "get", Resource: "pods/log"}) {
		t.Errorf("denied: %v", b.Manifest.Denied)
	}
	// Logs from elsewhere take the place of the server's.
	b, _ = captured(t, cluster(t, shopFiles(), nil), bundle.CaptureOptions{Logs: map[string]string{"shop/p1/m": "given\n"}})
	if got := logText(t, b, "shop", "p1", "m", false); got != "given\n" || b.Manifest.LogTimestamps {
		t.Errorf("%q", got)
	}
	failing(t, t.Context(), cluster(t, shopFiles(), nil), bundle.CaptureOptions{Logs: map[string]string{"../../../evil": "x"}}, "write ../../evil.log: path escapes from parent")
}

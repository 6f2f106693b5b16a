package apiserver

import (
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const (
	line1 = "2026-03-01T11:00:00.000000001Z started\n"
	line2 = "2026-03-01T11:59:00.5Z GET /healthz 200\n"
	line3 = "2026-03-01T11:59:30Z GET / 200\n"
)

func bare(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		_, rest, _ := strings.Cut(l, " ")
		b.WriteString(rest)
	}
	return b.String()
}

func TestLogParameters(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for query, want := range map[string]string{
		"":                                      bare(line1, line2, line3),
		"container=main":                        bare(line1, line2, line3),
		"timestamps=true":                       line1 + line2 + line3,
		"timestamps=1":                          line1 + line2 + line3,
		"timestamps=false":                      bare(line1, line2, line3),
		"timestamps=0":                          bare(line1, line2, line3),
		"tailLines=0":                           "",
		"tailLines=1":                           bare(line3),
		"tailLines=2&timestamps=true":           line2 + line3,
		"tailLines=99":                          bare(line1, line2, line3),
		"sinceSeconds=30":                       bare(line3),
		"sinceSeconds=60":                       bare(line2, line3),
		"sinceSeconds=29":                       "",
		"sinceSeconds=86400":                    bare(line1, line2, line3),
		"sinceTime=2026-03-01T11:59:00Z":        bare(line2, line3),
		"sinceTime=2026-03-01T12:59:30%2B01:00": bare(line3),
		"sinceSeconds=60&tailLines=1":           bare(line3),
		"limitBytes=4":                          "star",
		"limitBytes=9999":                       bare(line1, line2, line3),
		"limitBytes=6&tailLines=1":              "GET / ",
		"limitBytes=4&timestamps=true":          "2026",
		"follow=true":                           bare(line1, line2, line3),
		"stream=All":                            bare(line1, line2, line3),
		"insecureSkipTLSVerifyBackend=true":     bare(line1, line2, line3),
	} {
		rec := ask(t, s, "GET", "/api/v1/namespaces/shop/pods/web-6d4-aaaaa/log?"+query, "")
		if rec.Code != 200 || rec.Body.String() != want || rec.Header().Get("Content-Type") != "text/plain" {
			t.Errorf("%s gives %d\n%s\nwant\n%s", query, rec.Code, rec.Body, want)
		}
	}
}

func TestLogRefusals(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for _, c := range []struct {
		pod, query string
		code       int
		says       string
	}{
		{"nobody", "", 404, `pods "nobody" not found`},
		{"orders", "", 400, "a container name must be specified for pod orders, choose one of: [main metrics] or one of the init containers: [migrate proxy]"},
		{"orders", "container=x", 400, "container x is not valid for pod orders"},
		{"orders", "container=../../shop/web-6d4-aaaaa/main", 400, "is not valid for pod"},
		{"web-6d4-aaaaa", "previous=true", 400, `previous terminated container "main" in pod "web-6d4-aaaaa" not found`},
		{"pull", "", 400, `container "main" in pod "pull" is waiting to start: trying and failing to pull image`},
		{"web-6d4-aaaaa", "tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"},
		{"web-6d4-aaaaa", "tailLines=x", 400, `tailLines: "x" is no number`},
		{"web-6d4-aaaaa", "limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"},
		{"web-6d4-aaaaa", "sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"},
		{"web-6d4-aaaaa", "sinceSeconds=1&sinceTime=2026-03-01T11:59:00Z", 422, "at most one of `sinceTime` or `sinceSeconds` may be specified"},
		{"web-6d4-aaaaa", "sinceTime=yesterday", 400, `sinceTime: "yesterday" is no RFC 3339 time`},
		{"web-6d4-aaaaa", "stream=Stdout", 422, "does not tell the streams apart"},
	} {
		st := status(t, ask(t, s, "GET", "/api/v1/namespaces/shop/pods/"+c.pod+"/log?"+c.query, ""))
		if int(st.Code) != c.code || !strings.Contains(st.Message, c.says) {
			t.Errorf("%s?%s: %d %s", c.pod, c.query, st.Code, st.Message)
		}
	}
	if rec := ask(t, s, "POST", "/api/v1/namespaces/shop/pods/orders/log", ""); rec.Code != 405 {
		t.Errorf("POST: %d", rec.Code)
	}
	// A pod that no node has been given yet has said nothing.
	if rec := ask(t, s, "GET", "/api/v1/namespaces/shop/pods/train/log", ""); rec.Code != 200 || rec.Body.Len() != 0 {
		t.Errorf("unscheduled: %d %s", rec.Code, rec.Body)
	}
	// Nor has a container whose log is there and empty.
	if rec := ask(t, s, "GET", "/api/v1/namespaces/shop/pods/orders/log?container=metrics", ""); rec.Code != 200 || rec.Body.Len() != 0 {
		t.Errorf("empty: %d %s", rec.Code, rec.Body)
	}
}

// TestUnstampedLogs: logs written by hand are given as they are.
func TestUnstampedLogs(t *testing.T) {
	t.Parallel()
	const text = "Traceback:\n2026-03-01T11:00:00Z first\n  at a\n2026-03-01T11:59:00Z second\n  at b"
	s := made(t, map[string]string{
		"bundle.yaml":              "formatVersion: 1\ncaptured: \"2026-03-01T12:00:00Z\"\nleftOut:\n- {what: logs/ns/p/lost.log, why: the kubelet of w did not answer}\n",
		"objects/p.yaml":           "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ns}\nspec: {nodeName: w, containers: [{name: c}, {name: lost}, {name: none}, {name: was}]}\nstatus:\n  containerStatuses:\n  - {name: was, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1}}}\n  - {name: none, state: {waiting: {reason: ContainerCreating}}}\n",
		"logs/ns/p/c.log":          text,
		"logs/ns/p/c.previous.log": "\xff\xfe\x00binary\n",
	})
	get := func(query string) string {
		return ask(t, s, "GET", "/api/v1/namespaces/ns/pods/p/log?"+query, "").Body.String()
	}
	for query, want := range map[string]string{
		"container=c":                                text,
		"container=c&timestamps=true":                text,
		"container=c&sinceSeconds=60":                "2026-03-01T11:59:00Z second\n  at b",
		"container=c&tailLines=1":                    "  at b",
		"container=c&sinceTime=2026-03-01T10:00:00Z": text,
		"container=c&previous=true":                  "\xff\xfe\x00binary\n",
	} {
		if got := get(query); got != want {
			t.Errorf("%s gives %q, want %q", query, got, want)
		}
	}
	has(t, get("container=lost"), `"code":500`, "the kubelet of w did not answer")
	has(t, get("container=none"), "is waiting to start: ContainerCreating")
	has(t, get("container=was"), "has no recorded log")
	has(t, get("container=was&previous=true"), "has no recorded log")
}

func TestLongLogKeepsItsEnd(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 1<<20-1) + "\n"
	s := made(t, map[string]string{
		"objects/p.yaml":  "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ns}\nspec: {nodeName: w, containers: [{name: c}]}\n",
		"logs/ns/p/c.log": strings.Repeat(line, 80) + "the end\n",
	})
	rc, err := typed(t, s).CoreV1().Pods("ns").GetLogs("p", &corev1.PodLogOptions{}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc)
	if err != nil || len(raw) != maxLog || !strings.HasSuffix(string(raw), "\nthe end\n") {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	n := int64(1)
	raw, err = typed(t, s).CoreV1().Pods("ns").GetLogs("p", &corev1.PodLogOptions{TailLines: &n}).DoRaw(t.Context())
	if err != nil || string(raw) != "the end\n" {
		t.Errorf("%.100q %v", raw, err)
	}
}

func TestReviews(t *testing.T) {
	t.Parallel()
	s := shop(t)
	has(t, ask(t, s, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"spec":{"nonResourceAttributes":{"verb":"get","path":"/version"}}}`).Body.String(), `"allowed":true`)
	has(t, ask(t, s, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"spec":{"nonResourceAttributes":{"verb":"post","path":"/version"}}}`).Body.String(), `"allowed":false`)
	has(t, ask(t, s, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"spec":{"resourceAttributes":{"verb":"*","resource":"*"}}}`).Body.String(), `"allowed":true`)
	has(t, ask(t, s, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`).Body.String(), `"username":"bundle-reader"`)
}

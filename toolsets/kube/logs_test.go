package kube_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
)

const llamaPod = "llama-7c5d8f9b44-x2k4p"

func longLog() string {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "2026-11-24T11:%02d:%02dZ INFO request %d took %d ms\n", 40+i/60, i%60, i, i*3)
		if i == 150 {
			b.WriteString(`2026-11-24T11:42:30Z ERROR worker died
2026-11-24T11:42:30Z Traceback (most recent call last):
2026-11-24T11:42:30Z   File "/app/engine.py", line 9, in run
2026-11-24T11:42:30Z torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
`)
		}
	}
	return b.String()
}

func TestLogs(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.SetLog("web", llamaPod, "server", longLog())
	srv.SetLog("web", llamaPod, "server.previous", "2026-11-24T11:00:00Z ERROR cannot open /models\n")
	srv.SetLog("web", llamaPod, "sidecar", "plain line\n")
	ts := newToolset(t, srv, "")

	out, res, err := call[kube.LogsOut](t, ts, "kube_logs", args{"namespace": "web", "pod": llamaPod})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, res.Text, "container server (in trouble; also: sidecar): 304 lines", "1 error records; templates, rare errors first:",
		"error x1 2026-11-24T11:42:30Z line 152: ERROR worker died\nTraceback", "torch.OutOfMemoryError: CUDA out of memory.",
		"info x300 2026-11-24T11:40:00Z to 2026-11-24T11:44:59Z line 1: INFO request <*> took <*> ms", "last 15 records:", "304 11:44:59 INFO request 299 took 897 ms")
	if out.Errors != 1 || len(out.Tail) != 15 || len(out.Templates) != 2 {
		t.Errorf("%d errors, %d tail, %d templates", out.Errors, len(out.Tail), len(out.Templates))
	}
	want := []incident.Finding{{
		Code: "kube.log_errors", Severity: incident.Warning, Role: incident.Context,
		Subject:   incident.Ref{Cluster: "test", Kind: "Pod", Namespace: "web", Name: llamaPod},
		Message:   "container server logged 1 times: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
		Params:    map[string]string{"container": "server", "pattern": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "count": "1"},
		FirstSeen: out.Templates[0].First, LastSeen: out.Templates[0].Last,
	}}
	if diff := cmp.Diff(want, res.Findings); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		in   args
		text []string
	}{
		"grep keeps traces whole": {args{"namespace": "web", "pod": llamaPod, "grep": "engine\\.py"}, []string{`1 of 301 records match "engine\\.py"`, "152 11:42:30 ERROR worker died\nTraceback (most recent call last):\n  File \"/app/engine.py\", line 9, in run\ntorch.OutOfMemoryError"}},
		"grep newest":             {args{"namespace": "web", "pod": llamaPod, "grep": "request"}, []string{"300 of 301 records match", "the last 30", "request 299"}},
		"grep nothing":            {args{"namespace": "web", "pod": llamaPod, "grep": "zebra"}, []string{"0 of 301 records match"}},
		"previous":                {args{"namespace": "web", "pod": llamaPod, "container": "server", "previous": true}, []string{"container server, previous run: 1 lines\n1 11:00:00 ERROR cannot open /models"}},
		"short log as it is":      {args{"namespace": "web", "pod": llamaPod, "container": "sidecar"}, []string{"container sidecar: 1 lines\n1 plain line\n"}},
		"tail":                    {args{"namespace": "web", "pod": llamaPod, "tail": 2}, []string{"2 lines\n1 11:44:58 INFO request 298 took 894 ms\n2 11:44:59"}},
		"since":                   {args{"namespace": "web", "pod": llamaPod, "since": "15m5s"}, []string{": 5 lines\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, res, err := call[kube.LogsOut](t, ts, "kube_logs", tc.in)
			if err != nil {
				t.Fatal(err)
			}
			contains(t, res.Text, tc.text...)
		})
	}
}

func TestLogsThatAreNotThere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, why string }{
		"not started": {`container \"server\" in pod \"x\" is waiting to start: ContainerCreating`, "is waiting to start: ContainerCreating"},
		"pulling":     {`container \"server\" in pod \"x\" is waiting to start: trying and failing to pull image`, "trying and failing to pull image"},
		"no previous": {`previous terminated container \"server\" in pod \"x\" not found`, "previous terminated container"},
		"unscheduled": {`pod x does not have a host assigned`, "does not have a host assigned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := startWorld(t)
			srv.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/log") {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400,"message":"` + tc.body + `"}`))
				return true
			}
			out, res, err := call[kube.LogsOut](t, newToolset(t, srv, ""), "kube_logs", args{"namespace": "web", "pod": llamaPod})
			if err != nil || out.Available || !strings.Contains(out.Why, tc.why) {
				t.Errorf("%+v %v", out, err)
			}
			contains(t, res.Text, "no log: ", tc.why)
		})
	}
}

func TestLogsRefuseBadInput(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.Forbid = func(_, resource, _ string) bool { return resource == "pods/log" }
	ts := newToolset(t, srv, "")
	for name, tc := range map[string]struct {
		in   args
		kind tool.Kind
		says string
	}{
		"bad regex":       {args{"namespace": "web", "pod": llamaPod, "grep": "a(b"}, tool.Invalid, "is not a regular expression: missing closing )"},
		"lookahead":       {args{"namespace": "web", "pod": llamaPod, "grep": "(?=x)"}, tool.Invalid, "RE2"},
		"huge regex":      {args{"namespace": "web", "pod": llamaPod, "grep": strings.Repeat("a", 600)}, tool.Invalid, "longer than 500"},
		"bad container":   {args{"namespace": "web", "pod": llamaPod, "container": "srv"}, tool.Invalid, "it has: server, sidecar"},
		"negative tail":   {args{"namespace": "web", "pod": llamaPod, "tail": -1}, tool.Invalid, "negative"},
		"no such pod":     {args{"namespace": "web", "pod": "nope"}, tool.NotFound, "pods web/nope does not exist"},
		"no right to log": {args{"namespace": "web", "pod": llamaPod}, tool.Forbidden, "may not get pods/log in namespace web"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := call[kube.LogsOut](t, ts, "kube_logs", tc.in)
			if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.says) {
				t.Errorf("%s: %s", tool.KindOf(err), tool.UserText(err))
			}
		})
	}
}

package app_test

import (
	"bytes"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// lists counts the lists of whole kinds that a server is asked for: those that no
// selector narrows. The pages of one list count once, and so does what asks for a
// single object to see whether it may.
type lists struct {
	mu sync.Mutex
	n  map[string]int
}

func (l *lists) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		// Lists are told from single reads by their limit, which every reader sets.
		if r.Method == http.MethodGet && q.Has("limit") && q.Get("limit") != "1" && q.Get("continue") == "" && q.Get("fieldSelector")+q.Get("labelSelector") == "" {
			l.mu.Lock()
			l.n[r.URL.Path]++
			l.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// counted asks a question of a recorded incident as if it happened now, behind a real
// port, and gives the report and the lists of whole kinds it took.
func counted(t *testing.T, id, question string) (incident.Report, map[string]int) {
	t.Helper()
	all, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := fs.Sub(all, id+"/bundle")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := fs.ReadFile(recorded, "bundle.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(raw, []byte("captured: "))
	day := strings.Trim(string(rest[:12]), `"`)[:10]
	files := fstest.MapFS{}
	err = fs.WalkDir(recorded, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(recorded, p)
		files[p] = &fstest.MapFile{Data: sinceNow(raw, day)}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(files, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	kube, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	seen := &lists{n: map[string]int{}}
	srv := httptest.NewServer(seen.watch(kube))
	defer srv.Close()
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: " + srv.URL + "}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
	if err := os.WriteFile(cfg.Kubernetes.Kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	r, err := a.Investigate(t.Context(), incident.Question{Text: question}, event.SinkFunc(func(event.Event) {}))
	if err != nil {
		t.Fatal(err)
	}
	return r, seen.n
}

// sinceNow moves the times of one recorded day to a minute ago.
func sinceNow(raw []byte, day string) []byte {
	ago := []byte(time.Now().UTC().Add(-time.Minute).Format("2006-01-02T15:04:05"))
	for at := 0; ; {
		i := bytes.Index(raw[at:], []byte(day+"T"))
		if i < 0 || at+i+len(ago) > len(raw) {
			return raw
		}
		at += i
		raw = slices.Replace(slices.Clone(raw), at, at+len(ago), ago...)
		at += len(ago)
	}
}

// A question about one pod does not read the cluster through: no list of all pods, and
// what must be read whole, the devices and those who hold them, is read once for all
// toolsets.
func TestOnePodIsNoReasonToListAll(t *testing.T) {
	t.Parallel()
	r, got := counted(t, "dra-selector-excludes-all", "why is pod train/llama-ft-0 pending?")
	if d := r.Diagnosis; len(d.Causes) == 0 || d.Causes[0].Code != "dra.selector_excludes_all" {
		t.Fatalf("the answer is lost: %+v", d)
	}
	want := map[string]int{
		"/apis/apps/v1/daemonsets":                  1,
		"/api/v1/nodes":                             1,
		"/api/v1/services":                          1,
		"/apis/resource.k8s.io/v1/resourceslices":   1,
		"/apis/resource.k8s.io/v1/resourceclaims":   1,
		"/apis/resource.k8s.io/v1/deviceclasses":    1,
		"/apis/resource.k8s.io/v1/devicetaintrules": 1,
	}
	atMost(t, got, want)
}

// A running pod takes no more.
func TestARunningPodIsNoReasonToListAll(t *testing.T) {
	t.Parallel()
	_, got := counted(t, "dra-selector-excludes-all", "is pod train/sweep-b healthy?")
	atMost(t, got, map[string]int{
		"/api/v1/nodes":                             1,
		"/api/v1/services":                          1,
		"/apis/resource.k8s.io/v1/resourceclaims":   1,
		"/apis/resource.k8s.io/v1/deviceclasses":    1,
		"/apis/resource.k8s.io/v1/devicetaintrules": 1,
	})
}

// A whole cluster is read once, not once for each toolset.
func TestAClusterIsReadOnce(t *testing.T) {
	t.Parallel()
	_, got := counted(t, "dra-selector-excludes-all", "what is wrong with this cluster?")
	if got["/api/v1/pods"] != 1 {
		t.Errorf("%d lists of all pods", got["/api/v1/pods"])
	}
	for path, n := range got {
		if n > 1 && path != "/apis/apps/v1/daemonsets" { // dra reads DaemonSets in its own form
			t.Errorf("%s is listed %d times", path, n)
		}
	}
}

func atMost(t *testing.T, got, want map[string]int) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if got[path] > want[path] {
			t.Errorf("%s is listed %d times, more than %d", path, got[path], want[path])
		}
	}
	for path := range want {
		if got[path] == 0 {
			t.Errorf("%s is not listed: either it is not counted, or the bound can go", path)
		}
	}
}

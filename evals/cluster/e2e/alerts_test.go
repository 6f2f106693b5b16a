package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// endpointRules fires while a Service has no endpoint that is ready.
const endpointRules = `groups:
- name: services
  rules:
  - alert: ServiceWithoutEndpoints
    expr: service_ready_endpoints == 0
    for: 2s
    labels: {severity: critical}
    annotations: {summary: 'Service {{ $labels.namespace }}/{{ $labels.service }} has no endpoint that is ready'}
`

// monitor runs Prometheus' own database, rule engine and notifier over what the cluster
// says of the endpoints of a Service, and an Alertmanager that tells gumshoe.
func (o *office) monitor(t *testing.T, namespace, service string) {
	t.Helper()
	at := alertmanagerFor(t, o.url+"/webhooks/alertmanager")
	silent := slog.New(slog.DiscardHandler)
	db, err := tsdb.Open(t.TempDir(), silent, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(endpointRules), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Load("alerting: {alertmanagers: [{static_configs: [{targets: ['"+at+"']}]}]}\n", silent)
	if err != nil {
		t.Fatal(err)
	}
	send := notifier.NewManager(&notifier.Options{QueueCapacity: 100, Registerer: prometheus.NewRegistry()}, model.UTF8Validation, silent)
	if err := send.ApplyConfig(conf); err != nil {
		t.Fatal(err)
	}
	targets := make(chan map[string][]*targetgroup.Group, 1)
	targets <- map[string][]*targetgroup.Group{"config-0": {{Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(at)}}}}}
	p := parser.NewParser(parser.Options{})
	engine := promql.NewEngine(promql.EngineOpts{Logger: silent, MaxSamples: 1e6, Timeout: time.Minute, Parser: p})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	manager := rules.NewManager(&rules.ManagerOptions{
		ExternalURL: &url.URL{Scheme: "http", Host: "prometheus.example.com"}, QueryFunc: rules.EngineQueryFunc(engine, db), NotifyFunc: rules.SendAlerts(send, "http://prometheus.example.com"),
		Context: ctx, AppendableV2: db, Queryable: db, Logger: silent, Registerer: prometheus.NewRegistry(), ResendDelay: 2 * time.Second, OutageTolerance: time.Hour, Parser: p,
	})
	if err := manager.Update(time.Second, []string{file}, labels.EmptyLabels(), "", nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { send.Run(targets) })
	wg.Go(manager.Run)
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := o.sample(ctx, db, namespace, service); err != nil && ctx.Err() == nil {
				t.Errorf("the endpoints are not sampled: %v", err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() {
		stop()
		manager.Stop()
		send.Stop()
		wg.Wait()
		if err := errors.Join(engine.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
}

// sample writes down how many endpoints of a Service are ready, as an exporter tells it.
func (o *office) sample(ctx context.Context, db *tsdb.DB, namespace, service string) error {
	all, err := o.clinic.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return err
	}
	n := 0
	for _, s := range all.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				n++
			}
		}
	}
	a := db.AppenderV2(ctx)
	ls := labels.FromStrings(model.MetricNameLabel, "service_ready_endpoints", "namespace", namespace, "service", service)
	if _, err := a.Append(0, ls, 0, time.Now().UnixMilli(), float64(n), nil, nil, storage.AppendV2Options{}); err != nil {
		return errors.Join(err, a.Rollback())
	}
	return a.Commit()
}

// alertmanagerFor starts an Alertmanager that posts to a webhook, and gives its address.
func alertmanagerFor(t *testing.T, hook string) string {
	t.Helper()
	bin, dir := alertmanagerBinary(t), t.TempDir()
	text := fmt.Sprintf(`route: {receiver: gumshoe, group_by: [alertname, namespace], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers:
- name: gumshoe
  webhook_configs: [{url: '%s', http_config: {authorization: {credentials_file: '%s'}}}]
`, hook, secretFile(t, hookToken))
	file := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p, err := spawn(t, exec.Command(bin, "--config.file="+file, "--storage.path="+dir, "--web.listen-address="+at, "--cluster.listen-address="))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Alertmanager: %.4000s", p.output())
		}
	})
	soon(t, "Alertmanager", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/-/ready", nil)
		if err != nil {
			return false, err
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return false, err
		}
		return res.StatusCode == http.StatusOK, res.Body.Close()
	})
	return at
}

// alertmanagerBinary builds the Alertmanager that tools/alertmanager pins, once per user
// and version. Its module is published without the built pages of its UI, which the
// program embeds: the copy that is built gets an empty one.
func alertmanagerBinary(t *testing.T) string {
	t.Helper()
	tools, err := filepath.Abs("../tools/alertmanager")
	if err != nil {
		t.Fatal(err)
	}
	run := func(dir string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v: %.2000s", strings.Join(args, " "), err, errs.String())
		}
		return strings.TrimSpace(string(out))
	}
	const module = "github.com/prometheus/alertmanager"
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "gumshoe", "alertmanager", run(tools, "list", "-m", "-f", "{{.Version}}", module)+"-"+runtime.Version())
	bin := filepath.Join(dir, "alertmanager")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	t.Log("building alertmanager")
	work := t.TempDir()
	src := filepath.Join(work, "src")
	run(tools, "mod", "download", module)
	if err := os.CopyFS(src, os.DirFS(run(tools, "list", "-m", "-f", "{{.Dir}}", module))); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"elm", "mantine"} {
		page = filepath.Join(src, "ui", "app", "dist", page)
		if err := errors.Join(os.MkdirAll(page, 0o755), os.WriteFile(filepath.Join(page, "index.html"), []byte("<p>no UI\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"go.mod": "pinned.mod", "go.sum": "pinned.sum"} {
		raw, err := os.ReadFile(filepath.Join(tools, from))
		if err == nil && from == "go.mod" {
			raw = fmt.Appendf(raw, "\nreplace %s => %s\n", module, src)
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(work, to), raw, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	// To a name of its own first: a build that is killed leaves nothing that looks finished.
	run(tools, "build", "-modfile="+filepath.Join(work, "pinned.mod"), "-trimpath", "-ldflags=-s -w", "-o", bin+".building", module+"/cmd/alertmanager")
	if err := os.Rename(bin+".building", bin); err != nil {
		t.Fatal(err)
	}
	return bin
}

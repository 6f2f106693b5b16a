package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/alertmanager"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// benchToken opens the door of a measured server to whoever measures.
const benchToken = "a-token-of-more-than-20-characters"

// measured is a configuration that takes as many requests as the benchmark sends.
func measured(b *testing.B) app.Config {
	b.Helper()
	cfg := app.Defaults()
	cfg.Server.Auth = access.Config{
		Tokens: []access.TokenConfig{{Name: "ann", Role: "admin", File: secret(b, benchToken)}},
		Rate:   access.RateConfig{PerMinute: 1_000_000, Burst: 100_000},
	}
	return cfg
}

func measuring(b *testing.B, at string) *client.Client {
	b.Helper()
	c, err := client.New(client.Config{URL: at, TokenFile: secret(b, benchToken)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// percentile gives the value that a share of all lie at or below, in milliseconds.
func percentile(all []time.Duration, share float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000
}

const (
	stormGroups = 500
	stormAlerts = 20 // of each group
	stormLanes  = 16 // connections at once
)

// storm is the message of one group. Most groups tell of the incident that the recorded
// cluster has, by its Service or its Deployment; the others of objects that it lacks.
func storm(group int) ([]byte, error) {
	labels := map[string]string{"alertname": fmt.Sprintf("Alert%d", group), "namespace": "shop", "severity": "critical"}
	switch group % 5 {
	case 0, 1, 2:
		labels["service"] = "web"
	case 3:
		labels["deployment"] = "web"
	case 4:
		labels["namespace"], labels["deployment"] = fmt.Sprintf("other-%d", group%7), "api"
	}
	starts := time.Now().UTC().Format(time.RFC3339Nano)
	alerts := make([]map[string]any, 0, stormAlerts)
	for i := range stormAlerts {
		own := map[string]string{"instance": fmt.Sprintf("10.0.%d.%d:9090", group%250, i)}
		maps.Copy(own, labels)
		alerts = append(alerts, map[string]any{
			"status": "firing", "labels": own, "annotations": map[string]string{"summary": "the service does not answer"},
			"startsAt": starts, "fingerprint": fmt.Sprintf("%08x%08x", group, i),
		})
	}
	return json.Marshal(map[string]any{
		"version": "4", "status": "firing", "receiver": "gumshoe", "externalURL": "http://alertmanager.example.com",
		"groupKey": fmt.Sprintf(`{}:{alertname="Alert%d"}`, group), "groupLabels": map[string]string{"alertname": labels["alertname"]}, "alerts": alerts,
	})
}

// BenchmarkAlertStorm posts 10,000 alerts over loopback and waits until each of them is
// accounted for: its group belongs to the session of an incident, or to the one that says
// what a budget left out. Then it waits until no investigation runs.
func BenchmarkAlertStorm(b *testing.B) {
	for b.Loop() {
		cfg := measured(b)
		cfg.Server.Alertmanager = &alertmanager.Config{Auth: alertmanager.AuthConfig{BearerTokenFile: secret(b, benchToken)}}
		srv, at := serve(b, cfg)
		c := measuring(b, at)
		var mu sync.Mutex
		var answers []time.Duration
		g, ctx := errgroup.WithContext(b.Context())
		g.SetLimit(stormLanes)
		begin := time.Now()
		for group := range stormGroups {
			g.Go(func() error {
				raw, err := storm(group)
				if err != nil {
					return err
				}
				took, err := post(ctx, at+alertmanager.Path, raw)
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, took)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		taken := time.Since(begin)
		told := account(b, srv.Service())
		accounted := time.Since(begin)
		sessions, runs, listed := rest(b, c)
		b.ReportMetric(percentile(answers, 0.5), "answer-p50-ms")
		b.ReportMetric(percentile(answers, 0.99), "answer-p99-ms")
		b.ReportMetric(stormGroups*stormAlerts/taken.Seconds(), "alerts/s")
		b.ReportMetric(accounted.Seconds(), "all-accounted-s")
		b.ReportMetric(float64(told.incident), "alerts-of-incidents")
		b.ReportMetric(float64(told.budget), "alerts-left-by-budget")
		b.ReportMetric(float64(runs), "investigations")
		b.ReportMetric(float64(sessions), "sessions")
		b.ReportMetric(float64(listed), "alerts-listed") // a session lists 500 of its alerts at most
	}
}

// accounted counts the alerts of the groups that were decided about: those of an incident,
// and those of which the session of a spent budget says that they were left out.
type accounted struct{ incident, budget int }

// account waits until all alerts of the storm are accounted for. The log of a group has
// what was heard of it and, behind that, which session it belongs to.
func account(b *testing.B, svc *app.Service) accounted {
	b.Helper()
	for ; ; time.Sleep(200 * time.Millisecond) {
		all, err := svc.Sessions(b.Context(), session.Filter{})
		if err != nil {
			b.Fatal(err)
		}
		budget := map[string]bool{}
		for _, s := range all {
			budget[s.ID] = len(s.Turns) > 0 && strings.HasPrefix(s.Turns[0].Key, "digest/")
		}
		groups, err := svc.List(b.Context(), "alerts.group.>")
		if err != nil {
			b.Fatal(err)
		}
		var sum accounted
		for _, info := range groups {
			if info.Type != "group.joined" { // something was heard that nobody decided about yet
				continue
			}
			records, err := svc.Load(b.Context(), info.Subject)
			if err != nil {
				b.Fatal(err)
			}
			heard, joined := map[string]bool{}, ""
			for _, rec := range records {
				var c struct {
					Heard *struct {
						Alerts []incident.Alert `json:"alerts"`
					} `json:"heard"`
					Joined string `json:"joined"`
				}
				if err := json.Unmarshal(rec.Data, &c); err != nil {
					b.Fatal(err)
				}
				if c.Heard != nil {
					for _, a := range c.Heard.Alerts {
						heard[a.Fingerprint] = true
					}
				}
				if c.Joined != "" {
					joined = c.Joined
				}
			}
			left, known := budget[joined]
			switch {
			case !known: // a session that was opened since
			case left:
				sum.budget += len(heard)
			default:
				sum.incident += len(heard)
			}
		}
		if sum.incident+sum.budget == stormGroups*stormAlerts {
			return sum
		}
	}
}

// post sends a message and gives how long the answer took.
func post(ctx context.Context, url string, raw []byte) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+benchToken)
	begin := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the webhook answers %d: %s", res.StatusCode, body)
	}
	return time.Since(begin), err
}

// rest waits until nothing changed for a while and no investigation runs, and counts the
// sessions, the investigations that were begun, and the alerts that sessions list.
func rest(b *testing.B, c *client.Client) (sessions, runs, alerts int) {
	b.Helper()
	var last [3]int
	for same := 0; same < 5; {
		time.Sleep(time.Second)
		all, err := c.Sessions(b.Context(), session.Filter{})
		if err != nil {
			b.Fatal(err)
		}
		now, busy := [3]int{len(all)}, false
		for _, s := range all {
			now[2] += len(s.Alerts)
			for _, t := range s.Turns {
				now[1] += t.Attempt
				busy = busy || !t.State.Ended()
			}
		}
		if same++; busy || now != last || len(all) == 0 {
			same = 0
		}
		last = now
	}
	return last[0], last[1], last[2]
}

const questions = 200

// BenchmarkConcurrent200 asks 200 questions at once with a scripted model that looks once
// and concludes. Server, model and readers are in one process, and so is their memory.
func BenchmarkConcurrent200(b *testing.B) {
	look := llmtest.Ask(llmtest.Call("kube_get", `{"kind":"Service","namespace":"shop","name":"web"}`))
	say := llmtest.Say("The selector of Service shop/web matches no pod. I have nothing to add.")
	for b.Loop() {
		model := llmtest.NewServer(b, llmtest.Forever(llmtest.When(func(r llmtest.Request) llmtest.Step {
			if slices.ContainsFunc(r.Messages, func(m llm.Message) bool { return m.Role == llm.Tool }) {
				return say
			}
			return look
		})))
		cfg := measured(b)
		cfg.Server.Queue.Concurrency = questions
		cfg.Model.Name, cfg.Model.BaseURL = "vllm/scripted", model.URL
		srv, at := serve(b, cfg)
		c := measuring(b, at)
		idle := heap()
		peak := watchHeap()
		var events, answered atomic.Int64
		var mu sync.Mutex
		var delays []time.Duration
		g, ctx := errgroup.WithContext(b.Context())
		begin := time.Now()
		for range questions {
			g.Go(func() error {
				_, turn, err := c.Ask(ctx, session.Ask{Question: incident.Question{Text: "why does service web not answer", Namespace: "shop"}})
				if err != nil {
					return err
				}
				open := time.Now()
				came := map[uint64]time.Time{}
				for told, err := range c.Events(ctx, turn.ID, 0) {
					if err != nil {
						return err
					}
					events.Add(1)
					if told.Seq > 0 {
						came[told.Seq] = time.Now()
					}
					if told.Event.Type == event.RunEnded {
						answered.Add(1)
					}
				}
				// The time in an event is that of the recorded cluster.
				taken, err := srv.Service().Taken(ctx, turn.ID)
				if err != nil {
					return err
				}
				var own []time.Duration
				for seq, at := range came {
					if taken[seq].After(open) { // what was there before the reader is no delay
						own = append(own, at.Sub(taken[seq]))
					}
				}
				mu.Lock()
				defer mu.Unlock()
				delays = append(delays, own...)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		took := time.Since(begin)
		if answered.Load() != questions || len(delays) == 0 {
			b.Fatalf("%d of %d runs ended, %d events came live", answered.Load(), questions, len(delays))
		}
		b.ReportMetric(float64(peak()-idle)/questions/(1<<20), "MiB/run")
		b.ReportMetric(float64(events.Load())/took.Seconds(), "events/s")
		b.ReportMetric(questions/took.Seconds(), "runs/s")
		b.ReportMetric(percentile(delays, 0.5), "sse-p50-ms")
		b.ReportMetric(percentile(delays, 0.99), "sse-p99-ms")
	}
}

// heap gives what is used of heap and stacks once the garbage is gone.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// watchHeap follows the peak of heap and stacks until the returned function is called.
func watchHeap() func() uint64 {
	done := make(chan struct{})
	var peak uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse+m.StackInuse)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return sync.OnceValue(func() uint64 { close(done); wg.Wait(); return peak })
}

const pending = 1000

// BenchmarkRestartPending starts a server on a store in which 1,000 plans wait. The
// recorded cluster is made before the time is taken.
func BenchmarkRestartPending(b *testing.B) {
	for b.Loop() {
		cfg := measured(b)
		cfg.Store.Dir = b.TempDir()
		wait(b, cfg)
		world, err := app.StageCase("k8s-service-selector")(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		_, at, end := up(b, cfg, func(context.Context, app.Config) (*app.App, error) { return world, nil })
		for {
			res, err := http.Get(at + "/readyz")
			if err != nil {
				b.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				break
			}
		}
		ready := time.Since(begin)
		c := measuring(b, at)
		plans, err := c.Plans(b.Context())
		if err != nil || len(plans) != pending {
			b.Fatalf("%d plans of %d (%v)", len(plans), pending, err)
		}
		listed := time.Since(begin)
		asked := time.Now()
		st, err := c.Status(b.Context())
		if err != nil || st.Pending != pending {
			b.Fatalf("%d plans of %d wait (%v)", st.Pending, pending, err)
		}
		b.ReportMetric(float64(ready.Microseconds())/1000, "ready-ms")
		b.ReportMetric(float64(listed.Microseconds())/1000, "listed-ms")
		b.ReportMetric(float64(time.Since(asked).Microseconds())/1000, "status-ms")
		end()
	}
}

// up runs a server until the returned function is called.
func up(b *testing.B, cfg app.Config, world func(context.Context, app.Config) (*app.App, error)) (s *app.Server, at string, end func()) {
	b.Helper()
	cfg.Server.Listen, cfg.Server.Execute = "127.0.0.1:0", true
	addr, done := make(chan string, 1), make(chan error, 1)
	s, err := app.NewServer(b.Context(), app.ServerOptions{
		Load: func() (app.Config, error) { return cfg, cfg.Validate() }, App: world,
		Ready: func(main, _ net.Addr) { addr <- "http://" + main.String() },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	go func() { done <- s.Run(ctx) }()
	select {
	case at = <-addr:
	case err := <-done:
		stop()
		b.Fatal(err)
	}
	return s, at, func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// wait fills a store with plans that wait: one is made of an investigation, the others are
// its copies.
func wait(b *testing.B, cfg app.Config) {
	b.Helper()
	s, _, end := up(b, cfg, app.StageCase("k8s-service-selector"))
	defer end()
	ctx, svc := b.Context(), s.Service()
	by := incident.Person{Name: "ann", Surface: session.API}
	_, turn, err := svc.Ask(ctx, session.Ask{Question: incident.Question{Text: "why does service web not answer", Namespace: "shop"}, By: by, Source: session.API})
	if err != nil {
		b.Fatal(err)
	}
	for _, err := range svc.Events(ctx, turn.ID, 0) {
		if err != nil {
			b.Fatal(err)
		}
	}
	first, err := svc.Propose(ctx, session.PlanAsk{Run: turn.ID, By: by, Source: session.API})
	if err != nil {
		b.Fatal(err)
	}
	for i := 1; i < pending; i++ {
		one := planner.Record{Plan: first.Plan, Decision: first.Decision}
		one.Plan.ID = fmt.Sprintf("plan-%012x", i)
		if _, err := svc.Desk().File(ctx, one); err != nil {
			b.Fatal(err)
		}
	}
}

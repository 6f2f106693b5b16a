package alertmanager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// mortal is a real journal whose process dies at a chosen write: that write and all
// that follow are not done.
type mortal struct {
	*file.Store
	// fuse counts the writes until death; below zero it never comes.
	fuse atomic.Int64
	dead atomic.Bool
}

var errDied = errors.New("the process died")

func (m *mortal) write() error {
	if m.dead.Load() {
		return errDied
	}
	if m.fuse.Load() >= 0 && m.fuse.Add(-1) < 0 {
		m.dead.Store(true)
		return errDied
	}
	return nil
}

func (m *mortal) Append(ctx context.Context, subject string, expect uint64, entries ...store.Entry) (uint64, error) {
	if err := m.write(); err != nil {
		return 0, err
	}
	return m.Store.Append(ctx, subject, expect, entries...)
}

func (m *mortal) Claim(ctx context.Context, queue string, lease time.Duration) (*store.Claim, error) {
	if err := m.write(); err != nil {
		return nil, err
	}
	c, err := m.Store.Claim(ctx, queue, lease)
	if err != nil {
		return nil, err
	}
	c.Lease = mortalLease{m, c.Lease}
	return c, nil
}

type mortalLease struct {
	m *mortal
	store.Lease
}

func (l mortalLease) Done(ctx context.Context) error {
	if err := l.m.write(); err != nil {
		return err
	}
	return l.Lease.Done(ctx)
}

func (l mortalLease) Release(ctx context.Context, d time.Duration) error {
	if err := l.m.write(); err != nil {
		return err
	}
	return l.Lease.Release(ctx, d)
}

// trouble is one incident of the model: a pod, and the groups of alerts that tell of it.
type trouble struct {
	ns     string
	groups []string
	// Per group, in this period: its alert was taken as firing, and as over.
	fires, over map[string]bool
	// must is set once a desk that did not die saw it fire; may, once anything was taken.
	must, may bool
	// sent counts what is still to be delivered.
	left []delivery
}

type delivery struct {
	group string
	over  bool
}

// TestEachIncidentIsInvestigatedOnce delivers the alerts of several incidents over
// several firing periods in any order, repeated and interleaved, to a desk that dies and
// starts anew at any write.
func TestEachIncidentIsInvestigatedOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newLab(t, Config{Budgets: BudgetConfig{PerHour: 1000, PerDay: 1000}})
		defer l.close()
		var m *mortal
		wrap := func() {
			m = &mortal{Store: l.store}
			m.fuse.Store(-1)
			l.svc.store, l.svc.book.Journal, l.desk.journal = m, m, m
		}
		wrap()
		incidents := []*trouble{{ns: "a", groups: []string{"a1"}}, {ns: "b", groups: []string{"b1", "b2"}}}
		for _, i := range incidents {
			l.sick(i.ns+"/p", "Node "+i.ns)
		}
		for period := range rapid.IntRange(1, 2).Draw(t, "periods") {
			begin := l.clock.now()
			end := begin.Add(time.Second)
			alert := func(i *trouble, group string) one { return fired("Alert"+group, "namespace="+i.ns+" pod=p", begin) }
			for _, i := range incidents {
				i.fires, i.over, i.must, i.may, i.left = map[string]bool{}, map[string]bool{}, false, false, nil
				for _, g := range i.groups {
					for _, over := range []bool{false, true} {
						for range rapid.IntRange(1, 3).Draw(t, "copies") {
							i.left = append(i.left, delivery{g, over})
						}
					}
				}
			}
			step := func() {
				died := false
				for _, s := range l.sessions() {
					l.desk.changed[s.ID] = struct{}{}
				}
				if err := l.desk.step(t.Context()); err != nil {
					if !m.dead.Load() {
						t.Fatal(err)
					}
				}
				if died = m.dead.Load(); died {
					l.restart()
					wrap()
					l.clock.turn(l.desk.lease + time.Second)
				}
				for _, i := range incidents {
					for _, g := range i.groups {
						i.must = i.must || !died && i.fires[g] && !i.over[g]
					}
				}
			}
			send := func(i *trouble) {
				if len(i.left) == 0 {
					return
				}
				n := rapid.IntRange(0, len(i.left)-1).Draw(t, "which")
				d := i.left[n]
				i.left = slices.Delete(i.left, n, n+1)
				a := alert(i, d.group)
				if d.over {
					a = a.ended(end)
					i.over[d.group] = true
				} else {
					i.fires[d.group], i.may = true, true
				}
				l.take(message(d.group, a))
			}
			deaths := 0
			for range rapid.IntRange(4, 12).Draw(t, "actions") {
				switch rapid.SampledFrom([]string{"send a", "send b", "send b", "step", "work", "restart", "death", "time"}).Draw(t, "action") {
				case "send a":
					send(incidents[0])
				case "send b":
					send(incidents[1])
				case "step":
					step()
				case "work":
					l.work()
				case "restart":
					l.restart()
					wrap()
				case "death":
					if deaths++; deaths <= 2 {
						m.fuse.Store(int64(rapid.IntRange(0, 12).Draw(t, "writes")))
						step()
						m.fuse.Store(-1)
					}
				case "time":
					l.clock.turn(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
				}
			}
			for _, i := range incidents { // what is left comes at last
				for len(i.left) > 0 {
					send(i)
				}
			}
			for range 3 {
				step()
				l.work()
			}
			for _, i := range incidents {
				n := 0
				for _, s := range l.sessions() {
					for _, turn := range s.Turns {
						if q := turn.Question; !turn.Asked.Before(begin) && !strings.HasPrefix(turn.Key, overKey) && q.Alert != nil && q.Alert.Labels["namespace"] == i.ns {
							n++
						}
					}
				}
				if n > 1 || i.must && n == 0 || !i.may && n > 0 {
					t.Fatalf("period %d: %s was investigated %d times:%s", period, i.ns, n, say(l.sessions()))
				}
				for _, s := range l.sessions() {
					if len(s.Alerts) > 0 && s.Merged == "" && s.Alerts[0].Labels["namespace"] == i.ns && s.Resolved.IsZero() {
						t.Fatalf("period %d: all alerts of %s ended and were acknowledged, and its session fires:%s", period, i.ns, say(l.sessions()))
					}
				}
			}
			l.clock.turn(DefaultFlapWindow + again + time.Minute)
			l.step()
			l.work()
			l.step()
		}
		for _, s := range l.sessions() {
			for _, turn := range s.Turns {
				if !turn.State.Ended() {
					t.Fatalf("turn %s of %s never ended", turn.ID, s.ID)
				}
			}
		}
		if left := l.backlog(); left > 0 {
			t.Fatalf("%d deliveries were acknowledged and never worked on", left)
		}
	})
}

// backlog counts the deliveries that wait.
func (l *lab) backlog() int {
	l.t.Helper()
	l.clock.turn(time.Hour)
	n := 0
	for {
		_, err := l.store.Claim(l.t.Context(), queueAlerts, time.Minute)
		if errors.Is(err, store.ErrNothing) {
			return n
		}
		if err != nil {
			l.t.Fatal(err)
		}
		n++
	}
}

// BenchmarkStorm posts 10,000 alerts in 500 groups of 20 namespaces over HTTP on loopback,
// each twice as from a pair of Alertmanagers, to a desk at work.
func BenchmarkStorm(b *testing.B) {
	const groups, each, namespaces = 500, 20, 20
	for b.Loop() {
		storm(b, groups, each, namespaces)
	}
}

func storm(b *testing.B, groups, each, namespaces int) {
	b.StopTimer()
	dir, err := os.MkdirTemp("", "storm-*")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l := newLab(b, Config{})
	defer l.close()
	for n := range namespaces {
		for g := range groups {
			for p := range each {
				if g%namespaces == n {
					l.sick(fmt.Sprintf("ns-%d/p-%d-%d", n, g, p), fmt.Sprintf("Node n%d", n))
				}
			}
		}
	}
	bodies := make([][]byte, groups)
	for g := range groups {
		alerts := make([]one, each)
		for p := range each {
			alerts[p] = fired(fmt.Sprintf("Alert%d", g%7), fmt.Sprintf("namespace=ns-%d pod=p-%d-%d severity=warning", g%namespaces, g, p), start)
		}
		bodies[g] = message(fmt.Sprintf("group-%d", g), alerts...)
	}
	url := l.server(b).URL
	b.StartTimer()
	took := make(chan time.Duration, 2*groups)
	work := make(chan struct{})
	go func() {
		defer close(work)
		for len(took) < cap(took) {
			l.step()
			l.work()
		}
	}()
	var next atomic.Int64
	done := make(chan error, 4)
	for range 4 {
		go func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= 2*groups {
					done <- nil
					return
				}
				at := time.Now()
				if status, a := post(b, url, bodies[n%groups], nil); status != 200 {
					done <- fmt.Errorf("status %d: %s", status, a.Error)
					return
				}
				took <- time.Since(at)
			}
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	<-work
	for range 4 {
		l.step()
		l.work()
	}
	b.StopTimer()
	close(took)
	var all []time.Duration
	for d := range took {
		all = append(all, d)
	}
	slices.Sort(all)
	open := 0
	for _, s := range l.sessions() {
		if s.Merged == "" {
			open++
		}
	}
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(l.questions()), "investigations")
	b.ReportMetric(float64(open), "sessions")
	b.ReportMetric(float64(groups*each), "alerts")
	b.StartTimer()
}

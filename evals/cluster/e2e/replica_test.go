package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// What a server in a process of its own is told by its environment.
const (
	replicaConfig = "GUMSHOE_TEST_SERVER"
	replicaPoints = "GUMSHOE_TEST_POINTS"
	replicaDeath  = "GUMSHOE_TEST_DEATH"
	replicaLot    = "GUMSHOE_TEST_LOT"
)

// TestReplica is no test of its own: others run it as the process of a server that ends
// itself at the point whose number it is given.
func TestReplica(t *testing.T) {
	file := os.Getenv(replicaConfig)
	if file == "" {
		t.Skip("run by other tests")
	}
	death, err := strconv.ParseInt(os.Getenv(replicaDeath), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	points, err := os.OpenFile(os.Getenv(replicaPoints), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = points.Close() }()
	var n atomic.Int64
	at := func(name string) {
		if _, err := fmt.Fprintln(points, name); err != nil {
			t.Errorf("the point %s is not noted: %v", name, err)
		}
		if n.Add(1) == death && drawn(os.Getenv(replicaLot)) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal ends it
		}
	}
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	s, err := app.NewServer(ctx, app.ServerOptions{
		Load: func() (app.Config, error) {
			cfg, err := app.LoadConfig(file, func(string) string { return "" })
			if err != nil {
				return cfg, err
			}
			return cfg, cfg.Validate()
		},
		Keeper: func(ctx context.Context, cfg app.Config, log *slog.Logger) (*app.Keeper, error) {
			k, err := app.ServerKeeper(ctx, cfg, log)
			if err == nil {
				k.Store = mortalStore{k.Store, at}
			}
			return k, err
		},
		Boundary: at,
		Log:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// drawn reports whether this process is the one of several that is to die: the first that
// makes the file. Without a file it is alone.
func drawn(lot string) bool {
	if lot == "" {
		return true
	}
	f, err := os.OpenFile(lot, os.O_CREATE|os.O_EXCL, 0o600)
	return err == nil && f.Close() == nil
}

// mortalStore names the points before and after what is written, but for leases that are
// extended, as often as time goes by, or given back.
type mortalStore struct {
	store.Store
	at func(string)
}

func (m mortalStore) around(what string, do func() error) error {
	m.at("before " + what)
	err := do()
	m.at("after " + what)
	return err
}

// Append implements store.Appender.
func (m mortalStore) Append(ctx context.Context, subject string, expect uint64, entries ...store.Entry) (last uint64, err error) {
	err = m.around("append "+subject, func() error { last, err = m.Store.Append(ctx, subject, expect, entries...); return err })
	return last, err
}

// Schedule implements store.Scheduler.
func (m mortalStore) Schedule(ctx context.Context, t store.Timer) error {
	return m.around("timer "+t.Key, func() error { return m.Store.Schedule(ctx, t) })
}

// Claim implements store.Queue.
func (m mortalStore) Claim(ctx context.Context, queue string, lease time.Duration) (*store.Claim, error) {
	c, err := m.Store.Claim(ctx, queue, lease)
	if err == nil {
		m.at("claimed " + c.Record.Subject)
		c.Lease = mortalLease{c.Lease, m, c.Record.Subject}
	}
	return c, err
}

type mortalLease struct {
	store.Lease
	m       mortalStore
	subject string
}

// Done implements store.Lease.
func (l mortalLease) Done(ctx context.Context) error {
	return l.m.around("done "+l.subject, func() error { return l.Lease.Done(ctx) })
}

// replica is a server in a process of its own. When it kills itself, another process
// takes its place.
type replica struct {
	config, points string
	// deaths are the points at which it is to end, counted over all its processes.
	deaths []int
	// lot is a file that several replicas share of which one is to die.
	lot string
	// onDeath is told of each death; it may be nil.
	onDeath func(point string)
	// stayDead leaves it dead.
	stayDead bool

	stop chan struct{}
	done chan struct{}
	// died are the points at which it ended.
	died []string
}

// replica writes the configuration of a server that listens on a port.
func (o *office) replica(t *testing.T, cfg app.Config, port int) *replica {
	t.Helper()
	dir := t.TempDir()
	cfg.Server.Listen = fmt.Sprintf("127.0.0.1:%d", port)
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{config: filepath.Join(dir, "gumshoe.yaml"), points: filepath.Join(dir, "points"), stop: make(chan struct{}), done: make(chan struct{})}
	if err := os.WriteFile(r.config, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// passed lists the points that it came to.
func (r *replica) passed() []string {
	raw, _ := os.ReadFile(r.points) // there is none before the first
	var out []string
	for l := range bytes.Lines(raw) {
		out = append(out, string(bytes.TrimSpace(l)))
	}
	return out
}

// run starts it, and again after each death, until the test ends or end is called.
func (r *replica) run(t *testing.T) {
	t.Helper()
	deaths := r.deaths
	begin := func() (*process, error) {
		n := 0
		if len(deaths) > 0 {
			n = max(1, deaths[0]-len(r.passed()))
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestReplica$", "-test.v")
		cmd.Env = append(os.Environ(), replicaConfig+"="+r.config, replicaPoints+"="+r.points, replicaDeath+"="+strconv.Itoa(n), replicaLot+"="+r.lot)
		return spawn(t, cmd)
	}
	p, err := begin()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		for {
			select {
			case <-r.stop:
				_ = p.cmd.Process.Signal(syscall.SIGTERM)
				<-p.ended
				if p.err != nil && !p.killed() {
					t.Errorf("the server did not end well: %v\n%s", p.err, p.output())
				}
				return
			case <-p.ended:
			}
			if !p.killed() || len(deaths) == 0 {
				t.Errorf("the server ended: %v\n%s", p.err, p.output())
				return
			}
			all := r.passed()
			point := fmt.Sprintf("%d %s", deaths[0], all[len(all)-1])
			r.died, deaths = append(r.died, point), deaths[1:]
			if r.onDeath != nil {
				r.onDeath(point)
			}
			if r.stayDead {
				return
			}
			if p, err = begin(); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	t.Cleanup(func() { r.end() })
}

// end ends it as a rollout does, and waits.
func (r *replica) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	<-r.done
}

// freePort gives a port of loopback that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// balance forwards connections to whichever of the ports takes them, as a Service does,
// and gives its URL.
func balance(t *testing.T, ports ...int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var turn atomic.Int64
	forward := func(in net.Conn) {
		defer func() { _ = in.Close() }()
		for range ports {
			out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[int(turn.Add(1))%len(ports)]))
			if err != nil {
				continue
			}
			over := context.AfterFunc(t.Context(), func() { _, _ = in.Close(), out.Close() })
			defer over()
			ended := make(chan struct{}, 2)
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					ended <- struct{}{}
				})
			}
			<-ended
			_ = out.Close()
			return
		}
	}
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { forward(in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

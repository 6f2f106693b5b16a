package jetstream_test

import (
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

// TestMain runs the tests, or, as a child of one of them, what it is told to.
func TestMain(m *testing.M) {
	storetest.Main(child)
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{
		"test.parallel": "8",  // most of them sleep, or wait for a server
		"rapid.checks":  "25", // for each of three kinds of servers
	} {
		if !given[name] {
			if err := flag.Set(name, value); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

func options(dir string, port int) *server.Options {
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return &server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir, DisableJetStreamBanner: true}
}

func start(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// serve starts a server of its own on loopback.
func serve(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	return start(t, options(dir, port))
}

// nodes are the servers of a cluster.
type nodes struct {
	opts []*server.Options
	all  []*server.Server
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// cluster starts three servers and waits for their leader.
func cluster(t *testing.T) *nodes {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		p := freePort(t)
		ports = append(ports, p)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", p)})
	}
	n := &nodes{}
	for i := range 3 {
		o := options(t.TempDir(), freePort(t))
		o.ServerName = fmt.Sprintf("n%d", i)
		o.Cluster = server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]}
		o.Routes = routes
		n.opts = append(n.opts, o)
		n.all = append(n.all, start(t, o.Clone()))
	}
	limit := time.Now().Add(30 * time.Second)
	for !n.led() {
		if time.Now().After(limit) {
			t.Fatal("the cluster has no leader")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return n
}

func (n *nodes) led() bool {
	for _, s := range n.all {
		if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
			return true
		}
	}
	return false
}

func (n *nodes) urls() string {
	var out []string
	for _, s := range n.all {
		out = append(out, s.ClientURL())
	}
	return strings.Join(out, ",")
}

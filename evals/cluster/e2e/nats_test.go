package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsNode is the environment of a NATS server in a process of its own: nodeOptions as
// JSON.
const natsNode = "GUMSHOE_TEST_NATS"

// nodeOptions are what a node of a cluster is told.
type nodeOptions struct {
	Name        string
	Dir         string
	Port, Route int
	Routes      []int
}

// TestNode is no test of its own: others run it as the process of a NATS server.
func TestNode(t *testing.T) {
	raw := os.Getenv(natsNode)
	if raw == "" {
		t.Skip("run by other tests")
	}
	var o nodeOptions
	if err := json.Unmarshal([]byte(raw), &o); err != nil {
		t.Fatal(err)
	}
	opts := &server.Options{
		ServerName: o.Name, Host: "127.0.0.1", Port: o.Port, NoSigs: true, JetStream: true, StoreDir: o.Dir, DisableJetStreamBanner: true, SyncAlways: true,
		Cluster: server.ClusterOpts{Name: "gumshoe", Host: "127.0.0.1", Port: o.Route},
	}
	for _, p := range o.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: "127.0.0.1:" + strconv.Itoa(p)})
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.ConfigureLogger()
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	s.Start()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
}

// node is a NATS server of a cluster.
type node struct {
	opts nodeOptions
	*process
}

// start starts it, or starts it again on what it kept.
func (n *node) start(t *testing.T) error {
	raw, err := json.Marshal(n.opts)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNode$", "-test.v")
	cmd.Env = append(os.Environ(), natsNode+"="+string(raw))
	n.process, err = spawn(t, cmd)
	return err
}

// threeNodes starts a NATS cluster of three processes, and gives it once it takes
// streams of three replicas.
func threeNodes(t *testing.T) (nodes []*node, urls []string) {
	t.Helper()
	var routes []int
	for range 3 {
		routes = append(routes, freePort(t))
	}
	for i := range 3 {
		n := &node{opts: nodeOptions{Name: fmt.Sprintf("nats-%d", i), Dir: filepath.Join(t.TempDir(), "jetstream"), Port: freePort(t), Route: routes[i], Routes: routes}}
		if err := n.start(t); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", n.opts.Port))
	}
	soon(t, "a NATS cluster of three nodes", func(ctx context.Context) (bool, error) {
		nc, err := nats.Connect(urls[0])
		if err != nil {
			return false, err
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			return false, err
		}
		ctx, stop := context.WithTimeout(ctx, 5*time.Second)
		defer stop()
		_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "ready", Subjects: []string{"ready"}, Replicas: 3})
		return err == nil, err
	})
	return nodes, urls
}

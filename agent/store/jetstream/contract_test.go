package jetstream_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

// counted gives every bench a name of its own on a server that they share.
var counted atomic.Int64

// bench opens stores with a function, each of the suite's cases under its own
// name.
func bench(slow bool, open func(t *testing.T, cfg jetstream.Config) *jetstream.Store, cfg jetstream.Config) func(t *testing.T) storetest.Bench {
	return func(t *testing.T) storetest.Bench {
		cfg := cfg
		cfg.Name = fmt.Sprintf("t%d", counted.Add(1))
		cfg.Poll = 20 * time.Millisecond
		b := storetest.Bench{Slow: slow, Advance: time.Sleep, Delete: func(ctx context.Context, s store.Store, subject string) error {
			return s.(*jetstream.Store).Delete(ctx, subject)
		}}
		if !slow {
			c := storetest.NewClock()
			cfg.Now, b.Advance = c.Now, c.Advance
		}
		b.Again = func(t *testing.T) store.Store { return open(t, cfg) }
		b.Store = b.Again(t)
		return b
	}
}

func opened(t *testing.T, cfg jetstream.Config) *jetstream.Store {
	t.Helper()
	s, err := jetstream.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// The embedded server, with a clock moved by hand.
func TestContractEmbedded(t *testing.T) {
	t.Parallel()
	e := embed(t, t.TempDir())
	storetest.Run(t, bench(false, func(t *testing.T, cfg jetstream.Config) *jetstream.Store {
		s, err := e.Open(t.Context(), withDir(cfg, "shared"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}, jetstream.Config{}))
}

func withDir(cfg jetstream.Config, dir string) jetstream.Config {
	cfg.Dir = dir
	return cfg
}

// embed starts a server that does not wait for the disk.
func embed(t *testing.T, dir string) *jetstream.Embedded {
	t.Helper()
	e, err := jetstream.Embed(jetstream.Config{Dir: dir}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// A server of its own, with the server's clock.
func TestContractServer(t *testing.T) {
	t.Parallel()
	url := serve(t, t.TempDir(), 0).ClientURL()
	storetest.Run(t, bench(true, opened, jetstream.Config{URLs: []string{url}}))
}

// Three servers, three replicas of everything. The clock is moved by hand: a cluster on
// a busy machine can take longer for one append than a test wants to wait for a timer.
func TestContractCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster is slow")
	}
	t.Parallel()
	c := cluster(t)
	storetest.Run(t, bench(false, opened, jetstream.Config{URLs: strings.Split(c.urls(), ","), Replicas: 3}))
}

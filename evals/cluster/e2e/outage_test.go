package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner/approval"
)

// kills is how often TestKilledServer ends the server; -kills 50 is the promise, fewer
// keep the suite short.
var kills = flag.Int("kills", 6, "how often the server is killed in the middle of its story")

// losses is how often TestLostReplica loses a replica and a NATS node.
var losses = flag.Int("losses", 2, "how often a replica and a NATS node are lost in the middle of their story")

// killsAStory is how often it dies in one telling: less often than the attempts after
// which a question is given up.
const killsAStory = 2

// kill -9 of the server at random points of the whole story, between any two things that
// it writes and around everything that the executor does: the next process goes on, what
// was acknowledged is there, nothing was done twice, and the end is the one of a story
// that nobody disturbed.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	c := openClinicWithExecutor(t, controlplane.Options{})
	tell := func(t *testing.T, namespace string, deaths ...int) (ending, *replica) {
		t.Helper()
		o := openQuickOffice(t, c)
		port := freePort(t)
		r := o.replica(t, o.cfg, port)
		r.deaths = deaths
		o.url = balance(t, port)
		r.run(t)
		got := o.story(t, namespace)
		r.end()
		return got, r
	}
	want, calm := tell(t, "calm")
	all := len(calm.passed())
	t.Logf("%d points; undisturbed it ends %+v", all, want)
	for done := 0; done < *kills; {
		var mu sync.Mutex
		before := done
		t.Run(fmt.Sprintf("from_%d", done), func(t *testing.T) {
			for i := range min(2, (*kills-done+killsAStory-1)/killsAStory) {
				seed := rand.Uint64()
				t.Run(fmt.Sprintf("seed_%d", seed), func(t *testing.T) {
					t.Parallel()
					dice := rand.New(rand.NewPCG(seed, 0))
					var deaths []int
					for range killsAStory {
						deaths = append(deaths, 1+dice.IntN(all*9/10))
					}
					slices.Sort(deaths)
					got, r := tell(t, fmt.Sprintf("killed-%d", before+i), deaths...)
					same(t, want, got, r.died)
					mu.Lock()
					defer mu.Unlock()
					done += len(r.died)
				})
			}
		})
		if done == before {
			t.Fatal("the server was not killed")
		}
		if t.Failed() {
			return
		}
	}
}

// openQuickOffice is an office whose people and parts try again soon.
func openQuickOffice(t *testing.T, c *clinic) *office {
	t.Helper()
	o := openOffice(t, c)
	o.slack.Redeliver = time.Second
	o.cfg.Server.Queue.Lease = app.Duration(time.Second)
	return o
}

// same expects the end of a story that was not disturbed.
func same(t *testing.T, want, got ending, died []string) {
	t.Helper()
	t.Logf("killed at %q", died)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("after it died at %q the end is another (-undisturbed +killed):\n%s", died, d)
	}
}

// Three replicas on a NATS cluster of three: one of them is killed at a random point of
// the story and, in the same moment, one NATS node. Where they stay dead and where they
// come back, the end is the one of a story that nobody disturbed.
func TestLostReplica(t *testing.T) {
	t.Parallel()
	c := openClinicWithExecutor(t, controlplane.Options{})
	// The key that signs approvals is one for all, as a mounted Secret is.
	key := filepath.Join(t.TempDir(), "approval.key")
	if _, err := approval.CreateKey(key); err != nil {
		t.Fatal(err)
	}
	tell := func(t *testing.T, namespace string, dice *rand.Rand, death int, back bool) (ending, []*replica, []string) {
		t.Helper()
		o := openQuickOffice(t, c)
		nodes, urls := threeNodes(t)
		var rs []*replica
		var ports []int
		for range 3 {
			cfg := o.cfg
			cfg.Store.Dir, cfg.Approval.KeyFile = t.TempDir(), key
			cfg.Server.NATS = app.NATSConfig{URLs: urls, Replicas: 3}
			// Three processes that sync on one disk are slow: nobody loses a lease but the dead.
			cfg.Server.Queue.Lease = app.Duration(4 * time.Second)
			ports = append(ports, freePort(t))
			rs = append(rs, o.replica(t, cfg, ports[len(ports)-1]))
		}
		// The first of them that comes to the point dies there, and a node with it.
		var lost []string
		lot := filepath.Join(t.TempDir(), "lot")
		for _, r := range rs {
			if death == 0 {
				break
			}
			r.lot, r.deaths, r.stayDead = lot, []int{death}, !back
			r.onDeath = func(point string) {
				gone := nodes[dice.IntN(len(nodes))]
				gone.kill()
				lost = append(lost, point, gone.opts.Name)
				if back {
					if err := gone.start(t); err != nil {
						t.Error(err)
					}
				}
			}
		}
		o.url = balance(t, ports...)
		for _, r := range rs {
			r.run(t)
		}
		got := o.story(t, namespace)
		for _, r := range rs {
			r.end()
		}
		return got, rs, lost
	}
	want, calm, _ := tell(t, "calm", nil, 0, false)
	// Whoever does the most comes at least to a third of all points.
	third := 0
	for _, r := range calm {
		third += len(r.passed()) / 3
	}
	for i := range *losses {
		seed := rand.Uint64()
		back := i%2 == 1
		t.Run(fmt.Sprintf("seed_%d_back_%t", seed, back), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 0))
			got, _, lost := tell(t, fmt.Sprintf("lost-%d", i), dice, 1+dice.IntN(third*9/10), back)
			same(t, want, got, lost)
			if len(lost) == 0 {
				t.Error("no replica was lost")
			}
		})
	}
}

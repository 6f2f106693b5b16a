package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// kills is how often TestKilledServer ends the server; -kills 50 is the promise, fewer
// keep the suite short.
var kills = flag.Int("kills", 6, "how often the server is killed in the middle of its story")

// killsAStory is how often it dies in one telling: less often than the attempts after
// which a question is given up.
const killsAStory = 2

// kill -9 of the server at random points of the whole story, between any two things that
// it writes and around everything that the executor does: the next process goes on, what
// was acknowledged is there, nothing was done twice, and the end is the one of a story
// that nobody disturbed.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	c := openHospital(t, controlplane.Options{})
	tell := func(t *testing.T, namespace string, deaths ...int) (ending, *replica) {
		t.Helper()
		o := openOffice(t, c)
		o.slack.Redeliver = time.Second
		o.cfg.Server.Queue.Lease = app.Duration(time.Second)
		port := freePort(t)
		r := o.hire(t, o.cfg, port)
		r.deaths = deaths
		o.url = balance(t, port)
		r.work(t)
		got := o.story(t, namespace)
		r.dismiss()
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
					t.Logf("it died at %q", r.died)
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("after it died at %q the end is another (-undisturbed +killed):\n%s", r.died, d)
					}
					mu.Lock()
					defer mu.Unlock()
					done += len(r.died)
				})
			}
		})
		if done == before {
			t.Fatal("the server was not killed")
		}
	}
	t.Logf("killed %d times", *kills)
}

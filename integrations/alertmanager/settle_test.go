package alertmanager

import (
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// What ended before its session was merged into an older one is the older one's end: what
// comes late of the same incident belongs to it, and it is asked about anew.
func TestMergedAfterItsEnd(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("b/p", "Node b")
	about := func(name string) one { return fired(name, "namespace=b pod=p", l.clock.now()) }
	first := about("One")
	l.take(message("g1", first))
	l.step()
	l.work()
	l.take(message("g1", first.ended(l.clock.now().Add(time.Second))))
	l.step()
	l.work()
	old := l.only()
	l.clock.turn(DefaultFlapWindow + 2*time.Minute) // no flap, and near enough to be one incident
	again, late := about("One"), about("Two")
	l.take(message("g1", again))
	l.step()
	l.work()
	l.take(message("g1", again.ended(l.clock.now().Add(time.Second))))
	l.step()
	l.take(message("g2", late))
	l.step()
	l.work()
	l.step()
	all := l.sessions()
	if len(all) != 2 || all[1].Merged != old.ID && all[0].Merged != old.ID {
		t.Fatalf("want the old session and one that was merged into it:%s", say(all))
	}
	var now session.Session
	for _, s := range all {
		if s.ID == old.ID {
			now = s
		}
	}
	if len(now.Alerts) != 2 || !now.Resolved.IsZero() {
		t.Errorf("what came late does not fire in the old session:%s", say(all))
	}
	l.take(message("g2", late.ended(l.clock.now().Add(time.Second))))
	l.step()
	l.clock.turn(DefaultRecheckEvery)
	l.step()
	l.work()
	rechecks := 0
	for _, s := range l.sessions() {
		for _, turn := range s.Turns {
			if s.ID == old.ID && strings.HasPrefix(turn.Key, overKey) {
				rechecks++
			}
		}
	}
	if rechecks < 2 {
		t.Errorf("the end of the merged incident was asked about %d times in all:%s", rechecks, say(l.sessions()))
	}
}

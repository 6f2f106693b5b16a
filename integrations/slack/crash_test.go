package slack_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

// story goes from a mention to an executed plan and holds what must be there once.
func (l *lab) story() {
	l.t.Helper()
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	answer := l.message(ops, ts, "Cause")
	l.slack.Click(ann, answer, "Make a plan")
	card := l.message(ops, ts, "waits for approval")
	again := l.slack.Click(bob, card, "Approve")
	l.message(ops, ts, "done and verified")
	l.message(ops, ts, "*Plan plan-1*")
	again()
	l.slack.Say(ann, ops, ts, "and why is claim train/llama-0-gpu not allocated?")
	l.until("two answers", func() bool { return l.count(ops, ts, "*Cause*") == 2 })
	l.until("two pictures", func() bool { return l.count(ops, ts, "E3.png") >= 2 })
	l.until("a frozen card", func() bool {
		m := l.message(ops, ts, "1 of 1 approvals")
		return len(m.Buttons()) == 0
	})
	l.until("every envelope is acknowledged", func() bool { return l.slack.Unacked() == 0 })
	for text, want := range map[string]int{"*Cause*": 2, "E3.png": 2, "*Plan:*": 1, "*Plan plan-1*": 1} {
		if n := l.count(ops, ts, text); n != want {
			l.dump()
			l.t.Errorf("%d messages hold %q, not %d", n, text, want)
		}
	}
	if n := l.svc.approvals("plan-1"); n != 1 {
		l.t.Errorf("%d approvals were counted, not 1", n)
	}
	sess, held, err := l.svc.Linked(l.t.Context(), slackLink(ops, ts))
	if err != nil || !held || len(sess.Turns) != 2 || len(sess.Plans) != 1 {
		l.t.Errorf("the thread holds %v, %d turns, %d plans (%v)", held, len(sess.Turns), len(sess.Plans), err)
	}
}

// TestKilledBetweenAnyTwoSteps ends the process at each boundary, some of them more
// than once, and starts another: nothing is lost, nothing is there twice.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"intake", "kept", "ack", "claimed", "asked", "handled", "deciding", "decided", "proposed", "post", "posted", "edit", "edited", "upload", "uploaded"} {
		for _, nth := range []int64{1, 3} {
			if nth > 1 && !slices.Contains([]string{"kept", "ack", "claimed", "handled", "post", "posted", "edited"}, point) {
				continue
			}
			t.Run(fmt.Sprintf("%s-%d", point, nth), func(t *testing.T) {
				t.Parallel()
				l := newLab(t, func(l *lab) { l.lease = time.Second })
				var seen atomic.Int64
				first := l.start(func(p string) bool { return p != point || seen.Add(1) < nth })
				var heir sync.WaitGroup
				heir.Go(func() {
					select {
					case <-first.killed:
						<-first.done
						l.start(nil)
					case <-t.Context().Done():
					}
				})
				l.story()
				if nth == 1 {
					select {
					case <-first.killed:
					default:
						t.Errorf("the process was never at %q", point)
					}
				}
				first.end()
				if seen.Load() < nth {
					return
				}
				heir.Wait()
			})
		}
	}
}

// TestTwoReplicas work on one store: one posts, both take and work, and one of them
// vanishes in between.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.lease = time.Second })
	one := l.start(nil)
	l.start(nil)
	l.until("two websockets", func() bool { return l.slack.Connections() == 2 })
	l.story()
	one.end()
	l.slack.Refresh()
	ts := l.slack.Say(bob, ops, "", slacktest.Call+" is deployment shop/web healthy?")
	l.message(ops, ts, "*Cause*")
	if n := l.count(ops, ts, "*Cause*"); n != 1 {
		t.Errorf("%d answers stand in the thread", n)
	}
}

// TestOrderOfAThread holds questions of one thread in the order in which they came,
// with two replicas that take and work.
func TestOrderOfAThread(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(nil)
	l.start(nil)
	l.until("two websockets", func() bool { return l.slack.Connections() == 2 })
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" question 0")
	l.message(ops, ts, "*Cause*")
	const n = 8
	for i := 1; i < n; i++ {
		l.slack.Say(ann, ops, ts, fmt.Sprintf("question %d", i))
		l.until("it is kept", func() bool { return l.slack.Unacked() == 0 })
	}
	var got []string
	l.until("all are asked", func() bool {
		sess, _, err := l.svc.Linked(t.Context(), slackLink(ops, ts))
		if err != nil {
			t.Error(err)
		}
		got = nil
		for _, q := range sess.Turns {
			got = append(got, q.Question.Text)
		}
		return len(got) >= n
	})
	for i, q := range got {
		if want := fmt.Sprintf("question %d", i); q != want {
			t.Errorf("turn %d is %q, not %q: %s", i, q, want, strings.Join(got, ", "))
		}
	}
}

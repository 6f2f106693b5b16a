package alertmanager

import (
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

func TestOneIncidentForTheCopiesAndRepetitionsOfAGroup(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("train/llama-0", "Node n1")
	body := message("{}:{alertname=\"KubePodNotReady\"}", fired("KubePodNotReady", "namespace=train pod=llama-0 severity=critical", start))
	if a := l.take(body); a.Known || a.Alerts != 1 {
		t.Errorf("the first delivery: %+v", a)
	}
	l.step()
	if a := l.take(body); !a.Known {
		t.Errorf("the copy of a second Alertmanager is not known: %+v", a)
	}
	l.step()
	l.work()
	l.clock.turn(4 * time.Hour)
	l.take(body) // what Alertmanager repeats
	l.step()
	s := l.only()
	if len(s.Turns) != 1 || s.Turns[0].Priority != session.High || s.Turns[0].State != session.Answered || s.Source != session.Alertmanager {
		t.Errorf("session %+v", s)
	}
	if q := s.Turns[0].Question; q.Alert == nil || q.Alert.Name != "KubePodNotReady" || len(q.Subjects) != 0 || q.Cluster != "lab" {
		t.Errorf("question %+v", q)
	}
	if s.Title != "KubePodNotReady Pod train/llama-0" {
		t.Errorf("title %q", s.Title)
	}
}

func TestAnAlertAboutTheCauseJoinsTheIncident(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("train/llama-0", "ResourceClaim train/gpu", "Node n1")
	l.take(message("a", fired("KubePodNotReady", "namespace=train pod=llama-0", start)))
	l.step()
	l.work()
	l.clock.turn(time.Minute)
	l.take(message("b", fired("KubeNodeNotReady", "node=n1", start.Add(time.Minute))))
	l.take(message("c", fired("ClaimStuck", "namespace=train resourceclaim=gpu", start.Add(time.Minute))))
	l.take(message("d", fired("KubeNodeNotReady", "node=n2", start.Add(time.Minute))))
	l.step()
	all := l.sessions()
	if len(all) != 2 || len(all[0].Alerts) != 3 || len(all[1].Alerts) != 1 || all[1].Alerts[0].Labels["node"] != "n2" {
		t.Fatalf("want the node n1 and the claim in the first session, and n2 in another:%s", say(all))
	}
	// Long after, the same node is another matter.
	l.clock.turn(20 * time.Hour)
	l.take(message("e", fired("DiskFull", "node=n1", l.clock.now())))
	l.step()
	if all := l.sessions(); len(all) != 3 {
		t.Errorf("an alert of the next day was taken for the same incident:%s", say(all))
	}
}

func TestGroupsOfANeighbourhoodWaitForTheInvestigation(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("train/llama-0", "Deployment train/llama", "Node n1")
	l.sick("train/db-0", "PersistentVolumeClaim train/data")
	l.sick("train/db-1", "PersistentVolumeClaim train/data")
	l.take(message("a", fired("KubePodNotReady", "namespace=train pod=llama-0", start)))
	l.step()
	l.clock.turn(time.Second)
	l.take(message("b", fired("KubeDeploymentReplicasMismatch", "namespace=train deployment=llama", start)))
	l.take(message("c", fired("KubePodCrashLooping", "namespace=train pod=db-0", start)))
	l.take(message("d", fired("KubePodCrashLooping", "namespace=train pod=db-1", start)))
	l.step()
	if s := l.only(); len(s.Turns) != 1 || len(s.Alerts) != 1 {
		t.Fatalf("a group did not wait:%s", say(l.sessions()))
	}
	l.restart() // what waits is in the journal
	l.step()
	l.work()
	l.step()
	l.work()
	l.step()
	all := l.sessions()
	if len(all) != 2 || len(all[0].Alerts) != 2 || len(all[1].Alerts) != 2 || l.questions() != 2 {
		t.Fatalf("want the deployment with the pod, and both others in one session:%s", say(all))
	}
	if q := all[1].Turns[0].Question; len(q.Subjects) != 2 {
		t.Errorf("the second question is about %v", q.Subjects)
	}
}

func TestTheWaitIsBounded(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.take(message("a", fired("A", "namespace=train pod=llama-0", start)))
	l.step()
	l.take(message("b", fired("B", "namespace=train pod=db-0", start)))
	l.step()
	l.only()
	l.clock.turn(DefaultWait + time.Second)
	l.step()
	if all := l.sessions(); len(all) != 2 {
		t.Errorf("the group still waits for an investigation that does not end:%s", say(all))
	}
}

func TestSessionsOfOneCauseAreMerged(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("a/web-0", "Node n1")
	l.sick("b/job-0", "Node n1")
	l.take(message("a", fired("KubePodNotReady", "namespace=a pod=web-0", start)))
	l.take(message("b", fired("KubePodNotReady", "namespace=b pod=job-0", start)))
	l.step()
	l.work()
	l.step()
	all := l.sessions()
	if len(all) != 2 || all[0].Merged != "" || all[1].Merged != all[0].ID || len(all[0].Alerts) != 2 {
		t.Fatalf("want the second merged into the first:%s", say(all))
	}
	// What is heard later of the merged one's group goes to the one that goes on.
	l.clock.turn(time.Minute)
	l.take(message("b", fired("KubePodNotReady", "namespace=b pod=job-0", start).ended(l.clock.now())))
	l.step()
	if s, err := l.svc.Session(t.Context(), all[0].ID); err != nil || !s.Resolved.IsZero() || s.Alerts[1].Status != resolved {
		t.Errorf("session %+v, %v", s.Alerts, err)
	}
	if l.questions() != 2 {
		t.Errorf("%d questions, want 2", l.questions())
	}
}

func TestWhatIsOverIsAskedAboutAndClosed(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("train/llama-0", "Node n1")
	a := fired("KubePodNotReady", "namespace=train pod=llama-0", start)
	l.take(message("a", a))
	l.step()
	l.work()
	l.clock.turn(5 * time.Minute)
	l.sick("train/llama-0")
	l.take(message("a", a.ended(l.clock.now())))
	l.step()
	s := l.only()
	if len(s.Turns) != 2 || s.Resolved.IsZero() || s.Turns[1].Question.Text != "is it over?" || s.Turns[1].Priority != session.Low {
		t.Fatalf("want a question whether it is over: %+v", s)
	}
	l.work()
	l.step()
	if s = l.only(); s.Closed {
		t.Error("it was closed while its alerts may flap")
	}
	l.clock.turn(DefaultFlapWindow + time.Second)
	l.step()
	if s = l.only(); !s.Closed || s.Turns[1].Outcome != incident.Healthy {
		t.Errorf("it was not closed: %+v", s)
	}
	l.clock.turn(time.Hour)
	l.take(message("a", fired("KubePodNotReady", "namespace=train pod=llama-0", l.clock.now())))
	l.step()
	if all := l.sessions(); len(all) != 2 {
		t.Errorf("the same alert an hour later is another incident:%s", say(all))
	}
}

func TestStillSickIsNotClosed(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("train/llama-0", "Node n1")
	a := fired("KubePodNotReady", "namespace=train pod=llama-0", start)
	l.take(message("a", a))
	l.step()
	l.work()
	l.take(message("a", a.ended(start)))
	l.step()
	l.work()
	l.clock.turn(time.Hour)
	l.step()
	if s := l.only(); s.Closed || len(s.Turns) != 2 {
		t.Errorf("the pod is sick although its alert ended, and the session says: %+v", s)
	}
}

func TestFlappingReopensWithoutAnotherInvestigation(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	l.sick("train/llama-0", "Node n1")
	for range 5 {
		a := fired("KubePodNotReady", "namespace=train pod=llama-0", l.clock.now())
		l.take(message("a", a))
		l.step()
		l.work()
		l.clock.turn(time.Minute)
		l.take(message("a", a.ended(l.clock.now())))
		l.step()
		l.work()
		l.clock.turn(time.Minute)
	}
	s := l.only()
	if l.questions() != 1 || len(s.Turns) > 3 {
		t.Errorf("%d investigations and %d turns for an alert that flaps over 10 minutes", l.questions(), len(s.Turns))
	}
	// The end was a mistake: it fires again with the start that it had.
	a := fired("KubePodNotReady", "namespace=train pod=llama-0", l.clock.now())
	l.take(message("a", a))
	l.step()
	l.take(message("a", a.ended(l.clock.now())))
	l.step()
	l.clock.turn(again + time.Minute)
	l.take(message("a", a))
	l.step()
	if s := l.only(); !s.Resolved.IsZero() {
		t.Errorf("an alert that fires is taken for over: %+v", s)
	}
}

func TestAGroupThatGrowsIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{})
	a := fired("KubePodNotReady", "namespace=train pod=llama-0", start)
	l.take(message("a", a))
	l.step()
	l.work()
	l.clock.turn(time.Minute)
	more := fired("KubePodNotReady", "namespace=shop pod=web-0", l.clock.now())
	l.take(message("a", a, more))
	l.step()
	l.work()
	s := l.only()
	if len(s.Turns) != 2 || len(s.Turns[1].Question.Subjects) != 1 || s.Turns[1].Question.Subjects[0].Name != "web-0" {
		t.Fatalf("want a look at the pod in shop: %+v", s.Turns)
	}
	l.clock.turn(time.Minute)
	third := fired("KubePodNotReady", "namespace=shop pod=web-1", l.clock.now())
	l.take(message("a", a, more, third))
	l.step()
	if s := l.only(); len(s.Turns) != 2 {
		t.Errorf("it was looked at again after a minute")
	}
	l.clock.turn(DefaultRecheckEvery)
	l.step()
	if s := l.only(); len(s.Turns) != 3 {
		t.Errorf("what came in between was never looked at: %+v", s.Turns)
	}
}

func TestBudgetLeavesOneDigest(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{Budgets: BudgetConfig{PerHour: 4, PerDay: 40}})
	for n := range 10 {
		ns := string(rune('a' + n))
		l.take(message(ns, fired("Alert"+strings.ToUpper(ns), "namespace="+ns+" pod=p", start)))
	}
	l.step()
	l.work()
	l.step()
	all := l.sessions()
	if len(all) != 4 { // three, one kept for a critical one, and the digest
		t.Fatalf("%d sessions:%s", len(all), say(all))
	}
	d := all[3]
	if d.Title != "alerts that the budget left out in the hour from 03:00 UTC" || len(d.Alerts) != 7 || len(d.Turns) != 1 {
		t.Errorf("digest %q with %d alerts, %d turns", d.Title, len(d.Alerts), len(d.Turns))
	}
	l.take(message("k", fired("Fire", "namespace=z severity=critical", start)))
	l.step()
	if n := len(l.sessions()); n != 5 {
		t.Errorf("%d sessions: what is kept for critical alerts was not used", n)
	}
	l.clock.turn(time.Hour)
	l.step()
	d, err := l.svc.Session(t.Context(), d.ID)
	if err != nil || len(d.Turns) != 2 || !strings.Contains(d.Turns[1].Question.Text, "were not looked at each on their own") {
		t.Errorf("the rest was not asked about: %+v, %v", d.Turns, err)
	}
}

func TestQuietHoursHoldWhatIsNotUrgent(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{QuietHours: []QuietHours{{From: "22:00", To: "07:00", Timezone: "UTC"}}})
	l.take(message("a", fired("Minor", "namespace=a severity=warning", start)))
	l.take(message("b", fired("Major", "namespace=b severity=critical", start)))
	l.step()
	if s := l.only(); s.Turns[0].Question.Alert.Name != "Major" {
		t.Fatalf("in quiet hours %s was investigated", s.Turns[0].Question.Alert.Name)
	}
	l.restart()
	l.clock.turn(4*time.Hour + time.Second)
	l.step()
	if all := l.sessions(); len(all) != 2 {
		t.Errorf("after the quiet hours there are %d sessions", len(all))
	}
}

func TestWhatARouteIgnores(t *testing.T) {
	t.Parallel()
	l := setup(t, Config{Routes: []Route{{Match: []string{`alertname=~"Watchdog|InfoInhibitor"`}, Ignore: true}, {Match: []string{"team=ml"}, Priority: session.High, Slack: "C042"}}})
	l.take(message("a", fired("Watchdog", "severity=none", start)))
	l.take(message("b", fired("SlowTokens", "namespace=serve team=ml severity=warning", start)))
	l.step()
	s := l.only()
	if s.Turns[0].Priority != session.High || len(s.Links) != 1 {
		t.Fatalf("session %+v", s)
	}
	if ch, ok := WantedChannel(s.Links[0]); !ok || ch != "C042" {
		t.Errorf("link %+v", s.Links[0])
	}
}

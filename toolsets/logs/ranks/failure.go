package ranks

import (
	"fmt"
	"slices"
	"time"
)

// survived reports whether the process that told of a failure lived on to wait in
// a collective: then it was none that ended it.
func survived(m Member, own Event) bool {
	if gotOver(m, own) {
		return true
	}
	return slices.ContainsFunc(m.Log.Events, func(e Event) bool {
		if e.Class != Timeout || own.At.IsZero() || e.At.Sub(own.At) < time.Minute {
			return false
		}
		return own.Rank >= 0 && e.Rank == own.Rank || own.Rank < 0 && m.Processes <= 1
	})
}

// gotOver reports whether a running process wrote on for long after it complained,
// in the same run: a connection that was made again is no failure.
func gotOver(m Member, e Event) bool {
	return m.Running && !e.At.IsZero() && !e.At.Before(m.Since) && m.Log.Last.Sub(e.At) > overAfter
}

// overAfter is how long a process has to go on after a complaint; a watchdog that
// gives up ends the process within seconds.
const overAfter = 2 * time.Minute

// ended makes an event of a container's end that is a failure of its own: killed for
// memory, or by a signal before anybody asked it to stop.
func ended(m Member, f facts) *Event {
	for _, e := range m.Ended {
		what := ""
		switch {
		case e.Reason == "OOMKilled":
			what = "killed for memory"
		case e.Code == 139 || e.Code == 135 || e.Code == 132 || e.Code == 136:
			what = "crash of the process"
		case e.Code == 137 && f.complaint == nil && f.teardown == nil:
			what = "killed"
		default:
			continue
		}
		text := fmt.Sprintf("container ended with exit code %d", e.Code)
		if e.Reason != "" {
			text += " (" + e.Reason + ")"
		}
		return &Event{At: e.At, Class: Own, What: what, Rank: -1, Text: text}
	}
	return nil
}

func earlier(a, b *Event) bool {
	return !a.At.IsZero() && !b.At.IsZero() && a.At.Before(b.At)
}

// incomplete: others wait, and a member has not started.
func (j *judge) incomplete() (Verdict, bool) {
	var who []int
	for i, m := range j.members {
		if !m.Started && len(m.Ended) == 0 {
			who = append(who, i)
		}
	}
	line := j.anyWaiting()
	if len(who) == 0 || len(who) == len(j.members) || line == nil {
		return Verdict{}, false
	}
	return Verdict{Kind: Incomplete, Who: who, Line: line.Text, At: line.At, Ranks: j.ranks(who),
		Why: fmt.Sprintf("%d of %d members have not started, and the others wait for them", len(who), len(j.members))}, true
}

func (j *judge) anyWaiting() *Event {
	for _, f := range j.facts {
		if f.waiting != nil {
			return f.waiting
		}
	}
	return nil
}

// ownFailure: the earliest failure of a member's own that came before the others'
// complaints. Without complaints of others it is no matter of ranks.
func (j *judge) ownFailure() (Verdict, bool) {
	var who []int
	for i, f := range j.facts {
		if f.own != nil {
			who = append(who, i)
		}
	}
	if len(who) == 0 {
		return Verdict{}, false
	}
	slices.SortStableFunc(who, func(a, b int) int { return order(j.facts[a].own, j.facts[b].own) })
	head := who[0]
	own := j.facts[head].own
	var alike []int
	for _, i := range who {
		if near(j.facts[i].own, own) {
			alike = append(alike, i)
		}
	}
	if len(alike) > 1 {
		if 2*len(alike) < len(j.members) {
			// A node that goes takes several ranks with it: each failed first.
			return j.failedFirst(alike, own)
		}
		return Verdict{Kind: Alike, Who: alike, Line: own.Text, What: own.What, At: own.At, Ranks: j.ranks(alike),
			Why: fmt.Sprintf("%d of %d members fail alike within %s: %s", len(alike), len(j.members), together, own.Text)}, true
	}
	return j.failedFirst([]int{head}, own)
}

func (j *judge) failedFirst(who []int, own *Event) (Verdict, bool) {
	first := j.firstComplaint(who[0])
	if first == nil {
		return j.awaited(who, own)
	}
	if !own.At.IsZero() && !first.At.IsZero() && first.At.Sub(own.At) > j.horizon() {
		return Verdict{}, false
	}
	// A failure well after the complaint is its consequence.
	if !own.At.IsZero() && !first.At.IsZero() && own.At.After(first.At.Add(together)) {
		return Verdict{}, false
	}
	others := 0
	for i, f := range j.facts {
		if !slices.Contains(who, i) && f.complaint != nil {
			others++
		}
	}
	v := Verdict{Kind: FailedFirst, Who: who, Line: own.Text, What: own.What, At: own.At, First: first.At, Ranks: j.ranks(who), Work: j.work()}
	if own.Rank >= 0 {
		v.Ranks[0] = own.Rank
	}
	v.Why = fmt.Sprintf("%d of the other %d members complain of a peer or a collective", others, len(j.members)-len(who))
	if !own.At.IsZero() && !first.At.IsZero() && first.At.After(own.At) {
		v.Why += fmt.Sprintf(", first %s later", first.At.Sub(own.At).Round(time.Second))
	}
	return v, true
}

// awaited: the others do not complain yet, they wait for the member that fails.
func (j *judge) awaited(who []int, own *Event) (Verdict, bool) {
	n := 0
	for i, f := range j.facts {
		if !slices.Contains(who, i) && f.waiting != nil && !j.wentOn(i) {
			n++
		}
	}
	if n == 0 {
		return Verdict{}, false
	}
	return Verdict{Kind: FailedFirst, Who: who, Line: own.Text, What: own.What, At: own.At, Ranks: j.ranks(who),
		Why: fmt.Sprintf("%d of the other %d members wait for it", n, len(j.members)-len(who))}, true
}

// horizon is how long before a complaint its cause may lie.
func (j *judge) horizon() time.Duration {
	if j.limit > 0 {
		return j.limit + 10*time.Minute
	}
	return before
}

// order sorts by time; what is undated comes last.
func order(a, b *Event) int {
	if a.At.IsZero() != b.At.IsZero() {
		if a.At.IsZero() {
			return 1
		}
		return -1
	}
	return a.At.Compare(b.At)
}

// near reports whether two failures came at once; undated ones cannot be told apart.
func near(a, b *Event) bool {
	if a.At.IsZero() || b.At.IsZero() {
		return true
	}
	return a.At.Sub(b.At).Abs() <= together
}

// unmet: everybody runs and some still wait for others.
func (j *judge) unmet() (Verdict, bool) {
	var who []int
	for i, f := range j.facts {
		if f.waiting != nil && !j.wentOn(i) {
			who = append(who, i)
		}
	}
	if len(who) == 0 {
		return Verdict{}, false
	}
	e := j.facts[who[0]].waiting
	return Verdict{Kind: Unmet, Who: who, Ranks: j.ranks(who), Line: e.Text, At: e.At,
		Why: fmt.Sprintf("%d of %d members wait for the others to join", len(who), len(j.members))}, true
}

// wentOn reports whether a member wrote more than a few lines after it last waited.
func (j *judge) wentOn(i int) bool {
	m := j.members[i]
	e := j.facts[i].waiting
	return m.Running && !e.At.IsZero() && m.Log.Last.Sub(e.At) > together
}

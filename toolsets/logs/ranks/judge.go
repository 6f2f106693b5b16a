package ranks

import (
	"fmt"
	"slices"
	"time"
)

// together is within which time failures count as simultaneous: clocks of nodes
// differ, and launchers take seconds to pass a failure on.
const together = 5 * time.Second

// before is how long before the first complaint an own failure may lie and still be
// its cause when the timeout is not named: PyTorch's default for NCCL is 10
// minutes, and many raise it to an hour.
const before = 70 * time.Minute

// Judge compares the members of one job.
func Judge(members []Member) Verdict {
	j := &judge{members: members, facts: make([]facts, len(members))}
	for i, m := range members {
		j.facts[i] = j.look(m)
	}
	v := j.decide()
	v.Roles = j.roles(v)
	v.Reporting = j.reporting()
	return v
}

// facts are the events of one member that decide.
type facts struct {
	own *Event
	// ownAt is zero when undated.
	complaint *Event
	waiting   *Event
	teardown  *Event
	work      *Work
	state     []rankState
	// complained are the labelled ranks that report a timeout.
	complained map[int]bool
}

// rankState is the sequence state that one rank stated; the rank is -1 when the
// line has no label.
type rankState struct {
	rank int
	work Work
}

type judge struct {
	members []Member
	facts   []facts
	// limit is the timeout of the collective, zero when not named.
	limit time.Duration
}

func (j *judge) look(m Member) facts {
	var f facts
	if m.Done {
		return f
	}
	events := m.Log.Events
	// Only the newest round counts: what happened before the complaint by more than
	// a collective may wait is an older story.
	newest := -1
	for i, e := range events {
		if e.Class == Timeout || e.Class == Victim {
			newest = i
			if e.Work != nil && e.Work.Timeout > 0 {
				j.limit = max(j.limit, e.Work.Timeout)
			}
		}
	}
	horizon := before
	if j.limit > 0 {
		horizon = j.limit + 10*time.Minute
	}
	for i := range events {
		e := &events[i]
		if newest >= 0 && !e.At.IsZero() && !events[newest].At.IsZero() && events[newest].At.Sub(e.At) > horizon {
			continue
		}
		switch e.Class {
		case Own:
			if f.own == nil && f.complaint == nil {
				f.own = e
			}
		case Timeout, Victim:
			if f.complaint == nil {
				f.complaint = e
			}
		case Waiting:
			f.waiting = e
		case Teardown:
			if f.teardown == nil {
				f.teardown = e
			}
		}
		if e.Work != nil {
			if e.Class == Timeout && f.work == nil {
				f.work = e.Work
			}
			if e.Work.Known {
				f.state = append(f.state, rankState{e.Rank, *e.Work})
			}
		}
		if e.Class == Timeout && e.Rank >= 0 {
			if f.complained == nil {
				f.complained = map[int]bool{}
			}
			f.complained[e.Rank] = true
		}
	}
	if f.own != nil && survived(m, *f.own) {
		f.own = nil
	}
	if f.complaint != nil && gotOver(m, *f.complaint) {
		return facts{}
	}
	if own := ended(m, f); own != nil && (f.own == nil || earlier(own, f.own)) {
		f.own = own
	}
	return f
}

func (j *judge) reporting() int {
	n := 0
	for _, f := range j.facts {
		if f.complaint != nil {
			n++
		}
	}
	return n
}

// firstComplaint gives the earliest complaint of the members but one.
func (j *judge) firstComplaint(but int) *Event {
	var first *Event
	for i, f := range j.facts {
		if i != but && f.complaint != nil && (first == nil || earlier(f.complaint, first)) {
			first = f.complaint
		}
	}
	return first
}

func (j *judge) decide() Verdict {
	for _, try := range []func() (Verdict, bool){j.incomplete, j.ownFailure, j.witness, j.mismatch, j.lagging, j.never, j.silent, j.hangs} {
		if v, ok := try(); ok {
			return v
		}
	}
	first := j.firstComplaint(-1)
	if first == nil {
		if v, ok := j.unmet(); ok {
			return v
		}
		return Verdict{Kind: Quiet, Why: "no log complains of a peer, a collective or a failure of its own"}
	}
	return Verdict{Kind: Undecided, Line: first.Text, At: first.At, First: first.At, Why: fmt.Sprintf("%d of %d members complain of a peer, and nothing tells who failed first", j.reporting(), len(j.members))}
}

func (j *judge) roles(v Verdict) []Role {
	out := make([]Role, len(j.members))
	for i, m := range j.members {
		f := j.facts[i]
		switch {
		case slices.Contains(v.Who, i) && v.Kind == FailedFirst:
			out[i] = Culprit
		case slices.Contains(v.Who, i) && v.Kind == LaggingRank:
			out[i] = Stalled
		case slices.Contains(v.Who, i) && v.Kind == SilentRank:
			out[i] = Silent
		case !m.Started && len(m.Ended) == 0:
			out[i] = Missing
		case m.Unread != "":
			out[i] = Unseen
		case f.own != nil:
			out[i] = Failed
		case f.complaint != nil:
			out[i] = Affected
		case f.waiting != nil && !j.wentOn(i):
			out[i] = Waits
		default:
			out[i] = Fine
		}
	}
	return out
}

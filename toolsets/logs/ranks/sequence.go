package ranks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// witness: a log names the rank that is behind or gone.
func (j *judge) witness() (Verdict, bool) {
	votes := map[int]int{}
	var line *Event
	for i, m := range j.members {
		for k := range m.Log.Events {
			e := &m.Log.Events[k]
			if e.Class != Witness {
				continue
			}
			for _, r := range e.Blames {
				if o := j.owner(r); o >= 0 && o != i {
					votes[o]++
					if line == nil {
						line = e
					}
				}
			}
		}
	}
	// Whoever most ranks are blamed on is no culprit: it is the few against the many.
	if len(votes) == 0 || 2*len(votes) > len(j.members) {
		return Verdict{}, false
	}
	who := make([]int, 0, len(votes))
	for i := range votes {
		who = append(who, i)
	}
	slices.Sort(who)
	v := Verdict{Kind: LaggingRank, Who: who, Line: line.Text, At: line.At, First: line.At, Ranks: j.ranks(who), Work: j.work()}
	for k, i := range who {
		for _, r := range line.Blames {
			if j.owner(r) == i {
				v.Ranks[k] = r
			}
		}
	}
	v.Why = fmt.Sprintf("a peer's log names it: %s", line.Text)
	return v, true
}

// owner gives the member that runs a rank, -1 when that is not known.
func (j *judge) owner(rank int) int {
	for i, m := range j.members {
		if slices.Contains(m.Log.Ranks, rank) {
			return i
		}
	}
	at := -1
	for i, m := range j.members {
		if p := max(m.Processes, 1); m.Index >= 0 && rank/p == m.Index && len(m.Log.Ranks) == 0 {
			if at >= 0 {
				return -1
			}
			at = i
		}
	}
	return at
}

// ranks gives the first rank of each member, -1 where it is not known.
func (j *judge) ranks(who []int) []int {
	out := make([]int, len(who))
	for k, i := range who {
		m := j.members[i]
		switch {
		case len(m.Log.Ranks) > 0:
			out[k] = m.Log.Ranks[0]
		case m.Index >= 0:
			out[k] = m.Index * max(m.Processes, 1)
		default:
			out[k] = -1
		}
	}
	return out
}

// work gives the collective that timed out, of the member that said so first.
func (j *judge) work() *Work {
	var w *Work
	var at *Event
	for _, f := range j.facts {
		if f.work != nil && (w == nil || f.complaint != nil && at != nil && earlier(f.complaint, at)) {
			w, at = f.work, f.complaint
		}
	}
	return w
}

// mismatch: in one process group ranks called different collectives, or the same
// with different sizes, at the same place.
func (j *judge) mismatch() (Verdict, bool) {
	type call struct {
		who  int
		work *Work
	}
	at := map[string][]call{}
	for i, f := range j.facts {
		if f.work != nil {
			k := fmt.Sprintf("%s#%d", f.work.Group, f.work.Seq)
			at[k] = append(at[k], call{i, f.work})
		}
	}
	for _, k := range sorted(at) {
		calls := at[k]
		base := calls[0]
		for _, c := range calls[1:] {
			sizes := uniform(base.work.Op) && (c.work.In != base.work.In || c.work.Out != base.work.Out) && c.work.In > 0 && base.work.In > 0
			if c.work.Op == base.work.Op && !sizes {
				continue
			}
			return Verdict{Kind: Mismatch, Who: []int{base.who, c.who}, Ranks: j.ranks([]int{base.who, c.who}), Work: base.work, Line: j.facts[base.who].complaint.Text, At: j.facts[base.who].complaint.At,
				Why: fmt.Sprintf("at sequence %d %s calls %s with %d elements and %s calls %s with %d", base.work.Seq, j.members[base.who].Name, base.work.Op, base.work.In, j.members[c.who].Name, c.work.Op, c.work.In)}, true
		}
	}
	return Verdict{}, false
}

// uniform are the collectives whose sizes must be the same on every rank.
func uniform(op string) bool {
	return slices.Contains([]string{"ALLREDUCE", "BROADCAST", "REDUCE", "_ALLGATHER_BASE", "_REDUCE_SCATTER_BASE", "ALLREDUCE_COALESCED"}, strings.ToUpper(op))
}

// lagging: by the sequence numbers of one process group a few ranks did not enter
// the collective that the others wait in. Numbers of different groups say nothing
// about each other.
func (j *judge) lagging() (Verdict, bool) {
	type state struct {
		who, rank int
		enqueued  int64
	}
	groups := map[string][]state{}
	for i, f := range j.facts {
		for _, w := range f.state {
			// The first statement of a rank counts: an abort moves the numbers on.
			if g := groups[w.work.Group]; !slices.ContainsFunc(g, func(s state) bool { return s.who == i && s.rank == w.rank }) {
				groups[w.work.Group] = append(g, state{i, w.rank, w.work.Enqueued})
			}
		}
	}
	stuck := j.work()
	for _, name := range sorted(groups) {
		if stuck != nil && stuck.Group != "" && name != "" && name != stuck.Group {
			continue
		}
		seq := int64(0)
		for _, s := range groups[name] {
			seq = max(seq, s.enqueued)
		}
		if stuck != nil {
			seq = stuck.Seq
		}
		var behind []state
		in := 0
		for _, s := range groups[name] {
			if s.enqueued < seq {
				behind = append(behind, s)
			} else {
				in++
			}
		}
		if len(behind) == 0 || len(behind) > in {
			continue
		}
		v := Verdict{Kind: LaggingRank, Work: stuck, What: "behind", Line: j.stateLine(behind[0].who, behind[0].rank)}
		for _, s := range behind {
			if slices.Contains(v.Who, s.who) {
				continue
			}
			v.Who = append(v.Who, s.who)
			if s.rank >= 0 {
				v.Ranks = append(v.Ranks, s.rank)
			} else {
				v.Ranks = append(v.Ranks, j.ranks([]int{s.who})[0])
			}
		}
		if c := j.firstComplaint(-1); c != nil {
			v.First, v.At = c.At, c.At
		}
		v.Why = fmt.Sprintf("its last enqueued work is %d while %d others entered work %d and wait", behind[0].enqueued, in, seq)
		return v, true
	}
	return Verdict{}, false
}

func (j *judge) stateLine(i, rank int) string {
	for _, e := range j.members[i].Log.Events {
		if e.Work != nil && e.Work.Known && e.Rank == rank {
			return e.Text
		}
	}
	return ""
}

// never: the first collective of the group timed out on more than one member, so
// the ranks never reached each other.
func (j *judge) never() (Verdict, bool) {
	var who []int
	for i, f := range j.facts {
		if f.work != nil && f.work.Seq == 1 {
			who = append(who, i)
		} else if f.work != nil {
			return Verdict{}, false
		}
	}
	if len(who) < 2 && (len(who) == 0 || len(j.members) > 1) {
		return Verdict{}, false
	}
	// A member that says nothing may be why; that is silent's to say.
	if len(j.quiet()) > 0 {
		return Verdict{}, false
	}
	c := j.facts[who[0]].complaint
	return Verdict{Kind: NeverWorked, Who: who, Ranks: j.ranks(who), Work: j.facts[who[0]].work, Line: c.Text, At: c.At, First: c.At,
		Why: fmt.Sprintf("sequence 1 (%s) timed out on %d of %d members: no collective of this process group ever ended", j.facts[who[0]].work.Op, len(who), len(j.members))}, true
}

// quiet lists the members whose log was read and does not complain while a
// collective timed out on the others.
func (j *judge) quiet() []int {
	var out []int
	for i, f := range j.facts {
		m := j.members[i]
		if m.Unread == "" && m.Started && m.Log.Lines > 0 && f.complaint == nil && f.own == nil && f.teardown == nil && len(f.state) == 0 {
			out = append(out, i)
		}
	}
	return out
}

// silent: one or few members say nothing while the others report the timeout, and
// said their last word before it.
func (j *judge) silent() (Verdict, bool) {
	timedOut := 0
	for _, f := range j.facts {
		if f.work != nil {
			timedOut++
		}
	}
	who := j.quiet()
	if len(who) == 0 && timedOut == len(j.members) {
		return j.mute()
	}
	if len(who) == 0 || timedOut == 0 || len(who) > timedOut {
		return Verdict{}, false
	}
	first := j.firstComplaint(-1)
	for _, i := range who {
		// Without times nothing shows that it fell silent.
		if last := j.members[i].Log.Last; last.IsZero() || first.At.IsZero() || last.After(first.At.Add(together)) {
			return Verdict{}, false
		}
	}
	slices.SortStableFunc(who, func(a, b int) int { return j.members[a].Log.Last.Compare(j.members[b].Log.Last) })
	m := j.members[who[0]]
	return Verdict{Kind: SilentRank, Who: who, Ranks: j.ranks(who), Work: j.work(), Line: m.Log.LastText, At: m.Log.Last, First: first.At,
		Why: fmt.Sprintf("it wrote its last line %s before the first of %d others reported the timeout, and has not reported it", first.At.Sub(m.Log.Last).Round(time.Second), timedOut)}, true
}

// mute: every pod reports the timeout, but of the ranks one or few do not.
func (j *judge) mute() (Verdict, bool) {
	world, said := 0, map[int]bool{}
	for i, m := range j.members {
		world += m.Processes
		for r := range j.facts[i].complained {
			said[r] = true
		}
	}
	var who, lacking []int
	for r := range min(world, maxRank) {
		if said[r] {
			continue
		}
		at := j.owner(r)
		if at < 0 {
			at = j.placed(r)
		}
		if at < 0 {
			return Verdict{}, false
		}
		who, lacking = append(who, at), append(lacking, r)
	}
	// Of a few processes that are silent among many the many are the witnesses.
	if len(lacking) == 0 || 8*len(lacking) > world || len(said)+len(lacking) != world {
		return Verdict{}, false
	}
	c := j.firstComplaint(-1)
	return Verdict{Kind: SilentRank, Who: slices.Compact(who)[:1], Ranks: lacking[:1], Work: j.work(), Line: c.Text, At: c.At, First: c.At,
		Why: fmt.Sprintf("%d of %d ranks report the timeout, rank %d does not", len(said), world, lacking[0])}, true
}

// placed gives the member whose place in the job covers a rank.
func (j *judge) placed(rank int) int {
	for i, m := range j.members {
		if p := max(m.Processes, 1); m.Index >= 0 && rank/p == m.Index {
			return i
		}
	}
	return -1
}

// hangs: all members timed out at the same sequence of the same group.
func (j *judge) hangs() (Verdict, bool) {
	w := j.work()
	if w == nil {
		return Verdict{}, false
	}
	n := 0
	for _, f := range j.facts {
		if f.work != nil && f.work.Seq == w.Seq && f.work.Group == w.Group {
			n++
		}
	}
	if n < len(j.members) || n < 2 {
		return Verdict{}, false
	}
	c := j.firstComplaint(-1)
	return Verdict{Kind: Hangs, Work: w, Line: c.Text, At: c.At, First: c.At,
		Why: fmt.Sprintf("all %d members entered sequence %d (%s) and none left it: the logs do not tell whose link or GPU holds it up", n, w.Seq, w.Op)}, true
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}

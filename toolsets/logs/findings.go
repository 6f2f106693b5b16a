package logs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs/ranks"
)

// Confidence that the member named began it. A failure with its own words, dated
// before the complaints, is as good as logs get; a sequence number that is behind
// names the rank and not why; silence is the weakest, and still a comparison with
// every peer.
const (
	failedFirst = 0.85
	undated     = 0.7
	stalled     = 0.75
	silent      = 0.65
	neverWorked = 0.8
	mismatch    = 0.85
)

// findings makes the findings and edges of one reading.
func (t *Toolset) findings(r *reading) ([]incident.Finding, []incident.Edge) {
	v := r.verdict
	var out []incident.Finding
	var edges []incident.Edge
	add := func(f incident.Finding) {
		if f.FirstSeen.IsZero() {
			f.FirstSeen = v.At
		}
		f.LastSeen = f.FirstSeen
		if f.Params["pod"] != "" && f.Params["rank"] == "-1" {
			f.Params["rank"] = "unknown"
		}
		out = append(out, f)
	}
	job := r.job.ref
	if since, over := r.over(t.cfg.Now()); over {
		return []incident.Finding{{Code: "logs.job_went_on", Severity: incident.Info, Role: incident.History, Subject: job, FirstSeen: since, LastSeen: since,
			Message: fmt.Sprintf("%s was interrupted%s and all its members have run since: %s", job.Path(), at(since), v.Why), Params: map[string]string{"why": v.Why}}}, nil
	}
	group := t.ref("", "ProcessGroup", job.Namespace, job.Name)
	if v.Kind != ranks.Quiet && v.Kind != ranks.Alike {
		add(incident.Finding{Code: "logs.job_interrupted", Severity: incident.Warning, Role: incident.Symptom, Subject: job,
			Message: fmt.Sprintf("%d of %d members of %s complain of a peer or wait for one: %s", v.Reporting, len(r.members), job.Path(), v.Why),
			Params:  map[string]string{"verdict": string(v.Kind), "why": v.Why}})
	}
	switch v.Kind {
	case ranks.FailedFirst, ranks.LaggingRank, ranks.SilentRank:
		for k, i := range v.Who {
			if k == maxEdges {
				break
			}
			add(t.atFault(r, k, i))
		}
	case ranks.NeverWorked:
		add(incident.Finding{Code: "logs.collective_never_worked", Severity: incident.Critical, Role: incident.Fault, Subject: group, Confidence: neverWorked,
			Message: fmt.Sprintf("the first collective of %s, %s, timed out on %d members: their ranks never reached each other", job.Path(), v.Work.Op, len(v.Who)),
			Params:  map[string]string{"operation": v.Work.Op, "members": strconv.Itoa(len(v.Who)), "line": v.Line}})
	case ranks.Mismatch:
		add(incident.Finding{Code: "logs.collective_mismatch", Severity: incident.Critical, Role: incident.Fault, Subject: group, Confidence: mismatch,
			Message: fmt.Sprintf("ranks of %s call different collectives: %s", job.Path(), v.Why),
			Params:  map[string]string{"sequence": strconv.FormatInt(v.Work.Seq, 10), "why": v.Why}})
	case ranks.Hangs:
		add(incident.Finding{Code: "logs.collective_hangs", Severity: incident.Warning, Role: incident.Symptom, Subject: group,
			Message: fmt.Sprintf("%s: %s", job.Path(), v.Why),
			Params:  map[string]string{"sequence": strconv.FormatInt(v.Work.Seq, 10), "operation": v.Work.Op, "members": strconv.Itoa(len(r.members))}})
	case ranks.Alike:
		add(incident.Finding{Code: "logs.ranks_fail_alike", Severity: incident.Info, Role: incident.Context, Subject: job,
			Message: fmt.Sprintf("%s: %s", job.Path(), v.Why), Params: map[string]string{"members": strconv.Itoa(len(v.Who)), "line": v.Line}})
	}
	targets := t.targets(r)
	for n, i := 0, 0; i < len(r.members) && n < maxVictims; i++ {
		var f incident.Finding
		switch v.Roles[i] {
		case ranks.Affected:
			f = t.victim(r, i)
		case ranks.Waits:
			f = t.waits(r, i)
		default:
			continue
		}
		n++
		add(f)
		for _, to := range targets {
			edges = append(edges, incident.Edge{From: f.Subject, Relation: graph.GroupedWith, To: to})
		}
	}
	if slices.Contains([]ranks.Kind{ranks.NeverWorked, ranks.Mismatch, ranks.Hangs}, v.Kind) {
		edges = append(edges, incident.Edge{From: job, Relation: graph.Uses, To: group})
	}
	lead := v.Who
	if v.Kind == ranks.Alike || v.Kind == ranks.Hangs || v.Kind == ranks.NeverWorked || v.Kind == ranks.Mismatch || v.Kind == ranks.Undecided {
		lead = nil
		for i := range r.members {
			lead = append(lead, i)
		}
	}
	for _, i := range lead[:min(len(lead), maxEdges)] {
		edges = append(edges, incident.Edge{From: job, Relation: graph.Owns, To: t.podRef(r.pods[i])})
	}
	return out, edges
}

// targets are what the victims of a verdict suffer from.
func (t *Toolset) targets(r *reading) []incident.Ref {
	var out []incident.Ref
	switch r.verdict.Kind {
	case ranks.FailedFirst, ranks.LaggingRank, ranks.SilentRank, ranks.Incomplete:
		for _, i := range r.verdict.Who[:min(len(r.verdict.Who), maxEdges)] {
			out = append(out, t.podRef(r.pods[i]))
		}
	case ranks.NeverWorked, ranks.Mismatch, ranks.Hangs:
		out = append(out, t.ref("", "ProcessGroup", r.job.ref.Namespace, r.job.ref.Name))
	}
	return out
}

// goneOn is how long all members have to run before an interruption is history.
const goneOn = 30 * time.Minute

// over reports whether the job was interrupted in an earlier run and has gone on
// since, and when that was.
func (r *reading) over(now time.Time) (time.Time, bool) {
	v := r.verdict
	when := v.First
	if when.IsZero() {
		when = v.At
	}
	if v.Kind == ranks.Quiet || when.IsZero() {
		return when, false
	}
	for _, m := range r.members {
		if !m.Running || !m.Since.After(when) || now.Sub(m.Since) < goneOn {
			return when, false
		}
	}
	return when, true
}

// atFault words the member that began it.
func (t *Toolset) atFault(r *reading, k, i int) incident.Finding {
	v, m := r.verdict, r.members[i]
	rank := -1
	if k < len(v.Ranks) {
		rank = v.Ranks[k]
	}
	who := "pod " + m.Name
	if rank >= 0 {
		who = fmt.Sprintf("rank %d (pod %s)", rank, m.Name)
	}
	f := incident.Finding{Severity: incident.Warning, Role: incident.Fault, Subject: t.podRef(r.pods[i]), FirstSeen: v.At,
		Params: map[string]string{"pod": m.Name, "rank": strconv.Itoa(rank), "line": v.Line, "why": v.Why}}
	if w := v.Work; w != nil && w.Seq > 0 {
		f.Params["sequence"], f.Params["operation"] = strconv.FormatInt(w.Seq, 10), w.Op
	}
	switch v.Kind {
	case ranks.FailedFirst:
		f.Code, f.Confidence = "logs.rank_failed_first", failedFirst
		if v.At.IsZero() || v.First.IsZero() {
			f.Confidence = undated
		}
		f.Message = fmt.Sprintf("%s failed first%s: %s; %s", who, at(v.At), v.Line, v.Why)
		f.Params = map[string]string{"pod": m.Name, "rank": strconv.Itoa(rank), "what": v.What, "line": v.Line, "victims": strconv.Itoa(v.Reporting)}
		if v.First.After(v.At) && !v.At.IsZero() {
			f.Params["later"] = v.First.Sub(v.At).Round(time.Second).String()
		}
	case ranks.LaggingRank:
		f.Code, f.Confidence = "logs.rank_stalled", stalled
		f.Message = fmt.Sprintf("%s did not enter the collective the others wait in: %s", who, v.Why)
	default:
		f.Code, f.Confidence = "logs.rank_silent", silent
		f.Message = fmt.Sprintf("%s fell silent: %s", who, v.Why)
	}
	return f
}

func (t *Toolset) victim(r *reading, i int) incident.Finding {
	var line string
	var when time.Time
	p := map[string]string{}
	for _, e := range r.members[i].Log.Events {
		if e.Class == ranks.Timeout || e.Class == ranks.Victim {
			line, when = e.Text, e.At
			if e.Work != nil && e.Work.Seq > 0 {
				p["sequence"], p["operation"] = strconv.FormatInt(e.Work.Seq, 10), e.Work.Op
			}
			break
		}
	}
	p["line"] = line
	return incident.Finding{Code: "logs.rank_victim", Severity: incident.Warning, Role: incident.Symptom, Subject: t.podRef(r.pods[i]), FirstSeen: when,
		Message: fmt.Sprintf("pod %s waited for a peer and gave up: %s", r.members[i].Name, line), Params: p}
}

func (t *Toolset) waits(r *reading, i int) incident.Finding {
	var line string
	var when time.Time
	for _, e := range r.members[i].Log.Events {
		if e.Class == ranks.Waiting {
			line, when = e.Text, e.At
		}
	}
	what := "the other members"
	if v := r.verdict; v.Kind == ranks.Incomplete || v.Kind == ranks.FailedFirst {
		var names []string
		for _, w := range v.Who {
			names = append(names, r.members[w].Name)
		}
		slices.Sort(names)
		what = strings.Join(names[:min(len(names), maxEdges)], ", ")
	}
	return incident.Finding{Code: "logs.rank_waits", Severity: incident.Warning, Role: incident.Symptom, Subject: t.podRef(r.pods[i]), FirstSeen: when,
		Message: fmt.Sprintf("pod %s waits for %s: %s", r.members[i].Name, what, line), Params: map[string]string{"line": line, "for": what}}
}

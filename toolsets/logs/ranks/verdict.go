package ranks

import (
	"time"
)

// Member is one pod of a job: what the cluster says of it and what its log says.
type Member struct {
	Name string
	// Index is the pod's place in the job, -1 when nothing tells it.
	Index int
	// Processes is how many ranks the pod runs, 1 when nothing tells it.
	Processes int
	// Started is false for a pod whose container has not run yet.
	Started bool
	// Running is true while the container runs, Since when this run began.
	Running bool
	Since   time.Time
	// Done says that the container ended well: what it complained of did not stop it.
	Done bool
	// Ended are the ends of the container that are known, oldest first.
	Ended []End
	// Unread says why the log could not be read, "" when it was.
	Unread string
	Log    Log
	// Cut says that the log goes further back than what was read.
	Cut bool
}

// End is one end of a container.
type End struct {
	At     time.Time
	Code   int
	Reason string
}

// Role of a member in what happened.
type Role string

// Roles.
const (
	Culprit  Role = "culprit"
	Stalled  Role = "stalled"
	Silent   Role = "silent"
	Affected Role = "victim"
	Waits    Role = "waiting"
	Missing  Role = "not_started"
	Failed   Role = "failed"
	Fine     Role = "no_failure_seen"
	Unseen   Role = "log_not_read"
)

// Kind of a verdict.
type Kind string

// Kinds of verdict.
const (
	// FailedFirst: one member failed in its own right before the others complained.
	FailedFirst Kind = "failed_first"
	// LaggingRank: one member did not enter the collective that the others wait in.
	LaggingRank Kind = "rank_stalled"
	// SilentRank: one member says nothing while all others report the timeout.
	SilentRank Kind = "rank_silent"
	// NeverWorked: the first collective of a process group never ended on any rank.
	NeverWorked Kind = "collective_never_worked"
	// Mismatch: ranks called different collectives at the same place.
	Mismatch Kind = "collective_mismatch"
	// Hangs: every rank entered the collective and none left it.
	Hangs Kind = "collective_hangs"
	// Incomplete: the job waits for members that have not started.
	Incomplete Kind = "incomplete"
	// Unmet: all members run, and some do not find the others.
	Unmet Kind = "rendezvous_unmet"
	// Alike: all members fail alike and at once.
	Alike Kind = "fail_alike"
	// Undecided: there are complaints, and nothing tells who began.
	Undecided Kind = "undecided"
	// Quiet: no complaint at all.
	Quiet Kind = "quiet"
)

// Verdict is what the logs of a job say together.
type Verdict struct {
	Kind Kind
	// Who are the indices into the members that the verdict is about.
	Who []int
	// Why is one sentence with the figures.
	Why string
	// Line is the telling line of the first of Who, What its kind.
	Line, What string
	// At is when that was.
	At time.Time
	// First is the first complaint of a victim, zero when there is none or undated.
	First time.Time
	// Work is the collective that timed out, nil when none is named.
	Work *Work
	// Roles has one role for each member.
	Roles []Role
	// Ranks has the rank at fault for each of Who, -1 when it is not known.
	Ranks []int
	// Reporting counts the members that complain of a peer.
	Reporting int
}

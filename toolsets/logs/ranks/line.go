// Package ranks reads the logs of the processes of one distributed job side by
// side and says which of them broke the job: the others then wait in a collective
// until a watchdog ends them, and complain loudest. It is pure: texts in, a
// verdict out.
package ranks

import (
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/pattern"
)

// Class is what a line says about its process.
type Class string

// Classes of lines that count; everything else is progress.
const (
	// Own is a failure of the process itself.
	Own Class = "own"
	// Timeout is the collective watchdog's complaint: a victim's.
	Timeout Class = "timeout"
	// Victim is any other complaint about a peer that is gone or does not answer.
	Victim Class = "victim"
	// Waiting is a process that waits for peers which have not come yet.
	Waiting Class = "waiting"
	// Witness names the rank or host at fault.
	Witness Class = "witness"
	// Teardown is a process that is being stopped, or stops because of the above.
	Teardown Class = "teardown"
	// Status is the sequence state of a process group.
	Status Class = "status"
)

// Event is one line that counts.
type Event struct {
	At    time.Time
	Class Class
	// What is the kind of an own failure: "CUDA out of memory", "GPU fault".
	What string
	// Rank that the line is labelled with, -1 when it is not.
	Rank int
	Text string
	// Blames are the ranks that a witness names.
	Blames []int
	// Host that a witness names.
	Host string
	// Work is set for Timeout and Status.
	Work *Work
	// Joined and Wanted are the members that have come to a rendezvous; 0, 0 when not said.
	Joined, Wanted int
}

// Work is the state of one process group of one rank.
type Work struct {
	// Group is the name of the process group, "" when the line does not say.
	Group string
	// Seq, Op, In, Out and Timeout describe the collective that timed out; Seq is 0
	// when the line only gives the state.
	Seq     int64
	Op      string
	In, Out int64
	Timeout time.Duration
	// Enqueued and Completed are the last sequence numbers; Known says that they were given.
	Enqueued, Completed int64
	Known               bool
}

// The texts are those of PyTorch's ProcessGroupNCCL.cpp, HeartbeatMonitor and
// TraceUtils.h (retrieveDesyncReport), torch/distributed/elastic, NCCL's own
// transport, Ray's worker exit messages, MPI's launcher and JAX's coordination
// service, as of 2026.
var (
	kubeletTime = pattern.New(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?`)
	rankLabel   = pattern.New(`^\[?(?:rank|Rank) ?(\d+)\]?:?\s?`)
	rankInside  = pattern.New(`\[(?:PG [^\]]*?)?Rank (\d+)\]`)
	watchdog    = pattern.New(`Watchdog caught collective operation timeout: Work(?:NCCL|XCCL|HCCL|RCCL)?\(SeqNum=(\d+), OpType=([A-Z_a-z0-9]+)(?:, NumelIn=(\d+), NumelOut=(\d+))?(?:, (?:TensorShape=[^)]*?, )?Timeout\(ms\)=(\d+))?`)
	pgState     = pattern.New(`(?i)last enqueued (?:NCCL )?work: (-?\d+), ?last completed (?:NCCL )?work: (-?\d+)`)
	pgName      = pattern.New(`\[PG(?: ID)? ?(\d+)(?: PG GUID (\d+))?\s?(?:\(([^)]*)\))?`)
	desyncLate  = pattern.New(`\[([\d, ]+)\] finished collective #(\d+), but didn't join collective #(\d+)`)
	desyncNever = pattern.New(`ranks? \[([\d, ]+)\] (?:are|is) the lagging ranks? that caused this timeout`)
	jaxTask     = pattern.New(`/job:[^/\s]+/replica:\d+/task:(\d+)`)
	jaxBlame    = pattern.New(`(?i)tasks? (?:are|is) unhealthy|stopped sending heartbeats|have not (?:reached|arrived at) the barrier|task failed to (?:respond|connect)`)
	mpiBlame    = pattern.New(`(?:mpirun|mpiexec|prterun)\S* noticed that process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+)`)
	peerHost    = pattern.New(`(?i)connection closed by (?:remote )?peer \[?([a-z0-9][a-z0-9.:-]*)|Got completion from peer ([0-9a-f.:]+)<|Call to \w+ from ([0-9a-f.:]+)<|nccl.*remote ([0-9.]+)<`)
	joined      = pattern.New(`(\d+)/(\d+) clients joined`)
	waitingFor  = pattern.New(`(?i)waiting for (?:clients|.{0,30}(?:workers?|nodes?|ranks?|peers?|members?|leader|head))\b|rendezvous(?:timeout|connection|closed)error|client socket has (?:timed out|failed to connect)|timed out .{0,40}waiting for clients`)
	victimWords = pattern.New(`(?i)nccl ?remote ?error|remote process exit(?:ed|ing)|connection (?:closed|reset) by (?:remote )?peer|socketprogress|watchdog thread terminated|exception \(either an error or timeout\) detected by watchdog|failure detected by watchdog|observed flight recorder dump signal|received a dump signal due to a collective timeout|tcpstore (?:server )?(?:has )?shut down|failed to check the "should dump" flag|watchdog got stuck|broken pipe|actor ?died|rayactorerror|worker (?:crashed|died)|a worker died or was killed|has been marked dead|peer (?:is )?(?:gone|closed)|gloo.{0,40}(?:connection|timed out)|wait timeout after \d+ms|detected fatal errors.*distributed service|heartbeat.{0,40}(?:lost|missed|too many)|enginedeaderror`)
	teardown    = pattern.New(`(?i)sigterm|closing signal|received \d+ death signal|signalexception|childfailederror|taking the entire process down|some nccl operations have failed or timed out|c10::distbackenderror|terminating the process after attempting to dump|sending process \d+ closing|graceful(?:ly)? (?:shutdown|stopp)|keyboardinterrupt|destroy_process_group`)
	exitcode    = pattern.New(`exitcode\s*: (-?\d+)`)
	rootRank    = pattern.New(`^\s*rank\s*: (\d+) \(local_rank: \d+\)`)
	exception   = pattern.New(`^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b(?::|$)`)
	glogHead    = pattern.New(`^\[?[IWEF]\d{3,4} \d\d:\d\d:\d\d`)
)

// own are the failures of a process itself, the most telling first.
var own = []struct {
	what string
	re   *pattern.Regexp
}{
	{"GPU fault", pattern.New(`(?i)uncorrectable (?:nvlink|ecc)|\becc error|gpu (?:is lost|has fallen off)|fallen off the bus|NVRM: Xid|CUDA error: (?:unspecified launch failure|an illegal memory access|hardware stack error|misaligned address|device-side assert|uncorrectable)|illegal memory access was encountered|hip error.*(?:illegal|fault)|memory access fault by gpu`)},
	{"GPU out of memory", pattern.New(`(?i)cuda out of memory|outofmemoryerror|hip out of memory|CUDA error: out of memory|cublas_status_alloc_failed`)},
	{"killed for memory", pattern.New(`(?i)\boom[- ]?kill|out of memory: killed process|cannot allocate memory|\bMemoryError\b|dataloader worker \(pid[^)]*\) is killed by signal: (?:killed|bus error)`)},
	{"crash of the process", pattern.New(`(?i)signal (?:9 \(SIGKILL\)|11 \(SIGSEGV\)|7 \(SIGBUS\)|4 \(SIGILL\)|8 \(SIGFPE\)) received|segmentation fault|\bbus error\b|illegal instruction`)},
	{"shared memory", pattern.New(`(?i)error while creating shared memory segment|unable to (?:allocate|open) shared memory|insufficient shared memory`)},
	{"storage", pattern.New(`(?i)no space left on device|input/output error|stale file handle|read-only file system|transport endpoint is not connected|disk quota exceeded`)},
	{"CUDA", pattern.New(`(?i)cuda (?:driver version is insufficient|initialization error)|no cuda-capable device|CUDA error: (?:no kernel image|invalid device|initialization)|cuinit|nvml.*(?:unknown error|driver/library version mismatch)|no CUDA GPUs are available`)},
}

// Event reads one line; ok is false for lines of plain progress.
func parse(raw string, at time.Time) (Event, bool) {
	e := Event{At: at, Rank: -1}
	line := strings.TrimRight(raw[:min(len(raw), maxLine)], "\r\n ")
	if m := rankLabel.FindStringSubmatchIndex(line); m != nil {
		e.Rank = atoi(line[m[2]:m[3]])
		line = line[m[1]:]
	} else if m := rankInside.FindStringSubmatch(line); m != nil {
		e.Rank = atoi(m[1])
	}
	e.Text = clip(strings.TrimSpace(line), 400)
	if !mayTell(line) {
		return e, false
	}
	switch {
	case readWitness(&e, line):
	case readWork(&e, line):
	case readWaiting(&e, line):
	case readOwn(&e, line):
	case victimWords.MatchString(line):
		e.Class = Victim
		if m := peerHost.FindStringSubmatch(line); m != nil {
			e.Host = strings.TrimRight(firstOf(m[1:]), ".:-")
		}
	case teardown.MatchString(line):
		e.Class = Teardown
	default:
		return e, false
	}
	return e, true
}

// telling are parts of the words that the patterns look for, lower case. A line of
// plain progress has none of them, and is most of what a job writes.
var telling = []string{"error", "exception", "collective", "timed out", "timeout", "fail", "kill", "sig", "rank", "work", "peer", "wait", "joined", "lost", "cuda", "memory", "space", "fault", "xid", "dump", "heartbeat", "pipe", "died", "dead", "shut", "stale", "read-only", "endpoint", "quota", "cuinit", "bus", "store", "cublas", "nvml", "illegal", "ecc", "rendezvous", "interrupt", "ended"}

func mayTell(line string) bool {
	low := strings.ToLower(line)
	for _, w := range telling {
		if strings.Contains(low, w) {
			return true
		}
	}
	return false
}

func readOwn(e *Event, line string) bool {
	for _, o := range own {
		if o.re.MatchString(line) {
			e.Class, e.What = Own, o.what
			return true
		}
	}
	return false
}

func readWitness(e *Event, line string) bool {
	blame := func(list string) {
		for s := range strings.SplitSeq(list, ",") {
			if n := atoi(strings.TrimSpace(s)); n >= 0 {
				e.Blames = append(e.Blames, n)
			}
		}
		e.Class = Witness
	}
	if m := desyncLate.FindStringSubmatch(line); m != nil {
		blame(m[1])
		return true
	}
	if m := desyncNever.FindStringSubmatch(line); m != nil {
		blame(m[1])
		return true
	}
	if m := mpiBlame.FindStringSubmatch(line); m != nil {
		blame(m[1])
		e.Host = strings.TrimRight(m[2], ".,")
		return true
	}
	if jaxBlame.MatchString(line) {
		for _, m := range jaxTask.FindAllStringSubmatch(line, 64) {
			blame(m[1])
		}
		return len(e.Blames) > 0
	}
	return false
}

func readWork(e *Event, line string) bool {
	w := Work{}
	if m := pgName.FindStringSubmatch(line); m != nil {
		// The GUID names the group on every rank; the id is a rank's own count.
		if w.Group = firstOf([]string{m[3], m[2], m[1]}); m[3] == "undefined" {
			w.Group = firstOf([]string{m[2], m[1]})
		}
	}
	if m := pgState.FindStringSubmatch(line); m != nil {
		w.Enqueued, w.Completed, w.Known = atoi64(m[1]), atoi64(m[2]), true
	}
	if m := watchdog.FindStringSubmatch(line); m != nil {
		w.Seq, w.Op, w.In, w.Out = atoi64(m[1]), m[2], atoi64(m[3]), atoi64(m[4])
		// Beyond a year it is no timeout.
		if ms := atoi64(m[5]); ms > 0 && ms < 365*24*3600*1000 {
			w.Timeout = time.Duration(ms) * time.Millisecond
		}
		e.Class, e.Work = Timeout, &w
		return true
	}
	if w.Known {
		e.Class, e.Work = Status, &w
		return true
	}
	return false
}

func readWaiting(e *Event, line string) bool {
	if m := joined.FindStringSubmatch(line); m != nil {
		e.Joined, e.Wanted = atoi(m[1]), atoi(m[2])
		e.Class = Waiting
		return true
	}
	if waitingFor.MatchString(line) {
		e.Class = Waiting
		return true
	}
	return false
}

// Log is what was read of one process's log.
type Log struct {
	Events []Event
	// Lines counts all lines; Last is the time of the newest, LastText its text.
	Lines    int
	Last     time.Time
	LastText string
	// Ranks are the ranks that the lines are labelled with, ascending.
	Ranks []int
}

// maxLine is how far into a line is read, in bytes: what counts stands in front.
const maxLine = 4096

// maxEvents bounds what is kept of a log: the first and the newest half.
const maxEvents = 2000

// Read reads a log whose lines may begin with the kubelet's time.
func Read(text string) Log {
	var l Log
	var trace traceback
	seen := map[int]bool{}
	root := false
	for raw := range strings.Lines(text) {
		line := strings.TrimRight(raw, "\r\n")
		var at time.Time
		if m := kubeletTime.FindStringSubmatch(line); m != nil {
			if t, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
				at, line = t, line[len(m[0]):]
			}
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		l.Lines++
		if !at.IsZero() {
			l.Last = at
		} else {
			at = l.Last
		}
		l.LastText = clip(strings.TrimSpace(line), 200)
		e, ok := parse(line, at)
		if e.Rank >= 0 && e.Rank < maxRank {
			seen[e.Rank] = true
		}
		body := line
		if m := rankLabel.FindString(line); m != "" {
			body = line[len(m):]
		}
		// torchrun's block on the first failure it saw among its own processes.
		switch {
		case strings.Contains(body, "Root Cause (first observed failure)"):
			root = true
		case root && rootRank.MatchString(body):
			if n := atoi(rootRank.FindStringSubmatch(body)[1]); n >= 0 && n < maxRank {
				seen[n] = true
			}
		case root && exitcode.MatchString(body):
			root = false
			if what := killedBy(atoi64(exitcode.FindStringSubmatch(body)[1])); what != "" && !ok {
				e.Class, e.What, e.Text, ok = Own, "crash of the process", "first observed failure: "+what, true
			}
		}
		if x, raised := trace.next(body); raised && !ok {
			e.Class, e.What, e.Text, ok = Own, "exception", clip(x, 400), true
		}
		if !ok {
			continue
		}
		l.Events = append(l.Events, e)
		if len(l.Events) > maxEvents {
			l.Events = append(l.Events[:maxEvents/2:maxEvents/2], l.Events[maxEvents/2+1:]...)
		}
	}
	for r := range seen {
		l.Ranks = append(l.Ranks, r)
	}
	sortInts(l.Ranks)
	return l
}

// maxRank is beyond the largest job there is.
const maxRank = 1 << 20

// killedBy names a signal that ends a process by no will of its own or of a
// watchdog's; a watchdog aborts (6), a launcher stops with 15.
func killedBy(code int64) string {
	switch code {
	case -9:
		return "exit code -9 (SIGKILL)"
	case -11:
		return "exit code -11 (SIGSEGV)"
	case -7:
		return "exit code -7 (SIGBUS)"
	case -4:
		return "exit code -4 (SIGILL)"
	}
	return ""
}

// traceback follows a Python traceback to the exception that ends it.
type traceback struct{ in bool }

func (t *traceback) next(line string) (string, bool) {
	switch {
	case strings.Contains(line, "Traceback (most recent call last)"):
		t.in = true
	case !t.in:
	case strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"), glogHead.MatchString(line):
	case exception.MatchString(line):
		t.in = false
		// What ends a victim is raised as well.
		if victimWords.MatchString(line) || teardown.MatchString(line) || waitingFor.MatchString(line) || strings.Contains(line, "DistBackendError") || strings.Contains(line, "SystemExit") {
			return "", false
		}
		return strings.TrimSpace(line), true
	default:
		t.in = false
	}
	return "", false
}

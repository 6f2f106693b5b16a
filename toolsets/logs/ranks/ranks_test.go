package ranks_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/toolsets/logs/ranks"
)

// clock writes the kubelet's time of second s.
func clock(s int) string {
	return time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC).Add(time.Duration(s) * time.Second).Format(time.RFC3339Nano)
}

func watchdog(s, rank int, seq int64, op string, size int) string {
	return fmt.Sprintf("%s [rank%d]:[E1125 09:00:00.1 ProcessGroupNCCL.cpp:685] [Rank %d] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=%d, OpType=%s, NumelIn=%d, NumelOut=%d, Timeout(ms)=600000) ran for 600031 milliseconds before timing out.\n", clock(s), rank, rank, seq, op, size, size)
}

func state(s, rank int, enqueued, completed int64) string {
	return fmt.Sprintf("%s [rank%d]:[E1125 09:00:00.1 ProcessGroupNCCL.cpp:2299] [PG ID 0 PG GUID 0(default_pg) Rank %d]  failure detected by watchdog at work sequence id: %d PG status: last enqueued work: %d, last completed work: %d\n", clock(s), rank, rank, enqueued, enqueued, completed)
}

func step(s, rank int) string {
	return fmt.Sprintf("%s [rank%d]: step %d loss 2.1\n", clock(s), rank, s)
}

// running makes a member whose container still runs.
func running(name string, index int, text ...string) ranks.Member {
	return ranks.Member{Name: name, Index: index, Processes: 1, Started: true, Running: true, Log: ranks.Read(strings.Join(text, ""))}
}

func oom(s int) []ranks.End {
	return []ranks.End{{At: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC).Add(time.Duration(s) * time.Second), Code: 137, Reason: "OOMKilled"}}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	at := func(m ranks.Member, ends []ranks.End) ranks.Member { m.Ended, m.Running = ends, false; return m }
	for name, tc := range map[string]struct {
		members []ranks.Member
		kind    ranks.Kind
		who     []int
		say     string
	}{
		"killed for memory, the others wait": {[]ranks.Member{
			running("a", 0, step(0, 0), watchdog(660, 0, 77, "ALLREDUCE", 8)),
			at(running("b", 1, step(0, 1)), oom(40)),
			running("c", 2, step(0, 2), watchdog(661, 2, 77, "ALLREDUCE", 8)),
		}, ranks.FailedFirst, []int{1}, "first 10m20s later"},
		"killed for memory after the complaint is a consequence": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 77, "ALLREDUCE", 8)),
			at(running("b", 1, watchdog(661, 1, 77, "ALLREDUCE", 8)), oom(900)),
		}, ranks.Hangs, nil, "all 2 members entered"},
		"an old failure that was got over is not the cause": {[]ranks.Member{
			running("a", 0, clock(0)+" [rank0]: CUDA out of memory, halving the batch\n", step(500, 0), watchdog(1200, 0, 9, "ALLREDUCE", 8)),
			running("b", 1, step(0, 1), watchdog(1201, 1, 9, "ALLREDUCE", 8)),
		}, ranks.Hangs, nil, ""},
		"one is behind in sequence": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 77, "ALLREDUCE", 8), state(660, 0, 78, 76)),
			running("b", 1, state(661, 1, 76, 76)),
			running("c", 2, watchdog(660, 2, 77, "ALLREDUCE", 8), state(660, 2, 78, 76)),
		}, ranks.LaggingRank, []int{1}, "last enqueued work is 76"},
		"the desync report names it": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 16, "ALLREDUCE", 8), clock(661)+" [rank0]:     [1] finished collective #15, but didn't join collective #16 (count from 1)\n"),
			running("b", 1, step(1, 1)),
			running("c", 2, watchdog(660, 2, 16, "ALLREDUCE", 8)),
		}, ranks.LaggingRank, []int{1}, "didn't join"},
		"one is silent": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 77, "ALLREDUCE", 8)), running("b", 1, step(30, 1)), running("c", 2, watchdog(662, 2, 77, "ALLREDUCE", 8)),
		}, ranks.SilentRank, []int{1}, "10m30s before"},
		"a log that could not be read is no silence": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 77, "ALLREDUCE", 8)),
			{Name: "b", Index: 1, Processes: 1, Started: true, Running: true, Unread: "forbidden"},
			running("c", 2, watchdog(662, 2, 77, "ALLREDUCE", 8)),
		}, ranks.Undecided, nil, ""},
		"one that still writes is not silent": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 77, "ALLREDUCE", 8)), running("b", 1, step(30, 1), step(900, 1)), running("c", 2, watchdog(662, 2, 77, "ALLREDUCE", 8)),
		}, ranks.Undecided, nil, ""},
		"undated logs show no silence": {[]ranks.Member{
			running("a", 0, "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran\n"),
			running("b", 1, "step 1\n"),
		}, ranks.Undecided, nil, ""},
		"the first collective never ended": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 1, "BROADCAST", 1)), running("b", 1, watchdog(661, 1, 1, "BROADCAST", 1)),
		}, ranks.NeverWorked, []int{0, 1}, "sequence 1 (BROADCAST)"},
		"different collectives": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 5, "ALLREDUCE", 8)), running("b", 1, watchdog(661, 1, 5, "_ALLGATHER_BASE", 8)),
		}, ranks.Mismatch, []int{0, 1}, "at sequence 5"},
		"different sizes of one collective": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 5, "ALLREDUCE", 8)), running("b", 1, watchdog(661, 1, 5, "ALLREDUCE", 16)),
		}, ranks.Mismatch, []int{0, 1}, "8 elements"},
		"sizes of an uneven gather may differ": {[]ranks.Member{
			running("a", 0, watchdog(660, 0, 5, "ALLGATHER", 8)), running("b", 1, watchdog(661, 1, 5, "ALLGATHER", 16)),
		}, ranks.Hangs, nil, ""},
		"a member has not started": {[]ranks.Member{
			running("a", 0, clock(900)+" Timed out after 901 seconds waiting for clients. 1/2 clients joined.\n"), {Name: "b", Index: 1, Processes: 1},
		}, ranks.Incomplete, []int{1}, "1 of 2 members have not started"},
		"all fail alike": {[]ranks.Member{
			running("a", 0, clock(1)+" Segmentation fault (core dumped)\n"), running("b", 1, clock(2)+" Segmentation fault (core dumped)\n"),
		}, ranks.Alike, []int{0, 1}, ""},
		"a node takes two of eight": {append(octet(), at(running("y", 6, step(1, 6)), oom(40)), at(running("z", 7, step(1, 7)), oom(41))),
			ranks.FailedFirst, []int{6, 7}, "6 of the other 6"},
		"calm":   {[]ranks.Member{running("a", 0, step(1, 0)), running("b", 1, step(1, 1))}, ranks.Quiet, nil, ""},
		"nobody": {nil, ranks.Quiet, nil, ""},
		"a connection that came back": {[]ranks.Member{
			running("a", 0, clock(1)+" Connection reset by peer\n", step(500, 0)), running("b", 1, step(1, 1)),
		}, ranks.Quiet, nil, ""},
		"one crashes and the others wait for it": {[]ranks.Member{
			at(running("a", 0, clock(3)+" Traceback (most recent call last):\n"+clock(3)+"   File \"x\"\n"+clock(3)+" KeyError: 'lr'\n"), nil),
			running("b", 1, clock(9)+" waiting for all ranks to join\n"),
		}, ranks.FailedFirst, []int{0}, "wait for it"},
		"the launcher names the rank": {[]ranks.Member{
			running("a", 0, clock(9)+" mpirun noticed that process rank 1 with PID 71 on node b exited on signal 9 (Killed).\n"), running("b", 1, step(1, 1)), running("c", 2, step(1, 2)),
		}, ranks.LaggingRank, []int{1}, "mpirun noticed"},
		"of eight processes in a pod one does not report": {[]ranks.Member{pod("a", 0, 8, -1), pod("b", 1, 8, 11)}, ranks.SilentRank, []int{1}, "rank 11 does not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := ranks.Judge(tc.members)
			if v.Kind != tc.kind || !strings.Contains(v.Why, tc.say) {
				t.Fatalf("%s: %s, want %s: %s", v.Kind, v.Why, tc.kind, tc.say)
			}
			if tc.who != nil {
				if diff := cmp.Diff(tc.who, v.Who); diff != "" {
					t.Error(diff)
				}
			}
			if len(v.Roles) != len(tc.members) || len(v.Ranks) > 0 && len(v.Ranks) != len(v.Who) {
				t.Errorf("%d roles, %d ranks for %d of %d", len(v.Roles), len(v.Ranks), len(v.Who), len(tc.members))
			}
		})
	}
}

func octet() []ranks.Member {
	var out []ranks.Member
	for i := range 6 {
		out = append(out, running(string(rune('a'+i)), i, step(1, i), watchdog(660, i, 77, "ALLREDUCE", 8)))
	}
	return out
}

// pod makes a pod of n processes all of which but one report the timeout.
func pod(name string, index, n, but int) ranks.Member {
	var b strings.Builder
	for r := index * n; r < (index+1)*n; r++ {
		b.WriteString(step(1, r))
		if r != but {
			b.WriteString(watchdog(660, r, 77, "ALLREDUCE", 8))
		}
	}
	m := running(name, index, b.String())
	m.Processes = n
	return m
}

func TestRead(t *testing.T) {
	t.Parallel()
	l := ranks.Read(strings.Join([]string{
		clock(1) + " [rank2]: step 1",
		clock(2) + " [rank2]: Traceback (most recent call last):",
		clock(2) + " [rank2]:   File \"/app/train.py\", line 3, in <module>",
		clock(2) + " [rank2]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.04 GiB.",
		clock(3) + " Traceback (most recent call last):",
		clock(3) + "   File \"x\"",
		clock(3) + " torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error",
		clock(4) + " Root Cause (first observed failure):",
		clock(4) + "   rank      : 5 (local_rank: 1)",
		clock(4) + "   exitcode  : -9 (pid: 71)",
		clock(5) + " [rank2]:[E1125] [PG ID 0 PG GUID 0(default_pg) Rank 2] Received a dump signal due to a collective timeout from  rank 0 and we will try our best to dump the debug info. Last enqueued NCCL work: 40, last completed NCCL work: 39.",
		clock(6) + " socketProgress: Connection closed by remote peer worker-2.train<41232>",
		"",
	}, "\n"))
	var got []string
	for _, e := range l.Events {
		got = append(got, string(e.Class)+" "+e.What+" "+e.Host)
	}
	want := []string{"own GPU out of memory ", "victim  ", "own crash of the process ", "status  ", "victim  worker-2.train"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{2, 5}, l.Ranks); diff != "" {
		t.Error(diff)
	}
	if w := l.Events[3].Work; w.Group != "default_pg" || w.Enqueued != 40 || w.Completed != 39 || !w.Known {
		t.Errorf("%+v", w)
	}
	if l.Lines != 12 || !strings.HasPrefix(l.LastText, "socketProgress") || l.Last.IsZero() {
		t.Errorf("%d lines, last %q at %v", l.Lines, l.LastText, l.Last)
	}
}

func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	l := ranks.Read(strings.Repeat(watchdog(1, 3, 9, "ALLREDUCE", 8), 5000) + "[rank99999999999999999999]: x error\n[rank2000000]: error\n" + strings.Repeat("x", 1<<20) + " Segmentation fault\n")
	if len(l.Events) > 2001 || len(l.Ranks) != 1 {
		t.Errorf("%d events, ranks %v", len(l.Events), l.Ranks)
	}
	for _, e := range l.Events {
		if len(e.Text) > 410 {
			t.Fatalf("a text of %d bytes", len(e.Text))
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(watchdog(1, 0, 5, "ALLREDUCE", 8)+state(1, 0, 5, 4), step(1, 1))
	f.Add("Traceback (most recent call last):\n  x\nValueError: y\n", "Root Cause (first observed failure):\n rank : 1 (local_rank: 0)\n exitcode : -11 (pid: 1)\n")
	f.Add("[0, 1] finished collective #1, but didn't join collective #2", "tasks are unhealthy /job:x/replica:0/task:1")
	f.Fuzz(func(t *testing.T, a, b string) {
		members := []ranks.Member{running("a", 0, a), running("b", 1, b), {Name: "c", Index: -1}}
		v := ranks.Judge(members)
		if len(v.Roles) != len(members) {
			t.Fatalf("%d roles", len(v.Roles))
		}
		for _, i := range v.Who {
			if i < 0 || i >= len(members) {
				t.Fatalf("names member %d", i)
			}
		}
		if v.Kind == ranks.FailedFirst && v.Line == "" {
			t.Fatal("blames without a line")
		}
	})
}

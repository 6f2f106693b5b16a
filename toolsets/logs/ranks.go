package logs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/logs/ranks"
)

// RanksIn names a distributed job, or one of its pods.
type RanksIn struct {
	Namespace string `json:"namespace"`
	Kind      string `json:"kind,omitempty" jsonschema:"JobSet, PyTorchJob, LeaderWorkerSet, RayJob, Job, StatefulSet, ..."`
	Name      string `json:"name,omitempty"`
	Pod       string `json:"pod,omitempty" jsonschema:"instead of kind and name"`
}

// MemberOut is one pod of the job.
type MemberOut struct {
	Pod  string `json:"pod"`
	Node string `json:"node,omitempty"`
	// Index is the pod's place in the job, -1 when nothing tells it.
	Index int        `json:"index"`
	Role  ranks.Role `json:"role"`
	// Ranks that its log names.
	Ranks []int `json:"ranks"`
	// LastLine is when its log ends.
	LastLine time.Time `json:"last_line,omitzero"`
	// First is its first line that tells of trouble.
	First   string    `json:"first,omitempty"`
	FirstAt time.Time `json:"first_at,omitzero"`
	Why     string    `json:"why_not_read,omitempty"`
}

// CollectiveOut is the collective that timed out.
type CollectiveOut struct {
	Sequence  int64  `json:"sequence"`
	Operation string `json:"operation"`
	Timeout   string `json:"timeout,omitempty"`
	Group     string `json:"process_group,omitempty"`
	Completed int64  `json:"last_completed"`
	Known     bool   `json:"last_completed_known"`
}

// JobOut is the reading of one job.
type JobOut struct {
	Job     string         `json:"job"`
	Verdict ranks.Kind     `json:"verdict"`
	Why     string         `json:"why"`
	Pods    []string       `json:"pods_at_fault"`
	Line    string         `json:"line,omitempty"`
	At      time.Time      `json:"at,omitzero"`
	Work    *CollectiveOut `json:"collective,omitempty"`
	Members []MemberOut    `json:"members"`
	// Left counts members that were not read.
	Left int `json:"members_not_read"`
	// Source says where the logs came from when not from the API server.
	Source string `json:"source,omitempty"`
}

// RanksOut is the answer of logs_ranks.
type RanksOut struct {
	Jobs []JobOut `json:"jobs"`
	// Note says why there is nothing to compare.
	Note string `json:"note,omitempty"`
}

const (
	maxMembers = 64   // logs that are read of one job
	maxJobs    = 8    // replicas of a LeaderWorkerSet that are read
	tailLines  = 1500 // lines that are read of one log
	atOnce     = 8
	maxVictims = 16 // victims that get a finding of their own
	maxEdges   = 4  // victims that an object leads to
)

func (t *Toolset) ranksTool() (tool.Tool, error) { return read("logs_ranks", t.ranks) }

func (t *Toolset) ranks(ctx context.Context, in RanksIn) (tool.Output[RanksOut], error) {
	out := tool.Output[RanksOut]{Data: RanksOut{Jobs: []JobOut{}}}
	jobs, note, err := t.asked(ctx, in)
	if err != nil {
		return out, err
	}
	if len(jobs) == 0 {
		out.Data.Note = note
		out.Text = note + "\n"
		return out, nil
	}
	if len(jobs) > maxJobs {
		out.Data.Note = fmt.Sprintf("%d groups of pods, the first %d were read", len(jobs), maxJobs)
		jobs = jobs[:maxJobs]
	}
	var b strings.Builder
	for _, j := range jobs {
		r, err := t.memo.Get(ctx, key(j), func(ctx context.Context) (*reading, error) { return t.readJob(ctx, j) })
		if err != nil {
			return out, err
		}
		out.Data.Jobs = append(out.Data.Jobs, r.out)
		fs, es := t.findings(r)
		out.Findings, out.Edges = append(out.Findings, fs...), append(out.Edges, es...)
		writeJob(&b, r)
	}
	out.Text = b.String()
	return out, nil
}

// key tells readings apart: the members may change between two calls.
func key(j *job) string {
	var b strings.Builder
	b.WriteString(j.ref.String())
	for _, p := range j.pods {
		b.WriteString("|" + p.Name + p.ResourceVersion)
	}
	return b.String()
}

// asked finds the jobs in question; the note says why there are none.
func (t *Toolset) asked(ctx context.Context, in RanksIn) ([]*job, string, error) {
	var jobs []*job
	switch {
	case in.Pod != "" && in.Name != "":
		return nil, "", tool.Errorf(tool.Invalid, "give either pod or kind and name")
	case in.Pod != "":
		p, err := t.cfg.Pods.Pod(ctx, in.Namespace, in.Pod)
		if err != nil {
			return nil, "", err
		}
		j, err := t.jobOf(ctx, p)
		if err != nil {
			return nil, "", err
		}
		if j == nil {
			return nil, fmt.Sprintf("Pod %s/%s is no member of a distributed job: no label or owner says so", in.Namespace, in.Pod), nil
		}
		jobs = []*job{j}
	case in.Kind == "" || in.Name == "":
		return nil, "", tool.Errorf(tool.Invalid, "give pod, or kind and name")
	default:
		group, kind, ok := kindOf(in.Kind)
		if !ok {
			return nil, "", &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%q is no kind whose pods are ranks of one job", in.Kind), Fix: "use JobSet, PyTorchJob, MPIJob, TrainJob, LeaderWorkerSet, RayJob, RayCluster, Job or StatefulSet, or name a pod"}
		}
		var err error
		if jobs, err = t.jobsOf(ctx, t.ref(group, kind, in.Namespace, in.Name)); err != nil {
			return nil, "", err
		}
	}
	jobs = slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j == nil || !compared(j) })
	if len(jobs) == 0 {
		return nil, "there are no several processes whose logs could be compared", nil
	}
	return jobs, "", nil
}

// compared reports whether the pods of a job are processes that compute together.
// Pods of a StatefulSet or a plain Job may as well be databases or workers that
// know nothing of each other.
func compared(j *job) bool {
	if len(j.pods) == 0 || len(j.pods) == 1 && processes(j.pods[0]) < 2 {
		return false
	}
	if j.ref.Kind == "StatefulSet" || j.ref.Group == "batch" {
		return slices.ContainsFunc(j.pods, parallel)
	}
	return true
}

// parallel reports whether a pod says that it is a rank: by its launcher, by the
// variables of one, or by its GPUs.
func parallel(p *corev1.Pod) bool {
	for _, c := range p.Spec.Containers {
		for _, e := range c.Env {
			if slices.Contains([]string{"WORLD_SIZE", "MASTER_ADDR", "RANK", "NODE_RANK", "PET_NNODES", "PET_NODE_RANK", "JAX_COORDINATOR_ADDRESS", "TF_CONFIG", "OMPI_MCA_orte_keep_fqdn_hostnames"}, e.Name) || strings.HasPrefix(e.Name, "NCCL_") {
				return true
			}
		}
		line := strings.Join(slices.Concat(c.Command, c.Args), " ")
		for _, w := range []string{"torchrun", "torch.distributed", "mpirun", "mpiexec", "deepspeed", "accelerate launch", "horovodrun", "ray start"} {
			if strings.Contains(line, w) {
				return true
			}
		}
		if len(c.Resources.Claims) > 0 {
			return true
		}
	}
	return processes(p) > 1
}

// reading is what one job's logs say.
type reading struct {
	job     *job
	members []ranks.Member
	pods    []*corev1.Pod
	verdict ranks.Verdict
	out     JobOut
}

// readJob reads the logs of a job's members and compares them.
func (t *Toolset) readJob(ctx context.Context, j *job) (*reading, error) {
	pods := slices.Clone(j.pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(calm(a), calm(b)), cmp.Compare(index(a), index(b)), cmp.Compare(a.Name, b.Name))
	})
	left := max(0, len(pods)-maxMembers)
	pods = pods[:len(pods)-left]
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(index(a), index(b)), cmp.Compare(a.Name, b.Name))
	})
	r := &reading{job: j, pods: pods}
	r.members = t.readAll(ctx, pods, t.kubeletLog)
	r.verdict = ranks.Judge(r.members)
	source := ""
	if t.cfg.Store != nil && !decisive(r.verdict) && slices.ContainsFunc(pods, t.renewed) {
		// What the pods were before they were made anew, the cluster has forgotten.
		again := t.readAll(ctx, pods, t.storedLog)
		if v := ranks.Judge(again); decisive(v) {
			r.members, r.verdict, source = again, v, "the log store"
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.out = r.report(left, source)
	return r, nil
}

// calm sorts pods in trouble before those that are not.
func calm(p *corev1.Pod) int {
	for _, c := range p.Status.ContainerStatuses {
		if !c.Ready || c.RestartCount > 0 {
			return 0
		}
	}
	if len(p.Status.ContainerStatuses) == 0 {
		return 0
	}
	return 1
}

func decisive(v ranks.Verdict) bool {
	return !slices.Contains([]ranks.Kind{ranks.Quiet, ranks.Undecided, ranks.Unmet}, v.Kind)
}

// renewed reports whether a pod or its container has been made anew lately.
func (t *Toolset) renewed(p *corev1.Pod) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.RestartCount > 0 {
			return true
		}
	}
	return t.cfg.Now().Sub(p.CreationTimestamp.Time) < storedFor
}

// storedFor is how far back the log store is asked.
const storedFor = 6 * time.Hour

type logReader func(ctx context.Context, p *corev1.Pod, container string, m *ranks.Member)

func (t *Toolset) readAll(ctx context.Context, pods []*corev1.Pod, readLog logReader) []ranks.Member {
	out := make([]ranks.Member, len(pods))
	parallelly(len(pods), func(i int) {
		p := pods[i]
		m := ranks.Member{Name: p.Name, Index: index(p), Processes: processes(p)}
		container := mainContainer(p)
		for _, c := range p.Status.ContainerStatuses {
			if c.Name != container {
				continue
			}
			if run := c.State.Running; run != nil {
				m.Running, m.Since = true, run.StartedAt.Time
			}
			m.Done = c.State.Terminated != nil && c.State.Terminated.ExitCode == 0
			m.Started = c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil
			for _, e := range []*corev1.ContainerStateTerminated{c.LastTerminationState.Terminated, c.State.Terminated} {
				if e != nil && e.ExitCode != 0 {
					m.Ended = append(m.Ended, ranks.End{At: e.FinishedAt.Time, Code: int(e.ExitCode), Reason: e.Reason})
				}
			}
		}
		readLog(ctx, p, container, &m)
		out[i] = m
	})
	return out
}

// kubeletLog reads the container's last run and the one before, in one line of time.
func (t *Toolset) kubeletLog(ctx context.Context, p *corev1.Pod, container string, m *ranks.Member) {
	if !m.Started {
		return
	}
	var text strings.Builder
	for _, previous := range []bool{true, false} {
		if previous && len(m.Ended) == 0 {
			continue
		}
		log, cut, err := t.cfg.Logs.Tail(ctx, Container{Namespace: p.Namespace, Pod: p.Name, Name: container, Previous: previous}, tailLines)
		switch {
		case err != nil && !previous:
			m.Unread = tool.UserText(err)
		case err == nil:
			text.WriteString(log)
			if log != "" && !strings.HasSuffix(log, "\n") {
				text.WriteString("\n")
			}
			m.Cut = m.Cut || cut
		}
	}
	if m.Log = ranks.Read(text.String()); m.Log.Lines > 0 {
		m.Unread = ""
	}
}

func (t *Toolset) storedLog(ctx context.Context, p *corev1.Pod, container string, m *ranks.Member) {
	now := t.cfg.Now()
	text, cut, err := t.cfg.Store.PodLog(ctx, p.Namespace, p.Name, container, now.Add(-storedFor), now)
	if err != nil {
		m.Unread = tool.UserText(err)
		return
	}
	m.Log, m.Cut = ranks.Read(text), cut
	m.Started = m.Started || m.Log.Lines > 0
}

// report puts a reading into the tool's words.
func (r *reading) report(left int, source string) JobOut {
	v := r.verdict
	o := JobOut{Job: r.job.ref.String(), Verdict: v.Kind, Why: v.Why, Pods: []string{}, Line: v.Line, At: v.At, Left: left, Source: source}
	for _, i := range v.Who {
		o.Pods = append(o.Pods, r.members[i].Name)
	}
	if w := v.Work; w != nil {
		o.Work = &CollectiveOut{Sequence: w.Seq, Operation: w.Op, Group: w.Group, Completed: w.Completed, Known: w.Known}
		if w.Timeout > 0 {
			o.Work.Timeout = w.Timeout.String()
		}
	}
	for i, m := range r.members {
		mo := MemberOut{Pod: m.Name, Node: r.pods[i].Spec.NodeName, Index: m.Index, Role: v.Roles[i], Ranks: m.Log.Ranks, LastLine: m.Log.Last, Why: m.Unread}
		if mo.Ranks == nil {
			mo.Ranks = []int{}
		}
		if len(mo.Ranks) > 16 {
			mo.Ranks = mo.Ranks[:16]
		}
		for _, e := range m.Log.Events {
			if e.Class == ranks.Own || e.Class == ranks.Timeout || e.Class == ranks.Victim || e.Class == ranks.Waiting {
				mo.First, mo.FirstAt = e.Text, e.At
				break
			}
		}
		o.Members = append(o.Members, mo)
	}
	return o
}

func writeJob(b *strings.Builder, r *reading) {
	o := r.out
	fmt.Fprintf(b, "%s: %s", o.Job, words(len(o.Members), "member", "members"))
	if o.Left > 0 {
		fmt.Fprintf(b, " read, %d more not read", o.Left)
	}
	if o.Source != "" {
		fmt.Fprintf(b, ", logs from %s", o.Source)
	}
	fmt.Fprintf(b, "\nverdict %s", o.Verdict)
	if len(o.Pods) > 0 {
		fmt.Fprintf(b, ": %s", strings.Join(o.Pods[:min(len(o.Pods), 8)], ", "))
	}
	fmt.Fprintf(b, ": %s\n", o.Why)
	if o.Line != "" {
		fmt.Fprintf(b, "telling line%s: %s\n", at(o.At), o.Line)
	}
	if w := o.Work; w != nil {
		fmt.Fprintf(b, "collective: %s sequence %d", w.Operation, w.Sequence)
		if w.Known {
			fmt.Fprintf(b, ", last completed %d", w.Completed)
		}
		if w.Group != "" {
			fmt.Fprintf(b, ", process group %s", w.Group)
		}
		if w.Timeout != "" {
			fmt.Fprintf(b, ", timeout %s", w.Timeout)
		}
		b.WriteString("\n")
	}
	for _, m := range o.Members {
		fmt.Fprintf(b, "- %s", m.Pod)
		if m.Index >= 0 {
			fmt.Fprintf(b, " (index %d)", m.Index)
		}
		fmt.Fprintf(b, " %s", m.Role)
		if m.Node != "" {
			fmt.Fprintf(b, ", node %s", m.Node)
		}
		if !m.LastLine.IsZero() {
			fmt.Fprintf(b, ", last line %s", m.LastLine.UTC().Format(time.RFC3339))
		}
		if m.Why != "" {
			fmt.Fprintf(b, ", log not read: %s", m.Why)
		}
		if m.First != "" {
			fmt.Fprintf(b, "; first%s: %s", at(m.FirstAt), short(m.First, 220))
		}
		b.WriteString("\n")
	}
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " at " + t.UTC().Format(time.RFC3339)
}

func (t *Toolset) podRef(p *corev1.Pod) incident.Ref { return t.ref("", "Pod", p.Namespace, p.Name) }

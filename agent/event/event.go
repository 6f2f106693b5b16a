// Package event is the one typed stream of a run. The terminal, the JSON
// output, the journal on disk, traces and tests all read it; none has a second
// way in.
package event

import (
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Type of an event.
type Type string

// Types, in the order in which a run usually emits them.
const (
	RunStarted   Type = "run.started"
	Resolved     Type = "subject.resolved"
	Phase        Type = "phase"
	ToolStarted  Type = "tool.started"
	ToolFinished Type = "tool.finished"
	Found        Type = "finding"
	Hypotheses   Type = "hypotheses"
	ModelStarted Type = "model.started"
	Delta        Type = "model.delta"
	ModelEnded   Type = "model.finished"
	Rejected     Type = "diagnosis.rejected"
	Concluded    Type = "diagnosis"
	Notice       Type = "notice"
	RunEnded     Type = "run.ended"
)

// Types of the stream of a plan. Its journal is this stream.
const (
	PlanMade     Type = "plan.made"
	PlanWord     Type = "plan.word"      // somebody approved, rejected, revoked or commented
	PlanBegun    Type = "plan.begun"     // the execution, or its continuation
	StepBegun    Type = "step.begun"     // its preconditions held
	WriteBegun   Type = "write.begun"    // the request is about to be sent
	WriteEnded   Type = "write.ended"    // it stands, or it failed
	Checked      Type = "check.answered" // a check was answered for good
	StepEnded    Type = "step.ended"     // its checks passed
	UndoBegun    Type = "undo.begun"
	PlanEnded    Type = "plan.ended"
	PlanReleased Type = "plan.released" // the targets are free for other plans
)

// Droppable reports whether a slow reader may miss the event. Deltas may be
// dropped, facts may not: the whole text follows in ModelEnded.
func (t Type) Droppable() bool { return t == Delta || t == Phase }

// Event is one entry of the stream. Seq counts from 1 within a run; exactly the
// payload field that belongs to Type is set.
type Event struct {
	Seq  uint64    `json:"seq"`
	Run  string    `json:"run"`
	At   time.Time `json:"at"`
	Type Type      `json:"type"`

	Started    *Started              `json:"started,omitempty"`
	Subjects   []incident.Ref        `json:"subjects,omitempty"`
	Phase      string                `json:"phase,omitempty"`
	Call       *Call                 `json:"call,omitempty"`
	Evidence   *incident.Evidence    `json:"evidence,omitempty"`
	Finding    *incident.Finding     `json:"finding,omitempty"`
	Hypotheses []incident.Hypothesis `json:"hypotheses,omitempty"`
	Model      *Model                `json:"model,omitempty"`
	Rejection  *Rejection            `json:"rejection,omitempty"`
	Diagnosis  *incident.Diagnosis   `json:"diagnosis,omitempty"`
	Notice     *Message              `json:"notice,omitempty"`
	Report     *incident.Report      `json:"report,omitempty"`

	Plan     *incident.Plan        `json:"plan,omitempty"`
	Word     *incident.Approval    `json:"word,omitempty"`
	Decision *incident.Decision    `json:"decision,omitempty"`
	Write    *incident.WriteResult `json:"write,omitempty"`
	Check    *incident.CheckResult `json:"check,omitempty"`
	Progress *Progress             `json:"progress,omitempty"`
}

// Progress is where the execution of a plan stands.
type Progress struct {
	// Step and Write name the part, where one is meant.
	Step  string `json:"step,omitempty"`
	Write string `json:"write,omitempty"`
	// By is who executes.
	By incident.Person `json:"by,omitzero"`
	// Say is one sentence for people.
	Say string `json:"say,omitempty"`
	// State is set at the end.
	State incident.PlanState `json:"state,omitempty"`
	// Digest of the plan, set where it is begun.
	Digest string `json:"digest,omitempty"`
	// Left are sentences on what stands that the plan wrote, at the end.
	Left []string `json:"left,omitempty"`
	// Nonces of the approvals that the execution uses up.
	Nonces []string `json:"nonces,omitempty"`
}

// Started opens a run.
type Started struct {
	Question incident.Question `json:"question"`
	Model    string            `json:"model"`
	Toolsets map[string]string `json:"toolsets,omitempty"`
}

// Call is a tool call that begins.
type Call struct {
	ID   string `json:"id"`
	Tool string `json:"tool"`
	// Args is the JSON of the arguments, redacted.
	Args string `json:"args,omitempty"`
	// By says who asked: "triage", "runbook:<id>", "model".
	By string `json:"by,omitempty"`
}

// Model is a turn of the model, or a piece of one.
type Model struct {
	Name string `json:"name,omitempty"`
	Turn int    `json:"turn,omitempty"`
	// Text is the piece (Delta) or the whole turn (ModelEnded), redacted.
	Text         string  `json:"text,omitempty"`
	Reasoning    bool    `json:"reasoning,omitempty"`
	InputTokens  int     `json:"input_tokens,omitempty"`
	OutputTokens int     `json:"output_tokens,omitempty"`
	Cost         float64 `json:"cost,omitempty"`
	Error        string  `json:"error,omitempty"`
}

// Rejection is the validator's refusal of a diagnosis.
type Rejection struct {
	Reasons []string `json:"reasons"`
	// Final is set when the diagnosis was already sent back once.
	Final bool `json:"final,omitempty"`
}

// Message is a line for people: "info", "warning" or "error".
type Message struct {
	Level string `json:"level"`
	Text  string `json:"text"`
}

// Sink takes the events of a run in order. Emit must not block for long; a
// surface that needs time subscribes to a Broker.
type Sink interface{ Emit(Event) }

// SinkFunc makes a function a Sink.
type SinkFunc func(Event)

// Emit implements Sink.
func (f SinkFunc) Emit(e Event) { f(e) }

// Tee sends each event to several sinks in order.
func Tee(sinks ...Sink) Sink {
	return SinkFunc(func(e Event) {
		for _, s := range sinks {
			s.Emit(e)
		}
	})
}

// Recorder stamps events with run, sequence and time and passes them on. It is
// safe for concurrent use: tools of one turn run in parallel.
type Recorder struct {
	mu   sync.Mutex
	run  string
	seq  uint64
	now  func() time.Time
	sink Sink
}

// NewRecorder makes a recorder for one run.
func NewRecorder(run string, now func() time.Time, sink Sink) *Recorder {
	r := &Recorder{run: run, now: now, sink: sink}
	return r
}

// Emit stamps and forwards.
func (r *Recorder) Emit(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq, e.Run, e.At = r.seq, r.run, r.now()
	r.sink.Emit(e)
}

// Package session keeps conversations: who asked what and where, which runs
// answered, which alerts and plans belong to it. A session is a subject of the
// journal and a projection of its records, so that every surface shows the same
// one, and a question that was taken survives the end of the process.
//
// It also holds the queue that works on questions: Book takes them, Worker hands
// them to whoever investigates, one at a time and at least once.
package session

import (
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Surfaces a question comes from.
const (
	CLI          = "cli"
	TUI          = "tui"
	API          = "api"
	Web          = "web"
	Slack        = "slack"
	Alertmanager = "alertmanager"
	MCP          = "mcp"
)

// Surfaces lists the names above.
func Surfaces() []string { return []string{CLI, TUI, API, Web, Slack, Alertmanager, MCP} }

// Session is a conversation about one incident.
type Session struct {
	// ID is "s-" and 16 hex digits.
	ID    string `json:"id"`
	Title string `json:"title"`
	// Source is the surface that opened it, Owner who did.
	Source    string          `json:"source"`
	Owner     incident.Person `json:"owner"`
	Cluster   string          `json:"cluster,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Opened    time.Time       `json:"opened"`
	Changed   time.Time       `json:"changed"`
	// Turns are the questions in the order they were taken.
	Turns []Turn `json:"turns"`
	// Alerts by fingerprint, as last heard of; empty where no alert asks.
	Alerts []incident.Alert `json:"alerts,omitempty"`
	// Plans are the ids of the plans made in it.
	Plans []string `json:"plans,omitempty"`
	// Links are the places where it is shown, such as a thread.
	Links []Link `json:"links,omitempty"`
	// Model is the one switched to for this session; empty is the configured one.
	Model string `json:"model,omitempty"`
	// Merged names the session that is about the same incident and goes on.
	Merged string `json:"merged,omitempty"`
	// Resolved is when the last of its alerts ended, zero while one fires.
	Resolved time.Time `json:"resolved,omitzero"`
	// Closed says that nothing is to be added any more.
	Closed bool `json:"closed,omitempty"`
	// Seq is that of the last record.
	Seq uint64 `json:"seq"`
}

// TurnState is how far a question came.
type TurnState string

// States of a turn.
const (
	Queued    TurnState = "queued"
	Running   TurnState = "running"
	Answered  TurnState = "answered"
	Failed    TurnState = "failed"    // it was tried as often as is sensible
	Cancelled TurnState = "cancelled" // somebody took it back
)

// Ended reports whether nothing more comes of a turn.
func (s TurnState) Ended() bool { return s == Answered || s == Failed || s == Cancelled }

// Turn is a question and what became of it.
type Turn struct {
	// ID is "run-" and 16 hex digits. It is the id of its first run too.
	ID       string            `json:"id"`
	Question incident.Question `json:"question"`
	By       incident.Person   `json:"by"`
	Source   string            `json:"source"`
	Priority Priority          `json:"priority"`
	State    TurnState         `json:"state"`
	Asked    time.Time         `json:"asked"`
	Begun    time.Time         `json:"begun,omitzero"`
	Ended    time.Time         `json:"ended,omitzero"`
	// Run is the run that answers, or the last that tried; empty while queued.
	Run string `json:"run,omitempty"`
	// Attempt counts the runs from 1.
	Attempt int `json:"attempt,omitempty"`
	// Outcome and Headline are those of the diagnosis.
	Outcome  incident.Outcome `json:"outcome,omitempty"`
	Headline string           `json:"headline,omitempty"`
	Model    string           `json:"model,omitempty"`
	Usage    incident.Usage   `json:"usage,omitzero"`
	// Reason is why it failed, was cancelled, or was answered without a model.
	Reason string `json:"reason,omitempty"`
	// Key is the idempotency key that the question came with.
	Key string `json:"key,omitempty"`
}

// Priority orders the queue.
type Priority string

// Priorities, the most urgent first.
const (
	High   Priority = "high"   // a critical alert
	Normal Priority = "normal" // a person waits
	Low    Priority = "low"    // other alerts, rechecks
)

// Priorities lists them in the order in which they are worked on.
func Priorities() []Priority { return []Priority{High, Normal, Low} }

// Link is a place on a surface where a session is shown: for Slack the channel and
// the thread as "C123/1712.3456".
type Link struct {
	Surface string `json:"surface"`
	Key     string `json:"key"`
}

// Ask is a question put to the book.
type Ask struct {
	// Session continues one; empty opens a new one.
	Session  string
	Question incident.Question
	By       incident.Person
	// Source is the surface.
	Source   string
	Priority Priority // empty is Normal
	// Key makes the question idempotent within its source: the same key gives the
	// turn that stands, whatever else is asked. Empty is a new question each time.
	Key string
	// Title of a new session; empty is made of the question.
	Title string
	// Model to switch the session to; empty leaves it.
	Model string
	// Links and Alerts of a new session.
	Links  []Link
	Alerts []incident.Alert
}

// Filter narrows a list of sessions; zero fields do not.
type Filter struct {
	Source string
	Owner  string
	// Open leaves out those that are merged, closed or resolved.
	Open bool
	// Run is a turn's id, or a run that answers one: the session that holds it.
	Run string
	// Text occurs in the title or a question.
	Text  string
	Limit int
}

// Change is one record of a session: the part that is set happened.
type Change struct {
	Opened   *Opened          `json:"opened,omitempty"`
	Asked    *Turn            `json:"asked,omitempty"`
	Begun    *Begun           `json:"begun,omitempty"`
	Ended    *Turn            `json:"ended,omitempty"`
	Alerts   []incident.Alert `json:"alerts,omitempty"`
	Resolved *bool            `json:"resolved,omitempty"`
	Plan     string           `json:"plan,omitempty"`
	Link     *Link            `json:"link,omitempty"`
	Unlinked *Link            `json:"unlinked,omitempty"`
	Model    *string          `json:"model,omitempty"`
	Title    string           `json:"title,omitempty"`
	Merged   string           `json:"merged,omitempty"`
	Closed   *bool            `json:"closed,omitempty"`
}

// Opened is the first record of a session.
type Opened struct {
	Title     string          `json:"title"`
	Source    string          `json:"source"`
	Owner     incident.Person `json:"owner"`
	Cluster   string          `json:"cluster,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Model     string          `json:"model,omitempty"`
	Links     []Link          `json:"links,omitempty"`
}

// Begun says that a run works on a turn.
type Begun struct {
	Turn    string `json:"turn"`
	Run     string `json:"run"`
	Attempt int    `json:"attempt"`
}

// PlanAsk asks for a plan from the diagnosis of a run, or from a file.
type PlanAsk struct {
	// Session that the plan is added to; it may be empty.
	Session string
	// Run is the investigation.
	Run string
	// Action names the proposal that is meant; empty takes the least harmful. Set
	// gives parameters that it leaves open.
	Action string
	Set    map[string]string
	// File is a plan written by hand, as YAML, in place of Run.
	File       []byte
	Reason     string
	BreakGlass bool
	By         incident.Person
	// Source is the surface.
	Source string
}

// Notice is what changed, for a surface that follows everything: exactly one of
// the ids is set.
type Notice struct {
	Session string `json:"session,omitempty"`
	Plan    string `json:"plan,omitempty"`
	// Seq is the record's within its subject, At when it was taken.
	Seq uint64    `json:"seq"`
	At  time.Time `json:"at"`
	// Type of the record, such as "turn.ended" or "plan.word".
	Type string `json:"type"`
}

// Toolset is what a surface shows of a toolset.
type Toolset struct {
	Name   string   `json:"name"`
	State  string   `json:"state"`
	Reason string   `json:"reason,omitempty"`
	Fix    string   `json:"fix,omitempty"`
	Tools  []string `json:"tools"`
}

// Model is one that can be switched to.
type Model struct {
	// Name is "offline" or PROVIDER/NAME.
	Name string `json:"name"`
	// Window in tokens, 0 if unknown; prices in US dollars per million tokens.
	Window      int     `json:"window,omitempty"`
	InputPrice  float64 `json:"input_price,omitempty"`
	OutputPrice float64 `json:"output_price,omitempty"`
	Default     bool    `json:"default,omitempty"`
}

// Status is what a surface shows of the whole.
type Status struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace,omitempty"`
	// Mode is "read-only" or "executor": whether approved plans are executed here.
	Mode    string `json:"mode"`
	Model   string `json:"model"`
	Version string `json:"version"`
	// Pending counts the plans that wait for somebody's word.
	Pending int `json:"pending"`
	// Queued and Running count turns.
	Queued  int `json:"queued"`
	Running int `json:"running"`
}

// Told is an event of a run or a plan as a surface follows it.
type Told struct {
	// Seq is the sequence in the journal, from which following can be taken up
	// again; 0 for what is only told live, such as a model's words while they come.
	Seq   uint64      `json:"seq"`
	Event event.Event `json:"event"`
}

// Package wire holds the documents of /api/v1 that are no types of another room:
// requests, and answers that wrap such types. The server and the client share it,
// and the component schemas of the OpenAPI document are made of it.
//
// The tag limit:"MIN..MAX" bounds a string in characters, a list and a map in
// entries; either end may be left out. The tag enum:"a|b" lists the values of a
// string. Server and document read the same tags.
package wire

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

// Prefix is the path under which everything lies.
const Prefix = "/api/v1"

// IdempotencyKey is the header that makes a question idempotent.
const IdempotencyKey = "Idempotency-Key"

// Ask is a question. One of question, alert and subjects is needed.
type Ask struct {
	// Question is what is asked, in plain words.
	Question string `json:"question,omitempty" limit:"1..8000"`
	// Cluster narrows the question to one cluster; another than the server's is refused.
	Cluster string `json:"cluster,omitempty" limit:"1..253"`
	// Namespace narrows the question.
	Namespace string `json:"namespace,omitempty" limit:"1..253"`
	// Alert asks in place of words.
	Alert *incident.Alert `json:"alert,omitempty"`
	// Subjects are the objects that are meant, where they are known already.
	Subjects []incident.Ref `json:"subjects,omitempty" limit:"..50"`
	// Session continues a conversation; empty opens a new one.
	Session string `json:"session,omitempty" limit:"1..64"`
	// Model switches the session to a model, "offline" to none.
	Model string `json:"model,omitempty" limit:"1..200"`
	// Priority orders the queue; empty is normal.
	Priority session.Priority `json:"priority,omitempty" enum:"high|normal|low"`
	// Title of a new session; empty is made of the question.
	Title string `json:"title,omitempty" limit:"1..300"`
	// Source is the surface that asks through the API; empty is api.
	Source string `json:"source,omitempty" enum:"api|cli|tui"`
	// Alerts of a new session.
	Alerts []incident.Alert `json:"alerts,omitempty" limit:"..1000"`
	// Links are places where a new session is shown.
	Links []session.Link `json:"links,omitempty" limit:"..20"`
}

// FollowUp is a further question of a conversation. One of question, alert and
// subjects is needed.
type FollowUp struct {
	// Question is what is asked, in plain words.
	Question string `json:"question,omitempty" limit:"1..8000"`
	// Cluster narrows the question to one cluster; another than the server's is refused.
	Cluster string `json:"cluster,omitempty" limit:"1..253"`
	// Namespace narrows the question.
	Namespace string `json:"namespace,omitempty" limit:"1..253"`
	// Alert asks in place of words.
	Alert *incident.Alert `json:"alert,omitempty"`
	// Subjects are the objects that are meant, where they are known already.
	Subjects []incident.Ref `json:"subjects,omitempty" limit:"..50"`
	// Model switches the session to a model, "offline" to none.
	Model string `json:"model,omitempty" limit:"1..200"`
	// Priority orders the queue; empty is normal.
	Priority session.Priority `json:"priority,omitempty" enum:"high|normal|low"`
	// Source is the surface that asks through the API; empty is api.
	Source string `json:"source,omitempty" enum:"api|cli|tui"`
}

// Asked is the answer to a question: it is in the journal and in the queue.
type Asked struct {
	Session session.Session `json:"session"`
	// Turn is the question; its id is that of its first run.
	Turn session.Turn `json:"turn"`
}

// Investigation is a question with what became of it.
type Investigation struct {
	Session session.Session `json:"session"`
	// Turn is the question that was asked for; of a session, its last one.
	Turn *session.Turn `json:"turn,omitempty"`
	// Run answers it, with its report as far as it came; missing while it is queued.
	Run *store.Run `json:"run,omitempty"`
}

// InvestigationItem is a line of the list of investigations.
type InvestigationItem struct {
	// Session and Title are those of the conversation.
	Session string `json:"session"`
	Title   string `json:"title"`
	// Turn is the question and its state.
	Turn session.Turn `json:"turn"`
}

// Investigations is a page of the list, the newest question first.
type Investigations struct {
	Items []InvestigationItem `json:"items"`
	// Next is the cursor of the next page, missing on the last.
	Next string `json:"next,omitempty"`
	// Problems are sentences on what is left out because it cannot be read.
	Problems []string `json:"problems,omitempty"`
}

// Cancel says which question is taken back.
type Cancel struct {
	// Turn is its id; empty is the newest that is not answered.
	Turn string `json:"turn,omitempty" limit:"1..64"`
}

// Sessions is a page of conversations, the one that changed last first.
type Sessions struct {
	Items []session.Session `json:"items"`
	// Next is the cursor of the next page, missing on the last.
	Next string `json:"next,omitempty"`
	// Problems are sentences on what is left out because it cannot be read.
	Problems []string `json:"problems,omitempty"`
}

// Export is a conversation with everything that belongs to it.
type Export struct {
	Session session.Session `json:"session"`
	// Runs are those that answered, in the order of the questions.
	Runs []store.Run `json:"runs"`
	// Plans are those made in it.
	Plans []planner.Record `json:"plans"`
}

// Model names a model.
type Model struct {
	// Model is "offline" or PROVIDER/NAME; empty goes back to the configured one.
	Model string `json:"model" limit:"..200"`
}

// Alerts tells a conversation what its alerts do.
type Alerts struct {
	Alerts []incident.Alert `json:"alerts,omitempty" limit:"..1000"`
	// Resolved says that the last of them ended, or that one fires again; missing
	// changes nothing.
	Resolved *bool `json:"resolved,omitempty"`
}

// Merge names the conversation that goes on.
type Merge struct {
	Into string `json:"into" limit:"1..64"`
}

// Linked says which conversation is shown at a place.
type Linked struct {
	// Found says whether there is one.
	Found   bool             `json:"found"`
	Session *session.Session `json:"session,omitempty"`
}

// Propose asks for a plan: from the diagnosis of a run, or from a file.
type Propose struct {
	// Session that the plan is added to.
	Session string `json:"session,omitempty" limit:"1..64"`
	// Run is the investigation.
	Run string `json:"run,omitempty" limit:"1..64"`
	// Action names the proposal that is meant; empty takes the least harmful.
	Action string `json:"action,omitempty" limit:"1..100"`
	// Set gives parameters that the proposal leaves open.
	Set map[string]string `json:"set,omitempty" limit:"..50"`
	// File is a plan written by hand, as YAML, in place of run.
	File string `json:"file,omitempty" limit:"1..262144"`
	// Reason is why, in the words of whoever asks.
	Reason string `json:"reason,omitempty" limit:"1..2000"`
	// BreakGlass asks for the role of that name instead of ordinary consent.
	BreakGlass bool `json:"break_glass,omitempty"`
	// Source is the surface that asks through the API; empty is api.
	Source string `json:"source,omitempty" enum:"api|cli|tui"`
}

// Plans is a page of plans, the newest first.
type Plans struct {
	Items []planner.Record `json:"items"`
	// Next is the cursor of the next page, missing on the last.
	Next string `json:"next,omitempty"`
	// Problems are sentences on what is left out because it cannot be read.
	Problems []string `json:"problems,omitempty"`
}

// Approve approves exactly the plan that was looked at.
type Approve struct {
	// Digest of the plan as it was shown, "sha256:<hex>".
	Digest  string `json:"digest" limit:"1..100"`
	Comment string `json:"comment,omitempty" limit:"..2000"`
}

// Word is somebody's word about a plan. A rejection and a comment need its text.
type Word struct {
	Comment string `json:"comment,omitempty" limit:"..2000"`
}

// Undo takes an executed plan back.
type Undo struct {
	Reason string `json:"reason" limit:"1..2000"`
}

// Reset closes the breaker, which stopped executions after failures.
type Reset struct {
	// Reason is why it is safe to go on.
	Reason string `json:"reason" limit:"1..2000"`
}

// Rehearsal is a plan tried again without changing anything.
type Rehearsal struct {
	Plan planner.Record `json:"plan"`
	// Problems are sentences; none means that every request would be taken.
	Problems []string `json:"problems"`
}

// Evidence is what a run looked at.
type Evidence struct {
	Items []incident.Evidence `json:"items"`
}

// Toolsets is what gumshoe can look at.
type Toolsets struct {
	Items []session.Toolset `json:"items"`
}

// Models is what can be switched to.
type Models struct {
	Items []session.Model `json:"items"`
}

// Objects are names that complete what somebody types.
type Objects struct {
	Items []incident.Ref `json:"items"`
}

// Trail is a page of the audit trail, in its order.
type Trail struct {
	Items []audit.Entry `json:"items"`
	// Next is the sequence to go on after, missing on the last page.
	Next uint64 `json:"next,omitempty"`
}

// Follow says what was seen already.
type Follow struct {
	// After gives for each subject the sequence of the last notice that was seen:
	// "session.<id>", "plan.<id>", and "due.<plan>" for notices of the type plan.due. A
	// subject that is missing is told from its beginning.
	After map[string]uint64 `json:"after,omitempty" limit:"..50000"`
}

// End is the data of the event "end": nothing more will come.
type End struct {
	// Seq is that of the last event with an id.
	Seq uint64 `json:"seq"`
}

package incident

import (
	"encoding/json"
	"time"
)

// Evidence is one look at the world: a tool call and what it answered. A failed
// look is recorded too (Error is set); it never supports a claim.
type Evidence struct {
	// ID is E1, E2, ... in the order in which the calls were recorded.
	ID   string          `json:"id"`
	Tool string          `json:"tool"`
	Args json.RawMessage `json:"args,omitempty"`
	// Cluster the fact comes from.
	Cluster string    `json:"cluster,omitempty"`
	At      time.Time `json:"at"`
	// Millis is how long the call took, in milliseconds.
	Millis int64 `json:"millis"`
	// Text is what a person or a model reads: redacted and within the budget.
	Text string `json:"text"`
	// Data is the tool's typed output as JSON, redacted. Empty after an error.
	Data json.RawMessage `json:"data,omitempty"`
	// Error is the user-facing sentence of a failed call.
	Error string `json:"error,omitempty"`
	// ErrorKind classifies a failed call; see the tool package.
	ErrorKind string `json:"error_kind,omitempty"`
	// Truncated says that Text is shorter than what the tool answered; the rest
	// is in the store under Digest and is read with evidence_read.
	Truncated bool `json:"truncated,omitempty"`
	// Digest is the SHA-256 of the full output, "sha256:<hex>".
	Digest string `json:"digest,omitempty"`
	// Suspicious lists instruction-like fragments seen in the output.
	Suspicious []string `json:"suspicious,omitempty"`
}

// Severity of a finding.
type Severity string

// Severities, mildest first.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Weight orders severities: 0, 1, 2.
func (s Severity) Weight() int {
	switch s {
	case Critical:
		return 2
	case Warning:
		return 1
	default:
		return 0
	}
}

// Role says what part a finding plays in an explanation.
type Role string

const (
	// Symptom is visible trouble that wants an explanation: a Pending pod, a
	// Deployment without its replicas.
	Symptom Role = "symptom"
	// Fault is abnormal in itself and explains what depends on its subject: a
	// missing Secret, a selector no device satisfies, a node that is not ready.
	Fault Role = "fault"
	// Context is true and useful but explains nothing by itself.
	Context Role = "context"
	// History was trouble and is over: an old restart, a replaced ReplicaSet.
	History Role = "history"
)

// Finding is an abnormal fact, with the evidence that carries it.
type Finding struct {
	// Code is "<toolset>.<snake_case>", for example "dra.selector_excludes_all".
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Role     Role     `json:"role"`
	Subject  Ref      `json:"subject"`
	// Message is one sentence a person can act on; every name and number in it
	// occurs in the evidence.
	Message string `json:"message"`
	// Params are the facts of the message by name, for templates and proposals.
	Params map[string]string `json:"params,omitempty"`
	// Confidence that the finding is what stands in the way, 0 to 1. Zero means
	// the default for its severity.
	Confidence float64   `json:"confidence,omitempty"`
	Evidence   []string  `json:"evidence,omitempty"`
	FirstSeen  time.Time `json:"first_seen,omitzero"`
	LastSeen   time.Time `json:"last_seen,omitzero"`
}

// Score gives Confidence, or the default of the severity where it is zero.
func (f Finding) Score() float64 {
	if f.Confidence > 0 {
		return f.Confidence
	}
	switch f.Severity {
	case Critical:
		return 0.85
	case Warning:
		return 0.6
	default:
		return 0.3
	}
}

// Edge says that From stands in a named relation to To. By convention From
// depends on To: Pod -claims-> ResourceClaim.
type Edge struct {
	From     Ref    `json:"from"`
	Relation string `json:"relation"`
	To       Ref    `json:"to"`
	// Note says more of To as the tool saw it, in its words: "48 devices on 6 nodes".
	Note     string   `json:"note,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
}

package incident

import "time"

// Outcome of an investigation.
type Outcome string

const (
	// RootCause: at least one cause is named and carried by evidence.
	RootCause Outcome = "root_cause"
	// Healthy: what was asked about was looked at and nothing is wrong.
	Healthy Outcome = "healthy"
	// Recovered: there was trouble, it is over, and the past cause may be named.
	Recovered Outcome = "recovered"
	// Inconclusive: the evidence does not carry a conclusion.
	Inconclusive Outcome = "inconclusive"
)

// Valid reports whether the outcome is one of the four.
func (o Outcome) Valid() bool {
	switch o {
	case RootCause, Healthy, Recovered, Inconclusive:
		return true
	}
	return false
}

// Cause is a claim about why. Every claim cites evidence.
type Cause struct {
	Subject Ref    `json:"subject"`
	Code    string `json:"code"`
	// Statement is one sentence.
	Statement string `json:"statement"`
	// Detail holds the decisive figures, one line each.
	Detail     []string `json:"detail,omitempty"`
	Confidence float64  `json:"confidence"`
	Evidence   []string `json:"evidence"`
	// Runbook that named the cause, if one did.
	Runbook string `json:"runbook,omitempty"`
	// Explains lists the symptoms this cause accounts for.
	Explains []Ref `json:"explains,omitempty"`
}

// Refutation is a rival explanation and the evidence against it.
type Refutation struct {
	Code     string   `json:"code,omitempty"`
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Evidence []string `json:"evidence,omitempty"`
}

// Hypothesis is a possible cause on its way to a diagnosis.
type Hypothesis struct {
	Cause   Cause        `json:"cause"`
	Refuted bool         `json:"refuted,omitempty"`
	RuledBy []Refutation `json:"ruled_by,omitempty"`
}

// CheckedItem is something that was looked at, and what it showed.
type CheckedItem struct {
	What     string   `json:"what"`
	Result   string   `json:"result"`
	Subject  Ref      `json:"subject,omitzero"`
	Evidence []string `json:"evidence,omitempty"`
}

// Gap is something that could not be seen, and what would open it.
type Gap struct {
	Source string `json:"source"`
	Why    string `json:"why"`
	Fix    string `json:"fix,omitempty"`
}

// Proposal is an action somebody may take: a name and parameters, never a command.
type Proposal struct {
	Action string            `json:"action"`
	Params map[string]string `json:"params,omitempty"`
	Why    string            `json:"why"`
	// WouldFit says, where a simulation was run, that the change was tried.
	WouldFit string   `json:"would_fit,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	// Cause is the code of the cause that it mends. Runbook is empty when a model
	// proposed it.
	Cause   string `json:"cause,omitempty"`
	Runbook string `json:"runbook,omitempty"`
}

// Unsupported is a claim the validator refused, shown but never acted upon.
type Unsupported struct {
	Claim   string   `json:"claim"`
	Reasons []string `json:"reasons"`
}

// Diagnosis is the answer.
type Diagnosis struct {
	Outcome Outcome `json:"outcome"`
	// Summary is prose for a person; it is not validated claim by claim and is
	// always shown apart from the causes.
	Summary     string        `json:"summary,omitempty"`
	Causes      []Cause       `json:"causes"`
	Chain       []Edge        `json:"chain"`
	RuledOut    []Refutation  `json:"ruled_out,omitempty"`
	Checked     []CheckedItem `json:"checked"`
	NotSeen     []Gap         `json:"not_seen"`
	Proposals   []Proposal    `json:"proposals"`
	WouldFit    []Claim       `json:"would_fit,omitempty"`
	Unexplained []Finding     `json:"unexplained,omitempty"`
	Unsupported []Unsupported `json:"unsupported,omitempty"`
	// Ask is set when the question must be made clearer: several objects carry
	// the name, or none does and these come near.
	Ask *Clarification `json:"ask,omitempty"`
}

// Claim is a sentence with its evidence.
type Claim struct {
	Text     string   `json:"text"`
	Evidence []string `json:"evidence,omitempty"`
}

// Clarification asks the person which of several things was meant.
type Clarification struct {
	Text    string `json:"text"`
	Choices []Ref  `json:"choices,omitempty"`
}

// Assessment is what triage found before any model was asked.
type Assessment struct {
	Subjects   []Ref        `json:"subjects"`
	Findings   []Finding    `json:"findings,omitempty"`
	Edges      []Edge       `json:"edges,omitempty"`
	Hypotheses []Hypothesis `json:"hypotheses,omitempty"`
	// Diagnosis is triage's own answer; it stands when there is no model.
	Diagnosis Diagnosis `json:"diagnosis"`
}

// Usage is what a run cost.
type Usage struct {
	Steps        int `json:"steps"`
	ToolCalls    int `json:"tool_calls"`
	InputTokens  int `json:"input_tokens"`
	OutputTokens int `json:"output_tokens"`
	// Cost in US dollars; zero when the model's prices are not known.
	Cost    float64 `json:"cost"`
	Seconds float64 `json:"seconds"`
}

// Stop says why a run ended.
type Stop string

const (
	// StopDone is the ordinary end.
	StopDone Stop = "done"
	// StopBudget: a budget was spent; the answer is what the evidence carried by then.
	StopBudget Stop = "budget"
	// StopModel: the model could not be used; triage's answer stands.
	StopModel Stop = "model_unavailable"
	// StopUnreachable: the cluster or data source could not be reached at all.
	StopUnreachable Stop = "unreachable"
	// StopInterrupted: the caller cancelled.
	StopInterrupted Stop = "interrupted"
)

// Report is the whole result of a run, and what --output json prints.
type Report struct {
	ID       string    `json:"id"`
	Question string    `json:"question"`
	Alert    *Alert    `json:"alert,omitempty"`
	Subjects []Ref     `json:"subjects,omitempty"`
	Cluster  string    `json:"cluster,omitempty"`
	Model    string    `json:"model"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	Stop     Stop      `json:"stop"`
	// StopReason is a sentence when Stop is not "done".
	StopReason string     `json:"stop_reason,omitempty"`
	Diagnosis  Diagnosis  `json:"diagnosis"`
	Evidence   []Evidence `json:"evidence"`
	Findings   []Finding  `json:"findings,omitempty"`
	// Suspicious lists instruction-like text seen in what the cluster said.
	Suspicious []string `json:"suspicious,omitempty"`
	Usage      Usage    `json:"usage"`
}

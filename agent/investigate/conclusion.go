package investigate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// conclusion is a diagnosis as a model writes it. Things are written as "Kind
// namespace/name", which models get right more often than nested objects.
type conclusion struct {
	Outcome     string        `json:"outcome"`
	Summary     loose         `json:"summary"`
	Causes      []mCause      `json:"causes"`
	Chain       []mEdge       `json:"chain"`
	RuledOut    []mRefutation `json:"ruled_out"`
	Checked     []mChecked    `json:"checked"`
	Unexplained []mRef        `json:"unexplained"`
	Proposals   []mProposal   `json:"proposals"`
}

type mCause struct {
	Subject    mRef   `json:"subject"`
	Code       string `json:"code"`
	Statement  loose  `json:"statement"`
	Detail     list   `json:"detail"`
	Confidence number `json:"confidence"`
	Evidence   list   `json:"evidence"`
}

type mEdge struct {
	From     mRef   `json:"from"`
	Relation string `json:"relation"`
	To       mRef   `json:"to"`
	Evidence list   `json:"evidence"`
}

type mRefutation struct {
	Code     string `json:"code"`
	What     loose  `json:"what"`
	Why      loose  `json:"why"`
	Evidence list   `json:"evidence"`
}

type mChecked struct {
	What     loose `json:"what"`
	Result   loose `json:"result"`
	Evidence list  `json:"evidence"`
}

type mProposal struct {
	Action   string                     `json:"action"`
	Params   map[string]json.RawMessage `json:"params"`
	Why      loose                      `json:"why"`
	Evidence list                       `json:"evidence"`
}

// concludeSchema is the input of the conclude tool, written by hand: it is a
// part of every request, so each word counts.
const concludeSchema = `{"type":"object","properties":{` +
	`"outcome":{"type":"string","enum":["root_cause","healthy","recovered","inconclusive"]},` +
	`"summary":{"type":"string","description":"two or three sentences for a person"},` +
	`"causes":{"type":"array","description":"most likely first","items":{"type":"object","properties":{` +
	`"subject":{"type":"string","description":"what is wrong: Kind namespace/name"},` +
	`"code":{"type":"string","description":"code of the finding behind it, else a short word"},` +
	`"statement":{"type":"string","description":"one sentence; names and numbers as in the evidence"},` +
	`"confidence":{"type":"number"},` +
	`"evidence":{"type":"array","items":{"type":"string"}}},` +
	`"required":["subject","statement","confidence","evidence"]}},` +
	`"chain":{"type":"array","description":"links from symptom to cause that triage does not list","items":{"type":"object","properties":{` +
	`"from":{"type":"string"},"relation":{"type":"string"},"to":{"type":"string"},"evidence":{"type":"array","items":{"type":"string"}}},` +
	`"required":["from","relation","to","evidence"]}},` +
	`"ruled_out":{"type":"array","items":{"type":"object","properties":{` +
	`"code":{"type":"string"},"what":{"type":"string"},"why":{"type":"string"},"evidence":{"type":"array","items":{"type":"string"}}},` +
	`"required":["what","why","evidence"]}},` +
	`"checked":{"type":"array","items":{"type":"object","properties":{` +
	`"what":{"type":"string"},"result":{"type":"string"},"evidence":{"type":"array","items":{"type":"string"}}},` +
	`"required":["what","result","evidence"]}},` +
	`"unexplained":{"type":"array","description":"symptoms no cause explains: Kind namespace/name","items":{"type":"string"}},` +
	`"proposals":{"type":"array","items":{"type":"object","properties":{` +
	`"action":{"type":"string"},"params":{"type":"object","additionalProperties":{"type":"string"}},"why":{"type":"string"},"evidence":{"type":"array","items":{"type":"string"}}},` +
	`"required":["action","params","why"]}}` +
	`},"required":["outcome"]}`

// decodeConclusion reads a conclusion. It forgives what does not change the
// meaning (a number as text, one id instead of a list, an object instead of a
// reference written as text); everything else is an error for the model.
func decodeConclusion(raw string) (incident.Diagnosis, error) {
	var c conclusion
	d := json.NewDecoder(strings.NewReader(raw))
	if err := d.Decode(&c); err != nil {
		if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return incident.Diagnosis{}, fmt.Errorf("%s: %s is not what belongs at %q", concludeTool, typed.Value, typed.Field)
		}
		return incident.Diagnosis{}, fmt.Errorf("%s: the arguments are not valid JSON: %w", concludeTool, err)
	}
	out := incident.Diagnosis{Outcome: incident.Outcome(strings.ToLower(strings.TrimSpace(c.Outcome))), Summary: string(c.Summary)}
	if !out.Outcome.Valid() {
		return out, fmt.Errorf("%s: outcome is %q; it must be root_cause, healthy, recovered or inconclusive", concludeTool, short(c.Outcome, 60))
	}
	for _, m := range c.Causes {
		out.Causes = append(out.Causes, incident.Cause{Subject: m.Subject.Ref, Code: m.Code, Statement: oneLine(string(m.Statement)),
			Detail: m.Detail, Confidence: float64(m.Confidence), Evidence: m.Evidence.ids()})
	}
	for _, m := range c.Chain {
		out.Chain = append(out.Chain, incident.Edge{From: m.From.Ref, Relation: m.Relation, To: m.To.Ref, Evidence: m.Evidence.ids()})
	}
	for _, m := range c.RuledOut {
		out.RuledOut = append(out.RuledOut, incident.Refutation{Code: m.Code, What: oneLine(string(m.What)), Why: oneLine(string(m.Why)), Evidence: m.Evidence.ids()})
	}
	for _, m := range c.Checked {
		out.Checked = append(out.Checked, incident.CheckedItem{What: oneLine(string(m.What)), Result: oneLine(string(m.Result)), Evidence: m.Evidence.ids()})
	}
	for _, m := range c.Unexplained {
		out.Unexplained = append(out.Unexplained, incident.Finding{Subject: m.Ref})
	}
	for i, m := range c.Proposals {
		p := incident.Proposal{Action: m.Action, Why: oneLine(string(m.Why)), Evidence: m.Evidence.ids(), Params: map[string]string{}}
		for k, v := range m.Params {
			s, err := scalar(v)
			if err != nil {
				return out, fmt.Errorf("%s: proposals[%d].params.%s: %w", concludeTool, i, short(k, 60), err)
			}
			p.Params[k] = s
		}
		out.Proposals = append(out.Proposals, p)
	}
	return out, nil
}

// scalar gives a plain JSON value as text.
func scalar(raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	if len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') {
		return "", errors.New("a parameter is text, not an object or a list")
	}
	return string(raw), nil
}

// loose is text for which a model may have written another plain value.
type loose string

// UnmarshalJSON implements json.Unmarshaler.
func (l *loose) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	s, err := scalar(raw)
	if err != nil {
		return &json.UnmarshalTypeError{Value: "an object or list", Field: "text"}
	}
	*l = loose(s)
	return nil
}

// number is a number that may have been written as text or in percent.
type number float64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	s, _ := scalar(raw)
	s = strings.TrimSpace(s)
	percent := strings.HasSuffix(s, "%")
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil {
		return &json.UnmarshalTypeError{Value: strconv.Quote(short(s, 40)), Field: "confidence"}
	}
	if percent {
		f /= 100
	}
	*n = number(f)
	return nil
}

// list is a list of texts; a single text is a list of one.
type list []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *list) UnmarshalJSON(raw []byte) error {
	var many []loose
	if json.Unmarshal(raw, &many) == nil {
		for _, s := range many {
			*l = append(*l, string(s))
		}
		return nil
	}
	var one loose
	if err := one.UnmarshalJSON(raw); err != nil {
		return err
	}
	if one != "" {
		*l = list{string(one)}
	}
	return nil
}

// ids reads the list as evidence ids: "[E3]", "E1, E2" and "e3" are understood.
func (l list) ids() []string {
	out := []string{}
	for _, s := range l {
		for id := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(", []()", r) }) {
			if len(id) > 1 && id[0] == 'e' && digit(id[1]) {
				id = "E" + id[1:]
			}
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out
}

// mRef is a reference written as "Kind namespace/name" or as an object.
type mRef struct{ incident.Ref }

// UnmarshalJSON implements json.Unmarshaler.
func (r *mRef) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		r.Ref = parseRef(s)
		return nil
	}
	if err := json.Unmarshal(raw, &r.Ref); err != nil {
		return &json.UnmarshalTypeError{Value: "this", Field: "subject"}
	}
	return nil
}

// parseRef reads what Ref.String writes; a group behind the kind
// ("Deployment.apps") is understood.
func parseRef(s string) incident.Ref {
	s = strings.Trim(oneLine(s), "`\"' ")
	kind, path, ok := strings.Cut(s, " ")
	if !ok {
		// "Pod/ns/name" and "Pod/name"
		kind, path, _ = strings.Cut(s, "/")
	}
	kind = strings.TrimSuffix(kind, ":")
	r := incident.Ref{Kind: kind}
	if k, group, found := strings.Cut(kind, "."); found {
		r.Kind, r.Group = k, group
	}
	path = strings.TrimSpace(path)
	parts := strings.Split(path, "/")
	switch {
	case strings.EqualFold(r.Kind, "Device") && len(parts) == 3:
		return incident.DeviceRef("", parts[0], parts[1], parts[2])
	case len(parts) == 2:
		r.Namespace, r.Name = parts[0], parts[1]
	default:
		r.Name = path
	}
	return r
}

// Bounds of the search for JSON in prose: a model may answer with a megabyte.
const (
	maxProse   = 256 << 10
	maxObjects = 32
)

// answerIn finds the JSON object in a text that is an answer: one with any of
// the keys. It may stand between prose, in a fenced block or behind an earlier
// draft; the last one counts. Empty if there is none.
func answerIn(text string, keys ...string) string {
	text = text[max(len(text)-maxProse, 0):]
	found := ""
	for from, tries := 0, 0; tries < maxObjects; tries++ {
		i := strings.IndexByte(text[from:], '{')
		if i < 0 {
			break
		}
		i += from
		d := json.NewDecoder(strings.NewReader(text[i:]))
		var m map[string]json.RawMessage
		if d.Decode(&m) != nil {
			from = i + 1
			continue
		}
		from = i + int(d.InputOffset())
		for _, k := range keys {
			if _, ok := m[k]; ok {
				found = text[i:from]
			}
		}
	}
	return found
}

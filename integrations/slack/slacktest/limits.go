package slacktest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

func parseForm(body []byte, query string) (url.Values, error) {
	q, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	more, err := url.ParseQuery(query)
	for k, v := range more {
		q[k] = append(q[k], v...)
	}
	return q, err
}

// check holds a message against Slack's limits; the code is the error that Slack
// gives. What it finds is a problem of the app.
func (s *Server) check(c call) string {
	text := c.form("text")
	if text == "" && c.form("blocks") == "" {
		s.problem("a message without text and blocks")
		return "no_text"
	}
	if utf8.RuneCountInString(text) > 40_000 {
		s.problem("a message with %d characters", utf8.RuneCountInString(text))
		return "msg_too_long"
	}
	if !utf8.ValidString(text) || !utf8.ValidString(c.form("blocks")) {
		s.problem("a message that is not UTF-8")
		return "invalid_blocks"
	}
	for _, call := range []string{"<!channel>", "<!here>", "<!everyone>", "<!subteam"} {
		if strings.Contains(text, call) || strings.Contains(c.form("blocks"), call) {
			s.problem("a message that calls people: %s", call)
		}
	}
	if raw := c.form("blocks"); raw != "" {
		if err := blocks([]byte(raw), 50, false); err != nil {
			s.problem("blocks: %v", err)
			return "invalid_blocks"
		}
	}
	if raw := c.form("metadata"); raw != "" {
		var m struct {
			Type    string         `json:"event_type"`
			Payload map[string]any `json:"event_payload"`
		}
		if json.Unmarshal([]byte(raw), &m) != nil || m.Type == "" || m.Payload == nil {
			s.problem("metadata: %s", raw)
			return "invalid_metadata_format"
		}
	}
	return ""
}

type textObject struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (t *textObject) fits(least, most int) error {
	if t == nil {
		if least > 0 {
			return fmt.Errorf("a text is missing")
		}
		return nil
	}
	if n := utf8.RuneCountInString(t.Text); n < least || n > most {
		return fmt.Errorf("a text of %d characters, %d to %d are taken: %.60q", n, least, most, t.Text)
	}
	if t.Type != "mrkdwn" && t.Type != "plain_text" {
		return fmt.Errorf("a text of type %q", t.Type)
	}
	return nil
}

// blocks holds blocks against the limits of docs.slack.dev/reference/block-kit.
func blocks(raw []byte, most int, modal bool) error {
	var all []struct {
		Type     string          `json:"type"`
		BlockID  string          `json:"block_id"`
		Text     *textObject     `json:"text"`
		Label    *textObject     `json:"label"`
		Hint     *textObject     `json:"hint"`
		Element  json.RawMessage `json:"element"`
		Elements json.RawMessage `json:"elements"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	if len(all) > most {
		return fmt.Errorf("%d blocks, at most %d are taken", len(all), most)
	}
	var ids []string
	for i, b := range all {
		if b.BlockID != "" && slices.Contains(ids, b.BlockID) || len(b.BlockID) > 255 {
			return fmt.Errorf("block %d: the id %q", i, b.BlockID)
		}
		ids = append(ids, b.BlockID)
		var err error
		switch b.Type {
		case "section":
			err = b.Text.fits(1, 3000)
		case "divider":
		case "context":
			var els []textObject
			if err = json.Unmarshal(b.Elements, &els); err == nil && (len(els) == 0 || len(els) > 10) {
				err = fmt.Errorf("%d elements", len(els))
			}
		case "actions":
			err = actions(b.Elements)
		case "input":
			if !modal {
				err = fmt.Errorf("an input in a message")
			} else if err = b.Label.fits(1, 2000); err == nil {
				err = b.Hint.fits(0, 2000)
			}
		default:
			err = fmt.Errorf("the type %q", b.Type)
		}
		if err != nil {
			return fmt.Errorf("block %d (%s): %w", i, b.Type, err)
		}
	}
	return nil
}

func actions(raw json.RawMessage) error {
	var els []struct {
		Type     string      `json:"type"`
		ActionID string      `json:"action_id"`
		Value    string      `json:"value"`
		URL      string      `json:"url"`
		Text     *textObject `json:"text"`
		Confirm  *struct {
			Title   *textObject `json:"title"`
			Text    *textObject `json:"text"`
			Confirm *textObject `json:"confirm"`
			Deny    *textObject `json:"deny"`
		} `json:"confirm"`
	}
	if err := json.Unmarshal(raw, &els); err != nil {
		return err
	}
	if len(els) == 0 || len(els) > 25 {
		return fmt.Errorf("%d elements", len(els))
	}
	var seen []string
	for _, e := range els {
		if e.Type != "button" || e.ActionID == "" || len(e.ActionID) > 255 || slices.Contains(seen, e.ActionID) || len(e.Value) > 2000 || len(e.URL) > 3000 {
			return fmt.Errorf("the element %q of type %q", e.ActionID, e.Type)
		}
		seen = append(seen, e.ActionID)
		if err := e.Text.fits(1, 75); err != nil {
			return err
		}
		if c := e.Confirm; c != nil {
			for _, f := range []struct {
				t    *textObject
				most int
			}{{c.Title, 100}, {c.Text, 300}, {c.Confirm, 30}, {c.Deny, 30}} {
				if err := f.t.fits(1, f.most); err != nil {
					return fmt.Errorf("confirm: %w", err)
				}
			}
		}
	}
	return nil
}

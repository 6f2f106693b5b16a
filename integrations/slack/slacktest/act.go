package slacktest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Call is how the bot is called in a text.
const Call = "<@" + BotUser + ">"

// UseHTTP makes the workspace send signed requests to these addresses, each to one
// of them, in place of Socket Mode. The routes are /slack/events, /slack/interactive
// and /slack/commands below them.
func (s *Server) UseHTTP(bases ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = bases
}

// Say writes a message of a member into a channel, or into a thread of it, and
// gives its ts.
func (s *Server) Say(user, channel, thread, text string) string {
	s.mu.Lock()
	if _, ok := s.channels[channel]; !ok {
		s.channels[channel] = nil
	}
	m := &Message{Channel: channel, TS: s.ts(), ThreadTS: thread, User: user, Text: text}
	s.channels[channel] = append(s.channels[channel], m)
	ev := s.wire(m, false)
	s.mu.Unlock()
	s.told(m, ev, text)
	return m.TS
}

// told sends the events of a message; who calls the bot is told of twice, as Slack
// does.
func (s *Server) told(m *Message, ev reply, text string) {
	ev["channel"], ev["channel_type"], ev["event_ts"] = m.Channel, kindOf(m.Channel), m.TS
	if strings.Contains(text, Call) && !strings.HasPrefix(m.Channel, "D") {
		call := reply{}
		maps.Copy(call, ev)
		call["type"] = "app_mention"
		delete(call, "channel_type")
		s.event(call)
	}
	s.event(ev)
}

func kindOf(channel string) string {
	if strings.HasPrefix(channel, "D") {
		return "im"
	}
	return "channel"
}

// Again delivers the events of a message once more, as another of Slack's servers
// may.
func (s *Server) Again(channel, ts string) {
	s.mu.Lock()
	m := s.find(channel, ts)
	ev := s.wire(m, false)
	s.mu.Unlock()
	s.told(m, ev, m.Text)
}

// Edit changes a member's message.
func (s *Server) Edit(channel, ts, text string) {
	s.mu.Lock()
	m := s.find(channel, ts)
	was := s.wire(m, false)
	m.Text, m.Edited = text, s.ts()
	now := s.wire(m, false)
	at := m.Edited
	s.mu.Unlock()
	s.event(reply{"type": "message", "subtype": "message_changed", "channel": channel, "channel_type": kindOf(channel), "ts": at, "event_ts": at, "hidden": true, "message": now, "previous_message": was})
}

// Delete takes a member's message away.
func (s *Server) Delete(channel, ts string) {
	s.mu.Lock()
	m := s.find(channel, ts)
	was := s.wire(m, false)
	s.channels[channel] = slices.DeleteFunc(s.channels[channel], func(o *Message) bool { return o == m })
	at := s.ts()
	s.mu.Unlock()
	s.event(reply{"type": "message", "subtype": "message_deleted", "channel": channel, "channel_type": kindOf(channel), "ts": at, "event_ts": at, "deleted_ts": ts, "hidden": true, "previous_message": was})
}

func (s *Server) event(inner reply) {
	s.mu.Lock()
	id := s.id("Ev")
	s.mu.Unlock()
	s.deliver("events_api", reply{"token": "x", "team_id": Team, "api_app_id": "A0APP", "type": "event_callback", "event_id": id, "event_time": s.Now().Unix(), "event": inner})
}

// trigger makes a trigger for a member; callers hold the lock.
func (s *Server) trigger(user string) string {
	id := s.id("trigger.")
	s.triggers[id] = &trigger{user: user, expires: s.Now().Add(s.TriggerLife)}
	return id
}

// Command gives a slash command.
func (s *Server) Command(user, channel, text string) {
	s.mu.Lock()
	p := reply{"token": "x", "team_id": Team, "channel_id": channel, "user_id": user, "command": "/gumshoe", "text": text, "api_app_id": "A0APP",
		"trigger_id": s.trigger(user), "response_url": s.http.URL + "/hooks/" + channel + "/" + user + "/" + s.id("R")}
	s.mu.Unlock()
	s.deliver("slash_commands", p)
}

// Click presses a button of a message by its label, and gives a function that
// delivers the same click again.
func (s *Server) Click(user string, m Message, label string) func() {
	s.t.Helper()
	i := slices.IndexFunc(m.Buttons(), func(b Button) bool { return b.Label == label })
	if i < 0 {
		s.t.Fatalf("slacktest: the message %s has no button %q: %v", m.TS, label, m.Buttons())
		return nil
	}
	return s.Press(user, m, m.Buttons()[i])
}

// Press presses a button that a message had when it was read.
func (s *Server) Press(user string, m Message, b Button) func() {
	s.mu.Lock()
	at := s.ts()
	p := s.action(user, b, at)
	p["channel"] = reply{"id": m.Channel}
	p["message"] = s.wire(&m, false)
	p["container"] = reply{"type": "message", "message_ts": m.TS, "channel_id": m.Channel, "thread_ts": m.ThreadTS, "is_ephemeral": false}
	s.mu.Unlock()
	s.deliver("interactive", p)
	return func() { s.deliver("interactive", p) }
}

// PressIn presses a button of a modal.
func (s *Server) PressIn(user string, v View, label string) {
	s.t.Helper()
	i := slices.IndexFunc(v.Buttons(), func(b Button) bool { return b.Label == label })
	if i < 0 {
		s.t.Fatalf("slacktest: the view %s has no button %q: %v", v.ID, label, v.Buttons())
		return
	}
	s.mu.Lock()
	p := s.action(user, v.Buttons()[i], s.ts())
	p["container"] = reply{"type": "view", "view_id": v.ID}
	p["view"] = reply{"id": v.ID, "type": "modal", "private_metadata": v.Private, "callback_id": v.Callback, "blocks": v.Raw}
	s.mu.Unlock()
	s.deliver("interactive", p)
}

func (s *Server) action(user string, b Button, at string) reply {
	return reply{"type": "block_actions", "team": reply{"id": Team}, "user": reply{"id": user, "team_id": Team}, "api_app_id": "A0APP", "token": "x", "trigger_id": s.trigger(user),
		"actions": []reply{{"type": "button", "action_id": b.Action, "block_id": b.Block, "value": b.Value, "action_ts": at, "text": reply{"type": "plain_text", "text": b.Label}}}}
}

// Submit sends a modal with a text in its one input.
func (s *Server) Submit(user string, v View, text string) {
	var blocks []struct {
		Type    string `json:"type"`
		BlockID string `json:"block_id"`
		Element struct {
			ActionID string `json:"action_id"`
		} `json:"element"`
	}
	values := reply{}
	if json.Unmarshal(v.Raw, &blocks) == nil {
		for _, b := range blocks {
			if b.Type == "input" {
				values[b.BlockID] = reply{b.Element.ActionID: reply{"type": "plain_text_input", "value": text}}
			}
		}
	}
	s.mu.Lock()
	p := reply{"type": "view_submission", "team": reply{"id": Team}, "user": reply{"id": user, "team_id": Team}, "api_app_id": "A0APP", "token": "x", "trigger_id": s.trigger(user),
		"view": reply{"id": v.ID, "type": "modal", "callback_id": v.Callback, "private_metadata": v.Private, "blocks": v.Raw, "state": reply{"values": values}, "hash": "1.x"}}
	s.mu.Unlock()
	s.deliver("interactive", p)
}

// post sends what a websocket would carry as a signed request, and again until it is
// answered with 2xx.
func (s *Server) post(eps []string, kind string, payload any) {
	path, contentType := "/slack/events", "application/json"
	body, err := json.Marshal(payload)
	if err != nil {
		s.t.Errorf("slacktest: %v", err)
		return
	}
	switch kind {
	case "interactive":
		path, contentType = "/slack/interactive", "application/x-www-form-urlencoded"
		body = []byte(url.Values{"payload": {string(body)}}.Encode())
	case "slash_commands":
		path, contentType = "/slack/commands", "application/x-www-form-urlencoded"
		q := url.Values{}
		if p, ok := payload.(reply); ok {
			for k, v := range p {
				q.Set(k, fmt.Sprint(v))
			}
		}
		body = []byte(q.Encode())
	}
	s.wg.Go(func() {
		for n := range attempts {
			s.mu.Lock()
			s.turn++
			base := eps[s.turn%len(eps)]
			s.mu.Unlock()
			code, _, err := s.Signed(base+path, contentType, body, s.Now(), n)
			if err == nil && code/100 == 2 {
				return
			}
			t := time.NewTimer(s.Redeliver)
			select {
			case <-s.stop:
				t.Stop()
				return
			case <-t.C:
			}
		}
	})
}

// Signed sends one signed request, as if at a time, and gives status and body.
func (s *Server) Signed(to, contentType string, body []byte, at time.Time, retry int) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	ts := fmt.Sprint(at.Unix())
	mac := hmac.New(sha256.New, []byte(Secret))
	fmt.Fprintf(mac, "v0:%s:%s", ts, body)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("X-Slack-Request-Timestamp", ts)
	req.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	if retry > 0 {
		req.Header.Set("X-Slack-Retry-Num", fmt.Sprint(retry))
		req.Header.Set("X-Slack-Retry-Reason", "http_timeout")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read only
	out, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(out), err
}

package slacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reply is what a method answers.
type reply map[string]any

func fail(code string) reply { return reply{"ok": false, "error": code} }

// call is a request to a method: its form, or its JSON.
type call struct {
	form func(string) string
	body []byte
}

func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/api/")
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	c := call{form: func(string) string { return "" }, body: body}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		q, err := parseForm(body, r.URL.RawQuery)
		if err != nil {
			http.Error(w, "unreadable", http.StatusBadRequest)
			return
		}
		c.form = q.Get
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if t := c.form("token"); t != "" {
		token = t
	}
	s.mu.Lock()
	s.methods[method]++
	down, after, known := s.down, s.limit(method, c.form("channel")), ""
	switch {
	case method == "apps.connections.open" && token != s.app, method != "apps.connections.open" && token != s.bot:
		known = "token_revoked"
		if token == "" {
			known = "not_authed"
		}
	}
	s.mu.Unlock()
	switch {
	case down:
		http.Error(w, "<html>outage</html>", http.StatusServiceUnavailable)
		return
	case after > 0:
		w.Header().Set("Retry-After", strconv.Itoa(after))
		http.Error(w, "", http.StatusTooManyRequests)
		return
	}
	out := fail(known)
	if known == "" {
		out = s.method(method, c)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		s.t.Logf("slacktest: %v", err)
	}
}

// limit gives the Retry-After of a call that comes too fast, 0 if it does not;
// callers hold the lock. Posting takes one a second and channel with short bursts,
// tier 3 50 a minute, tier 4 100.
func (s *Server) limit(method, channel string) int {
	if f := s.forced[method]; f != nil && f.left > 0 {
		f.left--
		return f.after
	}
	if !s.Rates {
		return 0
	}
	key, window, most := method, time.Minute, 120
	switch method {
	case "chat.postMessage":
		key, window, most = method+channel, 10*time.Second, 20
	case "chat.update", "conversations.replies", "conversations.history":
		most = 70
	}
	now := s.Now()
	s.calls[key] = slices.DeleteFunc(s.calls[key], func(t time.Time) bool { return now.Sub(t) > window })
	if len(s.calls[key]) >= most {
		return 1
	}
	s.calls[key] = append(s.calls[key], now)
	return 0
}

func (s *Server) method(name string, c call) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch name {
	case "auth.test":
		return reply{"ok": true, "url": s.http.URL, "team": "test", "user": "gumshoe", "team_id": Team, "user_id": BotUser, "bot_id": BotID}
	case "apps.connections.open":
		return reply{"ok": true, "url": "ws" + strings.TrimPrefix(s.http.URL, "http") + "/socket?ticket=" + s.id("K")}
	case "chat.postMessage":
		return s.postMessage(c)
	case "chat.update":
		return s.update(c)
	case "chat.postEphemeral":
		return s.postEphemeral(c)
	case "views.open":
		return s.openView(c)
	case "files.getUploadURLExternal":
		return s.uploadURL(c)
	case "files.completeUploadExternal":
		return s.completeUpload(c)
	case "users.info":
		return s.userInfo(c)
	case "usergroups.users.list":
		members, ok := s.groups[c.form("usergroup")]
		if !ok {
			return fail("no_such_subteam")
		}
		return reply{"ok": true, "users": members}
	case "conversations.replies", "conversations.history":
		return s.history(name, c)
	}
	s.problems = append(s.problems, "unknown method "+name)
	return fail("unknown_method")
}

func (s *Server) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// channel finds where a message goes; a member's id opens the direct messages.
func (s *Server) channel(id string) (string, string) {
	if code := s.closed[id]; code != "" {
		return id, code
	}
	if u, ok := s.users[id]; ok && id != BotUser {
		id = "D" + u.ID[1:]
		if _, ok := s.channels[id]; !ok {
			s.channels[id] = nil
		}
	}
	if _, ok := s.channels[id]; !ok {
		return id, "channel_not_found"
	}
	return id, ""
}

func (s *Server) postMessage(c call) reply {
	channel, code := s.channel(c.form("channel"))
	if code != "" {
		return fail(code)
	}
	if code := s.check(c); code != "" {
		return fail(code)
	}
	m := &Message{Channel: channel, TS: s.ts(), User: BotUser, BotID: BotID, Text: c.form("text"), Blocks: json.RawMessage(c.form("blocks")), Metadata: json.RawMessage(c.form("metadata"))}
	if th := c.form("thread_ts"); th != "" {
		if s.find(channel, th) == nil {
			return fail("thread_not_found")
		}
		m.ThreadTS = th
	}
	s.channels[channel] = append(s.channels[channel], m)
	return reply{"ok": true, "channel": channel, "ts": m.TS, "message": s.wire(m, false)}
}

func (s *Server) find(channel, ts string) *Message {
	for _, m := range s.channels[channel] {
		if m.TS == ts {
			return m
		}
	}
	return nil
}

func (s *Server) update(c call) reply {
	m := s.find(c.form("channel"), c.form("ts"))
	switch {
	case m == nil:
		return fail("message_not_found")
	case m.BotID != BotID:
		s.problem("an edit of %s, which is not the app's own message", m.TS)
		return fail("cant_update_message")
	}
	if code := s.check(c); code != "" {
		return fail(code)
	}
	m.Text, m.Blocks, m.Edits = c.form("text"), json.RawMessage(c.form("blocks")), m.Edits+1
	if meta := c.form("metadata"); meta != "" {
		m.Metadata = json.RawMessage(meta)
	}
	return reply{"ok": true, "channel": m.Channel, "ts": m.TS, "text": m.Text}
}

func (s *Server) postEphemeral(c call) reply {
	channel, code := s.channel(c.form("channel"))
	if code != "" {
		return fail(code)
	}
	if _, ok := s.users[c.form("user")]; !ok {
		return fail("user_not_in_channel")
	}
	if code := s.check(c); code != "" {
		return fail(code)
	}
	s.eph = append(s.eph, Ephemeral{channel, c.form("thread_ts"), c.form("user"), c.form("text")})
	return reply{"ok": true, "message_ts": s.ts()}
}

// hook is a response_url.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	var d struct {
		Text string `json:"text"`
		Type string `json:"response_type"`
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/hooks/"), "/")
	if json.NewDecoder(r.Body).Decode(&d) != nil || len(parts) != 3 {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eph = append(s.eph, Ephemeral{parts[0], "", parts[1], d.Text})
	if _, err := io.WriteString(w, "ok"); err != nil {
		s.t.Logf("slacktest: %v", err)
	}
}

func (s *Server) userInfo(c call) reply {
	u, ok := s.users[c.form("user")]
	if !ok {
		return fail("user_not_found")
	}
	return reply{"ok": true, "user": reply{"id": u.ID, "team_id": u.TeamID, "name": u.Name, "deleted": u.Deleted, "is_bot": u.Bot, "is_restricted": u.Guest, "is_stranger": u.Stranger, "profile": reply{"real_name": u.Name}}}
}

// wire is a message as methods and events show it.
func (s *Server) wire(m *Message, meta bool) reply {
	out := reply{"type": "message", "ts": m.TS, "user": m.User, "text": m.Text}
	if m.BotID != "" {
		out["bot_id"] = m.BotID
	}
	if m.ThreadTS != "" {
		out["thread_ts"] = m.ThreadTS
	}
	if len(m.Blocks) > 0 {
		out["blocks"] = m.Blocks
	}
	if m.Edited != "" {
		out["edited"] = reply{"user": m.User, "ts": m.Edited}
	}
	if meta && len(m.Metadata) > 0 {
		out["metadata"] = m.Metadata
	}
	var files []reply
	for _, f := range m.Files {
		files = append(files, reply{"id": f.ID, "name": f.Name, "title": f.Title})
	}
	if len(files) > 0 {
		out["files"] = files
	}
	return out
}

func (s *Server) history(name string, c call) reply {
	channel := c.form("channel")
	if _, ok := s.channels[channel]; !ok {
		return fail("channel_not_found")
	}
	meta := c.form("include_all_metadata") == "1" || c.form("include_all_metadata") == "true"
	var all []*Message
	for _, m := range s.channels[channel] {
		switch {
		case name == "conversations.replies":
			if m.TS == c.form("ts") || m.ThreadTS == c.form("ts") {
				all = append(all, m)
			}
		case (m.ThreadTS == "" || m.ThreadTS == m.TS) && m.TS >= c.form("oldest"):
			all = append([]*Message{m}, all...)
		}
	}
	if name == "conversations.replies" && len(all) == 0 {
		return fail("thread_not_found")
	}
	limit, err := strconv.Atoi(c.form("limit"))
	if err != nil || limit <= 0 {
		limit = 100
	}
	from := 0
	if cur := c.form("cursor"); cur != "" {
		if from, err = strconv.Atoi(cur); err != nil {
			return fail("invalid_cursor")
		}
	}
	from = min(from, len(all))
	to := min(from+limit, len(all))
	var page []reply
	for _, m := range all[from:to] {
		page = append(page, s.wire(m, meta))
	}
	next := ""
	if to < len(all) {
		next = strconv.Itoa(to)
	}
	return reply{"ok": true, "messages": page, "has_more": to < len(all), "response_metadata": reply{"next_cursor": next}}
}

package slacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

func (s *Server) openView(c call) reply {
	var req struct {
		Trigger string          `json:"trigger_id"`
		View    json.RawMessage `json:"view"`
	}
	if json.Unmarshal(c.body, &req) != nil {
		return fail("invalid_arguments")
	}
	tr := s.triggers[req.Trigger]
	switch {
	case tr == nil:
		return fail("invalid_trigger_id")
	case s.Now().After(tr.expires):
		return fail("expired_trigger_id")
	case tr.used:
		return fail("exchanged_trigger_id")
	}
	var v struct {
		Type     string          `json:"type"`
		Title    *textObject     `json:"title"`
		Submit   *textObject     `json:"submit"`
		Callback string          `json:"callback_id"`
		Private  string          `json:"private_metadata"`
		Blocks   json.RawMessage `json:"blocks"`
	}
	err := json.Unmarshal(req.View, &v)
	if err == nil {
		err = v.Title.fits(1, 24)
	}
	if err == nil {
		err = v.Submit.fits(0, 24)
	}
	if err == nil {
		err = blocks(v.Blocks, 100, true)
	}
	if err == nil && (v.Type != "modal" || len(v.Private) > 3000) {
		err = fmt.Errorf("the type %q with %d bytes of private metadata", v.Type, len(v.Private))
	}
	if err != nil {
		s.problem("view: %v", err)
		return fail("invalid_arguments")
	}
	tr.used = true
	view := View{ID: s.id("V"), User: tr.user, Callback: v.Callback, Private: v.Private, Title: v.Title.Text, Raw: v.Blocks, Submit: v.Submit != nil}
	s.views = append(s.views, view)
	return reply{"ok": true, "view": reply{"id": view.ID, "type": "modal", "callback_id": v.Callback, "private_metadata": v.Private}}
}

// Texts of a view as they read.
func (v View) Texts() string { return Message{Blocks: v.Raw}.All() }

// Buttons of a view.
func (v View) Buttons() []Button { return buttons(v.Raw) }

func (s *Server) uploadURL(c call) reply {
	if c.form("filename") == "" || c.form("length") == "" || c.form("length") == "0" {
		s.problem("an upload of %q with the length %q", c.form("filename"), c.form("length"))
		return fail("invalid_arguments")
	}
	f := &File{ID: s.id("F"), Name: c.form("filename"), Alt: c.form("alt_txt")}
	s.files[f.ID] = f
	return reply{"ok": true, "upload_url": s.http.URL + "/upload/" + f.ID, "file_id": f.ID}
}

func (s *Server) uploaded(w http.ResponseWriter, r *http.Request) {
	part, _, err := r.FormFile("file")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer part.Close() //nolint:errcheck // it is read only
	body, err := io.ReadAll(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[strings.TrimPrefix(r.URL.Path, "/upload/")]
	if f == nil || err != nil {
		http.Error(w, "no such upload", http.StatusNotFound)
		return
	}
	f.Body = body
	if _, err := fmt.Fprintf(w, "OK - %d", len(body)); err != nil {
		s.t.Logf("slacktest: %v", err)
	}
}

func (s *Server) completeUpload(c call) reply {
	var files []struct {
		ID    string `json:"id"`
		Title string `json:"title"`
	}
	if json.Unmarshal([]byte(c.form("files")), &files) != nil || len(files) == 0 {
		return fail("invalid_arguments")
	}
	channel, code := s.channel(c.form("channel_id"))
	if code != "" {
		return fail(code)
	}
	m := &Message{Channel: channel, TS: s.ts(), ThreadTS: c.form("thread_ts"), User: BotUser, BotID: BotID, Text: c.form("initial_comment")}
	var out []reply
	for _, f := range files {
		file := s.files[f.ID]
		if file == nil || len(file.Body) == 0 {
			return fail("file_not_found")
		}
		file.Title, file.Channel, file.Thread = f.Title, channel, c.form("thread_ts")
		m.Files = append(m.Files, *file)
		out = append(out, reply{"id": f.ID, "title": f.Title})
	}
	s.channels[channel] = append(s.channels[channel], m)
	return reply{"ok": true, "files": out}
}

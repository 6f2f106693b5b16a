package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// posted is the prefix of the subjects that keep what stands where.
const posted = "slackpost."

// Types of records of what was posted.
const (
	typeBegun   = "post.begun"   // a message is about to be posted
	typeMade    = "post.made"    // it stands
	typeEdited  = "post.edited"  // it was changed for good
	typeGone    = "post.gone"    // somebody deleted it
	typeRefused = "post.refused" // Slack takes it nowhere
	typeSettled = "post.settled" // everything up to here is shown
)

// slot is a message that belongs to a session, under a name of ours.
type slot struct {
	Slot    string `json:"slot,omitempty"`
	Channel string `json:"channel,omitempty"`
	TS      string `json:"ts,omitempty"`
	// Hash of what it shows, once that is final.
	Hash  string `json:"hash,omitempty"`
	Final bool   `json:"final,omitempty"`
	Why   string `json:"why,omitempty"`
	// Begun is set while the journal does not know whether it was posted.
	Begun time.Time `json:"-"`
}

// settled says up to which record of its own subject something is shown.
type settled struct {
	Session uint64            `json:"session"`
	Plans   map[string]uint64 `json:"plans,omitempty"`
}

// outbox is the projection of what was posted of a session.
type outbox struct {
	slots   map[string]slot
	settled settled
	last    uint64
}

func (s *Surface) outbox(ctx context.Context, id string) (outbox, error) {
	o, last, err := store.Project(ctx, s.journal, posted+id, 0, outbox{slots: map[string]slot{}}, func(o outbox, r store.Record) (outbox, error) {
		if r.Type == typeSettled {
			o.settled = settled{}
			return o, json.Unmarshal(r.Data, &o.settled)
		}
		var n slot
		if err := json.Unmarshal(r.Data, &n); err != nil {
			return o, err
		}
		switch r.Type {
		case typeBegun:
			n.Begun = r.At
			o.slots[n.Slot] = n
		case typeMade, typeRefused:
			o.slots[n.Slot] = n
		case typeEdited:
			was := o.slots[n.Slot]
			was.Hash, was.Final = n.Hash, n.Final
			o.slots[n.Slot] = was
		case typeGone:
			delete(o.slots, n.Slot)
		}
		return o, nil
	})
	o.last = last
	return o, err
}

// note appends to what is kept of a session's posts. Only one replica posts; when
// another wrote in between, this one has lost its turn and the error is a
// *store.ConflictError.
func (s *Surface) note(ctx context.Context, id string, o *outbox, typ string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	last, err := s.journal.Append(ctx, posted+id, o.last, store.Entry{Type: typ, Data: data})
	if err != nil {
		return fmt.Errorf("what was posted cannot be kept: %w", err)
	}
	o.last = last
	return nil
}

// eventType is the type of the metadata that messages carry.
const eventType = "gumshoe"

func metadata(id, name string) slack.SlackMetadata {
	return slack.SlackMetadata{EventType: eventType, EventPayload: map[string]any{"id": id + "/" + name}}
}

// hash of a message as it is shown.
func (m message) hash() string {
	raw, err := json.Marshal(slack.Blocks{BlockSet: m.blocks})
	if err != nil {
		return ""
	}
	return digest(m.text + "\x00" + string(raw))
}

// show makes a slot show a message: posts it once, edits it when it changed. The
// time is when to come again, zero if it is shown.
func (s *Surface) show(ctx context.Context, id string, o *outbox, channel, thread, name string, m message) (time.Duration, error) {
	cur, ok := o.slots[name]
	if ok && cur.Why != "" {
		return 0, nil
	}
	h := m.hash()
	if !ok || cur.TS == "" {
		if err := s.post(ctx, id, o, channel, thread, name, m); err != nil {
			return 0, err
		}
		// What was found after a crash may show less than it should.
		if cur = o.slots[name]; cur.Why != "" || cur.Hash == h || !m.final && !m.urgent {
			return 0, nil
		}
	}
	if cur.Hash == h {
		return 0, nil
	}
	key := id + "/" + name
	s.shownMu.Lock()
	last := s.lastShown[key]
	s.shownMu.Unlock()
	if last.hash == h && !m.final {
		return 0, nil
	}
	if !m.urgent {
		if rest := s.timing.Status - s.now().Sub(last.at); rest > 0 {
			return rest, nil
		}
		if !s.api.spare("chat.update", cur.Channel) {
			return s.timing.Status, nil
		}
	}
	if err := s.boundary("edit"); err != nil {
		return 0, err
	}
	err := s.api.do(ctx, "chat.update", cur.Channel, func(c *slack.Client) error {
		_, _, _, err := c.UpdateMessageContext(ctx, cur.Channel, cur.TS, slack.MsgOptionText(m.text, false), slack.MsgOptionBlocks(m.blocks...), slack.MsgOptionMetadata(metadata(id, name)))
		return err
	})
	switch errorCode(err) {
	case "message_not_found", "thread_not_found":
		if err := s.note(ctx, id, o, typeGone, slot{Slot: name}); err != nil {
			return 0, err
		}
		delete(o.slots, name)
		return 0, s.post(ctx, id, o, channel, thread, name, m)
	}
	if err != nil {
		return 0, s.permanent(ctx, id, o, name, err)
	}
	s.remember(key, h)
	if !m.urgent && !m.final {
		return 0, nil // progress is not kept: it is told anew
	}
	if err := s.boundary("edited"); err != nil {
		return 0, err
	}
	cur.Hash, cur.Final = h, m.final
	o.slots[name] = cur
	return 0, s.note(ctx, id, o, typeEdited, slot{Slot: name, Hash: h, Final: m.final})
}

func (s *Surface) remember(key, hash string) {
	s.shownMu.Lock()
	defer s.shownMu.Unlock()
	if len(s.lastShown) > 10_000 {
		s.lastShown = map[string]lastShown{}
	}
	s.lastShown[key] = lastShown{hash, s.now()}
}

// lastShown is what a slot showed last, as far as this process knows.
type lastShown struct {
	hash string
	at   time.Time
}

// post posts a slot once. Where the journal knows that it was begun and not whether
// it was posted, Slack is asked first.
func (s *Surface) post(ctx context.Context, id string, o *outbox, channel, thread, name string, m message) error {
	cur, begun := o.slots[name]
	ts := ""
	if begun {
		found, err := s.find(ctx, channel, thread, id+"/"+name, cur.Begun)
		if err != nil {
			return s.permanent(ctx, id, o, name, err)
		}
		ts = found
	} else {
		if err := s.note(ctx, id, o, typeBegun, slot{Slot: name}); err != nil {
			return err
		}
		o.slots[name] = slot{Slot: name, Begun: s.now()}
	}
	if ts == "" {
		if err := s.boundary("post"); err != nil {
			return err
		}
		opts := []slack.MsgOption{slack.MsgOptionText(m.text, false), slack.MsgOptionBlocks(m.blocks...), slack.MsgOptionMetadata(metadata(id, name)), slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl()}
		if thread != "" {
			opts = append(opts, slack.MsgOptionTS(thread))
		}
		err := s.api.do(ctx, "chat.postMessage", channel, func(c *slack.Client) error {
			ch, at, err := c.PostMessageContext(ctx, channel, opts...)
			if err == nil {
				channel, ts = ch, at
			}
			return err
		})
		if err != nil {
			return s.permanent(ctx, id, o, name, err)
		}
		if err := s.boundary("posted"); err != nil {
			return err
		}
	}
	n := slot{Slot: name, Channel: channel, TS: ts, Final: m.final}
	if !begun && (m.final || m.urgent) { // what was found may show less
		n.Hash = m.hash()
	}
	if begun {
		n.Final = false
	} else {
		s.remember(id+"/"+name, m.hash())
	}
	o.slots[name] = n
	return s.note(ctx, id, o, typeMade, n)
}

// permanent keeps that Slack does not take a message, where it never will; any other
// error comes back.
func (s *Surface) permanent(ctx context.Context, id string, o *outbox, name string, err error) error {
	if passing(err) {
		return err
	}
	s.log.Warn("slack: a message is not taken", "session", id, "message", name, "error", err)
	n := o.slots[name]
	n.Slot, n.Why = name, err.Error()
	o.slots[name] = n
	return s.note(ctx, id, o, typeRefused, n)
}

// find looks for a message of ours by its metadata; empty where there is none.
func (s *Surface) find(ctx context.Context, channel, thread, id string, since time.Time) (string, error) {
	ts := ""
	err := s.messages(ctx, channel, thread, since, func(m slack.Message) bool {
		if m.Metadata.EventType == eventType && m.Metadata.EventPayload["id"] == id {
			ts = m.Timestamp
		}
		return ts == ""
	})
	return ts, err
}

// fileThere reports whether a file of this name stands in a thread.
func (s *Surface) fileThere(ctx context.Context, channel, thread, name string) (bool, error) {
	there := false
	err := s.messages(ctx, channel, thread, time.Time{}, func(m slack.Message) bool {
		for _, f := range m.Files {
			there = there || f.Name == name
		}
		return !there
	})
	return there, err
}

// messages goes through the bot's own messages of a thread, or of a channel since a
// time, until f gives false.
func (s *Surface) messages(ctx context.Context, channel, thread string, since time.Time, f func(slack.Message) bool) error {
	self, err := s.api.me(ctx)
	if err != nil {
		return err
	}
	cursor := ""
	for range 50 { // pages; a thread is not longer
		var page []slack.Message
		more := false
		var err error
		if thread != "" {
			err = s.api.do(ctx, "conversations.replies", channel, func(c *slack.Client) error {
				var err error
				page, more, cursor, err = c.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{ChannelID: channel, Timestamp: thread, Cursor: cursor, Limit: 200, IncludeAllMetadata: true})
				return err
			})
		} else {
			err = s.api.do(ctx, "conversations.history", channel, func(c *slack.Client) error {
				h, err := c.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{ChannelID: channel, Cursor: cursor, Limit: 200, IncludeAllMetadata: true, Oldest: fmt.Sprintf("%d.000000", since.Add(-time.Minute).Unix())})
				if err == nil {
					page, more, cursor = h.Messages, h.HasMore, h.ResponseMetaData.NextCursor
				}
				return err
			})
		}
		if errorCode(err) == "thread_not_found" {
			return nil
		}
		if err != nil {
			return err
		}
		for _, m := range page {
			if m.User == self.UserID || m.BotID == self.BotID && m.BotID != "" {
				if !f(m) {
					return nil
				}
			}
		}
		if !more || cursor == "" {
			return nil
		}
	}
	return nil
}

// file is what is uploaded.
type file struct {
	name, title, alt string
	body             []byte
}

// maxFile bounds an upload, in bytes.
const maxFile = 20 << 20

// attach puts a file into the thread once, under a slot of its own.
func (s *Surface) attach(ctx context.Context, id string, o *outbox, channel, thread, name string, f file) error {
	cur, begun := o.slots[name]
	if begun && (cur.Final || cur.Why != "") {
		return nil
	}
	there := false
	if begun {
		var err error
		if there, err = s.fileThere(ctx, channel, thread, f.name); err != nil {
			return s.permanent(ctx, id, o, name, err)
		}
	} else {
		if err := s.note(ctx, id, o, typeBegun, slot{Slot: name}); err != nil {
			return err
		}
		o.slots[name] = slot{Slot: name, Begun: s.now()}
	}
	if !there {
		if err := s.boundary("upload"); err != nil {
			return err
		}
		if err := s.upload(ctx, channel, thread, f); err != nil {
			return s.permanent(ctx, id, o, name, err)
		}
		if err := s.boundary("uploaded"); err != nil {
			return err
		}
	}
	n := slot{Slot: name, Channel: channel, Final: true, Hash: "file"}
	o.slots[name] = n
	return s.note(ctx, id, o, typeMade, n)
}

func (s *Surface) upload(ctx context.Context, channel, thread string, f file) error {
	body := f.body[:min(len(f.body), maxFile)]
	return s.api.do(ctx, "files.completeUploadExternal", channel, func(c *slack.Client) error {
		_, err := c.UploadFileContext(ctx, slack.UploadFileParameters{
			Reader: bytes.NewReader(body), FileSize: len(body), Filename: f.name, Title: f.title, AltTxt: f.alt, Channel: channel, ThreadTimestamp: thread,
		})
		return err
	})
}

// settle keeps that a session and its plans are shown up to here, so that a restart
// need not look at it again.
func (s *Surface) settled(ctx context.Context, id string, o *outbox, n settled) error {
	if o.settled.Session == n.Session && maps.Equal(o.settled.Plans, n.Plans) || o.last == 0 {
		return nil
	}
	o.settled = n
	return s.note(ctx, id, o, typeSettled, n)
}

// conflict reports whether another replica wrote.
func conflict(err error) bool {
	_, ok := errors.AsType[*store.ConflictError](err)
	return ok
}

// placeOf reads a link of ours: the channel and the thread of a link of ours.
func placeOf(key string) (channel, thread string) {
	channel, thread, _ = strings.Cut(key, "/")
	return channel, thread
}

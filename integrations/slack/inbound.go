package slack

import (
	"crypto/sha256"
	"encoding/hex"
	"html"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Kinds of what comes in.
const (
	kindMessage = "message"
	kindEdit    = "edit"
	kindDelete  = "delete"
	kindCommand = "command"
	kindAction  = "action"
	kindSubmit  = "submit"
)

// inbound is what is kept of an envelope: only what is needed to act on it.
type inbound struct {
	// Key is the same for every delivery of the same thing.
	Key  string `json:"key"`
	Kind string `json:"kind"`
	User string `json:"user"`
	// Channel and Thread say where; Thread is the ts of the thread's first message,
	// empty for a command. TS is the message itself, or the one with the button.
	Channel string `json:"channel"`
	Thread  string `json:"thread,omitempty"`
	TS      string `json:"ts,omitempty"`
	Text    string `json:"text,omitempty"`
	// Was is the text before an edit.
	Was string `json:"was,omitempty"`
	// Mentions says that the bot is named, Direct that it is a direct message.
	Mentions bool `json:"mentions,omitempty"`
	Direct   bool `json:"direct,omitempty"`
	// Action, Value and Trigger of a button; Action is the callback of a modal.
	Action  string `json:"action,omitempty"`
	Value   string `json:"value,omitempty"`
	Trigger string `json:"trigger,omitempty"`
	// Reply is the address that takes an answer to a command.
	Reply string `json:"reply,omitempty"`
}

// maxText bounds what is kept of a text, in bytes.
const maxText = 16 << 10

// name makes a part of a subject of ids of Slack. What does not fit is hashed.
func name(parts ...string) string {
	s := strings.ReplaceAll(strings.Join(parts, "-"), ".", "_")
	if store.CheckSubject(s) == nil && len(s) <= 80 {
		return s
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return "x" + hex.EncodeToString(sum[:16])
}

// sound reports whether the ids are ids as Slack gives them.
func (in inbound) sound() bool {
	id := func(s string) bool {
		return s != "" && len(s) <= 32 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
	}
	ts := func(s string) bool { return len(s) <= 32 && strings.Trim(s, "0123456789.") == "" }
	if in.Kind != kindCommand && in.Thread == "" {
		return false
	}
	return id(in.User) && id(in.Channel) && ts(in.Thread) && (ts(in.TS) || id(in.TS)) && in.Key != "" &&
		utf8.ValidString(in.Action) && len(in.Action) <= 255 && utf8.ValidString(in.Trigger) && len(in.Trigger) <= 500 && utf8.ValidString(in.Reply) && len(in.Reply) <= 2000
}

// fromEvent reads an event; false for what is not meant for the bot. me is the
// bot's own member id.
func fromEvent(e slackevents.EventsAPIEvent, me string) (inbound, bool) {
	in, ok := eventOf(e, me)
	return in, ok && in.sound()
}

func eventOf(e slackevents.EventsAPIEvent, me string) (inbound, bool) {
	switch m := e.InnerEvent.Data.(type) {
	case *slackevents.AppMentionEvent:
		if m.BotID != "" || m.User == "" || m.User == me || m.Edited != nil {
			return inbound{}, false
		}
		return fromMessage(m.Channel, m.ThreadTimeStamp, m.TimeStamp, m.User, m.Text, me, false)
	case *slackevents.MessageEvent:
		direct := m.ChannelType == "im"
		switch m.SubType {
		case "", "thread_broadcast", "file_share":
			if m.BotID != "" || m.User == "" || m.User == me {
				return inbound{}, false
			}
			return fromMessage(m.Channel, m.ThreadTimeStamp, m.TimeStamp, m.User, m.Text, me, direct)
		case "message_changed":
			n, old := m.Message, m.PreviousMessage
			if n == nil || old == nil || n.Edited == nil || n.BotID != "" || n.User == "" || n.User == me || n.Text == old.Text {
				return inbound{}, false // unfurling a link changes a message too
			}
			in, ok := fromMessage(m.Channel, n.ThreadTimestamp, n.Timestamp, n.User, n.Text, me, direct)
			in.Kind, in.Was = kindEdit, clip(old.Text, maxText)
			in.Key = name("e", m.Channel, n.Timestamp, n.Edited.Timestamp)
			return in, ok
		case "message_deleted":
			old := m.PreviousMessage
			if old == nil || old.BotID != "" || old.User == "" || old.User == me || m.DeletedTimeStamp == "" {
				return inbound{}, false
			}
			in, ok := fromMessage(m.Channel, old.ThreadTimestamp, m.DeletedTimeStamp, old.User, old.Text, me, direct)
			in.Kind, in.Text = kindDelete, ""
			in.Key = name("d", m.Channel, m.DeletedTimeStamp)
			return in, ok
		}
	}
	return inbound{}, false
}

// messageKey is that of a message, by whichever of its events it comes: a mention
// arrives as a mention and as a message.
func messageKey(channel, ts string) string { return name("m", channel, ts) }

func fromMessage(channel, thread, ts, user, text, me string, direct bool) (inbound, bool) {
	if channel == "" || ts == "" {
		return inbound{}, false
	}
	if thread == "" {
		thread = ts
	}
	return inbound{Key: messageKey(channel, ts), Kind: kindMessage, User: user, Channel: channel, Thread: thread, TS: ts,
		Text: clip(text, maxText), Mentions: strings.Contains(text, "<@"+me+">") || strings.Contains(text, "<@"+me+"|"), Direct: direct}, true
}

// fromCommand reads a slash command.
func fromCommand(c slack.SlashCommand) (inbound, bool) {
	if c.ChannelID == "" || c.UserID == "" || c.TriggerID == "" {
		return inbound{}, false
	}
	in := inbound{Key: name("c", digest(c.TriggerID)), Kind: kindCommand, User: c.UserID, Channel: c.ChannelID,
		Text: clip(c.Text, maxText), Reply: c.ResponseURL}
	return in, in.sound()
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// fromInteraction reads a click or the submission of a modal.
func fromInteraction(c slack.InteractionCallback) (inbound, bool) {
	in, ok := interactionOf(c)
	return in, ok && in.sound()
}

func interactionOf(c slack.InteractionCallback) (inbound, bool) {
	if c.User.ID == "" {
		return inbound{}, false
	}
	switch c.Type {
	case slack.InteractionTypeBlockActions:
		if len(c.ActionCallback.BlockActions) == 0 || c.ActionCallback.BlockActions[0] == nil {
			return inbound{}, false
		}
		a := c.ActionCallback.BlockActions[0]
		in := inbound{Kind: kindAction, User: c.User.ID, Channel: c.Container.ChannelID, Thread: c.Container.ThreadTs, TS: c.Container.MessageTs, Action: a.ActionID, Value: clip(a.Value, 2000), Trigger: c.TriggerID}
		if a.SelectedOption.Value != "" {
			in.Value = clip(a.SelectedOption.Value, 2000)
		}
		if strings.HasPrefix(in.Action, actEvidence) {
			in.Action = actEvidence // a row of buttons numbers them
		}
		if in.Action == actLink {
			return inbound{}, false // the browser follows it
		}
		if in.Channel == "" {
			in.Channel = c.Channel.ID
		}
		if in.TS == "" { // a button in a modal: the modal says which thread it is about
			at, ok := decodePlace(c.View.PrivateMetadata)
			if !ok {
				return inbound{}, false
			}
			in.Channel, in.Thread, in.TS = at.Channel, at.Thread, c.View.ID
		}
		if in.Thread == "" {
			in.Thread = in.TS
		}
		in.Key = name("a", in.TS, a.ActionTs, in.User, in.Action)
		return in, in.Channel != "" && in.TS != "" && a.ActionTs != "" && in.Action != ""
	case slack.InteractionTypeViewSubmission:
		at, ok := decodePlace(c.View.PrivateMetadata)
		if !ok || c.View.ID == "" {
			return inbound{}, false
		}
		in := inbound{Key: name("v", c.View.ID, c.User.ID), Kind: kindSubmit, User: c.User.ID, Channel: at.Channel, Thread: at.Thread, Action: c.View.CallbackID, Value: clip(at.Value, 2000)}
		if c.View.State != nil {
			in.Text = clip(c.View.State.Values[inputBlock][inputAction].Value, maxText)
		}
		return in, true
	}
	return inbound{}, false
}

// looks reports whether a click only shows something: it decides nothing and waits
// for nothing else of its thread.
func (in inbound) looks() bool {
	if in.Kind != kindAction {
		return false
	}
	switch in.Action {
	case actEvidence, actReject, actAsk, actWhole:
		return true
	}
	return false
}

// subject of the thread in which something came in; a command opens a new one.
func (in inbound) subject() string {
	if in.Thread == "" {
		return threads + in.Key
	}
	return threads + name(in.Channel, in.Thread)
}

// clip cuts a text to a number of bytes, at a character.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// plain takes Slack's markup out of what a person wrote.
func plain(text, me string) string {
	link := regexp.MustCompile(`<([^<>|]*)(\|([^<>]*))?>`)
	text = link.ReplaceAllStringFunc(text, func(s string) string {
		m := link.FindStringSubmatch(s)
		to, label := m[1], m[3]
		switch {
		case to == "@"+me:
			return " "
		case strings.HasPrefix(to, "#") && label != "":
			return "#" + label
		case strings.HasPrefix(to, "@") || strings.HasPrefix(to, "#") || strings.HasPrefix(to, "!"):
			return first(label, to)
		}
		return first(label, to)
	})
	return strings.TrimSpace(html.UnescapeString(text))
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

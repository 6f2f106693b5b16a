// Package slacktest is a Slack for tests: it speaks the Web API, Socket Mode and
// signed requests over real HTTP and real websockets, and keeps Slack's own limits
// (docs.slack.dev): lengths, blocks, rates, triggers that expire, edits of one's own
// messages only. No production code imports it.
package slacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// The workspace and the app as every Server knows them.
const (
	Team     = "T0TEAM"
	BotUser  = "U0GUMSHOE"
	BotID    = "B0GUMSHOE"
	BotToken = "xoxb-test-1"
	AppToken = "xapp-test-1"
	Secret   = "signing-secret-of-the-test"
)

// User is a member, or somebody who is none.
type User struct {
	ID       string
	Name     string
	TeamID   string
	Deleted  bool
	Bot      bool
	Guest    bool
	Stranger bool
}

// Message is what stands in a channel.
type Message struct {
	Channel  string
	TS       string
	ThreadTS string
	User     string
	BotID    string
	Text     string
	Blocks   json.RawMessage
	Metadata json.RawMessage
	Files    []File
	Edited   string
	// Edits counts the updates of a bot's message.
	Edits int
}

// File is what was uploaded.
type File struct {
	ID    string
	Name  string
	Title string
	Alt   string
	Body  []byte
	// Channel is set once it was shared.
	Channel, Thread string
}

// Ephemeral is a message that one member sees.
type Ephemeral struct {
	Channel, Thread, User, Text string
}

// View is a modal that was opened.
type View struct {
	ID       string
	User     string
	Callback string
	Private  string
	Title    string
	Raw      json.RawMessage
	Submit   bool
}

type trigger struct {
	user    string
	expires time.Time
	used    bool
}

type limited struct {
	left  int
	after int
}

// Server is one workspace with one app.
type Server struct {
	t    TB
	http *httptest.Server
	// Now is the clock of the workspace.
	Now func() time.Time
	// TriggerLife is how long a trigger counts; 3 s in Slack.
	TriggerLife time.Duration
	// Redeliver is how long an envelope waits for its acknowledgement before it is
	// sent again.
	Redeliver time.Duration
	// Rates turns Slack's rate limits on.
	Rates bool

	mu        sync.Mutex
	seq       int
	bot, app  string
	users     map[string]User
	groups    map[string][]string
	channels  map[string][]*Message
	closed    map[string]string
	files     map[string]*File
	eph       []Ephemeral
	views     []View
	triggers  map[string]*trigger
	methods   map[string]int
	forced    map[string]*limited
	calls     map[string][]time.Time
	problems  []string
	down      bool
	conns     []*conn
	turn      int
	waiting   map[string]chan struct{}
	acked     []string
	endpoints []string
	wg        sync.WaitGroup
	stop      chan struct{}
}

// TB is the part of testing.TB that a Server needs.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// New starts a workspace; it is closed with the test.
func New(t TB) *Server {
	s := &Server{t: t, Now: time.Now, TriggerLife: 3 * time.Second, Redeliver: 3 * time.Second, bot: BotToken, app: AppToken,
		users:    map[string]User{BotUser: {ID: BotUser, Name: "gumshoe", TeamID: Team, Bot: true}},
		groups:   map[string][]string{},
		channels: map[string][]*Message{}, closed: map[string]string{}, files: map[string]*File{}, triggers: map[string]*trigger{},
		methods: map[string]int{}, forced: map[string]*limited{}, calls: map[string][]time.Time{}, waiting: map[string]chan struct{}{}, stop: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/", s.api)
	mux.HandleFunc("/upload/", s.uploaded)
	mux.HandleFunc("/hooks/", s.hook)
	mux.HandleFunc("/socket", s.socket)
	s.http = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Close ends the workspace.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.stop:
		s.mu.Unlock()
		return
	default:
		close(s.stop)
	}
	conns := slices.Clone(s.conns)
	s.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
	s.http.Close()
	s.wg.Wait()
}

// APIURL is the address of the Web API.
func (s *Server) APIURL() string { return s.http.URL + "/api/" }

// AddUser adds a full member of the workspace.
func (s *Server) AddUser(id, name string) { s.AddAnyone(User{ID: id, Name: name, TeamID: Team}) }

// AddAnyone adds a user as given.
func (s *Server) AddAnyone(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.ID] = u
}

// AddGroup makes a user group.
func (s *Server) AddGroup(id string, members ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups[id] = members
}

// AddChannel makes a channel that the app is in.
func (s *Server) AddChannel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.channels[id]; !ok {
		s.channels[id] = nil
	}
}

// CloseChannel makes a channel refuse messages with an error such as is_archived.
func (s *Server) CloseChannel(id, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed[id] = code
}

// SetTokens replaces the tokens that count; the old ones are revoked.
func (s *Server) SetTokens(bot, app string) {
	s.mu.Lock()
	s.bot, s.app = bot, app
	s.mu.Unlock()
}

// Down makes every call fail as in an outage, or ends it. Open sockets are closed.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	s.down = down
	conns := slices.Clone(s.conns)
	s.mu.Unlock()
	if down {
		for _, c := range conns {
			c.close()
		}
	}
}

// Limit makes the next n calls of a method fail with 429 and a Retry-After.
func (s *Server) Limit(method string, n, retryAfter int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forced[method] = &limited{n, retryAfter}
}

// Methods gives how often each method was called.
func (s *Server) Methods() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.methods)
}

// Problems are calls that Slack refuses as malformed: too long, too many, or an edit
// of somebody else's message. A test that ends well has none.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Thread gives the messages of a thread, its first message included, in order.
func (s *Server) Thread(channel, ts string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Message
	for _, m := range s.channels[channel] {
		if m.TS == ts || m.ThreadTS == ts {
			out = append(out, *m)
		}
	}
	return out
}

// Channel gives the messages of a channel that are in no thread.
func (s *Server) Channel(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Message
	for _, m := range s.channels[channel] {
		if m.ThreadTS == "" || m.ThreadTS == m.TS {
			out = append(out, *m)
		}
	}
	return out
}

// Remove deletes a message without telling the app, as another app may.
func (s *Server) Remove(channel, ts string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels[channel] = slices.DeleteFunc(s.channels[channel], func(m *Message) bool { return m.TS == ts })
}

// Ephemerals gives what one member was told alone.
func (s *Server) Ephemerals(user string) []Ephemeral {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Ephemeral
	for _, e := range s.eph {
		if e.User == user {
			out = append(out, e)
		}
	}
	return out
}

// Views gives the modals that were opened for a member.
func (s *Server) Views(user string) []View {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []View
	for _, v := range s.views {
		if v.User == user {
			out = append(out, v)
		}
	}
	return out
}

// Own gives the bot's messages of a thread.
func (s *Server) Own(channel, ts string) []Message {
	return slices.DeleteFunc(s.Thread(channel, ts), func(m Message) bool { return m.BotID != BotID })
}

// ts gives a new time stamp; callers hold the lock.
func (s *Server) ts() string {
	s.seq++
	return fmt.Sprintf("%d.%06d", s.Now().Unix(), s.seq)
}

func (s *Server) id(prefix string) string {
	s.seq++
	return fmt.Sprintf("%s%06dX", prefix, s.seq)
}

// All gives every text of a message as it reads: the blocks' texts, then the files.
func (m Message) All() string {
	var out []string
	var walk func(v any)
	walk = func(v any) {
		switch x := v.(type) {
		case []any:
			for _, e := range x {
				walk(e)
			}
		case map[string]any:
			if s, ok := x["text"].(string); ok {
				out = append(out, s)
			}
			for _, k := range []string{"title", "text", "fields", "elements", "accessory", "label", "hint"} {
				if _, isText := x[k].(string); !isText {
					walk(x[k])
				}
			}
		}
	}
	var doc any
	if json.Unmarshal(m.Blocks, &doc) == nil {
		walk(doc)
	}
	if len(out) == 0 {
		out = append(out, m.Text)
	}
	for _, f := range m.Files {
		out = append(out, "file "+f.Name)
	}
	return strings.Join(out, "\n")
}

// Button is one of a message.
type Button struct {
	Action  string
	Value   string
	Label   string
	URL     string
	Confirm bool
	Block   string
}

// Buttons gives the buttons of a message, or of the blocks of a view.
func (m Message) Buttons() []Button { return buttons(m.Blocks) }

func buttons(raw json.RawMessage) []Button {
	var blocks []struct {
		Type     string `json:"type"`
		BlockID  string `json:"block_id"`
		Elements []struct {
			Type     string          `json:"type"`
			ActionID string          `json:"action_id"`
			Value    string          `json:"value"`
			URL      string          `json:"url"`
			Text     json.RawMessage `json:"text"`
			Confirm  json.RawMessage `json:"confirm"`
		} `json:"elements"`
	}
	var out []Button
	if json.Unmarshal(raw, &blocks) != nil {
		return nil
	}
	for _, b := range blocks {
		for _, e := range b.Elements {
			if e.Type != "button" {
				continue
			}
			var text struct {
				Text string `json:"text"`
			}
			if json.Unmarshal(e.Text, &text) != nil {
				continue
			}
			out = append(out, Button{Action: e.ActionID, Value: e.Value, Label: text.Text, URL: e.URL, Confirm: len(e.Confirm) > 0, Block: b.BlockID})
		}
	}
	return out
}

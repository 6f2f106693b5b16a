package slacktest

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// conn is one websocket of Socket Mode.
type conn struct {
	ws   *websocket.Conn
	mu   sync.Mutex
	once sync.Once
}

func (c *conn) send(v any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws.WriteJSON(v)
}

func (c *conn) close() { c.once.Do(func() { _ = c.ws.Close() }) }

func (s *Server) socket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }} // the client sends Slack's own origin
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &conn{ws: ws}
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		c.close()
		return
	}
	s.conns = append(s.conns, c)
	n := len(s.conns)
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer func() {
		c.close()
		s.mu.Lock()
		s.conns = slices.DeleteFunc(s.conns, func(o *conn) bool { return o == c })
		s.mu.Unlock()
	}()
	if c.send(reply{"type": "hello", "num_connections": n, "connection_info": reply{"app_id": "A0APP"}, "debug_info": reply{"host": "test", "approximate_connection_time": 3600}}) != nil {
		return
	}
	done := make(chan struct{})
	defer close(done)
	s.wg.Go(func() {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-s.stop:
				return
			case <-tick.C:
				c.mu.Lock()
				_ = ws.WriteControl(websocket.PingMessage, []byte("ping"), time.Now().Add(time.Second))
				c.mu.Unlock()
			}
		}
	})
	for {
		var ack struct {
			EnvelopeID string `json:"envelope_id"`
		}
		_, raw, err := ws.ReadMessage()
		if err != nil {
			return
		}
		if json.Unmarshal(raw, &ack) != nil {
			continue
		}
		s.mu.Lock()
		s.acked = append(s.acked, ack.EnvelopeID)
		if ch := s.waiting[ack.EnvelopeID]; ch != nil {
			close(ch)
			delete(s.waiting, ack.EnvelopeID)
		}
		s.mu.Unlock()
	}
}

// Connections counts the open websockets.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Acked counts the acknowledgements that came.
func (s *Server) Acked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// Unacked counts the envelopes that wait for their acknowledgement.
func (s *Server) Unacked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// Refresh asks every client to connect again, as Slack does from time to time.
func (s *Server) Refresh() {
	s.mu.Lock()
	conns := slices.Clone(s.conns)
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.send(reply{"type": "disconnect", "reason": "refresh_requested", "debug_info": reply{"host": "test"}})
	}
}

// Raw sends bytes to one client as they are.
func (s *Server) Raw(text string) {
	if c := s.next(); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.ws.WriteMessage(websocket.TextMessage, []byte(text))
	}
}

// next gives the connection whose turn it is: each envelope goes to one of them.
func (s *Server) next() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 {
		return nil
	}
	s.turn++
	return s.conns[s.turn%len(s.conns)]
}

// attempts is how often an envelope is sent that nobody acknowledges. Slack gives up
// after three; a test that kills replicas one after the other needs more.
const attempts = 60

// deliver sends an envelope and sends it again until it is acknowledged.
func (s *Server) deliver(kind string, payload any) {
	s.mu.Lock()
	eps := slices.Clone(s.endpoints)
	id := s.id("env-")
	acked := make(chan struct{})
	if len(eps) == 0 {
		s.waiting[id] = acked
	}
	s.mu.Unlock()
	if len(eps) > 0 {
		s.post(eps, kind, payload)
		return
	}
	s.wg.Go(func() {
		for n := range attempts {
			if c := s.next(); c != nil {
				_ = c.send(reply{"type": kind, "envelope_id": id, "payload": payload, "accepts_response_payload": kind != "events_api", "retry_attempt": n, "retry_reason": map[bool]string{true: "timeout"}[n > 0]})
			}
			t := time.NewTimer(s.Redeliver)
			select {
			case <-acked:
				t.Stop()
				return
			case <-s.stop:
				t.Stop()
				return
			case <-t.C:
			}
		}
	})
}

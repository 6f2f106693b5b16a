package mcpserver

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// pending are the requests of a connection that were read and are not answered. It is
// safe for concurrent use.
type pending struct {
	mu   sync.Mutex
	open map[any]int
	over bool
	// changed is closed and made anew whenever fewer are open.
	changed chan struct{}
}

func newPending() *pending {
	return &pending{open: map[any]int{}, changed: make(chan struct{})}
}

// note opens a request. One that the client takes back need not be answered.
func (p *pending) note(msg jsonrpc.Message) {
	r, ok := msg.(*jsonrpc.Request)
	switch {
	case !ok:
	case r.IsCall():
		p.mu.Lock()
		p.open[r.ID.Raw()]++
		p.mu.Unlock()
	case r.Method == "notifications/cancelled":
		var gone struct {
			RequestID any `json:"requestId"`
		}
		if json.Unmarshal(r.Params, &gone) != nil {
			return
		}
		if id, err := jsonrpc.MakeID(gone.RequestID); err == nil {
			p.settle(id)
		}
	}
}

// settle closes a request; one that is not open changes nothing.
func (p *pending) settle(id jsonrpc.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := id.Raw()
	if p.open[key] == 0 {
		return
	}
	if p.open[key]--; p.open[key] == 0 {
		delete(p.open, key)
	}
	p.tell()
}

// abandon ends every wait: nobody answers any more, or nobody reads.
func (p *pending) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.tell()
}

func (p *pending) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when nothing is open, or after a time.
func (p *pending) wait(most time.Duration) {
	end := time.NewTimer(most)
	defer end.Stop()
	for {
		p.mu.Lock()
		done, changed := p.over || len(p.open) == 0, p.changed
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-end.C:
			return
		}
	}
}

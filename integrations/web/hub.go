package web

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// hub follows the changes of sessions and plans once for all open pages. It follows
// while at least one page is open, and wakes those that show what changed.
type hub struct {
	svc Follower
	log *slog.Logger

	mu    sync.Mutex
	watch map[*watcher]bool
	stop  context.CancelFunc
	done  chan struct{}
	// seen is how far each subject was followed, so that a later page does not make
	// the whole history pass again.
	seen map[string]uint64
}

// watcher is an open page. Its channel holds at most one wake: what changed meanwhile
// is read when the page is made anew.
type watcher struct {
	wake chan struct{}
	// wants says which notices concern the page; it must not block.
	wants func(session.Notice) bool
}

func newHub(svc Follower, log *slog.Logger) *hub {
	return &hub{svc: svc, log: log, watch: map[*watcher]bool{}, seen: map[string]uint64{}}
}

// join lets a page be woken until leave is called.
func (h *hub) join(ctx context.Context, wants func(session.Notice) bool) (w *watcher, leave func()) {
	w = &watcher{wake: make(chan struct{}, 1), wants: wants}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watch[w] = true
	if h.stop == nil {
		run, stop := context.WithCancel(context.WithoutCancel(ctx))
		h.stop, h.done = stop, make(chan struct{})
		go h.follow(run, h.done)
	}
	return w, func() {
		h.mu.Lock()
		delete(h.watch, w)
		var done chan struct{}
		if len(h.watch) == 0 && h.stop != nil {
			h.stop()
			done, h.stop, h.done = h.done, nil, nil
		}
		h.mu.Unlock()
		if done != nil {
			<-done
		}
	}
}

// pause is how long the hub waits before it follows again after a failure.
const pause = 2 * time.Second

// follow passes notices on until ctx ends. When following fails, every page is woken,
// since something may have passed unseen.
func (h *hub) follow(ctx context.Context, done chan struct{}) {
	defer close(done)
	for ctx.Err() == nil {
		for n, err := range h.svc.Follow(ctx, h.position) {
			if err != nil {
				if ctx.Err() == nil {
					h.log.WarnContext(ctx, "changes cannot be followed", "error", err)
				}
				break
			}
			h.tell(n)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			h.tell(session.Notice{})
		}
	}
}

// position is up to where a subject was followed before.
func (h *hub) position(subject string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[subject]
}

// tell wakes the pages that a notice concerns; an empty one concerns all.
func (h *hub) tell(n session.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case n.Session != "":
		h.seen["session."+n.Session] = max(h.seen["session."+n.Session], n.Seq)
	case n.Plan != "" && n.Type != "plan.due":
		h.seen["plan."+n.Plan] = max(h.seen["plan."+n.Plan], n.Seq)
	}
	for w := range h.watch {
		if n == (session.Notice{}) || w.wants(n) {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

package transport

import (
	"context"
	"errors"
	"io"
	"time"
)

var errSilent = errors.New("the server is silent")

// watch ends a request whose server is silent. Only time spent in reading
// counts: a consumer may take as long as it likes between two parts.
type watch struct {
	wait, idle time.Duration
	cancel     context.CancelCauseFunc
	timer      *time.Timer
	since      time.Time
	// waited is the reading time since the last event.
	waited  time.Duration
	started bool
}

func newWatch(wait, idle time.Duration, cancel context.CancelCauseFunc) *watch {
	return &watch{wait: wait, idle: idle, cancel: cancel}
}

// limit is how long the next read may take.
func (w *watch) limit() time.Duration {
	left := w.wait - w.waited
	if w.started {
		left = min(left, w.idle)
	}
	return max(left, 0)
}

// arm starts the clock before a read.
func (w *watch) arm() {
	w.since = time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit(), func() { w.cancel(errSilent) })
		return
	}
	w.timer.Reset(w.limit())
}

// rest stops the clock after a read.
func (w *watch) rest() {
	w.timer.Stop()
	w.waited += time.Since(w.since)
}

// event says that the server said something.
func (w *watch) event() { w.started, w.waited = true, 0 }

// watched is a response body under watch.
type watched struct {
	body  io.Reader
	watch *watch
	fail  func(error) error
}

func (b *watched) Read(p []byte) (int, error) {
	b.watch.arm()
	n, err := b.body.Read(p)
	b.watch.rest()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.fail(err)
	}
	return n, err
}

// drainTime is how long the end of a finished stream may take to arrive, so
// that the connection can be used again.
const drainTime = 50 * time.Millisecond

// closing is the body that the SDK gets.
type closing struct {
	io.Reader
	body   io.ReadCloser
	watch  *watch
	events *events
	end    context.CancelCauseFunc
}

// Close ends the request. After the end of a stream it looks briefly for the
// end of the body; anything else closes the connection.
func (c *closing) Close() error {
	defer c.end(nil)
	if c.events.done {
		c.watch.wait, c.watch.idle = drainTime, drainTime
		c.watch.event()
		_, _ = io.CopyN(io.Discard, c.events.in, 4<<10)
	}
	return c.body.Close()
}

package tui

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	tea "charm.land/bubbletea/v2"
)

// Log is a slog.Handler whose records become lines of the chat: what writes to the
// terminal beside the screen tears it. Make it before the chat, give it to slog and
// klog, and to Config. Records that nobody takes are kept, the oldest fall away.
type Log struct {
	level slog.Level
	attrs string
	group string
	queue *logQueue
}

type logQueue struct {
	mu    sync.Mutex
	notes []noteItem
	lost  int
	bell  chan struct{}
}

var _ slog.Handler = (*Log)(nil)

// maxNotes bounds the records that wait.
const maxNotes = 100

// NewLog takes records of a level and above.
func NewLog(level slog.Level) *Log {
	return &Log{level: level, queue: &logQueue{bell: make(chan struct{}, 1)}}
}

// Enabled implements slog.Handler.
func (l *Log) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

// Handle implements slog.Handler.
func (l *Log) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	b.WriteString(l.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(attrText(l.group, a))
		return true
	})
	level := noteInfo
	switch {
	case r.Level >= slog.LevelError:
		level = noteBad
	case r.Level >= slog.LevelWarn:
		level = noteWarn
	}
	q := l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.notes) >= maxNotes {
		q.notes = q.notes[1:]
		q.lost++
	}
	q.notes = append(q.notes, noteItem{level, b.String()})
	select {
	case q.bell <- struct{}{}:
	default:
	}
	return nil
}

func attrText(group string, a slog.Attr) string {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		var b strings.Builder
		for _, x := range v.Group() {
			b.WriteString(attrText(group+a.Key+".", x))
		}
		return b.String()
	}
	if a.Key == "" {
		return ""
	}
	return " " + group + a.Key + "=" + v.String()
}

// WithAttrs implements slog.Handler.
func (l *Log) WithAttrs(as []slog.Attr) slog.Handler {
	n := *l
	for _, a := range as {
		n.attrs += attrText(l.group, a)
	}
	return &n
}

// WithGroup implements slog.Handler.
func (l *Log) WithGroup(name string) slog.Handler {
	n := *l
	if name != "" {
		n.group += name + "."
	}
	return &n
}

type logMsg struct {
	notes []noteItem
	lost  int
}

// take gives what waits.
func (l *Log) take() logMsg {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	m := logMsg{l.queue.notes, l.queue.lost}
	l.queue.notes, l.queue.lost = nil, 0
	return m
}

// next waits for records.
func (l *Log) next(ctx context.Context) tea.Cmd {
	if l == nil {
		return nil
	}
	return func() tea.Msg {
		select {
		case <-l.queue.bell:
			return l.take()
		case <-ctx.Done():
			return nil
		}
	}
}

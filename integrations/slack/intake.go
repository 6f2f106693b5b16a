package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// queue is where work lies; a record below it wakes whoever claims it.
const queue = "work.slack"

// threads is the prefix of the subjects that keep, in order, what came in a thread
// and what of it is done.
const threads = "slackin."

// Types of records of a thread.
const (
	typeCame = "slack.came"
	typeDone = "slack.done"
)

// task is a record of the queue.
type task struct {
	Subject string `json:"subject,omitempty"`
	Key     string `json:"key"`
	// In is set for what needs no order: it is not kept in a thread.
	In *inbound `json:"in,omitempty"`
}

// rivals is how often an append is tried again when another writer was faster.
const rivals = 20

// take keeps what came in; when it returns nil, it may be acknowledged. Whatever
// comes again is there already. What is said in threads that gumshoe has no part in
// is not kept.
func (s *Surface) take(ctx context.Context, in inbound) error {
	if err := s.boundary("intake"); err != nil {
		return err
	}
	if in.looks() {
		return s.enqueue(ctx, task{Key: in.Key, In: &in})
	}
	subject := in.subject()
	asks := in.Kind != kindMessage && in.Kind != kindEdit && in.Kind != kindDelete || in.Kind != kindDelete && (in.Mentions || in.Direct)
	for range rivals {
		th, err := s.thread(ctx, subject)
		if err != nil {
			return err
		}
		if _, there := th.came[in.Key]; there {
			break
		}
		if !asks && th.last == 0 {
			_, held, err := s.svc.Linked(ctx, session.Link{Surface: session.Slack, Key: in.Channel + "/" + in.Thread})
			if err != nil {
				return err
			}
			if !held {
				return nil
			}
		}
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		_, err = s.journal.Append(ctx, subject, th.last, store.Entry{Type: typeCame, Data: data})
		if _, again := errors.AsType[*store.ConflictError](err); again {
			continue
		}
		if err != nil {
			return fmt.Errorf("what came from Slack cannot be kept: %w", err)
		}
		break
	}
	if err := s.boundary("kept"); err != nil {
		return err
	}
	return s.enqueue(ctx, task{Subject: subject, Key: in.Key})
}

// enqueue puts a task into the queue, once.
func (s *Surface) enqueue(ctx context.Context, t task) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = s.journal.Append(ctx, queue+"."+t.Key, 0, store.Entry{Type: "slack.task", Data: data})
	if _, there := errors.AsType[*store.ConflictError](err); err != nil && !there {
		return fmt.Errorf("what came from Slack cannot be queued: %w", err)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// thread is the projection of what came in a thread.
type thread struct {
	order []string
	came  map[string]inbound
	done  map[string]bool
	last  uint64
}

func (s *Surface) thread(ctx context.Context, subject string) (thread, error) {
	th, last, err := store.Project(ctx, s.journal, subject, 0, thread{came: map[string]inbound{}, done: map[string]bool{}}, func(t thread, r store.Record) (thread, error) {
		switch r.Type {
		case typeCame:
			var in inbound
			if err := json.Unmarshal(r.Data, &in); err != nil {
				return t, err
			}
			if _, twice := t.came[in.Key]; !twice {
				t.order = append(t.order, in.Key)
				t.came[in.Key] = in
			}
		case typeDone:
			var k task
			if err := json.Unmarshal(r.Data, &k); err != nil {
				return t, err
			}
			t.done[k.Key] = true
		}
		return t, nil
	})
	th.last = last
	return th, err
}

// finish marks a key of a thread as done.
func (s *Surface) finish(ctx context.Context, subject, key string) error {
	data, err := json.Marshal(task{Key: key})
	if err != nil {
		return err
	}
	for range rivals {
		th, err := s.thread(ctx, subject)
		if err != nil || th.done[key] {
			return err
		}
		_, err = s.journal.Append(ctx, subject, th.last, store.Entry{Type: typeDone, Data: data})
		if _, again := errors.AsType[*store.ConflictError](err); !again {
			return err
		}
	}
	return fmt.Errorf("%s is %w: others keep writing to it", subject, store.ErrBusy)
}

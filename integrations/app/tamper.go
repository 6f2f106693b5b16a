package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/world"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// edit puts an edited copy in place of the store, as somebody could who has its files
// and keeps their form: every record has its checksum. The keys stay where they were.
// It gives the id of the plan that is executed then.
func (m *mender) edit(ctx context.Context, rec planner.Record) (string, error) {
	id := rec.Plan.ID
	if m.attack.Stolen {
		other, err := m.again(ctx, rec)
		if err != nil {
			return id, err
		}
		id = other
	}
	next := filepath.Join(m.dir, "edited")
	if err := os.MkdirAll(next, 0o700); err != nil {
		return id, err
	}
	key, err := os.ReadFile(filepath.Join(m.cfg.Store.Dir, "approval.key"))
	if err != nil {
		return id, err
	}
	if err := os.WriteFile(filepath.Join(next, "approval.key"), key, 0o600); err != nil {
		return id, err
	}
	to, err := file.Open(file.Config{Dir: next, LockWait: storeWait, Sync: func(*os.File) error { return nil }})
	if err != nil {
		return id, err
	}
	defer func() { _ = to.Close() }()
	for info, err := range m.plans.store.List(ctx, ">") {
		if err != nil {
			return id, err
		}
		last := uint64(0)
		put := func(r store.Record) error {
			var err error
			last, err = to.Append(ctx, info.Subject, last, store.Entry{Type: r.Type, Data: r.Data})
			return err
		}
		for r, err := range m.plans.store.Load(ctx, info.Subject, 0) {
			if err != nil {
				return id, err
			}
			copies := 1
			for _, t := range m.attack.Tamper {
				if t.Record != r.Type || !strings.HasPrefix(info.Subject, "plan.") && !strings.HasPrefix(info.Subject, "audit.") {
					continue
				}
				switch {
				case t.Drop:
					copies = 0
				case t.Copy:
					copies = 2
				default:
					if r.Data, err = set(r.Data, t); err != nil {
						return id, err
					}
				}
			}
			for range copies {
				if err := put(r); err != nil {
					return id, err
				}
			}
		}
		if m.attack.Stolen && info.Subject == "plan."+id {
			// The words about the first plan are put behind the second one.
			for r, err := range m.plans.store.Load(ctx, "plan."+rec.Plan.ID, 0) {
				if err != nil {
					return id, err
				}
				if r.Type == string(event.PlanWord) {
					if err := put(r); err != nil {
						return id, err
					}
				}
			}
		}
	}
	m.cfg.Store.Dir = next
	return id, m.reopen()
}

// again files the same steps as another plan, which nobody approved.
func (m *mender) again(ctx context.Context, rec planner.Record) (string, error) {
	p := rec.Plan
	var err error
	if p.ID, err = newPlanID(); err != nil {
		return "", err
	}
	_, err = m.plans.desk.File(ctx, p, rec.Decision, "")
	return p.ID, err
}

// set puts a value into the data of a record.
func set(raw json.RawMessage, t evals.Tamper) (json.RawMessage, error) {
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	var value any
	if err := yaml.Unmarshal([]byte(t.Value), &value); err != nil {
		return nil, fmt.Errorf("tamper %s: %w", t.Path, err)
	}
	if err := world.Put(doc, t.Path, value); err != nil {
		return nil, fmt.Errorf("tamper %s of %s: %w", t.Path, t.Record, err)
	}
	return json.Marshal(doc)
}

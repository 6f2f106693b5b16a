package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Limits bound what models may cost in a day (UTC), in US dollars and tokens; zero
// is no bound. What is over it is answered without a model, and says so.
type Limits struct {
	// Day is over all sources, Source for one each.
	Day    Limit
	Source map[string]Limit
}

// Limit is the bound of one day.
type Limit struct {
	Cost   float64 `json:"cost,omitempty"`
	Tokens int     `json:"tokens,omitempty"`
}

// Spent is what one turn used, as the journal keeps it.
type Spent struct {
	Source string  `json:"source"`
	Turn   string  `json:"turn"`
	Cost   float64 `json:"cost"`
	Tokens int     `json:"tokens"`
}

func spendSubject(at time.Time) string { return "spend." + at.UTC().Format("20060102") }

// SpentOn gives what was used on a day, by source.
func SpentOn(ctx context.Context, l store.Loader, day time.Time) (map[string]Spent, error) {
	sum, _, err := store.Project(ctx, l, spendSubject(day), 0, map[string]Spent{}, func(m map[string]Spent, r store.Record) (map[string]Spent, error) {
		var s Spent
		if err := json.Unmarshal(r.Data, &s); err != nil {
			return m, err
		}
		t := m[s.Source]
		t.Source, t.Cost, t.Tokens = s.Source, t.Cost+s.Cost, t.Tokens+s.Tokens
		m[s.Source] = t
		return m, nil
	})
	return sum, err
}

// spent says which bound is reached, empty if none is.
func (l Limits) spent(ctx context.Context, j store.Loader, source string, now time.Time) (string, error) {
	if l.Day == (Limit{}) && l.Source[source] == (Limit{}) {
		return "", nil
	}
	used, err := SpentOn(ctx, j, now)
	if err != nil {
		return "", err
	}
	var all Spent
	for _, s := range used {
		all.Cost, all.Tokens = all.Cost+s.Cost, all.Tokens+s.Tokens
	}
	for _, b := range []struct {
		whose string
		used  Spent
		limit Limit
	}{{"", all, l.Day}, {" of " + source, used[source], l.Source[source]}} {
		if b.limit.Cost > 0 && b.used.Cost >= b.limit.Cost {
			return fmt.Sprintf("no model was asked: today's budget%s of $%.2f is spent ($%.2f used)", b.whose, b.limit.Cost, b.used.Cost), nil
		}
		if b.limit.Tokens > 0 && b.used.Tokens >= b.limit.Tokens {
			return fmt.Sprintf("no model was asked: today's budget%s of %d tokens is spent (%d used)", b.whose, b.limit.Tokens, b.used.Tokens), nil
		}
	}
	return "", nil
}

// spend keeps what a turn used.
func (l Limits) spend(ctx context.Context, j Journal, t Turn, u incident.Usage, now time.Time) error {
	if u.Cost == 0 && u.InputTokens+u.OutputTokens == 0 {
		return nil
	}
	data, err := json.Marshal(Spent{Source: t.Source, Turn: t.ID, Cost: u.Cost, Tokens: u.InputTokens + u.OutputTokens})
	if err != nil {
		return err
	}
	var last uint64
	for range rivals {
		_, err = j.Append(ctx, spendSubject(now), last, store.Entry{Type: "spent", Data: data})
		c, again := errors.AsType[*store.ConflictError](err)
		if !again {
			break
		}
		last = c.Last
	}
	if err != nil {
		return fmt.Errorf("what turn %s cost cannot be kept: %w", t.ID, err)
	}
	return nil
}

func decodeWork(data json.RawMessage) (Work, error) {
	var w Work
	if err := json.Unmarshal(data, &w); err != nil {
		return w, err
	}
	if w.Session == "" || w.Turn == "" {
		return w, errors.New("it names no session or no turn")
	}
	return w, nil
}

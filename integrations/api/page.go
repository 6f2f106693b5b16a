package api

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// place orders what is listed: by time, and by id at the same time.
type place struct {
	at int64
	id string
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.at, o.at), cmp.Compare(p.id, o.id))
}

// String is the cursor: the place of the last item that was given.
func (p place) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", p.at, p.id))
}

func parsePlace(s string) (place, bool) {
	var p place
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return p, false
	}
	n, err := fmt.Sscanf(string(raw), "%d %s", &p.at, &p.id)
	return p, err == nil && n == 2 && p.String() == s
}

// paged gives the page of a list that limit and cursor of a call mean, the newest
// first, and the cursor of the next page, if there is one. An item that changes its
// place meanwhile may be missed or come twice; others do not move.
func paged[T any](c *call, items []T, at func(T) place) ([]T, string, error) {
	slices.SortStableFunc(items, func(a, b T) int { return at(b).compare(at(a)) })
	if cursor := c.given["cursor"]; cursor != "" {
		from, ok := parsePlace(cursor)
		if !ok {
			return nil, "", invalid("the parameter cursor", cursor, "it is no cursor of a list", "take next of the page before")
		}
		items = slices.DeleteFunc(slices.Clone(items), func(i T) bool { return at(i).compare(from) >= 0 })
	}
	limit := c.number("limit", 100)
	if len(items) <= limit {
		return full(items), "", nil
	}
	return items[:limit:limit], at(items[limit-1]).String(), nil
}

// problems says what a list leaves out because it cannot be read.
func problems(err error) []string {
	if err == nil {
		return nil
	}
	return []string{"some are left out because they cannot be read: " + tool.UserText(err)}
}

// full is a list as it is written: one without items is no null.
func full[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

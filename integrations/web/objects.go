package web

import (
	"net/http"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Bounds of what is offered behind "@".
const (
	maxChoices = 8
	// maxPrefix is the longest beginning that is looked for: a namespace and a name.
	maxPrefix = 64 + 253
)

// choicesView are objects of the cluster that a question may name.
type choicesView struct {
	Rows []choiceRow
	Note string
}

type choiceRow struct {
	N                  int
	Insert, Path, Kind string
}

// objects offers what completes a name, as a part of a page: the script puts it under
// the question.
func (s *Web) objects(w http.ResponseWriter, r *http.Request) error {
	prefix := clip(strings.TrimSpace(r.URL.Query().Get("prefix")), maxPrefix)
	var v choicesView
	refs, err := s.svc.Objects(r.Context(), prefix, maxChoices)
	switch {
	case err != nil && r.Context().Err() != nil:
		return err
	case err != nil:
		s.log.WarnContext(r.Context(), "objects cannot be listed", "error", err)
		v.Note = "Objects cannot be listed: " + sentence(clean(tool.UserText(err)))
	case len(refs) == 0:
		v.Note = "Nothing is called like that."
	}
	for i, ref := range refs[:min(len(refs), maxChoices)] {
		v.Rows = append(v.Rows, choiceRow{N: i, Insert: clean(ref.String()), Path: clean(ref.Path()), Kind: clean(ref.Kind)})
	}
	html, err := s.fragment("list", "choices", v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(html)) // the browser may be gone
	return nil
}

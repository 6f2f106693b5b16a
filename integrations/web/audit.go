package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

// auditView is a stretch of the audit trail, newest first.
type auditView struct {
	Rows         []auditRow
	Total        int
	Older, Newer string
	Plan         string
	// Sound says that the chain of hashes holds; Broken says where it does not.
	Sound  bool
	Broken string
	Head   string
}

type auditRow struct {
	Seq                            uint64
	At                             when
	Actor, What, Plan, Where, Hash string
	Detail                         string
}

// auditPage is how many entries a page shows.
const auditPage = 50

func (s *Web) audit(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.Trail(r.Context())
	if err != nil {
		return err
	}
	v := auditView{Total: len(all), Plan: clip(clean(r.URL.Query().Get("plan")), 64), Sound: true}
	if p := audit.Check(all); p != nil {
		v.Sound, v.Broken = false, fmt.Sprintf("Entry %d: %s.", p.Seq, clean(p.Why))
	}
	if len(all) > 0 {
		v.Head = audit.Head{Seq: all[len(all)-1].Seq, Hash: all[len(all)-1].Hash}.String()
	}
	if v.Plan != "" {
		all = slices.DeleteFunc(slices.Clone(all), func(e audit.Entry) bool { return e.Plan != v.Plan })
	}
	end := len(all)
	if before, err := strconv.ParseUint(r.URL.Query().Get("before"), 10, 64); err == nil && before > 0 {
		if end = slices.IndexFunc(all, func(e audit.Entry) bool { return e.Seq >= before }); end < 0 {
			end = len(all)
		}
	}
	start := max(end-auditPage, 0)
	for _, e := range slices.Backward(all[start:end]) {
		v.Rows = append(v.Rows, s.auditRow(e))
	}
	page := func(before uint64) string {
		q := url.Values{}
		if before > 0 {
			q.Set("before", strconv.FormatUint(before, 10))
		}
		if v.Plan != "" {
			q.Set("plan", v.Plan)
		}
		return "/audit?" + q.Encode()
	}
	if start > 0 {
		v.Older = page(all[start].Seq)
	}
	if end < len(all) {
		v.Newer = page(0)
		if n := end + auditPage; n < len(all) {
			v.Newer = page(all[n].Seq)
		}
	}
	f := s.frameOf(r, "Audit", "audit")
	f.Body = v
	return s.show(w, r, http.StatusOK, "audit", f)
}

func (s *Web) auditRow(e audit.Entry) auditRow {
	row := auditRow{Seq: e.Seq, At: moment(e.At, s.now()), Actor: clean(e.Actor), What: clean(e.What), Plan: clean(e.Plan), Where: clean(e.Step + " " + e.Write), Hash: clean(e.Hash)}
	if len(e.Detail) > 0 && string(e.Detail) != "null" {
		row.Detail = clip(pretty(e.Detail), 4000)
	}
	return row
}

package nodepool

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"sync"
)

// sign is one row of the table of what clouds say when a machine is not made: data,
// each with its source. Rows are tried in order; the first that matches is taken.
type sign struct {
	ID string `json:"id"`
	// Code is the finding that the words prove.
	Code    string `json:"code"`
	Pattern string `json:"pattern"`
	// Says is what the words mean, WayOut what helps, one clause each.
	Says   string `json:"says"`
	WayOut string `json:"way_out"`
	// Source is where the words are documented or printed.
	Source string `json:"source"`

	re *regexp.Regexp
}

//go:embed errors.json
var errorTable []byte

// shippedSigns is the table that ships, read once in the life of the process. Nobody
// changes it.
var shippedSigns = sync.OnceValues(loadSigns)

// loadSigns reads the table and refuses a row that is not whole.
func loadSigns() ([]sign, error) {
	var rows []sign
	if err := json.Unmarshal(errorTable, &rows); err != nil {
		return nil, fmt.Errorf("nodepool: errors.json: %w", err)
	}
	known := map[string]bool{}
	for _, c := range Codes() {
		known[c.Code] = true
	}
	for i := range rows {
		r := &rows[i]
		re, err := regexp.Compile(r.Pattern)
		if err != nil {
			return nil, fmt.Errorf("nodepool: errors.json: row %s: %w", r.ID, err)
		}
		if r.ID == "" || r.Says == "" || r.WayOut == "" || r.Source == "" || !known[r.Code] {
			return nil, fmt.Errorf("nodepool: errors.json: row %d (%s): id, says, way_out, source and a code of codes.go are required", i, r.ID)
		}
		r.re = re
	}
	return rows, nil
}

// read finds the row whose words a message says; what nobody knows is told as it is.
func (t *Toolset) read(message string) sign {
	for _, s := range t.signs {
		if s.re.MatchString(message) {
			return s
		}
	}
	return sign{ID: "other", Code: "nodepool.provisioning_failed", Says: "the provider could not make the machine", WayOut: "follow the provider's words"}
}

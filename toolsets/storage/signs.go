package storage

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sync"
)

// Stages at which a driver or the kubelet complains.
const (
	stageAttach    = "attach"
	stageMount     = "mount"
	stageProvision = "provision"
	stageDetach    = "detach"
)

// sign is one row of the table of what drivers, clouds and kubelets say: data, each
// with its source. Rows are tried in order; the first that matches is taken.
type sign struct {
	ID string `json:"id"`
	// Code is the finding that the words prove.
	Code string `json:"code"`
	// Stages at which the words are read; empty means all.
	Stages []string `json:"stages,omitempty"`
	// Pattern finds the words; named groups become facts of the finding.
	Pattern string `json:"pattern"`
	// Says is what the words mean, one clause.
	Says string `json:"says"`
	// WayOut is what helps, one clause.
	WayOut string `json:"way_out"`
	// Source is where the words are documented or printed.
	Source string `json:"source"`

	re *regexp.Regexp
}

//go:embed signatures.json
var signatures []byte

// shippedSigns is the table that ships, read once in the life of the process. Nobody
// changes it.
var shippedSigns = sync.OnceValues(loadSigns)

// loadSigns reads the table and refuses a row that names no known code or stage or
// whose pattern does not compile.
func loadSigns() ([]sign, error) {
	var rows []sign
	if err := json.Unmarshal(signatures, &rows); err != nil {
		return nil, fmt.Errorf("storage: signatures.json: %w", err)
	}
	known := map[string]bool{}
	for _, c := range Codes() {
		known[c.Code] = true
	}
	for i := range rows {
		r := &rows[i]
		re, err := regexp.Compile(r.Pattern)
		if err != nil {
			return nil, fmt.Errorf("storage: signatures.json: row %s: %w", r.ID, err)
		}
		if r.ID == "" || r.Says == "" || r.WayOut == "" || r.Source == "" || !known[r.Code] {
			return nil, fmt.Errorf("storage: signatures.json: row %d (%s): id, says, way_out, source and a code of codes.go are required", i, r.ID)
		}
		for _, s := range r.Stages {
			if !slices.Contains([]string{stageAttach, stageMount, stageProvision, stageDetach}, s) {
				return nil, fmt.Errorf("storage: signatures.json: row %s: unknown stage %q", r.ID, s)
			}
		}
		r.re = re
	}
	return rows, nil
}

// read finds the row whose words a message says, and the facts in it.
func (t *Toolset) read(stage, message string) (*sign, map[string]string) {
	for i := range t.signs {
		s := &t.signs[i]
		if len(s.Stages) > 0 && !slices.Contains(s.Stages, stage) {
			continue
		}
		m := s.re.FindStringSubmatch(message)
		if m == nil {
			continue
		}
		facts := map[string]string{}
		for k, name := range s.re.SubexpNames() {
			if name != "" && m[k] != "" {
				facts[name] = m[k]
			}
		}
		return s, facts
	}
	return nil, nil
}

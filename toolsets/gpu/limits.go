package gpu

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"time"
)

//go:embed limits.json
var rawLimits []byte

// limit is one threshold, with where it comes from.
type limit struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Minutes int     `json:"minutes"`
	Source  string  `json:"source"`
}

func (l limit) window() time.Duration { return time.Duration(l.Minutes) * time.Minute }

// limits by name.
type limits map[string]limit

// wanted are the thresholds that the judgements name.
func wanted() []string {
	return []string{"temperature", "memory_temperature", "load", "throttled", "violation", "apart", "replays", "nvlink_errors", "sbe"}
}

// loadLimits reads the thresholds that ship; each is there, positive and sourced.
func loadLimits() (limits, error) {
	var list []limit
	if err := json.Unmarshal(rawLimits, &list); err != nil {
		return nil, fmt.Errorf("thresholds: %w", err)
	}
	out := limits{}
	for _, l := range list {
		if l.Value <= 0 || l.Minutes <= 0 || l.Unit == "" || l.Source == "" {
			return nil, fmt.Errorf("threshold %q: value, unit, minutes and source are required", l.Name)
		}
		out[l.Name] = l
	}
	for _, n := range wanted() {
		if _, ok := out[n]; !ok {
			return nil, fmt.Errorf("threshold %q is missing", n)
		}
	}
	return out, nil
}

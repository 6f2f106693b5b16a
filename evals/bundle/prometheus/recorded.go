package prometheus

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// recorded is what a capture kept of the answers that are no series. A nil
// field means that the bundle has none, and that it is derived.
type recorded struct {
	targets  *targetDiscovery
	rules    []ruleGroup
	hasRules bool
	metadata map[string][]metadata
	build    map[string]string
}

// metadata of a metric, as /api/v1/metadata gives it.
type metadata struct {
	Type string `json:"type"`
	Unit string `json:"unit"`
	Help string `json:"help"`
}

// targetDiscovery is the data of /api/v1/targets.
type targetDiscovery struct {
	Active  []target        `json:"activeTargets"`
	Dropped []droppedTarget `json:"droppedTargets"`
	Counts  map[string]int  `json:"droppedTargetCounts"`
}

type droppedTarget struct {
	Discovered map[string]string `json:"discoveredLabels"`
	ScrapePool string            `json:"scrapePool"`
}

type target struct {
	Discovered map[string]string `json:"discoveredLabels"`
	Labels     map[string]string `json:"labels"`
	ScrapePool string            `json:"scrapePool"`
	ScrapeURL  string            `json:"scrapeUrl"`
	GlobalURL  string            `json:"globalUrl"`
	LastError  string            `json:"lastError"`
	LastScrape time.Time         `json:"lastScrape"`
	Duration   float64           `json:"lastScrapeDuration"`
	Health     string            `json:"health"`
	Interval   string            `json:"scrapeInterval"`
	Timeout    string            `json:"scrapeTimeout"`
}

// ruleGroup is one group of /api/v1/rules. The rules are *alertingRule or
// *recordingRule, in the order of the file.
type ruleGroup struct {
	Name           string    `json:"name"`
	File           string    `json:"file"`
	Rules          []any     `json:"rules"`
	Interval       float64   `json:"interval"`
	Limit          int       `json:"limit"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
}

type recordingRule struct {
	Name           string        `json:"name"`
	Query          string        `json:"query"`
	Labels         labels.Labels `json:"labels"`
	Health         string        `json:"health"`
	LastError      string        `json:"lastError,omitempty"`
	EvaluationTime float64       `json:"evaluationTime"`
	LastEvaluation time.Time     `json:"lastEvaluation"`
	Type           string        `json:"type"`
}

type alertingRule struct {
	State          string        `json:"state"`
	Name           string        `json:"name"`
	Query          string        `json:"query"`
	Duration       float64       `json:"duration"`
	KeepFiringFor  float64       `json:"keepFiringFor"`
	Labels         labels.Labels `json:"labels"`
	Annotations    labels.Labels `json:"annotations"`
	Alerts         []alert       `json:"alerts"`
	Health         string        `json:"health"`
	LastError      string        `json:"lastError,omitempty"`
	EvaluationTime float64       `json:"evaluationTime"`
	LastEvaluation time.Time     `json:"lastEvaluation"`
	Type           string        `json:"type"`
}

// alert is one active alert of /api/v1/alerts.
type alert struct {
	Labels          labels.Labels `json:"labels"`
	Annotations     labels.Labels `json:"annotations"`
	State           string        `json:"state"`
	ActiveAt        *time.Time    `json:"activeAt,omitempty"`
	KeepFiringSince *time.Time    `json:"keepFiringSince,omitempty"`
	Value           string        `json:"value"`
}

// ruleData is the data of /api/v1/rules.
type ruleData struct {
	Groups []ruleGroup `json:"groups"`
}

// UnmarshalJSON implements json.Unmarshaler: the type of a rule says what it is.
func (g *ruleGroup) UnmarshalJSON(raw []byte) error {
	type plain ruleGroup
	aux := struct {
		*plain
		Rules []json.RawMessage `json:"rules"`
	}{plain: (*plain)(g)}
	if err := json.Unmarshal(raw, &aux); err != nil {
		return err
	}
	g.Rules = make([]any, 0, len(aux.Rules))
	for i, r := range aux.Rules {
		var kind struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(r, &kind); err != nil {
			return fmt.Errorf("rule %d of group %q: %w", i, g.Name, err)
		}
		var rule any
		switch kind.Type {
		case "alerting":
			rule = &alertingRule{}
		case "recording":
			rule = &recordingRule{}
		default:
			return fmt.Errorf("rule %d of group %q has type %q; it is alerting or recording", i, g.Name, kind.Type)
		}
		if err := json.Unmarshal(r, rule); err != nil {
			return fmt.Errorf("rule %d of group %q: %w", i, g.Name, err)
		}
		g.Rules = append(g.Rules, rule)
	}
	return nil
}

// read takes in one recorded answer by the name of its file.
func (r *recorded) read(name string, raw []byte) error {
	switch name {
	case path.Join(metricsDir, "targets.json"):
		r.targets = &targetDiscovery{}
		return json.Unmarshal(raw, r.targets)
	case path.Join(metricsDir, "buildinfo.json"):
		return json.Unmarshal(raw, &r.build)
	case path.Join(metricsDir, "metadata.json"):
		var all map[string][]metadata
		if err := json.Unmarshal(raw, &all); err != nil {
			return err
		}
		for metric, list := range all {
			for _, m := range list {
				r.describe(metric, func(to *metadata) { *to = m })
			}
		}
		return nil
	case path.Join(rulesDir, "state.json"):
		var d ruleData
		if err := json.Unmarshal(raw, &d); err != nil {
			return err
		}
		r.rules, r.hasRules = d.Groups, true
		return nil
	}
	return fmt.Errorf("no answer that is replayed; the recorded ones are %s/{targets,metadata,buildinfo}.json and %s/state.json", metricsDir, rulesDir)
}

// describe sets a part of what is known of a metric.
func (r *recorded) describe(metric string, set func(*metadata)) {
	if r.metadata == nil {
		r.metadata = map[string][]metadata{}
	}
	have := r.metadata[metric]
	if len(have) == 0 {
		have = []metadata{{Type: "unknown"}}
	}
	m := have[0]
	set(&m)
	if !slices.Contains(have, m) {
		have[0] = m
	}
	r.metadata[metric] = have
}

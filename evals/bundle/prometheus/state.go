package prometheus

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// rules answers /api/v1/rules with its filters by type, name, group and file.
func (s *Server) rules(r *http.Request) (result, error) {
	if err := r.ParseForm(); err != nil {
		return result{}, &failure{badData, fmt.Errorf("error parsing form values: %w", err)}
	}
	kind := strings.ToLower(r.Form.Get("type"))
	if kind != "" && kind != "alert" && kind != "record" {
		return result{}, badParam("type", fmt.Errorf("not supported value %q", kind))
	}
	bare := false
	if v := r.Form.Get("exclude_alerts"); v != "" {
		var err error
		if bare, err = strconv.ParseBool(v); err != nil {
			return result{}, badParam("exclude_alerts", err)
		}
	}
	wanted := func(param, v string) bool { return len(r.Form[param]) == 0 || slices.Contains(r.Form[param], v) }
	out := ruleData{Groups: []ruleGroup{}}
	for _, g := range s.derive().groups {
		if !wanted("rule_group[]", g.Name) || !wanted("file[]", g.File) {
			continue
		}
		kept := []any{}
		for _, rule := range g.Rules {
			switch rule := rule.(type) {
			case *alertingRule:
				if kind == "record" || !wanted("rule_name[]", rule.Name) {
					continue
				}
				if bare {
					without := *rule
					without.Alerts = nil
					rule = &without
				}
				kept = append(kept, rule)
			case *recordingRule:
				if kind != "alert" && wanted("rule_name[]", rule.Name) {
					kept = append(kept, rule)
				}
			}
		}
		if len(kept) > 0 {
			g.Rules = kept
			out.Groups = append(out.Groups, g)
		}
	}
	return result{data: out}, nil
}

// activeAlerts answers /api/v1/alerts.
func (s *Server) activeAlerts(*http.Request) (result, error) {
	out := []alert{}
	for _, g := range s.derive().groups {
		for _, rule := range g.Rules {
			if a, ok := rule.(*alertingRule); ok {
				out = append(out, a.Alerts...)
			}
		}
	}
	return result{data: map[string]any{"alerts": out}}, nil
}

// targets answers /api/v1/targets, filtered by state and scrape pool.
func (s *Server) targets(r *http.Request) (result, error) {
	d := s.rec.targets
	if d == nil {
		d = s.fromUp()
	}
	state, pool := strings.ToLower(r.FormValue("state")), r.FormValue("scrapePool")
	out := targetDiscovery{Active: []target{}, Dropped: []droppedTarget{}, Counts: map[string]int{}}
	if state != "dropped" {
		for _, t := range d.Active {
			if pool == "" || t.ScrapePool == pool {
				out.Active = append(out.Active, t)
			}
		}
	}
	if state != "active" {
		for _, t := range d.Dropped {
			if pool == "" || t.ScrapePool == pool {
				out.Dropped = append(out.Dropped, t)
			}
		}
		maps.Copy(out.Counts, d.Counts)
	}
	return result{data: out}, nil
}

// fresh is how old the last point of up may be: Prometheus' lookback.
const fresh = 5 * time.Minute

// fromUp derives the targets from the series up, which has one for each target
// that was scraped: 1 when the last scrape worked.
func (s *Server) fromUp() *targetDiscovery {
	d := &targetDiscovery{}
	for _, at := range s.store.byName["up"] {
		ps := at.between(s.now.Add(-fresh).UnixMilli(), s.now.UnixMilli())
		if len(ps) == 0 {
			continue
		}
		last := ps[len(ps)-1]
		if value.IsStaleNaN(last.f) {
			continue
		}
		ls := labels.NewBuilder(at.labels).Del(model.MetricNameLabel).Labels().Map()
		t := target{Discovered: map[string]string{"__address__": ls["instance"], "job": ls["job"]}, Labels: ls, ScrapePool: ls["job"],
			ScrapeURL: "http://" + ls["instance"] + "/metrics", GlobalURL: "http://" + ls["instance"] + "/metrics", LastScrape: time.UnixMilli(last.t).UTC(), Health: "up", Interval: "1m", Timeout: "10s"}
		if last.f != 1 {
			t.Health = "down"
		}
		d.Active = append(d.Active, t)
	}
	return d
}

// metadata answers /api/v1/metadata.
func (s *Server) metadata(r *http.Request) (result, error) {
	number := func(name string) (int, error) {
		v := r.FormValue(name)
		if v == "" {
			return -1, nil
		}
		n, err := strconv.Atoi(v)
		if err != nil {
			return 0, &failure{badData, errors.New(name + " must be a number")}
		}
		return n, nil
	}
	most, err := number("limit")
	if err != nil {
		return result{}, err
	}
	each, err := number("limit_per_metric")
	if err != nil {
		return result{}, err
	}
	only := r.FormValue("metric")
	out := map[string][]metadata{}
	for _, name := range slices.Sorted(maps.Keys(s.rec.metadata)) {
		if only != "" && name != only {
			continue
		}
		if most >= 0 && len(out) >= most {
			break
		}
		list := s.rec.metadata[name]
		if each > 0 && len(list) > each {
			list = list[:each]
		}
		out[name] = list
	}
	return result{data: out}, nil
}

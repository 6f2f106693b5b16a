package prometheus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// alertmanager answers for the Alertmanager of a bundle, with the shapes of its
// API v2: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
type alertmanager struct {
	// present is false when the bundle has no alerts of an Alertmanager.
	present bool
	now     time.Time
	parser  parser.Parser
	alerts  []amAlert
	rest    amRest
}

// amRest is alertmanager.json.
type amRest struct {
	Status    json.RawMessage `json:"status,omitempty"`
	Silences  []amSilence     `json:"silences,omitempty"`
	Receivers []amReceiver    `json:"receivers,omitempty"`
	Groups    []amGroup       `json:"groups,omitempty"`
}

type amReceiver struct {
	Name string `json:"name"`
}

// amAlert is a gettableAlert.
type amAlert struct {
	Annotations  map[string]string `json:"annotations"`
	EndsAt       time.Time         `json:"endsAt"`
	Fingerprint  string            `json:"fingerprint"`
	Receivers    []amReceiver      `json:"receivers"`
	StartsAt     time.Time         `json:"startsAt"`
	Status       amStatus          `json:"status"`
	UpdatedAt    time.Time         `json:"updatedAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
	Labels       map[string]string `json:"labels"`
}

type amStatus struct {
	InhibitedBy []string `json:"inhibitedBy"`
	MutedBy     []string `json:"mutedBy"`
	SilencedBy  []string `json:"silencedBy"`
	// State is active, suppressed or unprocessed.
	State string `json:"state"`
}

// amSilence is a gettableSilence.
type amSilence struct {
	ID     string `json:"id"`
	Status struct {
		// State is active, pending or expired.
		State string `json:"state"`
	} `json:"status"`
	UpdatedAt time.Time   `json:"updatedAt"`
	Comment   string      `json:"comment"`
	CreatedBy string      `json:"createdBy"`
	EndsAt    time.Time   `json:"endsAt"`
	Matchers  []amMatcher `json:"matchers"`
	StartsAt  time.Time   `json:"startsAt"`
}

type amMatcher struct {
	IsEqual *bool  `json:"isEqual,omitempty"`
	IsRegex bool   `json:"isRegex"`
	Name    string `json:"name"`
	Value   string `json:"value"`
}

// amGroup is an alertGroup.
type amGroup struct {
	Alerts   []amAlert         `json:"alerts"`
	Labels   map[string]string `json:"labels"`
	Receiver amReceiver        `json:"receiver"`
}

// openAlertmanager reads alerts.json and alertmanager.json.
func openAlertmanager(r *reader) (*alertmanager, error) {
	a := &alertmanager{now: r.now, parser: r.parser}
	for name, into := range map[string]any{alertsFile: &a.alerts, alertmanagerFile: &a.rest} {
		raw, err := r.bytes(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		a.present = true
	}
	for i := range a.alerts {
		if err := a.complete(&a.alerts[i]); err != nil {
			return nil, fmt.Errorf("%s: alert %d: %w", alertsFile, i, err)
		}
	}
	for i := range a.rest.Silences {
		a.completeSilence(&a.rest.Silences[i])
	}
	return a, nil
}

// complete fills in what every alert of a real server has, so that a hand-written
// one may be short.
func (a *alertmanager) complete(al *amAlert) error {
	if al.Labels["alertname"] == "" {
		return errors.New("labels.alertname is required")
	}
	if al.Annotations == nil {
		al.Annotations = map[string]string{}
	}
	if len(al.Receivers) == 0 {
		al.Receivers = []amReceiver{{Name: "default"}}
	}
	for _, list := range []*[]string{&al.Status.InhibitedBy, &al.Status.MutedBy, &al.Status.SilencedBy} {
		if *list == nil {
			*list = []string{}
		}
	}
	if al.StartsAt.IsZero() {
		al.StartsAt = a.now.Add(-time.Hour)
	}
	if al.UpdatedAt.IsZero() {
		al.UpdatedAt = a.now
	}
	if al.EndsAt.IsZero() {
		al.EndsAt = a.now.Add(4 * time.Minute)
	}
	if al.Status.State == "" {
		al.Status.State = "active"
		if len(al.Status.SilencedBy)+len(al.Status.InhibitedBy)+len(al.Status.MutedBy) > 0 {
			al.Status.State = "suppressed"
		}
	}
	if al.Fingerprint == "" {
		al.Fingerprint = fmt.Sprintf("%016x", labels.FromMap(al.Labels).Hash())
	}
	return nil
}

func (a *alertmanager) completeSilence(s *amSilence) {
	if s.Status.State == "" {
		switch {
		case a.now.Before(s.StartsAt):
			s.Status.State = "pending"
		case !a.now.Before(s.EndsAt):
			s.Status.State = "expired"
		default:
			s.Status.State = "active"
		}
	}
	if s.Matchers == nil {
		s.Matchers = []amMatcher{}
	}
}

// routes registers the API, if the bundle has it.
func (a *alertmanager) routes(mux *http.ServeMux) {
	if !a.present {
		return
	}
	get := func(p string, f func(*http.Request) (any, error)) {
		mux.HandleFunc("GET /api/v2/"+p, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			data, err := f(r)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				data = err.Error()
			}
			_ = json.NewEncoder(w).Encode(data)
		})
	}
	get("status", a.status)
	get("receivers", a.receivers)
	get("silences", a.silences)
	get("alerts", a.list)
	get("alerts/groups", a.groups)
	mux.HandleFunc("GET /api/v2/silence/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		i := slices.IndexFunc(a.rest.Silences, func(s amSilence) bool { return s.ID == r.PathValue("id") })
		if i < 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(a.rest.Silences[i])
	})
}

func (a *alertmanager) status(*http.Request) (any, error) {
	if len(a.rest.Status) > 0 {
		return a.rest.Status, nil
	}
	return map[string]any{
		"cluster":     map[string]any{"status": "disabled", "peers": []any{}},
		"config":      map[string]string{"original": ""},
		"uptime":      a.now,
		"versionInfo": map[string]string{"version": "0.0.0-bundle", "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": runtime.Version()},
	}, nil
}

func (a *alertmanager) receivers(*http.Request) (any, error) {
	if a.rest.Receivers != nil {
		return a.rest.Receivers, nil
	}
	seen := map[string]bool{}
	for _, al := range a.alerts {
		for _, r := range al.Receivers {
			seen[r.Name] = true
		}
	}
	out := []amReceiver{}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, amReceiver{name})
	}
	return out, nil
}

// filter is what a request wants to see of alerts.
type filter struct {
	matchers                               []*labels.Matcher
	active, silenced, inhibited, unprocess bool
	receiver                               *regexp.Regexp
}

func (a *alertmanager) filter(r *http.Request) (filter, error) {
	f := filter{}
	for name, into := range map[string]*bool{"active": &f.active, "silenced": &f.silenced, "inhibited": &f.inhibited, "unprocessed": &f.unprocess} {
		*into = true
		if v := r.FormValue(name); v != "" {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return f, fmt.Errorf("parsing %s boolean from %q failed: %w", name, v, err)
			}
			*into = b
		}
	}
	var err error
	if f.matchers, err = a.matchers(r); err != nil {
		return f, err
	}
	if v := r.FormValue("receiver"); v != "" {
		if f.receiver, err = regexp.Compile("^(?:" + v + ")$"); err != nil {
			return f, fmt.Errorf("failed to parse receiver param: %w", err)
		}
	}
	return f, nil
}

// matchers reads the filters of a request: alertname="X", severity=~"warn.*".
func (a *alertmanager) matchers(r *http.Request) ([]*labels.Matcher, error) {
	var out []*labels.Matcher
	for _, text := range r.Form["filter"] {
		text = strings.TrimSpace(text)
		if !strings.HasPrefix(text, "{") {
			text = "{" + text + "}"
		}
		ms, err := a.parser.ParseMetricSelector(text)
		if err != nil {
			return nil, fmt.Errorf("bad matcher format: %w", err)
		}
		out = append(out, ms...)
	}
	return out, nil
}

func (f filter) keeps(al amAlert) bool {
	switch {
	case !f.silenced && len(al.Status.SilencedBy) > 0,
		!f.inhibited && len(al.Status.InhibitedBy) > 0,
		!f.active && al.Status.State == "active",
		!f.unprocess && al.Status.State == "unprocessed":
		return false
	case f.receiver != nil && !slices.ContainsFunc(al.Receivers, func(r amReceiver) bool { return f.receiver.MatchString(r.Name) }):
		return false
	}
	return !slices.ContainsFunc(f.matchers, func(m *labels.Matcher) bool { return !m.Matches(al.Labels[m.Name]) })
}

// list answers /alerts. An alert that ended is gone, as in Alertmanager.
func (a *alertmanager) list(r *http.Request) (any, error) {
	f, err := a.filter(r)
	if err != nil {
		return nil, err
	}
	out := []amAlert{}
	for _, al := range a.alerts {
		if al.EndsAt.After(a.now) && f.keeps(al) {
			out = append(out, al)
		}
	}
	return out, nil
}

// groups answers /alerts/groups: as recorded, else by receiver and alert name.
func (a *alertmanager) groups(r *http.Request) (any, error) {
	f, err := a.filter(r)
	if err != nil {
		return nil, err
	}
	groups := a.rest.Groups
	if groups == nil {
		groups = a.byName()
	}
	out := []amGroup{}
	for _, g := range groups {
		kept := []amAlert{}
		for _, al := range g.Alerts {
			if al.EndsAt.After(a.now) && f.keeps(al) {
				kept = append(kept, al)
			}
		}
		if len(kept) > 0 {
			g.Alerts = kept
			out = append(out, g)
		}
	}
	return out, nil
}

func (a *alertmanager) byName() []amGroup {
	var out []amGroup
	for _, al := range a.alerts {
		for _, rcv := range al.Receivers {
			i := slices.IndexFunc(out, func(g amGroup) bool { return g.Receiver == rcv && g.Labels["alertname"] == al.Labels["alertname"] })
			if i < 0 {
				out = append(out, amGroup{Receiver: rcv, Labels: map[string]string{"alertname": al.Labels["alertname"]}})
				i = len(out) - 1
			}
			out[i].Alerts = append(out[i].Alerts, al)
		}
	}
	return out
}

func (a *alertmanager) silences(r *http.Request) (any, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	ms, err := a.matchers(r)
	if err != nil {
		return nil, err
	}
	out := []amSilence{}
	for _, s := range a.rest.Silences {
		fits := true
		for _, m := range ms {
			fits = fits && slices.ContainsFunc(s.Matchers, func(o amMatcher) bool { return o.Name == m.Name && m.Matches(o.Value) })
		}
		if fits {
			out = append(out, s)
		}
	}
	return out, nil
}

package alertmanager

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// Config is the section server.alertmanager of the configuration. Durations that
// are left out have the defaults below.
type Config struct {
	// Auth says who may post alerts. Without any, only this machine may.
	Auth AuthConfig `json:"auth,omitzero"`
	// Routes decide what becomes of an alert; the first that matches counts. What
	// none matches is investigated: with priority high where the label severity is
	// critical or page, else low.
	Routes []Route `json:"routes,omitempty"`
	// QuietHours hold investigations of low priority back until they end. Those of
	// high priority are never held.
	QuietHours []QuietHours `json:"quietHours,omitempty"`
	// CorrelationWindow is how far apart in time alerts of one incident may be.
	CorrelationWindow access.Duration `json:"correlationWindow,omitempty"`
	// Wait is how long alerts wait for the end of an investigation in the same
	// namespace or on the same node before they get one of their own.
	Wait access.Duration `json:"wait,omitempty"`
	// FlapWindow is how long after its end an incident is taken up again by the same
	// alerts instead of a new one.
	FlapWindow access.Duration `json:"flapWindow,omitempty"`
	// RecheckEvery is the least time between two questions that the desk itself puts
	// to one incident.
	RecheckEvery access.Duration `json:"recheckEvery,omitempty"`
	Budgets      BudgetConfig    `json:"budgets,omitzero"`
	// ResultWebhook takes what investigations of alerts found.
	ResultWebhook ResultConfig `json:"resultWebhook,omitzero"`
	// AnnotateURL is the base of an Alertmanager, without /api/v2, whose alerts get the
	// annotation "gumshoe" with the finding; see the guide for what that does. Empty
	// annotates nothing.
	AnnotateURL string `json:"annotateURL,omitempty"`
	// Annotate says how AnnotateURL is reached.
	Annotate ClientConfig `json:"annotate,omitzero"`
	// Link is the base of the web page, for links in results: "https://gumshoe.example".
	Link string `json:"link,omitempty"`
}

// Defaults of Config.
const (
	DefaultCorrelationWindow = 30 * time.Minute
	DefaultWait              = 2 * time.Minute
	DefaultFlapWindow        = 10 * time.Minute
	DefaultRecheckEvery      = 10 * time.Minute
	DefaultPerHour           = 20
	DefaultPerDay            = 100
)

// AuthConfig names the ways in; each that is set is one. Secrets are read from their
// files at each use, so that they can be changed in place.
type AuthConfig struct {
	// BearerTokenFile holds the token of "Authorization: Bearer".
	BearerTokenFile string `json:"bearerTokenFile,omitempty"`
	// Username and PasswordFile are those of basic authentication.
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
	// HMACSecretFile holds the secret that signs "timestamp.body"; see the headers
	// HeaderTimestamp and HeaderSignature.
	HMACSecretFile string `json:"hmacSecretFile,omitempty"`
}

// Route says what becomes of the alerts that all its matchers fit.
type Route struct {
	// Match are matchers in Alertmanager's notation.
	Match []string `json:"match"`
	// Ignore takes the alert and does nothing about it.
	Ignore bool `json:"ignore,omitempty"`
	// Priority is high, normal or low; empty goes by the severity.
	Priority session.Priority `json:"priority,omitempty"`
	// Slack is the id of the channel in which the incident is told.
	Slack string `json:"slack,omitempty"`
	// NoWebhook keeps the result from the result webhook.
	NoWebhook bool `json:"noWebhook,omitempty"`

	matchers []Matcher
}

// QuietHours is a part of the week. With To before From it reaches into the next day.
type QuietHours struct {
	// Days are mon, tue, wed, thu, fri, sat, sun: those on which it begins; empty is
	// every day.
	Days []string `json:"days,omitempty"`
	// From and To are HH:MM; equal ones mean the whole day.
	From string `json:"from"`
	To   string `json:"to"`
	// Timezone is a name such as Europe/Berlin; empty is UTC.
	Timezone string `json:"timezone,omitempty"`

	from, to time.Duration
	zone     *time.Location
}

// BudgetConfig bounds how many investigations alerts may start. A quarter of each is
// kept for those of high priority.
type BudgetConfig struct {
	PerHour int `json:"perHour,omitempty"`
	PerDay  int `json:"perDay,omitempty"`
}

// ResultConfig is where results are posted.
type ResultConfig struct {
	URL string `json:"url,omitempty"`
	// HMACSecretFile signs what is posted, with the headers that the webhook for alerts
	// reads; empty signs nothing.
	HMACSecretFile string       `json:"hmacSecretFile,omitempty"`
	Client         ClientConfig `json:"client,omitzero"`
}

// Validate names the field that is wrong, with a way out.
func (c Config) Validate() error {
	_, err := c.prepare()
	return err
}

// prepare checks a configuration and fills in what it leaves out.
func (c Config) prepare() (Config, error) {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("alertmanager.%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if (c.Auth.Username == "") != (c.Auth.PasswordFile == "") {
		bad("auth", "username and passwordFile go together")
	}
	c.Routes = slices.Clone(c.Routes)
	for i := range c.Routes {
		r, field := &c.Routes[i], fmt.Sprintf("routes[%d]", i)
		var err error
		if r.matchers, err = parseMatchers(r.Match); err != nil {
			bad(field+".match", "%v", err)
		}
		if len(r.Match) == 0 && i < len(c.Routes)-1 {
			bad(field+".match", "it matches every alert, so the routes below are never used; put it last")
		}
		if r.Priority != "" && !slices.Contains(session.Priorities(), r.Priority) {
			bad(field+".priority", "%q is none of high, normal, low", r.Priority)
		}
		if r.Ignore && (r.Slack != "" || r.Priority != "") {
			bad(field+".ignore", "an alert that is ignored has neither priority nor channel; leave them out")
		}
		if strings.ContainsAny(r.Slack, "/# ") {
			bad(field+".slack", "%q is no id of a channel, such as C0123456789", r.Slack)
		}
	}
	c.QuietHours = slices.Clone(c.QuietHours)
	for i := range c.QuietHours {
		if err := c.QuietHours[i].read(); err != nil {
			bad(fmt.Sprintf("quietHours[%d]", i), "%v", err)
		}
	}
	for _, d := range []struct {
		field string
		value *access.Duration
		def   time.Duration
	}{
		{"correlationWindow", &c.CorrelationWindow, DefaultCorrelationWindow}, {"wait", &c.Wait, DefaultWait},
		{"flapWindow", &c.FlapWindow, DefaultFlapWindow}, {"recheckEvery", &c.RecheckEvery, DefaultRecheckEvery},
	} {
		if *d.value < 0 || time.Duration(*d.value) > 24*time.Hour {
			bad(d.field, "%s is not between 0 and 24h", time.Duration(*d.value))
		}
		if *d.value == 0 {
			*d.value = access.Duration(d.def)
		}
	}
	if c.Budgets.PerHour < 0 || c.Budgets.PerDay < 0 {
		bad("budgets", "perHour and perDay are not negative; to investigate nothing, add a route with ignore")
	}
	c.Budgets.PerHour = cmp.Or(c.Budgets.PerHour, DefaultPerHour)
	c.Budgets.PerDay = cmp.Or(c.Budgets.PerDay, DefaultPerDay)
	for field, v := range map[string]string{"resultWebhook.url": c.ResultWebhook.URL, "annotateURL": c.AnnotateURL, "link": c.Link} {
		if v == "" {
			continue
		}
		if _, err := baseURL(v); err != nil {
			bad(field, "%v", err)
		}
	}
	if c.ResultWebhook.URL == "" && c.ResultWebhook.HMACSecretFile != "" {
		bad("resultWebhook.url", "it is empty and hmacSecretFile is not; name the address, or leave the section out")
	}
	for field, cc := range map[string]ClientConfig{"resultWebhook.client": c.ResultWebhook.Client, "annotate": c.Annotate} {
		if err := cc.Validate(); err != nil {
			bad(field, "%v", err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return c, errors.Join(errs...)
}

// baseURL accepts an http or https address.
func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address such as https://alertmanager.example:9093", s)
	}
	if u.User != nil {
		return nil, errors.New("the address holds a user or a password; keep them in a file")
	}
	return u, nil
}

// routing is what the routes say of an alert.
type routing struct {
	ignore   bool
	priority session.Priority
	slack    string
	webhook  bool
}

// route finds what becomes of an alert.
func (c Config) route(a incident.Alert) routing {
	out := routing{priority: session.Low, webhook: true}
	switch strings.ToLower(a.Labels["severity"]) {
	case "critical", "page", "emergency":
		out.priority = session.High
	}
	for _, r := range c.Routes {
		if slices.ContainsFunc(r.matchers, func(m Matcher) bool { return !m.Matches(a.Labels) }) {
			continue
		}
		out.ignore, out.slack, out.webhook = r.Ignore, r.Slack, !r.NoWebhook
		if r.Priority != "" {
			out.priority = r.Priority
		}
		break
	}
	return out
}

// read checks quiet hours and keeps them in a form to count with.
func (q *QuietHours) read() error {
	var err error
	if q.from, err = clock(q.From); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if q.to, err = clock(q.To); err != nil {
		return fmt.Errorf("to: %w", err)
	}
	for _, d := range q.Days {
		if _, ok := weekday(d); !ok {
			return fmt.Errorf("days: %q is none of mon, tue, wed, thu, fri, sat, sun", d)
		}
	}
	if q.zone, err = time.LoadLocation(q.Timezone); err != nil {
		return fmt.Errorf("timezone: %q is not known here, such as Europe/Berlin", q.Timezone)
	}
	return nil
}

func clock(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time such as 22:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

func weekday(s string) (time.Weekday, bool) {
	i := slices.Index([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, strings.ToLower(s))
	return time.Weekday(i), i >= 0
}

// until gives when the quiet hours end in which now lies, zero if it lies in none.
// Times of day are those of the wall, also on days that are an hour shorter.
func (q QuietHours) until(now time.Time) time.Time {
	local := now.In(q.zone)
	for _, back := range []int{0, 1} { // those that began today or yesterday
		day := time.Date(local.Year(), local.Month(), local.Day()-back, 0, 0, 0, 0, q.zone)
		if len(q.Days) > 0 && !slices.ContainsFunc(q.Days, func(s string) bool { d, _ := weekday(s); return d == day.Weekday() }) {
			continue
		}
		at := func(d time.Duration, more int) time.Time {
			return time.Date(day.Year(), day.Month(), day.Day()+more, int(d.Hours()), int(d.Minutes())%60, 0, 0, q.zone)
		}
		over := 0
		if q.to <= q.from {
			over = 1
		}
		if from, to := at(q.from, 0), at(q.to, over); !now.Before(from) && now.Before(to) {
			return to
		}
	}
	return time.Time{}
}

// quiet gives when low priorities are worked on again, zero if they are now. Hours
// that follow on each other count as one.
func (c Config) quiet(now time.Time) time.Time {
	var end time.Time
	at := now
	for range 14 {
		var next time.Time
		for _, q := range c.QuietHours {
			if u := q.until(at); u.After(next) {
				next = u
			}
		}
		if next.IsZero() {
			return end
		}
		end, at = next, next
	}
	return end
}

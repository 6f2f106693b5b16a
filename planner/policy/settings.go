package policy

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a change window means the same where no zone files are installed
)

// Modes.
const (
	// ReadOnly denies every plan.
	ReadOnly = "read_only"
	// Approve lets a person ask for a plan; nothing is executed without consent.
	Approve = "approve"
)

// Who may approve what they asked for.
const (
	// SelfNever: somebody else has to approve.
	SelfNever = "never"
	// SelfDiagnosis: the requester may give one approval of a plan that gumshoe made
	// from a validated diagnosis, never of one that was written by hand.
	SelfDiagnosis = "diagnosis"
	// SelfAlways: the requester and the author may give one approval.
	SelfAlways = "always"
)

// RoleAdmin is the role that may reset the circuit breaker.
const RoleAdmin = "admin"

// RoleApprover is the role that an approver needs, when it is given to anybody.
const RoleApprover = "approver"

// Settings stand beside the rules, in the same files. What a later file says wins,
// field by field.
type Settings struct {
	// Mode is read_only or approve.
	Mode string `json:"mode"`
	// Surfaces are where a person asks; callers from anywhere else are automated
	// and denied.
	Surfaces []string `json:"surfaces"`
	// MaxOpenRequests is how many plans may wait for approval at a time.
	MaxOpenRequests int `json:"maxOpenRequests"`
	// PlanTTL is how long a plan can be approved and executed; ApprovalTTL how long
	// an approval counts.
	PlanTTL     Duration `json:"planTTL"`
	ApprovalTTL Duration `json:"approvalTTL"`
	// SelfApproval is never, diagnosis or always.
	SelfApproval string `json:"selfApproval"`
	// SystemNamespaces are those that the cluster itself lives on; "*" stands for
	// any characters.
	SystemNamespaces []string `json:"systemNamespaces"`
	// Windows are times with a name; rules find the names of the open ones in "windows".
	Windows      []Window     `json:"windows"`
	Breaker      Breaker      `json:"breaker"`
	DirectGitOps DirectGitOps `json:"directGitOps"`
	BreakGlass   BreakGlass   `json:"breakGlass"`
	// AllowProbe lets checks touch a workload, such as a request for one token.
	AllowProbe bool `json:"allowProbe"`
	// Roles give roles to people: admin, approver and that of break-glass.
	Roles map[string]Subjects `json:"roles"`
}

// Subjects are people by their name or group in the cluster.
type Subjects struct {
	Users  []string `json:"users,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// Window is a time of the week, or a stretch between two moments.
type Window struct {
	Name string `json:"name"`
	// Days are mon, tue, ...; empty means every day. From and To are "HH:MM" in
	// Timezone (default UTC). A window whose To is not after From ends on the next day.
	Days     []string `json:"days,omitempty"`
	From     string   `json:"from,omitempty"`
	To       string   `json:"to,omitempty"`
	Timezone string   `json:"timezone,omitempty"`
	// Begins and Ends are moments; they stand instead of Days, From and To.
	Begins time.Time `json:"begins,omitzero"`
	Ends   time.Time `json:"ends,omitzero"`
}

// Breaker stops everything when much was done and more is asked for; only a person
// resets it.
type Breaker struct {
	// NodeShare is the share of the cluster's nodes, above 0 and at most 1, and Nodes
	// the number of nodes: when so many were touched within Window, no plan touches
	// another. A share of less than three nodes counts as three.
	NodeShare float64 `json:"nodeShare"`
	Nodes     int     `json:"nodes"`
	// Actions is how many steps may have been executed within Window.
	Actions int      `json:"actions"`
	Window  Duration `json:"window"`
}

// DirectGitOps lets steps change objects that a repository delivers, for a time.
type DirectGitOps struct {
	Allow   bool      `json:"allow"`
	Expires time.Time `json:"expires,omitzero"`
}

// BreakGlass is the way around ordinary consent, for minutes and one cluster.
type BreakGlass struct {
	// Role that the requester needs.
	Role string `json:"role"`
	// TTL is the longest life of such a plan, at most an hour.
	TTL Duration `json:"ttl"`
	// Cluster is the only one it is for; empty switches it off.
	Cluster string `json:"cluster"`
}

// Duration is written "30m" or "12h".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return fmt.Errorf("%s is not a duration in quotes such as \"30m\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30m or 12h", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(strconv.Quote(time.Duration(d).String())), nil
}

// longest is how long a plan or an approval may live.
const longest = 30 * 24 * time.Hour

// validate checks the settings; the error names field, value and way out.
func (s Settings) validate() error {
	b := s.Breaker
	switch {
	case s.Mode != ReadOnly && s.Mode != Approve:
		return fmt.Errorf("settings.mode %q is neither %s nor %s", s.Mode, ReadOnly, Approve)
	case s.SelfApproval != SelfNever && s.SelfApproval != SelfDiagnosis && s.SelfApproval != SelfAlways:
		return fmt.Errorf("settings.selfApproval %q is none of %s, %s and %s", s.SelfApproval, SelfNever, SelfDiagnosis, SelfAlways)
	case s.MaxOpenRequests < 1 || s.MaxOpenRequests > 100:
		return fmt.Errorf("settings.maxOpenRequests %d: it is between 1 and 100; people do not read more", s.MaxOpenRequests)
	case s.PlanTTL <= 0 || time.Duration(s.PlanTTL) > longest:
		return fmt.Errorf("settings.planTTL %s: it is above zero and at most %s", time.Duration(s.PlanTTL), longest)
	case s.ApprovalTTL <= 0 || time.Duration(s.ApprovalTTL) > longest:
		return fmt.Errorf("settings.approvalTTL %s: it is above zero and at most %s", time.Duration(s.ApprovalTTL), longest)
	case !(b.NodeShare > 0 && b.NodeShare <= 1):
		return fmt.Errorf("settings.breaker.nodeShare %v: a share is above 0 and at most 1", b.NodeShare)
	case b.Nodes < 1 || b.Actions < 1:
		return fmt.Errorf("settings.breaker: nodes %d and actions %d are at least 1; to stop everything set mode to %s", b.Nodes, b.Actions, ReadOnly)
	case time.Duration(b.Window) < time.Minute || time.Duration(b.Window) > 24*time.Hour:
		return fmt.Errorf("settings.breaker.window %s: it is between 1m and 24h", time.Duration(b.Window))
	case s.DirectGitOps.Allow && s.DirectGitOps.Expires.IsZero():
		return errors.New("settings.directGitOps: allow needs expires, a moment such as 2026-12-01T08:00:00Z")
	case s.BreakGlass.Role == "":
		return errors.New("settings.breakGlass.role is empty: to switch break-glass off, leave cluster empty")
	case s.BreakGlass.TTL <= 0 || time.Duration(s.BreakGlass.TTL) > time.Hour:
		return fmt.Errorf("settings.breakGlass.ttl %s: it is above zero and at most 1h", time.Duration(s.BreakGlass.TTL))
	}
	for _, n := range s.SystemNamespaces {
		if _, err := path.Match(n, ""); err != nil || n == "" {
			return fmt.Errorf("settings.systemNamespaces: %q is no name or pattern such as kube-*", n)
		}
	}
	names := map[string]bool{}
	for _, w := range s.Windows {
		if err := w.validate(); err != nil {
			return fmt.Errorf("settings.windows: %w", err)
		}
		if names[w.Name] {
			return fmt.Errorf("settings.windows: %q is there twice", w.Name)
		}
		names[w.Name] = true
	}
	return nil
}

// clock reads "HH:MM" as minutes since midnight.
func clock(s string) (int, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day such as 09:30", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// weekday reads "mon".
func weekday(s string) (time.Weekday, error) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.ToLower(d.String()[:3]) == s {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%q is none of mon, tue, wed, thu, fri, sat, sun", s)
}

func (w Window) validate() error {
	if w.Name == "" {
		return errors.New("a window has no name")
	}
	if !w.Begins.IsZero() || !w.Ends.IsZero() {
		switch {
		case len(w.Days) > 0 || w.From != "" || w.To != "" || w.Timezone != "":
			return fmt.Errorf("%s: begins and ends stand alone; days, from, to and timezone are for times of the week", w.Name)
		case !w.Ends.After(w.Begins):
			return fmt.Errorf("%s: ends %s is not after begins %s", w.Name, w.Ends.Format(time.RFC3339), w.Begins.Format(time.RFC3339))
		}
		return nil
	}
	if _, err := time.LoadLocation(w.Timezone); err != nil {
		return fmt.Errorf("%s: timezone %q is not known, such as Europe/Berlin: %w", w.Name, w.Timezone, err)
	}
	for _, t := range []string{w.From, w.To} {
		if _, err := clock(t); err != nil {
			return fmt.Errorf("%s: from and to: %w", w.Name, err)
		}
	}
	for _, d := range w.Days {
		if _, err := weekday(d); err != nil {
			return fmt.Errorf("%s: days: %w", w.Name, err)
		}
	}
	return nil
}

// open reports whether a valid window is open at a moment.
func (w Window) open(now time.Time) bool {
	if !w.Begins.IsZero() || !w.Ends.IsZero() {
		return !now.Before(w.Begins) && now.Before(w.Ends)
	}
	zone, err := time.LoadLocation(w.Timezone)
	if err != nil {
		return false
	}
	from, err1 := clock(w.From)
	to, err2 := clock(w.To)
	if err1 != nil || err2 != nil {
		return false
	}
	local := now.In(zone)
	minute := local.Hour()*60 + local.Minute()
	on := func(d time.Weekday) bool {
		return len(w.Days) == 0 || slices.ContainsFunc(w.Days, func(s string) bool { v, err := weekday(s); return err == nil && v == d })
	}
	if from < to {
		return on(local.Weekday()) && minute >= from && minute < to
	}
	yesterday := (local.Weekday() + 6) % 7
	return on(local.Weekday()) && minute >= from || on(yesterday) && minute < to
}

// windows are the names of the windows that are open.
func (s Settings) windows(now time.Time) []string {
	out := []string{}
	for _, w := range s.Windows {
		if w.open(now) {
			out = append(out, w.Name)
		}
	}
	return out
}

// system reports whether the cluster itself lives on a namespace.
func (s Settings) system(namespace string) bool {
	return namespace != "" && slices.ContainsFunc(s.SystemNamespaces, func(p string) bool { ok, err := path.Match(p, namespace); return ok && err == nil })
}

// roles gives the roles that the settings give a name with its groups.
func (s Settings) roles(name string, groups []string) []string {
	out := []string{}
	if name == "" {
		return out
	}
	for role, who := range s.Roles {
		if slices.Contains(who.Users, name) || slices.ContainsFunc(who.Groups, func(g string) bool { return slices.Contains(groups, g) }) {
			out = append(out, role)
		}
	}
	slices.Sort(out)
	return out
}

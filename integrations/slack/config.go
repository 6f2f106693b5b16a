package slack

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Modes in which Slack reaches gumshoe.
const (
	// ModeSocket: gumshoe opens a websocket to Slack; nothing has to reach it.
	ModeSocket = "socket"
	// ModeHTTP: Slack calls the routes below /slack; requests are signed.
	ModeHTTP = "http"
)

// Who may ask.
const (
	// AskersMapped: only people whom Users or UserGroups map.
	AskersMapped = "mapped"
	// AskersEveryone: every full member of the workspace.
	AskersEveryone = "everyone"
)

// Which messages of a thread continue its session.
const (
	FollowAll      = "all"
	FollowMentions = "mentions"
)

// Config is the section of Slack in the server's configuration.
type Config struct {
	// Mode is "socket" (default) or "http".
	Mode string `json:"mode,omitempty"`
	// AppTokenFile holds the app-level token (xapp-) of Socket Mode, BotTokenFile the
	// bot token (xoxb-), SigningSecretFile the secret that requests are signed with
	// in mode http. They are read again when they change.
	AppTokenFile      string `json:"appTokenFile,omitempty"`
	BotTokenFile      string `json:"botTokenFile"`
	SigningSecretFile string `json:"signingSecretFile,omitempty"`
	// Channels says where incidents of alerts are told.
	Channels Channels `json:"channels,omitzero"`
	// Askers is "mapped" (default) or "everyone".
	Askers string `json:"askers,omitempty"`
	// FollowUps is "all" (default): whatever is written in a thread that shows a session
	// and names nobody else is a question; or "mentions": only what names the bot.
	FollowUps string `json:"followUps,omitempty"`
	// Users and UserGroups map people of the workspace to identities of the cluster.
	// Only who is mapped may approve.
	Users      []User      `json:"users,omitempty"`
	UserGroups []UserGroup `json:"userGroups,omitempty"`
	// PublicURL is the address of gumshoe's web page, for links; it may be empty.
	PublicURL string `json:"publicURL,omitempty"`
	// APIURL is Slack's Web API, "https://slack.com/api/" by default; a proxy may
	// stand before it.
	APIURL string `json:"apiURL,omitempty"`
}

// Channels routes incidents of alerts.
type Channels struct {
	// Default is the id of the channel of alerts that no route takes; empty tells
	// none of them.
	Default string `json:"default,omitempty"`
	// Routes are tried in order.
	Routes []Route `json:"routes,omitempty"`
}

// Route sends the incidents whose alerts carry all of these labels to a channel.
type Route struct {
	Labels  map[string]string `json:"labels"`
	Channel string            `json:"channel"`
}

// User maps a person of the workspace.
type User struct {
	// ID is the member id, such as U012AB3CD.
	ID string `json:"id"`
	// Name and Groups are those that the cluster knows the person by.
	Name   string   `json:"name"`
	Groups []string `json:"groups,omitempty"`
}

// UserGroup gives the members of a user group of Slack groups of the cluster.
type UserGroup struct {
	// ID of the user group, such as S012AB3CD.
	ID     string   `json:"id"`
	Groups []string `json:"groups"`
}

// ids of Slack are letters and digits behind a letter that says of what.
const idShape = `^[A-Z][A-Z0-9]{1,30}$`

// Validate checks a configuration and fills in what it leaves out; the error names
// the field.
func (c *Config) Validate() error {
	if c.Mode == "" {
		c.Mode = ModeSocket
	}
	if c.Askers == "" {
		c.Askers = AskersMapped
	}
	if c.FollowUps == "" {
		c.FollowUps = FollowAll
	}
	if c.APIURL == "" {
		c.APIURL = "https://slack.com/api/"
	}
	if !strings.HasSuffix(c.APIURL, "/") {
		c.APIURL += "/"
	}
	switch {
	case c.Mode != ModeSocket && c.Mode != ModeHTTP:
		return fmt.Errorf("slack.mode is %q: it is socket or http", c.Mode)
	case c.BotTokenFile == "":
		return errors.New("slack.botTokenFile is empty: name the file that holds the bot token (xoxb-...)")
	case c.Mode == ModeSocket && c.AppTokenFile == "":
		return errors.New("slack.appTokenFile is empty: mode socket needs the app-level token (xapp-...) with the scope connections:write")
	case c.Mode == ModeHTTP && c.SigningSecretFile == "":
		return errors.New("slack.signingSecretFile is empty: mode http needs the signing secret of the app")
	case c.Askers != AskersMapped && c.Askers != AskersEveryone:
		return fmt.Errorf("slack.askers is %q: it is mapped or everyone", c.Askers)
	case c.FollowUps != FollowAll && c.FollowUps != FollowMentions:
		return fmt.Errorf("slack.followUps is %q: it is all or mentions", c.FollowUps)
	}
	for _, u := range []struct{ field, value string }{{"apiURL", c.APIURL}, {"publicURL", c.PublicURL}} {
		if u.value == "" {
			continue
		}
		if p, err := url.Parse(u.value); err != nil || p.Host == "" || p.Scheme != "https" && p.Scheme != "http" || p.User != nil {
			return fmt.Errorf("slack.%s is %q: it is an address such as https://gumshoe.example.com", u.field, u.value)
		}
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	return c.people()
}

func (c *Config) people() error {
	id := regexp.MustCompile(idShape)
	if d := c.Channels.Default; d != "" && !id.MatchString(d) {
		return fmt.Errorf("slack.channels.default is %q: it is the id of a channel, such as C012AB3CD, not its name", d)
	}
	for i, r := range c.Channels.Routes {
		if !id.MatchString(r.Channel) {
			return fmt.Errorf("slack.channels.routes[%d].channel is %q: it is the id of a channel, such as C012AB3CD", i, r.Channel)
		}
		if len(r.Labels) == 0 {
			return fmt.Errorf("slack.channels.routes[%d].labels is empty: channels.default takes what no route takes", i)
		}
	}
	var seen []string
	for i, u := range c.Users {
		switch {
		case !id.MatchString(u.ID):
			return fmt.Errorf("slack.users[%d].id is %q: it is a member id, such as U012AB3CD", i, u.ID)
		case u.Name == "":
			return fmt.Errorf("slack.users[%d].name is empty: it is the name that the cluster knows %s by", i, u.ID)
		case strings.HasPrefix(u.Name, "system:"):
			return fmt.Errorf("slack.users[%d].name is %q: nobody speaks for a part of the system", i, u.Name)
		case slices.Contains(seen, u.ID):
			return fmt.Errorf("slack.users[%d].id %s stands there twice", i, u.ID)
		}
		if err := groups(fmt.Sprintf("slack.users[%d]", i), u.Groups); err != nil {
			return err
		}
		seen = append(seen, u.ID)
	}
	for i, g := range c.UserGroups {
		if !id.MatchString(g.ID) {
			return fmt.Errorf("slack.userGroups[%d].id is %q: it is the id of a user group, such as S012AB3CD", i, g.ID)
		}
		if len(g.Groups) == 0 {
			return fmt.Errorf("slack.userGroups[%d].groups is empty: name the groups of the cluster that its members are in", i)
		}
		if err := groups(fmt.Sprintf("slack.userGroups[%d]", i), g.Groups); err != nil {
			return err
		}
	}
	return nil
}

func groups(field string, all []string) error {
	for _, g := range all {
		if g == "" || strings.HasPrefix(g, "system:") && g != "system:authenticated" {
			return fmt.Errorf("%s.groups holds %q: groups of the system are not given to people", field, g)
		}
	}
	return nil
}

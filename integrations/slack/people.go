package slack

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// fresh is how long what Slack said of a person counts for a question. For a
// decision it is always asked anew.
const fresh = time.Minute

type seenUser struct {
	user slack.User
	at   time.Time
}

type seenGroup struct {
	members []string
	at      time.Time
}

// people maps members of the workspace to identities of the cluster.
type people struct {
	cfg Config
	api *api
	now func() time.Time

	mu     sync.Mutex
	seen   map[string]seenUser
	groups map[string]seenGroup
}

// refusal is a sentence for the person whose wish is not fulfilled.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

// asker gives who may ask; the error is a refusal for who may not.
func (p *people) asker(ctx context.Context, id string) (incident.Person, error) {
	who, mapped, err := p.person(ctx, id, false)
	if err == nil && !mapped && p.cfg.Askers != AskersEveryone {
		return who, refusal("Only people who are mapped to an identity of the cluster may ask here; an administrator adds you (" + id + ") to slack.users or a user group of yours to slack.userGroups.")
	}
	return who, err
}

// decider gives who may decide on plans.
func (p *people) decider(ctx context.Context, id string) (incident.Person, error) {
	who, mapped, err := p.person(ctx, id, true)
	if err == nil && !mapped {
		return who, refusal("You are not mapped to an identity of the cluster, so you cannot decide on plans; an administrator adds you (" + id + ") to slack.users or a user group of yours to slack.userGroups.")
	}
	return who, err
}

// person looks a member up. Guests, bots, people of other workspaces and who has
// left are refused; what Slack does not say is an error, and nobody gets through.
func (p *people) person(ctx context.Context, id string, anew bool) (incident.Person, bool, error) {
	self, err := p.api.me(ctx)
	if err != nil {
		return incident.Person{}, false, err
	}
	u, err := p.user(ctx, id, anew)
	if err != nil {
		return incident.Person{}, false, err
	}
	switch {
	case u.ID != id:
		return incident.Person{}, false, refusal("Slack does not know you here.")
	case u.Deleted:
		return incident.Person{}, false, refusal("This account is deactivated.")
	case u.IsBot || u.IsAppUser || u.IsWorkflowBot || u.IsConnectorBot || id == "USLACKBOT":
		return incident.Person{}, false, refusal("Bots and workflows are not answered.")
	case u.IsRestricted || u.IsUltraRestricted:
		return incident.Person{}, false, refusal("Guests of the workspace are not answered.")
	case u.IsStranger || u.TeamID == "" || u.TeamID != self.TeamID && !slices.Contains(u.Enterprise.Teams, self.TeamID):
		return incident.Person{}, false, refusal("People of other workspaces are not answered.")
	}
	who := incident.Person{Name: fmt.Sprintf("slack:%s:%s", self.TeamID, id), Surface: session.Slack, Proof: "login"}
	mapped := false
	for _, m := range p.cfg.Users {
		if m.ID == id {
			who.Name, who.Groups, mapped = m.Name, slices.Clone(m.Groups), true
		}
	}
	for _, g := range p.cfg.UserGroups {
		in, err := p.member(ctx, g.ID, id, anew)
		if err != nil {
			return incident.Person{}, false, err
		}
		if in {
			who.Groups, mapped = append(who.Groups, g.Groups...), true
		}
	}
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	return who, mapped, nil
}

func (p *people) user(ctx context.Context, id string, anew bool) (slack.User, error) {
	p.mu.Lock()
	s, ok := p.seen[id]
	p.mu.Unlock()
	if ok && !anew && p.now().Sub(s.at) < fresh {
		return s.user, nil
	}
	err := p.api.do(ctx, "users.info", "", func(c *slack.Client) error {
		u, err := c.GetUserInfoContext(ctx, id)
		if err == nil {
			s = seenUser{*u, p.now()}
		}
		return err
	})
	switch errorCode(err) {
	case "user_not_found", "user_not_visible", "users_not_found":
		return slack.User{}, refusal("Slack does not know you here.")
	}
	if err != nil {
		return slack.User{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) > 10_000 { // a workspace that is larger asks again now and then
		clear(p.seen)
	}
	p.seen[id] = s
	return s.user, nil
}

func (p *people) member(ctx context.Context, group, id string, anew bool) (bool, error) {
	p.mu.Lock()
	s, ok := p.groups[group]
	p.mu.Unlock()
	if !ok || anew || p.now().Sub(s.at) >= fresh {
		err := p.api.do(ctx, "usergroups.users.list", "", func(c *slack.Client) error {
			m, err := c.GetUserGroupMembersContext(ctx, group)
			s = seenGroup{m, p.now()}
			return err
		})
		if errorCode(err) == "no_such_subteam" || errorCode(err) == "subteam_not_found" {
			s, err = seenGroup{nil, p.now()}, nil // a group that is gone has no members
		}
		if err != nil {
			return false, err
		}
		p.mu.Lock()
		p.groups[group] = s
		p.mu.Unlock()
	}
	return slices.Contains(s.members, id), nil
}

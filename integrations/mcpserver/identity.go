package mcpserver

import (
	"context"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// who gives the caller of one request if they have the role. The identity is taken
// from the request and kept nowhere.
func who(ctx context.Context, least access.Role, what string) (incident.Person, error) {
	id, ok := access.From(ctx)
	if !ok {
		return incident.Person{}, &tool.Error{Kind: tool.Forbidden, User: "it is not known who calls", Fix: "reach the server through its own address"}
	}
	if id.Role < least {
		name := id.Person.Name
		if name == "" {
			name = "the caller"
		}
		return incident.Person{}, &tool.Error{Kind: tool.Forbidden, User: name + " has the role " + id.Role.String() + " and may not " + what, Fix: "an administrator gives the role " + least.String() + " in server.auth.roles"}
	}
	p := id.Person
	p.Surface = session.MCP
	return p, nil
}

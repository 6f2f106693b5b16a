package slack

import (
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"
)

// scopes of the bot token and what each is for: the methods that need it, or the
// events that it lets through.
func scopes() map[string][]string {
	return map[string][]string{
		"app_mentions:read": {"event app_mention"},
		"channels:history":  {"event message.channels", "conversations.replies", "conversations.history"},
		"chat:write":        {"chat.postMessage", "chat.update", "chat.postEphemeral"},
		"chat:write.public": {"chat.postMessage"}, // a command in a channel that the app is not in
		"commands":          {"command /gumshoe"},
		"files:write":       {"files.getUploadURLExternal", "files.completeUploadExternal"},
		"groups:history":    {"event message.groups", "conversations.replies", "conversations.history"},
		"im:history":        {"event message.im", "conversations.replies", "conversations.history"},
		"usergroups:read":   {"usergroups.users.list"},
		"users:read":        {"users.info"},
	}
}

// Manifest gives the manifest of the app as YAML, to be pasted where Slack makes a
// new app "from a manifest". base is the server's public address in mode http, such
// as https://gumshoe.example.com; empty is Socket Mode.
func Manifest(base string) ([]byte, error) {
	c := Config{Mode: ModeSocket, BotTokenFile: "-", AppTokenFile: "-", SigningSecretFile: "-", PublicURL: base}
	if base != "" {
		c.Mode = ModeHTTP
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	base = c.PublicURL
	socket := c.Mode == ModeSocket
	var all []string
	for s := range scopes() {
		all = append(all, s)
	}
	slices.Sort(all)
	command := map[string]any{"command": "/gumshoe", "description": "Find out why a workload does not run", "usage_hint": "why is pod train/llama-0 pending?", "should_escape": true}
	events := map[string]any{"bot_events": []string{"app_mention", "message.channels", "message.groups", "message.im"}}
	interactive := map[string]any{"is_enabled": true}
	if !socket {
		command["url"], events["request_url"], interactive["request_url"] = base+"/slack/commands", base+"/slack/events", base+"/slack/interactive"
	}
	m := map[string]any{
		"display_information": map[string]any{"name": "gumshoe", "description": "Finds out why AI workloads on Kubernetes misbehave, and proves it", "background_color": "#1f2937"},
		"features": map[string]any{
			"app_home":       map[string]any{"home_tab_enabled": false, "messages_tab_enabled": true, "messages_tab_read_only_enabled": false},
			"bot_user":       map[string]any{"display_name": "gumshoe", "always_online": true},
			"slash_commands": []any{command},
		},
		"oauth_config": map[string]any{"scopes": map[string]any{"bot": all}},
		"settings": map[string]any{
			"event_subscriptions": events, "interactivity": interactive, "org_deploy_enabled": false, "socket_mode_enabled": socket, "token_rotation_enabled": false,
		},
	}
	out, err := yaml.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("slack manifest: %w", err)
	}
	return out, nil
}

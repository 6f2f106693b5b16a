package chart

import (
	"strings"
	"testing"
)

// Values that are unknown, wrong, unsafe or do not go together are refused, and the
// refusal says what is meant.
func TestRefusals(t *testing.T) {
	t.Parallel()
	auth := `{tokens: [{name: ci, role: asker, file: /etc/gumshoe/secrets/t/ci}]}`
	for name, c := range map[string]struct{ over, want string }{
		"no image":                  {`image: {repository: ""}`, "no image of gumshoe is published"},
		"no tag":                    {`image: {tag: ""}`, "image.tag and image.digest are empty"},
		"a digest that is none":     {`image: {digest: latest}`, "image/digest"},
		"an unknown value":          {`replica: 2`, "'replica' not allowed"},
		"an unknown field":          {`service: {ports: 2}`, "'ports' not allowed"},
		"an unknown configuration":  {`config: {server: {lisen: "x"}}`, "'lisen' not allowed"},
		"a deep one":                {`config: {server: {auth: {oidc: {issuerURL: x}}}}`, "'issuerURL' not allowed"},
		"a listen address":          {`config: {server: {listen: "0.0.0.0:7456"}}`, "'listen' not allowed"},
		"execute":                   {`config: {server: {execute: true}}`, "'execute' not allowed"},
		"an executor of its own":    {`config: {executor: {kubeconfig: /x}}`, "'executor' not allowed"},
		"another kubeconfig":        {`config: {kubernetes: {kubeconfig: /x}}`, "'kubeconfig' not allowed"},
		"a wrong type":              {`replicas: "two"`, "replicas"},
		"no replicas":               {`replicas: 0`, "replicas"},
		"a number as duration":      {`config: {server: {queue: {grace: 30}}}`, "grace"},
		"a wrong duration":          {`config: {server: {queue: {grace: 30 seconds}}}`, "grace"},
		"two and an own store":      {`replicas: 2`, "the embedded store belongs to one process"},
		"nats without a key":        {`config: {server: {nats: {urls: ["nats://nats:4222"]}}}`, "approval.existingSecret is empty"},
		"two and no session key":    {`{replicas: 2, approval: {existingSecret: k}, config: {server: {nats: {urls: ["nats://nats:4222"]}, auth: {oidc: {issuer: "https://i", clientID: c, redirectURL: "https://g/auth/callback"}, roles: {viewer: {users: ["*"]}}}}}}`, "sessionKeyFile is empty"},
		"sign-in without roles":     {`config: {server: {auth: {oidc: {issuer: "https://i", clientID: c}}}}`, "config.server.auth.roles is empty"},
		"empty roles":               {`config: {server: {auth: {tokenReview: {}, roles: {viewer: {}}}}}`, "config.server.auth.roles is empty"},
		"a token without a role":    {`config: {server: {auth: {tokens: [{name: ci, file: /x}]}}}`, "config.server.auth.roles is empty"},
		"roles without sign-in":     {`config: {server: {auth: {roles: {viewer: {users: ["*"]}}}}}`, "nobody who can sign in"},
		"an executor of nothing":    {`executor: {enabled: true}`, "executor.actions is empty"},
		"actions without executor":  {`executor: {actions: [cordon]}`, "executor.enabled is false"},
		"an action that is none":    {`executor: {enabled: true, actions: [become_admin]}`, "executor/actions/0"},
		"an open door on loopback":  {`ingress: {enabled: true, host: a.example.com, tlsSecret: t}`, "listens on loopback only, which no Ingress reaches"},
		"a balancer for loopback":   {`service: {type: LoadBalancer}`, "which no Service reaches"},
		"alerts to loopback":        {`config: {server: {alertmanager: {auth: {bearerTokenFile: /x}}}}`, "which no Alertmanager reaches"},
		"slack to loopback":         {`config: {server: {slack: {mode: http, botTokenFile: /x}}}`, "which Slack does not reach"},
		"an ingress without TLS":    {`{ingress: {enabled: true, host: a.example.com}, config: {server: {auth: ` + auth + `}}}`, "ingress.host and ingress.tlsSecret are both needed"},
		"one port for two":          {`ports: {http: 9090}`, "both 9090"},
		"a port of root":            {`ports: {http: 80}`, "ports/http"},
		"a password in an address":  {`config: {server: {nats: {urls: ["nats://me:secret@nats:4222"]}}}`, "urls/0"},
		"a password of Prometheus":  {`config: {prometheus: {url: "http://me:secret@prometheus:9090"}}`, "prometheus/url"},
		"a token in a header":       {`config: {prometheus: {headers: {Authorization: Bearer abc}}}`, "invalid propertyName 'Authorization'"},
		"a key in the environment":  {`env: {OPENAI_API_KEY: abc}`, "OPENAI_API_KEY"},
		"a key in the config":       {`config: {model: {apiKey: abc}}`, "'apiKey' not allowed"},
		"a secret without a name":   {`secrets: [{secretName: a}]`, "missing property 'name'"},
		"a secret with a value":     {`secrets: [{name: a, secretName: a, value: b}]`, "'value' not allowed"},
		"a path for a name":         {`secrets: [{name: ../config, secretName: a}]`, "secrets/0/name"},
		"a size without a unit":     {`persistence: {size: "10"}`, "persistence/size"},
		"a resource that is none":   {`resources: {limits: {memory: plenty}}`, "limits/memory"},
		"a toleration that is none": {`tolerations: [dedicated]`, "tolerations/0"},
		"rules that are not there":  {`prometheusRule: {enabled: true, rules: [weather]}`, "prometheusRule/rules/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := render(t, "gumshoe", "detectives", values(t, "default", c.over))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s gives %d objects and %v, want a refusal with %q", c.over, len(r.objects), err, c.want)
			}
		})
	}
}

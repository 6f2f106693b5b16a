package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/alertmanager"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

// The workspace of the tests: ann and bob are people of the cluster, carl is not.
const (
	slackAnn, slackBob, slackCarl = "U0ANN", "U0BOB", "U0CARL"
	alertChannel                  = "C0OPS"
	hookToken                     = "hook-token-of-more-than-20-characters"
)

// serverToken is what somebody signs in to gumshoe with, which is not what the cluster
// knows them by.
func serverToken(name string) string { return name + "-signs-in-to-gumshoe" }

// office is a gumshoe server on a real cluster, with all its surfaces.
type office struct {
	*clinic
	slack *slacktest.Server
	cfg   app.Config
	// tokens are the files of who signs in: ann, bob and cal.
	tokens map[string]string
	url    string
}

// openClinicWithExecutor is a clinic in which the executor may change things.
func openClinicWithExecutor(t *testing.T, o controlplane.Options) *clinic {
	t.Helper()
	c := openClinic(t, o)
	c.grant(t, executorAccount, "", rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}})
	return c
}

// openOffice starts a workspace and configures a server on it and on a control plane. The
// server asks the cluster as ann; it writes with the executor's identity alone.
func openOffice(t *testing.T, c *clinic) *office {
	t.Helper()
	o := &office{clinic: c, slack: slacktest.New(t), tokens: map[string]string{}}
	for id, name := range map[string]string{slackAnn: "ann", slackBob: "bob", slackCarl: "carl"} {
		o.slack.AddUser(id, name)
	}
	o.slack.AddChannel(alertChannel)
	o.cfg = c.config(t, annToken)
	o.cfg.Store.Dir = t.TempDir()
	o.cfg.Executor.Kubeconfig = c.kubeconfigOf(t, executorAccountToken)
	s := &o.cfg.Server
	s.Listen, s.Execute = "127.0.0.1:0", true
	for _, name := range []string{"ann", "bob", "cal"} {
		o.tokens[name] = secretFile(t, serverToken(name))
		s.Auth.Tokens = append(s.Auth.Tokens, access.TokenConfig{Name: name, Role: "admin", File: o.tokens[name]})
	}
	s.Slack = &slack.Config{
		AppTokenFile: secretFile(t, slacktest.AppToken), BotTokenFile: secretFile(t, slacktest.BotToken), APIURL: o.slack.APIURL(),
		Channels: slack.Channels{Default: alertChannel}, Users: []slack.User{{ID: slackAnn, Name: "ann"}, {ID: slackBob, Name: "bob"}},
	}
	s.Alertmanager = &alertmanager.Config{Auth: alertmanager.AuthConfig{BearerTokenFile: secretFile(t, hookToken)}, RecheckEvery: access.Duration(time.Second)}
	return o
}

// serve runs the server until the test ends.
func (o *office) serve(t *testing.T) {
	t.Helper()
	o.url = apptest.Serve(t, app.ServerOptions{Load: func() (app.Config, error) { return o.cfg, o.cfg.Validate() }}).URL
}

// client signs in as somebody.
func (o *office) client(t *testing.T, name string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{URL: o.url, TokenFile: o.tokens[name]})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shows waits until a page of the web says all of it to somebody.
func (o *office) shows(t *testing.T, name, path string, says ...string) {
	t.Helper()
	soon(t, fmt.Sprintf("%s says %q", path, says), func(ctx context.Context) (bool, error) {
		page, err := o.page(ctx, name, path)
		for _, want := range says {
			if err == nil && !strings.Contains(page, want) {
				return false, fmt.Errorf("it does not say %q: %.6000s", want, page)
			}
		}
		return err == nil, err
	})
}

// page gives a page of the web as it is for somebody.
func (o *office) page(ctx context.Context, name, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+serverToken(name))
	req.Header.Set("Accept", "text/html")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %.2000s", path, res.StatusCode, body)
	}
	return string(body), err
}

// message waits for a message of the bot in a thread that says something, and gives the
// first.
func (o *office) message(t *testing.T, thread, says string) slacktest.Message {
	t.Helper()
	var out slacktest.Message
	soon(t, "a message that says "+says, func(context.Context) (bool, error) {
		var all []string
		for _, m := range o.slack.Own(alertChannel, thread) {
			if strings.Contains(m.All(), says) {
				out = m
				return true, nil
			}
			all = append(all, m.All())
		}
		return false, fmt.Errorf("the thread says %q", all)
	})
	return out
}

// told waits for a sentence that a member alone is told.
func (o *office) told(t *testing.T, user, says string) {
	t.Helper()
	soon(t, user+" is told "+says, func(context.Context) (bool, error) {
		all := o.slack.Ephemerals(user)
		for _, e := range all {
			if strings.Contains(e.Text, says) {
				return true, nil
			}
		}
		return false, fmt.Errorf("they were told %v", all)
	})
}

// changed lists what people, the server and the executor wrote to a namespace.
func (o *office) changed(t *testing.T, namespace string) []string {
	t.Helper()
	all := o.writesOf(t, func(user string) bool {
		_, person := people()[user]
		return person || user == executorAccount
	})
	return slices.DeleteFunc(all, func(w string) bool { return !strings.Contains(w, " "+namespace+"/") })
}

// secretFile keeps a secret in a file of its own.
func secretFile(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(f, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// misled makes a Deployment and a Service that selects a label which none of its pods
// carries.
func (c *clinic) misled(t *testing.T, namespace string) {
	t.Helper()
	c.run(t, []scenario.Group{{Prefix: namespace, Count: 1}}, scenario.Step{Apply: deployment(namespace, "front", "", "ports: [{containerPort: 8080}]") + `---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: ` + namespace + `}
spec: {selector: {app: fornt}, ports: [{port: 80, targetPort: 8080}]}
`})
	c.available(t, namespace, "front")
}

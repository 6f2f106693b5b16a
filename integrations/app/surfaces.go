package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/alertmanager"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/web"
)

// surfaces gives the routes of every surface of a generation, and adds what of them
// runs by itself.
func (s *Server) surfaces(g *generation) ([][]access.Route, error) {
	sc := g.cfg.Server
	a, err := api.New(g.service, sc.API, time.Now)
	if err != nil {
		return nil, err
	}
	m, err := g.service.MCP(sc.MCP, func() bool { return !s.ready.Load() }, s.log)
	if err != nil {
		return nil, err
	}
	w, err := web.New(web.Options{Config: sc.Web, Service: g.service, Now: time.Now, NewKey: rand.Text, Log: s.log})
	if err != nil {
		return nil, err
	}
	routes := [][]access.Route{a.Routes(), m.Routes(), w.Routes()}
	if sc.Alertmanager != nil {
		c := *sc.Alertmanager
		c.Link = cmp.Or(c.Link, sc.BaseURL)
		d, err := alertmanager.New(c, alertmanager.Options{Service: g.service, Journal: s.keeper, Cluster: g.app.src.cluster, Redact: g.app.redactor.String, Log: s.log, Lease: time.Duration(sc.Queue.Lease)})
		if err != nil {
			return nil, err
		}
		routes = append(routes, d.Routes())
		g.parts = append(g.parts, part{"alertmanager", d.Run})
	}
	if sc.Slack != nil {
		c := *sc.Slack
		c.PublicURL = cmp.Or(c.PublicURL, sc.BaseURL)
		k, err := slack.New(slack.Options{Config: c, Service: g.service, Journal: s.keeper, Log: s.log, Timing: slack.Timing{Lease: time.Duration(sc.Queue.Lease)}})
		if err != nil {
			return nil, err
		}
		routes = append(routes, k.Routes())
		g.parts = append(g.parts, part{"slack", k.Run})
	}
	return routes, nil
}

// tokenReviewer asks the cluster whose token this is.
type tokenReviewer struct{ app *App }

var _ access.TokenReviewer = tokenReviewer{}

// Review implements access.TokenReviewer.
func (t tokenReviewer) Review(ctx context.Context, token string, audiences []string) (incident.Person, bool, error) {
	client, err := kubernetes.NewForConfig(t.app.src.rest)
	if err != nil {
		return incident.Person{}, false, fmt.Errorf("kubernetes client: %w", err)
	}
	r, err := client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		return incident.Person{}, false, fmt.Errorf("the cluster cannot be asked whose token this is: %w", err)
	}
	u := r.Status.User
	// A server that ignores audiences answers without them: its word is for its own
	// tokens then, and not for those meant for gumshoe.
	if len(audiences) > 0 && !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(r.Status.Audiences, a) }) {
		return incident.Person{}, false, nil
	}
	return incident.Person{Name: u.Username, Groups: u.Groups, Proof: proofLogin}, r.Status.Authenticated && u.Username != "", nil
}

// revocations keeps ended sign-ins in the store, for all replicas.
type revocations struct{ keep *Keeper }

var _ access.Revocations = revocations{}

func revokedSubject(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "signout." + hex.EncodeToString(sum[:16])
}

// Revoke implements access.Revocations.
func (r revocations) Revoke(ctx context.Context, id string, expiry time.Time) error {
	raw, err := json.Marshal(map[string]time.Time{"expiry": expiry})
	if err != nil {
		return err
	}
	_, err = r.keep.Append(ctx, revokedSubject(id), 0, store.Entry{Type: "signout", Data: raw})
	if ok, rerr := r.Revoked(ctx, id); rerr == nil && ok {
		return nil
	}
	return err
}

// Revoked implements access.Revocations.
func (r revocations) Revoked(ctx context.Context, id string) (bool, error) {
	for _, err := range r.keep.Load(ctx, revokedSubject(id), 0) {
		return err == nil, err
	}
	return false, nil
}

// Firing gives the alerts that fire at an Alertmanager as questions, one an incident.
// alert is a regular expression of names; empty takes all. The credentials are those of
// prometheus in the configuration, where alertmanagerURL names the same server.
func (a *App) Firing(ctx context.Context, url, alert string) ([]alertmanager.Pulled, error) {
	p := alertmanager.Pull{URL: url, Alert: alert, Cluster: a.src.cluster}
	if c := a.cfg.Prometheus; strings.TrimSuffix(c.AlertmanagerURL, "/") == strings.TrimSuffix(url, "/") {
		p.Client = alertmanager.ClientConfig{Headers: c.Headers, BearerTokenFile: c.BearerTokenFile, Username: c.Username, PasswordFile: c.PasswordFile, TLS: alertmanager.TLSConfig(c.TLS)}
	}
	return p.Questions(ctx)
}

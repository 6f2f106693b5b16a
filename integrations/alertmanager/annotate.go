package alertmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Annotation is the name of the annotation that says what was found.
const Annotation = "gumshoe"

const (
	// annotateEvery is how often alerts are annotated. Prometheus sends each alert again
	// every minute, without it.
	annotateEvery = 30 * time.Second
	// leastLeft is how long an alert must still stand at Alertmanager to be annotated: one
	// that is about to end is left alone.
	leastLeft = time.Minute
)

// annotator writes findings into the alerts of an Alertmanager.
//
// Alertmanager has no call that annotates an alert. It takes an alert with the labels of
// one that it has in its place, so the same alert is sent once more, with its own start
// and end and one annotation more. What Prometheus sends next replaces it, so that it is
// repeated while the alert fires. Start and end are never moved: an alert is neither kept
// alive nor ended by it. Silences are not touched.
type annotator struct {
	d      *Desk
	client *client

	mu sync.Mutex
	// say is what is written, by fingerprint.
	say map[string]string
}

// newAnnotator makes the annotator of a desk, nil if alerts are not annotated.
func newAnnotator(d *Desk) (*annotator, error) {
	if d.cfg.AnnotateURL == "" {
		return nil, nil
	}
	c, err := newClient(d.cfg.AnnotateURL, d.cfg.Annotate)
	if err != nil {
		return nil, fmt.Errorf("alertmanager.annotateURL: %w", err)
	}
	return &annotator{d: d, client: c, say: map[string]string{}}, nil
}

// learn replaces what is written; the desk calls it after each change.
func (a *annotator) learn(incidents []*inc) {
	say := map[string]string{}
	for _, i := range incidents {
		if i.gone() || !i.s.Resolved.IsZero() {
			continue
		}
		for _, t := range slices.Backward(i.s.Turns) {
			if t.State != session.Answered || t.Headline == "" {
				continue
			}
			text := t.Headline
			if l := a.d.link(i.s); l != "" {
				text += " " + l
			}
			for _, al := range i.s.Alerts {
				if al.Status == firing {
					say[al.Fingerprint] = clip(text, 1000)
				}
			}
			break
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.say = say
}

func (a *annotator) wanted() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.say)
}

func (a *annotator) run(ctx context.Context) {
	defer a.client.close()
	for ctx.Err() == nil {
		if err := a.annotate(ctx); err != nil && ctx.Err() == nil {
			a.d.log.Warn("alerts could not be annotated", "why", tool.UserText(err), "error", err)
		}
		pause(ctx, annotateEvery)
	}
}

// postable is an alert as API v2 takes it.
type postable struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// annotate writes each annotation that is not there.
func (a *annotator) annotate(ctx context.Context) error {
	say := a.wanted()
	if len(say) == 0 {
		return nil
	}
	alerts, err := a.client.active(ctx, url.Values{})
	if err != nil {
		return err
	}
	var out []postable
	for _, al := range alerts {
		text, ok := say[al.Fingerprint]
		if !ok || al.Annotations[Annotation] == text || al.EndsAt.Sub(a.d.now()) < leastLeft {
			continue
		}
		annotations := maps.Clone(al.Annotations)
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[Annotation] = text
		out = append(out, postable{Labels: al.Labels, Annotations: annotations, StartsAt: al.StartsAt, EndsAt: al.EndsAt, GeneratorURL: al.GeneratorURL})
	}
	if len(out) == 0 {
		return nil
	}
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return a.client.do(ctx, http.MethodPost, "/api/v2/alerts", nil, body, nil, nil)
}

// gettable is an alert as API v2 gives it:
// https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
type gettable struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	Fingerprint  string            `json:"fingerprint"`
	GeneratorURL string            `json:"generatorURL"`
	Status       struct {
		// State is active, suppressed or unprocessed.
		State string `json:"state"`
	} `json:"status"`
}

// active lists the alerts that fire and that nothing holds back.
func (c *client) active(ctx context.Context, q url.Values) ([]gettable, error) {
	q.Set("active", "true")
	q.Set("silenced", "false")
	q.Set("inhibited", "false")
	q.Set("unprocessed", "false")
	var all []gettable
	if err := c.do(ctx, http.MethodGet, "/api/v2/alerts", q, nil, nil, &all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(a gettable) bool { return a.Status.State != "active" || len(a.Labels) == 0 }), nil
}

// alert gives it with the names of an incident.
func (g gettable) alert() incident.Alert {
	a := incident.Alert{Name: g.Labels["alertname"], Status: firing, Labels: g.Labels, Annotations: g.Annotations, StartsAt: g.StartsAt, Fingerprint: g.Fingerprint}
	if a.Name == "" {
		a.Name = "(no alertname)"
	}
	if !fingerprint(a.Fingerprint) {
		a.Fingerprint = labelPrint(g.Labels)
	}
	return a
}

package slack

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// wantedChannel is the surface of a link by which whoever opens a session asks that
// it is told in a channel: its key begins with the channel's id and a slash.
const wantedChannel = "slack-channel"

// place gives the thread of a session and opens it where there is none yet: for a
// slash command, and for an incident that alerts opened. No thread is no place.
func (p *poster) place(ctx context.Context, sess *session.Session, o *outbox) (channel, thread string, err error) {
	s := p.s
	var pending session.Link
	wanted := ""
	for _, l := range sess.Links {
		if l.Surface == wantedChannel && wanted == "" {
			wanted, _ = placeOf(l.Key)
		}
		if l.Surface != session.Slack {
			continue
		}
		c, t := placeOf(l.Key)
		if t != "" && !strings.HasPrefix(t, newThread) {
			return c, t, nil
		}
		pending = l
	}
	var m message
	channel, thread = placeOf(pending.Key)
	switch {
	case pending.Key != "" && len(sess.Turns) > 0:
		pg := newPage(maxBlocks)
		pg.text(asked(sess.Turns[0]))
		m = pg.message(false)
	case sess.Source == session.Alertmanager && sess.Merged == "":
		// Where it is wanted is said right after it was opened.
		if rest := s.timing.Route - s.now().Sub(sess.Opened); wanted == "" && rest > 0 {
			p.agenda.later(sess.ID, rest)
			return "", "", nil
		}
		if channel = first(wanted, s.route(*sess)); channel == "" {
			return "", "", nil
		}
		m = s.incidentRoot(*sess)
	default:
		return "", "", nil
	}
	root, ok := o.slots["root"]
	if !ok || root.TS == "" && root.Why == "" {
		if err := s.post(ctx, sess.ID, o, channel, "", "root", m); err != nil {
			return "", "", err
		}
	}
	root = o.slots["root"]
	if root.Why != "" { // the channel does not take it: the member who asked gets it
		member, _, _ := strings.Cut(strings.TrimPrefix(thread, newThread), ":")
		if pending.Key == "" || member == "" {
			return "", "", nil
		}
		if alone, ok := o.slots["alone"]; !ok || alone.TS == "" && alone.Why == "" {
			if err := s.post(ctx, sess.ID, o, member, "", "alone", m); err != nil {
				return "", "", err
			}
		}
		if root = o.slots["alone"]; root.Why != "" {
			return "", "", nil
		}
	}
	if err := s.boundary("link"); err != nil {
		return "", "", err
	}
	if *sess, err = s.svc.Link(ctx, sess.ID, link(root.Channel, root.TS)); err != nil {
		return "", "", err
	}
	if pending.Key != "" {
		if *sess, err = s.svc.Unlink(ctx, sess.ID, pending); err != nil {
			return "", "", err
		}
	}
	return root.Channel, root.TS, nil
}

// route gives the channel of an incident, empty for none.
func (s *Surface) route(sess session.Session) string {
	for _, r := range s.cfg.Channels.Routes {
		if slices.ContainsFunc(sess.Alerts, func(a incident.Alert) bool {
			for k, v := range r.Labels {
				if a.Labels[k] != v {
					return false
				}
			}
			return true
		}) {
			return r.Channel
		}
	}
	return s.cfg.Channels.Default
}

// alerts tells in the thread that the incident's alerts ended, or fire again, and
// that it was merged.
func (v *visit) alerts(ctx context.Context) error {
	if to := v.sess.Merged; to != "" {
		pg := newPage(maxBlocks)
		pg.text(":link: *This is the same incident as another.* It goes on in session " + escape(to) + ".")
		return v.show(ctx, "merged", pg.message(true))
	}
	if !v.sess.Resolved.IsZero() {
		pg := newPage(maxBlocks)
		pg.text(":white_check_mark: *Resolved.* " + resolvedAlerts(v.sess))
		return v.show(ctx, fmt.Sprintf("resolved/%d", v.sess.Resolved.UnixNano()), pg.message(true))
	}
	for name, sl := range v.o.slots {
		if at, ok := strings.CutPrefix(name, "resolved/"); ok && sl.TS != "" {
			pg := newPage(maxBlocks)
			pg.text(":rotating_light: *It fires again.*")
			if err := v.show(ctx, "again/"+at, pg.message(true)); err != nil {
				return err
			}
		}
	}
	return nil
}

func resolvedAlerts(sess session.Session) string {
	if n := len(sess.Alerts); n == 1 {
		return clean(sess.Alerts[0].Name) + " does not fire any more."
	} else if n > 1 {
		return fmt.Sprintf("None of its %d alerts fires any more.", n)
	}
	return "Its alerts do not fire any more."
}

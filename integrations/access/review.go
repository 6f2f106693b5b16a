package access

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"
)

// How long the cluster's word on a token is kept. A token that the cluster takes back
// opens the door for this long still.
const (
	reviewKept    = time.Minute
	maxReviews    = 10_000
	reviewTimeout = 10 * time.Second
)

// reviewCache asks the cluster about tokens and remembers who they are of; what the
// cluster refuses is asked again each time, under the bound of failed sign-ins.
type reviewCache struct {
	reviewer  TokenReviewer
	audiences []string
	now       func() time.Time
	kept      *lru[reviewed] // by digest of the token
}

type reviewed struct {
	caller caller
	until  time.Time
}

func newReviewCache(r TokenReviewer, audiences []string, now func() time.Time) *reviewCache {
	return &reviewCache{reviewer: r, audiences: audiences, now: now, kept: newLRU[reviewed](maxReviews)}
}

func (c *reviewCache) review(ctx context.Context, token string, digest [sha256.Size]byte) (caller, error) {
	key, now := string(digest[:]), c.now()
	if r, ok := c.kept.get(key); ok && now.Before(r.until) {
		return r.caller, nil
	}
	c.kept.remove(key)
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	person, known, err := c.reviewer.Review(ctx, token, c.audiences)
	if err != nil {
		return caller{}, &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", User: "the cluster cannot be asked whose token this is", Fix: "try again in a moment", RetryAfter: 5 * time.Second, Err: err}
	}
	if !known || person.Name == "" {
		return caller{}, unauthorized("invalid_token", "neither this server nor the cluster knows this token", "a fresh one is printed by kubectl create token, for the audience that the server asks for")
	}
	if person.Proof == "" {
		person.Proof = proofKube
	}
	out := caller{person: person, reviewed: true}
	until := now.Add(reviewKept)
	// The cluster has just accepted the token, so its own word on its end is proven.
	if p, ok := payloadOf(token); ok && p.Expiry > 0 && p.Expiry < 1<<40 {
		out.expiry = time.Unix(int64(p.Expiry), 0)
		if out.expiry.Before(until) {
			until = out.expiry
		}
	}
	c.kept.put(key, reviewed{caller: out, until: until})
	return out, nil
}

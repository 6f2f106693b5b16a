package access

import (
	"cmp"
	"container/list"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of the tables of callers, and what failed sign-ins are held to.
const (
	maxCallers       = 10_000
	defaultPerMinute = 600
	defaultBurst     = 200
	// A caller may fail five times at once, and then once every twelve seconds.
	failBurst = 5
	failEvery = 12 * time.Second
	// Tokens that were good once are not held back by somebody else's failures from
	// the same address.
	maxKnownGood = 10_000
)

// limits counts requests and failed sign-ins by caller. When a table is full the
// caller that was seen least lately is forgotten.
type limits struct {
	perMinute, burst int
	now              func() time.Time
	requests         *lru[*rate.Limiter]
	failures         *lru[*rate.Limiter]
	good             *lru[struct{}] // by digest of the token
}

func newLimits(cfg RateConfig, now func() time.Time) *limits {
	return &limits{
		perMinute: cmp.Or(cfg.PerMinute, defaultPerMinute),
		burst:     cmp.Or(cfg.Burst, defaultBurst),
		now:       now,
		requests:  newLRU[*rate.Limiter](maxCallers),
		failures:  newLRU[*rate.Limiter](maxCallers),
		good:      newLRU[struct{}](maxKnownGood),
	}
}

func (l *limits) limiter(key string, perMinute int) *rate.Limiter {
	return l.requests.getOr(key, func() *rate.Limiter {
		per, burst := l.perMinute, l.burst
		if perMinute > 0 {
			per, burst = perMinute, max(1, perMinute/3)
		}
		return rate.NewLimiter(rate.Limit(float64(per)/60), burst)
	})
}

// allow counts one request; key "" is not counted.
func (l *limits) allow(key string, perMinute int) bool {
	return key == "" || l.limiter(key, perMinute).AllowN(l.now(), 1)
}

// wait says how long until the next request is allowed, at least a second.
func (l *limits) wait(key string, perMinute int) time.Duration {
	return until(l.limiter(key, perMinute), l.now())
}

// try counts a sign-in as failed before it is tried, so that a caller who tries many
// at once gains nothing; forgive takes that back. Without forgive the caller has to
// wait.
func (l *limits) try(key string) (forgive func(), wait time.Duration) {
	lim := l.failures.getOr(key, func() *rate.Limiter { return rate.NewLimiter(rate.Every(failEvery), failBurst) })
	now := l.now()
	res := lim.ReserveN(now, 1)
	if res.DelayFrom(now) > 0 {
		res.CancelAt(now)
		return nil, until(lim, now)
	}
	return func() { res.CancelAt(now) }, 0
}

func until(lim *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - lim.TokensAt(now)
	if missing <= 0 || lim.Limit() <= 0 {
		return time.Second
	}
	return max(time.Second, time.Duration(missing/float64(lim.Limit())*float64(time.Second)))
}

// callerKey says whose requests are counted together: a person's, or an address's
// where nobody is known. A network of IPv6 addresses that one subscriber has (/64)
// counts as one. It is "" where nothing is counted: on a loopback-only server.
func (g *Gate) callerKey(r *http.Request, id Identity) string {
	if !g.cfg.Authenticated() {
		return ""
	}
	if id.Person.Name != "" {
		return "person " + id.Person.Name
	}
	return g.addressKey(r)
}

func (g *Gate) addressKey(r *http.Request) string {
	ip := g.clientIP(r)
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return "address " + p.String()
		}
	}
	return "address " + ip.String()
}

// routeKey counts a route with a number of its own by itself.
func (g *Gate) routeKey(key string, route Route) string {
	if key == "" || route.PerMinute == 0 {
		return key
	}
	return key + " " + strconv.Quote(route.pattern())
}

// trySignIn runs what may fail to sign somebody in. An address where too much failed
// waits; what fails for another reason than the credential does not count.
func (g *Gate) trySignIn(r *http.Request, sign func() (caller, error)) (caller, error) {
	forgive, wait := g.limits.try(g.addressKey(r))
	if forgive == nil {
		e := tooMany(wait)
		e.User = "too many failed sign-ins from this address"
		return caller{}, e
	}
	who, err := sign()
	if err == nil || asError(r.Context(), err).Status != http.StatusUnauthorized {
		forgive()
	}
	return who, err
}

// lru is a table of bounded size that is safe for concurrent use.
type lru[V any] struct {
	mu    sync.Mutex
	max   int
	order *list.List // of *lruEntry[V], newest first
	byKey map[string]*list.Element
}

type lruEntry[V any] struct {
	key   string
	value V
}

func newLRU[V any](size int) *lru[V] {
	return &lru[V]{max: size, order: list.New(), byKey: map[string]*list.Element{}}
}

func (c *lru[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byKey[key]
	if !ok {
		var zero V
		return zero, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*lruEntry[V]).value, true
}

func (c *lru[V]) put(key string, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(key, value)
}

// getOr gives what is there, or puts what fresh makes.
func (c *lru[V]) getOr(key string, fresh func() V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[key]; ok {
		c.order.MoveToFront(el)
		return el.Value.(*lruEntry[V]).value
	}
	v := fresh()
	c.set(key, v)
	return v
}

func (c *lru[V]) set(key string, value V) {
	if el, ok := c.byKey[key]; ok {
		el.Value.(*lruEntry[V]).value = value
		c.order.MoveToFront(el)
		return
	}
	c.byKey[key] = c.order.PushFront(&lruEntry[V]{key: key, value: value})
	for c.order.Len() > c.max {
		last := c.order.Back()
		delete(c.byKey, last.Value.(*lruEntry[V]).key)
		c.order.Remove(last)
	}
}

func (c *lru[V]) remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.byKey[key]; ok {
		delete(c.byKey, key)
		c.order.Remove(el)
	}
}

func (c *lru[V]) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

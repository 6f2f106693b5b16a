// Package cloud changes the node pools of managed clusters through their providers'
// APIs, each a planner.Backend and an actions.PoolCloud: AKS through the official
// SDK, with a thin client for what is still a preview, and GKE through the REST form
// of its API. A plan holds the exact request; nothing is emulated.
package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

const (
	// fresh is how long an answer is used again by a check that is asked over and over:
	// the clouds count calls.
	fresh = 10 * time.Second
	// timeout bounds one call, in seconds.
	timeout = 60 * time.Second
	// maxBody bounds an answer, in bytes; a pool has about 5 KiB.
	maxBody = 8 << 20
	// long is how long an upgrade or a rollback may take, in seconds: a large pool
	// with slow drains takes hours.
	long = 6 * 3600
)

// request is the body of a write to a cloud: what is sent, and on what it depends.
type request struct {
	// Pool is the provider's own name of the pool: an ARM id, or a path of GKE.
	Pool    string `json:"pool"`
	Method  string `json:"method"`
	Path    string `json:"path"`
	Version string `json:"api_version,omitempty"`
	// Match is the ETag that the pool must have.
	Match string `json:"if_match,omitempty"`
	// From are the provider's states that the pool must be in; empty means any.
	From []string `json:"from,omitempty"`
	// Want is what the pool has when the write stands.
	Want want            `json:"want"`
	Body json.RawMessage `json:"body,omitempty"`
}

// want tells a write that stands from one that does not.
type want struct {
	Version string `json:"version,omitempty"`
	Image   string `json:"image,omitempty"`
	Count   *int   `json:"count,omitempty"`
	// States that the provider reports from the moment that it took the request.
	States []string `json:"states,omitempty"`
	// Settings are fields that the pool then has, by their path.
	Settings map[string]string `json:"settings,omitempty"`
}

func decode(w incident.Write, api string) (request, error) {
	var r request
	if w.API != api {
		return r, fmt.Errorf("write %s is for %s, not for %s", w.ID, w.API, api)
	}
	if err := json.Unmarshal(w.Body, &r); err != nil {
		return r, fmt.Errorf("write %s: the body is no request: %w", w.ID, err)
	}
	if r.Pool == "" || r.Method == "" || r.Path == "" {
		return r, fmt.Errorf("write %s: the body lacks pool, method or path", w.ID)
	}
	return r, nil
}

// write makes the write of a request.
func (r request) write(api string, s *actions.PoolState, verb, say string) (incident.Write, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return incident.Write{}, fmt.Errorf("%s pool %s: %w", api, s.Ref.Name, err)
	}
	return incident.Write{API: api, Verb: verb, Ref: s.Ref, UID: r.Pool, Body: raw, Say: say, Timeout: 300, Grace: -1}, nil
}

// pretty is JSON for people to compare.
func pretty(v any) []byte {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // it came as JSON
		return nil
	}
	return append(raw, '\n')
}

// compare shows what a request makes of a pool's JSON; empty where they are the same.
func compare(name string, before, after any) string {
	return string(diff.Diff("a/pool/"+name, pretty(before), "b/pool/"+name, pretty(after)))
}

// noDry is why the diff is not the server's.
func noDry(name string) string {
	return name + " has no dry run: the diff is the pool as it is against what the request asks for"
}

// field reads a nested field of decoded JSON by a path with dots, "" where it is not there.
func field(doc map[string]any, path string) string {
	var at any = doc
	for k := range strings.SplitSeq(path, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[k]
	}
	switch v := at.(type) {
	case string:
		return v
	case float64:
		return fmt.Sprintf("%g", v)
	case bool:
		return fmt.Sprint(v)
	}
	return ""
}

// copyOf is a deep copy of decoded JSON.
func copyOf(doc map[string]any) map[string]any {
	out := maps.Clone(doc)
	for k, v := range out {
		if m, ok := v.(map[string]any); ok {
			out[k] = copyOf(m)
		}
	}
	return out
}

// stands reports whether a pool is as a write would have made it. versions are the
// one that runs and the one that is asked for.
func (w want) stands(state string, versions []string, image string, count int, doc map[string]any) bool {
	if slices.Contains(w.States, state) {
		return true
	}
	if w.Version == "" && w.Image == "" && w.Count == nil && len(w.Settings) == 0 {
		return false
	}
	for path, v := range w.Settings {
		if field(doc, path) != v {
			return false
		}
	}
	return (w.Version == "" || slices.Contains(versions, w.Version)) && (w.Image == "" || w.Image == image) && (w.Count == nil || *w.Count == count)
}

// cache keeps answers for a moment. It is safe for concurrent use.
type cache struct {
	now func() time.Time
	mu  sync.Mutex
	at  map[string]time.Time
	doc map[string]map[string]any
}

func (c *cache) get(key string, read func() (map[string]any, error)) (map[string]any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := c.now().Sub(c.at[key]); c.doc[key] != nil && age >= 0 && age < fresh {
		return c.doc[key], nil
	}
	doc, err := read()
	if err != nil {
		return nil, err
	}
	if c.at == nil {
		c.at, c.doc = map[string]time.Time{}, map[string]map[string]any{}
	}
	c.at[key], c.doc[key] = c.now(), doc
	return doc, nil
}

// forget is called when something was changed, or has to be seen as it is.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.doc = nil, nil
}

// statusOf gives the HTTP status of an error of the Azure SDK, 0 where it has none.
func statusOf(err error) int {
	if re, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return re.StatusCode
	}
	return 0
}

func drift(r incident.Ref, text string, args ...any) error {
	return &planner.Drift{Ref: r, Why: fmt.Sprintf(text, args...)}
}

// errNoPool says that the provider has no pool of the name.
type errNoPool struct{ name string }

// Error implements error.
func (e errNoPool) Error() string { return "there is no pool " + e.name }

func isNoPool(err error) bool { _, ok := errors.AsType[errNoPool](err); return ok }

// lost says why a cloud gave no answer.
func lost(name string, err error) error {
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return fmt.Errorf("%s did not answer within %s: %w", name, timeout, err)
	}
	return fmt.Errorf("%s cannot be reached: %w", name, err)
}

// firstLine bounds the errors of SDKs, which are pages long.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}

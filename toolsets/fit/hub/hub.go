// Package hub fetches a model's config.json from a Hugging Face hub, and only
// when a person asks for it: nothing else in gumshoe calls it.
package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// DefaultEndpoint is the public hub.
const DefaultEndpoint = "https://huggingface.co"

// Config says which hub is asked.
type Config struct {
	// Endpoint is the hub's address; empty means DefaultEndpoint.
	Endpoint string
	// Token is sent to the endpoint only, never to where it redirects.
	Token string
	// Client makes the requests; nil means one with a timeout of 15 s.
	Client *http.Client
}

// Files are what a hub says about a model.
type Files struct {
	// Config is config.json, or params.json where there is no other.
	Config []byte
	// Weights is the size of the weights in bytes as the index of the safetensors
	// files says; 0 if there is none.
	Weights int64
	// Source is where Config was read.
	Source string
}

// Client asks one hub.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// New makes a client. It fails when the endpoint is no http(s) address.
func New(c Config) (*Client, error) {
	if c.Endpoint == "" {
		c.Endpoint = DefaultEndpoint
	}
	base, err := url.Parse(c.Endpoint)
	if err != nil || (base.Scheme != "https" && base.Scheme != "http") || base.Host == "" {
		return nil, tool.Errorf(tool.Invalid, "hub %q is not an http or https address; check HF_ENDPOINT", c.Endpoint)
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 15 * time.Second}
	}
	return &Client{base: base, token: c.Token, http: c.Client}, nil
}

// maxFile is the most that is read of one file, in bytes.
const maxFile = 8 << 20

// Fetch reads a model's configuration. Errors are tool.Errors: NotFound,
// Forbidden (the model is gated), Unreachable.
func (c *Client) Fetch(ctx context.Context, id string) (Files, error) {
	if err := checkID(id); err != nil {
		return Files{}, err
	}
	raw, from, err := c.file(ctx, id, "config.json")
	if tool.KindOf(err) == tool.NotFound {
		var second error
		if raw, from, second = c.file(ctx, id, "params.json"); second != nil {
			return Files{}, err
		}
		err = nil
	}
	if err != nil {
		return Files{}, err
	}
	f := Files{Config: raw, Source: from}
	if index, _, err := c.file(ctx, id, "model.safetensors.index.json"); err == nil {
		f.Weights = IndexSize(index)
	}
	return f, nil
}

// checkID accepts owner/name as hubs write it, so that an id cannot become
// another path or address.
func checkID(id string) error {
	owner, name, ok := strings.Cut(id, "/")
	good := func(s string) bool {
		return s != "" && len(s) <= 96 && s != "." && s != ".." && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
	}
	if !ok || !good(owner) || !good(name) {
		return tool.Errorf(tool.Invalid, "%q is no name of a model on a hub: OWNER/NAME is expected, for example Qwen/Qwen3-32B", id)
	}
	return nil
}

// file reads one file of a model.
func (c *Client) file(ctx context.Context, id, name string) ([]byte, string, error) {
	u := c.base.JoinPath(id, "resolve", "main", name)
	fail := func(kind tool.Kind, fix, format string, args ...any) error {
		e := tool.Errorf(kind, format, args...)
		e.Fix = fix
		return e
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", fmt.Errorf("request %s: %w", u.Redacted(), err)
	}
	req.Header.Set("User-Agent", "gumshoe")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		return nil, "", fail(tool.Unreachable, "give the file with --config FILE", "the hub %s does not answer: %w", c.base.Host, plainError(err))
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, "", fail(tool.NotFound, "check the name; hubs answer so for private models too", "%s has no %s of model %s", c.base.Host, name, id)
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return nil, "", fail(tool.Forbidden, "accept its terms and set HF_TOKEN, or give the file with --config FILE; a wrong name is answered so too", "%s refuses %s of model %s: it is gated, private or does not exist", c.base.Host, name, id)
	case res.StatusCode != http.StatusOK:
		return nil, "", fail(tool.Unreachable, "try again, or give the file with --config FILE", "%s answers %d for %s of model %s", c.base.Host, res.StatusCode, name, id)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxFile+1))
	if err != nil {
		return nil, "", fail(tool.Unreachable, "try again, or give the file with --config FILE", "%s broke off while sending %s of model %s: %w", c.base.Host, name, id, plainError(err))
	}
	if len(raw) > maxFile {
		return nil, "", fail(tool.Invalid, "give the file with --config FILE", "%s of model %s has more than %d bytes", name, id, maxFile)
	}
	if !json.Valid(raw) {
		return nil, "", fail(tool.Unreachable, "check HF_ENDPOINT, or give the file with --config FILE", "%s sends something that is no JSON for %s of model %s", c.base.Host, name, id)
	}
	return raw, u.Redacted(), nil
}

// plainError drops the address from an error of net/http.
func plainError(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// IndexSize reads the size of the weights out of a model.safetensors.index.json;
// 0 if it does not say.
func IndexSize(raw []byte) int64 {
	var index struct {
		Metadata struct {
			Total json.Number `json:"total_size"`
		} `json:"metadata"`
	}
	if len(raw) > maxFile || json.Unmarshal(raw, &index) != nil {
		return 0
	}
	f, err := index.Metadata.Total.Float64()
	if err != nil || f < 0 || f > 1e15 {
		return 0
	}
	return int64(f)
}

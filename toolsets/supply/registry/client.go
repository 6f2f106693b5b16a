// Package registry reads what a container registry says about an image: digest,
// platforms, configuration, and what is attached to it. It reads manifests, small
// blobs and referrers, never layers, and nothing of a registry that it is not allowed
// to ask.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/attest"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/sbom"
)

// Config says which registries are asked and how.
type Config struct {
	// Allowed reports whether a registry may be asked; nil allows none.
	Allowed func(host string) bool
	// Insecure reports whether a registry speaks plain HTTP; nil: none does.
	Insecure func(host string) bool
	// Keychain gives credentials; nil asks anonymously.
	Keychain authn.Keychain
	// Transport reaches registries; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Keys verify signatures.
	Keys []attest.Key
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const (
	timeout    = 15 * time.Second // one image, all requests together
	maxBlob    = 32 << 20         // bytes of a bill or an attestation
	maxAttests = 24               // attachments that are read of one image
	keptFor    = 5 * time.Minute  // how long an image's facts are reused
	downFor    = time.Minute      // how long a registry that did not answer is left alone
)

// Client reads registries. It is safe for concurrent use.
type Client struct {
	c Config

	kept *tool.Kept[Image]
	// down are registries that did not answer, by host.
	down *tool.Kept[error]
}

// NewClient makes a client. It talks to nothing.
func NewClient(c Config) *Client {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Client{c: c,
		kept: tool.NewKept[Image](tool.Keep{Now: c.Now, For: keptFor, Most: 256, Failed: func(err error) time.Duration {
			if gone(err) {
				return 0 // that is known of the registry, see down
			}
			return keptFor
		}}),
		down: tool.NewKept[error](tool.Keep{Now: c.Now, For: downFor}),
	}
}

// Attached is something that a registry keeps beside an image.
type Attached struct {
	// Where is "index" (a BuildKit attestation), "referrer" or "cosign tag".
	Where string `json:"where"`
	// Kind is "SBOM", "provenance", "signature" or the type as it stands.
	Kind   string `json:"kind"`
	Digest string `json:"digest"`
	Note   string `json:"note,omitempty"`
}

// Image is what is known of an image.
type Image struct {
	Ref string `json:"ref"`
	// Digest is what the reference names: an index or a manifest.
	Digest string `json:"digest"`
	// Manifest is the digest of the platform's own manifest.
	Manifest  string   `json:"manifest"`
	Platform  string   `json:"platform"`
	Platforms []string `json:"platforms"`
	// NoPlatform says that the index has no image for the platform asked about.
	NoPlatform bool      `json:"no_platform,omitempty"`
	Bytes      int64     `json:"compressed_bytes"`
	Layers     int       `json:"layers"`
	Created    time.Time `json:"created,omitzero"`
	// Labels are those of the OCI annotations, Env what names versions of the stack.
	Labels     map[string]string  `json:"labels,omitempty"`
	Env        map[string]string  `json:"env,omitempty"`
	Attached   []Attached         `json:"attached"`
	Signatures []attest.Signature `json:"signatures"`
	Provenance *attest.Provenance `json:"provenance,omitempty"`
	// SBOM is the format of the bill, empty when none was found.
	SBOM     string        `json:"sbom,omitempty"`
	Packages int           `json:"packages"`
	Bill     sbom.Document `json:"-"`
	// Notes say what could not be read.
	Notes []string `json:"notes"`
}

// Allowed reports whether the registry of a reference may be asked.
func (c *Client) Allowed(ref string) bool {
	r, err := name.ParseReference(ref)
	return err == nil && c.allowed(r.Context().RegistryStr())
}

func (c *Client) allowed(host string) bool { return c.c.Allowed != nil && c.c.Allowed(host) }

// Image reads an image; architecture ("amd64") picks one of several platforms and
// may be empty. Errors are tool.Errors.
func (c *Client) Image(ctx context.Context, ref, architecture string) (Image, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return Image{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%q is no image reference", clip(ref)), Err: err}
	}
	host := r.Context().RegistryStr()
	if !c.allowed(host) {
		return Image{}, &tool.Error{Kind: tool.NotServed, User: "registry " + host + " is not asked: it is not listed", Fix: "list it under supply.registries"}
	}
	if err, isDown := c.down.Peek(ctx, host); isDown {
		return Image{}, err
	}
	if c.c.Insecure != nil && c.c.Insecure(host) {
		if r, err = name.ParseReference(ref, name.Insecure); err != nil {
			return Image{}, tool.Errorf(tool.Invalid, "image %q: %w", clip(ref), err)
		}
	}
	return c.kept.Get(ctx, ref+"|"+architecture, func(ctx context.Context) (Image, error) {
		rctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		img, err := c.read(rctx, r, architecture)
		if err == nil {
			return img, nil
		}
		err = classify(host, ref, err)
		if gone(err) && ctx.Err() == nil {
			_, _ = c.down.Get(ctx, host, func(context.Context) (error, error) { return err, nil })
		}
		return img, err
	})
}

// gone reports whether a registry did not answer at all.
func gone(err error) bool {
	kind := tool.KindOf(err)
	return kind == tool.Unreachable || kind == tool.TimedOut
}

// classify words what a registry refused.
func classify(host, ref string, err error) error {
	if _, ok := errors.AsType[*tool.Error](err); ok {
		return err
	}
	ref = clip(ref)
	if te, ok := errors.AsType[*transport.Error](err); ok {
		switch te.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return &tool.Error{Kind: tool.Forbidden, User: fmt.Sprintf("registry %s wants a login for %s", host, ref), Fix: "give supply.dockerConfig or credentials of this registry", Err: err}
		case http.StatusNotFound:
			return &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("registry %s has no image %s", host, ref), Err: err}
		case http.StatusTooManyRequests:
			return &tool.Error{Kind: tool.TimedOut, User: "registry " + host + " limits the rate of requests", Fix: "try later, or log in", Err: err}
		}
		return &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("registry %s answers HTTP %d for %s", host, te.StatusCode, ref), Err: err}
	}
	kind := tool.Unreachable
	if errors.Is(err, context.DeadlineExceeded) {
		kind = tool.TimedOut
	} else if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		kind = tool.TimedOut
	}
	why := err.Error()
	return &tool.Error{Kind: kind, User: fmt.Sprintf("registry %s does not answer for %s: %s", host, ref, clip(why)), Fix: "check the network between here and the registry", Err: err}
}

func (c *Client) options(ctx context.Context) []remote.Option {
	o := []remote.Option{remote.WithContext(ctx), remote.WithUserAgent("gumshoe"), remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 2})}
	if c.c.Keychain != nil {
		o = append(o, remote.WithAuthFromKeychain(c.c.Keychain))
	}
	if c.c.Transport != nil {
		o = append(o, remote.WithTransport(c.c.Transport))
	}
	return o
}

func (c *Client) read(ctx context.Context, r name.Reference, architecture string) (Image, error) {
	desc, err := remote.Get(r, c.options(ctx)...)
	if err != nil {
		return Image{}, err
	}
	img := Image{Ref: r.String(), Digest: desc.Digest.String(), Platforms: []string{}, Attached: []Attached{}, Signatures: []attest.Signature{}, Notes: []string{}}
	var one v1.Image
	var inIndex []v1.Descriptor
	if desc.MediaType.IsIndex() {
		if one, inIndex, err = c.pick(desc, &img, architecture); err != nil {
			return img, err
		}
	} else if one, err = desc.Image(); err != nil {
		return img, err
	} else {
		img.Manifest = img.Digest
	}
	if one != nil {
		if err := describe(one, &img); err != nil {
			return img, err
		}
	}
	if len(img.Platforms) == 0 && img.Platform != "" {
		img.Platforms = []string{img.Platform}
	}
	c.attachments(ctx, r.Context(), &img, inIndex)
	return img, nil
}

// pick chooses the image of a platform from an index, and gives the attestations
// that BuildKit keeps in the index for it.
func (c *Client) pick(desc *remote.Descriptor, img *Image, architecture string) (v1.Image, []v1.Descriptor, error) {
	idx, err := desc.ImageIndex()
	if err != nil {
		return nil, nil, err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, nil, err
	}
	var chosen *v1.Descriptor
	var attests []v1.Descriptor
	for i := range m.Manifests {
		d := &m.Manifests[i]
		if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			attests = append(attests, *d)
			continue
		}
		if d.Platform == nil || d.Platform.OS == "unknown" {
			continue
		}
		p := d.Platform.OS + "/" + d.Platform.Architecture
		if d.Platform.Variant != "" {
			p += "/" + d.Platform.Variant
		}
		if len(img.Platforms) < 32 {
			img.Platforms = append(img.Platforms, p)
		}
		if d.Platform.OS == "linux" && chosen == nil && (architecture == "" || d.Platform.Architecture == architecture) {
			chosen = d
		}
	}
	slices.Sort(img.Platforms)
	if chosen == nil {
		img.NoPlatform = true
		return nil, nil, nil
	}
	img.Manifest = chosen.Digest.String()
	attests = slices.DeleteFunc(attests, func(d v1.Descriptor) bool { return d.Annotations["vnd.docker.reference.digest"] != img.Manifest })
	one, err := idx.Image(chosen.Digest)
	return one, attests, err
}

// described are the variables of an image that name versions of its stack.
func described(k string) bool {
	for _, p := range []string{"CUDA_VERSION", "NV_CUDA_", "NV_LIBNCCL", "NCCL_VERSION", "CUDNN_VERSION", "NV_CUDNN", "NVIDIA_REQUIRE_CUDA", "NVIDIA_DRIVER_CAPABILITIES", "ROCM_VERSION", "PYTORCH_VERSION", "PYTHON_VERSION", "VLLM_VERSION", "SGLANG_VERSION", "TRT_VERSION", "TENSORRT_", "RAY_VERSION", "LD_LIBRARY_PATH"} {
		if strings.HasPrefix(k, p) {
			return true
		}
	}
	return false
}

func describe(one v1.Image, img *Image) error {
	m, err := one.Manifest()
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		img.Bytes += l.Size
	}
	img.Layers = len(m.Layers)
	cfg, err := one.ConfigFile()
	if err != nil {
		return err
	}
	img.Platform, img.Created = cfg.OS+"/"+cfg.Architecture, cfg.Created.UTC()
	for k, v := range cfg.Config.Labels {
		if strings.HasPrefix(k, "org.opencontainers.image.") {
			if img.Labels == nil {
				img.Labels = map[string]string{}
			}
			img.Labels[strings.TrimPrefix(k, "org.opencontainers.image.")] = clip(v)
		}
	}
	for _, e := range cfg.Config.Env {
		if k, v, _ := strings.Cut(e, "="); described(k) {
			if img.Env == nil {
				img.Env = map[string]string{}
			}
			img.Env[k] = v[:min(len(v), 2000)]
		}
	}
	return nil
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 300)], "") }

// blob reads one blob within bounds.
func (c *Client) blob(ctx context.Context, repo name.Repository, d v1.Descriptor) ([]byte, error) {
	if d.Size > maxBlob {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", d.Digest, d.Size, int64(maxBlob))
	}
	l, err := remote.Layer(repo.Digest(d.Digest.String()), c.options(ctx)...)
	if err != nil {
		return nil, err
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer func() { _ = rc.Close() }()
	raw, err := io.ReadAll(io.LimitReader(rc, maxBlob+1))
	if err == nil && len(raw) > maxBlob {
		err = fmt.Errorf("%s has more than %d bytes", d.Digest, int64(maxBlob))
	}
	return raw, err
}

// manifest reads a manifest's layers.
func (c *Client) manifest(ctx context.Context, ref name.Reference) (*v1.Manifest, string, error) {
	d, err := remote.Get(ref, c.options(ctx)...)
	if err != nil {
		return nil, "", err
	}
	var m v1.Manifest
	if err := json.Unmarshal(d.Manifest, &m); err != nil {
		return nil, "", fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return &m, d.Digest.String(), nil
}

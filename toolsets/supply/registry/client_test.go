package registry_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ocireg "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/attest"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/registry"
)

// start runs a registry; the host is how images of it are named.
func start(t *testing.T, wrap func(http.Handler) http.Handler) (host string) {
	t.Helper()
	h := ocireg.New(ocireg.WithReferrersSupport(true), ocireg.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func all(string) bool { return true }

func client(c registry.Config) *registry.Client {
	c.Allowed = all
	return registry.NewClient(c)
}

// must unwraps what may not fail: must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// image makes an image of an architecture; the layer is never asked for.
func image(t *testing.T, arch string, env ...string) v1.Image {
	t.Helper()
	img := must(mutate.AppendLayers(empty.Image, static.NewLayer([]byte("layer of "+arch), types.OCILayer)))(t)
	cfg := must(img.ConfigFile())(t).DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config.Env = "linux", arch, env
	cfg.Config.Labels = map[string]string{"org.opencontainers.image.revision": "abc", "other": "x"}
	cfg.Created = v1.Time{Time: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	return mutate.MediaType(must(mutate.ConfigFile(img, cfg))(t), types.OCIManifestSchema1)
}

func digest(t *testing.T, d interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	return must(d.Digest())(t)
}

// attached makes a manifest of blobs.
func attached(t *testing.T, kind types.MediaType, notes map[string]string, blobs ...[]byte) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, b := range blobs {
		img = must(mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(b, kind), Annotations: notes, MediaType: kind}))(t)
	}
	return img
}

func spdx(of v1.Hash, packages string) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":[{"name":"x","digest":{"sha256":"%s"}}],"predicate":{"spdxVersion":"SPDX-2.3","packages":[%s]}}`, of.Hex, packages)
}

func ref(t *testing.T, s string) name.Reference { return must(name.ParseReference(s))(t) }

func TestIndexWithAttestation(t *testing.T) {
	t.Parallel()
	host := start(t, nil)
	amd, arm := image(t, "amd64", "CUDA_VERSION=12.8.1", "SECRET=x"), image(t, "arm64")
	att := attached(t, "application/vnd.in-toto+json", map[string]string{"in-toto.io/predicate-type": "https://spdx.dev/Document"}, spdx(digest(t, amd), `{"name":"libnccl2","versionInfo":"2.27"}`), spdx(digest(t, arm), `{"name":"a"},{"name":"b"},{"name":"c"}`))
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: att, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest(t, amd).String()}}})
	at := host + "/serve/chat:1"
	if err := remote.WriteIndex(ref(t, at), idx); err != nil {
		t.Fatal(err)
	}
	c := client(registry.Config{})
	got, err := c.Image(t.Context(), at, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != digest(t, idx).String() || got.Manifest != digest(t, amd).String() || got.Platform != "linux/amd64" || !slices.Equal(got.Platforms, []string{"linux/amd64", "linux/arm64/v8"}) {
		t.Errorf("%+v", got)
	}
	if got.Env["CUDA_VERSION"] != "12.8.1" || got.Env["SECRET"] != "" || got.Labels["revision"] != "abc" || len(got.Labels) != 1 || got.Created.Year() != 2026 || got.Layers != 1 {
		t.Errorf("%+v", got)
	}
	// The second statement speaks of another digest and must not count.
	if got.SBOM != "SPDX-2.3" || got.Packages != 1 || len(got.Attached) != 2 || !strings.Contains(got.Attached[1].Note, "another digest") {
		t.Errorf("%s %d %+v", got.SBOM, got.Packages, got.Attached)
	}
	if got, err = c.Image(t.Context(), at, "s390x"); err != nil || !got.NoPlatform || got.Manifest != "" {
		t.Errorf("a platform that is not there: %+v %v", got, err)
	}
	if got, err = c.Image(t.Context(), host+"/serve/chat@"+digest(t, arm).String(), ""); err != nil || got.Platform != "linux/arm64" || got.SBOM != "" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestReferrersAndSignatures(t *testing.T) {
	t.Parallel()
	host := start(t, nil)
	img := image(t, "amd64")
	at := host + "/a/b:1"
	if err := remote.Write(ref(t, at), img); err != nil {
		t.Fatal(err)
	}
	desc := must(remote.Get(ref(t, at)))(t)
	push := func(kind types.MediaType, blob []byte) {
		a := mutate.Subject(attached(t, kind, nil, blob), desc.Descriptor).(v1.Image)
		if err := remote.Write(ref(t, host+"/a/b@"+digest(t, a).String()), a); err != nil {
			t.Fatal(err)
		}
	}
	push("application/vnd.cyclonedx+json", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"vllm","version":"0.14.1"}]}`))
	push("application/vnd.in-toto+json", fmt.Appendf(nil, `{"predicateType":"https://slsa.dev/provenance/v1","subject":[{"digest":{"sha256":"%s"}}],"predicate":{"runDetails":{"builder":{"id":"ci"}}}}`, digest(t, img).Hex))
	push("application/vnd.in-toto+json", []byte(`not json`))
	push("application/vnd.example.scan", []byte(`{}`))

	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	der := must(x509.MarshalPKIXPublicKey(key.Public()))(t)
	trusted := must(attest.ParseKey("release.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))(t)
	payload := []byte(`{"critical":{"image":{"docker-manifest-digest":"` + digest(t, img).String() + `"}}}`)
	sum := sha256.Sum256(payload)
	sig := must(ecdsa.SignASN1(rand.Reader, key, sum[:]))(t)
	signed := attached(t, attest.SimpleSigning, map[string]string{attest.SignatureNote: base64.StdEncoding.EncodeToString(sig)}, payload)
	if err := remote.Write(ref(t, host+"/a/b:"+strings.Replace(digest(t, img).String(), ":", "-", 1)+".sig"), signed); err != nil {
		t.Fatal(err)
	}

	got, err := client(registry.Config{Keys: []attest.Key{trusted}}).Image(t.Context(), at, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := got.Bill.Find("vllm"); !ok || v != "0.14.1" || got.Provenance == nil || got.Provenance.Builder != "ci" {
		t.Errorf("%+v", got)
	}
	if len(got.Signatures) != 1 || !got.Signatures[0].Verified() {
		t.Errorf("%+v", got.Signatures)
	}
	kinds := map[string]int{}
	for _, a := range got.Attached {
		kinds[a.Where+" "+a.Kind]++
	}
	if kinds["referrer SBOM"] != 1 || kinds["referrer provenance"] != 1 || kinds["referrer application/vnd.example.scan"] != 1 || kinds["cosign tag signature"] != 1 {
		t.Errorf("%v", kinds)
	}
}

func TestRegistriesThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	code := func(n int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) })
		}
	}
	login := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, p, ok := r.BasicAuth(); !ok || u != "me" || p != "pw" {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	for name, tc := range map[string]struct {
		wrap func(http.Handler) http.Handler
		kind tool.Kind
		say  string
	}{
		"wants a login": {login, tool.Forbidden, "wants a login"},
		"has no image":  {nil, tool.NotFound, "has no image"},
		"is broken":     {code(500), tool.Unreachable, "HTTP 500"},
		"limits":        {code(429), tool.TimedOut, "limits the rate"},
		"is a web page": {func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
		}, tool.Unreachable, "does not answer"},
		"hangs up": {func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, tool.Unreachable, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := start(t, tc.wrap)
			_, err := client(registry.Config{}).Image(t.Context(), host+"/a/b:1", "amd64")
			if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.say) || !strings.Contains(tool.UserText(err), host) {
				t.Errorf("%s: %v", tool.KindOf(err), tool.UserText(err))
			}
		})
	}
	host := start(t, login)
	if err := remote.Write(ref(t, host+"/a/b:1"), image(t, "amd64"), remote.WithAuth(&authn.Basic{Username: "me", Password: "pw"})); err != nil {
		t.Fatal(err)
	}
	if _, err := client(registry.Config{Keychain: chain{}}).Image(t.Context(), host+"/a/b:1", ""); err != nil {
		t.Errorf("with a login: %v", err)
	}
}

type chain struct{}

func (chain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: "me", Password: "pw"}, nil
}

func TestOnlyListedRegistriesAreAsked(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	host := start(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); h.ServeHTTP(w, r) })
	})
	c := registry.NewClient(registry.Config{Allowed: func(h string) bool { return h == "ghcr.io" }})
	if _, err := c.Image(t.Context(), host+"/a/b:1", ""); tool.KindOf(err) != tool.NotServed || !strings.Contains(tool.UserText(err), "supply.registries") {
		t.Error(err)
	}
	if c.Allowed(host+"/a/b:1") || !c.Allowed("ghcr.io/a/b") || c.Allowed("::") || asked.Load() != 0 {
		t.Errorf("%d requests", asked.Load())
	}
	if _, err := c.Image(t.Context(), "not a reference", ""); tool.KindOf(err) != tool.Invalid {
		t.Error(err)
	}
}

// What was read serves for a while, and a registry that is down is asked once.
func TestAnswersAreReused(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var down atomic.Bool
	host := start(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if down.Load() {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	if err := remote.Write(ref(t, host+"/a/b:1"), image(t, "amd64")); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	c := client(registry.Config{Now: func() time.Time { return now }})
	for range 3 {
		if _, err := c.Image(t.Context(), host+"/a/b:1", ""); err != nil {
			t.Fatal(err)
		}
	}
	once := asked.Load()
	now = now.Add(10 * time.Minute)
	if _, err := c.Image(t.Context(), host+"/a/b:1", ""); err != nil || asked.Load() == once {
		t.Errorf("what is old is not asked again: %v", err)
	}
	down.Store(true)
	_, first := c.Image(t.Context(), host+"/a/c:1", "")
	n := asked.Load()
	_, second := c.Image(t.Context(), host+"/a/d:1", "")
	if first == nil || second == nil || asked.Load() != n {
		t.Errorf("a registry that is down was asked %d times more", asked.Load()-n)
	}
	// A fresh look takes neither the image nor the refusal of before.
	fresh := tool.Fresh(t.Context())
	if _, err := c.Image(fresh, host+"/a/b:1", ""); err == nil {
		t.Error("a fresh look was given what was read before it")
	}
	down.Store(false)
	if _, err := c.Image(tool.Fresh(t.Context()), host+"/a/b:1", ""); err != nil {
		t.Errorf("a registry that is back is left alone: %v", err)
	}
}

func TestLargeAttestationsAreLeft(t *testing.T) {
	t.Parallel()
	host := start(t, nil)
	img := image(t, "amd64")
	if err := remote.Write(ref(t, host+"/a/b:1"), img); err != nil {
		t.Fatal(err)
	}
	desc := must(remote.Get(ref(t, host+"/a/b:1")))(t)
	big := mutate.Subject(attached(t, "application/spdx+json", nil, bytes.Repeat([]byte(" "), 33<<20)), desc.Descriptor).(v1.Image)
	if err := remote.Write(ref(t, host+"/a/b@"+digest(t, big).String()), big); err != nil {
		t.Fatal(err)
	}
	got, err := client(registry.Config{}).Image(t.Context(), host+"/a/b:1", "")
	if err != nil || got.SBOM != "" || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "more than") {
		t.Errorf("%+v %v", got.Notes, err)
	}
}
